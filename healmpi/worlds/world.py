"""What a world offers to the host of a rank, whichever world it is.

A node decides, the world acts: the host hands a node's actions to `act`, ends a tick on all ranks with `close`, and fetches with
`deliver` what is due for each node. A tick in which nothing is under way and nobody has a deadline is skipped. Everything but `act`,
`deliver` and `reductions` is the harness's own plane; it keeps working for nodes that have crashed, since a crash is a matter of the
protocol. There is a world in one process (local.py), one over MPI (mpi.py), and one around either, in which nodes can fall silent
(faults/doors.py).
"""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from healmpi.messages import Message
from healmpi.node import Action, GroupAbandoned, GroupAveraged
from healmpi.worlds.reductions import Reductions


class StepTimeout(RuntimeError):
    """The other ranks did not close a step within limits.step_timeout_s."""


class WireFault(RuntimeError):
    """What came over MPI is not what was sent, where nothing can go on without it."""


FAILED = -1
"""Proposed as the next tick by a rank on which something has gone wrong: it wins on all ranks, in the same step."""


class Closed(NamedTuple):
    """The end of a tick: the next one, what became of reductions, and the nodes of this rank for which something is due."""

    tick: int
    outcomes: list[tuple[int, GroupAveraged | GroupAbandoned]]
    targets: Collection[int]


@dataclass(slots=True)
class Seconds:
    """Wall time a rank spent inside its world since the last `take`: moving messages, waiting for others, closing steps."""

    messaging: float = 0.0
    wait: float = 0.0
    harness: float = 0.0

    def take(self) -> Seconds:
        """The sums so far; starts again from nothing."""
        taken = Seconds(self.messaging, self.wait, self.harness)
        self.messaging = self.wait = self.harness = 0.0
        return taken


@dataclass(slots=True)
class Facts:
    """What a rank's transport did in the whole run. faults: a sentence for each of the first things that arrived damaged."""

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, amount: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount


class World(Protocol):
    """One rank's access to all others.

    failure: what went wrong on this rank in the middle of something collective, which went on all the same.
    """

    rank: int
    size: int
    reductions: Reductions
    seconds: Seconds
    facts: Facts

    @property
    def failure(self) -> Exception | None: ...

    def act(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        """Send a node's messages, which are due later, and enter its groups; what is left is the host's to do."""

    def deliver(self, node: int) -> list[Message]:
        """What is due for this node in the tick that `close` has announced, by ascending source. Once a tick."""

    def close(self, tick: int, wake: int) -> Closed:
        """End the tick on all ranks. wake: the earliest tick in which a node of this rank must act, or FAILED. Raises StepTimeout."""

    def end_cycle(self) -> None:
        """A cycle is over: nothing is under way, no reduction is open."""

    def allreduce(self, decision: int = 0) -> int:
        """Wait until all ranks are here, leaving the core to those that still work; the largest decision. Raises StepTimeout."""

    def gather(self, value: Any) -> list[Any] | None:
        """All ranks' values on rank 0, in rank order; None elsewhere."""

    def allgather(self, value: Any) -> list[Any]:
        """All ranks' values on every rank, in rank order."""

    def state(self) -> Any:
        """What lasts from cycle to cycle, for a checkpoint."""

    def resume(self, state: Any) -> None:
        """The run goes on from a checkpoint with this state; what was kept from cycle to cycle is made anew."""

    def give_up(self) -> None:
        """The run ends in the middle of a cycle, on all ranks in the same step."""

    def finish(self) -> None:
        """Receive whatever is still under way, settle what is owed to abandoned groups, release all handles."""


class MortalWorld(World, Protocol):
    """A world in which nodes fall silent.

    live: all nodes of the run that took part when this cycle began; silent: the hosted ones that do not take part any more.
    """

    @property
    def live(self) -> Set[int]: ...

    @property
    def silent(self) -> Set[int]: ...

    def survivors(self) -> list[int]:
        """The live nodes, without those that fall silent inside this cycle; ascending, the same on all ranks."""


def blocks(nodes: int, ranks: int) -> list[range]:
    """Which nodes each rank hosts: consecutive blocks whose sizes differ by one at most, the larger ones first."""
    size, larger = divmod(nodes, ranks)
    starts = [rank * size + min(rank, larger) for rank in range(ranks + 1)]
    return [range(starts[rank], starts[rank + 1]) for rank in range(ranks)]
