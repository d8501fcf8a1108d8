"""What a world offers to the host of a rank, whichever world it is.

Time is the lockstep clock: `close` ends a tick on all ranks together and delivers in the next one whatever was sent in
it. A tick in which nothing is under way and nobody has a deadline is skipped. The rule that surprises: everything here
except `send` and `reductions` is the harness's own plane; it keeps working for nodes that have crashed, since a crash is
a matter of the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from healmpi.messages import Message
from healmpi.node import GroupAbandoned, GroupAveraged
from healmpi.worlds.reductions import Reductions


class StepTimeout(RuntimeError):
    """The other ranks did not close a step within limits.step_timeout_s."""


FAILED = -1
"""Proposed as the next tick by a rank on which something has gone wrong: it wins on all ranks, in the same step."""


class Closed(NamedTuple):
    """The end of a tick: the next one, what arrives in it by target (ascending source), and what became of reductions."""

    tick: int
    inbox: dict[int, list[Message]]
    outcomes: list[tuple[int, GroupAveraged | GroupAbandoned]]


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
    """What a rank's transport did in the whole run."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, amount: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount


class World(Protocol):
    """One rank's access to all others."""

    rank: int
    size: int
    reductions: Reductions
    seconds: Seconds
    facts: Facts

    def send(self, message: Message) -> None:
        """Hand over a message; it arrives in the next tick."""

    def close(self, tick: int, wake: int) -> Closed:
        """End the tick on all ranks. wake: the earliest tick in which a node of this rank must act, or FAILED. Raises StepTimeout."""

    def meet(self, word: int = 0) -> int:
        """Wait until all ranks are here, leaving the core to those that still work; return the largest word. Raises StepTimeout."""

    def gather(self, value: Any) -> list[Any] | None:
        """All ranks' values on rank 0, in rank order; None elsewhere."""

    def share(self, value: Any) -> list[Any]:
        """All ranks' values on every rank, in rank order."""

    def resume(self, counts: dict[str, int]) -> None:
        """The run goes on from a checkpoint, whose facts these are; what was kept from cycle to cycle is made anew."""

    def finish(self) -> None:
        """Receive whatever is still under way, settle what is owed to abandoned groups, release all handles."""


def blocks(nodes: int, ranks: int) -> list[range]:
    """Which nodes each rank hosts: consecutive blocks whose sizes differ by one at most, the larger ones first."""
    size, larger = divmod(nodes, ranks)
    starts = [rank * size + min(rank, larger) for rank in range(ranks + 1)]
    return [range(starts[rank], starts[rank + 1]) for rank in range(ranks)]


def by_source(messages: Sequence[Message]) -> list[Message]:
    """The canonical order of a delivery: ascending source; what one source sent keeps its order."""
    return sorted(messages, key=_source)


def _source(message: Message) -> int:
    return message[1]
