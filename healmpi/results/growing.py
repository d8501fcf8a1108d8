"""One table of a part that grows, open for writing: by whole chunks, so that most flushes leave HDF5's own structures alone.

What does not change is asked for once: a flush writes few rows of many tables, and HDF5 takes longer to tell a shape than to write them.
"""

from __future__ import annotations

import h5py
import numpy as np


class Growing:
    """table: with chunks. Rows are appended, or written again from a row on."""

    def __init__(self, table: h5py.Dataset):
        self.table, self._name, self._id = table, table.name, table.id
        self._dtype, self._row, self._length, self._chunk = table.dtype, table.shape[1:], table.shape[0], table.chunks[0]
        whole = [-(-length // piece) * piece for length, piece in zip(self._row, table.chunks[1:], strict=True)]
        self._chunk_bytes = self._chunk * int(np.prod(whole, dtype=int)) * self._dtype.itemsize

    def growth_bytes(self, start: int, rows: int) -> int:
        """By how much its file grows with so many rows from row `start` on."""
        return max(0, -(-(start + rows) // self._chunk) - self._length // self._chunk) * self._chunk_bytes

    def put(self, start: int, block: np.ndarray) -> np.ndarray:
        """Write rows from row `start` on. Returns what was written, in the table's type. Raises OSError."""
        # HDF5 would stretch a block of another shape, and clip a number that is too large.
        assert block.shape[1:] == self._row, f"{self._name}: rows of shape {block.shape[1:]} instead of {self._row}"
        if self._dtype == np.int32 and block.dtype == np.int64:
            assert not block.size or abs(block).max() < 2**31, f"{self._name}: {abs(block).max()} does not fit"
        block, stop = np.ascontiguousarray(block, self._dtype), start + len(block)
        if stop > self._length:
            self._length = -(-stop // self._chunk) * self._chunk
            self.table.resize(self._length, axis=0)
        if len(block):
            space = self._id.get_space()
            space.select_hyperslab((start, *(0 for _ in self._row)), block.shape)
            self._id.write(h5py.h5s.create_simple(block.shape), space, block)
        return block
