"""UCI Spambase, embedded: mails as word frequencies. Source: data/README.md."""

from __future__ import annotations

import gzip
import importlib.resources
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from healmpi.learning.data import Data, Dataset, split, test_fraction_option
from healmpi.settings import Section


class Spambase(Data):
    """Mails, spam or not: 57 features, embedded."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """What is held back."""

        title: ClassVar[str] = "data"
        test_fraction: float = test_fraction_option()

    name: ClassVar[str] = "spambase"
    model: ClassVar[str] = "logistic"
    settings: Settings

    def load(self, seed: int) -> Dataset:
        """float32 features, as stored: raw values."""
        stored = importlib.resources.files("healmpi").joinpath("data", "spambase.csv.gz")
        with stored.open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
        return split(self.name, table[:, :-1], table[:, -1].astype(np.int64), 2, self.settings.test_fraction, seed)

    def samples(self) -> int:
        """As many as are left of 4597."""
        return 4_100
