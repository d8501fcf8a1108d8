"""A ring: each node is linked to the two beside it."""

from __future__ import annotations

from typing import ClassVar

from healmpi.overlay.static import Graph, at_distances


class Ring(Graph):
    """All nodes on a circle."""

    name: ClassVar[str] = "ring"

    def links(self, node: int) -> tuple[int, ...]:
        return at_distances(node, self.nodes, (-1, 1))
