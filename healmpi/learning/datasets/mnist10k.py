"""The first 10 000 digits of MNIST's training set, embedded. Source: data/README.md."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from healmpi.learning.data import Data, Dataset, split, test_fraction_option
from healmpi.settings import Section


class Mnist10k(Data):
    """10 000 of MNIST's handwritten digits, embedded."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """What is held back."""

        title: ClassVar[str] = "data"
        test_fraction: float = test_fraction_option()

    name: ClassVar[str] = "mnist10k"
    images: ClassVar[bool] = True
    model: ClassVar[str] = "lenet5"
    settings: Settings

    def load(self, seed: int) -> Dataset:
        """uint8 images."""
        stored = importlib.resources.files("healmpi").joinpath("data", "mnist10k.npz")
        with stored.open("rb") as packed, np.load(packed) as arrays:
            images, labels = arrays["images"], arrays["labels"].astype(np.int64)
        return split(self.name, images, labels, 10, self.settings.test_fraction, seed)

    def samples(self) -> int:
        """As many as are left of 10 000."""
        return 9_000
