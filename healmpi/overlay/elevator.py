"""Elevator, the overlay in which hubs emerge by preferential attachment.

Source: [ELEV] arXiv 2406.07946 and [THESIS] chapter 4; the steps are numbered as in docs/algorithms.md. Once in a cycle
a node asks the peers in its view for their views, prefers the h ids that it meets most often, and fills up with peers
that have asked these hubs. In ticks after the start of the cycle:

    0  ask everybody in the view              (CACHE_REQUEST)
    1  answer with the view of the cycle before, remember who asked
    2  drop the silent, count, choose the preferred, ask them (BACKWARD_REQUEST)
    3  answer with random askers
    4  the new view

A node never asks itself by message, but its own view counts among the answers whenever its own id stands in that view, exactly as
if it had.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar

from healmpi.messages import Kind, Message, kind
from healmpi.node import ALONE, HUBS, PEERS, Overlay
from healmpi.overlay.topology import Start, Topology, first_view, resolved_view_size, view_size_option
from healmpi.settings import Section, UsageError, option

CACHE_REQUEST = kind("cache_request")
"""May I have your view?"""

CACHE_REPLY = kind("cache_reply")
"""My view (ids)."""

BACKWARD_REQUEST = kind("backward_request")
"""Who has asked you lately?"""

BACKWARD_REPLY = kind("backward_reply")
"""These (ids)."""

KINDS = (CACHE_REQUEST, CACHE_REPLY, BACKWARD_REQUEST, BACKWARD_REPLY)

DEFAULT_HUB_COUNT = 5

ASK_HUBS, ASK_VIEW = "hubs", "view"


@dataclass(frozen=True, slots=True)
class ElevatorSettings(Section):
    """view_size: c. hub_count: h. backward_limit: ids in an answer at most. backward_age: cycles. backward_contacts: who is asked."""

    title: ClassVar[str] = "elevator"
    view_size: int = view_size_option()
    hub_count: int = option(0, "h: hubs wanted. 0: 5, or a quarter of the nodes where that is less.", low=0, high=1_000_000)
    backward_limit: int = option(100, "Ids in an answer to a backward request at most.", low=1, high=1_000_000)
    backward_age: int = option(
        5, "Cycles after which a peer that has not asked again is dropped from the backward list.", low=1, high=1_000_000
    )
    backward_contacts: str = option(
        ASK_HUBS,
        "Who is asked for backward lists: 'hubs', the h most frequent ids; 'view', the c most frequent.",
        choices=(ASK_HUBS, ASK_VIEW),
    )


class Climber(Overlay):
    """One node's part of the overlay.

    node: own id. view: starting view, distinct ids without the own one. rng: this node's stream.
    """

    offsets: ClassVar[Sequence[int]] = (0, 2, 4)
    ticks: ClassVar[int] = 4
    kinds: ClassVar[frozenset[Kind]] = frozenset(KINDS)

    __slots__ = (
        "_answers",
        "_asked",
        "_cycle",
        "_pool",
        "_preferred",
        "_rest",
        "_ring",
        "_rng",
        "_silent",
        "backward",
        "node",
        "settings",
        "view",
    )

    fleeting: ClassVar[frozenset[str]] = frozenset(("_answers", "_asked", "_pool", "_preferred", "_rest", "_ring", "_silent"))

    def __init__(self, node: int, settings: ElevatorSettings, view: Sequence[int], rng: random.Random):
        if node in view or len(set(view)) != len(view):
            raise ValueError(f"view of node {node} must be distinct ids without its own: {view}")
        self.node, self.settings, self._rng = node, settings, rng
        self.view: tuple[int, ...] = tuple(view)
        self.backward: dict[int, int] = {}  # asker -> the cycle in which it asked last
        self._cycle = 0
        self._asked: tuple[int, ...] = ()
        self._answers: dict[int, tuple[int, ...]] = {}
        self._silent: frozenset[int] = frozenset()
        self._rest: list[int] = []
        self._preferred: tuple[int, ...] = ()
        self._pool: dict[int, tuple[int, ...]] = {}
        self._ring: list[int] = []

    # The calls that the layer above uses.

    def hubs(self) -> tuple[int, ...]:
        """The ids this node believes to be hubs, the most frequent first; its own may be among them."""
        return self.view[: self.settings.hub_count]

    def hub(self) -> int:
        """One of them, uniformly. Raises IndexError while there is none."""
        return self._rng.choice(self.hubs())

    def peers(self) -> tuple[int, ...]:
        """The ids in the view, without the own one."""
        return tuple(peer for peer in self.view if peer != self.node)

    def random_peers(self) -> tuple[int, ...]:
        """The other c - h ids of the view."""
        return self.view[self.settings.hub_count :]

    def is_hub(self) -> bool:
        """Whether the node counts itself among the hubs."""
        return self.node in self.hubs()

    # Active side.

    def advance(self, offset: int, tick: int, cycle: int) -> list[Message]:
        """Act at one of `offsets` ticks after the start of the cycle."""
        if offset == 0:
            return self._begin(tick, cycle)
        if offset == 2:
            return self._count(tick)
        self._renew()
        return []

    def _begin(self, tick: int, cycle: int) -> list[Message]:
        self._cycle = cycle
        self._answers, self._pool, self._ring = {}, {}, []
        self._asked = tuple(peer for peer in self.view if peer != self.node)
        if len(self._asked) < len(self.view):
            self._answers[self.node] = self.view
        return [Message(CACHE_REQUEST, self.node, peer, cycle, tick) for peer in self._asked]

    def _count(self, tick: int) -> list[Message]:
        """Steps 1 to 4: drop the silent, count, prefer, ask the preferred."""
        self._silent = frozenset(peer for peer in self._asked if peer not in self._answers)
        for peer in self._silent:
            self.backward.pop(peer, None)
        frequency = Counter(chain.from_iterable(self._answers.values()))
        for peer in self._silent:
            frequency.pop(peer, None)

        # The most frequent first, ties to the smaller id: this rule is what lets all nodes agree (docs/algorithms.md).
        ranked = [peer for _, peer in sorted([(-count, peer) for peer, count in frequency.items()])]
        hub_count = self.settings.hub_count
        self._preferred = tuple(ranked[:hub_count])
        self._rest = ranked[hub_count:]
        contacts = ranked[: self.settings.view_size if self.settings.backward_contacts == ASK_VIEW else hub_count]
        if self.node in contacts:
            self._pool[self.node] = self._some_askers()
        return [Message(BACKWARD_REQUEST, self.node, peer, self._cycle, tick) for peer in contacts if peer != self.node]

    def _renew(self) -> None:
        """Step 5: preferred, then random askers of theirs, then random ids of what is left of the frequency map."""
        view = list(self._preferred)
        taken = {*view, self.node, *self._silent}
        pools = [self._pool[peer] for peer in sorted(self._pool)]
        # Last come those that asked this node: a node whose whole view has died finds its way back through them.
        for source in (chain.from_iterable(pools), self._rest, self._fresh_askers()):
            missing = self.settings.view_size - len(view)
            if missing <= 0:
                break
            drawn = self._draw(source, taken, missing)
            view += drawn
            taken.update(drawn)
        self.view = tuple(view)

    def _draw(self, source: Iterable[int], taken: set[int], count: int) -> list[int]:
        candidates = [peer for peer in dict.fromkeys(source) if peer not in taken]
        return self._rng.sample(candidates, min(count, len(candidates)))

    # Passive side.

    def receive(self, tick: int, messages: Iterable[Message]) -> list[Message]:
        """Answer requests; keep the answers of this cycle, ignore those of another."""
        replies = []
        node, view, cycle = self.node, self.view, self._cycle
        for number, source, _, asked_in, _, payload, _ in messages:
            if number == CACHE_REQUEST:
                self.backward[source] = asked_in
                replies.append(Message(CACHE_REPLY, node, source, asked_in, tick, view))
            elif number == CACHE_REPLY:
                if asked_in == cycle:
                    self._answers[source] = payload
            elif number == BACKWARD_REQUEST:
                replies.append(Message(BACKWARD_REPLY, node, source, asked_in, tick, self._some_askers()))
            elif asked_in == cycle:
                self._pool[source] = payload
        return replies

    def _fresh_askers(self) -> list[int]:
        """Forget those that have not asked lately: they have died or turned away. Return the others."""
        oldest = self._cycle - self.settings.backward_age
        if any(asked_in < oldest for asked_in in self.backward.values()):
            self.backward = {peer: asked_in for peer, asked_in in self.backward.items() if asked_in >= oldest}
        return list(self.backward)

    def _some_askers(self) -> tuple[int, ...]:
        """Up to `backward_limit` random askers: a window of a ring that is shuffled once in a cycle.

        A hub answers everybody, so a fresh sample for each would cost n * limit draws in a cycle; a window at a random
        place of a random ring is as uniform for each asker.
        """
        if not self._ring:
            self._ring = self._fresh_askers()
            self._rng.shuffle(self._ring)
        limit, size = self.settings.backward_limit, len(self._ring)
        if size <= limit:
            return tuple(self._ring)
        start = self._rng.randrange(size)
        window = self._ring[start : start + limit]
        return tuple(window + self._ring[: limit - len(window)])


class Elevator(Topology):
    """Random views in which hubs emerge.

    The first h ids of a view are the preferred ones.
    """

    name: ClassVar[str] = "elevator"
    Settings: ClassVar[type[Section]] = ElevatorSettings
    serves: ClassVar[frozenset[str]] = frozenset((HUBS, PEERS, ALONE))
    abundant: ClassVar[bool] = True
    ticks: ClassVar[int] = Climber.ticks
    kinds: ClassVar[tuple[Kind, ...]] = KINDS

    @classmethod
    def resolve(cls, settings: ElevatorSettings, nodes: int) -> ElevatorSettings:
        view_size = resolved_view_size(settings, nodes)
        hub_count = settings.hub_count or min(DEFAULT_HUB_COUNT, max(1, nodes // 4), view_size)
        if nodes < 3:
            raise UsageError("run.nodes", nodes, "at least 3 with Elevator: of two nodes each sees itself a hub, and none is a client")
        if hub_count > nodes - 1:
            raise settings.refusal("hub_count", f"at most run.nodes - 1, {nodes - 1}")
        if hub_count > view_size:
            raise settings.refusal("hub_count", f"at most topology.view_size, {view_size}")
        return replace(settings, view_size=view_size, hub_count=hub_count)

    def __init__(self, settings: ElevatorSettings, nodes: int, seed: int):
        super().__init__(settings, nodes, seed)
        self.view_size, self.hubs_wanted = settings.view_size, settings.hub_count

    def most_targets(self, needs: str) -> tuple[int, str] | None:
        if needs == HUBS:
            return self.hubs_wanted, f"at most elevator.hub_count, {self.hubs_wanted}"
        return self.view_size, f"at most topology.view_size, {self.view_size}"

    def overlay(self, start: Start) -> Overlay:
        return Climber(start.node, self.settings, first_view(start, self.view_size), start.rng)
