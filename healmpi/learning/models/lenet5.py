"""LeNet5 after LeCun et al. 1998 in the common modern form: padding 2, ReLU, max pooling, 61 706 parameters."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar

from healmpi.learning.models.kind import Model
from healmpi.settings import UsageError

if TYPE_CHECKING:
    from torch import nn

_SHAPE = (1, 28, 28)


class Lenet5(Model):
    """LeNet5: two convolutions and three linear layers, for grey images of 28 x 28."""

    name: ClassVar[str] = "lenet5"
    needs_images: ClassVar[bool] = True
    cost: ClassVar[float] = 12.0

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        from torch import nn

        if tuple(input_shape) != _SHAPE:
            allowed = f"another model: lenet5 needs samples of shape {_SHAPE}, these have {tuple(input_shape)}"
            raise UsageError("model.name", "lenet5", allowed)
        # ReLU after the pooling gives the same values as before it, with a quarter of the work: both keep the order.
        return nn.Sequential(OrderedDict(
            conv1=nn.Conv2d(1, 6, 5, padding=2), pool1=nn.MaxPool2d(2), relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 16, 5), pool2=nn.MaxPool2d(2), relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            full3=nn.Linear(400, 120), relu3=nn.ReLU(),
            full4=nn.Linear(120, 84), relu4=nn.ReLU(),
            full5=nn.Linear(84, classes),
        ))  # fmt: skip
