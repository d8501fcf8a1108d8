"""Everything a run needs, loaded and checked on all ranks before any of them starts work."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass

import numpy as np

from healmpi.config import Config
from healmpi.hosting import allocator
from healmpi.launch import inspecting
from healmpi.launch.ranks import Ranks
from healmpi.learning import partition
from healmpi.learning.learners.kind import Trainer
from healmpi.settings import UsageError
from healmpi.worlds.world import blocks

_started: float | None = time.perf_counter()
"""When this module was imported; of the first run, what comes before it counts as its start-up."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can start.

    begun: time.perf_counter() when it began to be prepared. nodes: those that live on this rank. parts: each node's training samples,
    int64 indices; empty when nothing is learnt. label_counts: int64 [nodes, classes].
    """

    begun: float
    config: Config
    nodes: range
    learner: Trainer | None
    parts: tuple[np.ndarray, ...]
    label_counts: np.ndarray | None

    @property
    def model_size(self) -> int:
        """Floats in a model; 0 when nothing is learnt."""
        return self.learner.size if self.learner else 0

    @property
    def vector_size(self) -> int:
        """Floats in what is sent as a model; 0 when nothing is learnt."""
        return self.config.chosen.vector_size(self.model_size)


def prepare(config: Config, ranks: Ranks) -> Prepared:
    """Load and check everything the run needs, on all ranks together. Raises Refused."""
    global _started
    begun, _started = _started or time.perf_counter(), None
    allocator.keep_freed_memory()
    mine = ranks.refuse_together(lambda: inspecting.marks(config))
    first = ranks.allgather(mine)[0]
    ranks.refuse_together(lambda: inspecting.check_same(ranks.rank, mine, first))
    nodes = blocks(config.run.nodes, ranks.size)[ranks.rank]
    if not config.learns:
        return Prepared(begun, config, nodes, None, (), None)
    prepared, data_mark = ranks.refuse_together(lambda: _load(begun, config, nodes))
    learner = prepared.learner
    assert learner is not None
    mark = (learner.size, zlib.crc32(learner.newcomer(0, 0).data), data_mark)
    first_mark = ranks.allgather(mark)[0]
    ranks.refuse_together(lambda: _check_same_start(config, ranks.rank, mark, first_mark))
    return prepared


def _load(begun: float, config: Config, nodes: range) -> tuple[Prepared, int]:
    """And a checksum of the data set."""
    chosen, seed = config.chosen, config.run.seed
    data = inspecting.load(chosen, seed)
    chosen.rule.check_samples(chosen.rule_settings, len(data.train_y))
    parts = chosen.partition.parts(data.train_y, config.run.nodes, seed)
    counts = partition.label_counts(data.train_y, parts, data.classes)
    # torch takes seconds to import: everything that is cheap to refuse has been refused by now.
    shards, sizes = {node: parts[node] for node in nodes}, [len(part) for part in parts]
    learner = chosen.learner.make(seed, config.model.initial, chosen.model, data, shards, sizes)
    return Prepared(begun, config, nodes, learner, parts, counts), inspecting.data_mark(data)


def _check_same_start(config: Config, rank: int, mine: tuple[int, int, int], first: tuple[int, int, int]) -> None:
    """Raises UsageError where the data set or a user's model is something else than on rank 0.

    mine, first: floats in a model, checksums of a model and of the data set.
    """
    if mine[2] != first[2]:
        label = config.chosen.choices["data"].label
        raise UsageError("data.dataset", label, f"the same samples on every rank: rank {rank} has others than rank 0")
    if mine != first:
        allowed = f"it must build the same model on every rank: rank {rank} has {mine[0]} floats, rank 0 {first[0]}, or other values"
        raise UsageError("model.factory", config.model.factory, allowed)
