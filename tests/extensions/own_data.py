"""Counts: samples in a file that numpy.savez has written, with the arrays `counts` [samples, features] and `labels` [samples]."""

from dataclasses import dataclass

import numpy as np

from healmpi.learning.data import Data, existing_file, split, test_fraction_option
from healmpi.settings import Section, option


class Counts(Data):
    """A sample is a row of counts."""

    model = "logistic"  # what model.name = "auto" means with it

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """Where the file is, and what is made of it."""

        path: str = option("counts.npz", "The file.")
        scaling: str = option("none", "'none': counts as they are; 'log': log(1 + count).", choices=("none", "log"))
        test_fraction: float = test_fraction_option()

    def load(self, seed):
        with np.load(existing_file(self.settings, "path"), allow_pickle=False) as stored:
            x, y = stored["counts"].astype(np.float32), stored["labels"].astype(np.int64)
        if self.settings.scaling == "log":
            x = np.log1p(x)
        return split("counts", x, y, int(y.max()) + 1, self.settings.test_fraction, seed)
