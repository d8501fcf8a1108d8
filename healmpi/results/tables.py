"""Datasets of a merged file, made as `schema.TABLES` declares them: with their dimensions, units, chunks and compression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from healmpi.results.files import reserve
from healmpi.results.schema import TABLES, Column, fixed

BLOCK_BYTES = 64 * 1024 * 1024
"""How much of a table is in memory at a time."""

CHUNK_BYTES = 512 * 1024
LARGE_BYTES = 64 * 1024
"""Datasets from this size on are compressed; smaller ones are one chunk."""

BESIDE_TEXT_BYTES = 48
"""Of a text of any length: 16 that lead to it, 16 before it, 8 to the next multiple, and what is left over at the end of a heap."""

_ANY = 2**31


class Group:
    """One group of the file and its tables. The dimensions come first: a table has the lengths of its own."""

    def __init__(self, file: h5py.File, name: str):
        self.file, self._h5 = file, file.create_group(name)
        self.attrs = self._h5.attrs
        self._declared = {column.name: column for column in TABLES[name]}

    def scale(self, name: str, values: np.ndarray | Sequence[str]) -> None:
        """A dimension: what xarray and netCDF call a coordinate. values: int [length], or texts."""
        column = self._declared[name]
        assert column.is_scale, f"{name} is no dimension"
        values = values if isinstance(values, np.ndarray) else _texts(values, column)
        # Only numbers of samples can outgrow their type.
        fits = values.dtype.kind != "i" or not values.size or values[-1] <= np.iinfo(column.dtype).max
        values = values.astype(column.dtype if fits else np.int64)
        reserve(self.file, room(values.dtype, values.size))
        layout = _layout(values.shape, values.dtype)
        scale = self._h5.create_dataset(name, data=values, dtype=_stored(values.dtype), **layout)
        scale.make_scale(name)
        scale.attrs.update({"unit": column.unit, "long_name": column.doc})

    def count(self, name: str, length: int) -> None:
        """A dimension whose values are 0 to length - 1."""
        self.scale(name, np.arange(length))

    def create(self, column: str | Column, most_rows: int = _ANY) -> h5py.Dataset:
        """An empty table, to be filled. column: its name, or the declaration of a fact. most_rows: of a chunk."""
        column = self._declared[column] if isinstance(column, str) else column
        shape = tuple(len(self._h5[dim]) for dim in column.dims)
        layout = _layout(shape, np.dtype(column.dtype), most_rows)
        # Of texts HDF5's own filling is an empty one.
        fill = None if isinstance(column.missing, bytes) else column.missing
        table = self._h5.create_dataset(column.name, shape, _stored(np.dtype(column.dtype)), fillvalue=fill, **layout)
        for index, dim in enumerate(column.dims):
            table.dims[index].attach_scale(self._h5[dim])
        table.attrs.update({"unit": column.unit, "long_name": column.doc} | ({"dtype": "bool"} if column.unit == "bool" else {}))
        return table

    def put(self, column: str | Column, values: np.ndarray) -> None:
        """A whole table. Raises OSError."""
        reserve(self.file, room(values.dtype, values.size))
        self.create(column)[...] = values


def room(dtype: np.dtype, count: int) -> int:
    """Bytes that so many values take at most, before they are compressed. dtype: as the schema declares it."""
    return count * (dtype.itemsize + (BESIDE_TEXT_BYTES if dtype.kind == "S" else 0))


def _layout(shape: tuple[int, ...], dtype: np.dtype, most_rows: int = _ANY) -> dict[str, Any]:
    """How HDF5 stores it: each chunk with a checksum of its bytes on disk (fletcher32). Texts lie elsewhere and have no chunks."""
    if not shape or dtype.kind == "S":
        return {}
    item = dtype.itemsize
    size = int(np.prod(shape)) * item
    if size < LARGE_BYTES:
        return {"fletcher32": True, "chunks": shape if size else True}
    return {"fletcher32": True, "chunks": chunk_shape(shape, item, most_rows), "compression": 1, "shuffle": True}


def _stored(dtype: np.dtype) -> np.dtype:
    """Texts of a fixed length are none to netCDF, and its tools crash on them: merged files have texts of any length."""
    return h5py.string_dtype() if dtype.kind == "S" else dtype


def _texts(values: Sequence[str], column: Column) -> np.ndarray:
    return np.array([fixed(value, int(column.dtype[1:])) for value in values], column.dtype)


def blocks(tables: Sequence[h5py.Dataset]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of tables of one length: of about BLOCK_BYTES for all of them, and of whole chunks: a chunk is compressed once."""
    row_bytes = sum(int(np.prod(table.shape[1:])) * table.dtype.itemsize for table in tables)
    # A small table is one chunk, which stays in memory.
    longest = max(table.chunks[0] if table.compression else 1 for table in tables)
    step = max(1, BLOCK_BYTES // max(1, row_bytes) // longest) * longest
    rows = tables[0].shape[0]
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def chunk_shape(shape: tuple[int, ...], item: int, most_rows: int) -> tuple[int, ...]:
    """Whole rows, a power of two of them, of CHUNK_BYTES at most; of a row longer than that, a piece along its first axis."""
    bytes_of_row = max(1, int(np.prod(shape[1:])) * item)
    rows = max(1, min(shape[0], CHUNK_BYTES // bytes_of_row, most_rows))
    rows = 1 << (rows.bit_length() - 1)
    if bytes_of_row <= CHUNK_BYTES or len(shape) == 1:
        return (rows, *shape[1:])
    inner = max(1, CHUNK_BYTES // (int(np.prod(shape[2:])) * item))
    return (1, min(shape[1], inner), *shape[2:])
