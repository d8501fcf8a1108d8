"""Networks, and the flat vector that holds one.

Sources: LeNet5 after LeCun et al. 1998 in the common modern form: padding 2, ReLU, max pooling, 61 706 parameters. The flat
vector is the idea of DistributedDataParallel's gradient buckets and Apex's flat master parameters, taken to its end.

The rule that surprises: floating-point buffers, such as BatchNorm's running statistics, are part of the vector and so are sent
and averaged like parameters; integer buffers are not part of it, and go back to their first values before each training.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import nn

from healmpi.config import ConfigError, ModelSection

_LENET5_SHAPE = (1, 28, 28)


def build(section: ModelSection, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A new network with torch's default initialisation, drawn from torch's default generator.

    It takes float32 [batch, *input_shape] and gives float32 [batch, classes]. Raises ConfigError; whatever is wrong with a
    user's factory is one too.
    """
    if section.name == "custom":
        return _custom(section.factory, input_shape, classes)
    if section.name == "logistic":
        return _mlp((), input_shape, classes)
    if section.name == "mlp":
        return _mlp(section.hidden, input_shape, classes)
    if section.name == "lenet5":
        return _lenet5(input_shape, classes)
    raise ConfigError("model.name", section.name, "a definite name: 'auto' is replaced by Config.resolve")


def _mlp(hidden: tuple[int, ...], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Linear layers with ReLU between them; no hidden layer makes it logistic regression."""
    widths = (math.prod(input_shape), *hidden, classes)
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    for number, (inside, outside) in enumerate(itertools.pairwise(widths)):
        layers += [nn.ReLU()] if number else []
        layers.append(nn.Linear(inside, outside))
    return nn.Sequential(*layers)


def _lenet5(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    if tuple(input_shape) != _LENET5_SHAPE:
        allowed = f"another model: lenet5 needs samples of shape {_LENET5_SHAPE}, these have {tuple(input_shape)}"
        raise ConfigError("model.name", "lenet5", allowed)
    # ReLU after the pooling gives the same values as before it, with a quarter of the work: both keep the order.
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 6, 5, padding=2), pool1=nn.MaxPool2d(2), relu1=nn.ReLU(),
        conv2=nn.Conv2d(6, 16, 5), pool2=nn.MaxPool2d(2), relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        full3=nn.Linear(400, 120), relu3=nn.ReLU(),
        full4=nn.Linear(120, 84), relu4=nn.ReLU(),
        full5=nn.Linear(84, classes),
    ))  # fmt: skip


def _custom(factory: str, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    with _current_directory_importable():
        function = _find_factory(factory)
        try:
            module = function(input_shape, classes)
        except (Exception, SystemExit) as error:
            raise _refused(factory, f"called with {input_shape} and {classes} it must not fail ({_text(error)})") from error
        if not isinstance(module, nn.Module):
            raise _refused(factory, f"it must return a torch.nn.Module, not {type(module).__name__}")
        _check_tensors(factory, module)
        _check_forward(factory, module, input_shape, classes)
    return module


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    # Last in the path, so that a user's file never hides an installed package.
    here = os.getcwd()
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.reverse()
        sys.path.remove(here)
        sys.path.reverse()


def _find_factory(factory: str) -> Callable:
    module_name, _, name = factory.partition(":")
    if not module_name or not name:
        raise _refused(factory, "'module:function'")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise _refused(factory, f"module {module_name!r} must be importable ({_text(error)})") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise _refused(factory, f"module {module_name!r} must have a function {name!r}")
    return function


def _check_tensors(factory: str, module: nn.Module) -> None:
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise _refused(factory, "its module must have a trainable parameter")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if (tensor.is_floating_point() or isinstance(tensor, nn.Parameter)) and tensor.dtype != torch.float32:
            raise _refused(factory, f"parameters and floating-point buffers must be float32; {name} is {tensor.dtype}")
        if tensor.device.type != "cpu":
            raise _refused(factory, f"parameters and buffers must be on the CPU; {name} is on {tensor.device}")


def _check_forward(factory: str, module: nn.Module, input_shape: tuple[int, ...], classes: int) -> None:
    """Two zero samples must give [2, classes]. In evaluation mode, so that no running statistics change."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            out = module(torch.zeros(2, *input_shape))
    except (Exception, SystemExit) as error:
        raise _refused(factory, f"its module must accept samples of shape {input_shape} ({_text(error)})") from error
    module.train(training)
    found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if found != (2, classes):
        raise _refused(factory, f"its module must map two samples to shape {(2, classes)}; it gives {found}")


def _refused(factory: str, allowed: str) -> ConfigError:
    return ConfigError("model.factory", factory, allowed)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class FlatModel:
    """One module whose numbers lie in one vector.

    module: its parameters and floating-point buffers are views into `vector`, its gradients views into `gradient`.
    vector: float32 [size]: trainable parameters, then frozen ones, then floating-point buffers, each in the module's order,
    shared ones once. gradient: float32 [trainable numbers]; backward adds to it, whoever trains sets it to zero.
    parameters_view: the trainable part of `vector` as one leaf, with `gradient` as its .grad, for torch.optim.
    size: length of `vector`.
    """

    def __init__(self, module: nn.Module):
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
        self.parameters_view = nn.Parameter(self.vector[:count], requires_grad=False)
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
        """Raises ConfigError when the module has put another tensor in the place of a buffer: the vector would not know."""
        if not self._names:
            return
        now = dict(self.module.named_buffers())
        for name, address in self._names:
            if name not in now or now[name].data_ptr() != address:
                kind = type(self.module).__name__
                raise ConfigError("model.factory", kind, f"a module that changes buffer {name} in place, instead of replacing it")


def _move(tensors: list[torch.Tensor], vector: torch.Tensor) -> None:
    """Make the tensors views into `vector`, one after the other, values kept. The tensor objects stay, so tied ones stay tied."""
    offset = 0
    for tensor in tensors:
        view = vector[offset : offset + tensor.numel()].view(tensor.shape)
        view.copy_(tensor.detach())
        tensor.data = view
        offset += tensor.numel()
