"""What the chunks of a table take in memory. HDF5 holds a chunk as a whole, and one that is compressed with all that it inflates to,
whatever length the table says it has: 1032 times its bytes on disk at most.

healmpi compresses at most 512 KiB at a time; before schema 1.2 it compressed each node's model as a whole, which may be long. What is
not compressed (parts) has long rows in chunks of 8 MiB.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import h5py

LARGEST_BYTES = 16 * 1024 * 1024
"""Of any chunk."""

LARGEST_BLIND_BYTES = 1024 * 1024
"""Of a compressed chunk that is left to HDF5: its 1 GB at worst is less than a machine has. Of a longer one it is looked up first."""

_CHECKSUM_BYTES = 4


def check_chunks(table: h5py.Dataset, filters: Sequence[int]) -> None:
    """filters: numbers, in order. Raises ValueError: a chunk is larger than any, or than it says."""
    if table.chunks is None:
        return
    size = math.prod(table.chunks) * table.id.get_type().get_size()
    if size > LARGEST_BYTES:
        raise ValueError(f"its chunks have {size} bytes each")
    compressed = h5py.h5z.FILTER_DEFLATE in filters
    looked_up = compressed and size > LARGEST_BLIND_BYTES
    longest, places = 0, []

    def measure(chunk: Any) -> None:
        nonlocal longest
        longest = max(longest, chunk.size)
        if looked_up and not chunk.filter_mask >> filters.index(h5py.h5z.FILTER_DEFLATE) & 1:
            places.append(chunk.chunk_offset)

    if hasattr(table.id, "chunk_iter"):  # of HDF5 1.12.3 and later
        table.id.chunk_iter(measure)
    elif looked_up:
        raise ValueError(f"its compressed chunks have {size} bytes each")
    # What is compressed is never much longer than it was, and what is longer could become anything.
    if longest > size + size // 64 + 1024:
        raise ValueError(f"a chunk of {size} bytes has {longest} on disk")
    for place in places:
        _check_inflated(table, place, size)


def _check_inflated(table: h5py.Dataset, place: tuple[int, ...], size: int) -> None:
    """That a chunk inflates to no more than it says, without taking more memory than that."""
    inflating, allowed = zlib.decompressobj(), size + _CHECKSUM_BYTES
    try:
        found = len(inflating.decompress(table.id.read_direct_chunk(place)[1], allowed + 1))
    except zlib.error as error:
        raise ValueError(f"a chunk of {size} bytes cannot be inflated ({error})") from None
    if found > allowed:
        raise ValueError(f"a chunk of {size} bytes inflates to more")
