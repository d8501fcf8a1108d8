"""What fails, contradicts itself or forgets something; tests/test_extending.py holds with which sentence each ends."""

from dataclasses import dataclass

import numpy as np
from introductions import Introductions, View
from own_data import Counts
from pull import MODEL, Pull
from tree import Graph, Section, Tree, option

from healmpi.algorithms.averaging import Average
from healmpi.node import EnterGroup

# Topologies.


class LinksFail(Graph):
    def links(self, node):
        raise KeyError(node)


class ResolveFails(Tree):
    @classmethod
    def resolve(cls, settings, nodes):
        raise RuntimeError("not so")


class ResolvesToNothing(Tree):
    @classmethod
    def resolve(cls, settings, nodes):
        return None


class CannotBeMade(Tree):
    def __init__(self, settings, nodes, seed):
        raise ValueError("no")


class KindsAsTexts(Introductions):
    kinds = ("meet",)


class TakesModels(View):
    kinds = frozenset((*View.kinds, MODEL))


class SharesKinds(Introductions):
    kinds = (*Introductions.kinds, MODEL)

    def overlay(self, start):
        made = super().overlay(start)
        made.__class__ = TakesModels
        return made


class ListOption(Graph):
    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        widths: list[int] = option((), "A type that is not checked.")  # noqa: RUF009 - that is the mistake


# Rules.


class Forgets(Pull):
    """Its alarm rings for ever."""

    def alarm(self, tick):
        wake = self.wake
        super().alarm(tick)
        self.wake = wake
        return []


class RuleCannotBeMade(Pull):
    def __init__(self, setup):
        raise LookupError("no rule today")


class NewcomersCannotBeMade(Pull):
    """All nodes of a run can, those that come later cannot."""

    made = 0

    def __init__(self, setup):
        super().__init__(setup)
        NewcomersCannotBeMade.made += 1
        if NewcomersCannotBeMade.made > setup.nodes:
            raise LookupError("no newcomer today")


class ReturnsNothing(Pull):
    def trained(self, event):
        super().trained(event)


class NamesKinds(Pull):
    """Looks at the names of the kinds that it receives."""

    def receive(self, tick, messages):
        assert all(one.kind.name in ("pull_request", "model") for one in messages)
        return super().receive(tick, messages)


class KeepsRecordsAtTimes(Pull):
    def alarm(self, tick):
        super().alarm(tick)
        if self.cycle == 2:
            self.record = None
        return []


class EntersABadGroup(Pull):
    def alarm(self, tick):
        super().alarm(tick)
        return [EnterGroup(1, (self.node,), (1,), np.zeros(3), False)]


# Averages.


class FailsForTwo(Average):
    """What hubs do among themselves, where there are two of them."""

    def average(self, vectors, weights):
        if len(vectors) == 2:
            raise ArithmeticError("two are too few")
        return vectors[0].copy()


class DoubleForTwo(FailsForTwo):
    def average(self, vectors, weights):
        return vectors[0].astype(np.float64) if len(vectors) == 2 else vectors[0].copy()


# Data.


class NoSuchModel(Counts):
    model = "lenet"
