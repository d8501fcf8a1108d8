"""Epidemic learning: train, send the model to peers, average what came with the own model.

Source: [EL] de Vos et al. 2023, algorithm 1, as heal.md section 4 restates it; on a static graph this is decentralized SGD with
equal weights, which the publication runs on a ring, Chord and FedLay. Ticks after the start of the round:

    0  train, MODEL to all peers, or to `fanout` random ones
    1  average what came and the own model

A node averages what came, however little: the dead are not waited for and not made up for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from healmpi.algorithms.fanout import PEERS_ENOUGH, check_fanout, chosen, fanout_option
from healmpi.algorithms.records import PeerRecord
from healmpi.messages import MODEL, Message
from healmpi.node import NEVER, PEERS, Action, Rule, Setup, Train, Trained
from healmpi.settings import Section


@dataclass(frozen=True, slots=True)
class EpidemicSettings(Section):
    """fanout: peers a model is sent to; 0: all."""

    title: ClassVar[str] = "rule"
    fanout: int = fanout_option()


class Epidemic(Rule):
    """Train, then average with what came from peers."""

    name: ClassVar[str] = "epidemic"
    Settings: ClassVar[type[Section]] = EpidemicSettings
    fleeting: ClassVar[frozenset[str]] = frozenset(("_received",))

    @classmethod
    def resolve(cls, settings: EpidemicSettings, topology: Any) -> EpidemicSettings:
        if not settings.fanout and topology.abundant:
            settings = replace(settings, fanout=min(PEERS_ENOUGH, topology.view_size))
        check_fanout(settings, topology, PEERS)
        return settings

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self._fanout = setup.settings.fanout
        self.record = PeerRecord()
        self._cycle = self._begun = 0
        self._received: dict[int, np.ndarray] = {}

    def begin(self, tick: int, cycle: int) -> list[Action]:
        self._cycle, self._begun, self._received = cycle, tick, {}
        self.wake = NEVER
        self.record = PeerRecord()
        return [Train(self.model)]

    def trained(self, event: Trained) -> list[Action]:
        self.model = event.model
        self.wake = self._begun + 1
        self.record = PeerRecord(sent=self.model)
        peers = chosen(self.overlay.peers(), self._fanout, self.rng)
        return [Message(MODEL, self.node, peer, self._cycle, event.tick, self.model) for peer in peers]

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Keep the models of this cycle until they are averaged."""
        if self.wake != NEVER:
            self._received.update({one.source: one.payload for one in messages if one.kind == MODEL and one.cycle == self._cycle})
        return []

    def alarm(self, tick: int) -> list[Action]:
        """Average, in ascending order of nodes, the own model in its place."""
        self.wake = NEVER
        models = self._received | {self.node: self.model}
        sources = tuple(sorted(models))
        if self._received:
            self.model = self.average([models[source] for source in sources])
            self.updated_in = self._cycle
        self.record = self.record._replace(sources=sources, weights=(1,) * len(sources), result=self.model)
        self._received = {}
        return []
