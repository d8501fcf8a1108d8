"""Where a result comes from: versions, machine, launcher, transport, job. No secrets: of the environment only what is named here."""

from __future__ import annotations

import datetime
import os
import platform
import socket
import sys
from importlib import metadata
from pathlib import Path

import healmpi
from healmpi import cores

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
TRANSPORT_PREFIXES = ("OMPI_MCA_", "PRTE_MCA_", "PMIX_MCA_", "MPIR_CVAR_", "I_MPI_", "UCX_", "FI_")
"""Of variables that say how MPI moves messages and where ranks are put."""

TRANSPORT = "mpi_variables"
OTHER_VARIABLES = (*cores.BINDING_VARIABLES, "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_NUM_THREADS")


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
    facts |= {name.lower(): os.environ[name] for name in (*JOB_VARIABLES, *OTHER_VARIABLES) if name in os.environ}
    set_here = sorted(name for name in os.environ if name.startswith(TRANSPORT_PREFIXES))
    facts[TRANSPORT] = " ".join(f"{name}={os.environ[name]}" for name in set_here)
    return facts | _commit()


def of_rank(threads: int) -> dict[str, str | int | float]:
    """Facts about this rank. cpu_capability: the instructions that torch takes, which decide over last bits; empty without torch."""
    known: dict[str, str | int | float] = {"host": socket.gethostname(), "pid": os.getpid(), "cores": len(cores.GIVEN), "threads": threads}
    return known | {"binding": cores.as_text(), "cpu_model": _cpu_model(), "cpu_capability": capability()}


def capability() -> str:
    """torch's level of vector instructions in this process: 'AVX512', 'DEFAULT', ...; empty: torch is not loaded."""
    torch = sys.modules.get("torch")
    return "" if torch is None else str(torch.backends.cpu.get_cpu_capability())


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    # "CPU part" is what ARM tells.
    found = [line.partition(":")[2].strip() for name in ("model name", "CPU part") for line in lines if line.startswith(name)]
    return found[0] if found else platform.processor() or platform.machine()


def _commit() -> dict[str, str | int | float]:
    """The commit of healmpi's own checkout, where it is one. Read from its files: a process under MPI should not fork."""
    place = Path(healmpi.__file__).parent.parent / ".git"
    try:
        if place.is_file():  # of a worktree: it names another folder
            place = Path(place.read_text(encoding="utf-8").removeprefix("gitdir:").strip())
        head = (place / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return {"git_commit": head}
        name = head.removeprefix("ref:").strip()
        shared = place / "commondir"
        folders = [place] + ([place / shared.read_text(encoding="utf-8").strip()] if shared.exists() else [])
        found = [(folder / name).read_text(encoding="utf-8").strip() for folder in folders if (folder / name).exists()]
        packed = [line for folder in folders if (folder / "packed-refs").exists() for line in _lines(folder / "packed-refs")]
        found += [line.partition(" ")[0] for line in packed if line.endswith(f" {name}")]
        return {"git_commit": found[0]} if found else {}
    except (OSError, ValueError):
        return {}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
