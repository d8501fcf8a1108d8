"""What came of a suite: a table with a row for each set of runs that differ in the seed alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from healmpi import settings
from healmpi.launch.runner import OPEN, Outcome, result_path, state
from healmpi.launch.suite import Experiment, Suite
from healmpi.results import info
from healmpi.results.schema import ResultsError


class Row(NamedTuple):
    """Runs that differ in nothing but the seed. figures: name -> one value a run that has it."""

    name: str
    runs: int
    invalid: int
    failed: int
    figures: dict[str, list[float]]


def summarise(outcomes: Sequence[Outcome], folder: Path, verify: bool = True) -> list[Row]:
    """A row for each set of experiments that differ in the seed alone, in the order of the suite; reads the results files.

    verify: whether their digests are looked at. An experiment whose file cannot be read has failed, and its outcome says so.
    """
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(_without_seed(one.experiment), []).append(one)
    rows = []
    for name, members in groups.items():
        figures: dict[str, list[float]] = {}
        invalid = 0
        for one in members:
            if one.failure is not None:
                continue
            try:
                reasons, found = info.conclusion(result_path(one.experiment, folder), verify=verify)
            except ResultsError as error:
                one.failure = str(error)
                continue
            invalid += bool(reasons)
            for figure in found:
                figures.setdefault(figure.name, []).append(figure.value)
        rows.append(Row(name, len(members), invalid, sum(one.failure is not None for one in members), figures))
    return rows


def _without_seed(experiment: Experiment) -> str:
    seed = experiment.labels.get("seed")
    return experiment.name.removesuffix(f"-{seed}") if seed and len(experiment.labels) > 1 else "all" if seed else experiment.name


COLUMNS = {  # name of the figure: its title
    "cycles_to_0.85": "to .85", "cycles_to_0.90": "to .90", "cycles_to_0.95": "to .95", "model_messages_per_cycle": "models",
    "live_nodes": "live", "hubs": "hubs", "wall_s": "s",
}  # fmt: skip


LEGEND = """accuracy: of the live nodes, in the last cycle; mean +- deviation over seeds
medians: cycles to .85, models sent in a cycle, live nodes and hubs at the end"""


def table(rows: Sequence[Row]) -> str:
    """The rows as text: accuracy over seeds as mean +- standard deviation, of the others the median of the runs that have it.

    to .85: cycles until that mean accuracy. models: sent in a cycle. live, hubs: nodes at the end.
    """
    cells = [["runs", "accuracy", *COLUMNS.values()], *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) + 1 for column in zip(*cells, strict=True)]
    texts = ["".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells]
    longest = max(len(row.name) for row in rows)
    alone = longest + sum(widths) > settings.COLUMNS  # a long name gets a line of its own
    lines = [f"{'':{3 if alone else longest}}{texts[0]}"]
    for row, text in zip(rows, texts[1:], strict=True):
        trouble = "".join(f"  {count} {what}" for count, what in ((row.failed, "FAILED"), (row.invalid, "INVALID")) if count)
        lines += [row.name, f"   {text}{trouble}"] if alone else [f"{row.name:{longest}}{text}{trouble}"]
    lines.append(LEGEND)
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    found = [str(row.runs), _spread(row.figures.get("accuracy_mean", []))]
    for name in COLUMNS:
        values = row.figures.get(name, [])
        # Of five runs three may have come that far: say so.
        short = f"({len(values)})" if 0 < len(values) < row.runs - row.failed and name.startswith("cycles_to") else ""
        found.append(f"{statistics.median(values):.4g}{short}" if values else "-")
    return found


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    deviation = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def listing(suite: Suite, folder: Path | None, verify: bool = True) -> str:
    """A line for each experiment: its name and, with a folder, its state. verify: whether digests are looked at."""
    width = max(len(one.name) for one in suite.experiments)
    lines = []
    for one in suite.experiments:
        lines.append(f"{one.name:{width}}  {OPEN if folder is None else state(one, folder, verify)}")
    return "\n".join(lines)
