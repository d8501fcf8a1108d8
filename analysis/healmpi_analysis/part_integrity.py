"""How much of a rank's part holds: the chain of SHA-256 in its table `flushes` (schema 1.5), a link for the start and one for each flush.

    flushes       int64 [1 + flushes, 9]: the counts of `committed` after a flush, then the 32 bytes of its SHA-256; first the start
    committed     a copy of the last row of `flushes` that counts
    end_sha256    root attribute: SHA-256 of what is written at the end

The recipe is in docs/results-format.md. A flush that is damaged ends what counts, as if the rank had been killed before it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from healmpi_analysis import checks
from healmpi_analysis.contract import GROWING, PART_COMMITTED, PART_ONCE
from healmpi_analysis.integrity import FAULTS, digest, shape_text, value_text

FLUSHES, END_DIGEST = "flushes", "end_sha256"
_AT_THE_END = ("audit", "audited", "survivors_finished")
_COUNTS = len(PART_COMMITTED)
_ROW = _COUNTS + 4
_AHEAD_BYTES = 1024 * 1024
"""How much of each table is in memory at a time, or one row of it."""


@dataclass(frozen=True, slots=True)
class Held:
    """counts: rows that count and hold, as PART_COMMITTED names them. whole: whether all of it does; if not, a part is not finished."""

    counts: tuple[int, ...]
    whole: bool


def held(file: h5py.File) -> Held:
    """How far the part holds. Raises ValueError: not even what was written at its start does."""
    rows = checks.table(file, FLUSHES, "i", (None, _ROW))
    checks.fits_memory(rows.size * rows.dtype.itemsize, FLUSHES)
    flushes, committed = rows[:].astype("<i8"), checks.table(file, "committed", "i", (_ROW,))[:]
    tables = {name: file[name] for name in GROWING if name in file}
    if not len(flushes) or not np.array_equal(flushes[0], _first(file, tables)):
        raise ValueError("configuration, provenance or partition do not have the SHA-256 that was written with them")
    equal = np.flatnonzero((flushes == committed).all(axis=1))
    last = int(equal[0]) if equal.size else len(flushes) - 1
    ahead = _Ahead(tables)
    good = next((number - 1 for number in range(1, last + 1) if not _follows(flushes, number, tables, ahead)), last)
    whole = good == last and ("finished" not in file.attrs or _end_holds(file, flushes[last]))
    return Held(tuple(flushes[good, :_COUNTS].tolist()), whole)


def _follows(flushes: np.ndarray, number: int, tables: dict[str, h5py.Dataset], ahead: _Ahead) -> bool:
    """Whether a row of `flushes` is the one that follows on the row before it."""
    before, row = flushes[number - 1], flushes[number]
    try:
        for name, table in tables.items():
            entry = PART_COMMITTED.index(GROWING[name])
            if not before[entry] <= row[entry] <= len(table):
                return False
        return np.array_equal(row, _next(before, row[:_COUNTS], tables, ahead))
    except FAULTS:
        return False


def _end_holds(file: h5py.File, last: np.ndarray) -> bool:
    try:
        lines = [f"flush {last.tobytes().hex()}", *_attributes("/", file, _AT_THE_END)]
        lines += [*_attributes("facts", file["facts"], sorted(file["facts"].attrs)), *_datasets("models", file)]
        said = file.attrs[END_DIGEST]
        return (said.decode("ascii") if isinstance(said, bytes) else said) == _sha256(lines).hexdigest()
    except FAULTS:
        return False


# The digests.


def _first(file: h5py.File, tables: dict[str, h5py.Dataset]) -> np.ndarray:
    lines = _attributes("/", file, sorted(set(file.attrs) - {*_AT_THE_END, END_DIGEST, "finished"}))
    for name in ("config", "provenance"):
        lines += _attributes(name, file[name], sorted(file[name].attrs))
    lines += _datasets("partition", file)
    return _row(np.zeros(_COUNTS, "<i8"), _sha256(lines + [_described(name, table) for name, table in tables.items()]))


def _next(before: np.ndarray, counts: np.ndarray, tables: dict[str, h5py.Dataset], ahead: _Ahead) -> np.ndarray:
    found = hashlib.sha256(before[_COUNTS:].tobytes())
    for name, table in tables.items():
        entry = PART_COMMITTED.index(GROWING[name])
        start, stop = int(before[entry]), int(counts[entry])
        found.update(f"{_described(name, table)} {start} {stop}\n".encode())
        for piece in ahead.rows(name, start, stop):
            found.update(np.ascontiguousarray(piece).data)
    return _row(counts, found)


def _sha256(lines: Sequence[str]) -> Any:
    return hashlib.sha256("\n".join([*lines, ""]).encode())


def _row(counts: np.ndarray, found: Any) -> np.ndarray:
    return np.concatenate([counts, np.frombuffer(found.digest(), "<i8")])


def _attributes(where: str, one: h5py.Group, names: Iterable[str]) -> list[str]:
    # Parts have no dimensions, and so no references.
    return [f"attribute {where} {name} {value_text(one.attrs[name], one.file, {})}" for name in names]


def _datasets(group: str, file: h5py.File) -> list[str]:
    return [f"dataset {path} {digest(file[path])}" for path in PART_ONCE if path.startswith(f"{group}/") and path in file]


def _described(name: str, table: h5py.Dataset) -> str:
    return f"table {name} {table.dtype.str} {shape_text(table.shape[1:])}"


class _Ahead:
    """Reads rows of tables in ascending order, blocks of them at once: a flush is a few rows of many tables."""

    def __init__(self, tables: dict[str, h5py.Dataset]):
        self._tables = tables
        self._known = {name: (0, table[:0]) for name, table in tables.items()}

    def rows(self, name: str, start: int, stop: int) -> Iterator[np.ndarray]:
        """Rows from start to stop, in pieces."""
        table = self._tables[name]
        step = max(1, _AHEAD_BYTES // max(1, math.prod(table.shape[1:]) * table.dtype.itemsize))
        while start < stop:
            first, block = self._known[name]
            if not first <= start < first + len(block):
                first, block = start, table[start : start + step]
                self._known[name] = first, block
            piece = block[start - first : stop - first]
            yield piece
            start += len(piece)
