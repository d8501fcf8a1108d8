"""A user's own network: whatever it keeps, draws or leaves out, a node's bits are its own, or it is refused before the start."""

from __future__ import annotations

import dataclasses
import random
import sys

import h5py
import numpy as np
import pytest
import torch
from digests import digests
from launch import healmpi, healmpi_mpi, sets
from torch import nn

from healmpi import streams
from healmpi.extension import PREFIX, find
from healmpi.learning.datasets.synthetic import Synthetic
from healmpi.learning.jobs import TrainJob
from healmpi.learning.learner import Learner
from healmpi.learning.learners.serial import Serial
from healmpi.learning.models.mlp import Mlp
from healmpi.learning.models.own import OwnModel
from healmpi.learning.trial import batches, parts_of
from healmpi.settings import UsageError

NETS = """
import functools, itertools, logging, random, time
import numpy as np
import torch
import torch.nn.utils.prune
from torch import nn
from torch.nn import functional as F
import healmpi_test_counters

LOG = logging.getLogger("healmpi_test_nets")

class Base(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(shape[0], classes)
        self.prepare(classes)
    def prepare(self, classes): pass
    def forward(self, x): return self.layer(x)

# What a rank may do with: it is seeded, or put back.
class AlwaysDrops(Base):
    def forward(self, x): return self.layer(F.dropout(x, 0.3))
class NumpyNoise(Base):
    def forward(self, x): return self.layer(x * float(np.random.uniform(0.5, 1.5)))
class PythonNoise(Base):
    def forward(self, x): return self.layer(x) * (1 + random.random())
class CountsInPlace(Base):
    def prepare(self, classes): self.register_buffer("calls", torch.zeros((), dtype=torch.long))
    def forward(self, x):
        self.calls += 1
        return self.layer(x) / (1 + 0.1 * self.calls)
class CountsByReplacing(CountsInPlace):
    def forward(self, x):
        self.calls = self.calls + 1
        return self.layer(x) / (1 + 0.1 * self.calls)
class Flips(Base):
    def prepare(self, classes): self.register_buffer("flag", torch.zeros((), dtype=torch.bool), persistent=False)
    def forward(self, x):
        self.flag.logical_not_()
        return self.layer(x) * (1 + self.flag)
class Turns(Base):
    def prepare(self, classes): self.register_buffer("phase", torch.ones((), dtype=torch.complex64))
    def forward(self, x):
        self.phase *= 1j
        return self.layer(x) * (2 + self.phase.real)
class Averages(Base):
    def prepare(self, classes): self.register_buffer("mean", torch.zeros(classes))
    def forward(self, x):
        out = self.layer(x)
        with torch.no_grad(): self.mean.lerp_(out.mean(0), 0.1)
        return out - self.mean
def numpy_start(shape, classes):
    net = Base(shape, classes)
    with torch.no_grad(): net.layer.weight.copy_(torch.from_numpy(np.random.standard_normal((classes, shape[0])).astype("float32")))
    return net
def python_start(shape, classes):
    net = Base(shape, classes)
    nn.init.constant_(net.layer.bias, random.random())
    return net
def everything(shape, classes):
    net = Unused(shape, classes)
    net.forward = lambda x: net.layer(F.dropout(x, 0.3)) * float(np.random.uniform(0.5, 1.5))
    nn.init.constant_(net.layer.bias, np.random.standard_normal())
    return net
class OldSpectralNorm(Base):
    def prepare(self, classes): self.layer = nn.utils.spectral_norm(self.layer)
class Pruned(Base):
    def prepare(self, classes): nn.utils.prune.l1_unstructured(self.layer, "weight", 0.5)
class Logs(Base):
    def forward(self, x):
        LOG.debug("%d samples", len(x))
        return self.layer(x)
class InPlaceOnItsInput(Base):
    def forward(self, x): return self.layer(x.add_(1))
NOISE = float(np.random.random()) + float(torch.rand(())) + random.random()
class DrawnAtImport(Base):
    def forward(self, x): return self.layer(x) * NOISE

# What it refuses: state that lives on.
class Attribute(Base):
    def prepare(self, classes): self.plain = 0
    def forward(self, x):
        self.plain += 1
        return self.layer(x)
class InList(Base):
    def prepare(self, classes): self.seen = []
    def forward(self, x):
        self.seen.append(len(x))
        return self.layer(x)
class InArray(Base):
    def prepare(self, classes): self.array = np.zeros(3)
    def forward(self, x):
        self.array[0] += 1
        return self.layer(x)
class InTensor(Base):
    def prepare(self, classes): self.hidden = None
    def forward(self, x):
        self.hidden = self.layer(x)
        return self.hidden
class InGenerator(Base):
    def prepare(self, classes): self.source = torch.Generator().manual_seed(5)
    def forward(self, x): return self.layer(x) + torch.rand((), generator=self.source)
class InNumpyGenerator(Base):
    def prepare(self, classes): self.rng = np.random.default_rng(1)
    def forward(self, x): return self.layer(x) + float(self.rng.random())
class InPythonGenerator(Base):
    def prepare(self, classes): self.draw = random.Random(1)
    def forward(self, x): return self.layer(x) + self.draw.random()
class InIterator(Base):
    def prepare(self, classes): self.count = itertools.count()
    def forward(self, x): return self.layer(x) + next(self.count)
class OnlyInEvaluation(Base):
    def prepare(self, classes): self.judged = 0
    def forward(self, x):
        if not self.training: self.judged += 1
        return self.layer(x)
class OfClass(Base):
    total = 0
    def forward(self, x):
        OfClass.total += 1
        return self.layer(x)
TALLY = {"calls": 0}
class OfFile(Base):
    def forward(self, x):
        TALLY["calls"] += 1
        return self.layer(x)
class OfOtherFile(Base):
    def forward(self, x):
        healmpi_test_counters.calls += 1
        return self.layer(x)
class OfFileOfFunction(Base):
    def forward(self, x):
        import healmpi_test_counters as counted
        counted.tick()
        return self.layer(x)
class FreshEntropy(Base):
    def forward(self, x): return self.layer(x) + float(np.random.default_rng().random())
class FreshInEvaluation(Base):
    def forward(self, x): return self.layer(x) if self.training else self.layer(x) + float(np.random.default_rng().random())
class Clock(Base):
    def forward(self, x): return self.layer(x) * (1 + time.perf_counter() % 1)
class Nested(Base):
    def prepare(self, classes): self.inner = Attribute((classes,), classes)
    def forward(self, x): return self.inner(self.layer(x))
class Hooked(Base):
    def prepare(self, classes):
        calls = []
        self.layer.register_forward_hook(lambda *_: calls.append(1))
class Reparameterises(Base):
    def forward(self, x):
        self.layer.weight = nn.Parameter(self.layer.weight.detach().clone())
        return self.layer(x)

# Factories that are no functions of the seed.
def torch_entropy(shape, classes):
    net, source = Base(shape, classes), torch.Generator()
    source.seed()
    with torch.no_grad(): net.layer.weight.normal_(generator=source)
    return net
def numpy_entropy(shape, classes):
    net = Base(shape, classes)
    nn.init.constant_(net.layer.bias, np.random.default_rng().random())
    return net
def generator_entropy(shape, classes):
    net = Base(shape, classes)
    net.source = np.random.default_rng()
    return net
@functools.cache
def cached(shape, classes): return Base(shape, classes)
shared = nn.Linear(6, 3)
def sharing(shape, classes): return nn.Sequential(shared)
weight = nn.Parameter(torch.ones(3, 6))
def sharing_a_tensor(shape, classes):
    net = Base(shape, classes)
    net.layer.weight = weight
    return net
def reseeding(shape, classes):
    torch.manual_seed(0)
    return Base(shape, classes)
def constant(shape, classes):
    net = Base(shape, classes)
    for one in net.parameters(): nn.init.zeros_(one)
    return net

# Networks that fail in training alone.
class Norm(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Linear(shape[0], 8), nn.BatchNorm1d(8), nn.Linear(8, classes))
class Fails(Base):
    def forward(self, x):
        if self.training: raise RuntimeError("no luck\\nat all")
        return self.layer(x)
class GivesPair(Base):
    def forward(self, x): return (self.layer(x), x) if self.training else self.layer(x)
class Detaches(Base):
    def forward(self, x): return self.layer(x).detach() if self.training else self.layer(x)
class OneRow(Base):
    def forward(self, x): return self.layer(x)[:1] if self.training else self.layer(x)
class NotANumber(Base):
    def forward(self, x): return self.layer(x) * (float("nan") if self.training else 1)
class BadGradient(Base):
    def forward(self, x): return self.layer(x) + (self.layer.bias * 0).abs().sqrt().sum() if self.training else self.layer(x)
class Squeezes(Base):
    def forward(self, x): return self.layer(x) if self.training else self.layer(x).squeeze()
class WholeNumbers(Base):
    def forward(self, x): return self.layer(x) if self.training else self.layer(x).argsort()
class Doubles(Base):
    def forward(self, x): return self.layer(x).double() if self.training else self.layer(x)

# Tensors of other kinds.
class Sparse(Base):
    def prepare(self, classes): self.register_buffer("edges", torch.eye(3).to_sparse())
class Meta(Base):
    def prepare(self, classes): self.register_buffer("edges", torch.zeros(3, device="meta"))
class AsAttributes(Base):
    def prepare(self, classes):
        self.kept = [torch.eye(3).to_sparse(), torch.zeros(3, device="meta"), torch.ones(3, dtype=torch.cfloat).conj()]

# Parameters without gradient.
class Unused(Base):
    def prepare(self, classes):
        self.unused = nn.Linear(3, 2)
        nn.init.ones_(self.unused.weight)
class ByChance(Base):
    def prepare(self, classes): self.extra = nn.Linear(classes, classes)
    def forward(self, x):
        out = self.layer(x)
        return self.extra(out) if torch.rand(()) < 0.5 else out
class BySample(ByChance):
    def forward(self, x):
        out = self.layer(x)
        return self.extra(out) if not self.training or x[0, 0] < -1 else out
class ByBatch(ByChance):
    def forward(self, x):
        out = self.layer(x)
        return self.extra(out) if len(x) == 32 else out
"""
FILE = "healmpi_test_states"


@pytest.fixture(autouse=True)
def nets(tmp_path, monkeypatch):
    """A user's file in the current directory."""
    (tmp_path / f"{FILE}.py").write_text(NETS)
    (tmp_path / "healmpi_test_counters.py").write_text("calls = 0\ndef tick():\n    global calls\n    calls += 1\n")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop(PREFIX + FILE, None)
    sys.modules.pop("healmpi_test_counters", None)


def learner(name: str, hosted=range(8), initial: str = "common", **options) -> Learner:
    """Eight nodes with 225 samples in all but the last, which has 226; learns by the user's network of that name."""
    factory = f"{FILE}:{name}"
    data = Synthetic(Synthetic.Settings(samples=2200, features=6, classes=3, test_fraction=0.1)).load(1)
    sizes = [225] * 7 + [226]
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    shards = {node: parts[node] for node in hosted}
    return Serial(Serial.Settings(**options)).make(1, initial, OwnModel(factory, find("model.factory", factory)), data, shards, sizes)


def history(one: Learner, nodes, judged_first: bool = False) -> dict[int, list]:
    """Model bytes, accuracy and loss of each node after each of three cycles."""
    models = {node: one.initial(node) for node in nodes}
    found: dict[int, list] = {node: [] for node in nodes}
    for cycle in (1, 2, 3):
        if judged_first:
            one.evaluate([one.newcomer(9, cycle)])
        models |= {done.node: done.model for done in one.train([TrainJob(node, 0, cycle, models[node]) for node in nodes])}
        for node, judged in zip(nodes, one.evaluate([models[node] for node in nodes]), strict=True):
            found[node].append((models[node].tobytes(), judged))
    return found


# Kept per node.


@pytest.mark.parametrize(
    "name",
    [
        "AlwaysDrops",
        "NumpyNoise",
        "PythonNoise",
        "CountsInPlace",
        "CountsByReplacing",
        "Flips",
        "Turns",
        "Averages",
        "numpy_start",
        "python_start",
        "everything",
        "OldSpectralNorm",
        "Pruned",
        "Logs",
        "InPlaceOnItsInput",
        "AsAttributes",
    ],
)  # fmt: skip
def test_what_a_network_draws_and_its_buffers_belong_to_the_node(name):
    alone, together = history(learner(name, [5]), [5]), history(learner(name), range(7, -1, -1), judged_first=True)
    assert alone[5] == together[5]


def test_global_generators_are_left_as_they_were():
    find("model.factory", f"{FILE}:NumpyNoise")  # the file itself draws when it is imported
    drawn = []
    for use in (lambda: None, lambda: history(learner("NumpyNoise", [0]), [0])):
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        use()
        drawn.append((float(torch.rand(())), np.random.random(), random.random()))
    assert drawn[0] == drawn[1]


def test_buffers_of_whole_numbers_start_anew_in_each_job_and_each_batch_of_an_evaluation():
    one = learner("CountsInPlace", [0], local_steps=3)
    for cycle in (1, 2):
        one.train([TrainJob(0, 0, cycle, one.initial(0))])
        assert int(one.flat.module.calls) == 3
    one.evaluate([one.initial(0), one.newcomer(0, 1)])
    assert int(one.flat.module.calls) == 1


def test_a_rehearsed_network_starts_from_the_bits_that_its_factory_gave():
    one = learner("Norm", [0], batch_size=113)
    with torch.random.fork_rng():
        torch.manual_seed(streams.whole(1, "init common"))
        plain = find("model.factory", f"{FILE}:Norm")((6,), 3)
    held = dict(one.flat.module.named_parameters()) | dict(one.flat.module.named_buffers())
    assert all(torch.equal(held[name], value) for name, value in (*plain.named_parameters(), *plain.named_buffers()))
    assert not one.flat.gradient.any()


OWN = [*sets("data.dataset=synthetic", "run.cycles=3", "run.nodes=6", "model.name=custom"), "--set", f"model.factory={FILE}:everything"]


@pytest.mark.mpi
def test_a_network_that_draws_everywhere_gives_the_same_bits_in_one_process_on_two_ranks_and_after_a_stop(tmp_path):
    run = ["run", *OWN, "--set", "results.save_models=true"]
    assert healmpi(*run, "-o", "one.h5", cwd=tmp_path).code == 0
    (tmp_path / "two.h5.stop").touch()
    assert healmpi_mpi("openmpi", 2, *run, "-o", "two.h5", "--resume", cwd=tmp_path).code == 75
    (tmp_path / "two.h5.stop").unlink()
    two = healmpi_mpi("openmpi", 2, *run, "-o", "two.h5", "--resume", cwd=tmp_path)
    assert two.code == 0, two
    assert digests(tmp_path / "one.h5") == digests(tmp_path / "two.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        unused = file["models/parameters"][:, -8:-2]
    assert (unused == 1).all()


# Refused before the start.


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("Attribute", "plain"), ("InList", "seen"), ("InArray", "array"), ("InTensor", "hidden"), ("InGenerator", "source"),
        ("InNumpyGenerator", "rng"), ("InPythonGenerator", "draw"), ("InIterator", "count"), ("OnlyInEvaluation", "judged"),
        ("OfClass", "(forward|total)"), ("OfFile", "forward"), ("OfOtherFile", "forward"),
        ("OfFileOfFunction", "forward"), ("Nested", r"inner\.plain"), ("Hooked", r"layer\._forward_hooks"),
    ],
)  # fmt: skip
def test_state_that_lives_on_outside_of_buffers_is_refused_by_name(name, attribute):
    with pytest.raises(UsageError, match=rf"model\.factory = '{FILE}:{name}'.*: {attribute} has changed"):
        learner(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FreshEntropy", r"(its loss|layer\.\w+) differs in training on a batch of"), ("Clock", "its loss differs in training"),
        ("FreshInEvaluation", r"what it gives differs in evaluation of \d+ samples"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_do_the_same_twice_is_refused(name, text):
    with pytest.raises(UsageError, match=f"must do the same with the same numbers and seeds; {text}.*: it draws from"):
        learner(name)


def test_what_a_file_draws_while_it_is_imported_is_the_same_in_every_process():
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        drawn.append(find("model.factory", f"{FILE}:DrawnAtImport").forward.__globals__["NOISE"])
        sys.modules.pop(PREFIX + FILE)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("name", "text"), [("Sparse", "edges is not a dense tensor"), ("Meta", "edges is on meta")])
def test_tensors_that_no_vector_can_hold_are_refused(name, text):
    with pytest.raises(UsageError, match=text):
        learner(name)


@pytest.mark.parametrize(("tested", "size"), [(220, 220), (1000, 1000), (1001, 1), (2300, 300)])
def test_both_batches_of_an_evaluation_are_tried(tested, size):
    assert set(parts_of(tested, 1000)) == {min(1000, tested), size}


def test_a_network_that_drops_a_dimension_of_a_single_sample_is_refused():
    data = Synthetic(Synthetic.Settings(samples=2100, features=6, classes=3, test_fraction=0.48)).load(1)
    data = dataclasses.replace(data, test_x=data.test_x[:1001], test_y=data.test_y[:1001])
    own = OwnModel("x", find("model.factory", f"{FILE}:Squeezes"))
    with pytest.raises(UsageError, match=r"in evaluation its module must give \(1, 3\) for 1 sample; it gives \(3,\)"):
        Serial(Serial.Settings()).make(1, "common", own, data, {0: np.arange(9)})


def test_a_network_that_gives_no_scores_in_evaluation_is_refused():
    with pytest.raises(UsageError, match=r"in evaluation its module must give floating-point numbers; it gives torch\.int64"):
        learner("WholeNumbers")


def test_marks_of_a_network_are_the_same_in_every_process_and_tell_what_differs():
    one, other = (learner(name, [0]).marks for name in ("CountsInPlace", "CountsInPlace"))
    assert one == other and {"calls", "layer.weight", "the order of its parameters and buffers"} <= one.keys()
    different = learner("Base", [0]).marks
    assert "calls" not in different and different["layer.weight"] == one["layer.weight"]


def test_a_parameter_that_is_replaced_is_refused():
    with pytest.raises(UsageError, match=r"parameter layer\.weight in place, instead of replacing"):
        learner("Reparameterises")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torch_entropy", r"same seed; layer\.weight differs"), ("numpy_entropy", r"same seed; layer\.bias differs"),
        ("generator_entropy", "same seed; source differs"), ("cached", "share parts"), ("sharing", "share parts"),
        ("sharing_a_tensor", "share parts"),
    ],
)  # fmt: skip
def test_a_factory_that_gives_other_bits_or_the_same_object_twice_is_refused(name, text):
    with pytest.raises(UsageError, match=text):
        learner(name)


@pytest.mark.parametrize("name", ["reseeding", "constant"])
def test_independent_starts_that_would_be_all_alike_are_refused(name):
    with pytest.raises(UsageError, match=r"model\.initial = 'independent' is not allowed: 'common': model\.factory gives the same"):
        learner(name, initial="independent")
    assert learner(name).size == 21


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Norm", r"a batch of 1 sample, as node 0 has it with its shard of 225 \(ValueError"),
        ("Fails", r"\(RuntimeError: no luck\)"), ("GivesPair", "gives tuple"), ("Detaches", "detached"), ("OneRow", r"gives \(1, 3\)"),
        ("NotANumber", "its loss is not"), ("BadGradient", r"the gradient of layer\.bias is not"), ("Doubles", "torch.float64"),
    ],
)  # fmt: skip
def test_a_network_that_fails_in_training_alone_is_refused_with_one_sentence(name, text):
    with pytest.raises(UsageError, match=text) as caught:
        learner(name, [7])
    assert "\n" not in str(caught.value)


def test_a_refused_network_ends_with_exit_code_2_and_leaves_no_file(tmp_path):
    options = sets("data.dataset=synthetic", "run.cycles=2", "run.nodes=8", "data.samples=2000", f"model.factory={FILE}:Norm")
    done = healmpi("run", *options, "-o", "one.h5", cwd=tmp_path)
    assert done.code == 2 and "a batch of 1 sample, as node 0 has it with its shard of" in done.err and "Traceback" not in done.err, done
    assert not list(tmp_path.glob("one.h5*"))


@pytest.mark.parametrize(
    ("sizes", "batch_size", "local_steps", "smallest"),
    [
        ({0: 225, 1: 226}, 32, 0, (1, 0, 225)), ({3: 64, 4: 40}, 32, 0, (8, 4, 40)), ({0: 225}, 32, 7, (32, 0, 225)),
        ({0: 225}, 32, 8, (1, 0, 225)), ({0: 64, 1: 5}, 32, 0, (5, 1, 5)),
    ],
)  # fmt: skip
def test_the_smallest_batch_of_all_nodes_is_the_one_that_is_tried(sizes, batch_size, local_steps, smallest):
    assert batches(sizes, batch_size, local_steps)[0] == smallest


# Parameters without gradient.


@pytest.mark.parametrize("options", [{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9}, {"optimizer_state": "fresh"}])
def test_an_unused_layer_stays_as_it_was_and_the_others_are_trained_as_without_it(options):
    one, plain = learner("Unused", [0], **options), learner("Base", [0], **options)
    start = one.initial(0)
    start = np.concatenate([plain.initial(0), start[21:]])
    first, second = start, plain.initial(0)
    for cycle in (1, 2):
        first = one.train([TrainJob(0, 0, cycle, first)])[0].model
        second = plain.train([TrainJob(0, 0, cycle, second)])[0].model
    assert first[:21].tobytes() == second.tobytes()
    assert first[21:].tobytes() == start[21:].tobytes() and (first[21:27] == 1).all()
    assert one.newcomer(0, 1).shape == first.shape


@pytest.mark.parametrize("name", ["ByChance", "ByBatch"])
def test_parameters_that_are_used_in_some_steps_only_are_refused(name):
    with pytest.raises(UsageError, match=r"same parameters in each step; extra\.(bias|weight) gets a gradient in some only"):
        learner(name)


def test_a_parameter_that_some_samples_alone_use_ends_the_run_in_one_sentence():
    one = learner("BySample", [0])
    with pytest.raises(UsageError, match=r"same parameters in each step; extra\.weight got a gradient in \d of 8 steps"):
        one.train([TrainJob(0, 0, 1, one.initial(0))])


def test_shipped_networks_are_not_rehearsed():
    data = Synthetic(Synthetic.Settings(samples=100, features=6, classes=3)).load(1)
    one = Serial(Serial.Settings()).make(1, "common", Mlp(Mlp.Settings(hidden=(4,))), data, {0: np.arange(9)})
    assert isinstance(one.flat.module, nn.Sequential) and one.initial(0).shape == (one.size,)
