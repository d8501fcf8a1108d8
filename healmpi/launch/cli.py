"""The command line: `healmpi run | suite | info | merge`.

Exit codes: 0 valid, 1 a fault of healmpi or of the machine, 2 usage, 3 the run ended and is not valid, 75 stopped before its
end with its state saved (EX_TEMPFAIL: the same again later goes on). Under mpirun rank 0 alone speaks.

What a command needs is imported when it runs: `--help` needs neither torch nor MPI.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from healmpi.config import Config
from healmpi.extension import search_here
from healmpi.hosting.stopping import Stopped, stop_path
from healmpi.launch import arguments, output
from healmpi.launch import suite as suites
from healmpi.launch.launcher import FAULT, INVALID, STOPPED, USAGE, VALID, check_launch, complain, in_world, launched_rank, say
from healmpi.settings import UsageError

if TYPE_CHECKING:
    from healmpi.launch.preparing import Prepared
    from healmpi.launch.ranks import Ranks
    from healmpi.launch.run import Options
    from healmpi.launch.runner import Outcome


def main(given: Sequence[str] | None = None) -> int:
    """Run a command, return its exit code."""
    output.guard()
    search_here()
    options = arguments.parser().parse_args(given)
    try:
        return COMMANDS[options.command](options)
    except UsageError as error:
        return complain(error)
    except (OSError, MemoryError) as error:
        say(f"{type(error).__name__}: {error}")
        return FAULT


# healmpi run


def _run(options: argparse.Namespace) -> int:
    from healmpi.results.folder import PartsFolder

    merge = f"`healmpi merge {options.out}` makes a file of it"
    place = PartsFolder(options.out).path if options.out else ""
    hint = f"what was flushed lies in {place}: {merge}, and the same command with --resume goes on from a checkpoint"
    return in_world(options.world, hint, lambda mpi: _run_on(mpi, options))


def _run_on(mpi: Any, options: argparse.Namespace) -> int:
    from healmpi.launch import run
    from healmpi.launch.display import conclude

    ranks = _ranks(mpi)
    try:
        ranks.refuse_together(lambda: check_launch(ranks))
        limits = ranks.refuse_together(lambda: arguments.limits(options))
        config = ranks.refuse_together(lambda: Config.load(options.file, options.overrides).resolve(ranks.size))
        if not options.dry_run:
            ranks.refuse_together(lambda: _check_out(options))
            if options.resume and ranks.allgather(_is_done(options.out, config))[0]:
                return conclude(options.out) if ranks.rank == 0 else VALID
        prepared = run.prepare(config, ranks)
        if options.dry_run:
            return _show(config, ranks.rank)
        how = run.Options(options.force, options.resume, limits.with_files(stop_path(options.out)))
        return _start(prepared, ranks, options.out, how)
    except run.Refused as error:
        return complain(error) if ranks.rank == 0 else USAGE
    except run.RunFailed as error:
        if ranks.rank == 0:
            say(f"the run has failed: {error}")
        return FAULT
    except Stopped as stop:
        if ranks.rank == 0:
            say(f"stopped {stop}. The state is saved: the same command with --resume goes on")
        return STOPPED


def _ranks(mpi: Any) -> Ranks:
    from healmpi.launch.ranks import Ranks

    rank, size = mpi.place() if mpi else (0, 1)
    return Ranks(rank, size, mpi)


def _check_out(options: argparse.Namespace) -> None:
    from healmpi.results import preflight

    if options.out is None:
        raise UsageError("-o", "", "the results file must be named, for example -o out.h5")
    # With --resume what is there is looked at again, once more is known.
    preflight.check_output(options.out, options.force or options.resume, 0)


def _is_done(out: Path, config: Config) -> bool:
    """Whether OUT holds this very run, whole."""
    from healmpi.results import info
    from healmpi.results.schema import ResultsError

    try:
        return out.exists() and info.identity(out) == (True, config.identity())
    except ResultsError:
        return False


def _show(config: Config, rank: int) -> int:
    if rank == 0:
        print(config.to_toml())
        print(f"# configuration hash: {config.hash()}")
    return VALID


def _start(prepared: Prepared, ranks: Ranks, out: Path, how: Options) -> int:
    from healmpi.launch import run
    from healmpi.launch.display import RunBar, conclude

    bar = RunBar(prepared.config, ranks, out)
    try:
        done = run.execute(prepared, ranks, out, bar.watch, how, bar.start)
    finally:
        bar.close()
    return ranks.allgather(VALID if done is None else conclude(done))[0]


# healmpi suite


def _suite(options: argparse.Namespace) -> int:
    if options.list:
        from healmpi.launch.table import listing

        if launched_rank() == 0:
            print(listing(suites.load(options.file, options.overrides).only(options.only), options.out))
        return VALID
    return in_world(options.world, "the same command goes on with what is not done", lambda mpi: _suite_on(mpi, options))


def _suite_on(mpi: Any, options: argparse.Namespace) -> int:
    from healmpi.launch import runner
    from healmpi.launch.ranks import Refused

    ranks = _ranks(mpi)
    try:
        ranks.refuse_together(lambda: check_launch(ranks))
        limits = ranks.refuse_together(lambda: arguments.limits(options))
        suite = ranks.refuse_together(lambda: _checked_suite(options, ranks.size))
        outcomes = runner.run(suite, ranks, options.out, options.force, limits)
    except Refused as error:
        return complain(error) if ranks.rank == 0 else USAGE
    except Stopped as stop:
        if ranks.rank == 0:
            say(f"stopped {stop}. The same command goes on")
        return STOPPED
    return ranks.allgather(_conclude_suite(outcomes, options.out) if ranks.rank == 0 else VALID)[0]


def _checked_suite(options: argparse.Namespace, size: int) -> suites.Suite:
    if options.out is None:
        raise UsageError("-o", "", "the folder of the results must be named, for example -o out/S")
    return suites.load(options.file, options.overrides, size).only(options.only)


def _conclude_suite(outcomes: Sequence[Outcome], folder: Path) -> int:
    """Print the table, and why a run is not as it should be; return the exit code."""
    from healmpi.launch.table import summarise, table

    rows = summarise(outcomes, folder)
    print(table(rows))
    for one in outcomes:
        if one.failure is not None:
            print(f"FAILED {one.experiment.name}: {one.failure}")
    runs, failed, invalid = (sum(getattr(row, name) for row in rows) for name in ("runs", "failed", "invalid"))
    print(f"{runs} experiments: {runs - failed - invalid} valid, {invalid} invalid, {failed} failed")
    sys.stdout.flush()
    return FAULT if failed else INVALID if invalid else VALID


# healmpi info, healmpi merge


def _info(options: argparse.Namespace) -> int:
    from healmpi.results import info

    return _read(lambda: print(info.describe(options.file)))


def _merge(options: argparse.Namespace) -> int:
    from healmpi.hosting import checkpoint
    from healmpi.launch.display import print_verdict
    from healmpi.results import merge
    from healmpi.results.folder import PartsFolder

    def rescue() -> None:
        folder = PartsFolder(options.file)
        folder.refuse_running()
        path = merge.merge(options.file, remove_parts=False, force=options.force)
        use = "`healmpi run --resume` goes on from them" if checkpoint.find(path) else "no longer needed"
        print(f"wrote {path}; its parts are still in {folder.path}, {use}")
        print_verdict(path)

    return _read(rescue)


def _read(work: Callable[[], None]) -> int:
    """Do what one process does alone, also where a launcher has started many."""
    from healmpi.results.schema import ResultsError

    if launched_rank() != 0:
        return VALID

    try:
        work()
    except ResultsError as error:
        return complain(error)
    return VALID


COMMANDS = {"run": _run, "suite": _suite, "info": _info, "merge": _merge}
