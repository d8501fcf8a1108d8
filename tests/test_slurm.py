"""The shipped job scripts on a real Slurm: submitted as they are, with a site.sh for this machine."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from launch import PREFIXES, ROOT, finish, healmpi, python, sets, start
from slurm_jobs import Cluster, checkout, log

pytestmark = pytest.mark.slow

SCRIPTS = sorted(ROOT.glob("jobs/slurm/*.sh"))
JOBS = [path for path in SCRIPTS if "\n#SBATCH " in path.read_text()]
SHELL = [*SCRIPTS, ROOT / "jobs" / "site.sh", ROOT / "tests" / "slurm_cluster.sh"]

SPAMBASE = ["data.dataset=spambase", "learner.optimizer=sgd", "learner.learning_rate=0.1"]
QUICK = [*SPAMBASE, "model.name=logistic", "faults.crash_cycle=4", "run.cycles=6"]

RESULTS = {  # what must agree bit for bit; times may differ
    "cycles": ["accuracy", "loss", "train_loss", "model_crc32", "alive", "is_hub", "incarnation", "trained", "messages_out", "bytes_in"],
    "faults": ["cycle", "node", "tick"],
    "groups": ["cycle", "epoch", "members", "outcome", "weight"],
    "models": ["sha256"],
}


# The scripts themselves.


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_script_is_clean(path):
    subprocess.run(["bash", "-n", path], check=True, timeout=20)
    checker = shutil.which("shellcheck", path=f"{PREFIXES['openmpi']}/bin:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("bash -n passed; no shellcheck here")
    done = subprocess.run([checker, "--external-sources", path.relative_to(ROOT)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_a_job_script_says_what_it_does_how_long_it_takes_and_how_to_submit_it(path):
    head, _, body = path.read_text().partition("\n#SBATCH ")
    assert len(head.splitlines()) >= 4, "what it does"
    assert re.search(r"^# .*[Tt]akes ", head, re.MULTILINE), "how long?"
    assert f"sbatch jobs/slurm/{path.name}" in head, "how to submit?"
    assert "Results: " in head
    assert "set -euo pipefail" in body
    assert "--time=" in body and "--signal=B:USR1@" in body and "--requeue" in body


# On Slurm.


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Four nodes, for all tests of this file."""
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


on_slurm = pytest.mark.slurm


def needs(command: str, option: str) -> None:
    help_text = subprocess.run([python(), "-m", "healmpi", command, "--help"], capture_output=True, text=True, timeout=60).stdout
    if option not in help_text:
        pytest.skip(f"healmpi {command} has no {option}")


def assert_same_bits(one: Path, other: Path) -> None:
    with h5py.File(one) as first, h5py.File(other) as second:
        for group, names in RESULTS.items():
            for name in names:
                ours, theirs = first[group][name][()], second[group][name][()]
                assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"), f"{group}/{name} of {one} and {other}"


def only(folder: Path) -> Path:
    """The one results file."""
    (found,) = folder.glob("**/*.h5")
    return found


def ranks_of(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file.attrs["ranks"])


@pytest.fixture(scope="module")
def limited(slurm, tmp_path_factory):
    """A job that will reach its limit of a minute; submitted early, since the others can run meanwhile."""
    needs("run", "--resume")
    endless = [*SPAMBASE, "model.name=logistic", "run.cycles=1000000", "evaluation.every=1000", "results.views_every=0"]
    # The others shall not wait for it.
    folder = checkout(tmp_path_factory.mktemp("limited") / "cluster", "openmpi", "renice -n 19 -p $$ > /dev/null")
    # Slurm looks for limits every half minute: it signals between 15 s and 45 s after the start.
    options = ("--ntasks=1", "--time=1", "--signal=B:USR1@45")
    return folder, slurm.submit(folder, "single-node.sh", *sets(*endless), options=options, OUT="out/long.h5", MAX_RESTARTS="0")


@on_slurm
@pytest.mark.usefixtures("limited")
def test_mpirun_in_a_batch_job_gives_the_bits_of_a_run_at_home(slurm, tmp_path):
    needs("run", "--resume")
    folder = checkout(tmp_path / "cluster", "openmpi")
    (job,) = slurm.ended(slurm.submit(folder, "single-node.sh", *sets(*QUICK), options=("--ntasks=2", "--time=3")))
    assert (job.state, job.code) == ("COMPLETED", 0), log(folder)
    assert "\nVALID\n" in log(folder)
    assert ranks_of(only(folder)) == 2
    home = healmpi("run", "jobs/main.toml", *sets(*QUICK), "-o", tmp_path / "home.h5", cwd=ROOT)
    assert home.code == 0, home.err
    assert_same_bits(only(folder), tmp_path / "home.h5")


@on_slurm
def test_srun_with_pmi2_starts_a_rank_on_each_of_four_nodes(slurm, tmp_path):
    needs("run", "--resume")
    folder = checkout(tmp_path, "mpich")
    (job,) = slurm.ended(slurm.submit(folder, "rank-per-node.sh", *sets(*QUICK), options=("--nodes=4", "--time=3")))
    assert (job.state, job.code) == ("COMPLETED", 0), log(folder)
    assert "\nVALID\n" in log(folder) and "MPICH" in log(folder)
    assert ranks_of(only(folder)) == 4


@on_slurm
def test_a_launcher_that_does_not_match_the_mpi_is_refused_with_the_cure(slurm, tmp_path):
    needs("run", "--resume")
    folder = checkout(tmp_path, "mismatch")
    (job,) = slurm.ended(slurm.submit(folder, "single-node.sh", options=("--ntasks=2", "--time=3")))
    assert (job.state, job.code) == ("FAILED", 2), log(folder)
    assert "a launcher has started 2 processes" in log(folder)
    assert "srun --mpi=list" in log(folder)
    assert not list(folder.glob("**/*.h5"))


@on_slurm
def test_the_other_scripts_run_side_by_side(slurm, tmp_path):
    needs("run", "--resume")
    quick = sets("run.cycles=3", "learner.local_steps=2")
    folder = checkout(tmp_path, "openmpi", *apptainer_site(tmp_path / "bin"))
    stand_in_for_apptainer(tmp_path / "bin" / "apptainer")
    submitted = {
        "ranks-per-node": slurm.submit(folder, "ranks-per-node.sh", *sets("run.cycles=3"), options=("--nodes=2", "--ntasks-per-node=1")),
        "scaling": slurm.submit(
            folder, "scaling.sh", "strong", *quick, options=("--nodes=1", "--ntasks-per-node=2"), PER_RANK="2"
        ),
        "crashes": slurm.submit(
            folder, "crashes.sh", *sets("run.cycles=4", "faults.crash_cycle=2"), options=("--ntasks=1",), FRACTIONS="0.3", SEEDS="1"
        ),
        "gpu": slurm.submit(
            folder, "gpu.sh", *sets(*QUICK), DEVICE="cpu",
            options=("--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1"),
        ),
        "apptainer": slurm.submit(folder, "apptainer.sh", *sets(*QUICK), options=("--nodes=2",)),
    }  # fmt: skip
    for name, number in submitted.items():
        (job,) = slurm.ended(number)
        assert (job.state, job.code) == ("COMPLETED", 0), (folder / f"healmpi-{name}-{number}.log").read_text()
    assert ranks_of(folder / f"out/healmpi-ranks-per-node-{submitted['ranks-per-node']}.h5") == 2

    scaling = (folder / f"healmpi-scaling-{submitted['scaling']}.log").read_text()
    assert re.search(r"ranks +cycles/s.*\n +1 .* 1\.00 .*\n +2 ", scaling), scaling
    crashes = (folder / f"healmpi-crashes-{submitted['crashes']}.log").read_text()
    assert re.search(r"fraction +seed +accuracy.*\n +0\.3 +1 +0\.\d+ .* 70\n", crashes), crashes
    # Each of the two containers was told to open the host's MPI, and did.
    told = (tmp_path / "bin" / "apptainer.log").read_text().splitlines()
    assert len(told) == 2 and all(f"MPI4PY_LIBMPI={PREFIXES['openmpi']}/lib/libmpi.so.40" in line for line in told)


def apptainer_site(bin_folder: Path) -> list[str]:
    mpi = PREFIXES["openmpi"]  # its libmpi.so is a linker script
    return [f"PATH={bin_folder}:$PATH", "image=healmpi.sif", f"host_mpi={mpi}", f"host_libmpi={mpi}/lib/libmpi.so.40"]


def stand_in_for_apptainer(path: Path) -> None:
    """Notes its arguments, then runs what would run in the image on the host, with the variables it was given."""
    path.parent.mkdir()
    path.write_text(
        f"""#!/usr/bin/env bash
set -euo pipefail
echo "$*" >> "$0.log"
[ "$1" = exec ]; shift
while [ "${{1#--}}" != "$1" ]; do
    if [ "$1" = --env ]; then IFS=, read -ra pairs <<< "$2"; export "${{pairs[@]}}"; fi
    shift 2
done
[ "$1 $2" = "healmpi.sif /opt/healmpi/bin/python" ]; shift 2
exec {python()} "$@"
"""
    )
    path.chmod(0o755)


@on_slurm
@pytest.mark.parametrize("launch", [f"{PREFIXES['openmpi']}/bin/mpirun --bind-to none -n 4", "srun", "srun --gpu-bind=single:1"])
def test_each_rank_has_a_gpu_of_its_own(slurm, tmp_path, launch):
    folder = checkout(tmp_path, "openmpi")
    command = f". jobs/mpi-env.sh; {launch} bash jobs/slurm/one-gpu.sh sh -c 'echo $CUDA_VISIBLE_DEVICES'"
    options = ["--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2", "--time=2", "--output=gpu.log"]
    number = slurm.tool("sbatch", "--parsable", *options, "--wrap", command, cwd=folder).out.strip()
    (job,) = slurm.ended(number)
    assert job.code == 0, log(folder)
    assert sorted(log(folder).split()) == ["0", "0", "1", "1"]


def test_more_ranks_than_gpus_are_refused(tmp_path):
    command = ["bash", ROOT / "jobs/slurm/one-gpu.sh", "true"]
    done = finish(start(command, tmp_path, OMPI_COMM_WORLD_LOCAL_RANK="2", CUDA_VISIBLE_DEVICES="0,1"), 20)
    assert done.code == 2
    assert "local rank 2 has no GPU" in done.err and "shows 2 (0,1)" in done.err


@on_slurm
@pytest.mark.parametrize("site", ["openmpi", "mpich"])
def test_each_rank_is_bound_to_as_many_cores_as_it_was_given(slurm, tmp_path, site):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")
    folder = checkout(tmp_path, site, bound=True)
    mask = "grep -h Cpus_allowed_list /proc/self/status"
    (two,) = slurm.ended(slurm.script(folder, f"launch 2 {mask}", "--ntasks=2", "--cpus-per-task=1", "--nodes=1"))
    (one,) = slurm.ended(slurm.script(folder, f"launch 1 {mask}", "--ntasks=1", "--cpus-per-task=2", "--nodes=1"))
    assert (two.code, one.code) == (0, 0), log(folder)
    assert sorted(log(folder).replace("Cpus_allowed_list:", "").split()) == ["0", "0-1", "1"]


@on_slurm
def test_each_rank_is_told_when_the_job_must_end(slurm, tmp_path):
    folder = checkout(tmp_path, "openmpi")
    body = "launch 1 printenv SLURM_JOB_END_TIME; date --date @$SLURM_JOB_END_TIME +%FT%T"
    (job,) = slurm.ended(slurm.script(folder, body, "--ntasks=1", "--time=7"))
    assert job.code == 0, log(folder)
    start_s, end_s = (np.datetime64(text).astype(int) for text in (job.facts["StartTime"], log(folder).split()[1]))
    assert end_s - start_s == 7 * 60


@on_slurm
def test_a_stopped_task_of_an_array_queues_again_alone(slurm, tmp_path):
    folder = checkout(tmp_path, "openmpi")
    # On its first try each odd task ends as a stopped healmpi does. The last task bears the number of the array.
    body = """
    echo "task $SLURM_ARRAY_TASK_ID"
    code=$((SLURM_ARRAY_TASK_ID % 2 == 1 && ${SLURM_RESTART_COUNT:-0} == 0 ? 75 : 0))
    stoppable task.stop bash -c "exit $code"
    """
    jobs = slurm.ended(slurm.script(folder, body, "--array=0-1", "--ntasks=1"))
    assert {(job.facts["ArrayTaskId"], job.state, job.restarts) for job in jobs} == {("0", "COMPLETED", 0), ("1", "COMPLETED", 1)}, log(
        folder
    )
    assert (log(folder).count("task 0"), log(folder).count("task 1")) == (1, 2)


@on_slurm
@pytest.mark.parametrize(
    ("stop", "restarts", "message"),
    [
        ("run.h5.stop", 20, "stopped by out/run.h5.stop; remove it"),
        ("STOP", 20, "stopped by out/STOP; remove it"),
        (None, 0, "submit again, with the same OUT"),
    ],
)
def test_a_job_stays_stopped_after_a_stop_file_or_too_many_restarts(slurm, tmp_path, stop, restarts, message):
    folder = checkout(tmp_path, "openmpi", f"MAX_RESTARTS={restarts}")
    (folder / "out").mkdir()
    if stop:
        (folder / "out" / stop).touch()
    (job,) = slurm.ended(slurm.script(folder, "stoppable out/run.h5.stop bash -c 'exit 75'", "--ntasks=1"))
    assert (job.state, job.code, job.restarts) == ("FAILED", 75, 0)
    assert message in log(folder)


@on_slurm
def test_an_array_goes_on_when_a_node_goes_down_in_its_middle(slurm, tmp_path):
    folder = checkout(tmp_path, "openmpi")
    needs("suite", "--list")
    names = [line.split()[0] for line in healmpi("suite", "S", "--list", cwd=ROOT).out.splitlines()][:4]
    number = slurm.submit(folder, "array.sh", options=("--array=0-3", "--ntasks=1", "--exclusive", "--time=5"), SUITE="S", DIR="out/S")

    def running_on_n2():
        return [job for job in slurm.jobs(number) if job.state == "RUNNING" and job.facts["NodeList"] == "n2"]

    (victim,) = slurm.until("a task on n2", running_on_n2, 60)
    slurm.tool("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    try:
        jobs = slurm.ended(number)
    finally:
        slurm.tool("bash", "-c", "scontrol update nodename=n2 state=idle || true")
    assert len(jobs) == 4
    assert {(job.state, job.code) for job in jobs} == {("COMPLETED", 0)}, log(folder)
    assert {job.id for job in jobs if job.restarts} == {victim.id}
    assert sorted(path.stem for path in folder.glob("out/S/*.h5")) == sorted(names)
    for name in names:
        assert "verdict: VALID" in healmpi("info", folder / "out" / "S" / f"{name}.h5", cwd=ROOT).out


@on_slurm
def test_an_array_says_when_it_is_shorter_or_longer_than_the_suite(slurm, tmp_path):
    folder = checkout(tmp_path, "openmpi")
    number = slurm.submit(folder, "array.sh", options=("--array=500", "--ntasks=1"), SUITE="S")
    (job,) = slurm.ended(number)
    assert job.code == 0
    assert "nothing is left for task 500" in log(folder)


@on_slurm
def test_a_job_that_is_signalled_before_its_limit_goes_on_later_to_the_same_bits(slurm, tmp_path):
    long = [*SPAMBASE, "model.name=logistic", "run.cycles=200", "faults.crash_cycle=120", "results.views_every=50"]
    folder = checkout(tmp_path / "cluster", "openmpi")
    number = slurm.submit(folder, "single-node.sh", *sets(*long), options=("--ntasks=2", "--time=5"), CHECKPOINT_EVERY="40")
    slurm.until("a checkpoint", lambda: list(folder.glob("out/*.parts/checkpoint.json")), 90)
    slurm.tool("scancel", "--batch", "--signal=USR1", number)
    slurm.until("the queue again", lambda: slurm.jobs(number)[0].restarts == 1, 60)
    assert "the job goes back into the queue" in log(folder)
    assert not list(folder.glob("out/*.h5")), "it ended before it was signalled"
    (job,) = slurm.ended(number)
    assert (job.state, job.code, job.restarts) == ("COMPLETED", 0, 1), log(folder)
    assert "\nVALID\n" in log(folder)
    done, cycles = map(int, re.search(r"going on after (\d+) of (\d+) cycles", log(folder)).groups())
    assert 40 <= done < cycles == 200
    home = healmpi("run", "jobs/main.toml", *sets(*long), "-o", tmp_path / "home.h5", cwd=ROOT)
    assert home.code == 0, home.err
    assert_same_bits(only(folder / "out"), tmp_path / "home.h5")


@on_slurm
def test_slurms_time_limit_stops_a_run_cleanly(slurm, limited):
    folder, number = limited
    (job,) = slurm.ended(number)
    assert (job.state, job.code) == ("FAILED", 75), log(folder)
    assert "submit again, with the same OUT, to go on" in log(folder)
    assert (folder / "out" / "long.h5.parts" / "checkpoint.json").exists()
    assert not (folder / "out" / "long.h5.stop").exists()


# ReFrame.


def reframe(folder: Path, system: str, *settings: str, run=start):
    """The shipped test with the shipped settings; its exit code says whether it passed."""
    command = shutil.which("reframe", path=f"{PREFIXES['openmpi']}-reframe/bin:{os.environ['PATH']}")
    if command is None:
        pytest.skip("no ReFrame: python3 -m venv .venv-reframe && .venv-reframe/bin/pip install ReFrame-HPC")
    options = [part for setting in settings for part in ("-S", f"HealmpiSuite.{setting}")]
    shipped = ["-C", ROOT / "jobs/reframe/settings.py", "-c", ROOT / "jobs/reframe/healmpi_checks.py"]
    environment = {
        "HEALMPI_PYTHON": str(python()),
        "HEALMPI_MPI_BIN": f"{PREFIXES['openmpi']}/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
    environment["TMPDIR"] = str(folder)
    arguments = [command, "--nocolor", "--prefix", folder, *shipped, f"--system={system}", *options, "--run", "--performance-report"]
    return finish(run(arguments, folder, **environment), 150)


def assert_figures(done, system: str) -> None:
    assert done.code == 0, f"{done.out}\n{done.err}"
    assert "PASSED" in done.out and f"@{system}" in done.out
    assert re.search(r"spambase-heal-none-s1\.accuracy_mean .* 0\.[89]", done.out), done.out
    assert re.search(r"spambase-heal-none-s1\.wall_s +│ s ", done.out), done.out


@on_slurm
def test_reframe_passes_a_valid_suite_on_slurm_and_reads_its_figures(slurm, tmp_path):
    done = reframe(tmp_path, "cluster", "only=spambase-heal-none-s1", "ranks=2", run=slurm.start)
    assert_figures(done, "cluster")


def test_reframe_passes_a_valid_suite_without_a_scheduler_and_reads_its_figures(tmp_path):
    needs("suite", "--only")
    assert_figures(reframe(tmp_path, "laptop", "only=spambase-heal-none-s1", "ranks=1"), "laptop")


def test_reframe_fails_a_suite_that_could_not_run(tmp_path):
    done = reframe(tmp_path, "laptop", "suite=absent", "ranks=1")
    assert done.code == 1, done.out
    assert "FAILED" in done.out


# The local Slurm.


@on_slurm
def test_a_local_slurm_ends_with_the_process_that_it_was_started_for(tmp_path):
    owner = start(["sleep", "600"], tmp_path)
    started = [owner]
    cluster = Cluster(tmp_path / "slurm")
    try:
        cluster.up(owner.pid)
        started.append(cluster.start(["srun", "-N2", "sleep", "600"], tmp_path))
        cluster.until("a running job", lambda: "RUNNING" in cluster.tool("squeue", "-h", "-o", "%T").out, 30)
        owner.kill()
        owner.wait(5)
        cluster.until("the end", lambda: not (tmp_path / "slurm" / "slurm.conf").exists(), 30)
        assert processes_of(tmp_path / "slurm") == []
    finally:
        for process in started:
            finish(process, 1)
        cluster.down()


def processes_of(folder: Path) -> list[str]:
    """Daemons that were started for this folder, and are no zombies."""
    mark = f"HEALMPI_CLUSTER={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "comm").read_text())
        except OSError:
            continue
    return found
