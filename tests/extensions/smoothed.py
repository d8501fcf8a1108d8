"""Smoothed: pull, and then the average of the last few models that came out of a round. Its state is its own business."""

from collections import deque
from dataclasses import dataclass

from pull import Pull

from healmpi.settings import option


class Smoothed(Pull):
    record = None  # what comes out is no average of what was sent: there is nothing to audit
    fleeting = frozenset(("past",))  # not for the default, which knows no deque

    @dataclass(frozen=True, slots=True)
    class Settings(Pull.Settings):
        rounds: int = option(3, "Rounds whose models are averaged.", low=1)

    def __init__(self, setup):
        super().__init__(setup)
        self.past = deque(maxlen=setup.settings.rounds)

    def alarm(self, tick):
        super().alarm(tick)
        self.past.append(self.model)
        self.model = self.average(list(self.past))
        return []

    def state(self):
        return super().state() | {"past": list(self.past)}

    def restore(self, state):
        super().restore(state)
        self.past.extend(state["past"])
