"""What a data set is, how it is split and scaled, and what one that can be chosen declares. Everything here is numpy.

Samples are kept as they are stored: every rank loads the whole set but trains on a few rows of it, so only `Dataset.scaled` makes
floats, and only of the rows it is given.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from healmpi import streams
from healmpi.settings import NoSettings, Section, option

MOST_CLASSES = 10_000

_ROWS_AT_ONCE = 4096  # what the statistics convert to float64 at a time


class Data:
    """A data set that can be chosen. Shipped ones stand in `learning/datasets/`, a file each.

    name: of one that is shipped. Settings: its options. images: whether its samples can be 28 x 28 images, which lenet5 needs.
    model: what the model 'auto' means with it.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type[Section]] = NoSettings
    images: ClassVar[bool] = False
    model: ClassVar[str] = "mlp"

    settings: Any

    def __init__(self, settings: Any):
        self.settings = settings

    def load(self, seed: int) -> Dataset:
        """The samples. seed: the run's; it decides the split and what is drawn. Raises UsageError: files are missing or malformed."""
        raise NotImplementedError

    def samples(self) -> int:
        """About how many training samples there are, without loading them: for estimates of cost. This number is a mere guess."""
        return 10_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """A training part and a common test part, as stored, with what is needed to scale samples.

    train_x, test_x: uint8 or float32 [samples, rows, columns] or [samples, channels, rows, columns] for images, else float32
    [samples, features]. train_y, test_y: int64 [samples], 0 <= y < classes. input_shape: shape of one scaled sample, e.g. (57,) or
    (1, 28, 28). mean, std: float32, scalars for images, else [features]; of the training part alone, and std is never 0.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    input_shape: tuple[int, ...]
    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        """Raise ValueError for arrays of another kind."""
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if x.dtype not in (np.uint8, np.float32) or x.shape[1:] != self.train_x.shape[1:] or not x.size:
                raise ValueError(f"{part}_x must be uint8 or float32, not empty, and of one shape in both parts; it is {x.dtype} {x.shape}")
            if y.dtype != np.int64 or y.shape != x.shape[:1]:
                raise ValueError(f"{part}_y must be int64, one label for each of {len(x)} samples; it is {y.dtype} {y.shape}")
            if y.min() < 0 or y.max() >= self.classes:
                raise ValueError(f"labels must be whole numbers below {self.classes}, the classes; {part}_y has {y.min()} to {y.max()}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all()):
            raise ValueError("all values of train_x must be finite numbers")

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """Stored samples as the network takes them: (x - mean) / std, a new float32 array [len(x), *input_shape]."""
        values = x.astype(np.float32)
        values -= self.mean
        values /= self.std
        return values.reshape(len(x), *self.input_shape)


def split(name: str, x: np.ndarray, y: np.ndarray, classes: int, test_fraction: float, seed: int) -> Dataset:
    """A data set of which a random test part is held back; neither part is ever empty.

    x, y: as in Dataset, at least two samples. seed: the run's.
    """
    order = streams.generator(seed, "split").permutation(len(y))
    count = min(max(1, round(len(y) * test_fraction)), len(y) - 1)
    test, train = order[:count], order[count:]
    return dataset(name, x[train], y[train], x[test], y[test], classes)


def dataset(name: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, classes: int) -> Dataset:
    """A data set of these two parts, with the scale of the training part. The arrays: as in Dataset."""
    images = train_x.ndim > 2
    mean, std = moments(train_x, per_feature=not images)
    shape = (1, *train_x.shape[1:]) if train_x.ndim == 3 else train_x.shape[1:]
    return Dataset(name, train_x, train_y, test_x, test_y, classes, shape, mean, std)


def moments(x: np.ndarray, per_feature: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation, float32, [features] or scalar. In float64, a block of rows at a time: the set may be large."""
    rows = x.reshape(len(x), -1)
    mean = _row_mean(rows, lambda block: block, per_feature)
    std = np.sqrt(_row_mean(rows, lambda block: (block - mean) ** 2, per_feature))
    # A constant feature says nothing: dividing by 1 leaves it at 0 instead of making it NaN.
    return mean.astype(np.float32), np.where(std.astype(np.float32) > 0, std, 1.0).astype(np.float32)


def _row_mean(rows: np.ndarray, term: Callable[[np.ndarray], np.ndarray], per_feature: bool) -> np.ndarray:
    total = np.zeros(rows.shape[1])
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        total += term(rows[first : first + _ROWS_AT_ONCE].astype(np.float64)).sum(axis=0)
    total /= len(rows)
    return total if per_feature else np.asarray(total.mean())


# What several data sets declare.


def test_fraction_option() -> Any:
    """How much is held back: what `split` takes."""
    return option(
        0.1, "Share of the samples held back as the common test set, where the data set has no test part of its own.", above=0.0, high=0.9
    )


def file_option() -> Any:
    """One file with all samples."""
    return option("", "File of 'npz' or 'csv'.")


def path_of(text: str) -> Path:
    """The path that the user means: '~' is the home folder."""
    return Path(os.path.expanduser(text))


def existing_file(settings: Section, name: str = "file") -> Path:
    """The file that the option `name` names. Raises UsageError: there is none."""
    text = getattr(settings, name)
    path = path_of(text)
    if not text or not path.is_file():
        raise settings.refusal(name, "an existing file")
    return path
