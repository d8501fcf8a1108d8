"""What the publications claim, as differences between runs with the same seed, with a verdict.

The rule that surprises: one percent of accuracy is what counts as a difference; smaller ones are within a test set's error.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from healmpi_analysis import metrics, statistics
from healmpi_analysis.published.library import Library, accuracy_at, length, longest
from healmpi_analysis.published.texts import signed, spread, table
from healmpi_analysis.records import Record
from healmpi_analysis.recovery import episodes
from healmpi_analysis.scenario import FAULT_FREE

NO_DIFFERENCE = 0.01
"""Of the accuracy."""

Pair = tuple[Record, Record]


def claims(library: Library) -> list[str]:
    """All claims that there are runs for."""
    section = library.data["claims"]
    lines = [line for claim in section["differences"] for line in _difference(library, claim)] + _death(library, section["death"])
    return ["## The claims, in so many words", "", *lines] if lines else []


def _difference(library: Library, claim: dict) -> list[str]:
    """claim: mine, against others, in scenarios, and how it is judged."""
    rows = []
    places = library.data["claims"]["datasets"], claim.get("scenarios", [FAULT_FREE]), claim["others"]
    for dataset, scenario, other in itertools.product(*places):
        pairs = _pairs(library, dataset, scenario, claim["mine"], other)
        if pairs:
            gaps = [metrics.final_accuracy(one) - metrics.final_accuracy(two) for one, two in pairs]
            numbers = [signed(gaps), signed([_mean_gap(pair) for pair in pairs]), _judged(gaps, claim["judged"])]
            rows.append([dataset, scenario, f"{claim['mine']} - {other}", *numbers])
    head = ["data", "faults", "", "at the end", "mean over all cycles", "at the end"]
    text = f"**{claim['text']}.** Difference of accuracies, pairs of runs with the same seed:"
    return [text, "", *table(head, rows)] if rows else []


def _pairs(library: Library, dataset: str, scenario: str, mine: str, other: str) -> list[Pair]:
    """Runs of one seed and length, the longest of those that both have."""
    fields = library.start | {"data.dataset": dataset}
    ours, theirs = (
        {(run.seed, length(run)): run for run in library.where(fields, algorithm=name, scenario=scenario, usual=True) if len(run.judged)}
        for name in (mine, other)
    )
    both = sorted(ours.keys() & theirs.keys())
    most = max((cycles for _, cycles in both), default=0)
    return [(ours[key], theirs[key]) for key in both if key[1] == most]


def _mean_gap(pair: Pair) -> float:
    """Over the evaluations that both have."""
    one, two = (run.judged.to_numpy() for run in pair)
    both = min(len(one), len(two))
    return float(one[:both].mean() - two[:both].mean())


def _judged(gaps: Sequence[float], how: str) -> str:
    middle = statistics.mean(gaps)
    if how == "within":
        return "holds: within .01" if abs(middle) <= NO_DIFFERENCE else "does not hold"
    return "holds" if middle > NO_DIFFERENCE else "within .01" if middle >= -NO_DIFFERENCE else "the reverse"


# The death of servers and hubs.


def _death(library: Library, section: dict) -> list[str]:
    places = itertools.product(section["datasets"], section["algorithms"])
    rows = [row for dataset, name in places for row in _death_rows(library, section, dataset, name)]
    head = ["data", "", "before the death", "at the end", "at the end without a fault", "nodes that hear of nobody at the end"]
    return [section["text"], "", *table(head, rows)] if rows else []


def _death_rows(library: Library, section: dict, dataset: str, name: str) -> list[list[str]]:
    fields = library.start | {"data.dataset": dataset}
    partition = {"data.partition": library.data["setting"]["data.partition"]}
    runs = longest(library.where(fields | partition, algorithm=name, scenario=section["scenario"]))
    if not runs:
        return []
    alike = library.where(fields | {"run.cycles": length(runs[0])}, algorithm=name, scenario=FAULT_FREE, usual=True)
    before = spread(accuracy_at(run, one.first - 1) for run in runs for one in episodes(run)[:1])
    ends = [spread(map(metrics.final_accuracy, some)) for some in (runs, alike)]
    alone = statistics.mean([metrics.share_alone(run) for run in runs])
    return [[dataset, name, before, *ends, f"{100 * alone:.0f} %"]]
