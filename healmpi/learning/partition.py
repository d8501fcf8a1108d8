"""Who holds which training samples: every sample belongs to exactly one node, and every node has at least one.

Sources: 'iid' and 'shards' as in McMahan et al. 2017, section 3; 'dirichlet' as in Hsu, Qi, Brown 2019, in the usual form that
draws, for each class, the nodes' shares of it. A small alpha may leave nodes without samples; they are given one each, see
`_feed_empty`, so the partition is then a little less skewed than its alpha.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from healmpi import streams
from healmpi.settings import NoSettings, Section, UsageError, option


class Partition:
    """A way to deal training samples to nodes. name: `data.partition` names it. Settings: its options."""

    name: ClassVar[str] = ""
    Settings: ClassVar[type[Section]] = NoSettings

    settings: Any

    def __init__(self, settings: Any):
        self.settings = settings

    def parts(self, labels: np.ndarray, nodes: int, seed: int) -> tuple[np.ndarray, ...]:
        """One int64 array of sample indices for each node; together they are a permutation of all indices.

        labels: int64 [samples]. nodes: number of parts. seed: the run's. The same arguments give the same parts anywhere.
        Raises UsageError when there are fewer samples than nodes, or than shards.
        """
        if len(labels) < nodes:
            raise UsageError("run.nodes", nodes, f"at most the number of training samples, {len(labels)}")
        return self.deal(labels, nodes, streams.generator(seed, "partition"))

    def deal(self, labels: np.ndarray, nodes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """What `parts` gives. There are at least as many samples as nodes."""
        raise NotImplementedError


class Iid(Partition):
    """At random, in parts of one size."""

    name: ClassVar[str] = "iid"

    def deal(self, labels: np.ndarray, nodes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return tuple(np.array_split(rng.permutation(len(labels)), nodes))


LEAST_ALPHA = 1e-300
"""Of two nodes, the one with the greater log(u) / alpha gets a label when alpha is tiny, for u uniform in 53 bits. Below 37 / 1.8e308 =
2e-307 the quotients are infinite, and the last node wins such ties. From 1e-20 on down a label is one node's anyway."""


class Dirichlet(Partition):
    """Label skew: a class at a time, shared out by a draw of a Dirichlet distribution."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """How skewed."""

        title: ClassVar[str] = "data"
        alpha: float = option(0.5, "Concentration of the Dirichlet partition: small is skewed, large is even.", low=LEAST_ALPHA, high=1e6)

    name: ClassVar[str] = "dirichlet"
    settings: Settings

    def deal(self, labels: np.ndarray, nodes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        owner = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(nodes, self.settings.alpha))
            # Rounding the borders, not the sizes, makes the sizes add up. The last border is set: the shares' sum is not quite 1.
            borders = np.rint(np.cumsum(shares) * len(members)).astype(np.int64).clip(0, len(members))
            borders[-1] = len(members)
            owner[members] = np.repeat(np.arange(nodes), np.diff(borders, prepend=0))
        order = np.argsort(owner, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(owner, minlength=nodes))[:-1])
        return tuple(_feed_empty(parts))


class Shards(Partition):
    """Samples sorted by label, cut into runs of one size, of which each node is dealt some."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """How many runs."""

        title: ClassVar[str] = "data"
        shards_per_node: int = option(2, "Label shards a node gets in the 'shards' partition.", low=1, high=1000)

    name: ClassVar[str] = "shards"
    settings: Settings

    def deal(self, labels: np.ndarray, nodes: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        each = self.settings.shards_per_node
        shards = nodes * each
        if len(labels) < shards:
            raise self.settings.refusal(
                "shards_per_node", f"at most {len(labels) // nodes}: {len(labels)} training samples for {nodes} nodes"
            )
        runs = np.array_split(np.argsort(labels, kind="stable"), shards)
        dealt = rng.permutation(shards).reshape(nodes, each)
        return tuple(np.concatenate([runs[shard] for shard in hand]) for hand in dealt)


PARTITIONS: dict[str, type[Partition]] = {kind.name: kind for kind in Partition.__subclasses__()}
"""The classes of this file, by name."""


def label_counts(labels: np.ndarray, parts: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """How many samples of each class each part holds: int64 [len(parts), classes]."""
    counts = np.zeros((len(parts), classes), np.int64)
    for row, part in zip(counts, parts, strict=True):
        row[:] = np.bincount(labels[part], minlength=classes)
    return counts


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
