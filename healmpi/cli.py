"""The command line: `healmpi run | suite | info | merge`.

Exit codes: 0 valid, 1 a fault of healmpi or of the machine, 2 usage, 3 the run ended and is not valid, 75 stopped before its
end with its state saved (EX_TEMPFAIL: the same again later goes on). Under mpirun rank 0
alone speaks. The rule that surprises: MPI is touched only by `run` and `suite`, and only when a launcher has started this process.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import healmpi
from healmpi import progress, stopping
from healmpi import suite as suites
from healmpi.config import Config, ConfigError, to_toml

VALID, FAULT, USAGE, INVALID, STOPPED = 0, 1, 2, 3, 75

LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
LAUNCHER_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
"""Environment variables that mpirun, mpiexec and srun set in the processes they start."""

EXAMPLES = """examples:
  healmpi run -o out.h5                          8 nodes in one process, no MPI needed
  mpirun -n 8 python -m mpi4py -m healmpi run -o out.h5
  mpirun -n 2 python -m mpi4py -m healmpi run --set run.nodes=100 --set data.dataset=spambase -o out.h5
  healmpi run experiment.toml --set faults.crash_fraction=0.2 -o out.h5
  healmpi run --dry-run                          all fields with their meaning, as a TOML file
  healmpi info out.h5

faults from the command line:
  --set faults.crash_hubs=all --set faults.crash_cycle=10 --set faults.crash_point=in_reduction
  --set 'faults.plan=[{cycle=5, nodes=[1, 2]}, {kind="churn", cycle=8, last_cycle=12, fraction=0.1}]'

exit codes: 0 valid, 1 healmpi or the machine failed, 2 usage, 3 the run has ended and is not valid,
75 stopped with its state saved: the same command with --resume goes on
"""


SUITE_HELP = """Runs a matrix of experiments in one launch and writes FOLDER/NAME.h5 for each. Those that are done are skipped, so
the same command goes on with a suite that was stopped. One that fails does not stop the rest.

  healmpi suite S -o out/S
  mpirun -n 2 python -m mpi4py -m healmpi suite W -o out/W
  healmpi suite A --list
  healmpi suite A --only 'spambase-heal-*' -o out/A

exit codes: 0 all valid, 1 one has failed, 2 usage, 3 one has ended and is not valid, 75 stopped: the same command goes on
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ConfigError as error:
        return _complain(error)
    except (OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has gone; the interpreter must not stumble over it again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAULT
        _say(f"{type(error).__name__}: {error}")
        return FAULT


class _Parser(argparse.ArgumentParser):
    """Usage errors of a launched program are told once, by rank 0."""

    def error(self, message: str):
        if _launched_rank() != 0:
            # The launcher ends all ranks with the first that fails: leave rank 0 the time to speak.
            time.sleep(1.0)
            sys.exit(USAGE)
        super().error(message)


def _launched_rank() -> int:
    return next((int(os.environ[name]) for name in LAUNCHER_RANKS if os.environ.get(name, "").isdigit()), 0)


def _launched_size() -> int | None:
    return next((int(os.environ[name]) for name in LAUNCHER_SIZES if os.environ.get(name, "").isdigit()), None)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="healmpi", description="Resilient decentralized learning over MPI, run for real and measured.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"healmpi {healmpi.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run one experiment", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    run.add_argument("file", nargs="?", metavar="FILE.toml", help="configuration; without it: the defaults")
    run.add_argument(
        "--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="overrides", help="override one field (repeatable)"
    )
    run.add_argument("-o", "--out", type=Path, metavar="OUT.h5", help="where the results go; needed, but for --dry-run")
    run.add_argument(
        "--force",
        action="store_true",
        help="replace an existing file and the parts of a killed run; with --resume: those of another configuration",
    )
    run.add_argument("--resume", action="store_true", help="go on from the checkpoint of a stopped run; without one: from the start")
    _add_limits(run, "OUT.h5.stop")
    run.add_argument("--dry-run", action="store_true", help="print the resolved configuration and its hash, run nothing")
    run.add_argument("--world", choices=("auto", "local", "mpi"), default="auto", help="auto: mpi when a launcher started this process")
    run.set_defaults(command=_run)

    suite = commands.add_parser(
        "suite", help="run a matrix of experiments in one launch", description=SUITE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    suite.add_argument("file", metavar="SUITE", help="a suite file, or the name of one that is shipped: " + ", ".join(suites.shipped()))
    suite.add_argument("-o", "--out", type=Path, metavar="FOLDER", help="where the results go, a file for each experiment")
    suite.add_argument("--list", action="store_true", help="print the experiments' names and states, run nothing")
    suite.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="NAME", help="run these alone; * and ? stand for any letters"
    )
    suite.add_argument(
        "--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="overrides",
        help="override one field in all experiments (repeatable)",
    )  # fmt: skip
    suite.add_argument("--force", action="store_true", help="replace files and checkpoints of another configuration")
    suite.add_argument("--world", choices=("auto", "local", "mpi"), default="auto", help="auto: mpi when a launcher started this process")
    _add_limits(suite, "FOLDER/STOP")
    suite.set_defaults(command=_suite)

    info = commands.add_parser("info", help="what a results file says")
    info.add_argument("file", type=Path, metavar="OUT.h5")
    info.set_defaults(command=_info)

    merge = commands.add_parser(
        "merge",
        help="make a readable file of the parts of a killed run",
        description="Makes a readable file of the parts of a killed run; they stay. Exit code 0: a file was written, valid or not.",
    )
    merge.add_argument("file", type=Path, metavar="OUT.h5", help="the file the run was to write; its parts lie in OUT.h5.parts")
    merge.add_argument("--force", action="store_true", help="replace an existing file")
    merge.set_defaults(command=_merge)
    return parser


def _add_limits(parser: argparse.ArgumentParser, file: str) -> None:
    parser.add_argument(
        "--time-limit", metavar="TIME",
        help="stop before so much time has passed: seconds, 30m, 2h, HH:MM:SS. The end of a Slurm job (SLURM_JOB_END_TIME) counts as "
        f"well, and a file {file} stops at the next cycle. The state is saved, the exit code is 75",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-every", type=int, default=0, metavar="CYCLES", help="also save the state every so many cycles, against a kill"
    )


def _limits(options: argparse.Namespace) -> stopping.Limits:
    if options.checkpoint_every < 0:
        raise ConfigError("--checkpoint-every", options.checkpoint_every, "at least 0 (0: only when stopping)")
    return stopping.Limits(stopping.deadline(options.time_limit, dict(os.environ)), options.checkpoint_every)


def _complain(error: Exception) -> int:
    if _launched_rank() == 0:
        _say(str(error))
    return USAGE


def _say(text: str) -> None:
    print(f"healmpi: {text}", file=sys.stderr, flush=True)


# healmpi run


def _run(options: argparse.Namespace) -> int:
    return _in_world(options, _run_on)


def _in_world(options: argparse.Namespace, work: Callable[[Any, argparse.Namespace], int]) -> int:
    """Do the work in this process or as one rank of many; return its exit code."""
    mpi = _mpi(options.world)
    _quit_on_signals(_hint(options) if _launched_rank() == 0 else None)
    if mpi is None:
        return work(None, options)
    try:
        code = work(mpi, options)
    except BaseException as error:
        from healmpi.worlds.world import StepTimeout

        # One rank that fails alone would leave the others waiting: end the job.
        if isinstance(error, (ConfigError, OSError, MemoryError, StepTimeout)):
            _say(f"rank {mpi.place()[0]}: {type(error).__name__}: {error}")
        else:
            traceback.print_exc()
        sys.stderr.flush()
        mpi.abort(FAULT)
        return FAULT
    mpi.leave()
    return code


def _mpi(world: str):
    """The module worlds.mpi when this process is to be a rank, else None."""
    launched = any(name in os.environ for name in LAUNCHER_RANKS)
    if world == "local" or (world == "auto" and not launched):
        size = _launched_size()
        if size not in (None, 1):
            allowed = f"a launcher has started {size} processes, which would not know of each other: use the mpirun of the MPI library"
            raise ConfigError("--world", world, allowed + " that mpi4py finds, or srun with its PMI (srun --mpi=list)")
        return None
    try:
        from healmpi.worlds import mpi
    except (ImportError, RuntimeError) as error:
        allowed = f"MPI cannot be used here ({error}); install healmpi[openmpi] or healmpi[mpich], or the site's MPI and mpi4py"
        raise ConfigError("--world", world, allowed) from None
    return mpi


def _run_on(mpi, options: argparse.Namespace) -> int:
    from healmpi import run

    rank, size = mpi.place() if mpi else (0, 1)
    ranks = run.Ranks(rank, size, mpi)
    try:
        ranks.refuse_together(lambda: _check_launch(ranks))
        limits = ranks.refuse_together(lambda: _limits(options))
        config = ranks.refuse_together(lambda: _config(options, size))
        if not options.dry_run:
            ranks.refuse_together(lambda: _check_out(options))
            if options.resume and ranks.share(_is_done(options.out, config))[0]:
                return _conclude(options.out) if rank == 0 else VALID
        prepared = run.prepare(config, ranks)
        if options.dry_run:
            return _show(config, rank)
        manner = run.Manner(options.force, options.resume, limits.with_files(suites.stop_path(options.out)))
        return _start(run, prepared, ranks, options, manner)
    except run.Refused as error:
        return _complain(error) if rank == 0 else USAGE
    except run.RunFailed as error:
        if rank == 0:
            _say(f"the run has failed: {error}")
        return FAULT
    except stopping.Stopped as stop:
        if rank == 0:
            _say(f"stopped {stop}. The state is saved: the same command with --resume goes on")
        return STOPPED


def _config(options: argparse.Namespace, size: int) -> Config:
    return Config.load(options.file, options.overrides).resolve(size)


def _check_out(options: argparse.Namespace) -> None:
    from healmpi.results import preflight

    if options.out is None:
        raise ConfigError("-o", "", "the results file must be named, for example -o out.h5")
    # With --resume what is there is looked at again, once more is known.
    preflight.check_output(options.out, options.force or options.resume, 0)


def _is_done(out: Path, config: Config) -> bool:
    """Whether OUT holds this very run, whole."""
    from healmpi.results import info
    from healmpi.results.schema import ResultsError

    try:
        return out.exists() and info.identity(out) == (True, config.hash())
    except ResultsError:
        return False


def _check_launch(ranks) -> None:
    """N processes that each believe to be alone come from a launcher of another MPI."""
    told = _launched_size()
    if ranks.mpi is not None and ranks.size == 1 and told not in (None, 1):
        allowed = f"the launcher started {told} processes, this MPI library sees 1: use the mpirun that belongs to the library"
        raise ConfigError("mpirun", ranks.mpi.library(), allowed)


def _show(config: Config, rank: int) -> int:
    if rank == 0:
        print(to_toml(config))
        print(f"# configuration hash: {config.hash()}")
    return VALID


def _start(run, prepared, ranks, options: argparse.Namespace, manner) -> int:
    bar = _Bar(prepared.config, ranks, options.out)
    try:
        done = run.execute(prepared, ranks, options.out, bar.watch, manner, bar.start)
    finally:
        bar.close()
    code = _conclude(done) if ranks.rank == 0 else VALID
    return ranks.share(code)[0]


def _quit_on_signals(hint: str | None) -> None:
    """End quietly on SIGINT and SIGTERM. hint: on the rank that says what is left of the work."""

    def end(signum, frame) -> None:
        if hint is not None:
            os.write(2, f"\nhealmpi: ended by signal {signum}; {hint}\n".encode())
        os._exit(128 + signum)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _hint(options: argparse.Namespace) -> str:
    """What to do about what a stopped command has left."""
    if options.command is _suite:
        return "the same command goes on with what is not done"
    merge = f"`healmpi merge {options.out}` makes a file of it"
    return f"what was flushed lies in {options.out}.parts: {merge}, and the same command with --resume goes on from a checkpoint"


class _Bar:
    """What rank 0 shows while a run goes on: an opening line and a live progress bar. Silent elsewhere."""

    def __init__(self, config: Config, ranks, out: Path):
        self._config, self._ranks, self._out = config, ranks, out
        self._bar = None
        self._note = _crowded(config, ranks)

    def start(self, done: int) -> None:
        if self._ranks.rank != 0:
            return
        print(self._opening(), flush=True)
        if self._note:
            print(self._note, flush=True)
        print(f"results: {self._out} (until the end {self._out}.parts; after a kill: healmpi merge {self._out})", flush=True)
        total = self._config.run.cycles + self._config.run.warmup_cycles
        if done:
            print(f"going on after {done} of {total} cycles", flush=True)
        self._bar = progress.bar(total=total, initial=done, unit="cycle")

    def _opening(self) -> str:
        config, size = self._config, self._ranks.size
        processes = "1 rank" if size == 1 else f"{size} ranks"
        what = f"{config.title}: {config.run.nodes} nodes on {processes}, {config.run.cycles} cycles"
        if config.learns:
            what += f", {config.model.name} on {config.data.dataset} ({config.data.partition})"
        return f"{what}, {config.topology.name}{_sizes(config)}, seed {config.run.seed}"

    def watch(self, state) -> None:
        shown = {"live": state.live, "hubs": state.hubs}
        if state.accuracy == state.accuracy:
            shown["accuracy"] = f"{state.accuracy:.3f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _crowded(config: Config, ranks) -> str:
    """A warning when this machine has fewer cores than threads that want one; for rank 0. On all ranks together."""
    here, cores = ranks.mpi.crowd() if ranks.mpi else (1, len(os.sched_getaffinity(0)))
    from healmpi.learning.jobs import threads_here

    threads = threads_here(config.learner)
    if here * threads <= cores:
        return ""
    return f"note: {here} ranks with {threads} threads each share {cores} cores here, so times say little".replace("1 threads", "1 thread")


def _sizes(config: Config) -> str:
    """What says how large the topology's views are, and how many hubs are wanted."""
    views = f" with views of {config.topology.view_size}" if config.topology.name in ("elevator", "newscast", "uniform") else ""
    return views + (f", hubs wanted {config.hubs_wanted}" if config.hubs_wanted else "")


def _conclude(done: Path) -> int:
    from healmpi.results import info

    print(info.describe(done, figures=False))
    return _verdict(done)


def _verdict(path: Path) -> int:
    """Print the figures of merit and the verdict as the last lines; return the exit code."""
    from healmpi.results import info

    reasons, figures = info.conclusion(path)
    print("VALID" if not reasons else f"INVALID: {'; '.join(reasons)}")
    for figure in figures:
        print(f"FOM {figure.name} {figure.value:.6g} {figure.unit}")
    sys.stdout.flush()
    return VALID if not reasons else INVALID


# healmpi suite


def _suite(options: argparse.Namespace) -> int:
    if options.list:
        if _launched_rank() == 0:
            print(suites.listing(suites.load(options.file, options.overrides).only(options.only), options.out))
        return VALID
    return _in_world(options, _suite_on)


def _suite_on(mpi, options: argparse.Namespace) -> int:
    from healmpi import run

    rank, size = mpi.place() if mpi else (0, 1)
    ranks = run.Ranks(rank, size, mpi)
    try:
        ranks.refuse_together(lambda: _check_launch(ranks))
        limits = ranks.refuse_together(lambda: _limits(options))
        suite = ranks.refuse_together(lambda: _checked_suite(options, size))
        outcomes = suites.run(suite, ranks, options.out, options.force, limits)
    except run.Refused as error:
        return _complain(error) if rank == 0 else USAGE
    except stopping.Stopped as stop:
        if rank == 0:
            _say(f"stopped {stop}. The same command goes on")
        return STOPPED
    return ranks.share(_conclude_suite(outcomes, options.out) if rank == 0 else VALID)[0]


def _checked_suite(options: argparse.Namespace, size: int) -> suites.Suite:
    if options.out is None:
        raise ConfigError("-o", "", "the folder of the results must be named, for example -o out/S")
    return suites.load(options.file, options.overrides, size).only(options.only)


def _conclude_suite(outcomes: Sequence[suites.Outcome], folder: Path) -> int:
    """Print the table, and why a run is not as it should be; return the exit code."""
    rows = suites.summarise(outcomes, folder)
    print(suites.table(rows))
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
    from healmpi import checkpoint
    from healmpi.results import merge, preflight

    def rescue() -> None:
        preflight.refuse_running(options.file)
        path = merge.merge(options.file, remove_parts=False, force=options.force)
        use = "`healmpi run --resume` goes on from them" if checkpoint.find(path) else "no longer needed"
        print(f"wrote {path}; its parts are still in {path}.parts, {use}")
        _verdict(path)

    return _read(rescue)


def _read(work) -> int:
    """Do what one process does alone, also where a launcher has started many."""
    from healmpi.results.schema import ResultsError

    if _launched_rank() != 0:
        return VALID

    try:
        work()
    except ResultsError as error:
        return _complain(error)
    return VALID
