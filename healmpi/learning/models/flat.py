"""The flat vector that holds a network's numbers: the idea of DistributedDataParallel's gradient buckets and of Apex's flat master
parameters, taken to its end.

Floating-point buffers, such as BatchNorm's running statistics, are part of the vector and so are sent and averaged like parameters;
integer buffers are not part of it, and go back to their first values before each training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from healmpi.settings import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn


class FlatModel:
    """One module whose numbers lie in one vector.

    module: its parameters and floating-point buffers are views into `vector`, its gradients views into `gradient`.
    vector: float32 [size]: trainable parameters, then frozen ones, then floating-point buffers, each in the module's order,
    shared ones once. gradient: float32 [trainable numbers]; backward adds to it, whoever trains sets it to zero.
    parameters_view: the trainable part of `vector` as one leaf, with `gradient` as its .grad, for torch.optim.
    size: length of `vector`.
    """

    def __init__(self, module: nn.Module):
        import torch

        trainable = [p for p in module.parameters() if p.requires_grad]
        frozen = [p for p in module.parameters() if not p.requires_grad]
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

        self._integers = [(b, b.clone()) for b in buffers if not b.is_floating_point()]
        self._names = [(name, b.data_ptr()) for name, b in module.named_buffers() if b.is_floating_point()]

    def _give_gradients(self, trainable: list[nn.Parameter]) -> None:
        offset = 0
        for parameter in trainable:
            parameter.grad = self.gradient[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()

    def reset_integers(self) -> None:
        """Integer buffers as they were at first: they are not in the vector, so they must not carry anything from node to node."""
        for buffer, first in self._integers:
            buffer.copy_(first)

    def check_views(self) -> None:
        """Raises UsageError when the module has put another tensor in the place of a buffer: the vector would not know."""
        if not self._names:
            return
        now = dict(self.module.named_buffers())
        for name, address in self._names:
            if name not in now or now[name].data_ptr() != address:
                kind = type(self.module).__name__
                raise UsageError("model.factory", kind, f"a module that changes buffer {name} in place, instead of replacing it")


def _move(tensors: list[torch.Tensor], vector: torch.Tensor) -> None:
    """Make the tensors views into `vector`, one after the other, values kept. The tensor objects stay, so tied ones stay tied."""
    offset = 0
    for tensor in tensors:
        view = vector[offset : offset + tensor.numel()].view(tensor.shape)
        view.copy_(tensor.detach())
        tensor.data = view
        offset += tensor.numel()
