"""The coordinate-wise median of the models, or of the middle ones: outliers in single numbers do not count."""

from dataclasses import dataclass

import numpy as np

from healmpi.algorithms.averaging import Average, sum_in_order
from healmpi.settings import Section, option


class Median(Average):
    """The mean of the middle values of each coordinate. Weights are not looked at."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """How wide the middle is."""

        middle: float = option(0.0, "Share of the values that count as the middle. 0: the median alone.", low=0.0, high=1.0)

    def average(self, vectors, weights):
        ordered = np.sort(np.stack(vectors), axis=0)
        count = len(ordered)
        aside = min((count - 1) // 2, round((1 - self.settings.middle) / 2 * count))
        middle = ordered[aside : count - aside]
        return sum_in_order(middle, [1] * len(middle)) / np.float32(len(middle))
