"""A small network with one hidden layer and dropout."""

import math
from dataclasses import dataclass

from torch import nn

from healmpi.settings import Section, option


class Net(nn.Module):
    """Takes float32 [batch, *input_shape], gives float32 [batch, classes]."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """How wide it is."""

        hidden: int = option(32, "Width of the hidden layer.", low=1, high=100_000)
        dropout: float = option(0.0, "Share of it that is left out in training.", low=0.0, high=0.9)

    def __init__(self, input_shape, classes, settings):
        super().__init__()
        hidden = nn.Linear(math.prod(input_shape), settings.hidden)
        self.layers = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(settings.dropout), nn.Linear(settings.hidden, classes))

    def forward(self, x):
        return self.layers(x)
