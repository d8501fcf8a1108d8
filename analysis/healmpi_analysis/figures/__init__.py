"""The figures, by what they are about; `all_pictures` makes every one that the runs have something for.

What shows single nodes (who was hub, the graph) is drawn for one run of a group, the first seed,
and for a bounded number of groups, those whose hubs were hit first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import healmpi_analysis.drawing  # noqa: F401 - before anything of matplotlib
from healmpi_analysis.baseline import is_central
from healmpi_analysis.figures import accuracy, hubs, models, network, recovery, scaling, skew, time, traffic
from healmpi_analysis.figures.style import Palette, Picture, house_style
from healmpi_analysis.groups import Group, by_ranks
from healmpi_analysis.recovery import episodes

__all__ = ["Picture", "all_pictures"]

DETAILED = 6
"""Groups whose single nodes are drawn, unless told otherwise."""


def all_pictures(groups: Sequence[Group], *, detailed: int = DETAILED) -> Iterator[Picture]:
    """Every picture, one after the other, in the order of a report. Raises AnalysisError when a file is damaged."""
    timed = by_ranks(groups)
    # Central baselines come last: they are black lines above the others, and take none of their colours.
    looks, timed_looks = (Palette(tuple(group.variant for group in sorted(some, key=is_central))) for some in (groups, timed))
    # A central baseline has nobody to talk to: what is about a network is drawn of the others, if there are any.
    networks = [group for group in groups if not is_central(group)] or groups
    closely = _closely(networks, detailed)
    makers: list[Callable[[], Iterator[Picture]]] = [
        lambda: accuracy.over_cycles(groups, looks),
        lambda: accuracy.over_scenarios(groups),
        lambda: accuracy.over_seconds(timed, timed_looks),
        lambda: accuracy.over_bytes(groups, looks),
        lambda: skew.own_labels(groups, looks),
        lambda: skew.classes(groups, looks),
        lambda: accuracy.time_to_accuracy(timed),
        lambda: recovery.recovery(timed),
        lambda: hubs.membership(closely),
        lambda: network.graphs(closely),
        lambda: network.measures(closely),
        lambda: network.in_degrees(closely),
        lambda: traffic.per_cycle(networks, looks),
        lambda: traffic.by_kind(networks),
        lambda: traffic.load(groups),
        lambda: time.per_rank(timed, detailed),
        lambda: scaling.scaling(timed),
        lambda: models.different(networks, looks),
    ]
    for make in makers:
        with house_style():
            pictures = list(make())
        yield from pictures


def _closely(groups: Sequence[Group], most: int) -> list[Group]:
    hit = [any(one.hubs for one in episodes(group.runs[0])) for group in groups]
    order = sorted(range(len(groups)), key=lambda index: (not hit[index], index))
    return [groups[index] for index in sorted(order[:most])]
