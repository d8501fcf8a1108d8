"""A user's own network: what `model.factory` names builds it, and it is checked before anything trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from healmpi.extension import importable_here
from healmpi.learning.models.flat import OtherBuffers
from healmpi.learning.models.kind import Model
from healmpi.settings import Section, UsageError

if TYPE_CHECKING:
    from torch import nn


class OwnModel(Model):
    """A function or class that is called as function(input_shape, classes), or with its settings as third argument.

    factory: what the user wrote, "module:Name". function: what extension.find gave for it. settings: of its `Settings`; None: it
    declares none.
    """

    cost: ClassVar[float] = 12.0

    def __init__(self, factory: str, function: Callable[..., Any], settings: Section | None = None):
        super().__init__(settings)
        self._factory, self._function = factory, function

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """As of any model; whatever is wrong with the function or its module is a UsageError."""
        # It may import other files of the user only now.
        with importable_here():
            module = self._call(input_shape, classes)
            self._check_tensors(module)
            self._check_forward(module, input_shape, classes)
        return module

    def _call(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        from torch import nn

        settings = () if self.settings is None else (self.settings,)
        try:
            module = self._function(input_shape, classes, *settings)
        except (Exception, SystemExit) as error:
            raise self.refusal(f"called with {input_shape} and {classes} it must not fail ({text(error)})") from error
        if not isinstance(module, nn.Module):
            raise self.refusal(f"it must return a torch.nn.Module, not {type(module).__name__}")
        return module

    def _check_tensors(self, module: nn.Module) -> None:
        import torch

        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise self.refusal("its module must have a trainable parameter")
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if (tensor.is_floating_point() or isinstance(tensor, torch.nn.Parameter)) and tensor.dtype != torch.float32:
                raise self.refusal(f"parameters and floating-point buffers must be float32; {name} is {tensor.dtype}")
            if tensor.device.type != "cpu":
                raise self.refusal(f"parameters and buffers must be on the CPU; {name} is on {tensor.device}")
            if tensor.layout is not torch.strided or tensor.is_quantized:
                raise self.refusal(f"parameters and buffers must be dense numbers; {name} is not a dense tensor")

    def _check_forward(self, module: nn.Module, input_shape: tuple[int, ...], classes: int) -> None:
        """Two zero samples must give [2, classes]. In evaluation mode, so that no running statistics change."""
        import torch

        training, others = module.training, OtherBuffers(module)
        module.eval()
        try:
            with torch.no_grad():
                out = module(torch.zeros(2, *input_shape))
        except (Exception, SystemExit) as error:
            raise self.refusal(f"its module must accept samples of shape {input_shape} ({text(error)})") from error
        module.train(training)
        others.restore()
        found = shape_of(out)
        if found != (2, classes):
            raise self.refusal(f"its module must map two samples to shape {(2, classes)}; it gives {found}")

    def refusal(self, allowed: str) -> UsageError:
        """The sentence about this factory. allowed: what it must do, and what it does."""
        return UsageError("model.factory", self._factory, allowed)


def shape_of(out: object) -> tuple[int, ...] | str:
    """The shape of what a module gave; the name of its type where it is no tensor."""
    import torch

    return tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__


def text(error: BaseException) -> str:
    """Kind and first line of an error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
