"""The central baseline: one node that has all the data and talks to nobody, the line above the decentralized runs.

It is known by what it is, one node and no message, and not by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from healmpi_analysis.groups import Group
from healmpi_analysis.records import Record

_DEALING = ("data.partition", "data.alpha", "data.shards_per_node")
"""Fields that say how data are dealt to nodes; to a single node all of them deal the same."""

_START = "model.initial"
"""Says whether nodes start alike."""


def is_central(group: Group) -> bool:
    """Whether its runs are of one node that never sent a message."""
    return all(run.facts.nodes == 1 and not run.series["messages"].any() for run in group.runs)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A central group beside others. runs: of the seeds that the others have, too."""

    label: str
    runs: tuple[Record, ...]


def baselines_of(groups: Sequence[Group], everything: Sequence[Group]) -> list[Baseline]:
    """The central groups among `everything` with data and model of one of `groups`, as far as they share seeds with those."""
    found = []
    for one in filter(is_central, everything):
        seeds = {run.seed for group in groups if _task(group) == _task(one) for run in group.runs}
        runs = tuple(run for run in one.one_of_each_seed if run.seed in seeds)
        if runs:
            found.append(Baseline(f"{one.variant}, all data (n={len(runs)})", runs))
    return found


def _task(group: Group) -> tuple:
    """Data set and model."""
    fields = {name: value for name, value in group.config.items() if name.startswith(("data.", "model."))}
    return tuple(sorted((name, repr(value)) for name, value in fields.items() if name not in (*_DEALING, _START)))
