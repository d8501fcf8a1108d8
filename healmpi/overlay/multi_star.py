"""Several stars, whose servers know each other. Source: [GAIA] Hsieh et al. 2017.

A server and its workers have consecutive ids, so that under MPI they are near each other, as in Gaia's data centres.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from healmpi.node import HUBS
from healmpi.overlay.static import Graph, only_target
from healmpi.settings import Section, UsageError, option

DEFAULT_SERVERS = 5


@dataclass(frozen=True, slots=True)
class MultiStarSettings(Section):
    """How many stars."""

    title: ClassVar[str] = "topology"
    servers: int = option(0, "Servers of 'multi-star'. 0: 5, or a quarter of the nodes where that is less.", low=0, high=100_000)


class MultiStar(Graph):
    """Fixed servers, each with workers of its own."""

    name: ClassVar[str] = "multi-star"
    Settings: ClassVar[type[Section]] = MultiStarSettings
    serves: ClassVar[frozenset[str]] = frozenset((HUBS,))

    @classmethod
    def resolve(cls, settings: MultiStarSettings, nodes: int) -> MultiStarSettings:
        servers = settings.servers or min(DEFAULT_SERVERS, max(2, nodes // 4))
        if not 2 <= servers <= nodes // 2:
            if nodes < 4:
                raise UsageError("run.nodes", nodes, "at least 4 with several servers: a worker for each")
            raise settings.refusal("servers", f"2 to {nodes // 2}: a worker for each server, with {nodes} nodes")
        return replace(settings, servers=servers)

    @cached_property
    def servers(self) -> tuple[int, ...]:
        """The first of each of as many blocks of nodes, as equal as can be."""
        count = self.settings.servers
        return tuple(index * self.nodes // count for index in range(count))

    def links(self, node: int) -> tuple[int, ...]:
        place = bisect_right(self.servers, node) - 1
        server = self.servers[place]
        if node != server:
            return (server,)
        end = (*self.servers, self.nodes)[place + 1]
        return tuple(sorted({*range(node + 1, end), *self.servers} - {node}))

    def most_targets(self, needs: str) -> tuple[int, str] | None:
        return only_target("a worker has one server")
