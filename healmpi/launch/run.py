"""One run from a configuration to a finished file.

    prepare     everything that can be wrong with the input is found here, before any rank starts work (preparing.py)
    execute     the cycles; each rank writes its own part file; the first rank merges the parts, judges the result and renames it

Nothing here is different for one process and for many: `Ranks` hides whether MPI is there.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import healmpi
from healmpi.config import Config
from healmpi.faults import plan
from healmpi.hosting import checkpoint, provenance
from healmpi.hosting.closing import Watch
from healmpi.hosting.guard import RunFailed
from healmpi.hosting.host import Host
from healmpi.hosting.stopping import Limits
from healmpi.launch.launcher import note
from healmpi.launch.preparing import Prepared, prepare
from healmpi.launch.ranks import Ranks, Refused
from healmpi.launch.saving import StateSaver
from healmpi.results import info, merge, preflight
from healmpi.results.folder import PartsFolder
from healmpi.results.parts import read_parts
from healmpi.results.writer import Partition, PartWriter
from healmpi.settings import UsageError
from healmpi.worlds.world import World

__all__ = ["Options", "Prepared", "Ranks", "Refused", "RunFailed", "execute", "prepare"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is carried out; nothing of it changes a result.

    force: replace what is there. resume: go on from a checkpoint, if there is one. limits: when to stop and to save.
    """

    force: bool = False
    resume: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class _Place:
    """What rank 0 holds before the run starts. lock: elsewhere None. replaces: the file that is there may go."""

    lock: IO[str] | None = None
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class _Left:
    """What an earlier run has left, the same on all ranks.

    index: the checkpoint to go on from. ended: all parts are whole, only the merging is left. discard: what else is there may go.
    """

    index: checkpoint.Index | None = None
    ended: bool = False
    discard: bool = False


class NotResumed(RunFailed):
    """The nodes could not be given the state of a checkpoint."""


def execute(
    prepared: Prepared,
    ranks: Ranks,
    out: Path,
    watch: Watch,
    options: Options | None = None,
    started: Callable[[int], None] = lambda done: None,
) -> Path | None:
    """Run it. started: called with the cycles that are done, once nothing can be refused any more; watch: after each cycle, on rank 0.

    Returns the finished file on rank 0, None elsewhere. Raises Refused; RunFailed and Stopped on all ranks, which can go on to
    another run; StepTimeout.
    """
    options = options or Options()
    try:
        return _execute(prepared, ranks, out, watch, options, started)
    except NotResumed as error:
        if not options.force:
            raise
        note(f"{error}; the run starts again")
        if prepared.learner is not None:
            prepared.learner.restore({})
        return _execute(prepared, ranks, out, watch, replace(options, resume=False), started)


def _execute(prepared: Prepared, ranks: Ranks, out: Path, watch: Watch, options: Options, started: Callable[[int], None]) -> Path | None:
    config = prepared.config
    left, saved = _left(config, ranks, out, options)
    place = ranks.refuse_together(lambda: _take_place(prepared, ranks, out, options, left))
    with contextlib.closing(place.lock) if place.lock else contextlib.nullcontext():
        if left.ended:
            started(config.run.cycles + config.run.warmup_cycles)
            return _merge(ranks, out, place.replaces)
        index = left.index
        capability = _capability(ranks, index)
        run_id = index.run_id if index else ranks.allgather(secrets.token_hex(8))[0]
        started(index.step if index else 0)
        _run(prepared, ranks, out, run_id, watch, options, saved, capability)
        # All parts are complete from here on.
        return _merge(ranks, out, place.replaces)


def _capability(ranks: Ranks, index: checkpoint.Index | None) -> str:
    """The instructions that torch takes on all ranks; with a note where the run began with others, as then last bits may differ."""
    here = provenance.capability()
    if ranks.rank == 0 and index is not None and index.capability and index.capability != here:
        before = f"the run began with CPU capability {index.capability} and goes on with {here}"
        note(f"{before}: last bits may differ from those of a run in one go")
    return here


def _merge(ranks: Ranks, out: Path, force: bool) -> Path | None:
    return ranks.fail_together(lambda: merge.merge(out, remove_parts=True, force=force, note=note) if ranks.rank == 0 else None)


def _run(
    prepared: Prepared, ranks: Ranks, out: Path, run_id: str, watch: Watch, options: Options, saved: dict[str, Any] | None, capability: str
) -> None:
    """All cycles, or those that are left; leaves this rank's finished part."""
    config = prepared.config
    writer = ranks.fail_together(lambda: _part_writer(prepared, ranks, out, run_id, saved))
    with _closing(writer):
        results, limits = config.results, config.limits
        world = ranks.world(config.run.nodes, prepared.vector_size, config.chosen.average, limits.step_timeout_s, results.wire_checks)
        saver = StateSaver(ranks, out, writer, options.limits, prepared, run_id, saved, capability)
        host = _host(prepared, ranks, world, writer, watch, saver)
        if saved is not None:
            _go_on(ranks, world, host, saved, out)
        host.run()
        host.finish()
        facts = world.facts.counts | saver.seconds()
        faults = [fault for told in ranks.allgather(world.facts.faults) for fault in told]
        ranks.fail_together(lambda: _finish_part(prepared, writer, host, facts, faults))


def _go_on(ranks: Ranks, world: World, host: Host, saved: dict[str, Any], out: Path) -> None:
    """A user's own restore() can fail in any way. Raises NotResumed."""
    try:
        ranks.fail_together(lambda: host.resume(saved["cycle"], saved["host"]), (Exception,))
    except RunFailed as error:
        world.finish()
        raise NotResumed(f"{PartsFolder(out).path} cannot be gone on from: {error}") from None
    world.facts.add("resumed")


def _host(prepared: Prepared, ranks: Ranks, world: World, writer: PartWriter, watch: Watch, saver: StateSaver) -> Host:
    """Nodes are made here, a user's own among them, which can fail in any way. Raises RunFailed."""
    try:
        return ranks.fail_together(
            lambda: Host(prepared.config, world, prepared.nodes, prepared.learner, writer.append, watch, saver), (Exception,)
        )
    except RunFailed:
        world.finish()
        raise


@contextlib.contextmanager
def _closing(writer: PartWriter) -> Iterator[None]:
    """Close the part of a run that has failed, too; that of a good one is closed by now, and its errors were heard."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            writer.close()


# What is there.


def _left(config: Config, ranks: Ranks, out: Path, options: Options) -> tuple[_Left, dict[str, Any] | None]:
    """What there is to go on from, and this rank's state out of it. All ranks can go on, or none. Raises Refused."""
    if not options.resume:
        return _Left(discard=options.force), None
    left = ranks.allgather(ranks.refuse_together(lambda: _look(config, ranks, out, options)))[0]
    index = left.index
    if index is None or left.ended:
        return left, None
    try:
        return left, ranks.refuse_together(lambda: _saved(out, index, ranks.rank))
    except Refused:
        if options.force:
            return replace(left, index=None), None
        raise


def _saved(out: Path, index: checkpoint.Index, rank: int) -> dict[str, Any]:
    """A rank's state, and its part goes with it. Raises UsageError."""
    saved, path = checkpoint.read_state(out, index, rank), PartsFolder(out).part(rank)
    parts, errors = read_parts([path])
    for error in errors:
        raise checkpoint.Unusable(path, str(error))
    for part in parts:
        if part.attrs["run_id"] != index.run_id:
            raise checkpoint.Unusable(path, "it is of another run than the checkpoint")
        if any(part.committed.get(name, 0) < rows for name, rows in saved["rows"].items()):
            damaged = f": it {str(part.damage).removeprefix(f'{path} ')}" if part.damage else ""
            raise checkpoint.Unusable(path, f"it has fewer rows than there were when the checkpoint was written{damaged}")
    return saved


def _look(config: Config, ranks: Ranks, out: Path, options: Options) -> _Left:
    """On rank 0. Raises UsageError."""
    if ranks.rank != 0:
        return _Left()
    PartsFolder(out).refuse_running()
    known = merge.state_of_parts(out)
    same = known is not None and (known.config_hash, known.sources) == config.identity()
    ended = known is not None and same and known.finished
    # Without a checkpoint the same run starts again and writes the same rows again, so nothing is lost; nor is it where
    # nothing can be read.
    discard = options.force or same or known is None
    return _Left(None if ended else _checkpoint(config, ranks, out, options), ended, discard)


def _take_place(prepared: Prepared, ranks: Ranks, out: Path, options: Options, left: _Left) -> _Place:
    """On rank 0: a locked folder for the parts, empty or with what is left. Raises UsageError."""
    if ranks.rank != 0:
        return _Place()
    config, parts = prepared.config, PartsFolder(out)
    replaces = options.force or (options.resume and out.exists() and info.is_rest_of(out, config.hash()))
    going_on = left.discard or left.index is not None
    preflight.check_output(out, replaces, _needed_bytes(prepared, ranks), leftovers=going_on, resuming=options.resume)
    if left.index is None and not left.ended:
        parts.prepare(left.discard)
    return _Place(parts.hold(options.force), replaces)


def _needed_bytes(prepared: Prepared, ranks: Ranks) -> int:
    config, chosen = prepared.config, prepared.config.chosen
    return preflight.estimate_bytes(
        nodes=config.run.nodes,
        cycles=config.run.cycles + config.run.warmup_cycles,
        kinds=len(chosen.kinds),
        ranks=ranks.size,
        model_size=prepared.model_size,
        view_width=chosen.topology.view_size,
        static=chosen.topology.static,
        views_every=config.results.views_every,
        save_models=config.results.save_models,
        classes=len(prepared.learner.tested) if prepared.learner else 0,
    )


def _checkpoint(config: Config, ranks: Ranks, out: Path, options: Options) -> checkpoint.Index | None:
    """The checkpoint to go on from, if there is one. Raises UsageError: it is another run's, and must not be replaced."""
    try:
        index = checkpoint.find(out)
        if index is not None:
            sources = config.chosen.sources()
            checkpoint.check(index, out, config_hash=config.hash(), ranks=ranks.size, healmpi=healmpi.__version__, sources=sources)
        return index
    except UsageError:
        if options.force:
            return None
        raise


# This rank's part.


def _part_writer(prepared: Prepared, ranks: Ranks, out: Path, run_id: str, saved: dict[str, Any] | None) -> PartWriter:
    config, path = prepared.config, PartsFolder(out).part(ranks.rank)
    if saved is not None:
        return PartWriter.reopen(path, prepared.nodes, config.results.flush_every, saved["rows"], saved["cycle"])
    return PartWriter(
        path,
        rank=ranks.rank,
        ranks=ranks.size,
        nodes=list(prepared.nodes),
        total_nodes=config.run.nodes,
        config_json=config.to_json(),
        config_toml=config.to_toml(),
        config_hash=config.hash(),
        title=config.title,
        scenario=plan.scenario(config.fault_events()),
        kinds=config.chosen.kinds,
        view_size=config.chosen.topology.view_size,
        hub_count=config.hubs_wanted,
        flush_every=config.results.flush_every,
        provenance=_facts(config, ranks),
        run_id=run_id,
        partition=_partition(prepared),
    )


def _facts(config: Config, ranks: Ranks) -> dict[str, str | int | float]:
    collected = provenance.collect(
        world="local" if ranks.mpi is None else "mpi",
        ranks=ranks.size,
        seed=config.run.seed,
        threads=config.chosen.learner.threads(),
        mpi_library="none" if ranks.mpi is None else ranks.mpi.library(),
    )
    return collected | config.chosen.sources()


def _partition(prepared: Prepared) -> Partition | None:
    """Who holds which samples, of the nodes that live here."""
    nodes = prepared.nodes
    if prepared.label_counts is None or prepared.learner is None:
        return None
    return [prepared.parts[node] for node in nodes], prepared.label_counts[nodes.start : nodes.stop], prepared.learner.tested


def _finish_part(prepared: Prepared, writer: PartWriter, host: Host, facts: dict[str, Any], faults: list[str]) -> None:
    population, closing = host.population, host.closing
    own = provenance.of_rank(prepared.config.chosen.learner.threads())
    writer.finish(
        model_digests=population.digests(),
        models=population.models() if prepared.config.results.save_models else None,
        rank_facts=own | facts | {"tail_s": closing.tail_s},
        audit=closing.complaints + faults,
        audited=closing.audited,
        survivors_finished=population.all_finished(),
    )
    writer.close()
