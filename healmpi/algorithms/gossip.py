"""Gossip learning: a node sends its model to one random peer; who receives models merges them with its own, then trains.

Source: [GL] Ormandi et al. 2013 and Hegedus et al. 2021, as heal.md section 4 restates it. Ticks after the start of the round:

    0  MODEL to `fanout` random peers
    1  merge what came by averaging, then train

Merging: all models count alike, the own one included, or each by its age, the number of trainings behind it (Hegedus et
al. 2021); a merged model is as old as the oldest in it. A node to which nothing came trains all the same, once in a cycle. In
the publication a training follows each model that arrives, which is one a cycle in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from healmpi.algorithms.fanout import check_fanout, fanout_option
from healmpi.algorithms.records import PeerRecord
from healmpi.messages import MODEL, Message
from healmpi.node import NEVER, PEERS, Action, Rule, Setup, Train, Trained
from healmpi.settings import Section, option

PLAIN, AGE = "plain", "age"


@dataclass(frozen=True, slots=True)
class GossipSettings(Section):
    """fanout: peers a model is sent to. merge: how models count."""

    title: ClassVar[str] = "rule"
    fanout: int = fanout_option()
    merge: str = option(
        PLAIN,
        "Gossip: 'plain', all models count alike; 'age': by the number of trainings behind them, as in Gossip Learning.",
        choices=(PLAIN, AGE),
    )


class Gossip(Rule):
    """Merge what came, then train.

    age: trainings behind the model.
    """

    name: ClassVar[str] = "gossip"
    Settings: ClassVar[type[Section]] = GossipSettings
    fleeting: ClassVar[frozenset[str]] = frozenset(("_received",))

    @classmethod
    def resolve(cls, settings: GossipSettings, topology: Any) -> GossipSettings:
        settings = replace(settings, fanout=settings.fanout or 1)
        check_fanout(settings, topology, PEERS)
        return settings

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self._fanout, self._by_age = setup.settings.fanout, setup.settings.merge == AGE
        self.age = 0
        self.record = PeerRecord()
        self._cycle = 0
        self._received: dict[int, Message] = {}

    def begin(self, tick: int, cycle: int) -> list[Action]:
        """Send the model as it is."""
        self._cycle, self._received = cycle, {}
        self.wake = tick + 1
        self.record = PeerRecord(sent=self.model)
        peers = self.overlay.peers()
        targets = self.rng.sample(peers, min(self._fanout, len(peers)))
        return [Message(MODEL, self.node, peer, cycle, tick, self.model, self.age) for peer in sorted(targets)]

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Action]:
        """Keep the models of this cycle until they are merged."""
        if self.wake != NEVER:
            self._received.update({one.source: one for one in messages if one.kind == MODEL and one.cycle == self._cycle})
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
        weighed = self._by_age and any(ages.values())
        weights = tuple(ages[source] if weighed else 1 for source in sources)
        if self._received:
            self.model = self.average([models[source] for source in sources], weights)
            self.age = max(ages.values())
            self.updated_in = self._cycle
        self.record = self.record._replace(sources=sources, weights=weights, result=self.model)
        self._received = {}

    def trained(self, event: Trained) -> list[Action]:
        """The round is over."""
        self.model = event.model
        self.age += 1
        return []
