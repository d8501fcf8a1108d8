"""The figures, by what they are about; `all_pictures` makes every one that the runs have something for.

What shows single nodes (who was hub, the graph) is drawn for one run of a group, the first seed,
and for a bounded number of groups, those whose hubs were hit first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import matplotlib

from healmpi_analysis.figures import accuracy, hubs, models, network, recovery, scaling, time, traffic
from healmpi_analysis.figures.style import RC, Palette, Picture
from healmpi_analysis.groups import Group, by_ranks
from healmpi_analysis.recovery import episodes

__all__ = ["Picture", "all_pictures"]

DETAILED = 6
"""Groups whose single nodes are drawn, unless told otherwise."""


def all_pictures(groups: Sequence[Group], *, detailed: int = DETAILED) -> Iterator[Picture]:
    """Every picture, one after the other, in the order of a report. Raises AnalysisError when a file is damaged."""
    timed = by_ranks(groups)
    looks, timed_looks = (Palette(tuple(group.variant for group in some)) for some in (groups, timed))
    closely = _closely(groups, detailed)
    makers: list[Callable[[], Iterator[Picture]]] = [
        lambda: accuracy.over_cycles(groups, looks),
        lambda: accuracy.over_scenarios(groups),
        lambda: accuracy.over_seconds(timed, timed_looks),
        lambda: accuracy.time_to_accuracy(timed),
        lambda: recovery.recovery(timed),
        lambda: hubs.membership(closely),
        lambda: network.graphs(closely),
        lambda: network.measures(closely),
        lambda: network.in_degrees(closely),
        lambda: traffic.per_cycle(groups, looks),
        lambda: traffic.by_kind(groups),
        lambda: traffic.load(groups),
        lambda: time.per_rank(timed, detailed),
        lambda: scaling.scaling(timed),
        lambda: models.different(groups, looks),
    ]
    for make in makers:
        with matplotlib.rc_context(RC):
            pictures = list(make())
        yield from pictures


def _closely(groups: Sequence[Group], most: int) -> list[Group]:
    hit = [any(one.hubs for one in episodes(group.runs[0])) for group in groups]
    order = sorted(range(len(groups)), key=lambda index: (not hit[index], index))
    return [groups[index] for index in sorted(order[:most])]
