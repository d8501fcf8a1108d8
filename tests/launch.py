"""Starts healmpi as a user does: a real process or a real mpirun, in a process group of its own, with a deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PREFIXES = {"openmpi": Path(sys.prefix), "mpich": Path(sys.prefix + "-mpich")}
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_btl": "^ofi",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "MPIR_CVAR_CH4_PROGRESS_THROTTLE": "true",
    "MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT": "1",
}


@dataclass(frozen=True)
class Done:
    """What a process left: its exit code (None: still running at the deadline) and what it printed."""

    code: int | None
    out: str
    err: str


def finish(process: subprocess.Popen, timeout_s: float) -> Done:
    """Wait, at most so long; then end the whole process group, whatever it has become."""
    try:
        out, err = process.communicate(timeout=timeout_s)
        return Done(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        _kill(process.pid)
        out, err = process.communicate()
        return Done(None, out, err)
    finally:
        _kill(process.pid)


def _kill(group: int) -> None:
    """End the process group, if it has not ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def start(command: list[str | Path], cwd: Path, **environment: str) -> subprocess.Popen:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_COMM", "PMIX", "PMI_"))}
    return subprocess.Popen(
        [str(part) for part in command], cwd=cwd, env=clean | ENVIRONMENT | environment, start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def python(flavour: str = "openmpi") -> Path:
    return PREFIXES[flavour] / "bin" / "python"


def mpirun(flavour: str, ranks: int) -> list[str | Path]:
    """The start of a command line under this MPI."""
    launcher = PREFIXES[flavour] / "bin" / "mpirun"
    if not launcher.exists():
        pytest.skip(f"no {flavour} at {PREFIXES[flavour]}: bash jobs/setup.sh test installs it")
    return [launcher, "-n", str(ranks), python(flavour)]


def healmpi(*arguments: str | Path, cwd: Path, timeout_s: float = 120, **environment: str) -> Done:
    """healmpi in one process."""
    return finish(start([python(), "-m", "healmpi", *arguments], cwd, **environment), timeout_s)


def healmpi_mpi(flavour: str, ranks: int, *arguments: str | Path, cwd: Path, timeout_s: float = 120, **environment: str) -> Done:
    """healmpi under mpirun."""
    return finish(start([*mpirun(flavour, ranks), "-m", "mpi4py", "-m", "healmpi", *arguments], cwd, **environment), timeout_s)


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


# Watching processes.


def wait_until(holds: Callable[[], object], timeout_s: float, what: str) -> object:
    """The first true value; fails after so many seconds."""
    deadline = time.monotonic() + timeout_s
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return value


def processes(process: subprocess.Popen, folder: Path) -> dict[int, list[str]]:
    """Command lines, by process id, of what lives (zombies aside) in the session that `launch.start` made, or names this folder.

    MPICH's proxy makes a session of its own.
    """
    found = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        try:
            state, _, _, session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (place / "cmdline").read_text().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if state != "Z" and (int(session) == process.pid or any(str(folder) in part for part in command)):
            found[int(place.name)] = command
    return found


def rank_processes(process: subprocess.Popen, folder: Path) -> list[int]:
    """The Python processes among them, not the launcher's own."""
    found = processes(process, folder)
    return sorted(pid for pid, command in found.items() if Path(command[0]).name.startswith("python") and "healmpi" in command)
