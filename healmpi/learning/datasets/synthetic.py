"""Gaussian blobs, drawn from the run's seed: a set of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from healmpi import streams
from healmpi.learning.data import MOST_CLASSES, Data, Dataset, split, test_fraction_option
from healmpi.settings import Section, option


class Synthetic(Data):
    """Drawn: as many samples of each class, around its centre with deviation `noise`; centres are standard normal."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """What is drawn."""

        title: ClassVar[str] = "data"
        test_fraction: float = test_fraction_option()
        samples: int = option(2000, "Samples of the 'synthetic' data set, test part included.", low=4, high=100_000_000)
        features: int = option(20, "Features of a 'synthetic' sample.", low=1, high=1_000_000)
        classes: int = option(2, "Classes of the 'synthetic' data set.", low=2, high=MOST_CLASSES)
        noise: float = option(
            1.0,
            "Standard deviation of a 'synthetic' sample around the centre of its class; centres are drawn with deviation 1.",
            low=0.0,
            high=1e6,
        )

    name: ClassVar[str] = "synthetic"
    settings: Settings

    def load(self, seed: int) -> Dataset:
        """float32 features."""
        given = self.settings
        rng = streams.generator(seed, "synthetic")
        centres = rng.standard_normal((given.classes, given.features), dtype=np.float32)
        labels = np.arange(given.samples, dtype=np.int64) % given.classes
        samples = rng.standard_normal((given.samples, given.features), dtype=np.float32)
        samples *= np.float32(given.noise)
        samples += centres[labels]
        return split(self.name, samples, labels, given.classes, given.test_fraction, seed)

    def samples(self) -> int:
        """All of them."""
        return self.settings.samples
