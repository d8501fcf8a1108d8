"""Krum (Blanchard et al. 2017): of all models the one that is nearest to most of the others, as it is."""

from dataclasses import dataclass

import numpy as np

from healmpi.algorithms.averaging import Average
from healmpi.settings import Section, option


class Krum(Average):
    """It looks at distances between whole vectors, so that slices of them are not enough. Weights are not looked at."""

    elementwise = False

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """Who is mistrusted."""

        suspects: int = option(1, "How many of the models may be arbitrary.", low=0)

    def average(self, vectors, weights):
        table = np.stack(vectors).astype(np.float64)
        distances = np.array([((table - row) ** 2).sum(axis=1) for row in table])
        near = max(1, len(vectors) - self.settings.suspects - 2)
        scores = np.sort(distances, axis=1)[:, 1 : near + 1].sum(axis=1)  # the first is that to itself
        return vectors[int(scores.argmin())].copy()
