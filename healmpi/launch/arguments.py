"""The arguments of the command line."""

from __future__ import annotations

import argparse
import os

import healmpi
from healmpi.hosting import stopping
from healmpi.launch import suite as suites
from healmpi.launch.launcher import note
from healmpi.learning.data import path_of
from healmpi.settings import UsageError

EXAMPLES = """examples:
  healmpi run -o out.h5                8 nodes in one process, no MPI needed
  mpirun -n 8 python -m mpi4py -m healmpi run -o out.h5
  mpirun -n 2 python -m mpi4py -m healmpi run --set run.nodes=100 \\
      --set data.dataset=spambase -o out.h5
  healmpi run experiment.toml --set faults.crash_fraction=0.2 -o out.h5
  healmpi run --dry-run                all fields with their meaning, as TOML
  healmpi info out.h5
  healmpi verify out/*.h5              whether they are as they were written

faults from the command line:
  --set faults.crash_hubs=all --set faults.crash_cycle=10 \\
      --set faults.crash_point=in_reduction
  --set 'faults.plan=[{cycle=5, nodes=[1, 2]},
      {kind="churn", cycle=8, last_cycle=12, fraction=0.1}]'

exit codes: 0 valid, 1 healmpi or the machine failed, 2 usage, 3 the run has
ended and is not valid, 75 stopped with its state saved: the same command with
--resume goes on
"""


SUITE_HELP = """Runs a matrix of experiments in one launch and writes FOLDER/NAME.h5 for each.
Those that are done are skipped, so the same command goes on with a suite that
was stopped. One that fails does not stop the rest.

  healmpi suite S -o out/S
  mpirun -n 2 python -m mpi4py -m healmpi suite W -o out/W
  healmpi suite A --list
  healmpi suite A --only 'spambase-heal-*' -o out/A

exit codes: 0 all valid, 1 one has failed, 2 usage, 3 one has ended and is not
valid, 75 stopped: the same command goes on
"""


class BadArguments(Exception):
    """The command line cannot be understood; the text says why."""


class _Parser(argparse.ArgumentParser):
    """Usage errors are the caller's affair: of many processes one alone should tell them."""

    def error(self, message: str):
        raise BadArguments(f"{message}; `{self.prog} --help` tells what is allowed")


def parser() -> argparse.ArgumentParser:
    """Of all commands; `command` names the one that is given."""
    made = _Parser(
        prog="healmpi",
        description="Resilient decentralized learning over MPI, run for real and measured.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"healmpi {healmpi.__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_run(commands)
    _add_suite(commands)
    info = commands.add_parser("info", help="what a results file says")
    info.add_argument("file", type=path_of, metavar="OUT.h5")
    _add_no_verify(info)
    _add_verify(commands)
    _add_merge(commands)
    return made


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser("run", help="run one experiment", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    run.add_argument("file", nargs="?", metavar="FILE.toml", help="configuration; without it: the defaults")
    _add_overrides(run, "override one field (repeatable)")
    run.add_argument("-o", "--out", type=path_of, metavar="OUT.h5", help="where the results go; needed, but for --dry-run")
    run.add_argument(
        "--force",
        action="store_true",
        help="replace an existing file and the parts of a killed run; with --resume: those of another configuration",
    )
    run.add_argument("--resume", action="store_true", help="go on from the checkpoint of a stopped run; without one: from the start")
    _add_limits(run, "OUT.h5.stop")
    run.add_argument("--dry-run", action="store_true", help="print the resolved configuration and its hash, run nothing")
    _add_world(run)


def _add_suite(commands: argparse._SubParsersAction) -> None:
    suite = commands.add_parser(
        "suite",
        help="run a matrix of experiments in one launch",
        description=SUITE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    suite.add_argument("file", metavar="SUITE", help="a suite file, or the name of one that is shipped: " + ", ".join(suites.shipped()))
    suite.add_argument("-o", "--out", type=path_of, metavar="FOLDER", help="where the results go, a file for each experiment")
    suite.add_argument("--list", action="store_true", help="print the experiments' names and states, run nothing")
    suite.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="NAME", help="run these alone; * and ? stand for any letters"
    )
    _add_overrides(suite, "override one field in all experiments (repeatable)")
    suite.add_argument(
        "--force", action="store_true", help="replace files and what is left of runs that are damaged or of another configuration"
    )
    _add_no_verify(suite)
    _add_world(suite)
    _add_limits(suite, "FOLDER/STOP")


def _add_no_verify(parser: argparse.ArgumentParser) -> None:
    text = "believe the numbers of files that are there, which is faster: their digests are not looked at"
    parser.add_argument("--no-verify", action="store_false", dest="verify", help=text)


def _add_verify(commands: argparse._SubParsersAction) -> None:
    verify = commands.add_parser(
        "verify",
        help="whether files are as they were written",
        description="Says of each results file, part or folder OUT.h5.parts whether it is as it was written, or which table is the first "
        "that is not. Exit code 0: all are good, 2: there is no such file, 3: one is damaged.",
    )
    verify.add_argument("files", type=path_of, nargs="+", metavar="FILE", help="OUT.h5, OUT.h5.parts, or a part")


def _add_merge(commands: argparse._SubParsersAction) -> None:
    merge = commands.add_parser(
        "merge",
        help="make a readable file of the parts of a killed run",
        description="Makes a readable file of the parts of a killed run; they stay. Exit code 0: a file was written, valid or not.",
    )
    merge.add_argument("file", type=path_of, metavar="OUT.h5", help="the file the run was to write; its parts lie in OUT.h5.parts")
    merge.add_argument("--force", action="store_true", help="replace an existing file")


def _add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", dest="overrides", help=text)


def _add_world(parser: argparse.ArgumentParser) -> None:
    text = "auto: mpi when a launcher started this process"
    parser.add_argument("--world", choices=("auto", "local", "mpi"), default="auto", help=text)


def _add_limits(parser: argparse.ArgumentParser, file: str) -> None:
    parser.add_argument(
        "--time-limit",
        metavar="TIME",
        help="stop before so much time has passed: seconds, 30m, 2h, HH:MM:SS. The end of a Slurm job (SLURM_JOB_END_TIME) counts as "
        f"well, and a file {file} stops at the next cycle. The state is saved, the exit code is 75",
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=0, metavar="CYCLES", help="also save the state every so many cycles, against a kill"
    )


def limits(options: argparse.Namespace) -> stopping.Limits:
    """When to stop and to save. Raises UsageError."""
    if options.checkpoint_every < 0:
        raise UsageError("--checkpoint-every", options.checkpoint_every, "at least 0 (0: only when stopping)")
    left = stopping.slurm_left(dict(os.environ))
    if left is not None and left <= 0:
        note(f"{stopping.SLURM_END}={os.environ[stopping.SLURM_END]} is in the past, and ignored")
    return stopping.Limits(stopping.deadline(options.time_limit, dict(os.environ)), options.checkpoint_every)
