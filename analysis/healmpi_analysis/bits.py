"""Whether two runs of the same configuration, seed and versions gave the same bits, as they must on any ranks and under any MPI.

What a run did is compared table by table; names, times and facts about ranks are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from healmpi_analysis.contract import SCHEMA, text
from healmpi_analysis.hdf5 import damage_of, opened
from healmpi_analysis.records import Record

GROUPS = ("cycles", "overlay", "groups", "faults", "partition", "models")
NAMES_AND_TIMES = ("kind", "carries_model", "phase", "seconds")
BY_KIND = ("messages_out", "messages_in", "messages_dropped", "bytes_out", "bytes_in")
VERSIONS = ("healmpi", "torch", "numpy")
"""What of the provenance decides over bits, where it is known."""

CAPABILITY = "cpu_capability"
"""Fact about a rank: which instructions torch takes; others may give other last bits."""

BLOCK_ROWS = 256

TEXT = np.dtype("S256")
"""Longer than any text in a table."""


@dataclass(frozen=True, slots=True)
class Differs:
    """a, b: the runs. table: 'cycles/accuracy', the one that differs first. cycle: where; None: the table has no cycles."""

    a: Path
    b: Path
    table: str
    cycle: int | None

    def __str__(self) -> str:
        where = "" if self.cycle is None else f", from cycle {self.cycle} on"
        return f"{self.a} and {self.b}: same configuration, seed and versions, other bits; first in {self.table}{where}"


def must_agree(a: Record, b: Record) -> bool:
    """Whether everything that decides over bits is the same in both, as far as the files say."""
    if a.facts.config != b.facts.config or not (a.facts.complete and b.facts.complete):
        return False
    versions = [[record.facts.provenance.get(name) for name in VERSIONS] for record in (a, b)]
    return versions[0] == versions[1] and len(capabilities(a) | capabilities(b)) <= 1


def capabilities(record: Record) -> set[str]:
    """Of its ranks; empty: the file does not say."""
    return {str(one) for one in record.rank_table[CAPABILITY] if one} if CAPABILITY in record.rank_table else set()


def first_difference(a: Record, b: Record) -> Differs | None:
    """The earliest table in which two merged files differ. Raises AnalysisError."""
    with opened(a.path, SCHEMA) as left, opened(b.path, SCHEMA) as right, damage_of(a.path):
        found = [(name, _where(left, right, name)) for name in _tables(left, right)]
        differing = [(cycle, name) for name, (differs, cycle) in found if differs]
    if not differing:
        return None
    # What has no cycle comes after what has one.
    cycle, name = min(differing, key=lambda one: (one[0] is None, one[0] or 0, GROUPS.index(one[1].partition("/")[0]), one[1]))
    return Differs(a.path, b.path, name, cycle)


def _tables(left: h5py.File, right: h5py.File) -> list[str]:
    names = dict.fromkeys(
        f"{group}/{name}"
        for file in (left, right)
        for group in GROUPS
        if group in file
        for name in file[group]
        if name not in NAMES_AND_TIMES
    )
    return [name for name in names if _is_table(left, name) or _is_table(right, name)]


def _is_table(file: h5py.File, name: str) -> bool:
    return isinstance(file.get(name), h5py.Dataset)


def _where(left: h5py.File, right: h5py.File, name: str) -> tuple[bool, int | None]:
    """Whether a table differs, and from which cycle on. One that is missing, or of another shape, differs from the start."""
    if name not in left or name not in right:
        return True, None
    one, other = left[name], right[name]
    by_kind = name.partition("/")[2] in BY_KIND
    if _type(one) != _type(other) or one.shape[:2] != other.shape[:2] or (not by_kind and one.shape != other.shape):
        return True, None
    if not one.ndim:
        return one[()].tobytes() != other[()].tobytes(), None
    columns = _columns(left, right) if by_kind else ([], [])
    for start in range(0, len(one), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        pieces = [_piece(table, rows, places) for table, places in zip((one, other), columns, strict=True)]
        if pieces[0].tobytes() != pieces[1].tobytes():
            return True, _cycle(left, name, start + _first_row(*pieces))
    return False, None


def _type(table: h5py.Dataset) -> np.dtype:
    """Texts are the same whether they have a fixed length, as up to schema 1.3, or any."""
    return TEXT if table.dtype.hasobject or table.dtype.kind == "S" else table.dtype


def _piece(table: h5py.Dataset, rows: slice, columns: list[int]) -> np.ndarray:
    """Some rows; columns: of the last axis, all where none is given. Texts with one length, so that they have bytes to compare."""
    block = table[rows].astype(_type(table), copy=False)
    return np.ascontiguousarray(block[..., columns] if columns else block)


def _first_row(one: np.ndarray, other: np.ndarray) -> int:
    return next((row for row, pair in enumerate(zip(one, other, strict=True)) if pair[0].tobytes() != pair[1].tobytes()), 0)


def _cycle(file: h5py.File, name: str, row: int) -> int | None:
    """The cycle of a row, where its group knows cycles."""
    scale = file.get(f"{name.partition('/')[0]}/cycle")
    return int(scale[row]) if scale is not None and len(scale) == len(file[name]) else None


def _columns(left: h5py.File, right: h5py.File) -> tuple[list[int], list[int]]:
    """Places of the kinds of messages, by name: two files may list them in another order."""
    kinds = [[text(kind) for kind in file["cycles/kind"][:]] for file in (left, right)]
    common = [kind for kind in kinds[0] if kind in kinds[1]]
    return [kinds[0].index(kind) for kind in common], [kinds[1].index(kind) for kind in common]
