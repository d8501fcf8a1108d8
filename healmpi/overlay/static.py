"""Topologies that never change: star, multi-star, ring, Chord, random regular, complete, FedLay's virtual rings.

Source: heal.md section 4; [GAIA] Hsieh et al. 2017 for several servers; Stoica et al. 2001 for Chord's fingers; [FEDLAY] Hua
et al. 2024 for the virtual rings: L random circular orders of the nodes, each node linked to its two neighbours in each.

A link belongs to a slot, so a newcomer takes over its predecessor's. The rule that surprises: nobody repairs anything. A
node goes on sending to neighbours that have died, as it would without a protocol that tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from healmpi import streams
from healmpi.messages import Message

if TYPE_CHECKING:
    from healmpi.config import TopologySection

Links = Callable[[int], tuple[int, ...]]
"""Node -> the ids it sends to, ascending, without its own."""


class Static:
    """One node's part of a topology that never changes. links: distinct ids without the own one. servers: all of them, ascending.

    A server's hubs are all servers; a worker's are those it is linked to.
    """

    offsets = ()
    ticks = 0
    kinds: frozenset = frozenset()

    __slots__ = ("_hubs", "node", "view")

    def __init__(self, node: int, links: Sequence[int], servers: Sequence[int] = ()):
        self.node = node
        self.view: tuple[int, ...] = tuple(links)
        self._hubs = tuple(servers) if node in servers else tuple(peer for peer in links if peer in servers)

    def hubs(self) -> tuple[int, ...]:
        """The servers this node deals with, its own id included if it is one."""
        return self._hubs

    def is_hub(self) -> bool:
        """Whether the node is a server."""
        return self.node in self._hubs

    def peers(self) -> tuple[int, ...]:
        """Its neighbours."""
        return self.view

    def advance(self, offset: int, tick: int, cycle: int) -> list[Message]:
        """There is nothing to do."""
        return []

    def receive(self, tick: int, messages: Sequence[Message]) -> list[Message]:
        """No message is for this layer."""
        return []


def servers(section: TopologySection, nodes: int) -> tuple[int, ...]:
    """The fixed servers: node 0 of a star; of a multi-star the first of each of as many blocks of nodes, as equal as can be.

    A server and its workers have consecutive ids, so that under MPI they are near each other, as in Gaia's data centres.
    """
    if section.name == "star":
        return (0,)
    if section.name == "multi-star":
        return tuple(index * nodes // section.servers for index in range(section.servers))
    return ()


def links(section: TopologySection, nodes: int, seed: int) -> Links:
    """Who is linked to whom in a resolved static topology: a function of a node's id."""
    return _MAKERS[section.name](section, nodes, seed)


def most_links(section: TopologySection, nodes: int, linked: Links) -> int:
    """The largest number of links of a node."""
    # These two are known, and a complete graph is too large to be looked at whole.
    if section.name in ("star", "complete"):
        return nodes - 1
    return max(len(linked(node)) for node in range(nodes))


def _star(section: TopologySection, nodes: int, seed: int) -> Links:
    workers = tuple(range(1, nodes))
    return lambda node: (0,) if node else workers


def _multi_star(section: TopologySection, nodes: int, seed: int) -> Links:
    centres = servers(section, nodes)
    ends = (*centres[1:], nodes)

    def linked(node: int) -> tuple[int, ...]:
        index = max(place for place, centre in enumerate(centres) if centre <= node)
        if node != centres[index]:
            return (centres[index],)
        workers = range(node + 1, ends[index])
        return tuple(sorted({*workers, *centres} - {node}))

    return linked


def _at_distances(nodes: int, distances: Sequence[int]) -> Links:
    return lambda node: tuple(sorted({(node + distance) % nodes for distance in distances} - {node}))


def _ring(section: TopologySection, nodes: int, seed: int) -> Links:
    return _at_distances(nodes, (-1, 1))


def _chord(section: TopologySection, nodes: int, seed: int) -> Links:
    # Ids are places on the ring, all taken: the successor of a finger's place is the node there.
    fingers = [2**index for index in range(section.fingers or (nodes - 1).bit_length())]
    return _at_distances(nodes, [*fingers, *(-finger for finger in fingers)] if section.both_ways else fingers)


def _complete(section: TopologySection, nodes: int, seed: int) -> Links:
    return lambda node: (*range(node), *range(node + 1, nodes))


def _random_regular(section: TopologySection, nodes: int, seed: int) -> Links:
    # It takes a moment to import, and most runs do not need it.
    import networkx

    attempt = 0
    while True:
        graph = networkx.random_regular_graph(section.degree, nodes, seed=streams.picker(seed, "random regular", attempt))
        # From degree 3 on nearly all are connected; of degree 1 none is, unless there are two nodes.
        if section.degree < 2 or networkx.is_connected(graph):
            table = [tuple(sorted(graph[node])) for node in range(nodes)]
            return table.__getitem__
        attempt += 1


def _fedlay(section: TopologySection, nodes: int, seed: int) -> Links:
    found: list[set[int]] = [set() for _ in range(nodes)]
    for ring in range(section.rings):
        order = list(range(nodes))
        streams.picker(seed, "fedlay", ring).shuffle(order)
        for place, node in enumerate(order):
            found[node] |= {order[place - 1], order[(place + 1) % nodes]}
    table = [tuple(sorted(peers - {node})) for node, peers in enumerate(found)]
    return table.__getitem__


_MAKERS = {
    "star": _star, "multi-star": _multi_star, "ring": _ring, "chord": _chord, "complete": _complete,
    "random-regular": _random_regular, "fedlay": _fedlay,
}  # fmt: skip
