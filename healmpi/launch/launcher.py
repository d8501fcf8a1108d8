"""How this process was started: alone, or as one rank of many by mpirun, mpiexec or srun; and how it ends.

MPI is touched only where a launcher has started this process, or the user asks for it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from healmpi.settings import UsageError

VALID, FAULT, USAGE, INVALID, STOPPED = 0, 1, 2, 3, 75
"""Exit codes."""

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

START_S = 600.0
"""Longest time until all ranks have been heard of. Then the process ends, with a traceback that says where it waited."""

LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_SERVER_URI"),
    ("PMI_RANK", "PMI_SIZE", "PMI_FD"),
    ("PMI_RANK", "PMI_SIZE", "PMI_PORT"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS", "PMIX_SERVER_URI"),
    ("PMI_RANK", "PMI_SIZE", "PMI_CONTROL"),
)
"""What mpirun, mpiexec and srun set in the processes that they start: rank, size, and the beginning of the name of the variable by which
a process finds its launcher. Without that the others are left over from something else."""

SIZES = tuple(dict.fromkeys(size for _, size, _ in LAUNCHERS))


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _launched() -> int | None:
    """This process's rank, where a launcher has started it."""
    for rank, _, channel in LAUNCHERS:
        if _number(rank) is not None and any(name.startswith(channel) for name in os.environ):
            return _number(rank)
    return None


def launched() -> bool:
    """Whether a launcher has started this process."""
    return _launched() is not None


def launched_rank() -> int:
    """Among the processes that a launcher has started; 0 where none has."""
    return _launched() or 0


def launched_size() -> tuple[str, int] | None:
    """Of how many processes the environment tells, and the variable that does; None: of none, or of one."""
    found = [(name, _number(name)) for name in SIZES]
    return next(((name, size) for name, size in found if size is not None and size != 1), None)


def say(text: str) -> None:
    """Tell the user on stderr. What names and files bring in moves no cursor."""
    shown = "".join(one if one.isprintable() or one in "\n\t" else "?" for one in text)
    print(f"healmpi: {shown}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Tell the user on stderr, once for all ranks, what is no error."""
    if launched_rank() == 0:
        say(f"note: {text}")


def complain(error: Exception) -> int:
    """Say once, on rank 0, what cannot be used; the exit code."""
    if launched_rank() == 0:
        say(str(error))
    return USAGE


def in_world(world: str, hint: Callable[[], str], work: Callable[[Any], int]) -> int:
    """Do the work in this process or as one rank of many; return its exit code.

    world: --world. hint: says what is left of the work when a signal ends it; empty: nothing. work: called with the module worlds.mpi,
    or None.
    """
    mpi = _mpi(world)
    _quit_on_signals(hint if launched_rank() == 0 else None)
    if mpi is None:
        return work(None)
    try:
        code = work(mpi)
    except BaseException as error:
        from healmpi.worlds.world import StepTimeout, WireFault

        # One rank that fails alone would leave the others waiting: end the job.
        if isinstance(error, (UsageError, OSError, MemoryError, StepTimeout, WireFault)):
            say(f"rank {mpi.place()[0]}: {type(error).__name__}: {error}")
        else:
            traceback.print_exc()
        sys.stderr.flush()
        mpi.abort(FAULT)
        return FAULT
    mpi.leave()
    return code


def started() -> None:
    """All ranks have been heard of: from here on each wait has a deadline of its own."""
    faulthandler.cancel_dump_traceback_later()


def _mpi(world: str) -> Any:
    """The module worlds.mpi when this process is to be a rank, else None."""
    if world == "local":
        return None
    if world == "auto" and _launched() is None:
        told = launched_size()
        if told is not None:
            name, size = told
            allowed = (
                f"{name}={size} says that a launcher has started {size} processes, which would not know of each other: use the mpirun of "
                "the MPI library that mpi4py finds, or srun with its PMI (srun --mpi=list); where the variable is left over, --world local"
            )
            raise UsageError("--world", world, allowed)
        return None
    # Not in Python: while MPI starts, no other line of Python runs.
    faulthandler.dump_traceback_later(START_S, exit=True)
    try:
        from healmpi.worlds import mpi
    except (ImportError, RuntimeError) as error:
        allowed = f"MPI cannot be used here ({error}); install healmpi[openmpi] or healmpi[mpich], or the site's MPI and mpi4py"
        raise UsageError("--world", world, allowed) from None
    return mpi


def check_launch(ranks: Any) -> None:
    """N processes that each believe to be alone come from a launcher of another MPI."""
    told = launched_size()
    if ranks.mpi is not None and ranks.size == 1 and told is not None:
        allowed = (
            f"the launcher started {told[1]} processes ({told[0]}), this MPI library sees 1: use the mpirun that belongs to the library"
        )
        raise UsageError("mpirun", ranks.mpi.library(), allowed)


def _quit_on_signals(hint: Callable[[], str] | None) -> None:
    """End quietly on SIGHUP, SIGINT and SIGTERM. hint: on the rank that says what is left of the work."""

    def end(signum: int, frame: Any) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if hint is not None:
            with contextlib.suppress(Exception):
                left = hint()
                os.write(2, f"\nhealmpi: ended by {signal.Signals(signum).name}{'; ' if left else ''}{left}\n".encode(errors="replace"))
        os._exit(128 + signum)

    for number in SIGNALS:
        # Who started this process may have had it ignore one, as nohup does.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
