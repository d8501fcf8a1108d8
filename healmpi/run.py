"""One run from a configuration to a finished file: the assembly of all other parts.

    prepare     everything that can be wrong with the input is found here, before any rank starts work
    execute     the cycles; each rank writes its own part file
    conclude    rank 0 merges the parts, judges the result and renames it into place

The rule that surprises: nothing here is different for one process and for many. `Ranks` hides whether MPI is there.
"""

from __future__ import annotations

import contextlib
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from healmpi import allocator, provenance
from healmpi.config import Config, ConfigError, to_toml
from healmpi.host import Host, Progress, RunFailed
from healmpi.learning import datasets, partition
from healmpi.participants import Participants
from healmpi.results import merge, preflight
from healmpi.results.schema import ResultsError
from healmpi.results.writer import PartWriter
from healmpi.worlds.local import LocalWorld
from healmpi.worlds.world import World, blocks

if TYPE_CHECKING:
    from healmpi.learning.learner import Learner

STARTED = time.perf_counter()


class Refused(Exception):
    """The input cannot be used, and all ranks know it."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of this job. mpi: the module worlds.mpi, or None in a process of its own."""

    rank: int = 0
    size: int = 1
    mpi: Any = None

    def world(self, nodes: int, model_size: int, timeout_s: float) -> World:
        """Messages of models of `model_size` floats between all nodes."""
        return LocalWorld(model_size) if self.mpi is None else self.mpi.MpiWorld(nodes, model_size, timeout_s)

    def share(self, value: Any) -> list[Any]:
        """All ranks' values on every rank, in rank order."""
        return [value] if self.mpi is None else self.mpi.share(value)

    def refuse_together(self, attempt: Callable[[], Any]) -> Any:
        """The attempt's value. If it raises ConfigError on any rank: Refused on all of them, with the first rank's sentence."""
        value, sentence = None, None
        try:
            value = attempt()
        except ConfigError as error:
            sentence = str(error)
        first = next((one for one in self.share(sentence) if one is not None), None)
        if first is not None:
            raise Refused(first)
        return value

    def fail_together(self, attempt: Callable[[], Any]) -> Any:
        """The attempt's value. If the machine fails it on any rank: RunFailed on all of them."""
        value, sentence = None, None
        try:
            value = attempt()
        except (OSError, MemoryError, ResultsError) as error:
            sentence = f"rank {self.rank}: {type(error).__name__}: {error}"
        first = next((one for one in self.share(sentence) if one is not None), None)
        if first is not None:
            raise RunFailed(first)
        return value


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can start. parts: each node's training samples, int64 indices; empty when nothing is learnt."""

    config: Config
    nodes: range
    learner: Learner | None
    parts: tuple[np.ndarray, ...]
    label_counts: np.ndarray | None


def prepare(config: Config, ranks: Ranks) -> Prepared:
    """Load and check everything the run needs, on all ranks together. Raises Refused."""
    allocator.keep_freed_memory()
    nodes = blocks(config.run.nodes, ranks.size)[ranks.rank]
    if not config.learns:
        return Prepared(config, nodes, None, (), None)
    prepared = ranks.refuse_together(lambda: _load(config, nodes))
    learner = prepared.learner
    mark = (learner.size, zlib.crc32(learner.newcomer(0, 0)))
    first = ranks.share(mark)[0]
    ranks.refuse_together(lambda: _check_same_model(config, ranks.rank, mark, first))
    return prepared


def _load(config: Config, nodes: range) -> Prepared:
    data = datasets.load(config.data, config.run.seed)
    parts = partition.partition(data.train_y, config.data, config.run.nodes, config.run.seed)
    counts = partition.label_counts(data.train_y, parts, data.classes)

    # torch takes seconds to import: everything that is cheap to refuse has been refused by now.
    from healmpi.learning.learner import Learner

    learner = Learner(config, data, {node: parts[node] for node in nodes})
    return Prepared(config, nodes, learner, parts, counts)


def _check_same_model(config: Config, rank: int, mine: tuple[int, int], first: tuple[int, int]) -> None:
    """Raises ConfigError where a user's factory builds something else than on rank 0. mine, first: floats and checksum."""
    if mine != first:
        allowed = f"it must build the same model on every rank: rank {rank} has {mine[0]} floats, rank 0 {first[0]}, or other values"
        raise ConfigError("model.factory", config.model.factory, allowed)


def execute(
    prepared: Prepared, ranks: Ranks, out: Path, force: bool, watch: Callable[[Progress], None], started: Callable[[], None] = lambda: None
) -> Path | None:
    """Run it. started: called once nothing can be refused any more; watch: after each cycle, on rank 0.

    Returns the finished file on rank 0, None elsewhere. Raises Refused; RunFailed on all ranks, which can go on to another
    run; StepTimeout.
    """
    config = prepared.config
    size = prepared.learner.size if prepared.learner else 0
    lock = ranks.refuse_together(lambda: _claim_output(ranks, out, force, preflight.estimate_bytes(config, ranks.size, size)))
    with contextlib.closing(lock) if lock else contextlib.nullcontext():
        run_id = ranks.share(secrets.token_hex(8))[0]
        started()
        _run(prepared, ranks, out, run_id, watch)
        # All parts are complete from here on.
        return ranks.fail_together(lambda: merge.merge(out, remove_parts=True, force=force) if ranks.rank == 0 else None)


def _run(prepared: Prepared, ranks: Ranks, out: Path, run_id: str, watch: Callable[[Progress], None]) -> None:
    """All cycles; leaves this rank's finished part."""
    config = prepared.config
    participants = Participants(config)
    writer = ranks.fail_together(lambda: _part_writer(prepared, ranks, out, run_id, participants.view_width))
    with _closing(writer):
        world = ranks.world(config.run.nodes, prepared.learner.size if prepared.learner else 0, config.limits.step_timeout_s)
        begun = time.perf_counter()
        host = Host(config, participants, world, prepared.nodes, prepared.learner, writer.append, watch)
        host.run()
        host.finish()
        ranks.fail_together(lambda: _finish_part(prepared, writer, host, world, begun))


@contextlib.contextmanager
def _closing(writer: PartWriter) -> Iterator[None]:
    """Close the part of a run that has failed, too; that of a good one is closed by now, and its errors were heard."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            writer.close()


def _claim_output(ranks: Ranks, out: Path, force: bool, needed: int) -> IO[str] | None:
    """On rank 0: an empty, locked folder for the parts. Raises ConfigError."""
    if ranks.rank != 0:
        return None
    preflight.check_output(out, force, needed)
    preflight.prepare_parts(out, force)
    return preflight.hold_parts(out)


def _part_writer(prepared: Prepared, ranks: Ranks, out: Path, run_id: str, width: int) -> PartWriter:
    config = prepared.config
    facts = provenance.collect(
        world="local" if ranks.mpi is None else "mpi",
        ranks=ranks.size,
        seed=config.run.seed,
        threads=config.learner.threads,
        mpi_library="none" if ranks.mpi is None else ranks.mpi.library(),
    )
    mine = [prepared.parts[node] for node in prepared.nodes] if prepared.parts else None
    return PartWriter(
        preflight.part_path(out, ranks.rank), rank=ranks.rank, ranks=ranks.size, nodes=list(prepared.nodes), total_nodes=config.run.nodes,
        config_json=config.to_json(), config_toml=to_toml(config), config_hash=config.hash(), view_size=width,
        hub_count=config.hubs_wanted, flush_every=config.results.flush_every, provenance=facts, run_id=run_id,
        partition=None if mine is None else (mine, prepared.label_counts[prepared.nodes.start : prepared.nodes.stop]),
    )  # fmt: skip


def _finish_part(prepared: Prepared, writer: PartWriter, host: Host, world: World, begun: float) -> None:
    facts = provenance.of_rank(prepared.config.learner.threads) | world.facts.counts
    facts |= {"startup_s": begun - STARTED, "wall_s": time.perf_counter() - begun, "tail_s": host.tail_s}
    writer.finish(
        model_digests=host.digests(),
        models=host.models() if prepared.config.results.save_models else None,
        rank_facts=facts,
        audit=host.complaints,
        audited=host.audited,
        survivors_finished=host.all_finished(),
    )
    writer.close()
