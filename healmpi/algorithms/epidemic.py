"""Epidemic learning: train, send the model to peers, average what came with the own model.

Source: [EL] de Vos et al. 2023, algorithm 1, as heal.md section 4 restates it; on a static graph this is decentralized SGD with
equal weights, which the publication runs on a ring, Chord and FedLay. Ticks after the start of the round:

    0  train, MODEL to all peers, or to `fanout` random ones
    1  average what came and the own model

The rule that surprises: a node averages what came, however little. The dead are not waited for and not made up for.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from healmpi.algorithms.averaging import Exchange, mean_in_order
from healmpi.messages import Kind, Message
from healmpi.node import NEVER, Action, GroupAbandoned, GroupAveraged, Overlay, Train, Trained


@dataclass(frozen=True, slots=True)
class EpidemicSettings:
    """fanout: peers a model is sent to; 0: all."""

    fanout: int = 0


class Epidemic:
    """One node's learning. model: float32 [size], replaced, never changed in place."""

    ticks = 1

    def __init__(self, node: int, settings: EpidemicSettings, overlay: Overlay, model: np.ndarray, rng: random.Random):
        self.node, self.settings, self.overlay, self.model = node, settings, overlay, model
        self.wake = NEVER
        self.updated_in: int | None = None  # the cycle in which another node's model was averaged in last
        self.round = Exchange()
        self._rng = rng
        self._cycle = self._begun = 0
        self._received: dict[int, np.ndarray] = {}

    def begin(self, tick: int, cycle: int) -> list[Action]:
        """Train first."""
        self._cycle, self._begun, self._received = cycle, tick, {}
        self.wake = NEVER
        self.round = Exchange()
        return [Train(self.model)]

    def trained(self, event: Trained) -> list[Action]:
        """Send what was learnt."""
        self.model = event.model
        self.wake = self._begun + 1
        self.round = Exchange(sent=self.model)
        return [Message(Kind.MODEL, self.node, peer, self._cycle, event.tick, self.model) for peer in self._chosen()]

    def _chosen(self) -> Sequence[int]:
        peers, fanout = self.overlay.peers(), self.settings.fanout
        return peers if not 0 < fanout < len(peers) else sorted(self._rng.sample(peers, fanout))

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Keep the models of this cycle until they are averaged."""
        if self.wake != NEVER:
            self._received.update({one.source: one.payload for one in messages if one.kind == Kind.MODEL and one.cycle == self._cycle})
        return []

    def alarm(self, tick: int) -> list[Action]:
        """Average, in ascending order of nodes, the own model in its place."""
        self.wake = NEVER
        models = self._received | {self.node: self.model}
        sources = tuple(sorted(models))
        if self._received:
            self.model = mean_in_order([models[source] for source in sources])
            self.updated_in = self._cycle
        self.round = self.round._replace(sources=sources, weights=(1,) * len(sources), result=self.model)
        self._received = {}
        return []

    def averaged(self, event: GroupAveraged) -> list[Action]:
        """There are no groups."""
        return []

    def abandoned(self, event: GroupAbandoned) -> list[Action]:
        """There are no groups."""
        return []
