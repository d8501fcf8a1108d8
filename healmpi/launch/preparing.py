"""Everything a run needs, loaded and checked on all ranks before any of them starts work."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from healmpi.config import Config
from healmpi.hosting import allocator, provenance
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
    _check_same_start(config, ranks, learner, data_mark)
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


def _check_same_start(config: Config, ranks: Ranks, learner: Trainer, data_mark: int) -> None:
    """Raises Refused, on all ranks together, where data set, model or the processor's instructions are something else than on rank 0."""
    model = (learner.size, zlib.crc32(learner.newcomer(0, 0).data), zlib.crc32(repr(learner.marks).encode()))
    mine = {"data": data_mark, "capability": provenance.capability(), "model": model}
    heard = ranks.allgather(mine)
    # Hashes by name are long: they go over the wire where somebody's differ.
    marks = ranks.allgather(learner.marks)[0] if any(one["model"] != model for one in heard) else {}
    ranks.refuse_together(lambda: _refuse_difference(config, ranks.rank, mine, heard[0], learner.marks, marks))


def _refuse_difference(
    config: Config, rank: int, mine: dict[str, Any], first: dict[str, Any], marks: Mapping[str, str], first_marks: Mapping[str, str]
) -> None:
    """mine, first: checksums of this rank and of rank 0, by what they are of. marks, first_marks: of the model, where they are needed."""
    if mine["data"] != first["data"]:
        label = config.chosen.choices["data"].label
        raise UsageError("data.dataset", label, f"the same samples on every rank: rank {rank} has others than rank 0")
    if mine["capability"] != first["capability"]:
        # Last bits would depend on which rank hosts a node.
        allowed = f"the same on every rank: rank {rank} takes {mine['capability']} instructions, rank 0 {first['capability']}"
        how = "set it to the least of them: default, avx2 or avx512"
        raise UsageError("ATEN_CPU_CAPABILITY", os.environ.get("ATEN_CPU_CAPABILITY", "not set"), f"{allowed} ({how})")
    if mine["model"] != first["model"]:
        names = [name for name in dict.fromkeys([*marks, *first_marks]) if marks.get(name) != first_marks.get(name)]
        what = f"{names[0]} differs" if names else f"it has {mine['model'][0]} floats, on rank 0 {first['model'][0]}, or other values"
        allowed = f"it must build the same model on every rank: on rank {rank} {what}"
        raise UsageError("model.factory", config.model.factory, allowed)
