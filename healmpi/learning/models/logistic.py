"""Logistic regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from healmpi.learning.models.kind import Model
from healmpi.learning.models.mlp import perceptron

if TYPE_CHECKING:
    from torch import nn


class Logistic(Model):
    """Logistic regression: one linear layer."""

    name: ClassVar[str] = "logistic"
    cost: ClassVar[float] = 1.0

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return perceptron((), input_shape, classes)
