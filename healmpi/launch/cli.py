"""The command line: `healmpi run | suite | info | verify | merge`.

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
from healmpi.hosting.stopping import Limits, Stopped, stop_path
from healmpi.launch import arguments, command, output
from healmpi.launch import suite as suites
from healmpi.launch.launcher import (
    FAULT,
    INVALID,
    STOPPED,
    USAGE,
    VALID,
    check_launch,
    complain,
    in_world,
    launched,
    launched_rank,
    note,
    say,
)
from healmpi.launch.ranks import Refused
from healmpi.settings import UsageError

if TYPE_CHECKING:
    from healmpi.launch.preparing import Prepared
    from healmpi.launch.ranks import Ranks
    from healmpi.launch.run import Options
    from healmpi.launch.runner import Outcome


def main(given: Sequence[str] | None = None) -> int:
    """Run a command, return its exit code. given: as in sys.argv, which is the default."""
    if given is None:
        output.guard()
    search_here()
    try:
        options = arguments.parser().parse_args(given)
        return COMMANDS[options.command](options)
    except arguments.BadArguments as error:
        return _refuse(str(error))
    except UsageError as error:
        return complain(error)
    except (OSError, MemoryError) as error:
        say(f"{type(error).__name__}: {error}")
        return FAULT


def _refuse(sentence: str) -> int:
    """Say it once, and let the other ranks know, who may have understood theirs and wait."""
    if not launched():
        say(sentence)
        return USAGE

    def tell(mpi: Any) -> int:
        ranks = _ranks(mpi)
        try:
            command.refuse(ranks, sentence)
        except Refused as error:
            complain(error)
        return USAGE

    return in_world("auto", lambda: "", tell)


# healmpi run


def _run(options: argparse.Namespace) -> int:
    if options.dry_run and options.world == "auto" and not launched():
        return _show(Config.load(options.file, options.overrides).resolve(1), 0)
    return in_world(options.world, lambda: _left(options.out), lambda mpi: _run_on(mpi, options))


def _left(out: Path | None) -> str:
    """What a run that ends at this moment leaves."""
    from healmpi.results.folder import PartsFolder

    if out is None or not PartsFolder(out).path.exists():
        return "nothing was written"
    left = f"what was flushed lies in {PartsFolder(out).path}: `healmpi merge {out}` makes a file of it"
    saved = PartsFolder(out).index.exists()
    return f"{left}; {'the same command with --resume goes on from the last checkpoint' if saved else 'no checkpoint was saved'}"


def _run_on(mpi: Any, options: argparse.Namespace) -> int:
    from healmpi.launch import run
    from healmpi.launch.display import conclude

    ranks = _ranks(mpi)
    try:
        config, limits = command.agree(ranks, options, lambda: _resolved_run(options, ranks))
        if options.dry_run:
            return _show(config, ranks.rank)
        if options.resume and ranks.allgather(_is_done(options.out, config))[0]:
            return conclude(options.out) if ranks.rank == 0 else VALID
        prepared = run.prepare(config, ranks)
        how = run.Options(options.force, options.resume, limits.with_files(stop_path(options.out)))
        return _start(prepared, ranks, options.out, how)
    except Refused as error:
        return complain(error) if ranks.rank == 0 else USAGE
    except run.RunFailed as error:
        if ranks.rank == 0:
            say(f"the run has failed: {error}")
        return FAULT
    except Stopped as stop:
        if ranks.rank == 0:
            say(f"stopped {stop}. The state is saved: the same command with --resume goes on")
        return STOPPED


def _resolved_run(options: argparse.Namespace, ranks: Ranks) -> tuple[tuple[Config, Limits], dict[str, Any]]:
    """What the command means, and what of it must be the same on all ranks. Raises UsageError."""
    check_launch(ranks)
    limits = arguments.limits(options)
    config = Config.load(options.file, options.overrides).resolve(ranks.size)
    if not options.dry_run:
        _check_out(options)
    return (config, limits), command.fields_of(config)


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
    if options.list and not launched():
        return _list(options)
    return in_world(options.world, lambda: "the same command goes on with what is not done", lambda mpi: _suite_on(mpi, options))


def _list(options: argparse.Namespace) -> int:
    from healmpi.launch.table import listing

    print(listing(suites.load(options.file, options.overrides).only(options.only), options.out, options.verify))
    return VALID


def _suite_on(mpi: Any, options: argparse.Namespace) -> int:
    from healmpi.launch import runner

    ranks = _ranks(mpi)
    try:
        suite, limits = command.agree(ranks, options, lambda: _resolved_suite(options, ranks))
        if options.list:
            return _list(options) if ranks.rank == 0 else VALID
        outcomes = runner.run(suite, ranks, options.out, options.force, limits, options.verify)
    except Refused as error:
        return complain(error) if ranks.rank == 0 else USAGE
    except Stopped as stop:
        if ranks.rank == 0:
            say(f"stopped {stop}. The same command goes on")
        return STOPPED
    return ranks.allgather(_conclude_suite(outcomes, options.out, options.verify) if ranks.rank == 0 else VALID)[0]


def _resolved_suite(options: argparse.Namespace, ranks: Ranks) -> tuple[tuple[suites.Suite, Limits], dict[str, Any]]:
    """As _resolved_run."""
    check_launch(ranks)
    limits = arguments.limits(options)
    if options.out is None and not options.list:
        raise UsageError("-o", "", "the folder of the results must be named, for example -o out/S")
    suite = suites.load(options.file, options.overrides, ranks.size).only(options.only)
    return (suite, limits), {f"experiment {one.name}": one.config.hash() for one in suite.experiments}


def _conclude_suite(outcomes: Sequence[Outcome], folder: Path, verify: bool) -> int:
    """Print the table, and why a run is not as it should be; return the exit code."""
    from healmpi.launch.table import summarise, table

    rows = summarise(outcomes, folder, verify)
    print(table(rows))
    for one in outcomes:
        if one.failure is not None:
            print(f"FAILED {one.experiment.name}: {one.failure}")
    runs, failed, invalid = (sum(getattr(row, name) for row in rows) for name in ("runs", "failed", "invalid"))
    print(f"{runs} experiments: {runs - failed - invalid} valid, {invalid} invalid, {failed} failed")
    sys.stdout.flush()
    return FAULT if failed else INVALID if invalid else VALID


# healmpi info, healmpi verify, healmpi merge


def _info(options: argparse.Namespace) -> int:
    from healmpi.results import info

    return _read(lambda: print(info.describe(options.file, verify=options.verify)))


def _verify(options: argparse.Namespace) -> int:
    from healmpi.results import verify
    from healmpi.results.integrity import printable

    if launched_rank() != 0:
        return VALID
    code = VALID
    for path in options.files:
        try:
            for found in verify.look(path):
                print(printable(found.line, most=None), flush=True)
                code = code if found.good else INVALID
        except OSError as error:
            say(str(error))
            code = code or USAGE
    return code


def _merge(options: argparse.Namespace) -> int:
    from healmpi.launch.display import print_verdict
    from healmpi.results import merge
    from healmpi.results.folder import PartsFolder

    def rescue() -> None:
        folder = PartsFolder(options.file)
        folder.refuse_running()
        path = merge.merge(options.file, remove_parts=False, force=options.force, note=note)
        use = "`healmpi run --resume` goes on from them" if folder.index.exists() else "no longer needed"
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


COMMANDS = {"run": _run, "suite": _suite, "info": _info, "verify": _verify, "merge": _merge}
