"""What does not keep to what is asked of it; tests/test_extending.py holds with which sentence each ends."""

import random
from dataclasses import dataclass

import numpy as np
from introductions import Introductions
from own_data import Data, split
from pull import MODEL, NEVER, PULL, Message, Pull, Train
from smoothed import Smoothed
from tree import Graph, Section, option

from healmpi.algorithms.averaging import Average

# Topologies.


class LinkedToItself(Graph):
    def links(self, node):
        return (node,)


class Drawn(Graph):
    def links(self, node):
        return (random.choice([peer for peer in range(self.nodes) if peer != node]),)


class NoTicks(Introductions):
    ticks = 0


class NoKinds(Introductions):
    kinds = ()


class SmallerThanItsViews(Introductions):
    view_size = 2


class BareSettings(Graph):
    class Settings(Section):
        width: int = option(1, "How wide.")


class PlainDefault(Graph):
    @dataclass(frozen=True)
    class Settings(Section):
        width: int = 1


# Rules.


class Undeclared(Pull):
    kinds = (MODEL,)


class TooFewTicks(Pull):
    ticks = 1


class AnswersInTheLastTick(TooFewTicks):
    def begin(self, tick, cycle):
        actions = super().begin(tick, cycle)
        self.wake = tick + 1
        return actions


class Sends(Pull):
    """sent: the fields of a message after its kind, but for what the node itself knows."""

    target, payload, number = 1, None, 0

    def begin(self, tick, cycle):
        self.cycle, self.wake, self.models = cycle, NEVER, {}
        return [Message(PULL, self.node, self.target, cycle, tick, self.payload, self.number)]


class ToNobody(Sends):
    target = 11


class ToANegativeNode(Sends):
    target = -1


class OfFloat64(Sends):
    payload = np.ones(3)


class OfTwoAxes(Sends):
    payload = np.ones((3, 2), np.float32)


class OfAList(Sends):
    payload = [1, 2]  # noqa: RUF012 - that is the mistake


class OfFloats(Sends):
    payload = (0.5,)


class OfALargeId(Sends):
    payload = (2**31,)


class NumberedByAFloat(Sends):
    number = 0.5


class InTheNameOfAnother(Pull):
    def begin(self, tick, cycle):
        return [Message(PULL, 5, 1, cycle, tick)]


class NoAction(Pull):
    def begin(self, tick, cycle):
        return ["Train"]


class TrainsAShorterModel(Pull):
    def begin(self, tick, cycle):
        return [Train(self.model[1:])]


class ChangesWhatItSent(Pull):
    def alarm(self, tick):
        super().alarm(tick)
        self.model += 1
        return []


class CannotBeSaved(Pull):
    def alarm(self, tick):
        self.late = lambda: tick
        return super().alarm(tick)


class RestoresNothing(Smoothed):
    """It goes on as a new one."""

    def restore(self, state):
        pass


class CannotRestore(Smoothed):
    def state(self):
        return super(Smoothed, self).state()


# An average.


class Double(Average):
    def average(self, vectors, weights):
        return np.mean(vectors, axis=0, dtype=np.float64)


# Data.


class Own(Data):
    """What `made` gives. seed: the run's."""

    def load(self, seed):
        return self.made(np.random.default_rng(seed).standard_normal((60, 2), np.float32), np.arange(60) % 2, seed)


class SomethingElse(Own):
    def made(self, x, y, seed):
        return x, y


class Fails(Own):
    def made(self, x, y, seed):
        return {}["x"]


class FloatLabels(Own):
    def made(self, x, y, seed):
        return split("wrong", x, y * 1.0, 2, 0.5, seed)


class DoubleSamples(Own):
    def made(self, x, y, seed):
        return split("wrong", x.astype(np.float64), y, 2, 0.5, seed)


class MoreClasses(Own):
    def made(self, x, y, seed):
        return split("wrong", x, y + 1, 2, 0.5, seed)


class NotFinite(Own):
    def made(self, x, y, seed):
        return split("wrong", x / 0, y, 2, 0.5, seed)


class Noise(Own):
    def made(self, x, y, seed):
        return split("wrong", np.random.default_rng().standard_normal((60, 2), np.float32), y, 2, 0.5, seed)
