"""Introductions: in each cycle a node sends a random peer its own id and a few that it knows; the oldest make room for them."""

from dataclasses import dataclass

from healmpi.messages import Message, kind
from healmpi.node import Overlay
from healmpi.overlay.topology import Topology, first_view
from healmpi.settings import Section, option

MEET = kind("meet")  # payload: the ids to get to know


class View(Overlay):
    offsets, ticks, kinds = (0,), 1, frozenset((MEET,))  # it speaks in tick 0 of a cycle, and hears the others in tick 1

    def __init__(self, start, settings):
        view = tuple(first_view(start, settings.view_size))
        self.node, self.rng, self.settings, self.view = start.node, start.rng, settings, view

    def advance(self, offset, tick, cycle):
        drawn = self.rng.sample(self.view, min(self.settings.told + 1, len(self.view)))
        return [Message(MEET, self.node, drawn[0], cycle, tick, (self.node, *drawn[1:]))] if drawn else []

    def receive(self, tick, messages):
        known = dict.fromkeys((*self.view, *(peer for message in messages for peer in message.payload)))
        self.view = tuple(peer for peer in known if peer != self.node)[-self.settings.view_size :]
        return []


class Introductions(Topology):
    ticks, kinds, view_size = 1, (MEET,), property(lambda self: self.settings.view_size)

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        view_size: int = option(8, "Ids in a view.", low=1, high=1000)
        told: int = option(2, "Ids that a node passes on in a cycle, besides its own.", low=0)

    def overlay(self, start):
        return View(start, self.settings)
