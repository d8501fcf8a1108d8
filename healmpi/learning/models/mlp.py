"""A multilayer perceptron."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from healmpi.learning.models.kind import Model
from healmpi.settings import Section, option

if TYPE_CHECKING:
    from torch import nn


COPIES = 3
"""Of a model's floats that training one node takes at least: its own, those of the network, their gradients."""


class Mlp(Model):
    """Linear layers of widths `hidden`, with ReLU between them."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """How wide, and how deep."""

        title: ClassVar[str] = "model"
        hidden: tuple[int, ...] = option((200, 200), "Widths of the hidden layers of 'mlp'.", low=1, high=1_000_000)

    name: ClassVar[str] = "mlp"
    settings: Settings

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """As of any model. Raises UsageError: no machine like this one can hold it."""
        widths = (math.prod(input_shape), *self.settings.hidden, classes)
        needed = COPIES * 4 * sum((inside + 1) * outside for inside, outside in itertools.pairwise(widths))
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > there:
            allowed = f"widths of a network that fits into memory: training it takes {needed / 1e9:.3g} GB, there are {there / 1e9:.3g} GB"
            raise self.settings.refusal("hidden", allowed)
        return perceptron(self.settings.hidden, input_shape, classes)


def perceptron(hidden: Sequence[int], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Linear layers with ReLU between them; hidden: the widths of all but the last."""
    from torch import nn

    widths = (math.prod(input_shape), *hidden, classes)
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    for number, (inside, outside) in enumerate(itertools.pairwise(widths)):
        layers += [nn.ReLU()] if number else []
        layers.append(nn.Linear(inside, outside))
    return nn.Sequential(*layers)
