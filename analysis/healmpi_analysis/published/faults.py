"""Tables of runs with faults, the published scenarios in the order of published.toml, then whatever else was run.

The rule that surprises: a scenario is known by the words in the file, and published numbers stand beside those words alone.
Runs of files before schema 1.2, which have none, come last, under a label made of their fault section.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from healmpi_analysis.metrics import final_accuracy
from healmpi_analysis.published.library import Library, accuracy_at, by
from healmpi_analysis.published.texts import accuracy, spread, table
from healmpi_analysis.records import Record
from healmpi_analysis.scenario import FAULT_FREE
from healmpi_analysis.text import DASH

WIDE = 4
"""Unpublished scenarios in one table."""

CHURN = "churn"
"""Kind of the faults that replace nodes."""

# Crashes and loss.


def crashes(library: Library) -> list[str]:
    """Final accuracy, algorithms down, scenarios across, by data set and length."""
    section = library.data["crashes"]
    lines = [line for place in section["sections"] for line in _of_data_set(library, place)]
    return ["## Crashes and loss", "", section["text"].strip(), "", *lines] if lines else []


def _of_data_set(library: Library, place: dict) -> list[str]:
    """place: title, dataset, cycles, and whether published numbers stand beside."""
    fields = library.start | {"data.dataset": place["dataset"], "run.cycles": place["cycles"]}
    runs = by(library.where(fields, usual=True), lambda run: (run.algorithm, library.scenario(run)))
    published = library.data["crashes"]["accuracy"] if place["published"] else {}
    lines = [line for columns in _columns(library, runs) for line in _crash_table(library.algorithms, columns, runs, published)]
    text = f"Accuracy at cycle {place['cycles']}; in square brackets the published one (MNIST, cycle 200)."
    return [f"### {place['title']}", "", text, "", *lines] if lines else []


def _columns(library: Library, runs: dict[tuple[str, str], list[Record]]) -> list[list[str]]:
    """The scenarios of each table: the published ones, then the others in pieces."""
    tables = library.data["crashes"]["tables"]
    listed = [name for one in tables for name in one["scenarios"]] + [FAULT_FREE, *library.data["churn"]["scenarios"]]
    others = sorted({scenario for (_, scenario), some in runs.items() if scenario not in listed and not _churned(some[0])})
    pieces = [others[start : start + WIDE] for start in range(0, len(others), WIDE)]
    planned = [(one["fault_free"], one["scenarios"]) for one in tables] + [(True, piece) for piece in pieces]
    return [[FAULT_FREE, *scenarios] if beside else scenarios for beside, scenarios in planned]


def _crash_table(algorithms: Sequence[str], columns: Sequence[str], runs: dict, published: dict) -> list[str]:
    present = [name for name in columns if any((algorithm, name) in runs for algorithm in algorithms)]
    if set(present) <= {FAULT_FREE}:
        return []
    rows = [[name, *(_end(runs.get((name, one), []), published.get(one, {}).get(name)) for one in present)] for name in algorithms]
    rows = [row for row in rows if any(cell != DASH for cell in row[1:])]
    return table(["", *present], rows)


def _end(runs: Sequence[Record], published: float | None) -> str:
    return spread(map(final_accuracy, runs)) + (f" [{accuracy(published)}]" if published else "")


# Churn.


def churn(library: Library) -> list[str]:
    """Final accuracy, and how far it fell while nodes were replaced."""
    lines = [line for place in library.data["churn"]["sections"] for line in _churn_table(library, place)]
    return ["## Churn", "", *lines] if lines else []


def _churn_table(library: Library, place: dict) -> list[str]:
    data = library.data["churn"]
    runs = [run for run in library.where({"data.dataset": place["dataset"]}, usual=True) if _churned(run)]
    found = by(runs, lambda run: (run.algorithm, library.scenario(run)))
    others = sorted({library.scenario(run) for run in runs} - set(data["scenarios"]))
    rows = []
    for algorithm in library.algorithms:
        for scenario in (*data["scenarios"], *others):
            some = found.get((algorithm, scenario), [])
            if some:
                published = "/".join(map(accuracy, data["published"].get(scenario, {}).get(algorithm, [])))
                drops = [spread(_drop(run, run.series[name]) for run in some) for name in ("accuracy", "accuracy_settled")]
                rows.append([algorithm, scenario, published, spread(map(final_accuracy, some)), *drops])
    if not rows:
        return []
    head = ["", "scenario", "published: final/mean drop", "final", "mean drop, all nodes", "mean drop, nodes older than a cycle"]
    return [f"### {place['title']}", "", data["text"], "", *table(head, rows)]


def _churned(run: Record) -> bool:
    return bool((run.faults["kind"] == CHURN).any())


def _drop(run: Record, accuracies: pd.Series) -> float:
    """Accuracy in the cycle before churn minus the mean in its cycles."""
    cycles = run.faults["cycle"][run.faults["kind"] == CHURN]
    inside = accuracies.loc[cycles.min() : cycles.max()].dropna()
    return accuracy_at(run, int(cycles.min()) - 1) - float(inside.mean()) if len(inside) else np.nan
