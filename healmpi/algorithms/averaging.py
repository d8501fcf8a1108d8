"""How models are averaged: what an averaging rule is, and the sum in a fixed order that they rest on.

Floating-point addition is not associative, so the order is part of the result: vectors are added one by one in the
order given (callers give ascending node ids). The shipped averaging rules are in `averages`, a file each; a user's own
comes in as `rule.average = "module:Name"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from healmpi.settings import Misuse, NoSettings, Section
from healmpi.state import Configured


class Average(Configured):
    """An averaging rule: it keeps nothing from call to call.

    name: of one that is shipped. Settings: its options. elementwise: whether each element of the result depends on that element of the
    vectors alone; then hubs average slices of the vectors, and each needs only its own slice of the others'. Where it is False, as for
    rules that look at distances between whole vectors, hubs exchange whole vectors.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type[Section]] = NoSettings
    elementwise: ClassVar[bool] = True

    def __init__(self, settings: Any = None):
        self.settings = settings

    def __call__(self, vectors: Sequence[np.ndarray], weights: Sequence[int] | None = None) -> np.ndarray | None:
        """The average of float32 vectors [size], a new array, not writeable; None when the weights add up to nothing.

        weights: whole numbers >= 0, one a vector; absent: all 1. A vector of weight 0 is not looked at.
        """
        if weights is None:
            weights = [1] * len(vectors)
        elif 0 in weights:
            vectors = [vector for vector, weight in zip(vectors, weights, strict=True) if weight]
            weights = [weight for weight in weights if weight]
        if not vectors:
            return None
        result, one = self.average(vectors, weights), vectors[0]
        fits = isinstance(result, np.ndarray) and (result.dtype, result.shape) == (one.dtype, one.shape) and result.flags.c_contiguous
        if not fits:
            found = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else type(result).__name__
            raise Misuse(f"{type(self).__name__}.average must return {one.dtype} {list(one.shape)}, as the vectors are, not {found}")
        # It is handed over by reference within a process: from here on nobody can change it.
        result.flags.writeable = False
        return result

    def average(self, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
        """The same of at least one vector and positive weights: float32 [size], a new array."""
        raise NotImplementedError

    def serial(self, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray | None:
        """The same once more, for the audit, which demands equal bits: where it can be, by other code."""
        return self(vectors, weights)


def sum_in_order(vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    """The weighted sum of at least one float32 vector, added in the order given."""
    result = vectors[0] * np.float32(weights[0])
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        result += vector if weight == 1 else vector * np.float32(weight)
    return result
