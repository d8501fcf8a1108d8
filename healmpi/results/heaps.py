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

START = b"GCOL\x01\x00\x00\x00"
HEADER = struct.Struct("<8sQ")  # START; bytes of the collection, header included
OBJECT = struct.Struct("<HHIQ")  # number, references, nothing, bytes
ALIGNED = 8

LONGEST = 16 * 1024 * 1024
"""Bytes of an object: nothing that healmpi writes comes near."""


def check_heaps(path: Path) -> None:
    """Raises ValueError: a heap is damaged. OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for place in _places(data):
                if not _ends(data, place, size):
                    raise ValueError(f"the texts at byte {place} (a global heap of HDF5) are damaged")


def _places(data: mmap.mmap) -> Iterator[int]:
    place = data.find(START)
    while place >= 0:
        yield place
        place = data.find(START, place + 1)


def _ends(data: mmap.mmap, place: int, size: int) -> bool:
    """Whether going from object to object comes to the end of the collection."""
    if place + HEADER.size > size:
        return False
    length = HEADER.unpack_from(data, place)[1]
    stop = place + length
    if length < HEADER.size or stop > size:
        return False
    at = place + HEADER.size
    while stop - at >= OBJECT.size:
        number, _, _, held = OBJECT.unpack_from(data, at)
        # Number 0 is what is free: its size counts its header, too.
        step = held if number == 0 else OBJECT.size + -(-held // ALIGNED) * ALIGNED
        if step < OBJECT.size or step > stop - at or (number and held > LONGEST):
            return False
        at += step
    return True
