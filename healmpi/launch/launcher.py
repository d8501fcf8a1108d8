"""How this process was started: alone, or as one rank of many by mpirun, mpiexec or srun; and how it ends.

MPI is touched only where a launcher has started this process, or the user asks for it.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from healmpi.settings import UsageError

VALID, FAULT, USAGE, INVALID, STOPPED = 0, 1, 2, 3, 75
"""Exit codes."""

LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
LAUNCHER_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
"""Environment variables that mpirun, mpiexec and srun set in the processes they start."""


def launched_rank() -> int:
    return next((int(os.environ[name]) for name in LAUNCHER_RANKS if os.environ.get(name, "").isdigit()), 0)


def launched_size() -> int | None:
    return next((int(os.environ[name]) for name in LAUNCHER_SIZES if os.environ.get(name, "").isdigit()), None)


def say(text: str) -> None:
    """Tell the user on stderr."""
    print(f"healmpi: {text}", file=sys.stderr, flush=True)


def complain(error: Exception) -> int:
    """Say once, on rank 0, what cannot be used; the exit code."""
    if launched_rank() == 0:
        say(str(error))
    return USAGE


def in_world(world: str, hint: str, work: Callable[[Any], int]) -> int:
    """Do the work in this process or as one rank of many; return its exit code.

    world: --world. hint: what is left of the work after a signal. work: called with the module worlds.mpi, or None.
    """
    mpi = _mpi(world)
    _quit_on_signals(hint if launched_rank() == 0 else None)
    if mpi is None:
        return work(None)
    try:
        code = work(mpi)
    except BaseException as error:
        from healmpi.worlds.world import StepTimeout

        # One rank that fails alone would leave the others waiting: end the job.
        if isinstance(error, (UsageError, OSError, MemoryError, StepTimeout)):
            say(f"rank {mpi.place()[0]}: {type(error).__name__}: {error}")
        else:
            traceback.print_exc()
        sys.stderr.flush()
        mpi.abort(FAULT)
        return FAULT
    mpi.leave()
    return code


def _mpi(world: str) -> Any:
    """The module worlds.mpi when this process is to be a rank, else None."""
    launched = any(name in os.environ for name in LAUNCHER_RANKS)
    if world == "local" or (world == "auto" and not launched):
        size = launched_size()
        if size not in (None, 1):
            allowed = f"a launcher has started {size} processes, which would not know of each other: use the mpirun of the MPI library"
            raise UsageError("--world", world, allowed + " that mpi4py finds, or srun with its PMI (srun --mpi=list)")
        return None
    try:
        from healmpi.worlds import mpi
    except (ImportError, RuntimeError) as error:
        allowed = f"MPI cannot be used here ({error}); install healmpi[openmpi] or healmpi[mpich], or the site's MPI and mpi4py"
        raise UsageError("--world", world, allowed) from None
    return mpi


def check_launch(ranks: Any) -> None:
    """N processes that each believe to be alone come from a launcher of another MPI."""
    told = launched_size()
    if ranks.mpi is not None and ranks.size == 1 and told not in (None, 1):
        allowed = f"the launcher started {told} processes, this MPI library sees 1: use the mpirun that belongs to the library"
        raise UsageError("mpirun", ranks.mpi.library(), allowed)


def _quit_on_signals(hint: str | None) -> None:
    """End quietly on SIGINT and SIGTERM. hint: on the rank that says what is left of the work."""

    def end(signum: int, frame: Any) -> None:
        if hint is not None:
            os.write(2, f"\nhealmpi: ended by signal {signum}; {hint}\n".encode())
        os._exit(128 + signum)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
