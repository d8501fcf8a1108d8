"""HDF5's global heaps, where texts of any length lie: whether HDF5 will come to an end when it reads them.

They have no checksum, and HDF5 (2.0 and before) goes round for ever over an object of no size. So a file's bytes are looked through
before HDF5 is asked. The layout is that of the HDF5 file format specification, III.E.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

START = b"GCOL\x01"
"""HDF5 does not look at the three bytes behind it."""

HEADER = struct.Struct("<8sQ")  # START and three bytes; bytes of the collection, header included
OBJECT = struct.Struct("<HHIQ")  # number, references, nothing, bytes
ALIGNED = 8

SIZES_AT = {0: 13, 1: 13, 2: 9, 3: 9}
"""Where a superblock of each version says how many bytes an offset and a length have (II.A)."""

LONGEST = 16 * 1024 * 1024
"""Bytes of an object: nothing that healmpi writes comes near."""


def check_heaps(path: Path) -> int:
    """Bytes of the longest text in a heap; 0: there is none. Raises ValueError: a heap is damaged. OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = SIZES_AT.get(data[8] if size > 8 else -1)
            if at is not None and data[at : at + 2] != b"\x08\x08":
                raise ValueError("its offsets and lengths do not have 8 bytes each")  # what is looked for would lie elsewhere
            walk = _Walk(data, size)
            place = data.find(START)
            while place >= 0:
                if not walk.ends(place):
                    raise ValueError(f"the texts at byte {place} (a global heap of HDF5) are damaged")
                # Also inside the one before: a reference could lead there.
                place = data.find(START, place + 1)
            return walk.longest


class _Walk:
    """Through collections of a file, from object to object. longest: bytes of the longest object until now."""

    def __init__(self, data: mmap.mmap, size: int):
        self._data, self._size, self.longest = data, size, 0
        self._left = size // OBJECT.size + 1  # steps: more objects are in no file, unless collections lie in each other

    def ends(self, place: int) -> bool:
        """Whether going from object to object comes to the end of the collection."""
        data = self._data
        if place + HEADER.size > self._size:
            return False
        length = HEADER.unpack_from(data, place)[1]
        stop = place + length
        if length < HEADER.size or stop > self._size:
            return False
        at = place + HEADER.size
        while stop - at >= OBJECT.size:
            number, _, _, held = OBJECT.unpack_from(data, at)
            # Number 0 is what is free: its size counts its header, too.
            step = held if number == 0 else OBJECT.size + -(-held // ALIGNED) * ALIGNED
            self._left -= 1
            if step < OBJECT.size or step > stop - at or (number and held > LONGEST) or self._left < 0:
                return False
            self.longest = max(self.longest, held if number else 0)
            at += step
        return True
