"""A star: node 0 is the server, all others are its workers. Source: [FL] McMahan et al. 2017."""

from __future__ import annotations

from typing import ClassVar

from healmpi.node import HUBS
from healmpi.overlay.static import Graph, only_target


class Star(Graph):
    """One fixed server, all others are its workers."""

    name: ClassVar[str] = "star"
    serves: ClassVar[frozenset[str]] = frozenset((HUBS,))

    @property
    def servers(self) -> tuple[int, ...]:
        return (0,)

    def links(self, node: int) -> tuple[int, ...]:
        return (0,) if node else tuple(range(1, self.nodes))

    def most_targets(self, needs: str) -> tuple[int, str] | None:
        return only_target("there is one server")
