"""Topologies that never change: a graph, given as each node's links.

A link belongs to a slot, so a newcomer takes over its predecessor's. Nobody repairs anything: a node goes on sending to neighbours
that have died, as it would without a protocol that tells it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from healmpi.node import Overlay
from healmpi.overlay.topology import Start, Topology


class Static(Overlay):
    """One node's part. links: distinct ids without the own one. servers: all of them, ascending.

    A server's hubs are all servers; a worker's are those it is linked to.
    """

    __slots__ = ("_hubs", "node", "view")

    def __init__(self, node: int, links: Sequence[int], servers: Sequence[int] = ()):
        self.node = node
        self.view: tuple[int, ...] = tuple(links)
        self._hubs = tuple(servers) if node in servers else tuple(peer for peer in links if peer in servers)

    def hubs(self) -> tuple[int, ...]:
        return self._hubs

    def is_hub(self) -> bool:
        return self.node in self._hubs


class Graph(Topology):
    """A topology that never changes: its class says who is linked to whom. servers: the fixed hubs, ascending."""

    static: ClassVar[bool] = True

    @property
    def servers(self) -> tuple[int, ...]:
        """None, unless a class says otherwise."""
        return ()

    def links(self, node: int) -> tuple[int, ...]:
        """The ids that the node sends to, ascending, without its own."""
        raise NotImplementedError

    @cached_property
    def view_size(self) -> int:  # type: ignore[override]  # a number to look at, there as here
        """The largest number of links of a node."""
        return max(len(self.links(node)) for node in range(self.nodes))

    @property
    def hubs_wanted(self) -> int:  # type: ignore[override]  # the same
        return len(self.servers)

    def overlay(self, start: Start) -> Overlay:
        return Static(start.node, self.links(start.node), self.servers)


def at_distances(node: int, nodes: int, distances: Sequence[int]) -> tuple[int, ...]:
    """The nodes at these distances on a circle of all nodes."""
    return tuple(sorted({(node + distance) % nodes for distance in distances} - {node}))


def only_target(what: str) -> tuple[int, str]:
    """What `most_targets` says where a node has one server."""
    return 1, f"1: {what}"
