"""The same configuration and seed give the same bits in every world, and every drawn run ends VALID there."""

import json

import drawn
import h5py
import pytest
from compare import assert_same, tables
from launch import ROOT, finish, mpirun, start
from simulate import execute, simulate

from healmpi.algorithms.central import GLOBAL_MODEL
from healmpi.messages import GROUP_REDUCTION, MODEL

FLAVOURS = ["openmpi", "mpich"]

CRASHES = (
    'faults.plan=[{cycle = 4, hubs = "one", point = "in_reduction"}, {cycle = 5, nodes = [6, 7], point = "after_send"}, '
    '{kind = "churn", cycle = 6, fraction = 0.3}]'
)
TEN = ["run.nodes=10", "run.cycles=8", "topology.view_size=5", "elevator.hub_count=3"]

IDENTITY = [  # one configuration each for the learners, weightings, partitions and faults
    [*TEN, "run.cycles=4", "data.dataset=mnist10k"],
    [*TEN, "data.dataset=spambase", "learner.optimizer=sgd", "learner.learning_rate=0.1", CRASHES],
    [*TEN, "data.dataset=synthetic", "learner.optimizer=sgd", "learner.momentum=0.9", "model.initial=independent", "rule.fanout=2",
     "rule.weighting=models", "data.partition=dirichlet", "learner.local_steps=3", CRASHES],
    [*TEN, "data.dataset=synthetic", "rule.fanout=2", "rule.weighting=samples", "data.partition=dirichlet", CRASHES],
    [*TEN, "data.dataset=synthetic", "learner.optimizer=sgd", "rule.control_variates=true", "rule.fanout=2",
     "data.partition=shards", CRASHES],
    [*TEN, "data.dataset=synthetic", "learner.proximal=0.1", "data.partition=dirichlet", CRASHES],
    ["run.algorithm=elevator", "run.nodes=40", "run.cycles=10", "faults.crash_fraction=0.5", "faults.crash_cycle=5"],
]  # fmt: skip

# Every preset, and pairs that none of them has, under crashes, churn and loss.
HARD = [
    *TEN,
    "data.dataset=synthetic",
    "model.name=logistic",
    CRASHES,
    "faults.loss_fraction=0.1",
    "evaluation.every=3",
    "evaluation.nodes=4",
]
IDENTITY += [[*HARD, f"run.algorithm={name}"] for name in drawn.PRESET_NAMES]
IDENTITY += [
    [*HARD, "run.algorithm=custom", "topology.name=uniform", "topology.sampling=oracle", "rule.name=epidemic"],
    [*HARD, "run.algorithm=custom", "topology.name=random-regular", "rule.name=gossip", "rule.merge=age"],
    [
        *HARD,
        "run.algorithm=custom",
        "topology.name=elevator",
        "rule.name=epidemic",
        "faults.crash_best_connected=2",
        "faults.crash_cycle=3",
    ],
]

DRAWN = [drawn.overrides(number) for number in range(16)] + [drawn.pair(number) for number in range(10)]
DRAWN += [drawn.preset(1, name) for name in drawn.PRESET_NAMES]


def launch(flavour: str, ranks: int, jobs: list[list[str]], folder) -> None:
    """All jobs in one mpirun; fails with its output unless every rank ends well."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = finish(start([*mpirun(flavour, ranks), "-m", "mpi4py", ROOT / "tests" / "many.py", folder / "jobs.json", folder], ROOT), 240)
    assert done.code == 0, f"exit code {done.code}\n{done.out}\n{done.err}"
    assert done.out.count(f"has finished {len(jobs)} runs") == ranks


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> list[dict]:
    """The tables of the local world."""
    folder = tmp_path_factory.mktemp("local")
    return [tables(execute(overrides, folder / f"{number}.h5")) for number, overrides in enumerate(IDENTITY + DRAWN)]


def verdicts(path) -> tuple[str, str]:
    with h5py.File(path) as file:
        attrs = file["summary"].attrs
        return str(attrs["verdict"]), str(attrs["reasons"])


@pytest.mark.mpi
@pytest.mark.smoke
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_few_runs_give_the_same_bits_on_three_ranks(flavour, tmp_path):
    jobs = [IDENTITY[2], IDENTITY[3], [*HARD, "run.algorithm=heal"], [*HARD, "run.algorithm=gossip"]]
    launch(flavour, 3, jobs, tmp_path)
    for number, overrides in enumerate(jobs):
        assert_same(tables(execute(overrides, tmp_path / f"alone-{number}.h5")), tables(tmp_path / f"{number}.h5"), str(overrides))


@pytest.mark.mpi
@pytest.mark.parametrize(("flavour", "ranks"), [("openmpi", 2), ("openmpi", 10), ("mpich", 2), ("mpich", 5)])
def test_the_same_bits_on_any_number_of_ranks(flavour, ranks, local, tmp_path):
    # With a node a rank every third of them is enough: the others are on two and five ranks.
    chosen = list(enumerate(IDENTITY))[:: 3 if ranks == 10 else 1]
    launch(flavour, ranks, [overrides for _, overrides in chosen], tmp_path)
    for place, (number, overrides) in enumerate(chosen):
        assert_same(local[number], tables(tmp_path / f"{place}.h5"), f"{overrides} on {ranks} ranks")


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_drawn_runs_end_valid_and_the_same_under_mpirun(flavour, local, tmp_path):
    launch(flavour, 3, DRAWN, tmp_path)
    for number, overrides in enumerate(DRAWN):
        path = tmp_path / f"{number}.h5"
        assert verdicts(path)[0] == "VALID", f"{overrides}: {verdicts(path)}"
        assert_same(local[len(IDENTITY) + number], tables(path), str(overrides))


def test_the_published_message_count_when_nothing_fails():
    """HEAL 2 (n - h) s + h (h - 1) models in a cycle ([HEAL]); here from cycle 12 on, when all views agree."""
    for fanout in (1, 3):
        run = simulate(*drawn.TINY, "data.samples=300", "run.nodes=60", "run.cycles=20", "elevator.hub_count=5", f"rule.fanout={fanout}")
        models = run.of_kinds("messages_out", MODEL, GLOBAL_MODEL, GROUP_REDUCTION)[11:].sum(axis=(1, 2))
        assert models.tolist() == [2 * 55 * fanout + 5 * 4] * 9
