"""The flat vector that holds a network's numbers: the idea of DistributedDataParallel's gradient buckets and of Apex's flat master
parameters, taken to its end.

Floating-point buffers, such as BatchNorm's running statistics, are part of the vector and so are sent and averaged like parameters;
all other buffers (integers, booleans, complex numbers) are not part of it: they go back to their first values before each training
and before each batch of an evaluation.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING

from healmpi.settings import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn


class FlatModel:
    """One module whose numbers lie in one vector.

    module: its parameters and floating-point buffers are views into `vector`, its gradients views into `gradient`.
    vector: float32 [size]: trainable parameters, then frozen and unused ones, then floating-point buffers, each in the module's
    order, shared ones once. gradient: float32 [trainable numbers]; backward adds to it, whoever trains sets it to zero.
    parameters_view: the trainable part of `vector` as one leaf, with `gradient` as its .grad, for torch.optim.
    size: length of `vector`.
    """

    def __init__(self, module: nn.Module, unused: Collection[str] = ()):
        """unused: names of parameters that never receive a gradient. As in torch, no optimizer touches them."""
        import torch

        named = dict(module.named_parameters())
        self._trainable = {name: p for name, p in named.items() if p.requires_grad and name not in unused}
        trainable = list(self._trainable.values())
        frozen = [p for name, p in named.items() if not p.requires_grad or name in unused]
        buffers = list(module.buffers())
        floats = [b for b in buffers if b.is_floating_point()]

        self.module = module
        self.size = sum(t.numel() for t in (*trainable, *frozen, *floats))
        device = trainable[0].device
        self.vector = torch.empty(self.size, device=device)
        count = sum(p.numel() for p in trainable)
        self.gradient = torch.zeros(count, device=device)
        _move(trainable + frozen + floats, self.vector)
        self._give_gradients(trainable)
        # Backward never reaches this leaf, and without requires_grad an optimizer may change it in place in any mode.
        self.parameters_view = torch.nn.Parameter(self.vector[:count], requires_grad=False)
        self.parameters_view.grad = self.gradient

        self._others = OtherBuffers(module)
        self._names = [(name, b.data_ptr()) for name, b in module.named_buffers() if b.is_floating_point()]
        self._parameters = [(name, p.data_ptr()) for name, p in named.items()]
        self._unused = [(name, named[name]) for name in unused]
        self._counts: dict[str, int] = {}

    def _give_gradients(self, trainable: list[nn.Parameter]) -> None:
        offset = 0
        for parameter in trainable:
            parameter.grad = self.gradient[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()

    def reset_others(self) -> None:
        """Buffers that are not in the vector as they were at first: they must not carry anything from node to node."""
        self._others.restore()

    def check_views(self) -> None:
        """Raises UsageError when the module has put another tensor in the place of a buffer: the vector would not know."""
        if not self._names:
            return
        now = dict(self.module.named_buffers())
        for name, address in self._names:
            if name not in now or now[name].data_ptr() != address:
                raise self._refusal(f"a module that changes buffer {name} in place, instead of replacing it")

    def check_parameters(self) -> None:
        """The same of parameters, and of those that were said never to receive a gradient."""
        now = dict(self.module.named_parameters())
        for name, address in self._parameters:
            if name not in now or now[name].data_ptr() != address:
                raise self._refusal(f"a module that changes parameter {name} in place, instead of replacing it")
        self.check_unused()

    def count_gradients(self) -> None:
        """From now on `check_used` knows how often each parameter has received a gradient. It takes a microsecond for each."""
        for name, parameter in self._trainable.items():
            self._counts[name] = 0
            parameter.register_post_accumulate_grad_hook(functools.partial(self._count, name))

    def _count(self, name: str, parameter: torch.Tensor) -> None:
        self._counts[name] += 1

    def check_used(self, steps: int) -> None:
        """Raises UsageError unless each trainable parameter has received a gradient in each of so many steps since the last time.

        A step with no gradient would be one with a gradient of zero here, with which Adam and weight decay still move; torch leaves it.
        """
        for name, count in self._counts.items():
            self._counts[name] = 0
            if count < steps:
                allowed = "a module that uses the same parameters in each step"
                raise self._refusal(f"{allowed}; {name} got a gradient in {count} of {steps} steps of a node's training")

    def check_unused(self) -> None:
        """Raises UsageError when a parameter has received a gradient although it was taken for one that never does."""
        for name, parameter in self._unused:
            if parameter.grad is not None:
                raise self._refusal(f"a module that uses the same parameters in each step; {name} is used in some only")

    def _refusal(self, allowed: str) -> UsageError:
        return UsageError("model.factory", type(self.module).__name__, allowed)


class OtherBuffers:
    """All buffers of a module that are not floating-point numbers, and what they held when this was made."""

    def __init__(self, module: nn.Module):
        from torch.nn.parameter import is_lazy

        self._first = [
            (part._buffers, name, buffer, buffer.clone())
            for part in module.modules()
            for name, buffer in part._buffers.items()
            if buffer is not None and not is_lazy(buffer) and not buffer.is_floating_point()
        ]

    def restore(self) -> None:
        """The first tensors are put back, in the place of others too, with their first values."""
        for buffers, name, buffer, first in self._first:
            buffers[name] = buffer
            buffer.copy_(first)


def _move(tensors: list[torch.Tensor], vector: torch.Tensor) -> None:
    """Make the tensors views into `vector`, one after the other, values kept. The tensor objects stay, so tied ones stay tied."""
    offset = 0
    for tensor in tensors:
        view = vector[offset : offset + tensor.numel()].view(tensor.shape)
        view.copy_(tensor.detach())
        tensor.data = view
        offset += tensor.numel()
