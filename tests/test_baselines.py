"""What skew is answered with: FedAvg weighted by samples, and accuracy by class and shard; one node with all data as the line above."""

import json

import h5py
import numpy as np
import pytest
import torch
from compare import assert_same, tables
from healmpi_analysis.loading import open_source
from launch import healmpi, healmpi_mpi
from simulate import execute, simulate

from healmpi.algorithms.central import Central, CentralSettings
from healmpi.config import Config
from healmpi.hosting.audit import recompute
from healmpi.hosting.closing import own_accuracy
from healmpi.hosting.stopping import Limits, Stopped
from healmpi.launch import inspecting
from healmpi.launch import run as launch
from healmpi.launch import suite as suites
from healmpi.launch.run import Ranks, prepare
from healmpi.learning.jobs import TrainJob
from healmpi.node import Trained
from healmpi.settings import UsageError

SMALL = ("data.dataset=synthetic", "data.samples=300", "data.features=4", "model.name=logistic", "learner.optimizer=sgd")
SKEWED = (*SMALL, "data.partition=dirichlet", "data.alpha=0.3")


def trained(run, cycle: int, node: int, start, **more):
    """The learner's own training, for a serial recomputation."""
    return run.learner.train([TrainJob(node, 0, cycle, np.ascontiguousarray(start, np.float32), **more)])[0]


def sizes(run) -> np.ndarray:
    """Samples of each node's shard."""
    return np.array([run.learner.labels(node).sum() for node in range(run.config.run.nodes)])


def weighted(vectors, weights) -> np.ndarray:
    return np.average(np.array(vectors, np.float64), axis=0, weights=weights)


# FedAvg's n_k / n.


def test_weighted_by_samples_federated_is_the_published_fedavg():
    run = simulate(*SKEWED, "run.nodes=6", "run.cycles=3", "run.algorithm=federated", "rule.weighting=samples", "results.audit=on")
    counts = sizes(run)
    assert len(set(counts[1:])) > 1, "shards of different sizes"
    model = run.learner.initial(0)
    for cycle in (1, 2, 3):
        model = weighted([trained(run, cycle, node, model).model for node in range(1, 6)], counts[1:])
    assert np.allclose(run.host.population.models(), [model] * 6, atol=1e-6) and run.complaints == [] and run.host.closing.audited


def test_weighted_by_samples_servers_give_one_average_over_all_samples():
    run = simulate(*SKEWED, "run.nodes=9", "topology.servers=3", "run.cycles=2", "run.algorithm=gaia", "rule.weighting=samples")
    workers, counts = [node for node in range(9) if node % 3], sizes(run)
    model = run.learner.initial(0)
    for cycle in (1, 2):
        model = weighted([trained(run, cycle, node, model).model for node in workers], counts[workers])
    assert np.allclose(run.host.population.models(), [model] * 9, atol=1e-6)
    behind = {server: counts[[server + 1, server + 2]].sum() for server in (0, 3, 6)}
    assert all(row.weight == behind[row.node] for row in run.groups), "a hub's average counts all samples behind it"


def test_by_default_no_sample_counts_and_the_publication_of_heal_is_unweighted():
    run = simulate(*SKEWED, "run.nodes=6", "run.cycles=1", "run.algorithm=federated")
    plain = weighted([trained(run, 1, node, run.learner.initial(0)).model for node in range(1, 6)], [1] * 5)
    assert np.allclose(run.nodes[0].model, plain, atol=1e-6) and CentralSettings().weighting == "hubs"


@pytest.mark.parametrize("what, sentence", [("counts", "differs from the serial one"), ("weight", "and said")])
def test_the_audit_finds_a_weight_that_is_not_what_was_said(what, sentence):
    run = simulate(*SKEWED, "run.nodes=9", "topology.servers=3", "run.cycles=1", "run.algorithm=gaia", "rule.weighting=samples")
    records = {node: run.nodes[node].record for node in range(9)}
    assert recompute(1, records, run.config.chosen.average) == []
    node = 1 if what == "counts" else 3
    wrong = records[node]._replace(**{what: getattr(records[node], what) + 5})
    assert any(sentence in text for text in recompute(1, records | {node: wrong}, run.config.chosen.average))


def test_more_samples_than_a_weight_can_say_are_refused_before_the_start():
    Central.check_samples(CentralSettings(weighting="samples"), 2**31 - 1)
    Central.check_samples(CentralSettings(weighting="models"), 2**31)
    with pytest.raises(UsageError, match=r"rule.weighting = 'samples' is not allowed: .* with 2147483648 training samples"):
        Central.check_samples(CentralSettings(weighting="samples"), 2**31)


# The central baseline.


def test_the_central_baseline_is_one_node_trained_on_all_samples():
    run = simulate(*SMALL, "run.algorithm=central", "run.cycles=3", "learner.local_epochs=2")
    assert run.config.run.nodes == 1 and sizes(run) == [270]
    model = run.learner.initial(0)
    for cycle in (1, 2, 3):
        model = trained(run, cycle, 0, model).model
    assert model.tobytes() == run.nodes[0].model.tobytes()


def test_its_file_is_valid_and_has_no_message(tmp_path):
    with h5py.File(execute([*SMALL, "run.algorithm=central", "run.cycles=3"], tmp_path / "c.h5")) as file:
        assert file["summary"].attrs["verdict"] == "VALID" and file.attrs["title"] == "central" and file.attrs["nodes"] == 1
        assert file["cycles/messages_out"].shape == (3, 1, 0) and np.isfinite(file["cycles/accuracy"][:]).all()
        assert (file["cycles/staleness"][:] == -1).all(), "nobody's model was taken in"


@pytest.mark.parametrize("given", [2, 20])
def test_another_number_of_nodes_is_refused_for_a_topology_of_a_fixed_number(given):
    with pytest.raises(UsageError, match=rf"run.nodes = {given} is not allowed: 1, or 0, which means it, with the topology 'single'"):
        Config.load(None, ["run.algorithm=central", f"run.nodes={given}"]).resolve()
    with pytest.raises(UsageError, match=r"run.nodes = 1 is not allowed: at least one node a rank; this job has 2 ranks"):
        Config.load(None, ["run.algorithm=central"]).resolve(2)
    with pytest.raises(UsageError, match=r"run.nodes = 1 is not allowed: at least 2"):
        Config.load(None, ["run.algorithm=ring", "run.nodes=1"]).resolve()


@pytest.mark.parametrize(
    "fault",
    ["faults.crash_fraction=1.0", "faults.crash_nodes=[0, 7]", "faults.crash_hubs=all", "faults.crash_best_connected=3",
     "faults.churn_fraction=1.0", "faults.loss_fraction=0.5"],
)  # fmt: skip
def test_no_fault_hits_the_baseline_whatever_the_plan_of_its_rivals(fault):
    """So that its line can stand in the figure of any scenario: the words of the plan are in its file, and nobody was hit."""
    run = simulate(*SMALL, "run.algorithm=central", "run.cycles=12", fault)
    undisturbed = simulate(*SMALL, "run.algorithm=central", "run.cycles=12")
    assert run.nodes[0].model.tobytes() == undisturbed.nodes[0].model.tobytes()
    assert run.column("alive").all() and run.faults and all(row.node == -1 for row in run.faults)


def test_without_exchange_each_node_of_many_is_trained_on_its_own_shard_alone():
    run = simulate(*SMALL, "run.nodes=4", "run.cycles=2", "run.algorithm=custom", "topology.name=complete", "rule.name=isolated")
    for node in range(4):
        model = trained(run, 2, node, trained(run, 1, node, run.learner.initial(node)).model).model
        assert model.tobytes() == run.nodes[node].model.tobytes()
    assert run.column("messages_out").sum() == 0


OWN = """
from healmpi.overlay.static import Graph


class Pair(Graph):
    fixed_nodes = {}

    def links(self, node):
        return (1 - node,)
"""


def test_a_users_own_topology_can_be_made_for_a_number_of_nodes(tmp_path, monkeypatch):
    (tmp_path / "pair_of.py").write_text(OWN.format(2))
    (tmp_path / "pair_bad.py").write_text(OWN.format("'two'"))
    monkeypatch.syspath_prepend(tmp_path)
    given = ["topology.factory=pair_of:Pair", "rule.name=epidemic"]
    assert Config.load(None, given).resolve().run.nodes == 2 and simulate(*SMALL, *given, "run.cycles=2").column("alive").shape == (2, 2)
    with pytest.raises(UsageError, match=r"run.nodes = 3 is not allowed: 2, or 0, which means it, with the topology 'pair_of:Pair'"):
        Config.load(None, [*given, "run.nodes=3"]).resolve()
    with pytest.raises(UsageError, match=r"its `fixed_nodes` must be a whole number from 0 on, not 'two'"):
        Config.load(None, ["topology.factory=pair_bad:Pair", "rule.name=epidemic"]).resolve()


SUITED = ["run.cycles=3", "evaluation.nodes=1", "data.dataset=synthetic", "data.samples=300", "model.name=logistic"]

SUITE = """
[base.run]
nodes = 6
cycles = 3
[base.evaluation]
nodes = 4
[base.data]
dataset = "synthetic"
samples = 300
[base.model]
name = "logistic"
[axes]
algorithm = ["ring", "central"]
[axes.scenario.crash.faults]
crash_cycle = 2
crash_nodes = [3, 5]
"""


def test_in_a_suite_the_base_speaks_of_the_others_nodes(tmp_path):
    (tmp_path / "suite.toml").write_text(SUITE)
    ring, central = suites.load(str(tmp_path / "suite.toml"), ranks=2).experiments
    assert (ring.name, ring.config.run.nodes, ring.config.evaluation.nodes) == ("ring-crash", 6, 4)
    assert (central.name, central.config.run.nodes, central.config.evaluation.nodes) == ("central-crash", 1, 1)
    with pytest.raises(UsageError, match=r"ring-crash: run.nodes = 6 is not allowed: at least one node a rank"):
        suites.load(str(tmp_path / "suite.toml"), ranks=8)


@pytest.mark.mpi
def test_in_a_suite_on_more_ranks_than_nodes_the_first_rank_runs_it_with_the_same_bits(tmp_path):
    (tmp_path / "suite.toml").write_text(SUITE)
    command = ["suite", tmp_path / "suite.toml", "-o", tmp_path / "out"]
    done = healmpi_mpi("openmpi", 2, *command, cwd=tmp_path)
    assert done.code == 0 and "2 experiments: 2 valid" in done.out, done.out + done.err
    again = healmpi(*command, cwd=tmp_path)
    assert "2 experiments, 2 of them done already" in again.out, "on another number of ranks it is the same experiment"
    given = [*SUITED, "run.algorithm=central", "faults.crash_cycle=2", "faults.crash_nodes=[3, 5]"]
    alone = execute(given, tmp_path / "alone.h5")
    assert_same(tables(alone), tables(tmp_path / "out" / "central-crash.h5"), "alone")
    with h5py.File(tmp_path / "out" / "central-crash.h5") as file:
        assert file.attrs["ranks"] == 1 and json.loads(file["config"].attrs["json"])["faults"]["crash_nodes"] == [3, 5]


# Accuracy by class, and on data like the node's own.

DIGITS = ("data.dataset=mnist10k", "data.partition=shards", "model.name=mlp", "learner.local_steps=3", "run.nodes=5", "run.cycles=3")


def hits_of(run, model) -> np.ndarray:
    """Test samples of each class that a model gets right, sample by sample."""
    data = inspecting.load(run.config.chosen, run.config.run.seed)
    torch.nn.utils.vector_to_parameters(
        torch.from_numpy(model.copy()), (module := run.config.chosen.model.build(data.input_shape, 10)).parameters()
    )
    with torch.no_grad():
        found = module(torch.from_numpy(data.scaled(data.test_x))).argmax(1).numpy()
    return np.array([(found[data.test_y == label] == label).sum() for label in range(10)])


def test_hits_per_class_are_those_of_each_test_sample():
    run = simulate(*DIGITS, "run.algorithm=ring", "learner.local_steps=40", "run.cycles=1")
    model = run.nodes[2].model
    (judged,) = run.learner.judge([model])
    assert judged.hits.dtype == np.int64 and judged.hits.tolist() == hits_of(run, model).tolist() and judged.hits.any()
    assert judged.accuracy == judged.hits.sum() / run.learner.tested.sum() == run.learner.evaluate([model])[0][0]


def test_a_models_accuracy_on_its_own_shard_is_weighted_by_the_labels_that_it_holds():
    hits, tested = np.array([8, 1, 0]), np.array([10, 10, 0])
    assert own_accuracy(hits, tested, np.array([5, 0, 0])) == 0.8, "one label alone"
    assert own_accuracy(hits, tested, np.array([3, 1, 0])) == pytest.approx(0.75 * 0.8 + 0.25 * 0.1)
    assert own_accuracy(hits, tested, np.array([3, 1, 96])) == pytest.approx(0.75 * 0.8 + 0.25 * 0.1), "a label nobody is asked for"
    assert np.isnan(own_accuracy(hits, tested, np.array([0, 0, 4]))), "nothing to ask for"
    assert own_accuracy(hits, tested, tested) == pytest.approx(9 / 20), "shares as in the test set: the accuracy itself"


def test_both_tables_come_from_the_numbers_of_the_file_alone(tmp_path):
    """Under skew: nodes do better on data like their own than on all; what the file holds is enough to say so."""
    given = [
        *DIGITS,
        "run.algorithm=custom",
        "topology.name=complete",
        "rule.name=isolated",
        "learner.local_steps=30",
        "evaluation.every=2",
    ]
    with h5py.File(execute(given, tmp_path / "a.h5")) as file:
        own, accuracy = file["cycles/own_accuracy"][:], file["cycles/accuracy"][:]
        by_class, tested = file["cycles/class_accuracy"][:], file["partition/test_counts"][:]
        assert np.isnan(own[0]).all() and np.isnan(by_class[0]).all(), "cycle 1 is not evaluated"
        assert (own[1:] > accuracy[1:] + 0.2).all(), "shards of two labels"
        print("accuracy", accuracy[-1], "on the own labels", own[-1], "by class", by_class[-1])
        mean = (by_class[-1] * tested).sum() / tested.sum()
        assert mean == pytest.approx(accuracy[-1].mean(), abs=1e-6), "the mean over classes, as frequent as they are, is the accuracy"


def test_where_nothing_is_learnt_there_is_no_class(tmp_path):
    with h5py.File(execute(["run.algorithm=elevator", "run.cycles=2"], tmp_path / "a.h5")) as file:
        assert file["cycles/class_accuracy"].shape == (2, 0) and file["partition/test_counts"].shape == (0,)
        assert np.isnan(file["cycles/own_accuracy"][:]).all()


# FedProx and SCAFFOLD, against gradients written by hand. A batch holds a whole shard, so that no order of samples matters.

RATE, STEPS = 0.3, 4
WHOLE = (*SKEWED, "run.nodes=6", "run.cycles=3", f"learner.learning_rate={RATE}", "learner.weight_decay=0", "learner.batch_size=1000")
WHOLE = (*WHOLE, f"learner.local_steps={STEPS}")


def gradient_of(run, node: int):
    """Of the mean loss of a logistic regression on a node's shard, float64, as a function of the model."""
    chosen, config = run.config.chosen, run.config.run
    data = inspecting.load(chosen, config.seed)
    rows = chosen.partition.parts(data.train_y, config.nodes, config.seed)[node]
    x, target = data.scaled(data.train_x[rows]).astype(np.float64), np.eye(data.classes)[data.train_y[rows]]

    def gradient(model: np.ndarray) -> np.ndarray:
        weight, bias = model[: target.shape[1] * x.shape[1]].reshape(-1, x.shape[1]), model[-target.shape[1] :]
        scores = np.exp(x @ weight.T + bias)
        error = (scores / scores.sum(axis=1, keepdims=True) - target) / len(x)
        return np.concatenate([(error.T @ x).ravel(), error.sum(axis=0)])

    return gradient


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_fedprox_is_pulled_to_the_model_that_the_job_began_with(mu):
    run = simulate(*WHOLE, "run.algorithm=federated", f"learner.proximal={mu}")
    model = run.learner.initial(0).astype(np.float64)
    for _ in range(3):
        ends = []
        for node in range(1, 6):
            gradient, y = gradient_of(run, node), model.copy()
            for _ in range(STEPS):
                y = y - RATE * (gradient(y) + mu * (y - model))
            ends.append(y)
        model = np.mean(ends, axis=0)
    assert np.allclose(run.nodes[0].model, model, atol=1e-5)


def test_fedprox_goes_with_adam_and_is_no_part_of_the_loss_that_is_told():
    given = (*SKEWED, "run.algorithm=federated", "run.nodes=4", "run.cycles=2", "learner.optimizer=adam", "learner.local_steps=1")
    plain, pulled = simulate(*given), simulate(*given, "learner.proximal=2.0")
    # The first step of a job stands where the job began: there is nothing to pull.
    assert pulled.column("train_loss").tobytes() == plain.column("train_loss").tobytes()
    longer = "learner.local_steps=5"
    assert simulate(*given, longer, "learner.proximal=2.0").nodes[1].model.tobytes() != simulate(*given, longer).nodes[1].model.tobytes()


def scaffold(run, clients, weights) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """Algorithm 1 of the publication, all clients taking part: differences sent, a server that keeps x and c. Returns x, c, c_i."""
    x = run.learner.initial(0).astype(np.float64)
    c, own = np.zeros_like(x), {node: np.zeros_like(x) for node in clients}
    for _ in range(run.config.run.cycles):
        dx, dc = [], []
        for node in clients:
            gradient, y = gradient_of(run, node), x.copy()
            for _ in range(STEPS):
                y = y - RATE * (gradient(y) - own[node] + c)
            new = own[node] - c + (x - y) / (STEPS * RATE)
            dx.append(y - x)
            dc.append(new - own[node])
            own[node] = new
        x, c = x + np.average(dx, axis=0, weights=weights), c + np.average(dc, axis=0, weights=weights)
    return x, c, own


@pytest.mark.parametrize("weighting", ["hubs", "samples"])
@pytest.mark.parametrize("algorithm, servers", [("federated", (0,)), ("gaia", (0, 3))])
def test_with_all_clients_scaffold_is_the_published_one(algorithm, servers, weighting):
    """Servers of equal numbers of clients, so that the mean of their means is the mean of all."""
    given = (*WHOLE, f"run.algorithm={algorithm}", "topology.servers=2", f"rule.weighting={weighting}", "results.audit=on")
    run = simulate(*given, "rule.control_variates=true")
    clients = [node for node in range(6) if node not in servers]
    x, c, own = scaffold(run, clients, sizes(run)[clients] if weighting == "samples" else None)
    held = {node: run.nodes[node].rule.variates for node in range(6)}
    assert np.allclose(run.host.population.models(), [x] * 6, atol=1e-5) and run.complaints == [] and run.host.closing.audited
    assert all(np.allclose(held[node].common, c, atol=1e-5) for node in range(6))
    assert all(np.allclose(held[node].own, own[node], atol=1e-4) for node in clients) and np.abs(c).max() > 1e-3
    plain = simulate(*given)
    assert not np.allclose(plain.nodes[0].model, x, atol=1e-4), "under skew it is another model than FedAvg's"


def test_the_common_control_variate_is_the_mean_of_the_clients_own():
    """The algorithm's invariant, which its correction of drift rests on; with minibatches of any size."""
    run = simulate(*SKEWED, "run.nodes=8", "run.cycles=6", "run.algorithm=federated", "rule.control_variates=true")
    held = [run.nodes[node].rule.variates for node in range(8)]
    mean = np.mean([one.own for one in held[1:]], axis=0)
    assert np.allclose(held[0].common, mean, atol=1e-6) and all(one.common.tobytes() == held[0].common.tobytes() for one in held)
    assert not held[0].own.any(), "a server does not train"


def test_who_heard_no_hub_trains_plainly_and_so_does_a_newcomer():
    run = simulate(
        *SKEWED, "run.nodes=6", "run.cycles=5", "run.algorithm=federated", "rule.control_variates=true", "results.audit=on",
        "faults.plan=[{cycle = 3, nodes = [0]}, {kind = 'churn', cycle = 5, nodes = [2]}]",
    )  # fmt: skip
    held = {node: run.nodes[node].rule.variates for node in range(6)}
    assert all(held[node].correction() is None for node in range(1, 6)) and run.complaints == [], "the server died in cycle 3"
    alone = run.nodes[1].rule
    (job,) = alone.begin(10**6, 6)
    assert job.correction is None
    done = trained(run, 6, 1, job.model)
    alone.trained(Trained(10**6, done.model, done.steps))
    mean = (job.model - done.model) / (done.steps * run.config.learner.learning_rate)
    assert np.allclose(held[1].own, mean, atol=1e-6), "its own control variate is the mean of its gradients all the same"


def test_models_travel_with_their_control_variates_and_are_counted_so():
    given = (*SKEWED, "run.nodes=6", "topology.servers=2", "run.cycles=1", "run.algorithm=gaia")
    plain, run = simulate(*given), simulate(*given, "rule.control_variates=true")
    size = run.learner.size
    assert (run.column("messages_out") == plain.column("messages_out")).all()
    vectors = run.column("messages_out")[..., [kind.carries_model for kind in run.config.chosen.kinds]].sum()
    assert run.column("bytes_out").sum() - plain.column("bytes_out").sum() == 4 * size * vectors, "each is twice as long"


@pytest.mark.parametrize("other", ["learner.optimizer=adam", "learner.momentum=0.9", "learner.proximal=0.1"])
def test_control_variates_need_plain_steps(other):
    given = ["learner.optimizer=sgd", "rule.control_variates=true"]
    Config.load(None, given).resolve()
    with pytest.raises(
        UsageError, match=r"rule.control_variates = True is not allowed: false unless learner.optimizer = 'sgd', .*plain steps"
    ):
        Config.load(None, [*given, other]).resolve()


# The analysis reads what is new here, and what a run without messages leaves.


def test_the_analysis_reads_a_baseline_and_its_parts(tmp_path):
    out = tmp_path / "c.h5"
    (tmp_path / "STOP").touch()
    ranks = Ranks()
    prepared = prepare(Config.load(None, [*SMALL, "run.algorithm=central", "run.cycles=3"]).resolve(), ranks)
    with pytest.raises(Stopped):
        launch.execute(prepared, ranks, out, lambda progress: None, launch.Options(limits=Limits().with_files(tmp_path / "STOP")))
    with open_source(out.with_name("c.h5.parts")) as parts:
        assert parts.facts.kinds == () and parts.has("messages_out") and parts.read("messages_out", 0, 1).shape == (1, 1, 0)
        assert np.isfinite(parts.read("own_accuracy", 0, 1)).all() and not parts.has("class_hits")
    launch.execute(prepared, ranks, out, lambda progress: None, launch.Options(resume=True))
    with open_source(out) as whole:
        assert whole.facts.kinds == () and np.isfinite(whole.read("own_accuracy", 0, 3)).all()
        assert not whole.has("class_accuracy"), "no row of nodes"
