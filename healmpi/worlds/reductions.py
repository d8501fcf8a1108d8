"""Averaging inside hub groups: who has entered, who is missing, what came of it.

A reduction takes two ticks: in the first the members exchange slices of their vectors, in the second each gathers the
averaged slices. At the end of either tick the ranks of the group tell each other whether all members they host took
part. If one did not, the others abandon the reduction at that deadline; nothing they have already started is waited
for. The verdict is the same on all ranks and does not depend on timing, which is why a run gives the same bits in every
world. A rank whose member fell silent still takes part, later and with no effect, in what that member had promised (communicator and
open collectives), so that nothing is left hanging below.

        enter / absent          close: all there?            close: all there?
    ------------------> SCATTER ------- yes -------> GATHER ------- yes -------> averaged
                           \\------------- no -----------\\------------- no --------> abandoned

Moving the data is the business of a `Backend`: see `local.py` and `hub_group.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

import numpy as np

from healmpi.algorithms.averaging import Average
from healmpi.messages import Commitment
from healmpi.node import EnterGroup, GroupAbandoned, GroupAveraged


class Stage(Enum):
    """Where a reduction stands on this rank."""

    SCATTER = auto()
    GATHER = auto()


class Notice(NamedTuple):
    """What a rank tells another rank of the group at the end of a tick: whether all its members took part."""

    rank: int  # the receiver's; the sender's once received
    epoch: int
    complete: bool


@dataclass(slots=True)
class Reduction:
    """One group's averaging as one rank sees it.

    ranks: of the group, ascending. members_at: how many members each of them hosts. vectors: hosted member -> float32
    [size]. missing: hosted members that do not take part. handle: the backend's own.
    """

    epoch: int
    members: tuple[int, ...]
    weights: tuple[int, ...]
    reused: bool
    ranks: tuple[int, ...]
    members_at: tuple[int, ...]
    hosted: tuple[int, ...]
    stage: Stage = Stage.SCATTER
    vectors: dict[int, np.ndarray] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    complete: bool = False
    handle: Any = None


class CarefulAverage:
    """An averaging rule whose errors wait: what is collective goes on, with zeros, and the host hears of the error after the step.

    failure: the first error. Whoever raised it in the middle of a collective would leave the other ranks waiting.
    """

    def __init__(self, average: Average):
        self._average = average
        self.elementwise = average.elementwise
        self.failure: Exception | None = None

    def __call__(self, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray | None:
        """As the rule has it."""
        try:
            return self._average(vectors, weights)
        except Exception as error:
            self.failure = self.failure or error
            return np.zeros_like(vectors[0])


class Backend(Protocol):
    """Moves the vectors of a reduction between the ranks of its group."""

    def prepare(self, reduction: Reduction, size: int) -> None:
        """Have a communicator for the group: every rank of it calls this in the same tick. size: floats in a vector."""

    def scatter(self, reduction: Reduction) -> None:
        """Start the exchange of slices."""

    def gather(self, reduction: Reduction) -> None:
        """Complete the exchange (every rank has started it), average the own slice, start gathering."""

    def result(self, reduction: Reduction) -> np.ndarray | None:
        """Complete the gathering (every rank has started it). float32 [size], or None without any weight."""

    def abandon(self, reduction: Reduction) -> None:
        """Give up: start what this rank still owes to the others, wait for nothing."""

    def end_cycle(self) -> None:
        """Release what has not been used in this cycle or the one before."""


class Reductions:
    """The open reductions of one rank.

    rank_of: node -> rank. Nodes `enter`, or are reported `absent`; `begin_close` and `end_close` frame the closing of a tick.
    """

    def __init__(self, rank: int, size: int, rank_of: Callable[[int], int], backend: Backend):
        self._rank, self._size, self._rank_of, self._backend = rank, size, rank_of, backend
        self._open: dict[int, Reduction] = {}
        self.seconds_of: dict[int, float] = {}  # node -> seconds of group work since the host last cleared it

    def enter(self, node: int, action: EnterGroup) -> None:
        """A hosted member takes part."""
        group = Commitment(action.epoch, action.members, action.weights, action.reused)
        self._reduction(group).vectors[node] = action.vector

    def absent(self, node: int, group: Commitment) -> None:
        """A hosted member had promised and has fallen silent before it entered."""
        self._reduction(group).missing.add(node)

    def fail(self, node: int) -> None:
        """A hosted member falls silent inside the reduction it is in."""
        for reduction in self._open.values():
            if node in reduction.vectors:
                reduction.missing.add(node)

    def busy(self) -> bool:
        """Whether a reduction is open on this rank: then the next tick must not be skipped."""
        return bool(self._open)

    def _reduction(self, group: Commitment) -> Reduction:
        epoch, members, weights, reused = group
        if epoch not in self._open:
            at = Counter(self._rank_of(member) for member in members)
            ranks = tuple(sorted(at))
            hosted = tuple(member for member in members if self._rank_of(member) == self._rank)
            self._open[epoch] = Reduction(epoch, members, weights, reused, ranks, tuple(at[rank] for rank in ranks), hosted)
        found = self._open[epoch]
        # One member list per epoch: everything that follows rests on it.
        assert found.members == members, f"group {epoch} has two member lists: {found.members} and {members}"
        return found

    def begin_close(self) -> list[Notice]:
        """Do this tick's part of every open reduction; return what the other ranks of the groups must hear."""
        notices = []
        # All ranks go through the groups in the same order: creating a communicator blocks until its members are there.
        for epoch in sorted(self._open):
            reduction = self._open[epoch]
            started = time.perf_counter()
            self._advance(reduction)
            self._charge(reduction, started)
            notices += [Notice(rank, epoch, reduction.complete) for rank in reduction.ranks if rank != self._rank]
        return notices

    def _advance(self, reduction: Reduction) -> None:
        if reduction.stage is Stage.SCATTER:
            self._backend.prepare(reduction, self._size)
            reduction.complete = not reduction.missing and len(reduction.vectors) == len(reduction.hosted)
            if reduction.complete:
                self._backend.scatter(reduction)
        else:
            reduction.complete = not reduction.missing
            if reduction.complete:
                self._backend.gather(reduction)

    def end_close(self, tick: int, notices: Iterable[Notice]) -> list[tuple[int, GroupAveraged | GroupAbandoned]]:
        """Draw the conclusions. tick: the one that follows. Returns what hosted members learn in it, by node."""
        broken = {epoch for epoch, reduction in self._open.items() if not reduction.complete}
        broken |= {notice.epoch for notice in notices if not notice.complete}
        outcomes: list[tuple[int, GroupAveraged | GroupAbandoned]] = []
        for epoch in sorted(self._open):
            reduction = self._open[epoch]
            started = time.perf_counter()
            if epoch in broken:
                self._backend.abandon(reduction)
                event: GroupAveraged | GroupAbandoned = GroupAbandoned(tick, epoch)
            elif reduction.stage is Stage.SCATTER:
                reduction.stage = Stage.GATHER
                continue
            else:
                event = GroupAveraged(tick, epoch, self._backend.result(reduction), len(reduction.members))
            self._charge(reduction, started)
            del self._open[epoch]
            outcomes += [(node, event) for node in reduction.hosted]
        return sorted(outcomes, key=lambda pair: pair[0])

    def give_up(self) -> None:
        """The run ends in the middle of a cycle, on all ranks in the same step: nothing that is open is completed."""
        for epoch in sorted(self._open):
            self._backend.abandon(self._open[epoch])
        self._open.clear()

    def end_cycle(self) -> None:
        """A cycle is over: no reduction is open."""
        assert not self._open, f"reductions still open at the end of a cycle: {sorted(self._open)}"
        self._backend.end_cycle()

    def _charge(self, reduction: Reduction, started: float) -> None:
        share = (time.perf_counter() - started) / len(reduction.hosted)
        for node in reduction.hosted:
            self.seconds_of[node] = self.seconds_of.get(node, 0.0) + share
