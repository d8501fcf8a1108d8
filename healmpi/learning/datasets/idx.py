"""MNIST and Fashion-MNIST: four files of MNIST's format in a folder.

Source: the idx format as MNIST's authors describe it: big-endian, a magic number 0x0000 08 <dimensions>, the sizes as 32-bit
numbers, then the bytes. The files are found under both of the names that go round, train-images-idx3-ubyte and
train-images.idx3-ubyte, and where torchvision puts them: ROOT/MNIST/raw of the ROOT that it was given.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from healmpi.learning.data import Data, Dataset, dataset, path_of
from healmpi.settings import Section, UsageError, option

IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

_CLASSES = 10

_SHOWN = 8  # names of what lies in a folder without the files


class _IdxFolder(Data):
    """Four files, plain or gzipped. They have a test part of their own, so the seed decides nothing.

    debian_folder: where Debian's package puts them. advice: what to do where they are not there. torchvision_folder: what torchvision
    calls the folder that it makes.
    """

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """Where the files are."""

        title: ClassVar[str] = "data"
        folder: str = option(
            "",
            "Folder with the four idx or idx.gz files of 'mnist' or 'fashion-mnist', or torchvision's root. "
            "Empty: the places where Debian puts them.",
        )

    images: ClassVar[bool] = True
    model: ClassVar[str] = "lenet5"
    debian_folder: ClassVar[str]
    advice: ClassVar[str]
    torchvision_folder: ClassVar[str]
    settings: Settings

    def load(self, seed: int) -> Dataset:
        """uint8 images."""
        folder = self._folder()
        train_x, train_y, train_file = self._part(folder, *IDX_NAMES[:2])
        test_x, test_y, test_file = self._part(folder, *IDX_NAMES[2:])
        if test_x.shape[1:] != train_x.shape[1:]:
            raise _file_error(test_file, f"images of the size in {train_file.name}, {train_x.shape[1:]}; these are {test_x.shape[1:]}")
        return dataset(self.name, train_x, train_y, test_x, test_y, _CLASSES)

    def samples(self) -> int:
        """As many as both sets have."""
        return 60_000

    def _folder(self) -> Path:
        if self.settings.folder:
            folder = path_of(self.settings.folder)
            if not folder.is_dir():
                raise self.settings.refusal("folder", "an existing folder with the four idx files")
            return folder
        folder = Path(self.debian_folder)
        if not folder.is_dir():
            raise self.settings.refusal("folder", f"{folder} does not exist: {self.advice}")
        return folder

    def _part(self, folder: Path, images_name: str, labels_name: str) -> tuple[np.ndarray, np.ndarray, Path]:
        """Images uint8 [n, rows, columns], labels int64 [n], and the images' file."""
        images_file, labels_file = self._find(folder, images_name), self._find(folder, labels_name)
        images, labels = _read_idx(images_file, 3), _read_idx(labels_file, 1)
        if len(images) != len(labels):
            raise _file_error(labels_file, f"as many labels as {images_file.name} has images, {len(images)}; there are {len(labels)}")
        if images.size == 0:
            raise _file_error(images_file, f"at least one image of at least one pixel; the sizes are {images.shape}")
        if labels.max() >= _CLASSES:
            raise _file_error(labels_file, f"labels 0 to {_CLASSES - 1}; there is a {labels.max()}")
        return images, labels.astype(np.int64), images_file

    def _find(self, folder: Path, name: str) -> Path:
        dotted = name.replace("-idx", ".idx")
        for place in (folder, folder / "raw", folder / self.torchvision_folder / "raw"):
            for spelling in (name, dotted):
                for path in (place / f"{spelling}.gz", place / spelling):
                    if path.is_file():
                        return path
        allowed = f"{name} or {name}.gz must be in it, or in {self.torchvision_folder}/raw below it; {_seen(folder)}"
        raise self.settings.refusal("folder", allowed, str(folder))


def _seen(folder: Path) -> str:
    """What lies in the folder, for somebody who thinks that the files do. Raises UsageError: it cannot be read."""
    try:
        names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    except OSError as error:
        raise _file_error(folder, f"a folder that can be read ({error.strerror})") from error
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there are {', '.join(names[:_SHOWN])}{more}" if names else "it is empty"


class Mnist(_IdxFolder):
    """MNIST, handwritten digits, from its own four files in `folder`."""

    name: ClassVar[str] = "mnist"
    debian_folder: ClassVar[str] = "/usr/share/datasets/mnist"
    torchvision_folder: ClassVar[str] = "MNIST"
    advice: ClassVar[str] = (
        "name the folder with the four idx files of MNIST, or use the embedded 'mnist10k', "
        "or 'fashion-mnist' with Debian's package dataset-fashion-mnist"
    )


class FashionMnist(_IdxFolder):
    """Fashion-MNIST, pieces of clothing, from its four files in `folder`."""

    name: ClassVar[str] = "fashion-mnist"
    debian_folder: ClassVar[str] = "/usr/share/datasets/fashion-mnist"
    torchvision_folder: ClassVar[str] = "FashionMNIST"
    advice: ClassVar[str] = "install Debian's package dataset-fashion-mnist, or name the folder with the four idx files"


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


def _file_error(path: Path, allowed: str) -> UsageError:
    return UsageError("data file", str(path), allowed)
