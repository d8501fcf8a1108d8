"""HEAL on Spambase against the published runs ([HEAL], [THESIS] ch. 6; heal.md section 5).

n=100, h=5, s=1, c=20, IID shards, logistic regression, SGD 0.1, batch 32. The publication has one run without error bars and
4601 samples; ours has 4597. The seed draws the split too: a test set of 460 samples alone gives a standard error of 0.014.
"""

from functools import cache
from statistics import mean, median, stdev

import numpy as np
import pytest
from simulate import Simulated, simulate

pytestmark = pytest.mark.slow

PUBLISHED = [
    "data.dataset=spambase", "model.name=logistic", "run.nodes=100", "elevator.hub_count=5", "topology.view_size=20", "rule.fanout=1",
    "learner.optimizer=sgd", "learner.learning_rate=0.1", "learner.batch_size=32", "results.views_every=0", "results.audit=off",
]  # fmt: skip
SEEDS = (1, 2, 3)
CRASHES = {
    "one hub": ["faults.crash_hubs=one"],
    "all hubs": ["faults.crash_hubs=all"],
    "20 % of the nodes": ["faults.crash_fraction=0.2"],
}
CRASH, END = 10, 60
"""Cycle of the crash, and the cycle in which accuracies are compared."""


@cache
def fault_free(seed: int, weight_decay: float = 0.0) -> Simulated:
    return simulate(*PUBLISHED, "run.cycles=100", f"run.seed={seed}", f"learner.weight_decay={weight_decay}")


@cache
def crashed(seed: int, what: str) -> Simulated:
    faults = [f"faults.crash_cycle={CRASH}", *CRASHES[what]]
    return simulate(*PUBLISHED, f"run.cycles={END}", f"run.seed={seed}", "learner.weight_decay=0", *faults)


def cycles_to(accuracy: np.ndarray, target: float) -> int | None:
    """The first cycle whose accuracy is at least the target."""
    reached = np.flatnonzero(accuracy >= target)
    return int(reached[0]) + 1 if reached.size else None


def updated(run: Simulated) -> np.ndarray:
    """By cycle: share of the live nodes that have taken in a global model."""
    return ((run.column("staleness") == 0) & run.column("alive")).sum(axis=1) / run.column("alive").sum(axis=1)


def test_the_published_run_reaches_85_percent_and_stays_near_90():
    """Published: .9001 after 1000 cycles, .85 in cycle 4."""
    finals = []
    for seed in SEEDS:
        accuracy = fault_free(seed).accuracy()
        finals.append(float(accuracy[-1]))
        print(f"seed {seed}: cycle 100 {finals[-1]:.4f}, .85 in cycle {cycles_to(accuracy, 0.85)}, .90 in {cycles_to(accuracy, 0.90)}")
        assert cycles_to(accuracy, 0.85) <= 15
        assert accuracy[19:].min() > 0.85, "once there, it stays"
        # Ten seeds gave .9117 +- .0158, from .8891 to .9370: 0.045 is three standard errors of the test set.
        assert finals[-1] == pytest.approx(0.90, abs=0.045)
    print(f"mean {mean(finals):.4f} +- {stdev(finals):.4f} over {len(SEEDS)} seeds; published .9001")
    assert mean(finals) == pytest.approx(0.90, abs=0.03)


def test_the_published_weight_decay_makes_no_difference():
    """One version of the publication adds weight decay 0.01."""
    without, with_it = (float(fault_free(1, decay).accuracy()[-1]) for decay in (0.0, 0.01))
    print(f"seed 1, cycle 100: weight decay 0 {without:.4f}, 0.01 {with_it:.4f}")
    assert with_it == pytest.approx(without, abs=0.01)


@pytest.mark.parametrize("what", CRASHES)
def test_a_crash_costs_at_most_two_percent_of_the_accuracy(what):
    for seed in SEEDS:
        run, undisturbed = crashed(seed, what), fault_free(seed).accuracy()
        accuracy, live = run.accuracy(), int(run.column("alive")[-1].sum())
        lost = float(undisturbed[END - 1] - accuracy[-1])
        print(f"{what}, seed {seed}: {live} live, cycle {END} {accuracy[-1]:.4f}, undisturbed {undisturbed[END - 1]:.4f}, lost {lost:+.4f}")
        assert live == {"one hub": 99, "all hubs": 95, "20 % of the nodes": 80}[what]
        assert np.array_equal(accuracy[: CRASH - 1], undisturbed[: CRASH - 1]), "the same run until then"
        assert abs(lost) <= 0.02 * undisturbed[END - 1]


def pause(run: Simulated) -> tuple[int, int]:
    """Cycles from the crash on with a global model for less than half of the live nodes, and cycles until all have one."""
    share = updated(run)[CRASH - 1 :]
    return int(np.argmax(share >= 0.5)), int(np.flatnonzero(share < 1)[-1]) + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_death_of_all_hubs_pauses_learning_and_does_not_end_it(seed):
    run = crashed(seed, "all hubs")
    accuracy, share, hubs, alive = run.accuracy(), updated(run), run.column("is_hub"), run.column("alive")
    print(f"seed {seed}, cycles {CRASH - 1} to {CRASH + 7}: accuracy {accuracy[CRASH - 2 : CRASH + 7].astype(float).round(4).tolist()}")
    print(f"  share of the nodes with a global model {share[CRASH - 2 : CRASH + 7].round(2).tolist()}, pause {pause(run)}")
    died = np.flatnonzero(hubs[CRASH - 2])
    assert len(died) == 5 and not alive[CRASH - 1, died].any() and hubs[-1].sum() == 5
    assert share[CRASH - 2] == 1 and share[CRASH - 1] < 0.5, "it pauses"
    before = accuracy[CRASH - 2]
    assert accuracy[CRASH - 1 :].min() > before - 0.01 and accuracy[-1] > before, "no collapse: clients go on alone"
    assert (run.column("staleness")[-20:][alive[-20:]] == 0).all(), "all nodes have global models again"


def test_how_long_the_death_of_all_hubs_is_felt():
    """Published: aggregation pauses for one to two cycles, promoted hubs in one or two.

    Here most nodes are without a global model for as long (30 seeds: 1 cycle once, 2 in 24 runs, 3 in 5), but some are until
    all views agree again: 3 to 8 cycles, median 4, as many as Elevator takes from its random start. Nothing but the views
    decides this, so a small data set does.
    """
    small = ["data.dataset=synthetic", "data.samples=300", "data.features=3", "learner.local_steps=1", "evaluation.every=0"]
    pauses = [
        pause(simulate(*PUBLISHED, *small, "run.cycles=20", f"run.seed={seed}", "faults.crash_hubs=all", f"faults.crash_cycle={CRASH}"))
        for seed in range(1, 11)
    ]
    most, all_of_them = zip(*pauses, strict=True)
    print(f"cycles until half of the nodes have a global model again: {sorted(most)}, until all have: {sorted(all_of_them)}")
    assert max(most) <= 3 and median(most) <= 2
    assert max(all_of_them) <= 9 and median(all_of_them) <= 5
