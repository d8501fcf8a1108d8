"""Averages of models, added in a fixed order.

Floating-point addition is not associative, so the order is part of the result: vectors are added one by one in the
order given (callers give ascending node ids). Every element is treated alike and alone, so that averaging slices of the
vectors on different ranks gives the same bits as averaging them whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Exchange(NamedTuple):
    """What a node did in a round among equals, for the audit. Vectors are float32 [size] or None.

    sent: the model it offered to others. sources, weights: whose models it averaged, ascending, its own included. result.
    """

    sent: np.ndarray | None = None
    sources: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    result: np.ndarray | None = None


def mean_in_order(vectors: Sequence[np.ndarray], weights: Sequence[int] | None = None) -> np.ndarray | None:
    """The weighted mean of float32 vectors [size]; None when the weights add up to nothing.

    weights: whole numbers >= 0, one a vector; absent: all 1. A vector of weight 0 is not looked at.
    """
    pairs = list(zip(vectors, [1] * len(vectors) if weights is None else weights, strict=True))
    total = sum(weight for _, weight in pairs)
    if total == 0:
        return None
    counted = [(vector, weight) for vector, weight in pairs if weight]
    first, weight = counted[0]
    result = first * np.float32(weight)
    for vector, weight in counted[1:]:
        result += vector if weight == 1 else vector * np.float32(weight)
    result /= np.float32(total)
    return result
