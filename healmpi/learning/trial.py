"""The rehearsal of a user's own network, before anything starts: does it build alike, train, and leave nothing behind?

It takes place on a module of its own, so the one that trains is as if it had not happened, and with the same samples on every rank,
so all of them refuse with the same sentence. Shipped networks are not rehearsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from healmpi.learning.fingerprint import fingerprint
from healmpi.learning.models import randomness
from healmpi.learning.models.flat import FlatModel
from healmpi.learning.models.own import OwnModel, text
from healmpi.settings import UsageError

SEEDS = (1, 2, 3, 4)
"""Of the draws in which each batch is tried: a network may use its parameters by chance."""


class Batch(NamedTuple):
    """A batch that occurs in the run. size: its samples. node: one that has it. shard: samples of that node."""

    size: int
    node: int
    shard: int

    def __str__(self) -> str:
        samples = "1 sample" if self.size == 1 else f"{self.size} samples"
        return f"a batch of {samples}, as node {self.node} has it with its shard of {self.shard}"


def batches(sizes: Mapping[int, int], batch_size: int, local_steps: int) -> tuple[Batch, ...]:
    """The smallest batch that any node trains on, and the largest. sizes: samples of each node. local_steps: 0 for whole passes."""
    last = [Batch(_last(size, batch_size, local_steps), node, size) for node, size in sizes.items()]
    first = [Batch(min(size, batch_size), node, size) for node, size in sizes.items()]
    return min(last), max(first)


def _last(samples: int, batch_size: int, local_steps: int) -> int:
    """Samples of the last batch of a pass. Fewer steps than a pass has never reach it."""
    steps = -(-samples // batch_size)
    return batch_size if 0 < local_steps < steps else samples - (steps - 1) * batch_size


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
                    randomness.seed_all(seed, x.is_cuda)
                    used.append(self._step(batch, x[: batch.size], y[: batch.size]))
            self._evaluate(x)
        self._check_kept()
        for names in used:
            if names != used[0]:
                name = min(names ^ used[0])
                raise self._model.refusal(f"its module must use the same parameters in each step; {name} gets a gradient in some only")
        return frozenset(name for name, one in self._module.named_parameters() if one.requires_grad) - used[0]

    def _step(self, batch: Batch, x: torch.Tensor, y: torch.Tensor) -> frozenset[str]:
        """Names of the parameters that a step gives a gradient."""
        for parameter in self._module.parameters():
            parameter.grad = None
        try:
            out = self._module(x)
        except (Exception, SystemExit) as error:
            raise self._model.refusal(f"its module must train on {batch} ({text(error)})") from error
        self._check_scores(out, batch)
        loss = cross_entropy(out, y)
        try:
            loss.backward()
        except (Exception, SystemExit) as error:
            raise self._model.refusal(f"gradients must come back through its module, on {batch} ({text(error)})") from error
        gradients = {name: one.grad for name, one in self._module.named_parameters() if one.grad is not None}
        for name, values in (("its loss", loss), *gradients.items()):
            if not torch.isfinite(values).all():
                what = name if values is loss else f"the gradient of {name}"
                raise self._model.refusal(f"its module must give finite numbers in training mode; {what} is not, on {batch}")
        return frozenset(gradients)

    def _check_scores(self, out: object, batch: Batch) -> None:
        found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        if not isinstance(out, torch.Tensor) or found != (batch.size, self._classes):
            raise self._model.refusal(f"in training mode its module must give {(batch.size, self._classes)} for {batch}; it gives {found}")
        if out.dtype != torch.float32:
            raise self._model.refusal(f"its module must give float32 in training mode; it gives {out.dtype}")
        if not out.requires_grad:
            raise self._model.refusal("in training mode what its module gives must depend on its parameters; it is detached from them")

    def _evaluate(self, x: torch.Tensor) -> None:
        self._module.eval()
        try:
            with torch.no_grad():
                self._module(x)
        except (Exception, SystemExit) as error:
            raise self._model.refusal(f"its module must evaluate {len(x)} samples ({text(error)})") from error

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
    return alike and _bytes(one) == _bytes(other)


def _bytes(one: torch.Tensor) -> bytes:
    return one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
