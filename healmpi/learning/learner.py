"""The learner: trains and evaluates the models of all nodes that one rank hosts.

Source: minibatch SGD as in FedAvg's ClientUpdate (McMahan et al. 2017, algorithm 1), and Adam (Kingma, Ba 2015), whose state
stays with the node (heal.md section 5).

One network serves all nodes: a node's numbers are copied into its vector, trained, and copied out. That makes a result's bits
independent of where a vector lies in memory, of the other nodes on the rank and of the order of jobs; random numbers belong to
the node, its incarnation and the cycle.

Before each job, and before each batch of an evaluation, the global generators of torch, numpy and Python are seeded anew, for dropout
and whatever a user's network draws. Afterwards they are as they were. A user's own network is rehearsed first (trial.py).
"""

from __future__ import annotations

import inspect
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from healmpi import randomness, streams
from healmpi.learning import device, trial
from healmpi.learning.data import Dataset
from healmpi.learning.fingerprint import marks
from healmpi.learning.jobs import Judgement, TrainJob, TrainResult
from healmpi.learning.learners.serial import Serial
from healmpi.learning.models.flat import FlatModel
from healmpi.learning.models.kind import Model
from healmpi.learning.models.own import OwnModel

EVALUATION_BATCH = 1000
GATHERED_BATCHES = 8


class _Shard(NamedTuple):
    """x: float32 [samples, *input_shape], scaled. y: int64 [samples]."""

    x: torch.Tensor
    y: torch.Tensor


class Learner:
    """Training and evaluation on one rank.

    size: length of a model vector. tested: int64 [classes], samples of the test set by label. flat: the network that serves all
    nodes. staging: the way of their models into it. marks: of a user's own network, what must be the same on every rank, as hashes.
    """

    def __init__(
        self,
        settings: Serial.Settings,
        seed: int,
        initial: str,
        model: Model,
        dataset: Dataset,
        shards: Mapping[int, np.ndarray],
        sizes: Sequence[int] | None = None,
    ):
        """seed: the run's. initial: 'common' or 'independent', as model.initial. shards: indices into the training part, int64 and
        not empty, for each hosted node. sizes: samples of each node of the run, hosted or not; None: there are only the hosted ones.

        Sets the number of torch's threads in this process. Raises UsageError when the model does not fit the data.
        """
        torch.set_num_threads(Serial(settings).threads())
        self._settings, self._seed, self._initial, self._model = settings, seed, initial, model
        self._dataset = dataset
        self._device = device.find(settings)
        self._shards = {node: _shard(dataset, indices, self._device) for node, indices in shards.items()}
        self._unused: frozenset[str] = frozenset()
        self._own = isinstance(model, OwnModel)
        if isinstance(model, OwnModel):
            hosted = {node: len(part) for node, part in shards.items()}
            self._unused = self._rehearse(model, hosted if sizes is None else dict(enumerate(sizes)))
        module = self._build(streams.whole(seed, "init common"))
        self.marks: Mapping[str, str] = marks(module) if self._own else {}
        self.flat = FlatModel(module.to(self._device), self._unused)
        if self._own:
            self.flat.count_gradients()
        self.staging = device.Staging(self.flat.vector, self._device.type != "cpu")
        self._common = self.staging.take()
        self._optimizer = _optimizer(settings, self.flat)
        self._step = self._optimizer.bare_step
        self._states: dict[int, tuple[int, dict[str, Any]]] = {}
        self.size = self.flat.size
        self.tested = np.bincount(dataset.test_y, minlength=dataset.classes)

    def initial(self, node: int) -> np.ndarray:
        """The model that `node` starts with: float32 [size], not writeable; the same for all when model.initial is 'common'."""
        return self._common if self._initial == "common" else self.newcomer(node, 0)

    def newcomer(self, node: int, incarnation: int) -> np.ndarray:
        """A random model of that incarnation's own: float32 [size], not writeable."""
        seed = streams.whole(self._seed, "init", node, incarnation)
        return device.Staging(FlatModel(self._build(seed), self._unused).vector, False).take()

    def labels(self, node: int) -> np.ndarray:
        """Training samples of the node's shard by label: int64 [classes]."""
        return np.bincount(self._shards[node].y.cpu().numpy(), minlength=self._dataset.classes)

    def forget(self, node: int) -> None:
        """Drop the node's optimizer state, if any."""
        self._states.pop(node, None)

    def state(self) -> dict[int, tuple[int, dict[str, Any]]]:
        """Node -> incarnation and optimizer state, as arrays: all that lasts from cycle to cycle."""
        return {
            node: (incarnation, {name: one.cpu().numpy() if isinstance(one, torch.Tensor) else one for name, one in state.items()})
            for node, (incarnation, state) in self._states.items()
        }

    def restore(self, states: Mapping[int, tuple[int, dict[str, Any]]]) -> None:
        """What `state` gave. The arrays are taken over."""
        self._states = {
            node: (
                incarnation,
                {name: torch.from_numpy(one).to(self._device) if isinstance(one, np.ndarray) else one for name, one in state.items()},
            )
            for node, (incarnation, state) in states.items()
        }

    def train(self, jobs: Sequence[TrainJob]) -> list[TrainResult]:
        """Train each job's model on its node's shard; results in the order of the jobs. Raises KeyError on a node not hosted."""
        if not self.flat.module.training:
            self.flat.module.train()
        with randomness.isolated():
            return [self._train_one(job) for job in jobs]

    def evaluate(self, vectors: Sequence[np.ndarray]) -> list[tuple[float, float]]:
        """Accuracy and mean loss of each model on the whole test set. vectors: float32 [size] each."""
        return [(one.accuracy, one.loss) for one in self.judge(vectors)]

    def judge(self, vectors: Sequence[np.ndarray]) -> list[Judgement]:
        """Each model on the whole test set. vectors: float32 [size] each; equal ones cost once."""
        distinct, places = _distinct(list(vectors))
        correct, loss = np.zeros((len(distinct), len(self.tested)), np.int64), np.zeros(len(distinct))
        samples = len(self._dataset.test_y)
        self.flat.module.eval()
        with torch.no_grad(), randomness.isolated():
            # Batches outside, models inside: a batch is scaled once, and never more than one is held as floats.
            for first in range(0, samples, EVALUATION_BATCH):
                batch = _shard_of(
                    self._dataset, self._dataset.test_x, self._dataset.test_y, slice(first, first + EVALUATION_BATCH), self._device
                )
                # The same draws for each model: they may depend neither on the rank nor on who else is judged.
                drawn = streams.whole(self._seed, "evaluation", first)
                for row, vector in enumerate(distinct):
                    self.staging.put(vector)
                    self.flat.reset_others()
                    randomness.seed_all(drawn, self._device.type == "cuda", self._own)
                    hits, total = self._judge(batch)
                    correct[row] += hits
                    loss[row] += total
        return [Judgement(float(correct[row].sum() / samples), float(loss[row] / samples), correct[row]) for row in places]

    def _build(self, seed: int) -> torch.nn.Module:
        # Drawn on the CPU, so that models start from the same bits on every device.
        with randomness.isolated():
            randomness.seed_all(seed)
            return self._model.build(self._dataset.input_shape, self._dataset.classes)

    def _rehearse(self, model: OwnModel, sizes: Mapping[int, int]) -> frozenset[str]:
        """Names of the parameters that no step gives a gradient. Raises UsageError: the model cannot be trained here, or reproducibly."""
        seed, data = streams.whole(self._seed, "init common"), self._dataset
        module = trial.built_alike(model, self._build, seed)
        if self._initial == "independent" and len(sizes) > 1:
            trial.check_independent(*(self._build(streams.whole(self._seed, "init", node, 0)) for node in (0, 1)))
        batches = trial.batches(sizes, self._settings.batch_size, self._settings.local_steps)
        samples = _shard_of(data, data.train_x, data.train_y, slice(0, max(one.size for one in batches)), self._device)
        rehearsal = trial.Rehearsal(model, module.to(self._device), data.classes)
        unused = rehearsal.unused(batches, samples.x, samples.y)
        judged = trial.parts_of(len(data.test_y), EVALUATION_BATCH)
        rehearsal.evaluate(_shard_of(data, data.test_x, data.test_y, slice(0, max(judged)), self._device).x, judged)
        return unused

    def _judge(self, batch: _Shard) -> tuple[np.ndarray, float]:
        # A user's network may change its input in place, and the next model is judged on the same one.
        out = self.flat.module(batch.x.clone() if self._own else batch.x)
        found, wanted = out.argmax(1).cpu().numpy(), batch.y.cpu().numpy()
        # numpy's bincount costs what torch's sum did; torch's own takes three times as long over so few numbers.
        hits = np.bincount(wanted[found == wanted], minlength=len(self.tested))
        return hits, float(cross_entropy(out, batch.y, reduction="sum"))

    def _train_one(self, job: TrainJob) -> TrainResult:
        start = time.perf_counter()
        self.staging.put(job.model)
        self.flat.reset_others()
        self._swap_in(job)
        loss, samples, steps = self._descend(job)
        self._swap_out(job)
        self.flat.check_views()
        self.flat.check_unused()
        self.flat.check_used(steps)
        return TrainResult(job.node, self.staging.take(), loss, samples, time.perf_counter() - start, steps)

    def _descend(self, job: TrainJob) -> tuple[float, int, int]:
        """Mean loss, samples and number of a job's steps.

        The hot loop: names bound outside, and nothing is read back from torch before its end.
        """
        rng = streams.generator(self._seed, "batches", job.node, job.incarnation, job.cycle)
        randomness.seed_all(int(rng.integers(2**63)), self._device.type == "cuda", self._own)
        module, zero, step = self.flat.module, self.flat.gradient.zero_, self._step
        adjust = self._adjustment(job)
        total, steps, samples = torch.zeros((), device=self._device), 0, 0
        for x, y in _batches(self._shards[job.node], rng, self._settings):
            zero()
            loss = cross_entropy(module(x), y)
            loss.backward()
            if adjust is not None:
                adjust()
            step()
            total += loss.detach()
            steps += 1
            samples += len(y)
        return float(total) / steps, samples, steps

    def _adjustment(self, job: TrainJob) -> Callable[[], None] | None:
        """What is added to the loss's gradient in each step: FedProx's pull to the job's start, the rule's correction. None: nothing."""
        gradient, now, mu = self.flat.gradient, self.flat.parameters_view, self._settings.proximal
        terms: list[Callable[[], Any]] = []
        if mu:
            start = now.clone()
            terms.append(lambda: gradient.add_(now - start, alpha=mu))
        if job.correction is not None:
            fixed = torch.tensor(job.correction[: len(gradient)], device=self._device)
            terms.append(lambda: gradient.add_(fixed))

        def adjust() -> None:
            with torch.no_grad():
                for term in terms:
                    term()

        return adjust if terms else None

    def _swap_in(self, job: TrainJob) -> None:
        """Give the optimizer the node's own state. A newcomer never inherits its predecessor's."""
        incarnation, state = self._states.get(job.node, (job.incarnation, None))
        self._optimizer.state.clear()
        if state is not None and incarnation == job.incarnation:
            self._optimizer.state[self.flat.parameters_view] = state

    def _swap_out(self, job: TrainJob) -> None:
        if self._settings.optimizer_state == "keep":
            self._states[job.node] = (job.incarnation, self._optimizer.state[self.flat.parameters_view])


def _shard(dataset: Dataset, indices: np.ndarray, place: torch.device) -> _Shard:
    assert len(indices) > 0, "a node has at least one sample"
    return _shard_of(dataset, dataset.train_x, dataset.train_y, indices, place)


def _shard_of(dataset: Dataset, x: np.ndarray, y: np.ndarray, rows: np.ndarray | slice, place: torch.device) -> _Shard:
    return _Shard(torch.from_numpy(dataset.scaled(x[rows])).to(place), torch.from_numpy(y[rows].copy()).to(place))


def _optimizer(settings: Serial.Settings, flat: FlatModel) -> _Adam | _Sgd:
    """torch's optimizer over the one flat parameter, in its fused variant: one pass over memory, half the time of Adam's others.

    Weight decay is L2 in the gradient. Buffers are not in the parameter, so never decay.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adam":
        return _Adam([flat.parameters_view], lr=rate, weight_decay=decay, fused=True)
    return _Sgd([flat.parameters_view], lr=rate, momentum=settings.momentum, weight_decay=decay, fused=True)


class _WithoutCompiler:
    """In front of a torch optimizer: its methods without what torch's compiler wraps around them.

    That loads the compiler in each process, which takes longer than torch itself. And `step` without the profiler's marks and hooks,
    which take longer than the step of a small model. The flat parameter needs no gradient, so the step may be taken in any mode.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)


class _Adam(_WithoutCompiler, torch.optim.Adam):
    bare_step = inspect.unwrap(torch.optim.Adam.step)


class _Sgd(_WithoutCompiler, torch.optim.SGD):
    bare_step = inspect.unwrap(torch.optim.SGD.step)


def _batches(shard: _Shard, rng: np.random.Generator, settings: Serial.Settings) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """x and y of each step: a new random order for each pass, cut into batches; the last one of a pass may be short."""
    size, samples = settings.batch_size, len(shard.y)
    steps = -(-samples // size)
    left = settings.local_steps or settings.local_epochs * steps
    while left > 0:
        order = torch.from_numpy(rng.permutation(samples)).to(shard.y.device)[: left * size]
        # A few batches are gathered at once and then cut: fewer calls, and still little memory.
        for index in order.split(GATHERED_BATCHES * size):
            yield from zip(shard.x.index_select(0, index).split(size), shard.y.index_select(0, index).split(size), strict=True)
        left -= steps


def _distinct(vectors: list[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
    """The different ones among the vectors, and for each vector its place among those. Same means the same bits."""
    distinct: list[np.ndarray] = []
    groups: dict[int, list[int]] = {}
    known: dict[int, int] = {}  # many nodes hold the very same array: no need to look into it twice
    places = []
    for vector in vectors:
        if id(vector) not in known:
            group = groups.setdefault(zlib.crc32(vector.data), [])
            known[id(vector)] = _place(vector, distinct, group)
        places.append(known[id(vector)])
    return distinct, places


def _place(vector: np.ndarray, distinct: list[np.ndarray], group: list[int]) -> int:
    for place in group:
        if np.array_equal(distinct[place].view(np.uint32), vector.view(np.uint32)):
            return place
    group.append(len(distinct))
    distinct.append(vector)
    return group[-1]
