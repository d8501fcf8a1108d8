"""Uniform sampling: in every cycle a node has peers drawn at random from all nodes.

Source: [EL] de Vos et al., "Epidemic Learning", NeurIPS 2023. EL-Local: each node draws its own peers. EL-Oracle: one draw
for all, in which everybody sends to and hears from equally many; here a circle of all nodes in random order, in which a node
sends to those at a few random distances.

The sampler knows all slots and not who has died in them, so crashes cost messages.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from healmpi import streams
from healmpi.messages import Message
from healmpi.node import Overlay
from healmpi.overlay.topology import Start, Topology, resolved_view_size, view_size_option
from healmpi.settings import Section, option

Draw = Callable[[int, random.Random], tuple[int, ...]]
"""Cycle, the node's own stream -> its peers in it."""

ALL_CYCLES = 2**32
"""Added to a cycle's number in a stream's key: warm-up cycles are numbered up to 0, and keys are not negative."""

USUAL_PEERS = 10

LOCAL, ORACLE = "local", "oracle"


@dataclass(frozen=True, slots=True)
class UniformSettings(Section):
    """How many peers are drawn, and by whom."""

    title: ClassVar[str] = "topology"
    view_size: int = view_size_option()
    sampling: str = option(
        LOCAL,
        "'uniform': 'local', each node draws its peers (EL-Local); 'oracle', a draw in which all send and get equally much (EL-Oracle).",
        choices=(LOCAL, ORACLE),
    )


class Drawn(Overlay):
    """One node's part. draw: its peers in a cycle, distinct ids without the own one. rng: this node's stream."""

    offsets: ClassVar[Sequence[int]] = (0,)

    __slots__ = ("_draw", "_rng", "node", "view")

    fleeting: ClassVar[frozenset[str]] = frozenset(("_draw",))

    def __init__(self, node: int, draw: Draw, rng: random.Random):
        self.node, self._draw, self._rng = node, draw, rng
        self.view: tuple[int, ...] = ()

    def advance(self, offset: int, tick: int, cycle: int) -> list[Message]:
        """Draw the peers of this cycle."""
        self.view = self._draw(cycle, self._rng)
        return []


class Uniform(Topology):
    """Peers drawn anew in every cycle."""

    name: ClassVar[str] = "uniform"
    Settings: ClassVar[type[Section]] = UniformSettings

    @classmethod
    def resolve(cls, settings: UniformSettings, nodes: int) -> UniformSettings:
        return replace(settings, view_size=resolved_view_size(settings, nodes, USUAL_PEERS))

    def __init__(self, settings: UniformSettings, nodes: int, seed: int):
        super().__init__(settings, nodes, seed)
        self.view_size = settings.view_size
        self._oracle = Oracle(nodes, settings.view_size, seed)

    def most_targets(self, needs: str) -> tuple[int, str] | None:
        return self.view_size, f"at most topology.view_size, {self.view_size}"

    def overlay(self, start: Start) -> Overlay:
        oracle = self.settings.sampling == ORACLE
        draw = self._oracle.of(start.node) if oracle else local(start.node, self.nodes, self.view_size)
        return Drawn(start.node, draw, start.rng)


def local(node: int, nodes: int, count: int) -> Draw:
    """EL-Local: `count` others out of all `nodes`, from this node's stream."""
    return partial(_others, node, nodes, count)


def _others(node: int, nodes: int, count: int, cycle: int, rng: random.Random) -> tuple[int, ...]:
    return tuple(peer + (peer >= node) for peer in rng.sample(range(nodes - 1), count))


class Oracle:
    """EL-Oracle's draws, made once a cycle for all nodes of a rank; every rank makes the same."""

    def __init__(self, nodes: int, count: int, seed: int):
        self._nodes, self._count, self._seed = nodes, count, seed
        self._cycle: int | None = None
        self._order: list[int] = []
        self._place: list[int] = []
        self._distances: list[int] = []

    def of(self, node: int) -> Draw:
        """The draws of one node."""
        return partial(self._peers, node)

    def _peers(self, node: int, cycle: int, rng: random.Random) -> tuple[int, ...]:
        # One draw for all comes from the run's stream.
        if cycle != self._cycle:
            self._draw(cycle)
        place = self._place[node]
        return tuple(self._order[(place + distance) % self._nodes] for distance in self._distances)

    def _draw(self, cycle: int) -> None:
        rng = streams.picker(self._seed, "oracle", cycle + ALL_CYCLES)
        self._cycle, self._order = cycle, list(range(self._nodes))
        rng.shuffle(self._order)
        self._place = [0] * self._nodes
        for place, node in enumerate(self._order):
            self._place[node] = place
        self._distances = rng.sample(range(1, self._nodes), self._count)
