"""The central rule: hubs or servers average their clients' models, then among themselves. HEAL, FedAvg, Gaia.

Source: [HEAL] arXiv 2605.27475 and [THESIS] chapter 6; [FL] McMahan et al. 2017 is the same with one server that never
changes, [GAIA] Hsieh et al. 2017 with several. Who is a hub is the overlay's business. In a cycle a client trains, sends its
model to `fanout` of its hubs and takes over the average of the global models that come back; a hub does not train: it
averages what it got until `delta`, agrees with the other hubs on a group (agreement.py), averages in it and answers its clients.

[FL] weighs models by n_k / n, the share of the samples that they were trained on; [HEAL] counts each once. `weighting` says which: with
'samples' a model's message carries the size of its sender's shard. `control_variates` makes SCAFFOLD of it (variates.py).
Ticks after the start of the round:

    client                                    hub
    0           train, MODEL to s hubs        collect
    d           wait                          average what came; then attempt after attempt to average among hubs
    ...                                       averaged: GLOBAL_MODEL to the clients
    last        take the average of what came, or keep the own model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, ClassVar

import numpy as np

from healmpi.algorithms import agreement
from healmpi.algorithms.agreement import ATTEMPT_TICKS, Agreement
from healmpi.algorithms.fanout import check_fanout, fanout_option
from healmpi.algorithms.records import CentralRecord
from healmpi.algorithms.variates import ControlVariates
from healmpi.messages import GROUP_REDUCTION, MODEL, Kind, Message, kind
from healmpi.node import HUBS, NEVER, Action, GroupAbandoned, GroupAveraged, Rule, Setup, Train, Trained
from healmpi.settings import Section, option

GLOBAL_MODEL = kind("global_model", carries_model=True)
"""A hub's or server's global model for a client."""

DEFAULT_ATTEMPTS, MOST_ATTEMPTS = 3, 100

BY_HUBS, BY_MODELS, BY_SAMPLES = "hubs", "models", "samples"

HEAVIEST = 2**31 - 1
"""What averages count among hubs travels as ids do, in 32 bits."""


@dataclass(frozen=True, slots=True)
class CentralSettings(Section):
    """fanout: s. weighting: of hub averages. delta_ticks: delta. group_attempts: in a cycle."""

    title: ClassVar[str] = "rule"
    fanout: int = fanout_option()
    weighting: str = option(
        BY_HUBS,
        "Central rule. 'hubs': each model and each hub average counts once, as HEAL has it; 'models': hub averages by the models behind "
        "them; 'samples': models by the samples of the shards that they were trained on, as FedAvg's n_k / n, and hub averages by all "
        "samples behind them.",
        choices=(BY_HUBS, BY_MODELS, BY_SAMPLES),
    )
    delta_ticks: int = option(1, "delta: ticks a hub waits for models after the overlay step.", low=1, high=10_000)
    group_attempts: int = option(
        0,
        "Attempts in a cycle to agree on a hub group and to average in it. 0: 3, or one a server where there are more.",
        low=0,
        high=MOST_ATTEMPTS,
    )
    control_variates: bool = option(
        False,
        "Central rule: SCAFFOLD. Clients correct their gradients by control variates, which travel with their models. Plain SGD only.",
    )


class Phase(Enum):
    """Where a node stands in its round."""

    IDLE = auto()  # no round, or done with it
    TRAINING = auto()  # client: until the learner is done
    AWAITING = auto()  # client: until the global models are here, or the deadline
    COLLECTING = auto()  # hub: until delta
    AGREEING = auto()  # hub: until the hubs' average is here, or no attempt is left


class Central(Rule):
    """Clients train, hubs or servers average."""

    name: ClassVar[str] = "central"
    Settings: ClassVar[type[Section]] = CentralSettings
    needs: ClassVar[str] = HUBS
    kinds: ClassVar[tuple[Kind, ...]] = (MODEL, GLOBAL_MODEL, *agreement.KINDS, GROUP_REDUCTION)
    fleeting: ClassVar[frozenset[str]] = frozenset(("phase", "_asked", "_answers", "_models", "_weights"))

    @classmethod
    def resolve(cls, settings: CentralSettings, topology: Any) -> CentralSettings:
        servers = topology.hubs_wanted if topology.static else 0
        attempts = settings.group_attempts or min(MOST_ATTEMPTS, max(DEFAULT_ATTEMPTS, servers))
        settings = replace(settings, fanout=settings.fanout or 1, group_attempts=attempts)
        check_fanout(settings, topology, HUBS)
        return settings

    @classmethod
    def check_learner(cls, settings: CentralSettings, rate: float | None) -> None:
        if settings.control_variates and rate is None:
            needed = "learner.optimizer = 'sgd', learner.momentum = 0 and learner.proximal = 0"
            why = "a control variate is the mean gradient of a job, which only plain steps tell: (x - y) / (K * learning_rate)"
            raise settings.refusal("control_variates", f"false unless {needed}: {why}")

    @classmethod
    def vector_size(cls, settings: CentralSettings, model_size: int) -> int:
        return 2 * model_size if settings.control_variates else model_size

    @classmethod
    def check_samples(cls, settings: CentralSettings, samples: int) -> None:
        if settings.weighting == BY_SAMPLES and samples > HEAVIEST:
            allowed = f"{BY_HUBS!r} or {BY_MODELS!r} with {samples} training samples: weights have 32 bits, at most {HEAVIEST} in all"
            raise settings.refusal("weighting", allowed)

    @classmethod
    def round_ticks(cls, settings: CentralSettings) -> int:
        return settings.delta_ticks + ATTEMPT_TICKS * settings.group_attempts + 1

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self._settings = setup.settings
        self.variates = ControlVariates(len(setup.model)) if setup.settings.control_variates else None
        self._rate, self._vector_size = setup.rate, self.vector_size(setup.settings, len(setup.model))
        self._counts = setup.samples if setup.settings.weighting == BY_SAMPLES else 1
        self.phase = Phase.IDLE
        self.record = CentralRecord()
        self.agreement = Agreement(setup.node, setup.nodes, setup.settings.group_attempts, setup.overlay)
        self._cycle = self._begun = 0
        self._new_round()

    def _new_round(self) -> None:
        self._asked: frozenset[int] = frozenset()
        self._answers: dict[int, np.ndarray] = {}
        self._models: dict[int, np.ndarray] = {}
        self._weights: dict[int, int] = {}

    # Start of a round.

    def begin(self, tick: int, cycle: int) -> list[Action]:
        """Start a round: as a hub if the overlay says so, else as a client."""
        self._cycle, self._begun = cycle, tick
        self._new_round()
        self.record = CentralRecord()
        if self.overlay.is_hub():
            self.phase, self.wake = Phase.COLLECTING, tick + self._settings.delta_ticks
            return []
        self.phase, self.wake = Phase.TRAINING, NEVER
        return [Train(self.model, self.variates.correction() if self.variates else None)]

    def trained(self, event: Trained) -> list[Action]:
        """Client: the own model is trained; send it, with the control variate if there are any."""
        start, self.model = self.model, event.model
        vector = self.variates.close(start, event.model, event.steps, self._rate) if self.variates else event.model
        hubs = self.overlay.hubs()
        chosen = self.rng.sample(hubs, min(self._settings.fanout, len(hubs)))
        self._asked = frozenset(chosen)
        self.record = self.record._replace(sent=vector, counts=self._counts)
        self.phase, self.wake = Phase.AWAITING, self._begun + self.round_ticks(self._settings)
        number = self._counts if self._settings.weighting == BY_SAMPLES else 0
        return [Message(MODEL, self.node, hub, self._cycle, event.tick, vector, number) for hub in sorted(chosen)]

    # Deliveries.

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Take what arrived; a message of another cycle, or one that nobody here waits for, has no effect."""
        rest = []
        for message in messages:
            if message.cycle != self._cycle:
                continue
            if message.kind == MODEL:
                if self.phase is Phase.COLLECTING:
                    self._models[message.source] = message.payload
                    self._weights[message.source] = message.number or 1
            elif message.kind == GLOBAL_MODEL:
                if self.phase is Phase.AWAITING and message.source in self._asked:
                    self._answers[message.source] = message.payload
            else:
                rest.append(message)
        if self._answers and len(self._answers) == len(self._asked):
            self._take_over()
        return self._agree(tick, self.agreement.receive(tick, rest)) if rest and self.phase is Phase.AGREEING else []

    def _take_over(self) -> None:
        """Client: the average of the global models that came; none came: keep the own model."""
        answered, vector = tuple(sorted(self._answers)), self.record.sent
        if answered:
            vectors = [self._answers[hub] for hub in answered]
            vector = self.average(vectors) if len(vectors) > 1 else vectors[0]
            self._hold(vector)
        elif self.variates:
            self.variates.miss()
        self.record = self.record._replace(answered=answered, kept=vector)
        self._answers = {}
        self.phase, self.wake = Phase.IDLE, NEVER

    def _hold(self, vector: np.ndarray) -> None:
        """A global model is the own one from now on."""
        self.model = self.variates.take(vector) if self.variates else vector
        self.updated_in = self._cycle

    # Deadlines.

    def alarm(self, tick: int) -> list[Action]:
        """A deadline has come."""
        if self.phase is Phase.AWAITING:
            self._take_over()
            return []
        if self.phase is Phase.COLLECTING:
            return self._close_collection(tick)
        return self._agree(tick, self.agreement.alarm(tick)) if self.phase is Phase.AGREEING else []

    def _close_collection(self, tick: int) -> list[Action]:
        """Hub: average what came, and turn to the other hubs."""
        contributors = tuple(sorted(self._models))
        weights = [self._weights[client] for client in contributors]
        average = self.average([self._models[client] for client in contributors], weights)
        # Nothing without models, else 1, or the number of models or samples behind the average.
        weight = min(1, len(contributors)) if self._settings.weighting == BY_HUBS else sum(weights)
        self.record = self.record._replace(contributors=contributors, average=average, weight=weight)
        self.phase = Phase.AGREEING
        return self._agree(tick, self.agreement.begin(tick, self._cycle, average, weight, self._vector_size))

    # The hubs' average.

    def averaged(self, event: GroupAveraged) -> list[Action]:
        return self._agree(event.tick, self.agreement.averaged(event)) if self.phase is Phase.AGREEING else []

    def abandoned(self, event: GroupAbandoned) -> list[Action]:
        return self._agree(event.tick, self.agreement.abandoned(event)) if self.phase is Phase.AGREEING else []

    def _agree(self, tick: int, actions: list[Action]) -> list[Action]:
        """Do what the agreement wants, and end the round if it has ended."""
        self.wake = self.agreement.wake
        if self.agreement.phase is not agreement.Phase.ENDED:
            return actions
        group = self.agreement.group
        if group is not None:
            self.record = self.record._replace(members=group.members, weights=group.weights)
        return [*actions, *self._finish(tick, self.agreement.result)]

    def _finish(self, tick: int, result: np.ndarray | None) -> list[Action]:
        """Keep the global model and send it to the clients that contributed. Without one there is nothing to say."""
        self.phase, self.wake = Phase.IDLE, NEVER
        self.record = self.record._replace(result=result)
        if result is None:
            return []
        self._hold(result)
        return [Message(GLOBAL_MODEL, self.node, client, self._cycle, tick, result) for client in sorted(self._models)]
