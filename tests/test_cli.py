"""The command line as a user meets it: what it prints, its exit codes, and what a killed run leaves behind."""

import math
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import h5py
import pytest
from launch import finish, healmpi, healmpi_mpi, mpirun, processes, python, rank_processes, sets, start, wait_until

import healmpi as package
from healmpi.config import Config
from healmpi.results.folder import PartsFolder
from healmpi.results.parts import read_parts

FLAVOURS = ["openmpi", "mpich"]
SMALL = sets("data.dataset=synthetic", "data.samples=200", "run.nodes=8", "run.cycles=4", "model.name=logistic")
ENDLESS = sets(
    "data.dataset=synthetic", "data.samples=200", "run.nodes=8", "run.cycles=1000000", "model.name=logistic", "results.flush_every=1",
    "results.views_every=0", "results.audit=off",
)  # fmt: skip


def assert_refused(done, *words: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that names all these words."""
    assert done.code == 2, (done.code, done.out, done.err)
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("healmpi: ") and all(word in line for word in words), line


def cycles_on_disk(out: Path, ranks: int) -> int:
    """Cycles that every rank's part has; 0 until all have begun theirs."""
    parts, _ = read_parts(PartsFolder(out).parts())
    return min(part.committed["cycles"] for part in parts) if len(parts) == ranks else 0


def wait_until_parts_grow(out: Path, ranks: int) -> None:
    first = wait_until(lambda: cycles_on_disk(out, ranks), 60, "all ranks have written a cycle")
    wait_until(lambda: cycles_on_disk(out, ranks) > first, 60, "the parts grow")


# Alone.


@pytest.mark.parametrize(("option", "words"), [("--help", ["run", "info", "merge", "exit codes"]), ("--version", [package.__version__])])
def test_help_and_version_import_neither_torch_nor_mpi(option, words, tmp_path):
    program = (
        "import sys\nfrom healmpi.launch.cli import main\ntry:\n    code = main([sys.argv[1]])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "print('heavy:', sorted({'torch', 'mpi4py'} & set(sys.modules)))\nsys.exit(code)"
    )
    done = finish(start([python(), "-c", program, option], tmp_path), 60)
    assert done.code == 0 and done.err == "" and done.out.splitlines()[-1] == "heavy: []"
    assert all(word in done.out for word in words)


def test_a_dry_run_prints_a_file_that_loads_back_to_the_same_configuration(tmp_path):
    done = healmpi("run", "--dry-run", *SMALL, *sets("faults.plan=[{cycle=2, nodes=[1]}]"), cwd=tmp_path)
    assert done.code == 0 and done.err == ""
    (tmp_path / "again.toml").write_text(done.out)
    again = Config.load(str(tmp_path / "again.toml"))
    assert again.resolve() == again and again.run.nodes == 8 and again.topology.view_size == 7
    assert done.out.splitlines()[-1] == f"# configuration hash: {again.hash()}"
    assert [path.name for path in tmp_path.iterdir()] == ["again.toml"], "a dry run writes nothing"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "out.h5", *sets("run.nodez=8")], ["run.nodez", "8", "unknown key", "nodes"]),
        (["-o", "out.h5", *sets("run.nodes=8", "topology.view_size=8")], ["topology.view_size", "8", "less than run.nodes"]),
        (["-o", "out.h5", *sets("run.nodes=8", "rule.fanout=3")], ["rule.fanout", "3", "at most elevator.hub_count, 2"]),
        (["-o", "out.h5", *sets("data.dataset=synthetic", "data.samples=50", "run.nodes=60")], ["60", "samples"]),
        (["-o", "nowhere/out.h5", *SMALL], ["-o", "nowhere/out.h5", "does not exist"]),
        (["-o", "existing.h5", *SMALL], ["-o", "existing.h5", "--force"]),
        (SMALL, ["-o", "must be named"]),
        (["absent.toml", "-o", "out.h5"], ["FILE", "absent.toml", "cannot be read"]),
    ],
    ids=["unknown key", "view too large", "fanout too large", "fewer samples than nodes", "no folder", "existing file", "no -o", "no file"],
)
def test_what_cannot_be_run_is_refused_in_one_line(arguments, words, tmp_path):
    (tmp_path / "existing.h5").write_text("precious")
    assert_refused(healmpi("run", *arguments, cwd=tmp_path), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["existing.h5"]
    assert (tmp_path / "existing.h5").read_text() == "precious"


def test_a_run_ends_with_its_verdict_and_figures_of_merit(tmp_path):
    done = healmpi("run", *SMALL, "-o", "out.h5", cwd=tmp_path)
    assert done.code == 0, done.err
    assert_verdict_and_figures_last(done.out, "VALID")
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"], "the folder with the parts is gone"
    told = healmpi("info", "out.h5", cwd=tmp_path)
    assert told.code == 0 and told.err == "" and "verdict: VALID" in told.out and "8 nodes on 1 rank" in told.out


def assert_verdict_and_figures_last(out: str, verdict: str) -> None:
    lines = out.splitlines()
    (place,) = [index for index, line in enumerate(lines) if line.startswith(verdict)]
    figures = [line.split(" ") for line in lines[place + 1 :]]
    for word, _, value, _ in figures:
        assert word == "FOM" and math.isfinite(float(value))
    names = [name for _, name, _, _ in figures]
    assert len(set(names)) == len(names) and {"accuracy_mean", "wall_s", "model_messages_per_cycle"} <= set(names)


@pytest.mark.parametrize("command", ["info", "merge"])
def test_info_and_merge_refuse_garbage_in_one_line(command, tmp_path):
    (tmp_path / "garbage.h5").write_text("not a results file")
    folder = tmp_path / "broken.h5.parts"
    folder.mkdir()
    (folder / "rank-0.h5").write_text("not a part")
    for name in ("garbage.h5", "absent.h5", "broken.h5"):
        assert_refused(healmpi(command, name, cwd=tmp_path), name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.h5.parts", "garbage.h5"]


def test_a_run_that_diverges_is_invalid_and_says_why(tmp_path):
    wild = sets("model.name=mlp", "learner.optimizer=sgd", "learner.learning_rate=1000", "run.cycles=10", "data.noise=100")
    done = healmpi("run", *SMALL, *wild, "-o", "out.h5", cwd=tmp_path)
    assert done.code == 3, (done.code, done.out, done.err)
    (verdict,) = [line for line in done.out.splitlines() if line.startswith("INVALID: ")]
    assert "not finite" in verdict and "cycle" in verdict
    assert "Traceback" not in done.err and (tmp_path / "out.h5").exists()


def test_a_users_own_module_is_trained_from_the_current_folder(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef small(input_shape, classes):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(input_shape[0], 3), torch.nn.Tanh(), torch.nn.Linear(3, classes))\n"
    )
    own = sets("model.name=custom", "model.factory=mine:small", "results.save_models=true")
    done = healmpi("run", *SMALL, *own, "-o", "out.h5", cwd=tmp_path)
    assert done.code == 0, done.err
    with h5py.File(tmp_path / "out.h5") as file:
        (models,) = [item for item in file["models"].values() if item.ndim == 2]
        assert models.shape == (8, 20 * 3 + 3 + 3 * 2 + 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_says_how_to_rescue_it(number, tmp_path):
    process = start([python(), "-m", "healmpi", "run", *ENDLESS, "-o", "out.h5"], tmp_path)
    try:
        wait_until_parts_grow(tmp_path / "out.h5", 1)
        os.kill(process.pid, number)
    finally:
        done = finish(process, 20)
    assert done.code == 128 + number, (done.code, done.err)
    assert "healmpi merge out.h5" in done.err and "Traceback" not in done.err
    assert_rescued(tmp_path)


def assert_rescued(folder: Path) -> None:
    """`merge` makes a file of the parts in this folder, and `info` says that it is not whole, and why."""
    merged = healmpi("merge", "out.h5", cwd=folder)
    assert merged.code in (0, 3) and "INVALID" in merged.out and "Traceback" not in merged.err, (merged.out, merged.err)
    with h5py.File(folder / "out.h5") as file:
        assert file["cycles/cycle"].shape[0] >= 1 and file["cycles/alive"][0].all()
    told = healmpi("info", "out.h5", cwd=folder)
    assert told.code == 0 and "verdict: INVALID (NOT complete" in told.out
    assert "  - the run is not complete: " in told.out


# Under mpirun.


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_under_mpirun_a_refusal_is_told_once_and_all_ranks_go(flavour, tmp_path):
    process = start(
        [*mpirun(flavour, 3), "-m", "mpi4py", "-m", "healmpi", "run", *sets("run.nodes=2"), "-o", tmp_path / "out.h5"], tmp_path
    )
    assert_refused_under_mpirun(process, tmp_path, "run.nodes", "2", "3 ranks")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.mpi
def test_under_mpirun_an_existing_file_is_not_touched(tmp_path):
    out = tmp_path / "out.h5"
    out.write_text("precious")
    process = start([*mpirun("openmpi", 2), "-m", "mpi4py", "-m", "healmpi", "run", *SMALL, "-o", out], tmp_path)
    assert_refused_under_mpirun(process, tmp_path, str(out), "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"] and out.read_text() == "precious"


def assert_refused_under_mpirun(process: subprocess.Popen, folder: Path, *words: str) -> None:
    """Exit code 2, and one line of healmpi in all that is printed, launchers' own lines aside."""
    process_ended(process, 60)
    wait_until(lambda: not processes(process, folder), 5, "no process of the job is left")
    done = finish(process, 10)
    both = done.out + done.err
    assert done.code == 2, (done.code, both)
    (line,) = [line for line in both.splitlines() if "healmpi: " in line]
    assert line.startswith("healmpi: ") and all(word in line for word in words), line
    assert "Traceback" not in both and "MPI_ABORT" not in both


def process_ended(process: subprocess.Popen, timeout_s: float) -> None:
    """Wait for a process that prints little; its pipes are read later, by `finish`."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        done = finish(process, 0)
        pytest.fail(f"still running after {timeout_s} s\n{done.out}\n{done.err}")


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_under_mpirun_rank_0_alone_tells_how_it_went(flavour, tmp_path):
    done = healmpi_mpi(flavour, 3, "run", *SMALL, "-o", "out.h5", cwd=tmp_path)
    assert done.code == 0, (done.code, done.out, done.err)
    assert_verdict_and_figures_last(done.out, "VALID")
    assert "Traceback" not in done.err and [path.name for path in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_killed_rank_ends_the_job_and_its_parts_can_be_merged(flavour, tmp_path):
    out = tmp_path / "out.h5"
    process = start([*mpirun(flavour, 3), "-m", "mpi4py", "-m", "healmpi", "run", *ENDLESS, "-o", out], tmp_path)
    try:
        wait_until_parts_grow(out, 3)
        ranks = rank_processes(process, tmp_path)
        assert len(ranks) == 3, ranks
        os.kill(ranks[1], signal.SIGKILL)
        killed = time.monotonic()
    finally:
        done = finish(process, 30)
    print(f"{flavour}: the job ended {time.monotonic() - killed:.1f} s after the kill, exit code {done.code}")
    assert done.code not in (None, 0), "the launcher has to end the job by itself"
    assert re.search("signal:? 9", done.out + done.err, re.IGNORECASE), "the launcher says what happened"
    assert "Traceback" not in done.err, done.err
    wait_until(lambda: not rank_processes(process, tmp_path), 10, "all ranks are gone")
    assert_rescued(tmp_path)
