"""A random graph in which all nodes have the same number of links."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from healmpi import streams
from healmpi.overlay.static import Graph
from healmpi.settings import Section, option

DEFAULT_DEGREE = 10


@dataclass(frozen=True, slots=True)
class RandomRegularSettings(Section):
    """The number of links."""

    title: ClassVar[str] = "topology"
    degree: int = option(0, "Links of a node in 'random-regular'. 0: 10, or what the number of nodes allows.", low=0, high=100_000)


class RandomRegular(Graph):
    """A random graph with `degree` links for each node."""

    name: ClassVar[str] = "random-regular"
    Settings: ClassVar[type[Section]] = RandomRegularSettings

    @classmethod
    def resolve(cls, settings: RandomRegularSettings, nodes: int) -> RandomRegularSettings:
        usual = min(DEFAULT_DEGREE, nodes - 1)
        # Of an odd number of link ends there is no graph.
        degree = settings.degree or (usual - 1 if usual * nodes % 2 else usual)
        if degree >= nodes or degree * nodes % 2:
            raise settings.refusal("degree", f"less than run.nodes, {nodes}, and an even number of link ends, degree * nodes", degree)
        return replace(settings, degree=degree)

    def links(self, node: int) -> tuple[int, ...]:
        return self._table[node]

    @cached_property
    def _table(self) -> list[tuple[int, ...]]:
        # It takes a moment to import, and most runs do not need it.
        import networkx

        attempt = 0
        while True:
            rng = streams.picker(self.seed, "random regular", attempt)
            graph = networkx.random_regular_graph(self.settings.degree, self.nodes, seed=rng)
            # From degree 3 on nearly all are connected; of degree 1 none is, unless there are two nodes.
            if self.settings.degree < 2 or networkx.is_connected(graph):
                return [tuple(sorted(graph[node])) for node in range(self.nodes)]
            attempt += 1
