"""FedLay's virtual rings: L random circular orders of the nodes, each node linked to its two neighbours in each.

Source: [FEDLAY] Hua et al. 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from healmpi import streams
from healmpi.overlay.static import Graph
from healmpi.settings import Section, option


@dataclass(frozen=True, slots=True)
class FedLaySettings(Section):
    """L."""

    title: ClassVar[str] = "topology"
    rings: int = option(5, "L: virtual rings of 'fedlay'.", low=1, high=1000)


class FedLay(Graph):
    """Several rings, each in a random order."""

    name: ClassVar[str] = "fedlay"
    Settings: ClassVar[type[Section]] = FedLaySettings

    def links(self, node: int) -> tuple[int, ...]:
        return self._table[node]

    @cached_property
    def _table(self) -> list[tuple[int, ...]]:
        found: list[set[int]] = [set() for _ in range(self.nodes)]
        for ring in range(self.settings.rings):
            order = list(range(self.nodes))
            streams.picker(self.seed, "fedlay", ring).shuffle(order)
            for place, node in enumerate(order):
                found[node] |= {order[place - 1], order[(place + 1) % self.nodes]}
        return [tuple(sorted(peers - {node})) for node, peers in enumerate(found)]
