"""What the job scripts share, without a Slurm: its variables, what squeue answers, and what other programs set for MPI."""

from __future__ import annotations

import subprocess

import pytest
from launch import ROOT

SCRIPT = """
squeue() { echo "${SQUEUE_FORMAT:-}${SQUEUE_PARTITION:-}${SLURM_TIME_FORMAT:-}" >&2; echo "$ANSWER"; }
export -f squeue
. jobs/slurm/functions.sh
echo "${SLURM_JOB_END_TIME:-none} $(tasks 8)"
"""


def shell(script: str, **environment: str):
    known = {"PATH": "/usr/bin:/bin", "TZ": "UTC"} | environment
    return subprocess.run(["bash", "-c", script], cwd=ROOT, env=known, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    "answer, end", [("2026-12-01T10:00:00", "1796119200"), ("", "none"), ("N/A", "none"), ("Unknown", "none"), ("Tue 10:00", "none")]
)
def test_an_answer_that_is_no_time_is_no_end_of_the_job(answer, end):
    done = shell(SCRIPT, ANSWER=answer, SLURM_JOB_ID="7", SLURM_NTASKS="3")
    assert done.stdout == f"{end} 3\n", done


def test_the_users_formats_and_filters_do_not_reach_squeue():
    own = {"SQUEUE_FORMAT": "%i", "SQUEUE_PARTITION": "other", "SLURM_TIME_FORMAT": "relative"}
    done = shell(SCRIPT, ANSWER="", SLURM_JOB_ID="7", SLURM_NTASKS="3", **own)
    assert done.stderr == "standard\n"


@pytest.mark.parametrize(
    "job, ranks",
    [
        ({"SLURM_NTASKS": "5"}, "5"),
        ({"SLURM_NTASKS_PER_NODE": "8", "SLURM_JOB_NUM_NODES": "4"}, "32"),
        ({}, ""),
    ],
)
def test_ranks_are_tasks_or_nodes_times_tasks_a_node_or_refused(job, ranks):
    done = shell(SCRIPT, ANSWER="", SLURM_JOB_ID="7", **job)
    assert done.stdout == f"none {ranks}\n"
    assert ("give sbatch --ntasks=N" in done.stderr) == (not ranks)
    refused = shell("set -eu; . jobs/slurm/functions.sh; ranks=$(tasks 8); echo started", SLURM_JOB_ID="7")
    assert (refused.returncode, refused.stdout) == (2, "")


def test_outside_of_slurm_the_script_says_how_many():
    assert shell(SCRIPT).stdout == "none 8\n"


def test_what_is_set_for_mpi_by_others_is_told():
    done = shell(". jobs/mpi-env.sh; . jobs/mpi-env.sh", OMPI_MCA_pml="ucx", UCX_TLS="tcp", HOME="/root")
    assert done.returncode == 0 and done.stdout == ""
    assert set(done.stderr.splitlines()) == {
        f"jobs/mpi-env.sh: note: {one} is set, and MPI heeds it" for one in ("OMPI_MCA_pml=ucx", "UCX_TLS=tcp")
    }
