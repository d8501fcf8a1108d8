"""The central rule: hubs or servers average their clients' models, then among themselves. HEAL, FedAvg, Gaia.

Source: [HEAL] arXiv 2605.27475 and [THESIS] chapter 6; [FL] McMahan et al. 2017 is the same with one server that never
changes, [GAIA] Hsieh et al. 2017 with several. Who is a hub is the overlay's business. In a cycle a client trains, sends its
model to `fanout` of its hubs and takes over the average of the global models that come back; a hub does not train: it
averages what it got until `delta`, agrees with the other hubs on a group, averages in it and answers its clients. Ticks
after the start of the round, for attempt a = 0, 1, ... of `attempts`:

    client                                    hub
    0           train, MODEL to s hubs        collect
    d           wait                          average what came; s_a = d + 5 a:
    s_a                                       coordinator: GROUP_PROPOSE to its hubs
    s_a + 1                                   others: GROUP_PROMISE, to one coordinator
    s_a + 2                                   coordinator: GROUP_COMMIT to those that promised
    s_a + 3                                   members: enter the reduction
    s_a + 5                                   averaged: GLOBAL_MODEL to the clients; abandoned: next attempt
    last        take the average of what came, or keep the own model

The group is agreed on by point-to-point messages before anybody enters anything collective (docs/algorithms.md): the
coordinator is the smallest id that a hub believes in and does not suspect, a hub promises once an attempt, and the group
is whoever promised. A hub suspects, for the rest of the cycle, a coordinator that made no proposal or no commit in time.
After a broken reduction the coordinator stays the same: whoever fell silent will not promise again.
The rule that surprises: hubs whose views disagree may end up in several groups, each with an average of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

import numpy as np

from healmpi.algorithms.averaging import mean_in_order
from healmpi.messages import Kind, Message
from healmpi.node import NEVER, Action, EnterGroup, GroupAbandoned, GroupAveraged, GroupReport, Overlay, Train, Trained

ATTEMPT_TICKS = 5


@dataclass(frozen=True, slots=True)
class CentralSettings:
    """fanout: s. weight_by_models: else each hub average counts once. delta: ticks. attempts: in a cycle. nodes: in the run."""

    fanout: int
    weight_by_models: bool
    delta: int
    attempts: int
    nodes: int


class Phase(Enum):
    """Where a node stands in its round."""

    IDLE = auto()  # no round, or done with it
    TRAINING = auto()  # client: until the learner is done
    AWAITING = auto()  # client: until the global models are here, or the deadline
    COLLECTING = auto()  # hub: until delta
    ELECTING = auto()  # hub: expects a proposal
    PROPOSED = auto()  # coordinator: expects promises
    PROMISED = auto()  # member: expects the commit
    COMMITTED = auto()  # coordinator: enters at the next tick, with the members
    ENTERED = auto()  # in the reduction
    BROKEN = auto()  # the reduction was abandoned: until the attempt ends


class Round(NamedTuple):
    """What a node did in a round, for the audit. Vectors are float32 [size] or None."""

    sent: np.ndarray | None = None  # client: the model it sent
    contributors: tuple[int, ...] = ()  # hub: whose models it averaged
    average: np.ndarray | None = None  # hub: their average
    members: tuple[int, ...] = ()  # hub: the group it averaged in
    weights: tuple[int, ...] = ()
    result: np.ndarray | None = None  # hub: the global model it sent out
    answered: tuple[int, ...] = ()  # client: the hubs whose answers it averaged
    kept: np.ndarray | None = None  # client: the model it holds after the round


class Central:
    """One node's learning. model: float32 [size], replaced, never changed in place."""

    def __init__(self, node: int, settings: CentralSettings, overlay: Overlay, model: np.ndarray, rng: random.Random):
        self.node, self.settings, self.overlay, self.model = node, settings, overlay, model
        self.wake = NEVER
        self.phase = Phase.IDLE
        self.updated_in: int | None = None  # the cycle in which a global model was taken over last
        self.round = Round()
        self._rng = rng
        self._cycle = self._begun = 0
        self._last_group: tuple[int, int, tuple[int, ...]] = (NEVER, 0, ())  # cycle, epoch, members of the own last success
        self._new_round()

    @staticmethod
    def round_ticks(settings: CentralSettings) -> int:
        """Ticks from the start of a round to its last deliveries."""
        return settings.delta + ATTEMPT_TICKS * settings.attempts + 1

    @property
    def ticks(self) -> int:
        return self.round_ticks(self.settings)

    @property
    def group_members(self) -> tuple[int, ...]:
        """The members of the group this node entered last in this round."""
        return self._group.members

    def _new_round(self) -> None:
        self._asked: frozenset[int] = frozenset()
        self._answers: dict[int, np.ndarray] = {}
        self._models: dict[int, np.ndarray] = {}
        self._average: np.ndarray | None = None
        self._suspects: set[int] = set()
        self._attempt = 0
        self._coordinator = -1
        self._promises: dict[int, int] = {}
        self._group: EnterGroup | None = None

    # Start of a round.

    def begin(self, tick: int, cycle: int) -> list[Action]:
        """Start a round: as a hub if the overlay says so, else as a client."""
        self._cycle, self._begun = cycle, tick
        self._new_round()
        self.round = Round()
        if self.overlay.is_hub():
            self.phase, self.wake = Phase.COLLECTING, tick + self.settings.delta
            return []
        self.phase, self.wake = Phase.TRAINING, NEVER
        return [Train(self.model)]

    def trained(self, event: Trained) -> list[Action]:
        """Client: the own model is trained; send it."""
        self.model = event.model
        hubs = self.overlay.hubs()
        chosen = self._rng.sample(hubs, min(self.settings.fanout, len(hubs)))
        self._asked = frozenset(chosen)
        self.round = self.round._replace(sent=event.model)
        self.phase, self.wake = Phase.AWAITING, self._begun + self.ticks
        return [self._to(hub, event.tick, Kind.MODEL, event.model) for hub in sorted(chosen)]

    def _to(self, target: int, tick: int, kind: Kind, payload=None, number: int = 0) -> Message:
        return Message(kind, self.node, target, self._cycle, tick, payload, number)

    # Deliveries.

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Take what arrived; a message of another cycle, or one that nobody here waits for, has no effect."""
        actions: list[Action] = []
        offers: list[int] = []
        for message in messages:
            if message.cycle != self._cycle:
                continue
            kind = message.kind
            if kind == Kind.MODEL and self.phase is Phase.COLLECTING:
                self._models[message.source] = message.payload
            elif kind == Kind.GLOBAL_MODEL and self.phase is Phase.AWAITING and message.source in self._asked:
                self._answers[message.source] = message.payload
            elif kind == Kind.GROUP_PROPOSE and self.phase is Phase.ELECTING:
                offers.append(message.source)
            elif kind == Kind.GROUP_PROMISE and self.phase is Phase.PROPOSED:
                self._promises[message.source] = message.number
            elif kind == Kind.GROUP_COMMIT and self.phase is Phase.PROMISED and message.source == self._coordinator:
                actions.append(self._enter_as_member(message))
        if offers:
            actions.append(self._promise(tick, min(offers)))
        if self._answers and len(self._answers) == len(self._asked):
            self._take_over()
        return actions

    def _take_over(self) -> None:
        """Client: the plain average of the global models that came; none came: keep the own model."""
        answered = tuple(sorted(self._answers))
        if answered:
            self.model = mean_in_order([self._answers[hub] for hub in answered]) if len(answered) > 1 else self._answers[answered[0]]
            self.updated_in = self._cycle
        self.round = self.round._replace(answered=answered, kept=self.model)
        self._answers = {}
        self.phase, self.wake = Phase.IDLE, NEVER

    # Deadlines.

    def alarm(self, tick: int) -> list[Action]:
        """A deadline has come."""
        phase = self.phase
        if phase is Phase.AWAITING:
            self._take_over()
            return []
        if phase is Phase.COLLECTING:
            self._close_collection()
            return self._next_attempt(tick)
        if phase is Phase.PROPOSED:
            return self._commit(tick)
        if phase is Phase.COMMITTED:
            return self._enter_as_coordinator(tick)
        if phase is Phase.ELECTING or phase is Phase.PROMISED:
            self._suspects.add(self._coordinator)
        if phase in (Phase.ELECTING, Phase.PROMISED, Phase.BROKEN):
            self._attempt += 1
            return self._next_attempt(tick)
        return []

    def _close_collection(self) -> None:
        contributors = tuple(sorted(self._models))
        self._average = mean_in_order([self._models[client] for client in contributors])
        self.round = self.round._replace(contributors=contributors, average=self._average)

    # Agreement.

    def _attempt_end(self) -> int:
        return self._begun + self.settings.delta + ATTEMPT_TICKS * (self._attempt + 1)

    def _next_attempt(self, tick: int) -> list[Action]:
        if self._attempt >= self.settings.attempts:
            return self._without_others(tick, "alone")
        believed = [hub for hub in sorted(self.overlay.hubs()) if hub not in self._suspects]
        # With everybody under suspicion there is nobody to wait for.
        self._coordinator = believed[0] if believed else self.node
        if self._coordinator != self.node:
            self.phase, self.wake = Phase.ELECTING, self._attempt_end()
            return []
        others = [hub for hub in sorted(self.overlay.hubs()) if hub != self.node]
        if not others:
            return self._without_others(tick, "solo")
        self._promises = {}
        self.phase, self.wake = Phase.PROPOSED, tick + 2
        return [self._to(hub, tick, Kind.GROUP_PROPOSE, number=self._attempt) for hub in others]

    def _weight(self) -> int:
        """What the own average counts: nothing without models, else 1 or the number of models behind it."""
        return len(self._models) if self.settings.weight_by_models else min(1, len(self._models))

    def _promise(self, tick: int, coordinator: int) -> Message:
        self._coordinator = coordinator
        self.phase, self.wake = Phase.PROMISED, self._attempt_end()
        return self._to(coordinator, tick, Kind.GROUP_PROMISE, number=self._weight())

    def _commit(self, tick: int) -> list[Action]:
        """Coordinator: the group is whoever promised."""
        if not self._promises:
            return self._without_others(tick, "solo")
        weight_of = {**self._promises, self.node: self._weight()}
        members = tuple(sorted(weight_of))
        weights = tuple(weight_of[member] for member in members)

        # The epoch lives on while the same members succeed cycle after cycle: the world keeps their communicator.
        last_cycle, epoch, last_members = self._last_group
        reused = last_members == members and last_cycle == self._cycle - 1
        if not reused:
            epoch = self._new_epoch()
        self._group = EnterGroup(epoch, members, weights, self._contribution(), reused)
        self.phase, self.wake = Phase.COMMITTED, tick + 1
        return [
            self._to(member, tick, Kind.GROUP_COMMIT, members + weights, epoch * 2 + reused) for member in members if member != self.node
        ]

    def _new_epoch(self) -> int:
        # Unique: a coordinator commits at most one group in an attempt of a cycle.
        return (self._cycle * (self.settings.attempts + 1) + self._attempt) * self.settings.nodes + self.node

    def _contribution(self) -> np.ndarray:
        return self._average if self._average is not None else np.zeros_like(self.model)

    def _enter_as_coordinator(self, tick: int) -> list[Action]:
        self.phase, self.wake = Phase.ENTERED, NEVER
        return [self._group]

    def _enter_as_member(self, commit: Message) -> EnterGroup:
        members, weights = split_commit(commit)
        epoch, reused = divmod(commit.number, 2)
        self._group = EnterGroup(epoch, members, weights, self._contribution(), bool(reused))
        self.phase, self.wake = Phase.ENTERED, NEVER
        return self._group

    # Outcome.

    def averaged(self, event: GroupAveraged) -> list[Action]:
        """The group's average is here."""
        group = self._group
        if self.phase is not Phase.ENTERED or event.epoch != group.epoch:
            return []
        self._last_group = (self._cycle, group.epoch, group.members) if self._coordinator == self.node else (NEVER, 0, ())
        self.round = self.round._replace(members=group.members, weights=group.weights)
        return [self._report("averaged" if event.vector is not None else "empty"), *self._finish(event.tick, event.vector)]

    def abandoned(self, event: GroupAbandoned) -> list[Action]:
        """The reduction broke: somebody fell silent inside. Try again when the attempt ends."""
        if self.phase is not Phase.ENTERED or event.epoch != self._group.epoch:
            return []
        self._last_group = (NEVER, 0, ())
        self.phase, self.wake = Phase.BROKEN, self._attempt_end()
        report = self._report("abandoned")
        return [report] if event.tick < self.wake else [report, *self.alarm(event.tick)]

    def _report(self, outcome: str) -> GroupReport:
        group = self._group
        return GroupReport(self._attempt, group.epoch, self._coordinator, outcome, group.reused, self._weight(), group.members)

    def _without_others(self, tick: int, outcome: str) -> list[Action]:
        """Go on with the own average. 'solo': no other hub that this one believes in has promised; 'alone': no attempt is left."""
        epoch = self._new_epoch()
        report = GroupReport(self._attempt, epoch, self.node, outcome, False, self._weight(), (self.node,))
        return [report, *self._finish(tick, self._average)]

    def _finish(self, tick: int, result: np.ndarray | None) -> list[Action]:
        """Keep the global model and send it to the clients that contributed. Without one there is nothing to say."""
        self.phase, self.wake = Phase.IDLE, NEVER
        self.round = self.round._replace(result=result)
        if result is None:
            return []
        self.model, self.updated_in = result, self._cycle
        return [self._to(client, tick, Kind.GLOBAL_MODEL, result) for client in sorted(self._models)]


def split_commit(commit: Message) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The members and their weights out of a GROUP_COMMIT."""
    half = len(commit.payload) // 2
    return tuple(commit.payload[:half]), tuple(commit.payload[half:])
