"""Pull: train, ask a few random peers for their models, average those that come with the own one."""

from dataclasses import dataclass

from healmpi.algorithms.records import PeerRecord
from healmpi.messages import MODEL, Message, kind
from healmpi.node import NEVER, Rule, Train
from healmpi.settings import Section, option

PULL = kind("pull_request")  # may I have your model? No payload.


class Pull(Rule):
    kinds, ticks, record = (PULL, MODEL), 2, PeerRecord()  # ticks of a round: 0 ask and train, 1 answer, 2 average

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        asked: int = option(2, "Peers that a node asks in a cycle, at most.", low=1)

    def begin(self, tick, cycle):
        self.cycle, self.wake, peers = cycle, tick + 2, self.overlay.peers()
        asked = self.rng.sample(peers, min(self.settings.asked, len(peers)))
        return [Train(self.model), *(Message(PULL, self.node, peer, cycle, tick) for peer in asked)]

    def trained(self, event):
        self.model, self.models, self.record = event.model, {self.node: event.model}, PeerRecord(sent=event.model)
        return []

    def receive(self, tick, messages):
        self.models |= {one.source: one.payload for one in messages if one.kind == MODEL}
        return [Message(MODEL, self.node, one.source, self.cycle, tick, self.model) for one in messages if one.kind == PULL]

    def alarm(self, tick):
        self.wake, sources = NEVER, tuple(sorted(self.models))
        if len(sources) > 1:
            self.model, self.updated_in = self.average([self.models[source] for source in sources]), self.cycle
        self.record, self.models = self.record._replace(sources=sources, weights=(1,) * len(sources), result=self.model), {}
        return []
