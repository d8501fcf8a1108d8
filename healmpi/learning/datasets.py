"""Data sets: two embedded ones, MNIST's file format from a folder, and gaussian blobs.

Sources: data/README.md for the embedded files; the idx format as MNIST's authors describe it (big-endian: a magic number
0x0000 08 <dimensions>, the sizes as 32-bit numbers, then the bytes). Everything here is numpy.

The rule that surprises: samples are kept as they are stored. Every rank loads the whole set but trains on a few rows of it, so
only `Dataset.scaled` makes floats, and only of the rows it is given.
"""

from __future__ import annotations

import gzip
import importlib.resources
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from healmpi import streams
from healmpi.config import ConfigError, DataSection

DEBIAN_FOLDERS = {"mnist": "/usr/share/datasets/mnist", "fashion-mnist": "/usr/share/datasets/fashion-mnist"}
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

_DIGIT_CLASSES = 10
_ROWS_AT_ONCE = 4096  # what the statistics convert to float64 at a time


@dataclass(frozen=True, slots=True)
class Dataset:
    """A training part and a common test part, as stored, with what is needed to scale samples.

    train_x, test_x: uint8 [samples, rows, columns] for images, else float32 [samples, features].
    train_y, test_y: int64 [samples], 0 <= y < classes. input_shape: shape of one scaled sample, e.g. (57,) or (1, 28, 28).
    mean, std: float32, scalars for images, else [features]; of the training part alone, and std is never 0.
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

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """Stored samples as the network takes them: (x - mean) / std, a new float32 array [len(x), *input_shape]."""
        values = x.astype(np.float32)
        values -= self.mean
        values /= self.std
        return values.reshape(len(x), *self.input_shape)


def load(section: DataSection, seed: int) -> Dataset:
    """The data set that `section` names. seed: the run's; it decides the split and the drawn data.

    Raises ConfigError when files are missing or malformed.
    """
    return _LOADERS[section.dataset](section, seed)


def _embedded(name: str) -> importlib.resources.abc.Traversable:
    return importlib.resources.files("healmpi").joinpath("data", name)


def _load_spambase(section: DataSection, seed: int) -> Dataset:
    with _embedded("spambase.csv.gz").open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.float32)
    return _split("spambase", table[:, :-1], table[:, -1].astype(np.int64), 2, section.test_fraction, seed)


def _load_mnist10k(section: DataSection, seed: int) -> Dataset:
    with _embedded("mnist10k.npz").open("rb") as packed, np.load(packed) as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    return _split("mnist10k", images, labels, _DIGIT_CLASSES, section.test_fraction, seed)


def _load_synthetic(section: DataSection, seed: int) -> Dataset:
    """Gaussian blobs: class centres are standard normal, samples lie around them with deviation `noise`, classes are even."""
    rng = streams.generator(seed, "synthetic")
    centres = rng.standard_normal((section.classes, section.features), dtype=np.float32)
    labels = np.arange(section.samples, dtype=np.int64) % section.classes
    samples = rng.standard_normal((section.samples, section.features), dtype=np.float32)
    samples *= np.float32(section.noise)
    samples += centres[labels]
    return _split("synthetic", samples, labels, section.classes, section.test_fraction, seed)


def _split(name: str, x: np.ndarray, y: np.ndarray, classes: int, test_fraction: float, seed: int) -> Dataset:
    """Hold back a random test part; neither part is ever empty."""
    order = streams.generator(seed, "split").permutation(len(y))
    count = min(max(1, round(len(y) * test_fraction)), len(y) - 1)
    test, train = order[:count], order[count:]
    return _dataset(name, x[train], y[train], x[test], y[test], classes)


def _dataset(name: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, classes: int) -> Dataset:
    images = train_x.ndim == 3
    mean, std = _moments(train_x, per_feature=not images)
    shape = (1, *train_x.shape[1:]) if images else train_x.shape[1:]
    return Dataset(name, train_x, train_y, test_x, test_y, classes, shape, mean, std)


def _moments(x: np.ndarray, per_feature: bool) -> tuple[np.ndarray, np.ndarray]:
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
    return total if per_feature else total.mean()


def _load_idx_folder(section: DataSection, seed: int) -> Dataset:
    """MNIST's four files, which have a test part of their own, so `seed` decides nothing."""
    folder = _folder(section)
    train_x, train_y, train_file = _part(folder, *IDX_NAMES[:2])
    test_x, test_y, test_file = _part(folder, *IDX_NAMES[2:])
    if test_x.shape[1:] != train_x.shape[1:]:
        raise _file_error(test_file, f"images of the size in {train_file.name}, {train_x.shape[1:]}; these are {test_x.shape[1:]}")
    return _dataset(section.dataset, train_x, train_y, test_x, test_y, _DIGIT_CLASSES)


def _folder(section: DataSection) -> Path:
    if section.folder:
        folder = Path(section.folder)
        if not folder.is_dir():
            raise ConfigError("data.folder", section.folder, "an existing folder with the four idx files")
        return folder
    folder = Path(DEBIAN_FOLDERS[section.dataset])
    if not folder.is_dir():
        raise ConfigError("data.folder", "", f"{folder} does not exist: {_advice(section.dataset)}")
    return folder


def _advice(dataset: str) -> str:
    if dataset == "fashion-mnist":
        return "install Debian's package dataset-fashion-mnist, or name the folder with the four idx files"
    return (
        "name the folder with the four idx files of MNIST, or use the embedded 'mnist10k', "
        "or 'fashion-mnist' with Debian's package dataset-fashion-mnist"
    )


def _part(folder: Path, images_name: str, labels_name: str) -> tuple[np.ndarray, np.ndarray, Path]:
    """Images uint8 [n, rows, columns], labels int64 [n], and the images' file."""
    images_file, labels_file = _find(folder, images_name), _find(folder, labels_name)
    images, labels = _read_idx(images_file, 3), _read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise _file_error(labels_file, f"as many labels as {images_file.name} has images, {len(images)}; there are {len(labels)}")
    if images.size == 0:
        raise _file_error(images_file, f"at least one image of at least one pixel; the sizes are {images.shape}")
    if labels.max() >= _DIGIT_CLASSES:
        raise _file_error(labels_file, f"labels 0 to {_DIGIT_CLASSES - 1}; there is a {labels.max()}")
    return images, labels.astype(np.int64), images_file


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise ConfigError("data.folder", str(folder), f"{name} or {name}.gz must be in it")


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """One idx file of unsigned bytes, uint8 with `dimensions` axes, not writeable."""
    content = _content(path)
    head = 4 + 4 * dimensions
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise _file_error(path, f"an idx file that begins with {magic.hex()}; this one begins with {content[:4].hex() or 'nothing'}")
    if len(content) < head:
        raise _file_error(path, f"an idx header of {head} bytes; the file ends after {len(content)}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    if len(content) - head != math.prod(shape):
        raise _file_error(path, f"{math.prod(shape)} bytes after the header, as its sizes {shape} say; there are {len(content) - head}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _file_error(path, f"a readable, complete file ({error})") from error


def _file_error(path: Path, allowed: str) -> ConfigError:
    return ConfigError("data file", str(path), allowed)


_LOADERS: dict[str, Callable[[DataSection, int], Dataset]] = {
    "spambase": _load_spambase,
    "mnist10k": _load_mnist10k,
    "mnist": _load_idx_folder,
    "fashion-mnist": _load_idx_folder,
    "synthetic": _load_synthetic,
}
