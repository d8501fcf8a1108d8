"""The weighted mean, as everything that is published has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from healmpi.algorithms.averaging import Average, sum_in_order


class Mean(Average):
    """The weighted mean of all vectors."""

    name: ClassVar[str] = "mean"

    def average(self, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
        result = sum_in_order(vectors, weights)
        result /= np.float32(sum(weights))
        return result

    def serial(self, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray | None:
        # Written without a look at `average`: a plain loop from zero on.
        total = sum(weights)
        if total == 0:
            return None
        result: np.ndarray = np.zeros(len(vectors[0]), np.float32)
        for vector, weight in zip(vectors, weights, strict=True):
            if weight:
                result = result + np.float32(weight) * vector
        return result / np.float32(total)
