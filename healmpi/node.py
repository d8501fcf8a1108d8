"""A node: one overlay and one learning rule behind a single call, `handle(event) -> actions`.

A node decides, the world acts: nothing here sends, trains, waits or reads a clock, so the whole protocol runs in a test,
in one process, or over MPI without a change (the way of etcd's raft and of h11). Time is ticks: whatever is sent in tick
t arrives in t + 1 (the world's clock has it so). A cycle starts at a tick that the host announces:

    start .. start + overlay.ticks            the overlay's step, at its `offsets`
    start + overlay.ticks ..                  the rule's round, which begins when the overlay's view is new

Deliveries of a tick come before deadlines of that tick, so what arrives on the deadline counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from healmpi.messages import MODEL, Kind, Message
from healmpi.settings import NoSettings, Section
from healmpi.state import Stateful

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
    """Local training has ended. model: float32 [size]. steps: how many it took."""

    tick: int
    model: np.ndarray
    steps: int = 0


class GroupAveraged(NamedTuple):
    """The hub group's average. vector: float32 [size], or None when no member brought any model. members: how many they were."""

    tick: int
    epoch: int
    vector: np.ndarray | None
    members: int = 0


class GroupAbandoned(NamedTuple):
    """The reduction was given up at its deadline: a member did not take part. Members that never entered are told, too."""

    tick: int
    epoch: int


Event = CycleStarted | Step | Trained | GroupAveraged | GroupAbandoned


# Actions: what a node wants done. A Message among the actions is to be sent.


class Train(NamedTuple):
    """Train this model on the node's own shard. model: float32 [size]. correction: the same, added to each gradient, or None."""

    model: np.ndarray
    correction: np.ndarray | None = None


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


# What a node is made of. A user's own overlays and rules come in here, too (docs/extending.md).


PEERS, HUBS, ALONE = "peers", "hubs", "alone"
"""What a rule asks of a topology: peers of equal standing; hubs or servers; that its overlay is worth running alone."""


class Overlay(Stateful):
    """One node's part of a topology: the node's view of the others, kept up to date by messages.

    view: the ids that it knows. offsets: ticks after the start of a cycle in which it must be called. ticks: how long its step in a
    cycle takes. kinds: of the messages that are for it. What is not overridden says that it is passive, and that there are no hubs.
    """

    __slots__ = ()

    offsets: ClassVar[Sequence[int]] = ()
    ticks: ClassVar[int] = 0
    kinds: ClassVar[frozenset[Kind]] = frozenset()
    view: tuple[int, ...]

    def advance(self, offset: int, tick: int, cycle: int) -> list[Message]:
        """Act at one of `offsets`. Returns the messages to send, as `receive` does."""
        return []

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Message]:
        """Take in what arrived, by ascending source."""
        return []

    def hubs(self) -> tuple[int, ...]:
        """The hubs or servers this node believes in, its own id included if it is one."""
        return ()

    def is_hub(self) -> bool:
        """Whether it counts itself among them."""
        return False

    def peers(self) -> tuple[int, ...]:
        """Those it can exchange models with, without itself."""
        return self.view


class Setup(NamedTuple):
    """What a rule is made with. nodes: in the run. settings: the rule's own, resolved. model: float32 [size], to start from.

    rng: random.Random, this node's stream for learning. average: algorithms.averaging.Average, how models are averaged. samples: in the
    node's shard, whoever is in its slot. rate: see `Rule.check_learner`; 0.0: None there.
    """

    node: int
    nodes: int
    settings: Any
    overlay: Overlay
    model: np.ndarray
    rng: Any
    average: Any
    samples: int = 1
    rate: float = 0.0


class Rule(Stateful):
    """One node's learning round: who trains, who averages what.

    name: of one that is shipped. Settings: its options. needs: what it asks of a topology. learns: False where there is nothing to
    learn. kinds: of all messages that it sends. ticks: how long a round can take, where no option decides that (`round_ticks`). model:
    float32 [size], replaced and never changed in place. wake: the next tick it must be called at. updated_in: the cycle in which others'
    models were taken in last. record: what it did in this cycle, for the audit (algorithms/records.py); None: nothing is audited.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type[Section]] = NoSettings
    needs: ClassVar[str] = PEERS
    learns: ClassVar[bool] = True
    kinds: ClassVar[tuple[Kind, ...]] = (MODEL,)
    ticks: ClassVar[int] = 1

    fleeting: ClassVar[frozenset[str]] = frozenset(("overlay", "record"))

    model: np.ndarray
    wake: int = NEVER
    updated_in: int | None = None
    record: Any = None

    def __init__(self, setup: Setup):
        self.node, self.settings, self.overlay, self.model = setup.node, setup.settings, setup.overlay, setup.model
        self.rng, self.average = setup.rng, setup.average

    @classmethod
    def resolve(cls, settings: Any, topology: Any) -> Any:
        """The settings with every "choose for me" replaced. topology: overlay.topology.Topology. Raises UsageError."""
        return settings

    @classmethod
    def check_learner(cls, settings: Any, rate: float | None) -> None:
        """Raise UsageError: it cannot be used with this learner. rate: where a step is -rate * gradient, plainly; None: it is not."""

    @classmethod
    def vector_size(cls, settings: Any, model_size: int) -> int:
        """Floats in what it sends as a model and what hubs average. model_size: floats in a model."""
        return model_size

    @classmethod
    def check_samples(cls, settings: Any, samples: int) -> None:
        """Raise UsageError: it cannot be used with so many training samples in all."""

    @classmethod
    def round_ticks(cls, settings: Any) -> int:
        """Ticks from the start of a round to its last deliveries."""
        return cls.ticks

    def begin(self, tick: int, cycle: int) -> list[Action]:
        """Start a round."""
        raise NotImplementedError

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Take in what arrived, by ascending source."""
        return []

    def alarm(self, tick: int) -> list[Action]:
        """`wake` has come."""
        return []

    def trained(self, event: Trained) -> list[Action]:
        """Local training, asked for with Train, has ended."""
        return []

    def averaged(self, event: GroupAveraged) -> list[Action]:
        """The average of the hub group, asked for with EnterGroup, is here."""
        return []

    def abandoned(self, event: GroupAbandoned) -> list[Action]:
        """The hub group was given up."""
        return []


class Node(Stateful):
    """One participant. wake: the next tick in which it must be called even if nothing arrives."""

    __slots__ = ("_cycle", "_offset", "_round", "_start", "id", "overlay", "rule", "wake")

    def __init__(self, node: int, overlay: Overlay, rule: Rule | None):
        self.id, self.overlay, self.rule = node, overlay, rule
        self.wake = NEVER
        self._start = self._cycle = 0
        self._offset = 0  # index of the overlay's next offset
        self._round = NEVER  # the tick in which the rule's next round starts

    # What the layers above may ask.

    @property
    def view(self) -> tuple[int, ...]:
        """The ids that it knows."""
        return self.overlay.view

    @property
    def is_hub(self) -> bool:
        """Whether it counts itself a hub or server."""
        return self.overlay.is_hub()

    @property
    def model(self) -> np.ndarray | None:
        """float32 [size]; None where nothing is learnt."""
        return None if self.rule is None else self.rule.model

    @property
    def record(self) -> Any:
        """What its rule did in this cycle, for the audit; None: nothing to audit."""
        return None if self.rule is None else self.rule.record

    @property
    def updated_in(self) -> int | None:
        """The cycle in which it took in others' models last."""
        return None if self.rule is None else self.rule.updated_in

    @property
    def has_ended_its_round(self) -> bool:
        """Whether it waits for nothing."""
        return self.rule is None or self.rule.wake == NEVER

    def handle(self, event: Event) -> list[Action]:
        """Take one event, return what is to be done. Ticks must not go back."""
        kind = type(event)
        if kind is Step:
            return self._step(cast(Step, event))
        if kind is CycleStarted:
            return self._begin(cast(CycleStarted, event))
        rule: Any = self.rule
        call = {Trained: rule.trained, GroupAveraged: rule.averaged, GroupAbandoned: rule.abandoned}[kind]
        actions = call(event)
        self._set_wake()
        return actions

    def _begin(self, event: CycleStarted) -> list[Action]:
        self._start, self._cycle = event.tick, event.cycle
        self._round = event.tick + self.overlay.ticks if event.learn and self.rule is not None else NEVER
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
        if rule is not None:
            if tick == self._round:
                self._round = NEVER
                actions += rule.begin(tick, self._cycle)
            elif tick >= rule.wake:
                actions += rule.alarm(tick)
        self._set_wake()
        return actions

    def _set_wake(self) -> None:
        offsets, rule = self.overlay.offsets, self.rule
        step = self._start + offsets[self._offset] if self._offset < len(offsets) else NEVER
        self.wake = min(step, self._round, rule.wake if rule is not None else NEVER)
