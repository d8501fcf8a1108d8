"""Figures of an overlay: hubs, in-degree, diameter, path length, clustering.

Source: the measures of [ELEV]. A view edge is directed; distances and clustering take the graph as undirected, as the
publication does. Own ids in a view count for the in-degree ("a hub stands in every live node's view, its own included")
and are no edge of the graph. All functions take `views`: a mapping from each live node to the ids in its view; ids of
dead nodes are ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

Views = Mapping[int, Sequence[int]]


def in_degree(views: Views) -> dict[int, int]:
    """How many live views each live node stands in, its own included."""
    counts = Counter(peer for view in views.values() for peer in set(view))
    return {node: counts.get(node, 0) for node in views}


def hubs(views: Views) -> list[int]:
    """The nodes that stand in every live node's view, ascending."""
    return sorted(node for node, degree in in_degree(views).items() if degree == len(views))


def adjacency(views: Views) -> np.ndarray:
    """bool [n, n], symmetric, without self-loops; rows in ascending order of id."""
    index = {node: i for i, node in enumerate(sorted(views))}
    matrix = np.zeros((len(index), len(index)), dtype=bool)
    for node, view in views.items():
        known = [index[peer] for peer in view if peer in index]
        matrix[index[node], known] = True
    matrix |= matrix.T
    np.fill_diagonal(matrix, False)
    return matrix


def distances(views: Views) -> np.ndarray:
    """int32 [n, n] hops between all pairs; -1 where there is no path."""
    neighbours = adjacency(views).astype(np.float32)
    found = np.eye(len(neighbours), dtype=bool)
    hops = np.where(found, 0, -1).astype(np.int32)
    step = 0
    while True:
        step += 1
        # One multiplication takes every node's frontier a hop further.
        reached = (found.astype(np.float32) @ neighbours > 0) & ~found
        if not reached.any():
            return hops
        hops[reached] = step
        found |= reached


def diameter(views: Views) -> float:
    """Largest distance; infinite when the graph has parts."""
    hops = distances(views)
    return float("inf") if (hops < 0).any() else float(hops.max())


def mean_path(views: Views) -> float:
    """Mean distance over all ordered pairs of different nodes; infinite when the graph has parts."""
    hops = distances(views)
    n = len(hops)
    return float("inf") if (hops < 0).any() else float(hops.sum() / max(1, n * (n - 1)))


def clustering(views: Views) -> float:
    """Mean local clustering coefficient; nodes with fewer than two neighbours count as 0."""
    neighbours = adjacency(views).astype(np.float32)
    degree = neighbours.sum(axis=1)
    triangles = ((neighbours @ neighbours) * neighbours).sum(axis=1)
    possible = degree * (degree - 1)
    return float(np.divide(triangles, possible, out=np.zeros_like(degree), where=possible > 0).mean())
