"""Who holds which training samples: every sample belongs to exactly one node, and every node has at least one.

Sources: 'iid' and 'shards' as in McMahan et al. 2017, section 3; 'dirichlet' as in Hsu, Qi, Brown 2019, in the usual form that
draws, for each class, the nodes' shares of it.

The rule that surprises: a small alpha may leave nodes without samples. They are given one each, see `_feed_empty`, so the
partition is then a little less skewed than its alpha.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from healmpi import streams
from healmpi.config import ConfigError, DataSection


def partition(labels: np.ndarray, section: DataSection, nodes: int, seed: int) -> tuple[np.ndarray, ...]:
    """One int64 array of sample indices for each node; together they are a permutation of all indices.

    labels: int64 [samples]. nodes: number of parts. seed: the run's. The same arguments give the same parts anywhere.
    Raises ConfigError when there are fewer samples than nodes, or than shards.
    """
    if len(labels) < nodes:
        raise ConfigError("run.nodes", nodes, f"at most the number of training samples, {len(labels)}")
    rng = streams.generator(seed, "partition")
    if section.partition == "dirichlet":
        return _dirichlet(labels, section.alpha, nodes, rng)
    if section.partition == "shards":
        return _shards(labels, section.shards_per_node, nodes, rng)
    return tuple(np.array_split(rng.permutation(len(labels)), nodes))


def label_counts(labels: np.ndarray, parts: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """How many samples of each class each part holds: int64 [len(parts), classes]."""
    counts = np.zeros((len(parts), classes), np.int64)
    for row, part in zip(counts, parts, strict=True):
        row[:] = np.bincount(labels[part], minlength=classes)
    return counts


def _shards(labels: np.ndarray, shards_per_node: int, nodes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    shards = nodes * shards_per_node
    if len(labels) < shards:
        allowed = f"at most {len(labels) // nodes}: {len(labels)} training samples for {nodes} nodes"
        raise ConfigError("data.shards_per_node", shards_per_node, allowed)
    runs = np.array_split(np.argsort(labels, kind="stable"), shards)
    dealt = rng.permutation(shards).reshape(nodes, shards_per_node)
    return tuple(np.concatenate([runs[shard] for shard in hand]) for hand in dealt)


def _dirichlet(labels: np.ndarray, alpha: float, nodes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(nodes, alpha))
        # Rounding the borders, not the sizes, makes the sizes add up. The last border is set: the shares' sum is not quite 1.
        borders = np.rint(np.cumsum(shares) * len(members)).astype(np.int64).clip(0, len(members))
        borders[-1] = len(members)
        owner[members] = np.repeat(np.arange(nodes), np.diff(borders, prepend=0))
    order = np.argsort(owner, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(owner, minlength=nodes))[:-1])
    return tuple(_feed_empty(parts))


def _feed_empty(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Give every empty part one sample, in node order: the last one of the part that is largest then (ties: the smaller node)."""
    largest = [(-len(part), node) for node, part in enumerate(parts)]
    heapq.heapify(largest)
    for node in [node for node, part in enumerate(parts) if len(part) == 0]:
        size, giver = largest[0]
        assert size < -1, "there are at least as many samples as parts"
        parts[node], parts[giver] = parts[giver][-1:].copy(), parts[giver][:-1]
        heapq.heapreplace(largest, (size + 1, giver))
    return parts
