"""Means, percentiles and intervals by resampling; the same numbers for the same input.

The rule that surprises: an interval of a single run is nan, not zero width. Rates are averaged by the harmonic mean: the
mean rate of runs of equal work is the work over the mean time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


def finite(values: Sequence[float]) -> np.ndarray:
    """Those that are numbers, float64."""
    array = np.asarray(values, np.float64)
    return array[np.isfinite(array)]


def mean(values: Sequence[float]) -> float:
    array = finite(values)
    return float(array.mean()) if array.size else np.nan


def spread(values: Sequence[float]) -> float:
    """Standard deviation of a sample (n - 1); nan for fewer than two."""
    array = finite(values)
    return float(array.std(ddof=1)) if array.size > 1 else np.nan


def percentile(values: Sequence[float], share: float) -> float:
    """share: 0 to 100; nan for fewer than two values."""
    array = finite(values)
    return float(np.percentile(array, share)) if array.size > 1 else np.nan


def median(values: Sequence[float]) -> float:
    array = finite(values)
    return float(np.median(array)) if array.size else np.nan


def harmonic_mean(rates: Sequence[float]) -> float:
    """Of positive rates; nan when there is none or one is not positive."""
    array = finite(rates)
    return float(array.size / (1 / array).sum()) if array.size and (array > 0).all() else np.nan


def bootstrap(values: Sequence[float], statistic: Callable[..., np.ndarray] = np.mean, *, seed: int = 1) -> tuple[float, float]:
    """Interval of 95 % of statistic(values, axis) by resampling the values; nan, nan for fewer than two."""
    array = finite(values)
    if array.size < 2:
        return np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(0, array.size, (RESAMPLES, array.size))
    return interval(statistic(array[drawn], axis=1))


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled statistics."""
    low, high = np.percentile(resampled, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def block_means(values: np.ndarray, generator: np.random.Generator, count: int) -> np.ndarray:
    """[count] means of a series, resampled in blocks of neighbours, since neighbouring cycles are alike.

    values: [cycles], at least one. Blocks are the square root of the length, and wrap around its end.
    """
    length = max(1, int(np.sqrt(values.size)))
    doubled = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[:length]]))])
    of_block = (doubled[length:] - doubled[:-length])[: values.size] / length
    return of_block[generator.integers(0, values.size, (count, -(-values.size // length)))].mean(axis=1)
