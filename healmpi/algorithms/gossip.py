"""Gossip learning: a node sends its model to one random peer; who receives models merges them with its own, then trains.

Source: [GL] Ormandi et al. 2013 and Hegedus et al. 2021, as heal.md section 4 restates it. Ticks after the start of the round:

    0  MODEL to `fanout` random peers
    1  merge what came by averaging, then train

Merging: all models count alike, the own one included, or each by its age, the number of trainings behind it (Hegedus et
al. 2021); a merged model is as old as the oldest in it. The rule that surprises: a node to which nothing came trains all the
same, once in a cycle. In the publication a training follows each model that arrives, which is one a cycle in the mean.
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
class GossipSettings:
    """fanout: peers a model is sent to. by_age: whether models count by the trainings behind them."""

    fanout: int = 1
    by_age: bool = False


class Gossip:
    """One node's learning. model: float32 [size], replaced, never changed in place. age: trainings behind it."""

    ticks = 1

    def __init__(self, node: int, settings: GossipSettings, overlay: Overlay, model: np.ndarray, rng: random.Random):
        self.node, self.settings, self.overlay, self.model = node, settings, overlay, model
        self.wake = NEVER
        self.age = 0
        self.updated_in: int | None = None  # the cycle in which another node's model was merged last
        self.round = Exchange()
        self._rng = rng
        self._cycle = 0
        self._received: dict[int, Message] = {}

    def begin(self, tick: int, cycle: int) -> list[Action]:
        """Send the model as it is."""
        self._cycle, self._received = cycle, {}
        self.wake = tick + 1
        self.round = Exchange(sent=self.model)
        peers = self.overlay.peers()
        chosen = self._rng.sample(peers, min(self.settings.fanout, len(peers)))
        return [Message(Kind.MODEL, self.node, peer, cycle, tick, self.model, self.age) for peer in sorted(chosen)]

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Keep the models of this cycle until they are merged."""
        if self.wake != NEVER:
            self._received.update({one.source: one for one in messages if one.kind == Kind.MODEL and one.cycle == self._cycle})
        return []

    def alarm(self, tick: int) -> list[Action]:
        """Merge, then train."""
        self.wake = NEVER
        self._merge()
        return [Train(self.model)]

    def _merge(self) -> None:
        models = {source: one.payload for source, one in self._received.items()} | {self.node: self.model}
        ages = {source: one.number for source, one in self._received.items()} | {self.node: self.age}
        sources = tuple(sorted(models))
        # Before anybody has trained all ages are 0, and all models count alike.
        weighed = self.settings.by_age and any(ages.values())
        weights = tuple(ages[source] if weighed else 1 for source in sources)
        if self._received:
            self.model = mean_in_order([models[source] for source in sources], weights)
            self.age = max(ages.values())
            self.updated_in = self._cycle
        self.round = self.round._replace(sources=sources, weights=weights, result=self.model)
        self._received = {}

    def trained(self, event: Trained) -> list[Action]:
        """The round is over."""
        self.model = event.model
        self.age += 1
        return []

    def averaged(self, event: GroupAveraged) -> list[Action]:
        """There are no groups."""
        return []

    def abandoned(self, event: GroupAbandoned) -> list[Action]:
        """There are no groups."""
        return []
