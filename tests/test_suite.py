"""Suites: how a matrix is read, what is refused, and real launches: resumed after a kill, with failures in the middle."""

import itertools
import signal
import time
from collections import defaultdict
from pathlib import Path

import drawn
import h5py
import pytest
from launch import ROOT, finish, healmpi, healmpi_mpi, mpirun, rank_processes, start, wait_until
from simulate import simulate_config

from healmpi.config import Config
from healmpi.launch import suite as suites
from healmpi.launch.runner import Outcome, result_path
from healmpi.launch.table import summarise
from healmpi.settings import UsageError

pytestmark = pytest.mark.slow

FLAVOURS = ["openmpi", "mpich"]

TINY = """
title = "Tiny"
[base.run]
nodes = 6
cycles = 3
[base.data]
dataset = "synthetic"
samples = 60
[base.model]
name = "logistic"
[axes]
algorithm = ["heal", "ring"]
seed = [1, 2]
[axes.scenario.none]
[axes.scenario.half.faults]
crash_cycle = 2
crash_fraction = 0.5
"""


def written(folder: Path, text: str = TINY) -> str:
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


# Reading.


def test_names_follow_the_axes_and_seeds_vary_slowest(tmp_path):
    suite = suites.load(written(tmp_path))
    assert suite.title == "Tiny"
    first = ["heal-none-s1", "heal-half-s1", "ring-none-s1", "ring-half-s1"]
    assert [one.name for one in suite.experiments] == first + [name.replace("s1", "s2") for name in first]
    half = suite.experiments[3].config
    assert (half.run.algorithm, half.run.seed, half.faults.crash_fraction, half.run.nodes) == ("ring", 1, 0.5, 6)
    assert half.topology.name == "ring", "configurations are resolved"


def test_exclusions_overrides_and_any_field_as_an_axis(tmp_path):
    more = '"elevator.hub_count" = [1, 2]\n[[exclude]]\nalgorithm = "ring"\nhub = "x"\n'
    text = TINY.replace("[axes.scenario.none]", more.split("[[")[0] + "[axes.scenario.none]") + '[[exclude]]\nalgorithm = "ring"\n'
    suite = suites.load(written(tmp_path, text), ["run.cycles=9"])
    names = [one.name for one in suite.experiments]
    assert len(names) == 8 and "heal-hub_count2-half-s2" in names
    assert {one.config.run.cycles for one in suite.experiments} == {9}


def test_two_places_of_one_name_are_refused(tmp_path):
    text = "[base.run]\nnodes = 6\n[axes.a.x]\n[axes.a.x-y.run]\ncycles = 3\n[axes.b.z]\n[axes.b.y-z]\n"
    with pytest.raises(UsageError, match=r"x-y-z.*a name of its own"):
        suites.load(written(tmp_path, text))
    with pytest.raises(UsageError, match="at least one axis"):
        suites.load(written(tmp_path, "[base.run]\nnodes = 6\n"))


def test_only_takes_names_and_patterns(tmp_path):
    suite = suites.load(written(tmp_path))
    assert [one.name for one in suite.only(["heal-half-s2", "ring-*-s1"]).experiments] == ["ring-none-s1", "ring-half-s1", "heal-half-s2"]
    with pytest.raises(UsageError, match=r"--only = 'gossip\*'.*heal-none-s1"):
        suite.only(["gossip*"])


@pytest.mark.parametrize(
    "change, words",
    [
        (("title", "titel"), ["titel", "unknown in a suite", "title, base, axes, exclude"]),
        (('["heal", "ring"]', '["heal", "rings"]'), ["rings-none-s1: run.algorithm", "'rings'", "'ring'"]),
        (("nodes = 6", "cores = 6"), ["heal-none-s1: run.cores", "6", "unknown key"]),
        (("nodes = 6\n", ""), ["heal-none-s1: run.nodes", "must not depend on the number of ranks"]),
        (("seed = [1, 2]", "seed = [1, 1]"), ["axes.seed", "each value once"]),
        (("seed = [1, 2]", "seeds = [1, 2]"), ["axes.seeds", "a list is possible for algorithm, nodes, seed"]),
        (("scenario.none]", "scenario.'a/b']"), ["axes.scenario", "a/b", "letters, digits"]),
        (("crash_fraction = 0.5", "crash_fraction = 5"), ["heal-half-s1: faults.crash_fraction", "5", "at most 1"]),
        (("[axes]", "[[exclude]]\nalgorithm = 'gossip'\n[axes]"), ["exclude.algorithm", "gossip", "heal, ring"]),
        (("[axes]", "[[exclude]]\nsize = 'n1'\n[axes]"), ["exclude.size", "the axes are algorithm, scenario, seed"]),
        (("[axes]", "[[exclude]]\nseed = ['s1', 's2']\n[axes]"), ["exclude", "something must be left"]),
        (("nodes = 6", "nodes = = 6"), ["SUITE", "not valid TOML"]),
        (("[base.run]", "exclude = ['heal']\n[base.run]"), ["exclude", "heal", "[[exclude]]"]),
        (("seed = [1, 2]", "data.alpha = [0.1]"), ["axes.data.alpha", "in quotes, 'section.field'"]),
        (("algorithm = [", "'run.seed' = [1]\n'learner.seed' = [1]\nalgorithm = ["), ["learner.seed", "unknown key"]),
    ],
)
def test_bad_suites_are_refused_by_name(tmp_path, change, words):
    assert change[0] in TINY
    with pytest.raises(UsageError) as refused:
        suites.load(written(tmp_path, TINY.replace(*change)))
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_an_unknown_suite_names_those_that_are_shipped():
    with pytest.raises(UsageError, match=r"SUITE = 'X'.*A, B, S, W, cost, elevator, faults, hubs, skew"):
        suites.load("X")


@pytest.mark.parametrize("name", suites.shipped())
def test_every_shipped_suite_is_sound(name):
    suite = suites.load(name)
    names = [one.name for one in suite.experiments]
    assert len(set(names)) == len(names) and len({one.config.hash() for one in suite.experiments}) == len(names), "no two are the same run"


def test_class_a_is_as_published():
    configs = {one.name: one.config for one in suites.load("A").experiments}
    spambase, mnist = configs["spambase-heal-common-s1"], configs["mnist-heal-independent-s5"]
    assert (spambase.run.nodes, spambase.run.cycles, spambase.elevator.hub_count, spambase.topology.view_size) == (100, 1000, 5, 20)
    assert (spambase.learner.optimizer, spambase.learner.learning_rate, spambase.learner.batch_size) == ("sgd", 0.1, 32)
    assert (mnist.model.name, mnist.learner.optimizer, mnist.learner.learning_rate, mnist.learner.weight_decay) == (
        "lenet5", "adam", 0.001, 0.01,
    )  # fmt: skip


def suite_of_this_name(name: str) -> suites.Suite:
    return suites.load(str(ROOT / name) if "/" in name else name)


@pytest.mark.parametrize("name", ["S", "jobs/pitch.toml"])
def test_where_hubs_and_servers_die_all_algorithms_lose_equally_many_nodes_in_the_same_cycle_with_the_same_seeds(name):
    struck = [one for one in suite_of_this_name(name).experiments if one.labels["scenario"] == "hubs"]
    plans, seeds = defaultdict(set), defaultdict(list)
    for one in struck:
        (event,) = one.config.fault_events()
        plans[one.labels.get("task")].add((event.cycle, event.hubs, event.dose))
        seeds[one.labels.get("task"), one.labels["algorithm"]].append(one.config.run.seed)
        assert one.config.run.cycles // 2 == event.cycle and event.dose >= one.config.elevator.hub_count
    assert all(len(found) == 1 for found in plans.values()) and set(map(tuple, seeds.values())) == {(1, 2, 3)}
    undisturbed = {(*one.labels.values(),) for one in suite_of_this_name(name).experiments if one.labels["scenario"] == "none"}
    assert undisturbed >= {tuple("none" if label == "hubs" else label for label in one.labels.values()) for one in struck}


def test_class_s_holds_every_preset_with_and_without_faults_and_fits_the_job_array():
    suite = suites.load("S")
    found = {(one.config.run.algorithm, bool(one.config.fault_events())) for one in suite.experiments}
    assert found == {*itertools.product(drawn.PRESET_NAMES, (True, False)), ("central", False)}
    assert len(suite.experiments) <= 100, "jobs/slurm/array.sh"


@pytest.mark.parametrize(("algorithm", "low", "high"), [("federated", 0.1, 0.3), ("heal", 0.5, 0.8)])
def test_class_s_shows_that_heal_goes_on_learning_without_its_hubs_and_federated_does_not_without_its_server(algorithm, low, high):
    """Two labels a node, five of 20 nodes die half-way; three seeds give .21 to .24 and .63."""
    (one,) = suites.load("S").only([f"skewed-{algorithm}-hubs-s1"]).experiments
    run = simulate_config(one.config)
    print(algorithm, [f"{value:.3f}" for value in run.accuracy()])
    assert run.column("alive")[-1].sum() == 15 and low < run.accuracy()[-1] < high


# From the command line.


def test_list_names_experiments_and_their_states_without_running_anything(tmp_path):
    done = healmpi("suite", written(tmp_path), "--list", cwd=tmp_path)
    assert done.code == 0 and done.err == ""
    assert [line.split() for line in done.out.splitlines()][:2] == [["heal-none-s1", "open"], ["heal-half-s1", "open"]]
    assert not list(tmp_path.glob("*.h5"))


def test_a_results_file_that_cannot_be_read_at_the_end_counts_as_failed(tmp_path):
    outcomes = [Outcome(one) for one in suites.load(written(tmp_path)).experiments[:1]]
    result_path(outcomes[0].experiment, tmp_path).write_text("no HDF5")
    (row,) = summarise(outcomes, tmp_path)
    assert (row.runs, row.failed, row.invalid) == (1, 1, 0) and "is not an HDF5 file" in outcomes[0].failure


def test_a_whole_suite_in_one_process_and_again(tmp_path):
    done = healmpi("suite", written(tmp_path), "-o", "out/tiny", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "8 experiments: 8 valid, 0 invalid, 0 failed" in done.out.splitlines()[-1]
    lines = done.out.splitlines()
    row = next(line for line in lines if line.startswith("heal-half"))
    assert "+-" in row and row.split()[1] == "2", "two seeds in one row"
    assert max(map(len, lines)) <= 80
    files = sorted((tmp_path / "out/tiny").iterdir())
    assert [path.name for path in files] == sorted(f"{one.name}.h5" for one in suites.load(str(tmp_path / "tiny.toml")).experiments)
    times = [path.stat().st_mtime_ns for path in files]

    again = healmpi("suite", written(tmp_path), "-o", "out/tiny", cwd=tmp_path)
    assert again.code == 0 and "8 of them done already" in again.out
    assert [path.stat().st_mtime_ns for path in files] == times, "nothing was run again"
    assert healmpi("suite", written(tmp_path), "--list", "-o", "out/tiny", cwd=tmp_path).out.count("done") == 8

    changed = written(tmp_path, TINY.replace("cycles = 3", "cycles = 4"))
    refused = healmpi("suite", changed, "-o", "out/tiny", cwd=tmp_path)
    assert refused.code == 2 and "another configuration" in refused.err and "--force" in refused.err
    assert [path.stat().st_mtime_ns for path in files] == times
    forced = healmpi("suite", changed, "-o", "out/tiny", "--force", "--only", "ring-none-s1", cwd=tmp_path)
    assert forced.code == 0 and forced.out.splitlines()[-1].startswith("1 experiments: 1 valid")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nothing.toml", "-o", "x"], ["SUITE", "nothing.toml", "S, W"]),
        (["S"], ["-o", "folder of the results"]),
        (["S", "-o", "file"], ["-o", "file", "folder"]),
        (["S", "-o", "x", "--set", "run.cycles=0"], ["spambase-federated-none-s1: run.cycles", "0", "at least 1"]),
    ],
)
def test_usage_errors_end_with_code_2(tmp_path, arguments, words):
    (tmp_path / "file").write_text("")
    done = healmpi("suite", *arguments, cwd=tmp_path)
    assert done.code == 2 and len(done.err.splitlines()) == 1 and all(word in done.err for word in words), done.err
    assert not (tmp_path / "x").exists()


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_suite_killed_in_the_middle_goes_on_where_it_was(flavour, tmp_path):
    """The same files as those of an undisturbed suite, and what was done is not done again."""
    slow = TINY.replace("cycles = 3", "cycles = 80").replace("samples = 60", "samples = 600")
    command = [*mpirun(flavour, 2), "-m", "mpi4py", "-m", "healmpi", "suite", written(tmp_path, slow), "-o", tmp_path / "killed"]
    process = start(command, tmp_path)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "killed").glob("*.h5"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, finish(process, 1)
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    finish(process, 20)
    # Its ranks end a moment after their launcher, or end an experiment more.
    wait_until(lambda: not rank_processes(process, tmp_path), 30, "all ranks have ended")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.h5")}
    assert 2 <= len(before) < 8

    resumed = finish(start(command, tmp_path), 240)
    assert resumed.code == 0, resumed.err
    assert f"{len(before)} of them done already" in resumed.out and "8 valid" in resumed.out
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in before} == before
    assert not list((tmp_path / "killed").glob("*.parts"))
    alone = healmpi("suite", str(tmp_path / "tiny.toml"), "-o", "whole", "--only", "heal-half-s*", cwd=tmp_path)
    assert alone.code == 0
    for seed in (1, 2):
        assert digests(tmp_path / f"killed/heal-half-s{seed}.h5") == digests(tmp_path / f"whole/heal-half-s{seed}.h5")


def digests(path: Path) -> list[bytes]:
    with h5py.File(path) as file:
        return file["models/sha256"][:].tolist()


BROKEN = """
import torch

class Sometimes(torch.nn.Linear):
    def forward(self, x):
        if torch.is_grad_enabled() and float(x.flatten()[0]) == BAD:
            raise RuntimeError("bad batch")
        return super().forward(x)

def make(shape, classes):
    return Sometimes(shape[0], classes)
"""


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_experiment_that_fails_on_one_rank_does_not_stop_the_rest(flavour, tmp_path):
    """One node's shard holds the sample on which the model raises an error in the middle of training."""
    chosen = Config.load(None, ["run.nodes=6", "data.dataset=synthetic", "data.samples=60"]).resolve().chosen
    data = chosen.data.load(1)
    bad = data.scaled(data.train_x[chosen.partition.parts(data.train_y, 6, 1)[5][:1]])[0, 0]
    (tmp_path / "sometimes.py").write_text(BROKEN.replace("BAD", repr(float(bad))))
    custom = '[axes.net.sound]\n[axes.net.broken.model]\nname = "custom"\nfactory = "sometimes:make"\n'
    text = TINY.replace("seed = [1, 2]", "seed = [1]") + custom
    text += "[axes.net.broken.learner]\nbatch_size = 1\n"
    arguments = ["suite", written(tmp_path, text), "-o", tmp_path / "out", "--only", "*-none-*"]
    done = healmpi_mpi(flavour, 3, *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.code == 1, (done.code, done.out, done.err)
    assert "heal-none-broken" in done.out and "rank 2: RuntimeError: bad batch" in done.out
    assert done.out.splitlines()[-1] == "4 experiments: 2 valid, 0 invalid, 2 failed"
    assert (tmp_path / "out/ring-none-sound-s1.h5").exists() and not (tmp_path / "out/ring-none-broken-s1.h5").exists()
    assert "bad batch" in done.err and "Traceback" in done.err, "where it happened is told"


def test_a_single_run_that_fails_so_ends_with_code_1(tmp_path):
    (tmp_path / "sometimes.py").write_text(BROKEN.replace("== BAD", "> 1.5"))
    done = healmpi(
        "run", "--set", "model.name=custom", "--set", "model.factory=sometimes:make", "--set", "data.dataset=synthetic", "-o", "x.h5",
        cwd=tmp_path, PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert done.code == 1 and "healmpi: the run has failed: rank 0: RuntimeError: bad batch" in done.err
