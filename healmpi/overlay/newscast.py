"""Newscast, gossip-based peer sampling: views that are mixed and renewed by swapping them.

Source: [PSS] Jelasity et al., "Gossip-based peer sampling", ACM TOCS 2007, as heal.md section 4 restates it. A view holds c
entries (id, timestamp). Once in a cycle a node and one random peer of its view swap views plus a fresh entry for themselves,
and both keep the c freshest distinct ones. In ticks after the start of the cycle:

    0  send the view and a fresh own entry to a random peer     (NEWS_REQUEST)
    1  answer with the own ones as they were, then merge        (NEWS_REPLY)
    2  merge the answer

Nobody asks whether a peer is alive: entries of the dead are not renewed and grow old. Among equally fresh entries chance decides who
stays: any rule on ids would make some ids stand in more views than others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from healmpi.messages import Kind, Message, kind
from healmpi.node import ALONE, PEERS, Overlay
from healmpi.overlay.topology import Start, Topology, first_view, resolved_view_size, view_size_option
from healmpi.settings import Section

NEWS_REQUEST = kind("news_request")
"""My view, and may I have yours? (id, cycle, id, cycle, ...)"""

NEWS_REPLY = kind("news_reply")
"""My view (the same)."""

KINDS = (NEWS_REQUEST, NEWS_REPLY)


@dataclass(frozen=True, slots=True)
class NewscastSettings(Section):
    """c."""

    title: ClassVar[str] = "topology"
    view_size: int = view_size_option()


class Mixed(Overlay):
    """One node's part of the overlay.

    node: own id. size: c. view: starting view, distinct ids without the own one. cycle: in which they are fresh. rng: this
    node's stream.
    """

    offsets: ClassVar[Sequence[int]] = (0, 2)
    ticks: ClassVar[int] = 2
    kinds: ClassVar[frozenset[Kind]] = frozenset(KINDS)

    __slots__ = ("_cycle", "_rng", "entries", "node", "size", "view")

    def __init__(self, node: int, size: int, view: Sequence[int], cycle: int, rng: random.Random):
        if node in view or len(set(view)) != len(view):
            raise ValueError(f"view of node {node} must be distinct ids without its own: {view}")
        self.node, self.size, self._rng, self._cycle = node, size, rng, cycle
        self.entries: dict[int, int] = dict.fromkeys(view, cycle)  # id -> the cycle it is known to have lived in
        self.view: tuple[int, ...] = tuple(view)

    def advance(self, offset: int, tick: int, cycle: int) -> list[Message]:
        """At the start of a cycle: swap views with one random peer."""
        if offset or not self.view:
            return []
        self._cycle = cycle
        return [self._news(NEWS_REQUEST, self._rng.choice(self.view), tick, cycle)]

    def _news(self, kind: Kind, target: int, tick: int, cycle: int) -> Message:
        payload = (self.node, self._cycle, *(number for entry in self.entries.items() for number in entry))
        return Message(kind, self.node, target, cycle, tick, payload)

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Message]:
        """Answer all that asked, then merge all that came."""
        # One after another would tell those with larger ids of those with smaller ones, and never the reverse.
        replies = [self._news(NEWS_REPLY, one.source, tick, one.cycle) for one in messages if one.kind == NEWS_REQUEST]
        self._merge([one.payload for one in messages])
        return replies

    def _merge(self, payloads: Sequence[Sequence[int]]) -> None:
        for payload in payloads:
            for peer, stamp in zip(payload[::2], payload[1::2], strict=True):
                if peer != self.node and stamp >= self.entries.get(peer, stamp):
                    self.entries[peer] = stamp
        if len(self.entries) > self.size:
            shuffled = list(self.entries.items())
            self._rng.shuffle(shuffled)
            shuffled.sort(key=_stamp, reverse=True)
            self.entries = dict(shuffled[: self.size])
        self.view = tuple(self.entries)


class Newscast(Topology):
    """Random views, mixed and renewed by swapping them."""

    name: ClassVar[str] = "newscast"
    Settings: ClassVar[type[Section]] = NewscastSettings
    serves: ClassVar[frozenset[str]] = frozenset((PEERS, ALONE))
    abundant: ClassVar[bool] = True
    ticks: ClassVar[int] = Mixed.ticks
    kinds: ClassVar[tuple[Kind, ...]] = KINDS

    @classmethod
    def resolve(cls, settings: NewscastSettings, nodes: int) -> NewscastSettings:
        return replace(settings, view_size=resolved_view_size(settings, nodes))

    def __init__(self, settings: NewscastSettings, nodes: int, seed: int):
        super().__init__(settings, nodes, seed)
        self.view_size = settings.view_size

    def most_targets(self, needs: str) -> tuple[int, str] | None:
        return self.view_size, f"at most topology.view_size, {self.view_size}"

    def overlay(self, start: Start) -> Overlay:
        return Mixed(start.node, self.view_size, first_view(start, self.view_size), start.cycle - 1, start.rng)


def _stamp(entry: tuple[int, int]) -> int:
    return entry[1]
