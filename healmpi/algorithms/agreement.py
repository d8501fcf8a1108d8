"""How hubs agree on a group by point-to-point messages, before anybody enters anything collective.

Source: ours (docs/algorithms.md). The coordinator is the smallest id that a hub believes in and does not suspect; a hub promises once
an attempt; the group is whoever promised. Ticks after the start of attempt a = 0, 1, ... of `attempts`, ATTEMPT_TICKS each:

    0   coordinator: GROUP_PROPOSE to its hubs
    1   others: GROUP_PROMISE, to one coordinator
    2   coordinator: GROUP_COMMIT to those that promised
    3   members: enter the reduction
    5   averaged: the end; abandoned: the next attempt

               proposal               commit
    ELECTING ----------> PROMISED ---------------+
        ^                    | none in time      |                averaged
        |<--- next attempt --+-- BROKEN <-- ENTERED ------------------------> ENDED
        v                       abandoned   ^
    PROPOSED ----------> COMMITTED ---------+
              promises    next tick

A hub suspects, for the rest of the cycle, a coordinator that made no proposal or no commit in time. After a broken reduction the
coordinator stays the same: whoever fell silent will not promise again. Hubs whose views disagree may end up in several groups, each
with an average of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import numpy as np

from healmpi.messages import Commitment, Message, kind
from healmpi.node import NEVER, Action, EnterGroup, GroupAbandoned, GroupAveraged, GroupReport, Overlay
from healmpi.state import Stateful

ATTEMPT_TICKS = 5


def read_commit(message: Message) -> Commitment:
    """What a GROUP_COMMIT says: the members, then their weights; number: 2 * epoch + whether the group has worked before."""
    payload = message.payload
    assert isinstance(payload, tuple)
    epoch, reused = divmod(message.number, 2)
    half = len(payload) // 2
    return Commitment(epoch, payload[:half], payload[half:], bool(reused))


GROUP_PROPOSE = kind("group_propose", pledges=True)
"""Join me? number: the attempt."""

GROUP_PROMISE = kind("group_promise", pledges=True)
"""Yes. number: the weight of the sender's average."""

GROUP_COMMIT = kind("group_commit", commitment=read_commit)
"""This is it: see `read_commit`."""

KINDS = (GROUP_PROPOSE, GROUP_PROMISE, GROUP_COMMIT)


class Phase(Enum):
    """Where a hub stands."""

    ELECTING = auto()  # expects a proposal
    PROPOSED = auto()  # coordinator: expects promises
    PROMISED = auto()  # member: expects the commit
    COMMITTED = auto()  # coordinator: enters at the next tick, with the members
    ENTERED = auto()  # in the reduction
    BROKEN = auto()  # the reduction was abandoned: until the attempt ends
    ENDED = auto()  # there is a result, or there will be none


class Agreement(Stateful):
    """One hub's part. nodes: in the run. attempts: in a cycle.

    result: once it has ENDED: float32 [size], or None where nobody had a model. group: the one that was entered last in this cycle.
    """

    def __init__(self, node: int, nodes: int, attempts: int, overlay: Overlay):
        self._node, self._nodes, self._attempts, self._overlay = node, nodes, attempts, overlay
        self.phase, self.wake = Phase.ENDED, NEVER
        self.group: EnterGroup | None = None
        self.result: np.ndarray | None = None
        self._last_group: tuple[int, int, tuple[int, ...]] = (NEVER, 0, ())  # cycle, epoch, members of the own last success
        self._cycle = self._begun = self._attempt = self._weight = self._size = 0
        self._average: np.ndarray | None = None
        self._suspects: set[int] = set()
        self._coordinator = -1
        self._promises: dict[int, int] = {}

    def state(self) -> dict[str, Any]:
        """The last success alone: all else begins anew in each cycle."""
        return {"last_group": self._last_group}

    def restore(self, state: dict[str, Any]) -> None:
        self._last_group = state["last_group"]

    def begin(self, tick: int, cycle: int, average: np.ndarray | None, weight: int, size: int) -> list[Action]:
        """The first attempt of a cycle. average: float32 [size], the own one; None: there is none, and `weight` is 0."""
        self._begun, self._cycle, self._average, self._weight, self._size = tick, cycle, average, weight, size
        self._suspects, self._attempt, self._coordinator, self._promises, self.group, self.result = set(), 0, -1, {}, None, None
        return self._next_attempt(tick)

    # Deliveries.

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Take messages of this cycle; one that is not waited for has no effect."""
        actions: list[Action] = []
        offers: list[int] = []
        for message in messages:
            kind = message.kind
            if kind == GROUP_PROPOSE and self.phase is Phase.ELECTING:
                offers.append(message.source)
            elif kind == GROUP_PROMISE and self.phase is Phase.PROPOSED:
                self._promises[message.source] = message.number
            elif kind == GROUP_COMMIT and self.phase is Phase.PROMISED and message.source == self._coordinator:
                actions.append(self._enter_as_member(message))
        if offers:
            actions.append(self._promise(tick, min(offers)))
        return actions

    # Deadlines.

    def alarm(self, tick: int) -> list[Action]:
        """A deadline has come."""
        phase = self.phase
        if phase is Phase.PROPOSED:
            return self._commit(tick)
        if phase is Phase.COMMITTED:
            return self._enter_as_coordinator()
        if phase is Phase.ELECTING or phase is Phase.PROMISED:
            self._suspects.add(self._coordinator)
        if phase in (Phase.ELECTING, Phase.PROMISED, Phase.BROKEN):
            self._attempt += 1
            return self._next_attempt(tick)
        return []

    def _attempt_end(self) -> int:
        return self._begun + ATTEMPT_TICKS * (self._attempt + 1)

    def _next_attempt(self, tick: int) -> list[Action]:
        if self._attempt >= self._attempts:
            return self._without_others("alone")
        believed = [hub for hub in sorted(self._overlay.hubs()) if hub not in self._suspects]
        # With everybody under suspicion there is nobody to wait for.
        self._coordinator = believed[0] if believed else self._node
        if self._coordinator != self._node:
            self.phase, self.wake = Phase.ELECTING, self._attempt_end()
            return []
        others = [hub for hub in sorted(self._overlay.hubs()) if hub != self._node]
        if not others:
            return self._without_others("solo")
        self._promises = {}
        self.phase, self.wake = Phase.PROPOSED, tick + 2
        return [Message(GROUP_PROPOSE, self._node, hub, self._cycle, tick, None, self._attempt) for hub in others]

    def _promise(self, tick: int, coordinator: int) -> Message:
        self._coordinator = coordinator
        self.phase, self.wake = Phase.PROMISED, self._attempt_end()
        return Message(GROUP_PROMISE, self._node, coordinator, self._cycle, tick, None, self._weight)

    def _commit(self, tick: int) -> list[Action]:
        """Coordinator: the group is whoever promised."""
        if not self._promises:
            return self._without_others("solo")
        weight_of = {**self._promises, self._node: self._weight}
        members = tuple(sorted(weight_of))
        weights = tuple(weight_of[member] for member in members)

        # The epoch lives on while the same members succeed cycle after cycle: the world keeps their communicator.
        last_cycle, epoch, last_members = self._last_group
        reused = last_members == members and last_cycle == self._cycle - 1
        if not reused:
            epoch = self._new_epoch()
        self.group = EnterGroup(epoch, members, weights, self._contribution(), reused)
        self.phase, self.wake = Phase.COMMITTED, tick + 1
        number = epoch * 2 + reused
        others = [member for member in members if member != self._node]
        return [Message(GROUP_COMMIT, self._node, member, self._cycle, tick, members + weights, number) for member in others]

    def _new_epoch(self) -> int:
        # Unique: a coordinator commits at most one group in an attempt of a cycle.
        return (self._cycle * (self._attempts + 1) + self._attempt) * self._nodes + self._node

    def _contribution(self) -> np.ndarray:
        return self._average if self._average is not None else np.zeros(self._size, np.float32)

    def _enter_as_coordinator(self) -> list[Action]:
        assert self.group is not None
        self.phase, self.wake = Phase.ENTERED, NEVER
        return [self.group]

    def _enter_as_member(self, message: Message) -> EnterGroup:
        epoch, members, weights, reused = read_commit(message)
        self.group = EnterGroup(epoch, members, weights, self._contribution(), reused)
        self.phase, self.wake = Phase.ENTERED, NEVER
        return self.group

    # Outcome.

    def averaged(self, event: GroupAveraged) -> list[Action]:
        """The group's average is here."""
        group = self.group
        if self.phase is not Phase.ENTERED or group is None or event.epoch != group.epoch:
            return []
        self._last_group = (self._cycle, group.epoch, group.members) if self._coordinator == self._node else (NEVER, 0, ())
        report = self._report("averaged" if event.vector is not None else "empty", group)
        self._end(event.vector)
        return [report]

    def abandoned(self, event: GroupAbandoned) -> list[Action]:
        """The reduction broke: somebody fell silent inside. Try again when the attempt ends."""
        if self.phase is not Phase.ENTERED or self.group is None or event.epoch != self.group.epoch:
            return []
        self._last_group = (NEVER, 0, ())
        self.phase, self.wake = Phase.BROKEN, self._attempt_end()
        report = self._report("abandoned", self.group)
        return [report] if event.tick < self.wake else [report, *self.alarm(event.tick)]

    def _report(self, outcome: str, group: EnterGroup) -> GroupReport:
        return GroupReport(self._attempt, group.epoch, self._coordinator, outcome, group.reused, self._weight, group.members)

    def _without_others(self, outcome: str) -> list[Action]:
        """Go on with the own average. 'solo': no other hub that this one believes in has promised; 'alone': no attempt is left."""
        self.group = None
        report = GroupReport(self._attempt, self._new_epoch(), self._node, outcome, False, self._weight, (self._node,))
        self._end(self._average)
        return [report]

    def _end(self, result: np.ndarray | None) -> None:
        self.phase, self.wake, self.result = Phase.ENDED, NEVER, result
