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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

import healmpi
from healmpi import allocator, checkpoint, provenance
from healmpi.config import Config, ConfigError, to_toml
from healmpi.host import Host, Progress, RunFailed
from healmpi.learning import datasets, partition
from healmpi.learning.jobs import threads_here
from healmpi.participants import Participants
from healmpi.results import info, merge, preflight
from healmpi.results.schema import ResultsError
from healmpi.results.writer import PartWriter
from healmpi.stopping import Limits, Stopper
from healmpi.worlds.local import LocalWorld
from healmpi.worlds.world import World, blocks

if TYPE_CHECKING:
    from healmpi.learning.learner import Learner

_STARTED = time.perf_counter()
"""When this module was imported; of the first run, what comes before it counts as its start-up."""


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
        except (OSError, MemoryError) as error:
            sentence = f"rank {self.rank}: {type(error).__name__}: {error}"
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
    """A run that can start.

    parts: each node's training samples, int64 indices; empty when nothing is learnt. begun: time.perf_counter() when it began to
    be prepared.
    """

    begun: float
    config: Config
    nodes: range
    learner: Learner | None
    parts: tuple[np.ndarray, ...]
    label_counts: np.ndarray | None


def prepare(config: Config, ranks: Ranks) -> Prepared:
    """Load and check everything the run needs, on all ranks together. Raises Refused."""
    global _STARTED
    begun, _STARTED = _STARTED or time.perf_counter(), 0.0
    allocator.keep_freed_memory()
    nodes = blocks(config.run.nodes, ranks.size)[ranks.rank]
    if not config.learns:
        return Prepared(begun, config, nodes, None, (), None)
    prepared = ranks.refuse_together(lambda: _load(begun, config, nodes))
    learner = prepared.learner
    mark = (learner.size, zlib.crc32(learner.newcomer(0, 0)))
    first = ranks.share(mark)[0]
    ranks.refuse_together(lambda: _check_same_model(config, ranks.rank, mark, first))
    return prepared


def _load(begun: float, config: Config, nodes: range) -> Prepared:
    data = datasets.load(config.data, config.run.seed)
    parts = partition.partition(data.train_y, config.data, config.run.nodes, config.run.seed)
    counts = partition.label_counts(data.train_y, parts, data.classes)

    # torch takes seconds to import: everything that is cheap to refuse has been refused by now.
    from healmpi.learning.learner import Learner

    learner = Learner(config, data, {node: parts[node] for node in nodes})
    return Prepared(begun, config, nodes, learner, parts, counts)


def _check_same_model(config: Config, rank: int, mine: tuple[int, int], first: tuple[int, int]) -> None:
    """Raises ConfigError where a user's factory builds something else than on rank 0. mine, first: floats and checksum."""
    if mine != first:
        allowed = f"it must build the same model on every rank: rank {rank} has {mine[0]} floats, rank 0 {first[0]}, or other values"
        raise ConfigError("model.factory", config.model.factory, allowed)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a run is carried out; nothing of it changes a result.

    force: replace what is there. resume: go on from a checkpoint, if there is one. limits: when to stop and to save.
    """

    force: bool = False
    resume: bool = False
    limits: Limits = field(default_factory=Limits)


class _Claim(NamedTuple):
    """What rank 0 holds and knows before the run starts.

    lock: elsewhere None. index: the checkpoint to go on from. ended: all parts are whole, only the merging is left. replaces: the
    file that is there may go.
    """

    lock: IO[str] | None = None
    index: checkpoint.Index | None = None
    ended: bool = False
    replaces: bool = False


def execute(
    prepared: Prepared,
    ranks: Ranks,
    out: Path,
    watch: Callable[[Progress], None],
    manner: Manner | None = None,
    started: Callable[[int], None] = lambda done: None,
) -> Path | None:
    """Run it. started: called with the cycles that are done, once nothing can be refused any more; watch: after each cycle, on rank 0.

    Returns the finished file on rank 0, None elsewhere. Raises Refused; RunFailed and Stopped on all ranks, which can go on to
    another run; StepTimeout.
    """
    config, manner = prepared.config, manner or Manner()
    size = prepared.learner.size if prepared.learner else 0
    participants = Participants(config)
    needed = preflight.estimate_bytes(config, ranks.size, size, participants.view_width, participants.static)
    claim = ranks.refuse_together(lambda: _claim_output(config, ranks, out, manner, needed))
    with contextlib.closing(claim.lock) if claim.lock else contextlib.nullcontext():
        index, ended = ranks.share((claim.index, claim.ended))[0]
        if ended:
            started(config.run.cycles + config.run.warmup_cycles)
            return _merge(ranks, out, claim.replaces)
        saved = ranks.refuse_together(lambda: checkpoint.read_state(out, index, ranks.rank)) if index else None
        run_id = index.run_id if index else ranks.share(secrets.token_hex(8))[0]
        started(index.step if index else 0)
        _run(prepared, participants, ranks, out, run_id, watch, manner, saved)
        # All parts are complete from here on.
        return _merge(ranks, out, claim.replaces)


def _merge(ranks: Ranks, out: Path, force: bool) -> Path | None:
    return ranks.fail_together(lambda: merge.merge(out, remove_parts=True, force=force) if ranks.rank == 0 else None)


def _run(
    prepared: Prepared, participants: Participants, ranks: Ranks, out: Path, run_id: str, watch: Callable[[Progress], None],
    manner: Manner, saved: dict | None,
) -> None:  # fmt: skip
    """All cycles, or those that are left; leaves this rank's finished part."""
    config = prepared.config
    writer = ranks.fail_together(lambda: _part_writer(prepared, ranks, out, run_id, participants.view_width, saved))
    with _closing(writer):
        world = ranks.world(config.run.nodes, prepared.learner.size if prepared.learner else 0, config.limits.step_timeout_s)
        keeper = _Keeper(ranks, out, writer, manner.limits, prepared, run_id, saved)
        host = Host(config, participants, world, prepared.nodes, prepared.learner, writer.append, watch, keeper)
        if saved is not None:
            host.resume(saved["cycle"], saved["host"])
            world.facts.add("resumed")
        host.run()
        host.finish()
        ranks.fail_together(lambda: _finish_part(prepared, writer, host, world, keeper))


class _Keeper:
    """Saves a run's state on all ranks. Wall times go on from those of the checkpoint that the run came from."""

    def __init__(
        self, ranks: Ranks, out: Path, writer: PartWriter, limits: Limits, prepared: Prepared, run_id: str, saved: dict[str, Any] | None
    ):
        self._ranks, self._out, self._writer = ranks, out, writer
        self._config_hash, self._run_id = prepared.config.hash(), run_id
        self._begun = time.perf_counter()
        self.startup_s = self._begun - prepared.begun
        self._wall_s, self._saving_s = (saved["wall_s"], saved["saving_s"]) if saved else (0.0, 0.0)
        self.stopper = Stopper(limits, prepared.config.run.cycles)

    def seconds(self) -> dict[str, float]:
        """Wall times for the record."""
        return {"startup_s": self.startup_s, "wall_s": self._wall_s + time.perf_counter() - self._begun, "checkpoint_s": self._saving_s}

    def save(self, step: int, cycle: int, state: dict[str, Any]) -> None:
        started = time.perf_counter()
        ranks, out = self._ranks, self._out
        index = checkpoint.Index(step, cycle, ranks.size, self._config_hash, self._run_id, healmpi.__version__)
        ranks.fail_together(lambda: self._write(step, cycle, state))
        ranks.fail_together(lambda: checkpoint.commit(out, index) if ranks.rank == 0 else None)
        took_s = time.perf_counter() - started
        self._saving_s += took_s
        self.stopper.saved(took_s)

    def _write(self, step: int, cycle: int, state: dict[str, Any]) -> None:
        # The rows go first: a state must never promise more of them than are on disk.
        rows, known = self._writer.progress(), self.seconds()
        whole = {"cycle": cycle, "host": state, "rows": rows, "wall_s": known["wall_s"], "saving_s": known["checkpoint_s"]}
        checkpoint.write_state(self._out, step, self._ranks.rank, whole)


@contextlib.contextmanager
def _closing(writer: PartWriter) -> Iterator[None]:
    """Close the part of a run that has failed, too; that of a good one is closed by now, and its errors were heard."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            writer.close()


def _claim_output(config: Config, ranks: Ranks, out: Path, manner: Manner, needed: int) -> _Claim:
    """On rank 0: a locked folder for the parts, empty or with something to go on from. Raises ConfigError."""
    if ranks.rank != 0:
        return _Claim()
    index = _checkpoint(config, ranks, out, manner) if manner.resume else None
    known = manner.resume and merge.state_of_parts(out)
    same = bool(known) and known.config_hash == config.hash()
    ended = same and known.finished
    # Without a checkpoint the same run starts again and writes the same rows again, so nothing is lost; nor is it where
    # nothing can be read.
    discard = manner.force or (manner.resume and (same or known is None))
    replaces = manner.force or (manner.resume and out.exists() and info.is_rest_of(out, config.hash()))
    preflight.check_output(out, replaces, needed, leftovers=discard or index is not None)
    if index is None and not ended:
        preflight.prepare_parts(out, discard)
    return _Claim(preflight.hold_parts(out), index, ended, replaces)


def _checkpoint(config: Config, ranks: Ranks, out: Path, manner: Manner) -> checkpoint.Index | None:
    """The checkpoint to go on from, if there is one. Raises ConfigError: it is another run's, and must not be replaced."""
    try:
        index = checkpoint.find(out)
        if index is not None:
            checkpoint.check(index, out, config_hash=config.hash(), ranks=ranks.size, healmpi=healmpi.__version__)
        return index
    except ConfigError:
        if manner.force:
            return None
        raise


def _part_writer(prepared: Prepared, ranks: Ranks, out: Path, run_id: str, width: int, saved: dict | None) -> PartWriter:
    config, path = prepared.config, preflight.part_path(out, ranks.rank)
    if saved is not None:
        return PartWriter.reopen(path, prepared.nodes, config.results.flush_every, saved["rows"], saved["cycle"])
    facts = provenance.collect(
        world="local" if ranks.mpi is None else "mpi",
        ranks=ranks.size,
        seed=config.run.seed,
        threads=config.learner.threads,
        mpi_library="none" if ranks.mpi is None else ranks.mpi.library(),
    )
    mine = [prepared.parts[node] for node in prepared.nodes] if prepared.parts else None
    return PartWriter(
        path, rank=ranks.rank, ranks=ranks.size, nodes=list(prepared.nodes), total_nodes=config.run.nodes,
        config_json=config.to_json(), config_toml=to_toml(config), config_hash=config.hash(), view_size=width,
        hub_count=config.hubs_wanted, flush_every=config.results.flush_every, provenance=facts, run_id=run_id,
        partition=None if mine is None else (mine, prepared.label_counts[prepared.nodes.start : prepared.nodes.stop]),
    )  # fmt: skip


def _finish_part(prepared: Prepared, writer: PartWriter, host: Host, world: World, keeper: _Keeper) -> None:
    facts = provenance.of_rank(threads_here(prepared.config.learner)) | world.facts.counts
    facts |= keeper.seconds() | {"tail_s": host.tail_s}
    writer.finish(
        model_digests=host.digests(),
        models=host.models() if prepared.config.results.save_models else None,
        rank_facts=facts,
        audit=host.complaints,
        audited=host.audited,
        survivors_finished=host.all_finished(),
    )
    writer.close()
