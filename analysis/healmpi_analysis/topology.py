"""Measures of a recorded overlay: in-degree, clustering, path length, diameter, and the graph itself.

Conventions: a view edge is directed; distances and clustering take the graph as undirected; a node's own id in its view
counts for the in-degree and is no edge; what dead nodes hold or are named by does not count. All
breadth-first searches run at once, a bit for each start, so that a thousand nodes take milliseconds; beyond 1024 nodes
the searches start from 1024 of them, evenly spaced, and the diameter is then a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_STARTS = 1024
PIECE_BYTES = 32 * 1024 * 1024
"""What a step of the searches takes at a time."""

DENSE = 2048
"""Clustering multiplies dense matrices up to here; in a larger graph it looks at 1024 nodes, evenly spaced."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The live part of an overlay. live: int [n], node ids, ascending. edges: int [edges, 2], from whose view to whom, as places in live;
    own ids are left out. in_degree: int [n], live views a node stands in, its own included."""

    live: np.ndarray
    edges: np.ndarray
    in_degree: np.ndarray


@dataclass(frozen=True, slots=True)
class Measures:
    """in_degree_max; clustering: mean local coefficient; path: mean hops between two nodes; diameter: most hops.

    path and diameter are infinite when the graph has parts, nan when fewer than two nodes live.
    """

    in_degree_max: float
    clustering: float
    path: float
    diameter: float


def overlay(views: np.ndarray, alive: np.ndarray) -> Overlay:
    """views: int [nodes, slots], -1 where empty. alive: bool [nodes]."""
    live = np.flatnonzero(alive)
    place = np.full(len(alive) + 1, -1)  # the last entry catches the empty slots, -1
    place[live] = np.arange(len(live))
    targets = place[np.where((views[live] >= 0) & (views[live] < len(alive)), views[live], len(alive))]
    sources = np.broadcast_to(np.arange(len(live))[:, None], targets.shape)
    pairs = _distinct(sources[targets >= 0], targets[targets >= 0], len(live))
    in_degree = np.bincount(pairs[:, 1], minlength=len(live))
    return Overlay(live, pairs[pairs[:, 0] != pairs[:, 1]], in_degree)


def measures(graph: Overlay) -> Measures:
    """All measures of one overlay."""
    count = len(graph.live)
    if count < 2:
        return Measures(*([np.nan] * 4))
    neighbours = _undirected(graph)
    path, diameter = _distances(neighbours, count)
    return Measures(float(graph.in_degree.max()), _clustering(neighbours, count), path, diameter)


def _undirected(graph: Overlay) -> np.ndarray:
    """int [2 * pairs, 2], every edge both ways, sorted, each once."""
    sources, targets = graph.edges.T
    return _distinct(np.concatenate([sources, targets]), np.concatenate([targets, sources]), len(graph.live))


def _distinct(sources: np.ndarray, targets: np.ndarray, count: int) -> np.ndarray:
    """int [pairs, 2], each pair once, sorted."""
    return np.stack(np.divmod(np.unique(sources * max(1, count) + targets), max(1, count)), axis=1)


def _distances(edges: np.ndarray, count: int) -> tuple[float, float]:
    """Mean and largest number of hops between different nodes."""
    starts = np.unique(np.linspace(0, count - 1, min(count, MOST_STARTS)).astype(int))
    reached = np.zeros((count, -(-len(starts) // 64) * 8), np.uint8)
    bits = np.arange(len(starts))
    reached[starts, bits // 8] = 1 << (bits % 8)
    words = reached.view(np.uint64)
    pieces = _pieces(edges, len(words[0]) if count else 1)
    hops, total, found = 0, 0, len(starts)
    while found < count * len(starts):
        wider = words.copy()
        for nodes, first, neighbours in pieces:
            # A node is reached from wherever its neighbours are.
            wider[nodes] |= np.bitwise_or.reduceat(words[neighbours], first, axis=0)
        now = int(_bit_counts(wider))
        if now == found:
            return np.inf, np.inf
        hops += 1
        total += hops * (now - found)
        words, found = wider, now
    return total / (len(starts) * (count - 1)), float(hops)


def _pieces(edges: np.ndarray, words: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(nodes, where the neighbours of each begin, neighbours), so many nodes at a time that their neighbours' words stay small."""
    nodes, first = np.unique(edges[:, 0], return_index=True)
    ends = np.append(first[1:], len(edges))
    found, start = [], 0
    while start < len(nodes):
        fits = np.searchsorted(ends, first[start] + PIECE_BYTES // (8 * words), side="right")
        stop = max(start + 1, int(fits))
        found.append((nodes[start:stop], first[start:stop] - first[start], edges[first[start] : ends[stop - 1], 1]))
        start = stop
    return found


_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)


def _bit_counts(words: np.ndarray) -> int:
    return int(_ONES[words.view(np.uint8)].sum(dtype=np.int64))


def _clustering(edges: np.ndarray, count: int) -> float:
    """Mean local coefficient; a node with fewer than two neighbours counts as 0."""
    looked_at = np.arange(count) if count <= DENSE else np.unique(np.linspace(0, count - 1, MOST_STARTS).astype(int))
    neighbours = np.zeros((count, count), np.float32 if count <= DENSE else bool)
    neighbours[edges[:, 0], edges[:, 1]] = 1
    degree = np.bincount(edges[:, 0], minlength=count).astype(np.float64)[looked_at]
    if count <= DENSE:
        triangles = ((neighbours @ neighbours) * neighbours).sum(axis=1, dtype=np.float64)
    else:
        triangles = np.array([neighbours[np.ix_(mine, mine)].sum() for mine in (np.flatnonzero(neighbours[node]) for node in looked_at)])
    possible = degree * (degree - 1)
    return float(np.divide(triangles, possible, out=np.zeros_like(degree), where=possible > 0).mean())


def to_networkx(views: np.ndarray, alive: np.ndarray, is_hub: np.ndarray | None = None):
    """The live overlay as a networkx.DiGraph, node attribute is_hub; needs networkx."""
    import networkx

    graph, found = overlay(views, alive), networkx.DiGraph()
    for node in graph.live.tolist():
        found.add_node(node, is_hub=bool(is_hub is not None and is_hub[node]))
    found.add_edges_from((int(graph.live[a]), int(graph.live[b])) for a, b in graph.edges)
    return found
