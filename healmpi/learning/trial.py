"""The rehearsal of a user's own network, before anything starts: does it build alike, train, and leave nothing behind?

It takes place on a module of its own, so the one that trains is as if it had not happened, and with the same samples on every rank,
so all of them refuse with the same sentence. Each step is taken twice from the same numbers and seeds. Shipped networks are not
rehearsed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from healmpi import randomness
from healmpi.learning.fingerprint import bytes_of, fingerprint
from healmpi.learning.models.flat import FlatModel
from healmpi.learning.models.own import OwnModel, shape_of, text
from healmpi.settings import UsageError

SEEDS = (1, 2, 3, 4)
"""Of the draws in which each batch is tried: a network may use its parameters by chance."""


LOSS, VECTOR = "its loss", "a parameter or buffer"
"""What an error calls them."""


class Batch(NamedTuple):
    """A batch that occurs in the run. size: its samples. node: one that has it. shard: samples of that node."""

    size: int
    node: int
    shard: int

    def __str__(self) -> str:
        return f"a batch of {samples_text(self.size)}, as node {self.node} has it with its shard of {self.shard}"


def samples_text(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"


def batches(sizes: Mapping[int, int], batch_size: int, local_steps: int) -> tuple[Batch, ...]:
    """The smallest batch that any node trains on, and the largest. sizes: samples of each node. local_steps: 0 for whole passes."""
    last = [Batch(_last(size, batch_size, local_steps), node, size) for node, size in sizes.items()]
    first = [Batch(min(size, batch_size), node, size) for node, size in sizes.items()]
    return min(last), max(first)


def parts_of(samples: int, size: int) -> tuple[int, ...]:
    """How many samples the first and the last part have when so many are cut into parts of that size."""
    return (min(samples, size), samples - (-(-samples // size) - 1) * size)


def _last(samples: int, batch_size: int, local_steps: int) -> int:
    """Samples of the last batch of a pass. Fewer steps than a pass has never reach it."""
    steps = -(-samples // batch_size)
    return batch_size if 0 < local_steps < steps else parts_of(samples, batch_size)[1]


def built_alike(model: OwnModel, build: Callable[[int], nn.Module], seed: int) -> nn.Module:
    """A module for the rehearsal. Raises UsageError: two calls with the same seeds give different ones, or share something."""
    one, other = build(seed), build(seed)
    if {id(part) for part in one.modules()} & {id(part) for part in other.modules()} or _storages(one) & _storages(other):
        raise model.refusal("it must build a new module each time it is called; two calls gave modules that share parts")
    values, again = _values(one), _values(other)
    if values.keys() != again.keys():
        raise model.refusal("it must build the same module each time it is called with the same seed; parameters or buffers differ")
    changed = next((name for name in values if not _same(values[name], again[name])), None)
    changed = changed or _changed(fingerprint(one), fingerprint(other))
    if changed:
        raise model.refusal(f"it must build the same module each time it is called with the same seed; {changed} differs")
    return other


def check_independent(one: nn.Module, other: nn.Module) -> None:
    """Raises UsageError: the modules were built from different seeds and are the same."""
    values, others = _values(one), _values(other)
    if values.keys() == others.keys() and all(_same(values[name], others[name]) for name in values):
        allowed = "'common': model.factory gives the same values whatever seed torch, numpy and Python's random have"
        raise UsageError("model.initial", "independent", allowed)


class Rehearsal:
    """A little training and evaluation, without an optimizer, of a module that does nothing else.

    classes: scores that it must give for a sample.
    """

    def __init__(self, model: OwnModel, module: nn.Module, classes: int):
        self._model, self._module, self._classes = model, module, classes
        self._flat, self._before = FlatModel(module), fingerprint(module)
        self._first = self._flat.vector.clone()

    def unused(self, tried: Sequence[Batch], x: torch.Tensor, y: torch.Tensor) -> frozenset[str]:
        """Names of the trainable parameters that no step gives a gradient.

        x, y: as many samples as the largest batch. Raises UsageError: the module fails, or keeps what would reach other nodes.
        """
        used = []
        with randomness.isolated():
            self._module.train()
            for seed in SEEDS:
                for batch in tried:
                    used.append(self._step(batch, seed, x[: batch.size], y[: batch.size]))
        self._check_kept()
        for names in used:
            if names != used[0]:
                name = min(names ^ used[0])
                raise self._model.refusal(f"its module must use the same parameters in each step; {name} gets a gradient in some only")
        return frozenset(name for name, one in self._module.named_parameters() if one.requires_grad) - used[0]

    def evaluate(self, x: torch.Tensor, sizes: Sequence[int]) -> None:
        """x: as many samples as the largest of `sizes`, the batches of an evaluation. Raises UsageError as `unused`."""
        self._module.eval()
        with randomness.isolated(), torch.no_grad():
            for size in sorted(set(sizes)):
                self._twice(functools.partial(self._scores, x[:size]), SEEDS[0], f"evaluation of {samples_text(size)}")
        self._check_kept()

    def _step(self, batch: Batch, seed: int, x: torch.Tensor, y: torch.Tensor) -> frozenset[str]:
        """Names of the parameters that a step gives a gradient. It is taken twice from the same start, and must do the same."""
        return frozenset(self._twice(functools.partial(self._gradients, batch, x, y), seed, f"training on {batch}")) - {LOSS}

    def _twice(self, attempt: Callable[[], dict[str, torch.Tensor]], seed: int, what: str) -> dict[str, torch.Tensor]:
        """What it gives, by name. Raises UsageError: the second time, from the same numbers and seeds, it is something else."""
        start = self._flat.vector.clone()
        given = []
        for _ in range(2):
            self._flat.vector.copy_(start)
            self._flat.reset_others()
            randomness.seed_all(seed, start.is_cuda)
            found = attempt()
            given.append({name: one.detach().clone() for name, one in found.items()} | {VECTOR: self._flat.vector.clone()})
        one, other = given
        # On GPUs sums of many threads come in any order, without anybody's fault.
        changed = [name for name in one | other if not (name in one and name in other and _same(one[name], other[name]))]
        if changed and not start.is_cuda:
            self._check_kept()  # which may know the name of what remembers
            allowed = f"its module must do the same with the same numbers and seeds; {changed[0]} differs in {what}"
            raise self._model.refusal(f"{allowed}: it draws from a generator of its own, or remembers")
        return found

    def _gradients(self, batch: Batch, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of a step, and the gradients that it gives, by name of the parameter."""
        for parameter in self._module.parameters():
            parameter.grad = None
        try:
            out = self._module(x.clone())  # which it may change in place
        except (Exception, SystemExit) as error:
            raise self._model.refusal(f"its module must train on {batch} ({text(error)})") from error
        self._check_scores(out, batch)
        loss = cross_entropy(out, y)
        try:
            loss.backward()
        except (Exception, SystemExit) as error:
            raise self._model.refusal(f"gradients must come back through its module, on {batch} ({text(error)})") from error
        gradients = {name: one.grad for name, one in self._module.named_parameters() if one.grad is not None}
        for name, values in ((LOSS, loss), *gradients.items()):
            if not torch.isfinite(values).all():
                what = name if values is loss else f"the gradient of {name}"
                raise self._model.refusal(f"its module must give finite numbers in training mode; {what} is not, on {batch}")
        return {LOSS: loss} | gradients

    def _check_scores(self, out: object, batch: Batch) -> None:
        found = shape_of(out)
        if not isinstance(out, torch.Tensor) or found != (batch.size, self._classes):
            raise self._model.refusal(f"in training mode its module must give {(batch.size, self._classes)} for {batch}; it gives {found}")
        if out.dtype != torch.float32:
            raise self._model.refusal(f"its module must give float32 in training mode; it gives {out.dtype}")
        if not out.requires_grad:
            raise self._model.refusal("in training mode what its module gives must depend on its parameters; it is detached from them")

    def _scores(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        try:
            out = self._module(x.clone())
        except (Exception, SystemExit) as error:
            raise self._model.refusal(f"its module must evaluate {samples_text(len(x))} ({text(error)})") from error
        found, wanted = shape_of(out), (len(x), self._classes)
        if not isinstance(out, torch.Tensor) or found != wanted:
            raise self._model.refusal(f"in evaluation its module must give {wanted} for {samples_text(len(x))}; it gives {found}")
        if not out.is_floating_point():
            raise self._model.refusal(f"in evaluation its module must give floating-point numbers; it gives {out.dtype}")
        return {"what it gives": out}

    def _check_kept(self) -> None:
        """Raises UsageError: something has changed that is neither in the vector nor a buffer that is put back."""
        self._flat.check_views()
        self._flat.check_parameters()
        # Attributes may refer to buffers, which have a right to change.
        self._flat.vector.copy_(self._first)
        self._flat.reset_others()
        changed = _changed(self._before, fingerprint(self._module))
        if changed:
            allowed = f"its module must keep nothing but parameters and buffers: {changed} has changed, and the nodes of a rank share it"
            raise self._model.refusal(allowed)


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """The first name that is not the same in both."""
    return min((name for name in before.keys() | after.keys() if before.get(name) != after.get(name)), default=None)


def _values(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _storages(module: nn.Module) -> set[int]:
    return {one.untyped_storage().data_ptr() for one in _values(module).values() if one.numel()}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """The same bits, NaN too."""
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and bytes_of(one) == bytes_of(other)
