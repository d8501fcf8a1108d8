"""Doors: a world around a world, in which nodes can fall silent. It owns who lives.

A node whose door is shut is silent: nothing it does leaves, nothing that arrives reaches it, and what arrives is counted as dropped.
What lies below goes on: its rank receives, takes part in closing steps, and keeps the node's promise to a hub group, so that nobody
is left waiting in something collective. Loss is at the receiver's door, message by message from the receiver's own stream; a lost
commit is honoured by the rank below, as that of a crashed node is. This is also where traffic is counted: what leaves, what gets in,
and what does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Set
from typing import Any, Protocol

from healmpi import streams
from healmpi.faults.kind import Arm
from healmpi.messages import Commitment, Message, numbered
from healmpi.node import Action, EnterGroup, GroupAveraged
from healmpi.worlds.world import FAILED, Closed, World


class Counter(Protocol):
    """Counts the traffic of the hosted nodes."""

    def sent(self, node: int, actions: Sequence[Action]) -> None:
        """What a node sends: the messages among these."""

    def accepted(self, node: int, messages: Sequence[Message]) -> None:
        """What gets in."""

    def dropped(self, message: Message) -> None:
        """What does not."""

    def reduction(self, node: int, members: int) -> None:
        """A node's part in a reduction among so many members."""


Log = Callable[[int, int, str, str], None]
"""Told of a fault that happened: tick (-1: at the end of the cycle), node, kind, detail."""


class Doors:
    """The doors of one rank's nodes.

    world: the one around which they stand. nodes: in the run. counter: of traffic. log: of faults.
    """

    def __init__(self, world: World, nodes: int, seed: int, counter: Counter, log: Log):
        self._world, self._seed, self._counter, self._log = world, seed, counter, log
        self.rank, self.size, self.reductions = world.rank, world.size, world.reductions
        self.seconds, self.facts = world.seconds, world.facts
        self._live = set(range(nodes))
        self._doomed: set[int] = set()  # of the run's nodes those that fall silent inside this cycle
        self._silent: set[int] = set()  # of the hosted nodes
        self._arriving = 1.0  # the share of messages that is not lost
        self._luck: dict[int, random.Random] = {}
        self._armed: dict[int, tuple[str, str, Arm]] = {}  # node -> kind of the fault, point, what becomes of its actions
        self._owed: list[tuple[int, Message]] = []  # coordinators that fell silent after their commit had left
        self._inside: list[int] = []  # members that entered in this tick and fall silent before the next

    @property
    def failure(self) -> Exception | None:
        return self._world.failure

    @property
    def live(self) -> Set[int]:
        return self._live

    @property
    def silent(self) -> Set[int]:
        return self._silent

    def survivors(self) -> list[int]:
        return sorted(self._live - self._doomed)

    # What faults do. Called on all ranks.

    def begin_cycle(self) -> None:
        """Those that fell silent inside the last cycle are gone; nothing is lost any more."""
        self._live -= self._doomed
        self._doomed = set()
        self._arriving = 1.0

    def silence(self, node: int, hosted: bool) -> None:
        """The node is silent from now on. hosted: whether it lives here."""
        self._live.discard(node)
        if hosted:
            self._shut(node)

    def arm(self, node: int, kind: str, point: str, arm: Arm, hosted: bool) -> None:
        """The node falls silent at this point of the cycle."""
        self._doomed.add(node)
        if hosted:
            self._armed[node] = (kind, point, arm)

    def lose(self, share: float) -> None:
        """This share of the messages does not arrive, besides what is lost already."""
        self._arriving *= 1.0 - share

    # What an arm does, at its point.

    def fall_silent(self, node: int, tick: int) -> None:
        """The node has come by its point."""
        kind, point, _ = self._armed[node]
        self._shut(node)
        self._log(tick, node, kind, point)

    def stay_away(self, node: int, group: EnterGroup) -> None:
        """It does not enter the group that it is bound to."""
        self.reductions.absent(node, Commitment(group.epoch, group.members, group.weights, group.reused))

    def owe(self, node: int, commit: Message) -> None:
        """It has bound others to a group, and does not enter it in the next tick."""
        self._owed.append((node, commit))

    def fall_silent_inside(self, node: int) -> None:
        """It falls silent after having entered."""
        self._inside.append(node)

    def _shut(self, node: int) -> None:
        self._silent.add(node)
        self._armed.pop(node, None)

    # The world.

    def act(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        if node in self._silent:
            return []
        if node in self._armed:
            actions = self._armed[node][2](self, node, tick, actions)
        if not actions:
            return actions
        self._counter.sent(node, actions)
        return self._world.act(node, tick, actions)

    def deliver(self, node: int) -> list[Message]:
        messages = self._world.deliver(node)
        if node in self._silent:
            messages = self._without(node, messages, messages)
        elif self._arriving < 1.0:
            share = 1.0 - self._arriving
            luck = self._luck.get(node) or self._luck.setdefault(node, streams.picker(self._seed, "loss", node))
            messages = self._without(node, messages, [message for message in messages if luck.random() < share])
        self._counter.accepted(node, messages)
        return messages

    def _without(self, node: int, messages: list[Message], lost: list[Message]) -> list[Message]:
        for message in lost:
            self._counter.dropped(message)
            self._honour(node, message)
        gone = {id(message) for message in lost}
        return [message for message in messages if id(message) not in gone]

    def _honour(self, node: int, message: Message) -> None:
        """What the node is bound to by a message that does not reach it, or that it has sent itself."""
        commitment = numbered(message.kind).commitment
        if commitment is not None:
            self.reductions.absent(node, commitment(message))

    def close(self, tick: int, wake: int) -> Closed:
        following, outcomes, targets = self._world.close(tick, wake)
        if following != FAILED:
            self._keep_promises(following)
        heard = [(node, event) for node, event in outcomes if node not in self._silent]
        for node, event in heard:
            if isinstance(event, GroupAveraged):
                self._counter.reduction(node, event.members)
        return Closed(following, heard, targets)

    def _keep_promises(self, tick: int) -> None:
        """What silent nodes had promised for this tick."""
        for node in self._inside:
            self.fall_silent(node, tick)
            self.reductions.fail(node)
        for node, commit in self._owed:
            self._honour(node, commit)
        self._inside, self._owed = [], []

    def end_cycle(self) -> None:
        # The armed nodes that did not come by their point crash now.
        for node, (kind, _, _) in sorted(self._armed.items()):
            self._shut(node)
            self._log(-1, node, kind, "end of cycle")
        self._world.end_cycle()

    def state(self) -> Any:
        return self._live, self._doomed, self._silent, self._luck, self._world.state()

    def resume(self, state: Any) -> None:
        self._live, self._doomed, self._silent, self._luck, below = state
        self._world.resume(below)

    # Handed through.

    def allreduce(self, decision: int = 0) -> int:
        return self._world.allreduce(decision)

    def gather(self, value: Any) -> list[Any] | None:
        return self._world.gather(value)

    def allgather(self, value: Any) -> list[Any]:
        return self._world.allgather(value)

    def give_up(self) -> None:
        self._world.give_up()

    def finish(self) -> None:
        self._world.finish()
