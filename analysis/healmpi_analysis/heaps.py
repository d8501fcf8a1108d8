"""HDF5's global heaps, where texts of any length lie: whether HDF5 will come to an end when it reads them.

They have no checksum, and HDF5 (2.0 and before) goes round for ever over an object of no size. So a file's bytes are looked through
before HDF5 is asked. The layout is that of the HDF5 file format specification, III.E.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_START = b"GCOL\x01"
"""HDF5 does not look at the three bytes that follow, and neither is looked for them."""

_HEADER = struct.Struct("<8sQ")  # the start; bytes of the collection, header included
_OBJECT = struct.Struct("<HHIQ")  # number, references, nothing, bytes
_ALIGNED = 8

_SIZES = {0: 13, 1: 13, 2: 9, 3: 9}
"""Where a file says how long its offsets and its lengths are, by the version of its start."""

LONGEST = 16 * 1024 * 1024
"""Bytes of an object: no text of a results file comes near."""


def check_heaps(path: Path) -> int:
    """Bytes of the longest object, 0: there is none. Raises ValueError: a heap is damaged. OSError.

    As many objects are looked at as there is room for in the file, whatever its bytes are: collections do not lie inside each other, but
    prepared ones may, and each would be gone through anew."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check_sizes(data, size)
            left, longest = size // _OBJECT.size, 0
            for place in _places(data):
                for held in _objects(data, place, size):
                    left, longest = left - 1, max(longest, held)
                    if left < 0:
                        raise ValueError(f"collections of texts (global heaps of HDF5) lie inside each other, the last at byte {place}")
    return longest


def _check_sizes(data: mmap.mmap, size: int) -> None:
    """HDF5 takes other lengths too, and what is looked for here would lie elsewhere."""
    place = _SIZES.get(data[8] if size > 8 else -1)
    if place is not None and data[place : place + 2] != b"\x08\x08":
        raise ValueError("its offsets and lengths do not have 8 bytes")


def _places(data: mmap.mmap) -> Iterator[int]:
    place = data.find(_START)
    while place >= 0:
        yield place
        place = data.find(_START, place + 1)


def _objects(data: mmap.mmap, place: int, size: int) -> Iterator[int]:
    """Bytes of each object of a collection, 0: what is free. Raises ValueError: it is damaged, its end is not come to."""
    wrong = ValueError(f"the texts at byte {place} (a global heap of HDF5) are damaged")
    if place + _HEADER.size > size:
        raise wrong
    length = _HEADER.unpack_from(data, place)[1]
    stop, at = place + length, place + _HEADER.size
    if length < _HEADER.size or stop > size:
        raise wrong
    while stop - at >= _OBJECT.size:
        number, _, _, held = _OBJECT.unpack_from(data, at)
        # Number 0 is what is free: its size counts its header, too.
        step = held if number == 0 else _OBJECT.size + -(-held // _ALIGNED) * _ALIGNED
        if step < _OBJECT.size or step > stop - at or (number and held > LONGEST):
            raise wrong
        yield held if number else 0
        at += step
