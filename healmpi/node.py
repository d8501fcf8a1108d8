"""A node: one overlay and one learning rule behind a single call, `handle(event) -> actions`.

A node decides, the world acts: nothing here sends, trains, waits or reads a clock, so the whole protocol runs in a test,
in one process, or over MPI without a change (the way of etcd's raft and of h11). Time is ticks: whatever is sent in tick
t arrives in t + 1. A cycle starts at a tick that the host announces:

    start .. start + overlay.ticks            the overlay's step, at its `offsets`
    start + overlay.ticks ..                  the rule's round, which begins when the overlay's view is new

The rule that surprises: deliveries of a tick come before deadlines of that tick, so what arrives on the deadline counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from healmpi.messages import Message

NEVER = 2**62
"""A tick that does not come."""


# Events: what a node is told.


class CycleStarted(NamedTuple):
    """A cycle begins at this tick. learn: False in a warm-up cycle, in which only the overlay runs."""

    tick: int
    cycle: int
    learn: bool = True


class Step(NamedTuple):
    """A tick, with the messages that arrived in it, by ascending source."""

    tick: int
    messages: Sequence[Message]


class Trained(NamedTuple):
    """Local training has ended. model: float32 [size]."""

    tick: int
    model: np.ndarray


class GroupAveraged(NamedTuple):
    """The hub group's average. vector: float32 [size], or None when no member brought any model."""

    tick: int
    epoch: int
    vector: np.ndarray | None


class GroupAbandoned(NamedTuple):
    """The reduction was given up at its deadline: a member did not take part."""

    tick: int
    epoch: int


Event = CycleStarted | Step | Trained | GroupAveraged | GroupAbandoned


# Actions: what a node wants done. A Message among the actions is to be sent.


class Train(NamedTuple):
    """Train this model on the node's own shard. model: float32 [size]."""

    model: np.ndarray


class EnterGroup(NamedTuple):
    """Average `vector` among `members` (ascending ids), in that order, with `weights`.

    epoch: names the group; reused: the group of this epoch has worked before. vector: float32 [size].
    """

    epoch: int
    members: tuple[int, ...]
    weights: tuple[int, ...]
    vector: np.ndarray
    reused: bool


class GroupReport(NamedTuple):
    """What became of an attempt to average among hubs, for the record. outcome: 'averaged', 'abandoned', 'solo',
    'empty' (no member brought a model), 'alone' (no attempt is left)."""

    attempt: int
    epoch: int
    coordinator: int
    outcome: str
    reused: bool
    weight: int
    members: tuple[int, ...]


Action = Message | Train | EnterGroup | GroupReport


class Overlay(Protocol):
    """What a node asks of an overlay."""

    offsets: Sequence[int]
    ticks: int
    kinds: frozenset
    view: tuple[int, ...]

    def advance(self, offset: int, tick: int, cycle: int) -> list[Message]: ...
    def receive(self, tick: int, messages: Sequence[Message]) -> list[Message]: ...
    def hubs(self) -> tuple[int, ...]: ...
    def is_hub(self) -> bool: ...
    def peers(self) -> tuple[int, ...]: ...


class Rule(Protocol):
    """What a node asks of a learning rule. ticks: how long a round can take. wake: the next tick it must be called at.

    updated_in: the cycle in which others' models were taken in last. round: what it did in this cycle, for the audit.
    """

    ticks: int
    wake: int
    model: np.ndarray
    updated_in: int | None
    round: Any

    def begin(self, tick: int, cycle: int) -> list[Action]: ...
    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]: ...
    def alarm(self, tick: int) -> list[Action]: ...
    def trained(self, event: Trained) -> list[Action]: ...
    def averaged(self, event: GroupAveraged) -> list[Action]: ...
    def abandoned(self, event: GroupAbandoned) -> list[Action]: ...


class Node:
    """One participant. wake: the next tick in which it must be called even if nothing arrives."""

    __slots__ = ("_cycle", "_learns", "_offset", "_start", "id", "overlay", "rule", "wake")

    def __init__(self, node: int, overlay: Overlay, rule: Rule | None):
        self.id, self.overlay, self.rule = node, overlay, rule
        self.wake = NEVER
        self._start = self._cycle = 0
        self._offset = 0  # index of the overlay's next offset
        self._learns = False

    def handle(self, event: Event) -> list[Action]:
        """Take one event, return what is to be done. Ticks must not go back."""
        kind = type(event)
        if kind is Step:
            return self._step(event)
        if kind is CycleStarted:
            return self._begin(event)
        rule: Any = self.rule
        call = {Trained: rule.trained, GroupAveraged: rule.averaged, GroupAbandoned: rule.abandoned}[kind]
        actions = call(event)
        self._set_wake()
        return actions

    def _begin(self, event: CycleStarted) -> list[Action]:
        self._start, self._cycle = event.tick, event.cycle
        self._learns = event.learn and self.rule is not None
        self._offset = 0
        return self._step(Step(event.tick, ()))

    def _step(self, event: Step) -> list[Action]:
        tick, messages = event
        overlay, rule = self.overlay, self.rule
        actions: list[Action] = []

        # What arrived goes first to the layer that it belongs to.
        if messages:
            kinds = overlay.kinds
            mine = [message for message in messages if message[0] in kinds]
            if mine:
                actions += overlay.receive(tick, mine)
            if rule is not None and len(mine) < len(messages):
                actions += rule.receive(tick, [message for message in messages if message[0] not in kinds])

        # Then the clock: the overlay's next step, the start of the round, the rule's deadlines.
        offsets = overlay.offsets
        if self._offset < len(offsets) and tick == self._start + offsets[self._offset]:
            actions += overlay.advance(offsets[self._offset], tick, self._cycle)
            self._offset += 1
        if self._learns and tick == self._start + overlay.ticks:
            actions += rule.begin(tick, self._cycle)
        elif rule is not None and tick >= rule.wake:
            actions += rule.alarm(tick)
        self._set_wake()
        return actions

    def _set_wake(self) -> None:
        offsets = self.overlay.offsets
        if self._offset < len(offsets):
            self.wake = self._start + offsets[self._offset]
        else:
            self.wake = self.rule.wake if self.rule is not None else NEVER
