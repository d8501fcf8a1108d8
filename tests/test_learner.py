"""The learner: flat models, networks and their refusals, training whose bits belong to the node, and evaluation."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from healmpi import streams
from healmpi.catalogue import own as own_choice
from healmpi.extension import PREFIX, find
from healmpi.learning.data import Data, Dataset
from healmpi.learning.datasets.mnist10k import Mnist10k
from healmpi.learning.datasets.spambase import Spambase
from healmpi.learning.datasets.synthetic import Synthetic
from healmpi.learning.device import Staging
from healmpi.learning.jobs import TrainJob
from healmpi.learning.learner import Learner
from healmpi.learning.learners.serial import Serial
from healmpi.learning.models.flat import FlatModel
from healmpi.learning.models.kind import Model
from healmpi.learning.models.lenet5 import Lenet5
from healmpi.learning.models.logistic import Logistic
from healmpi.learning.models.mlp import Mlp
from healmpi.learning.models.own import OwnModel
from healmpi.learning.partition import Iid
from healmpi.settings import UsageError

NETS = """
from dataclasses import dataclass
import torch
from torch import nn
from healmpi.settings import Section, option

class Drop(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Linear(shape[0], 16), nn.BatchNorm1d(16, momentum=None), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, classes))

class Replaces(nn.Linear):
    def __init__(self, shape, classes):
        super().__init__(shape[0], classes)
        self.register_buffer("seen", torch.zeros(1))
    def forward(self, x):
        self.seen = self.seen + len(x)
        return super().forward(x)

def lazy(shape, classes): return nn.LazyLinear(classes)
def nothing(shape, classes): return None
def fails(shape, classes): raise RuntimeError("no luck")
def double(shape, classes): return nn.Linear(shape[0], classes).double()
def no_parameters(shape, classes): return nn.Identity()
def frozen(shape, classes): return nn.Linear(shape[0], classes).requires_grad_(False)
def too_wide(shape, classes): return nn.Linear(shape[0], classes + 1)
def wrong_input(shape, classes): return nn.Linear(shape[0] + 1, classes)
number = 5

def late(shape, classes):
    from healmpi_test_layers import wide
    return wide

class Wide(nn.Sequential):
    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        width: int = option(4, "Width of the hidden layer.", low=1)
    def __init__(self, shape, classes, settings):
        super().__init__(nn.Linear(shape[0], settings.width), nn.ReLU(), nn.Linear(settings.width, classes))
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A user's module in the current directory."""
    (tmp_path / "healmpi_test_nets.py").write_text(NETS)
    (tmp_path / "healmpi_test_broken.py").write_text("this is no Python")
    monkeypatch.chdir(tmp_path)
    yield "healmpi_test_nets"
    sys.modules.pop(f"{PREFIX}healmpi_test_nets", None)


def blobs(samples: int = 900, test_fraction: float = 0.1) -> Synthetic:
    return Synthetic(Synthetic.Settings(samples=samples, features=6, classes=3, noise=0.5, test_fraction=test_fraction))


def chosen(kind, **options):
    return kind(kind.Settings(**options))


def own(factory: str) -> OwnModel:
    """As the user's model.factory."""
    return OwnModel(factory, find("model.factory", factory))


@dataclass(frozen=True)
class Task:
    """What is learnt by `nodes` nodes, which hold equal parts of the data."""

    data: Data = field(default_factory=blobs)
    model: Model = field(default_factory=lambda: chosen(Mlp, hidden=[9]))
    learner: dict = field(default_factory=dict)
    initial: str = "common"
    nodes: int = 10
    seed: int = 1

    def load(self) -> tuple[Dataset, tuple[np.ndarray, ...]]:
        """The samples, and which of them each node has."""
        data = self.data.load(self.seed)
        return data, chosen(Iid).parts(data.train_y, self.nodes, self.seed)


def make_learner(task: Task, hosted=None) -> Learner:
    data, parts = task.load()
    shards = {node: parts[node] for node in (range(task.nodes) if hosted is None else hosted)}
    return chosen(Serial, **task.learner).make(task.seed, task.initial, task.model, data, shards)


def cycles(learner: Learner, nodes, count: int, incarnation: int = 0) -> dict[int, list[bytes]]:
    """The bytes of each node's model after each cycle; nodes never average."""
    models_now = {node: learner.initial(node) for node in nodes}
    history: dict[int, list[bytes]] = {node: [] for node in nodes}
    for cycle in range(1, count + 1):
        for result in learner.train([TrainJob(node, incarnation, cycle, models_now[node]) for node in nodes]):
            models_now[result.node] = result.model
            history[result.node].append(result.model.tobytes())
    return history


# Networks


@pytest.mark.parametrize(
    ("model", "shape", "classes", "numbers"),
    [
        (chosen(Logistic), (57,), 2, 116),
        (chosen(Logistic), (1, 28, 28), 10, 7850),
        (chosen(Mlp, hidden=(5, 4)), (3,), 2, 3 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2),
        (chosen(Lenet5), (1, 28, 28), 10, 61_706),
    ],
)
def test_networks_have_their_number_of_parameters_and_give_one_score_per_class(model, shape, classes, numbers):
    module = model.build(shape, classes)
    assert FlatModel(module).size == numbers
    assert module(torch.zeros(2, *shape)).shape == (2, classes)


def test_lenet5_needs_28_by_28_images():
    with pytest.raises(UsageError, match=r"model\.name = 'lenet5'.*\(1, 28, 28\)"):
        chosen(Lenet5).build((1, 32, 32), 10)


def test_the_shipped_models_say_what_they_need_and_cost():
    said = {kind.name: (kind.needs_images, kind.cost) for kind in (Logistic, Mlp, Lenet5, OwnModel)}
    assert said == {"logistic": (False, 1.0), "mlp": (False, 2.0), "lenet5": (True, 12.0), "": (False, 12.0)}


def test_a_factory_is_found_in_the_current_directory_and_the_path_is_left_as_it_was(nets):
    before = list(sys.path)
    for name in ("Drop", "lazy"):
        assert own(f"{nets}:{name}").build((6,), 3)(torch.zeros(4, 6)).shape == (4, 3)
    assert sys.path == before


def test_a_factory_may_import_other_files_of_the_current_directory_when_it_is_called(nets, tmp_path):
    (tmp_path / "healmpi_test_layers.py").write_text("from torch import nn\nwide = nn.Linear(6, 3)\n")
    model = own(f"{nets}:late")
    assert FlatModel(model.build((6,), 3)).size == 21
    sys.modules.pop("healmpi_test_layers")


def test_a_factory_that_declares_settings_is_called_with_them(nets):
    function = find("model.factory", f"{nets}:Wide")
    settings = function.Settings
    with pytest.raises(UsageError, match=r"model\.options\.width = 0 is not allowed: at least 1"):
        own_choice("model.factory", f"{nets}:Wide", None, {"width": 0}, "model.options")
    assert FlatModel(OwnModel(f"{nets}:Wide", function, settings(width=7)).build((6,), 3)).size == 6 * 7 + 7 + 7 * 3 + 3


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("healmpi_no_such_module:f", "must be importable.*ModuleNotFoundError"),
        ("healmpi_test_broken:f", "must be importable.*SyntaxError"),
        ("healmpi_test_nets:absent", "must have a function or class absent"),
        ("healmpi_test_nets:number", "must have a function or class number"),
        ("healmpi_test_nets:", "'module:Name'"),
        ("healmpi_test_nets:nothing", "torch.nn.Module, not NoneType"),
        ("healmpi_test_nets:fails", "RuntimeError: no luck"),
        ("healmpi_test_nets:double", "weight is torch.float64"),
        ("healmpi_test_nets:no_parameters", "trainable parameter"),
        ("healmpi_test_nets:frozen", "trainable parameter"),
        ("healmpi_test_nets:too_wide", r"\(2, 3\); it gives \(2, 4\)"),
        ("healmpi_test_nets:wrong_input", r"samples of shape \(6,\)"),
    ],
)
def test_a_bad_factory_is_refused_with_its_reason(nets, factory, text):
    with pytest.raises(UsageError, match=rf"model\.factory = '{factory}'.*{text}"):
        own(factory).build((6,), 3)


# The flat vector


def test_parameters_float_buffers_and_gradients_are_views_into_flat_vectors():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    expected = torch.cat([t.detach().flatten() for t in (*module.parameters(), module[1].running_mean, module[1].running_var)])
    flat = FlatModel(module)
    assert flat.size == 16 + 8 + 10 + 8
    assert torch.equal(flat.vector, expected)

    flat.module(torch.randn(5, 3)).square().sum().backward()
    flat.check_views()
    assert flat.vector[34:38].any(), "the running mean moves inside the vector"
    assert torch.equal(flat.gradient, torch.cat([p.grad.flatten() for p in module.parameters()]))
    assert flat.parameters_view.grad is flat.gradient
    assert flat.parameters_view.data_ptr() == flat.vector.data_ptr() and len(flat.parameters_view) == 34

    flat.vector.zero_()
    assert all(not p.any() for p in module.parameters())
    assert int(module[1].num_batches_tracked) == 1
    flat.reset_others()
    assert int(module[1].num_batches_tracked) == 0


def test_tied_parameters_are_stored_once_and_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(self.one(x))

    flat = FlatModel(Tied())
    assert flat.size == 16
    x = torch.randn(3, 4)
    flat.module(x).sum().backward()
    weight = flat.vector.view(4, 4).clone().requires_grad_()
    (x @ weight.T @ weight.T).sum().backward()
    assert torch.allclose(flat.gradient, weight.grad.flatten(), atol=1e-6)


def test_frozen_parameters_travel_in_the_vector_but_no_optimizer_sees_them():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    module[0].requires_grad_(False)
    flat = FlatModel(module)
    assert (flat.size, len(flat.parameters_view)) == (9 + 8, 8)
    assert torch.equal(flat.vector[:6], module[1].weight.detach().flatten())


# First models


def test_common_models_are_the_same_on_every_node_and_independent_ones_differ():
    common, independent = (make_learner(Task(initial=kind), [0, 1]) for kind in ("common", "independent"))
    assert common.initial(0) is common.initial(1)
    assert independent.initial(0).tobytes() == independent.initial(0).tobytes()
    newcomers = [common.newcomer(0, 1), common.newcomer(0, 2), common.newcomer(1, 1)]
    drawn = [common.initial(0), independent.initial(0), independent.initial(1), *newcomers]
    for one, other in itertools.combinations(drawn, 2):
        assert not np.array_equal(one, other)
    assert all(one.shape == (common.size,) and one.dtype == np.float32 and not one.flags.writeable for one in drawn)


def test_drawing_a_model_leaves_torchs_generator_and_training_alone():
    learner = make_learner(Task())
    before = torch.random.get_rng_state()
    learner.newcomer(3, 1)
    assert torch.equal(before, torch.random.get_rng_state())


# Training


LEARNERS = {
    "adam kept": {"optimizer": "adam"},
    "adam fresh": {"optimizer": "adam", "optimizer_state": "fresh"},
    "momentum kept": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.05},
    "sgd steps": {"optimizer": "sgd", "learning_rate": 0.05, "local_steps": 7, "batch_size": 20},
}


def test_the_way_through_a_vector_in_host_memory_gives_the_same_bits():
    """As with a GPU, of which there is none here."""
    direct, staged = make_learner(Task()), make_learner(Task())
    staged.staging = Staging(staged.flat.vector, apart=True)
    assert cycles(direct, range(4), 3) == cycles(staged, range(4), 3)
    models = [direct.newcomer(node, 0) for node in range(3)]
    assert direct.evaluate(models) == staged.evaluate(models)


def test_momentum_is_for_sgd():
    Serial.check(Serial.Settings(optimizer="sgd", momentum=0.5))
    Serial.check(Serial.Settings(optimizer="adam"))
    with pytest.raises(UsageError, match=r"learner\.momentum = 0\.5 is not allowed: 0 unless learner\.optimizer is 'sgd'"):
        Serial.check(Serial.Settings(optimizer="adam", momentum=0.5))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_refused():
    with pytest.raises(UsageError, match=r"learner.device = 'cuda' is not allowed: 'cpu': torch .* sees no GPU here"):
        make_learner(Task(learner={"device": "cuda"}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_two_learners_give_the_same_bits_and_learn_as_on_the_cpu():
    task = Task(learner={"device": "cuda"})
    assert cycles(make_learner(task), range(4), 3) == cycles(make_learner(task), range(4), 3)
    assert last_accuracy(task, 10) == pytest.approx(last_accuracy(Task(), 10), abs=0.05)


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_a_nodes_bits_do_not_depend_on_who_else_is_hosted_or_on_the_order_of_jobs(learner):
    task = Task(learner=learner)
    alone = cycles(make_learner(task, [7]), [7], 4)[7]
    together = cycles(make_learner(task), range(10), 4)
    backwards = cycles(make_learner(task), range(9, -1, -1), 4)
    assert alone == together[7] == backwards[7]
    assert together == backwards
    assert len({history[-1] for history in together.values()}) == 10


def test_dropout_and_batch_norm_keep_a_nodes_bits_its_own(nets):
    task = Task(model=own(f"{nets}:Drop"))
    alone, together = cycles(make_learner(task, [7]), [7], 3)[7], cycles(make_learner(task), range(10), 3)[7]
    assert alone == together


def test_lenet5_on_images_keeps_a_nodes_bits_its_own():
    task = Task(chosen(Mnist10k), chosen(Lenet5), nodes=100)
    assert cycles(make_learner(task, [7]), [7], 2)[7] == cycles(make_learner(task, [3, 7, 50]), [50, 7, 3], 2)[7]


@pytest.mark.parametrize(("optimizer", "settings"), [("adam", {}), ("sgd", {"momentum": 0.9}), ("sgd", {})])
def test_training_does_what_a_plain_torch_loop_does(optimizer, settings):
    task = Task(learner={"optimizer": optimizer, "learning_rate": 0.01, "weight_decay": 0.02, "local_epochs": 2, **settings})
    learner = make_learner(task, [4])
    data, parts = task.load()
    rows = parts[4]
    x, y = torch.from_numpy(data.scaled(data.train_x[rows])), torch.from_numpy(data.train_y[rows])
    module = task.model.build((6,), 3)
    nn.utils.vector_to_parameters(torch.from_numpy(learner.initial(4).copy()), module.parameters())
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    plain = kind(module.parameters(), lr=0.01, weight_decay=0.02, **settings)

    model, losses = learner.initial(4), []
    for cycle in (1, 2, 3):
        result = learner.train([TrainJob(4, 0, cycle, model)])[0]
        model, losses = result.model, []
        rng = streams.generator(1, "batches", 4, 0, cycle)
        rng.integers(2**63)
        for _ in range(2):
            for index in torch.from_numpy(rng.permutation(len(y))).split(32):
                plain.zero_grad()
                loss = nn.functional.cross_entropy(module(x[index]), y[index])
                loss.backward()
                plain.step()
                losses.append(loss.item())
    expected = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    assert np.allclose(model, expected, rtol=1e-4, atol=1e-6), np.abs(model - expected).max()
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert result.samples == 2 * len(y)


def test_a_job_leaves_its_model_as_it_was_and_gives_a_new_frozen_one():
    learner = make_learner(Task())
    given = learner.initial(0).copy()
    before = given.copy()
    result = learner.train([TrainJob(0, 0, 1, given)])[0]
    assert np.array_equal(given, before)
    assert result.model.dtype == np.float32 and not result.model.flags.writeable
    assert not np.shares_memory(result.model, given)
    assert not np.array_equal(result.model, given)
    assert result.seconds > 0
    kept = result.model.copy()
    learner.train([TrainJob(1, 0, 1, given)])
    assert np.array_equal(result.model, kept), "later jobs do not touch earlier results"


def test_local_steps_run_through_fresh_passes_and_take_the_short_last_batch():
    # 81 samples a node in batches of 32, 32, 17: seven steps are two passes and one step.
    learner = make_learner(Task(learner={"local_steps": 7}))
    result = learner.train([TrainJob(0, 0, 1, learner.initial(0))])[0]
    assert result.samples == 2 * 81 + 32


def test_forgetting_and_a_new_incarnation_both_start_with_a_fresh_optimizer():
    task = Task()
    learner, untouched = make_learner(task), make_learner(task)
    start = learner.initial(2)
    fresh = untouched.train([TrainJob(2, 0, 2, start)])[0].model.tobytes()
    learner.train([TrainJob(2, 0, 1, start)])
    assert learner.train([TrainJob(2, 0, 2, start)])[0].model.tobytes() != fresh, "Adam's moments were kept"
    learner.forget(2)
    learner.forget(9)
    assert learner.train([TrainJob(2, 0, 2, start)])[0].model.tobytes() == fresh
    newcomer = make_learner(task).train([TrainJob(2, 1, 2, start)])[0].model.tobytes()
    assert learner.train([TrainJob(2, 1, 2, start)])[0].model.tobytes() == newcomer != fresh


def test_a_diverged_model_has_a_loss_that_says_so_and_stops_nothing():
    learner = make_learner(Task(learner={"optimizer": "sgd", "learning_rate": 1000.0, "weight_decay": 900.0, "local_steps": 40}))
    result = learner.train([TrainJob(0, 0, 1, learner.initial(0))])[0]
    assert not math.isfinite(result.loss)
    accuracy, loss = learner.evaluate([result.model])[0]
    assert 0 <= accuracy <= 1 and not math.isfinite(loss)


def test_a_module_that_replaces_a_floating_point_buffer_is_refused_before_the_start(nets):
    with pytest.raises(UsageError, match=r"model\.factory.*buffer seen in place"):
        make_learner(Task(model=own(f"{nets}:Replaces")))


# Evaluation


def test_evaluation_is_accuracy_and_mean_loss_over_the_whole_test_set():
    task = Task(blobs(5000, 0.5))
    learner = make_learner(task, [0])
    data, _ = task.load()
    module = task.model.build((6,), 3)
    nn.utils.vector_to_parameters(torch.from_numpy(learner.initial(0).copy()), module.parameters())
    with torch.no_grad():
        out, y = module(torch.from_numpy(data.scaled(data.test_x))), torch.from_numpy(data.test_y)
    accuracy, loss = learner.evaluate([learner.initial(0)])[0]
    assert accuracy == pytest.approx(float((out.argmax(1) == y).float().mean()))
    assert loss == pytest.approx(float(nn.functional.cross_entropy(out, y)), rel=1e-5)


def test_equal_models_are_evaluated_once():
    learner = make_learner(Task())
    calls = []
    learner.flat.module.register_forward_hook(lambda *_: calls.append(1))
    one, other = learner.newcomer(0, 1), learner.newcomer(0, 2)
    results = learner.evaluate([one, other, one.copy(), one, other.copy()])
    assert len(calls) == 2
    assert results[0] == results[2] == results[3] and results[1] == results[4] and results[0] != results[1]
    assert learner.evaluate(np.stack([one, other, one, other, one])) == [results[i] for i in (0, 1, 0, 1, 0)]
    assert learner.evaluate([]) == []


def test_evaluation_between_cycles_changes_no_training(nets):
    task = Task(model=own(f"{nets}:Drop"))
    watched, plain = make_learner(task, [7]), cycles(make_learner(task, [7]), [7], 3)[7]
    model = watched.initial(7)
    for cycle in (1, 2, 3):
        model = watched.train([TrainJob(7, 0, cycle, model)])[0].model
        watched.evaluate([model, watched.newcomer(7, 5)])
    assert model.tobytes() == plain[-1]


# What comes out


def last_accuracy(task: Task, count: int) -> float:
    learner = make_learner(task, [0])
    model = learner.initial(0)
    for cycle in range(1, count + 1):
        model = learner.train([TrainJob(0, 0, cycle, model)])[0].model
    return learner.evaluate([model])[0][0]


def test_logistic_regression_alone_on_half_of_spambase_passes_88_percent():
    learner = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0}
    accuracy = last_accuracy(Task(chosen(Spambase), chosen(Logistic), learner, nodes=2), 10)
    assert accuracy > 0.88


def test_lenet5_alone_on_half_of_mnist10k_passes_90_percent_in_three_epochs():
    accuracy = last_accuracy(Task(chosen(Mnist10k), chosen(Lenet5), nodes=2), 3)
    assert accuracy > 0.9


def test_a_network_that_no_memory_holds_is_refused_before_it_is_built():
    with pytest.raises(UsageError, match=r"model\.hidden = .*fits into memory: training it takes 1\.2e\+04 GB"):
        Mlp(Mlp.Settings(hidden=(1_000_000, 1_000_000))).build((20,), 2)
