"""Any data set in a file of numpy's, as numpy.savez and numpy.savez_compressed write it.

    x, y                                 all samples; a random test part is held back. Or: images, labels
    x_train, y_train, x_test, y_test     two parts, as in the file of MNIST that Keras loads

Samples have 2 axes [samples, features], 3 [samples, rows, columns] or 4 [samples, channels, rows, columns]. Images of uint8 are kept as
they are, all else becomes float32. Labels are whole numbers from 0. Nothing is unpickled, so a file from elsewhere runs no code.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from healmpi.learning.data import MOST_CLASSES, Data, Dataset, dataset, existing_file, file_option, split, test_fraction_option
from healmpi.settings import Section, UsageError

ARRAYS = (("x_train", "y_train", "x_test", "y_test"), ("x", "y"), ("images", "labels"))
"""What the arrays may be called: the first of these that is there whole is taken."""

_UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


class _Part(NamedTuple):
    """x: as in Dataset. y: int64 [samples]."""

    x: np.ndarray
    y: np.ndarray


class Npz(Data):
    """Arrays in an npz file of one's own, `file`."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """Where the file is, and what is held back."""

        title: ClassVar[str] = "data"
        file: str = file_option()
        test_fraction: float = test_fraction_option()

    name: ClassVar[str] = "npz"
    images: ClassVar[bool] = True
    settings: Settings

    def load(self, seed: int) -> Dataset:
        """uint8 images or float32."""
        arrays = self._read(labels_only=False)
        names = list(arrays)
        parts = [self._part(names[at], names[at + 1], arrays) for at in range(0, len(names), 2)]
        labels = np.unique(np.concatenate([part.y for part in parts]))
        if len(labels) < 2:
            raise self._refused(f"labels of at least two classes; all of them are {labels[0]}")
        classes = int(labels[-1]) + 1

        # Two parts of the file's own, or one to be split.
        if len(parts) == 2:
            train, test = parts
            if train.x.shape[1:] != test.x.shape[1:]:
                raise self._refused(f"samples of one shape; {names[0]} has {train.x.shape[1:]} and {names[2]} {test.x.shape[1:]}")
            return dataset(self.name, *train, *test, classes)
        return split(self.name, *parts[0], classes, self.settings.test_fraction, seed)

    def samples(self) -> int:
        """As many as there are labels. 0: the file cannot be used, and `load` says why."""
        try:
            labels = next(iter(self._read(labels_only=True).values()))
        except UsageError:
            return 0
        return int(labels.size)

    def _read(self, labels_only: bool) -> dict[str, np.ndarray]:
        """The arrays that are meant, by name, in the order of ARRAYS."""
        path = existing_file(self.settings)
        if not zipfile.is_zipfile(path):
            raise self._refused("an npz file, as numpy.savez writes it; this is none")
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = self._names(stored.files)
                return {name: self._array(stored, name) for name in (names[1::2] if labels_only else names)}
        except UsageError:
            raise
        except _UNREADABLE as error:
            raise self._refused(f"a readable, complete file ({error})") from error

    def _names(self, found: list[str]) -> tuple[str, ...]:
        for names in ARRAYS:
            if all(name in found for name in names):
                return names
        allowed = "; or ".join(", ".join(names) for names in ARRAYS)
        raise self._refused(f"a file with the arrays {allowed}; there are {', '.join(sorted(found)) or 'none'}")

    def _array(self, stored: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        try:
            array = stored[name]
        except ValueError as error:
            raise self._refused(f"arrays that can be read without pickle; {name} cannot ({error})") from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
            kind = array.dtype if isinstance(array, np.ndarray) else "no array"
            raise self._refused(f"numbers; {name} is {kind}")
        return array

    def _part(self, x_name: str, y_name: str, arrays: Mapping[str, np.ndarray]) -> _Part:
        x, y = arrays[x_name], arrays[y_name]
        if x.ndim not in (2, 3, 4):
            raise self._refused(f"samples with one to three axes each; {x_name} has the shape {x.shape}")
        if x.size == 0:
            raise self._refused(f"at least one sample of at least one feature; {x_name} has the shape {x.shape}")
        if y.ndim != 1:
            raise self._refused(f"one label a sample, an array of one axis; {y_name} has the shape {y.shape}")
        if len(x) != len(y):
            raise self._refused(f"as many labels as samples; {x_name} has {len(x)} and {y_name} {len(y)}")
        return _Part(self._samples(x_name, x), self._labels(y_name, y))

    def _samples(self, name: str, x: np.ndarray) -> np.ndarray:
        if x.dtype == np.uint8 and x.ndim > 2:
            return np.ascontiguousarray(x)
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(values).all():
            place = tuple(int(at) for at in np.argwhere(~np.isfinite(values))[0])
            raise self._refused(f"numbers that are finite in float32; {name}{list(place)} is {x[place]}")
        return values

    def _labels(self, name: str, y: np.ndarray) -> np.ndarray:
        values = y.astype(np.float64)
        wrong = np.flatnonzero(~((values >= 0) & (values < MOST_CLASSES) & (values == np.floor(values))))
        if len(wrong):
            raise self._refused(f"labels that are whole numbers from 0 to {MOST_CLASSES - 1}; {name}[{wrong[0]}] is {y[wrong[0]]}")
        return values.astype(np.int64)

    def _refused(self, allowed: str) -> UsageError:
        return self.settings.refusal("file", allowed)
