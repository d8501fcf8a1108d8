"""The command line: `healmpi run | info | merge`.

Exit codes: 0 valid, 1 a fault of healmpi or of the machine, 2 usage, 3 the run ended and is not valid. Under mpirun rank 0
alone speaks. The rule that surprises: MPI is touched only by `run`, and only when a launcher has started this process.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import healmpi
from healmpi.config import Config, ConfigError, to_toml

VALID, FAULT, USAGE, INVALID = 0, 1, 2, 3

LAUNCHED_BY = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK", "MPI_LOCALRANKID")
"""Environment variables that mpirun, mpiexec and srun set in the processes they start."""

EXAMPLES = """examples:
  healmpi run -o out.h5                          8 nodes in one process, no MPI needed
  mpirun -n 8 python -m mpi4py -m healmpi run -o out.h5
  mpirun -n 2 python -m mpi4py -m healmpi run --set run.nodes=100 --set data.dataset=spambase -o out.h5
  healmpi run experiment.toml --set faults.crash_fraction=0.2 -o out.h5
  healmpi run --dry-run                          all fields with their meaning, as a TOML file
  healmpi info out.h5
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ConfigError as error:
        return _complain(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
    run.add_argument("-o", "--out", type=Path, metavar="OUT.h5", help="where the results go")
    run.add_argument("--force", action="store_true", help="replace an existing file, discard the parts of a killed run")
    run.add_argument("--dry-run", action="store_true", help="print the resolved configuration and its hash, run nothing")
    run.add_argument("--world", choices=("auto", "local", "mpi"), default="auto", help="auto: mpi when a launcher started this process")
    run.set_defaults(command=_run)

    info = commands.add_parser("info", help="what a results file says")
    info.add_argument("file", type=Path, metavar="OUT.h5")
    info.set_defaults(command=_info)

    merge = commands.add_parser("merge", help="make a readable file of the parts of a killed run")
    merge.add_argument("file", type=Path, metavar="OUT.h5", help="the file the run was to write; its parts lie in OUT.h5.parts")
    merge.add_argument("--force", action="store_true", help="replace an existing file")
    merge.set_defaults(command=_merge)
    return parser


def _complain(error: Exception) -> int:
    print(f"healmpi: {error}", file=sys.stderr, flush=True)
    return USAGE


# healmpi run


def _run(options: argparse.Namespace) -> int:
    mpi = _mpi(options.world)
    try:
        return _run_on(mpi, options)
    except Exception:
        if mpi is None:
            raise
        # One rank that fails alone would leave the others waiting: end the job.
        traceback.print_exc()
        sys.stderr.flush()
        mpi.abort(FAULT)
        return FAULT


def _mpi(world: str):
    """The module worlds.mpi when this process is to be a rank, else None."""
    launched = any(name in os.environ for name in LAUNCHED_BY)
    if world == "local" or (world == "auto" and not launched):
        return None
    try:
        from healmpi.worlds import mpi
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            "--world", world, f"MPI cannot be used here ({error}); install healmpi[openmpi] or healmpi[mpich], or the site's MPI and mpi4py"
        ) from None
    return mpi


def _run_on(mpi, options: argparse.Namespace) -> int:
    from healmpi import run

    rank, size = mpi.place() if mpi else (0, 1)
    ranks = run.Ranks(rank, size, mpi)
    try:
        ranks.refuse_together(lambda: _check_launch(ranks))
        config = ranks.refuse_together(lambda: _config(options, size))
        if not options.dry_run:
            ranks.refuse_together(lambda: _check_out(options))
        prepared = ranks.refuse_together(lambda: run.prepare(config, ranks))
        if options.dry_run:
            return _show(config, rank)
        return _start(run, prepared, ranks, options)
    except ConfigError as error:
        return _complain(error) if rank == 0 else USAGE


def _config(options: argparse.Namespace, size: int) -> Config:
    return Config.load(options.file, options.overrides).resolve(size)


def _check_out(options: argparse.Namespace) -> None:
    from healmpi.results import preflight

    if options.out is None:
        raise ConfigError("-o", None, "the results file to write, for example -o out.h5")
    preflight.check_output(options.out, options.force, 0)


def _check_launch(ranks) -> None:
    """N processes that each believe to be alone come from a launcher of another MPI."""
    told = next((os.environ[name] for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE") if name in os.environ), None)
    if ranks.mpi is not None and ranks.size == 1 and told is not None and told != "1":
        raise ConfigError(
            "mpirun",
            ranks.mpi.library(),
            f"the launcher started {told} processes, this MPI library sees 1: use the mpirun that belongs to the library",
        )


def _show(config: Config, rank: int) -> int:
    if rank == 0:
        print(to_toml(config))
        print(f"# configuration hash: {config.hash()}")
    return VALID


def _start(run, prepared, ranks, options: argparse.Namespace) -> int:
    if ranks.rank == 0:
        _explain_on_termination(options.out)
        _announce(prepared.config, ranks)
    with _bar(prepared.config, ranks.rank) as bar:
        done = run.execute(prepared, ranks, options.out, options.force, bar.watch)
    valid = ranks.mpi is None or ranks.rank == 0
    code = _conclude(done) if valid else VALID
    return code if ranks.mpi is None else ranks.mpi.share(code)[0]


def _announce(config: Config, ranks) -> None:
    processes = "1 rank" if ranks.size == 1 else f"{ranks.size} ranks"
    what = f"{config.run.algorithm}: {config.run.nodes} nodes on {processes}, {config.run.cycles} cycles"
    if config.run.algorithm != "elevator":
        what += f", {config.model.name} on {config.data.dataset} ({config.data.partition})"
    print(f"{what}, view {config.elevator.view_size}, hubs {config.elevator.hub_count}, seed {config.run.seed}", flush=True)


class _bar:
    """The live progress bar on rank 0; silent elsewhere."""

    def __init__(self, config: Config, rank: int):
        from tqdm import tqdm

        total = config.run.cycles + config.run.warmup_cycles
        self._bar = tqdm(total=total, unit="cycle", disable=rank != 0, dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> _bar:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()

    def watch(self, progress) -> None:
        shown = {"live": progress.live, "hubs": progress.hubs}
        if progress.accuracy == progress.accuracy:
            shown["accuracy"] = f"{progress.accuracy:.3f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()


def _explain_on_termination(out: Path) -> None:
    def explain(signum, frame) -> None:
        hint = f"what was flushed lies in {out}.parts, `healmpi merge {out}` makes a file of it"
        os.write(2, f"\nhealmpi: ended by signal {signum}; {hint}\n".encode())
        os._exit(128 + signum)

    signal.signal(signal.SIGTERM, explain)


def _conclude(done: Path) -> int:
    from healmpi.results import info

    print(info.describe(done))
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


# healmpi info, healmpi merge


def _info(options: argparse.Namespace) -> int:
    from healmpi.results import info

    return _read(lambda: print(info.describe(options.file)))


def _merge(options: argparse.Namespace) -> int:
    from healmpi.results import merge

    def rescue() -> None:
        path = merge.merge(options.file, remove_parts=False, force=options.force)
        print(f"wrote {path}")
        _verdict(path)

    return _read(rescue)


def _read(work) -> int:
    from healmpi.results.schema import ResultsError

    try:
        work()
    except ResultsError as error:
        return _complain(error)
    return VALID
