"""Strong and weak scaling: how the time of a cycle changes with the number of ranks.

The rule that surprises: weak scaling compares runs that differ in the number of nodes and in what follows from it (view
size, hub count where they were chosen by size); everything else must be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from healmpi_analysis import metrics, statistics
from healmpi_analysis.groups import Group

_BY_SIZE = ("run.nodes", "view_size", "hub_count", "degree")
"""Fields, or ends of their names, that may follow the number of nodes."""


@dataclass(frozen=True, slots=True)
class Point:
    """One number of ranks in a series. seconds: median per cycle over n runs, with its interval low to high. base_*: of the
    fewest ranks of the series. efficiency: 1 is ideal."""

    series: str
    ranks: int
    nodes: int
    n: int
    seconds: float
    low: float
    high: float
    base_ranks: int
    base_seconds: float
    speed_up: float
    efficiency: float


def strong_scaling(timed: Sequence[Group]) -> list[Point]:
    """The same configuration on different numbers of ranks. timed: groups of one number of ranks each."""
    return _points(timed, lambda group: tuple(sorted((name, repr(value)) for name, value in group.config.items())), strong=True)


def weak_scaling(timed: Sequence[Group]) -> list[Point]:
    """As many nodes for each rank, and the same otherwise."""
    return _points(timed, _size_free, strong=False)


def _size_free(group: Group) -> tuple:
    config = sorted((name, repr(value)) for name, value in group.config.items() if not name.endswith(_BY_SIZE))
    return (group.runs[0].facts.nodes / group.ranks[0], *config)


def _points(timed: Sequence[Group], key: Callable[[Group], tuple], *, strong: bool) -> list[Point]:
    series: dict[tuple, list[Group]] = {}
    for group in timed:
        series.setdefault(key(group), []).append(group)
    found = []
    for groups in series.values():
        if len({group.ranks[0] for group in groups}) > 1:
            found += _of_series(sorted(groups, key=lambda group: group.ranks[0]), strong)
    return found


def _of_series(groups: list[Group], strong: bool) -> list[Point]:
    base = groups[0]
    base_ranks, base_seconds = base.ranks[0], _seconds(base)
    # Groups of one number of ranks have it at the end of their names; a series goes without.
    name = base.label.removesuffix(f", {base_ranks} ranks").removesuffix(", 1 rank")
    if not strong:
        name = f"{base.runs[0].algorithm}, {base.scenario}, {base.runs[0].facts.nodes / base_ranks:g} nodes a rank"
    points = []
    for group in groups:
        times = [metrics.seconds_per_cycle(run) for run in group.runs]
        ranks, seconds = group.ranks[0], statistics.median(times)
        ratio = base_seconds / seconds if seconds else np.nan
        growth = ranks / base_ranks
        speed_up = ratio if strong else ratio * growth
        low, high = statistics.bootstrap(times, np.median)
        points.append(
            Point(
                name,
                ranks,
                group.runs[0].facts.nodes,
                len(times),
                seconds,
                low,
                high,
                base_ranks,
                base_seconds,
                speed_up,
                speed_up / growth,
            )
        )
    return points


def _seconds(group: Group) -> float:
    return statistics.median([metrics.seconds_per_cycle(run) for run in group.runs])
