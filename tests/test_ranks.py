"""Ranks that were told different things, variables that launchers leave behind, signals, and limits of time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import h5py
import pytest
from launch import finish, healmpi, healmpi_mpi, mpirun, python, sets, start, wait_until

from healmpi import cores
from healmpi.config import Config
from healmpi.hosting import checkpoint, stopping
from healmpi.launch import cli, preparing
from healmpi.settings import UsageError

OVERLAY = sets("run.algorithm=elevator", "run.nodes=4", "run.cycles=2")
"""The cheapest run: torch is not loaded."""

RUN = ["run", *OVERLAY, "-o", "a.h5"]


def pair(flavour: str, first: list, second: list, cwd: Path):
    """Two ranks with a command each."""
    launch, own = mpirun(flavour, 1), ["-m", "mpi4py", "-m", "healmpi"]
    return finish(start([*launch, *own, *first, ":", *launch[1:], *own, *second], cwd), 60)


def told(done) -> list[str]:
    return [line for line in (done.out + done.err).splitlines() if line.startswith("healmpi")]


DIFFERENT = {
    "results": (RUN, ["run", *OVERLAY, "-o", "b.h5"], "-o = "),
    "a field": (RUN, [*RUN, "--set", "run.cycles=3"], "run.cycles = 3 is not allowed: the same on every rank: rank 1 was told 3, rank 0 2"),
    "seeds": (RUN, [*RUN, "--set", "run.seed=7"], "run.seed = 7"),
    "resume alone": (RUN, [*RUN, "--resume"], "--resume = 'True'"),
    "dry run alone": (RUN, [*RUN, "--dry-run"], "--dry-run = 'True'"),
    "dry run on the first": ([*RUN, "--dry-run"], RUN, "--dry-run = 'False'"),
    "time limit": (RUN, [*RUN, "--time-limit", "1h"], "--time-limit = '1h'"),
    "another command": (RUN, ["suite", "S", "-o", "s"], "the command = 'suite'"),
    "a list": (["suite", "S", "-o", "s"], ["suite", "S", "-o", "s", "--list"], "--list = 'True'"),
    "a part of a suite": (["suite", "S", "-o", "s"], ["suite", "S", "-o", "s", "--only", "*chord*"], "--only = "),
    "an option that is none": (RUN, [*RUN, "--nonsense"], "unrecognized arguments: --nonsense"),
    "on the first": (["run", "--set"], RUN, "argument --set: expected one argument"),
    "a bad value": (RUN, [*RUN, "--set", "run.nodes=-1"], "run.nodes = -1"),
    "a file that is not there": (RUN, ["run", "no.toml", *RUN[1:]], "FILE = 'no.toml'"),
}


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("flavour, names", [("mpich", list(DIFFERENT)), ("openmpi", ["resume alone", "an option that is none"])])
def test_ranks_that_were_told_different_things_say_so_in_one_sentence(flavour, names, tmp_path):
    for name in names:
        first, second, sentence = DIFFERENT[name]
        done = pair(flavour, first, second, tmp_path)
        assert done.code == 2, (name, done)
        assert len(told(done)) == 1 and sentence in told(done)[0], (name, done)
        assert os.listdir(tmp_path) == [], name


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["openmpi", "mpich"])
def test_all_ranks_that_are_told_the_same_nonsense_say_it_once_and_one_answer_is_printed(flavour, tmp_path):
    done = healmpi_mpi(flavour, 3, *RUN, "--nonsense", cwd=tmp_path)
    assert done.code == 2 and len(told(done)) == 1, done
    assert healmpi_mpi(flavour, 2, *RUN, cwd=tmp_path).code == 0
    done = healmpi_mpi(flavour, 3, "info", "a.h5", cwd=tmp_path)
    assert done.code == 0 and done.out.count("elevator: 4 nodes") == 1, done


LEARNS = ["run", *sets("data.dataset=synthetic", "run.nodes=4", "run.cycles=1", "model.name=logistic"), "-o", "a.h5"]


@pytest.mark.mpi
@pytest.mark.slow
def test_ranks_whose_processors_do_not_calculate_alike_are_refused(tmp_path):
    launch, own = mpirun("mpich", 1), ["-m", "mpi4py", "-m", "healmpi", *LEARNS]
    parts = [[*launch[1:3], "env", f"ATEN_CPU_CAPABILITY={one}", *launch[3:], *own] for one in ("avx2", "default")]
    done = finish(start([launch[0], *parts[0], ":", *parts[1]], tmp_path), 60)
    assert done.code == 2 and len(told(done)) == 1, done
    assert "ATEN_CPU_CAPABILITY = 'default' is not allowed: the same on every rank: rank 1 takes DEFAULT" in told(done)[0]
    assert os.listdir(tmp_path) == []


def test_a_model_that_differs_between_ranks_is_refused_with_what_differs():
    config = Config.load(None, ["model.factory=nets:f", "model.name=custom"])
    mine, first = ({"data": 1, "capability": "", "model": (3, 7, mark)} for mark in (1, 2))
    with pytest.raises(UsageError, match=r"model\.factory = 'nets:f'.* same model on every rank: on rank 2 layer\.seen differs"):
        preparing._refuse_difference(
            config, 2, mine, first, {"layer.weight": "a", "layer.seen": "b"}, {"layer.weight": "a", "layer.seen": "c"}
        )


# What launchers leave behind.

LEFT_BEHIND = [
    {"PMI_RANK": "1"},
    {"PMI_RANK": "2", "PMI_SIZE": "4"},
    {"PMIX_RANK": "3"},
    {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
    {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"},
    {"PMI_RANK": "not a number", "PMI_SIZE": ""},
]


def run_here(given: list[str], capsys) -> tuple[int, str, str]:
    code = cli.main([str(word) for word in given])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def own_signals():
    """Commands take signals for themselves; the tests want them back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("variables", LEFT_BEHIND, ids=lambda one: " ".join(one))
def test_what_needs_no_mpi_does_not_look_at_what_launchers_left_behind(variables, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run_here(["run", *OVERLAY, "--dry-run"], capsys)[:2][0] == 0
    assert "spambase-heal-none" in run_here(["suite", "S", "--list"], capsys)[1]
    code, _, err = run_here([*RUN, "--world", "local"], capsys)
    assert code == 0, err
    assert "configuration" in run_here(["info", "a.h5"], capsys)[1]
    assert "there are no parts" in run_here(["merge", "b.h5"], capsys)[2]


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_a_run_that_cannot_tell_whether_it_is_alone_is_refused_and_names_the_variable(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "4")
    code, _, err = run_here(RUN, capsys)
    assert code == 2 and f"{name}=4" in err and "--world local" in err


# Time.


def test_the_end_of_a_job_that_is_over_is_ignored_and_named(tmp_path):
    done = healmpi("run", *OVERLAY, "-o", "a.h5", cwd=tmp_path, SLURM_JOB_END_TIME="1000000000")
    assert done.code == 0 and "note: SLURM_JOB_END_TIME=1000000000 is in the past" in done.err, done


def test_a_jump_of_the_clock_ends_no_run(monkeypatch):
    limits = stopping.Limits(stopping.deadline("100", {"SLURM_JOB_END_TIME": str(int(time.time()) + 3600)}))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert stopping.why_stop(limits) == ""
    assert stopping.why_stop(limits, needed_s=96) == "the time limit is near"


# Signals.


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_tells_what_is_really_left(number, tmp_path):
    """Without a checkpoint none is promised; with one it is."""
    saving = {signal.SIGINT: ["--checkpoint-every", "1"]}.get(number, [])
    long = [*sets("run.algorithm=elevator", "run.nodes=50", "run.cycles=1000000", "results.flush_every=1"), *saving]
    process = start([python(), "-m", "healmpi", "run", *long, "-o", "a.h5"], tmp_path)
    parts = tmp_path / "a.h5.parts"
    wait_until(lambda: checkpoint.find(tmp_path / "a.h5") if saving else any(parts.glob("rank-*.h5")), 60, "something is written")
    wait_until(lambda: process.poll() is None and (parts / "rank-00000.h5").stat().st_size > 20_000, 60, "cycles are written")
    process.send_signal(number)
    done = finish(process, 60)
    assert done.code == 128 + number and f"ended by {number.name}" in done.err, done
    assert ("--resume goes on from the last checkpoint" if saving else "no checkpoint was saved") in done.err


def test_a_signal_that_was_to_be_ignored_is_ignored(tmp_path):
    """As nohup has it."""
    long = [*sets("run.algorithm=elevator", "run.nodes=20", "run.cycles=300")]
    script = f"trap '' HUP; exec {python()} -m healmpi run {' '.join(long)} -o a.h5"
    process = start(["bash", "-c", script], tmp_path)
    wait_until(lambda: (tmp_path / "a.h5.parts").exists(), 60, "the run has begun")
    process.send_signal(signal.SIGHUP)
    assert finish(process, 60).code == 0


def test_before_anything_is_written_nothing_is_promised(tmp_path):
    assert cli._left(tmp_path / "a.h5") == "nothing was written"
    assert cli._left(None) == "nothing was written"


# Where it ran.


def test_provenance_tells_processor_binding_transport_and_commit_and_no_secrets(tmp_path):
    environment = {
        "OMPI_MCA_btl": "self,sm",
        "UCX_TLS": "tcp",
        "OMP_PROC_BIND": "close",
        "AWS_SECRET": "hidden",
        "ATEN_CPU_CAPABILITY": "default",
    }
    small = sets("data.dataset=synthetic", "run.nodes=3", "run.cycles=1", "model.name=logistic")
    done = healmpi("run", *small, "-o", "a.h5", cwd=tmp_path, **environment)
    assert done.code == 0, done
    with h5py.File(tmp_path / "a.h5") as file:
        facts, ranks = dict(file["provenance"].attrs), file["ranks"]
        assert "OMPI_MCA_btl=self,sm" in facts["mpi_variables"] and "UCX_TLS=tcp" in facts["mpi_variables"]
        assert facts["omp_proc_bind"] == "close" and len(facts["git_commit"]) == 40
        assert "hidden" not in str(facts)
        assert ranks["cpu_capability"][0] == b"DEFAULT" and ranks["cpu_model"][0] and ranks["binding"][0].decode() == cores.as_text()
        assert ranks["cores"][0] == len(cores.GIVEN)


def test_going_on_with_other_instructions_of_the_processor_is_told(tmp_path):
    small = ["run", *sets("data.dataset=synthetic", "run.nodes=3", "run.cycles=3", "model.name=logistic"), "-o", "a.h5", "--resume"]
    (tmp_path / "a.h5.stop").touch()
    assert healmpi(*small, cwd=tmp_path, ATEN_CPU_CAPABILITY="default").code == 75
    (tmp_path / "a.h5.stop").unlink()
    done = healmpi(*small, cwd=tmp_path, ATEN_CPU_CAPABILITY="avx2")
    assert done.code == 0 and "began with CPU capability DEFAULT and goes on with AVX2" in done.err, done


@pytest.mark.parametrize("numbers, text", [({0}, "0"), ({0, 1, 2, 5}, "0-2,5"), (set(), ""), ({3, 8, 9}, "3,8-9")])
def test_cores_are_told_in_ranges(numbers, text):
    assert cores.as_text(frozenset(numbers)) == text
