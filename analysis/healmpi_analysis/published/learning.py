"""Tables of what is learnt: without faults, on skewed labels, with other numbers of hubs; and of models sent for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from healmpi_analysis.metrics import final_accuracy
from healmpi_analysis.published.library import Library, agrees, by, length, longest
from healmpi_analysis.published.texts import accuracy, reached, spread, table, whole
from healmpi_analysis.records import Record
from healmpi_analysis.scenario import FAULT_FREE
from healmpi_analysis.text import DASH

# Without faults.


def fault_free(library: Library) -> list[str]:
    """Final accuracy, and cycles to an accuracy, by data set."""
    lines = [line for section in library.data["fault_free"] for line in _data_set(library, section)]
    return ["## Without faults", "", *lines] if lines else []


def _data_set(library: Library, section: dict) -> list[str]:
    """section: title, dataset, targets, and whose published numbers stand beside."""
    found = {start: _of_start(library, section["dataset"], start) for start in library.data["starts"]}
    found = {start: runs for start, runs in found.items() if runs}
    if not found:
        return []
    label = "/".join(f".{round(100 * target)}" for target in section["targets"])
    ends = [f"{start} start, cycle {max(length(run) for some in runs.values() for run in some)}" for start, runs in found.items()]
    head = ["", "published, cycle 1000", *ends, f"published to {label}", *(f"{start}: to {label}" for start in found)]
    known = section.get("published", "")
    names = [name for name in library.algorithms if known or any(name in runs for runs in found.values())]
    rows = [_algorithm(library.data, name, known, list(found.values()), section["targets"]) for name in names]
    return [f"### {section['title']}", "", *table(head, rows)]


def _of_start(library: Library, dataset: str, start: str) -> dict[str, list[Record]]:
    """The longest runs of each algorithm that has any."""
    fields = {"data.dataset": dataset, "model.initial": start}
    found = {name: longest(library.where(fields, algorithm=name, scenario=FAULT_FREE, usual=True)) for name in library.algorithms}
    return {name: runs for name, runs in found.items() if runs}


def _algorithm(data: dict, name: str, known: str, starts: Sequence[dict[str, list[Record]]], targets: Sequence[float]) -> list[str]:
    ends = [spread(final_accuracy(run) for run in runs.get(name, [])) for runs in starts]
    times = [" / ".join(reached(runs[name], target) for target in targets) if name in runs else "" for runs in starts]
    if not known:
        return [name, DASH, *ends, DASH, *times]
    return [name, accuracy(data["accuracy"][known][name]), *ends, "/".join(map(whole, data["cycles"][known][name])), *times]


# Models sent.


def models_sent(library: Library) -> list[str]:
    """Models sent in a cycle, over all runs without faults."""
    section = library.data["models_sent"]
    rows = []
    for name in library.algorithms:
        runs = library.where({}, algorithm=name, scenario=FAULT_FREE, usual=True)
        if runs:
            sent = spread((_models(run, section["first_cycle"], section["cycles"]) for run in runs), 1)
            rows.append([name, whole(section["published"][name]), sent])
    return ["## Models sent in a cycle", "", *table(["", "published", "measured"], rows)] if rows else []


def _models(run: Record, first: int, cycles: int) -> float:
    """Mean over so many cycles from the first on, or over the last cycle of a shorter run."""
    sent = run.series["model_messages"]
    return float(sent[sent.index >= min(first, sent.index[-1])][:cycles].mean()) if len(sent) else np.nan


# Skewed labels.


def skewed(library: Library) -> list[str]:
    """Final accuracy, a column a partition, a table a scenario."""
    section = library.data["skewed"]
    lines = []
    for scenario in (FAULT_FREE, *section["scenarios"]):
        runs = by(library.where(section["fields"], scenario=scenario), lambda run: run.algorithm)
        rows = [[name, *_partitions(runs.get(name, []), section["columns"])] for name in library.algorithms]
        rows = [row for row in rows if any(cell != DASH for cell in row[2:])]
        if rows:
            head = ["", *(column["title"] for column in section["columns"])]
            lines += [f"With {scenario}.", "", *table(head, rows)]
    return [f"## {section['title']}", "", section["text"], "", *lines] if lines else []


def _partitions(runs: Sequence[Record], columns: Sequence[dict]) -> list[str]:
    return [spread(final_accuracy(run) for run in runs if agrees(run, column["fields"])) for column in columns]


# Hubs.


def hub_sweep(library: Library) -> list[str]:
    """Final accuracy by the number of hubs, of nodes that send to one of them or to several."""
    section = library.data["hub_sweep"]
    runs = library.where(section["fields"], algorithm=section["algorithm"])
    if not runs:
        return []
    rows = []
    for hubs, some in sorted(by(runs, lambda run: run.facts.hub_count).items()):
        fanouts = by(some, lambda run: run.config.get("rule.fanout", 0))
        chosen = [fanouts.get(1, []), *(fanouts[fanout] for fanout in fanouts if fanout > 1), []][:2]
        rows.append([str(hubs), *(cell for some in chosen for cell in _sweep_cells(some, section["target"]))])
    target = f"to .{round(100 * section['target'])}"
    text = section["text"].format(cycles=max(map(length, runs)))
    return ["## Hub sweep", "", text, "", *table(["h", "s = 1", target, "s = h/2", target], rows)]


def _sweep_cells(runs: Sequence[Record], target: float) -> tuple[str, str]:
    return spread(map(final_accuracy, runs)), reached(runs, target)
