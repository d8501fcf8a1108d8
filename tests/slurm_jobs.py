"""A Slurm of four nodes on this machine (slurm_cluster.sh), and a copy of jobs/ as a user would have it, with an edited site.sh."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from launch import PREFIXES, ROOT, Done, finish, python, start

SCRIPT = ROOT / "tests" / "slurm_cluster.sh"
IMPOSSIBLE = 77
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")
POLL_S = 0.2

SITES = {
    "openmpi": ["launcher=mpirun", f"mpirun={PREFIXES['openmpi']}/bin/mpirun"],
    "mpich": ["launcher=srun", "mpi_type=pmi2"],
    "mismatch": ["launcher=srun", "mpi_type=none"],
}


@dataclass(frozen=True)
class Job:
    """A batch job as scontrol shows it. code: of the script, once it has ended."""

    id: str
    state: str
    restarts: int
    code: int
    facts: dict[str, str]


class Cluster:
    """Starts in a folder, ends with the process of the tests."""

    def __init__(self, folder: Path):
        self._folder = folder

    def up(self, owner: int | None = None) -> None:
        """owner: the process with which the cluster ends; without it, this one."""
        done = finish(start(["bash", SCRIPT, "start", self._folder, str(owner or os.getpid())], ROOT), 90)
        if done.code == IMPOSSIBLE:
            pytest.skip(done.err.strip())
        assert done.code == 0, f"{done.out}\n{done.err}"

    def down(self) -> None:
        finish(start(["bash", SCRIPT, "stop", self._folder], ROOT), 30)

    def start(self, command: list[str | Path], cwd: Path = ROOT, **environment: str) -> subprocess.Popen:
        return start(command, cwd, SLURM_CONF=str(self._folder / "slurm.conf"), **environment)

    def tool(self, *command: str | Path, cwd: Path = ROOT, **environment: str) -> Done:
        """One of Slurm's commands, which must end well."""
        done = finish(self.start(list(command), cwd, **environment), 30)
        assert done.code == 0, f"{command}: {done.code}\n{done.out}\n{done.err}"
        return done

    def submit(self, checkout: Path, script: str, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> str:
        """sbatch a shipped script from the top of a checkout; the job's number."""
        done = self.tool("sbatch", "--parsable", *options, f"jobs/slurm/{script}", *arguments, cwd=checkout, **environment)
        return done.out.strip()

    def script(self, checkout: Path, body: str, *options: str) -> str:
        """sbatch a few lines that use the shipped functions.sh; the job's number. Writes slurm-*.log."""
        (checkout / "job.sh").write_text(f"#!/bin/bash\nset -euo pipefail\n. jobs/slurm/functions.sh\n{body}\n")
        log = "--output=slurm-%A-%a.log" if any(option.startswith("--array") for option in options) else "--output=slurm-%j.log"
        return self.tool("sbatch", "--parsable", "--open-mode=append", "--requeue", log, *options, "job.sh", cwd=checkout).out.strip()

    def jobs(self, number: str) -> list[Job]:
        """The job, or all tasks of an array that Slurm has told apart."""
        found = []
        for line in self.tool("scontrol", "--oneliner", "show", "job", number).out.splitlines():
            facts = dict(re.findall(r"(\S+?)=(\S*)", line))
            code = int(facts["ExitCode"].split(":")[0])
            found.append(Job(facts["JobId"], facts["JobState"], int(facts["Restarts"]), code, facts))
        return found

    def until(self, what: str, condition, timeout_s: float):
        """Wait for something true and return it; what: named when the deadline passes."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
            time.sleep(POLL_S)
        return value

    def ended(self, number: str, timeout_s: float = 120) -> list[Job]:
        def all_ended() -> list[Job]:
            jobs = self.jobs(number)
            return jobs if all(job.state in ENDED for job in jobs) else []

        return self.until(f"the end of job {number}", all_ended, timeout_s)


def checkout(folder: Path, site: str, *lines: str, bound: bool = False) -> Path:
    """A copy of jobs/ whose site.sh ends with this site's settings. bound: each rank to its cores, as shipped."""
    flavour = "mpich" if site == "mpich" else "openmpi"
    if not python(flavour).exists():
        pytest.skip(f"no {flavour} at {PREFIXES[flavour]}: bash jobs/setup.sh test installs it")
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    # Four nodes share this machine's cores: with binding all their first ranks would have the same core.
    loose = ["mpirun_options=(--bind-to none)", "srun_options=(--cpu-bind=none)"]
    edits = [". jobs/mpi-env.sh", f"python={python(flavour)}", *([] if bound else loose)]
    with open(folder / "jobs" / "site.sh", "a") as file:
        file.write("\n".join([*edits, *SITES[site], *lines]) + "\n")
    return folder


def log(folder: Path) -> str:
    """What all jobs of this checkout have written so far."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.log")))
