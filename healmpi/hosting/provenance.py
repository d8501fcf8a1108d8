"""Where a result comes from: versions, machine, launcher, job. No secrets: the environment is never copied as a whole."""

from __future__ import annotations

import datetime
import os
import platform
import socket
import sys
from importlib import metadata

import healmpi

PACKAGES = ("mpi4py", "torch", "numpy", "h5py", "tqdm")
JOB_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_NTASKS",
    "SLURM_CPUS_PER_TASK",
    "OMP_NUM_THREADS",
)


def collect(*, world: str, ranks: int, seed: int, threads: int, mpi_library: str) -> dict[str, str | int | float]:
    """Facts about this run that are the same on all ranks."""
    facts: dict[str, str | int | float] = {
        "healmpi": healmpi.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "world": world,
        "mpi_library": mpi_library,
        "ranks": ranks,
        "seed": seed,
        "threads_per_rank": threads,
    }
    for package in PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "absent"
    facts |= {name.lower(): os.environ[name] for name in JOB_VARIABLES if name in os.environ}
    return facts


def of_rank(threads: int) -> dict[str, str | int | float]:
    """Facts about this rank."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "cores": len(os.sched_getaffinity(0)), "threads": threads}
