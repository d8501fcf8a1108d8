"""How far a rank's part still holds: a chain of SHA-256 with a link for what is written at the start and one for each flush.

    flushes       int64 [1 + flushes, 9], growing. A row: the counts of `committed` after a flush, then the 32 bytes of its SHA-256 as four
                  numbers. The first row is the start: counts of 0
    committed     int64 [9]: a copy of the last row of `flushes` that counts, written after everything else is on disk
    end_sha256    root attribute, text: SHA-256 of what is written at the end; only with it and with `finished` a part is finished

A digest is SHA-256 of lines, each with a newline at its end, in this order; numbers are little-endian.

    the start     attribute / NAME VALUE             each root attribute but END_ATTRIBUTES, `finished` and `end_sha256`, by name
                  attribute config NAME VALUE        the same of the groups `config` and `provenance`
                  dataset partition/NAME DIGEST      of those that are there, in the order of schema.PART_TABLES
                  table GROUP/NAME TYPE WIDTH        of the growing tables that are there, in the same order
    a flush       the 32 bytes of the row before it; then for each growing table that is there, in the same order:
                  table GROUP/NAME TYPE WIDTH START STOP
                  and, without a newline, its rows START to STOP - 1, those between the counts of the row before and of this row
    the end       flush HEX                          the last row of `flushes`, its 72 bytes
                  attribute / NAME VALUE             END_ATTRIBUTES, by name
                  attribute facts NAME VALUE         of the group `facts`
                  dataset models/NAME DIGEST         of those that are there

VALUE and DIGEST are those of integrity.py, TYPE is numpy's dtype.str, WIDTH the shape of a row: lengths joined by x, or `scalar`.

A flush that is damaged ends what counts of a part, as if the rank had been killed before it. A row of `flushes` behind the one that is in
`committed` does not count: its rank was killed in between, or the run went on from a checkpoint. Where no row is that in `committed`, which
then is damaged itself, the last one whose chain holds counts.

Growing tables have no fletcher32: each flush writes the chunk that is partly filled again. Where a SIGKILL tears that, the rows of earlier
flushes are the same bytes as before; but the checksum of the chunk would not fit, and HDF5 would not give them back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.results import part_checks
from healmpi.results.files import open_part, refuse_foreign_bytes
from healmpi.results.heaps import check_heaps
from healmpi.results.integrity import FAULTS, Damage, check_plain, digest, first_line, is_utf8, objects
from healmpi.results.part_checks import GROWING
from healmpi.results.schema import COMMITTED, PART_TABLES, SCHEMA_VERSION, ResultsError

FLUSHES, END_DIGEST = "flushes", "end_sha256"
END_ATTRIBUTES = ("audit", "audited", "survivors_finished")

ROW = len(COMMITTED) + 4
"""Numbers in a row of `flushes`."""

AHEAD_BYTES = 1024 * 1024
"""How much of each growing table is in memory at a time, or one row of it."""

Rows = Callable[[str, int, int], Iterable[np.ndarray]]
"""The rows of a growing table from a number up to another, in pieces and in its type."""

Head = tuple[str, int, str]
"""Of a growing table: its path, which entry of COMMITTED counts it, its line in a digest without START and STOP."""


# The digests. Who writes has what was written in memory, and gives it.


def first_row(file: h5py.File, partition: Mapping[str, str]) -> np.ndarray:
    """int64 [ROW], the row of the start. partition: the digests of its datasets, by path."""
    leave_out = {*END_ATTRIBUTES, END_DIGEST, "finished"}
    lines = _attributes("/", file, sorted(set(file.attrs) - leave_out))
    for name in ("config", "provenance"):
        lines += _attributes(name, file[name], sorted(file[name].attrs))
    lines += _datasets("partition", partition)
    lines += [_table(name, table) for name, table in growing(file).items()]
    return _row(np.zeros(len(COMMITTED), np.int64), hashlib.sha256("\n".join([*lines, ""]).encode()))


def heads(tables: Mapping[str, h5py.Dataset]) -> list[Head]:
    """What does not change from flush to flush, of tables that grow."""
    return [(name, COMMITTED.index(GROWING[name].in_parts), _table(name, table)) for name, table in tables.items()]


def next_row(before: np.ndarray, counts: Sequence[int], tables: Sequence[Head], rows: Rows) -> np.ndarray:
    """int64 [ROW], the row of a flush. before: the row before it. counts: as in `committed`, after it. tables: those that grow."""
    found = hashlib.sha256(before[len(COMMITTED) :].tobytes())
    known = before.tolist()
    for name, entry, head in tables:
        start, stop = known[entry], counts[entry]
        found.update(f"{head} {start} {stop}\n".encode())
        for piece in rows(name, start, stop):
            found.update(np.ascontiguousarray(piece).data)
    return _row(np.array(counts), found)


def end_digest(file: h5py.File, last: np.ndarray, models: Mapping[str, str]) -> str:
    """Of the end, in hexadecimal digits. last: the last row of `flushes`. models: the digests of the datasets, by path."""
    lines = [f"flush {last.tobytes().hex()}", *_attributes("/", file, END_ATTRIBUTES)]
    lines += [*_attributes("facts", file["facts"], sorted(file["facts"].attrs)), *_datasets("models", models)]
    return hashlib.sha256("\n".join([*lines, ""]).encode()).hexdigest()


def growing(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The growing tables that are there, by path, in their order."""
    return {name: file[name] for name in GROWING if name in file}


def _attributes(where: str, one: h5py.Group, names: Iterable[str]) -> list[str]:
    return [f"attribute {where} {name} {_value(one.attrs[name])}" for name in names]


def _value(value: Any) -> str:
    """Texts as JSON, numbers by type and bytes. Parts have no references."""
    if isinstance(value, str):
        return json.dumps(value)
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return "[" + ", ".join(json.dumps(str(item)) for item in array.reshape(-1)) + "]"
    return f"{array.dtype.str} {_shape(array.shape)} {array.tobytes().hex()}"


def _shape(lengths: Sequence[int]) -> str:
    return "x".join(map(str, lengths)) or "scalar"


def array_digest(array: np.ndarray) -> str:
    """The digest that the dataset will have that is made of this array, see integrity.digest."""
    found = hashlib.sha256(f"{array.dtype.str} {_shape(array.shape)}\n".encode())
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _datasets(group: str, digests: Mapping[str, str]) -> list[str]:
    paths = [f"{group}/{one.name}" for one in PART_TABLES[group]]
    return [f"dataset {path} {digests[path]}" for path in paths if path in digests]


def _table(name: str, table: h5py.Dataset) -> str:
    return f"table {name} {table.dtype.str} {_shape(table.shape[1:])}"


def _row(counts: np.ndarray, found: Any) -> np.ndarray:
    return np.concatenate([counts.astype("<i8"), np.frombuffer(found.digest(), "<i8")])


# How far a part holds.


@dataclass(frozen=True, slots=True)
class Examined:
    """A part that can be read. Attributes are plain values, arrays among them tuples; those of the end are there only where it holds.

    committed: rows of each kind that count, and hold. last_cycle: the number of the last cycle that does; None: there is none.
    finished: it came to its end, and all of it holds. damage: what does not. alike: what must be the same in all parts of a run besides
    the attributes, by what an error calls it.
    """

    attrs: dict[str, Any]
    facts: dict[str, str | int | float]
    sources: dict[str, str]
    committed: dict[str, int]
    last_cycle: int | None
    finished: bool
    damage: Damage | None
    alike: dict[str, Any]


def check_part(path: Path) -> str:
    """What is known of a good part, in a sentence. Raises Damage, which says to which cycle it is good; ResultsError: it is no part."""
    found = examine(path)
    if found.damage is not None:
        raise found.damage
    if found.attrs["schema_version"] != SCHEMA_VERSION:
        return f"a part of schema version {found.attrs['schema_version']}, which has no digests"
    if found.finished:
        return f"good, finished, {found.committed['cycles']} cycles"
    return "good, unfinished, without a cycle" if found.last_cycle is None else f"good to cycle {found.last_cycle}, unfinished"


def examine(path: Path) -> Examined:
    """The part, as far as it holds. Raises ResultsError: it cannot be read at all."""
    table = "/"
    try:
        refuse_foreign_bytes(path)
        if path.is_symlink():
            raise Damage(path, "/", "is a link: a part is a file of its own")
        longest = check_heaps(path)
        with open_part(path) as file:
            for table, one in objects(file):  # noqa: B007 (the sentence below names it)
                check_plain(one, longest)
            table = "/"
            attrs = plain_attributes(file)
            if FLUSHES not in file and attrs["schema_version"] != SCHEMA_VERSION:
                return _of_another_version(file, attrs)
            return _examined(file, path, attrs)
    except ResultsError:
        raise
    except part_checks.Wrong as error:
        raise Damage(path, error.table, error.why) from None
    except FAULTS as error:
        raise Damage(path, table, f"cannot be read ({first_line(error)})") from None


def plain_attributes(one: h5py.Group) -> dict[str, Any]:
    """Numbers and texts of Python, arrays as tuples."""
    found = {}
    for name, value in one.attrs.items():
        found[name] = tuple(value.tolist()) if isinstance(value, np.ndarray) else value.item() if isinstance(value, np.generic) else value
        for text in (name, *(found[name] if isinstance(found[name], tuple) else (found[name],))):
            if isinstance(text, str) and not is_utf8(text):
                raise ValueError(f"its attribute {name!a} is not UTF-8")
    return found


def _examined(file: h5py.File, path: Path, attrs: dict[str, Any]) -> Examined:
    part_checks.attributes(attrs)
    provenance, config = plain_attributes(file["provenance"]), plain_attributes(file["config"])
    part_checks.configuration(config, attrs["config_hash"])
    part_checks.facts("provenance", provenance)
    part_checks.tables(file, attrs)
    last, damage = _hold(file, path)
    committed = dict(zip(COMMITTED, last[: len(COMMITTED)].tolist(), strict=True))
    part_checks.rows(file, attrs, committed)
    finished = "finished" in attrs and damage is None
    if finished:
        damage = _hold_end(file, path, last)
        finished = damage is None
    if finished:
        part_checks.end(file, attrs)
    facts = plain_attributes(file["facts"]) if finished else {}
    part_checks.facts("facts", facts)
    known = {name: value for name, value in attrs.items() if finished or name not in END_ATTRIBUTES}
    sources = {name: value for name, value in provenance.items() if name.endswith("_sha256")}
    alike = _alike(file, attrs, finished)
    return Examined(known, facts, sources, committed, last_cycle(file, committed["cycles"]), finished, damage, alike)


def _alike(file: h5py.File, attrs: dict[str, Any], finished: bool) -> dict[str, Any]:
    found = {name: attrs[name] for name in ("title", "scenario")} | {"a partition": "partition" in file}
    if "partition" in file:
        found["samples of the test set by class"] = tuple(file["partition/test_counts"][:].tolist())
    if finished:
        found["floats in a model"] = file["models/parameters"].shape[1] if "models/parameters" in file else 0
    return found


def _of_another_version(file: h5py.File, attrs: dict[str, Any]) -> Examined:
    """What nobody merges, and what has no digests."""
    attrs |= {name: int(attrs[name]) for name in ("rank", "ranks", "first_node", "node_count")}
    for name in ("config_hash", "run_id"):
        if not isinstance(attrs[name], str):
            raise ValueError(f"{name} is no text")
    sources = {name: str(value) for name, value in plain_attributes(file["provenance"]).items() if name.endswith("_sha256")}
    committed = dict(zip(COMMITTED, file["committed"][: len(COMMITTED)].tolist(), strict=True))
    if not all(isinstance(rows, int) and rows >= 0 for rows in committed.values()):
        raise ValueError("committed holds no numbers of rows")
    return Examined(attrs, {}, sources, committed, None, bool(attrs.get("finished")), None, {})


def last_cycle(file: h5py.File, cycles: int) -> int | None:
    """The number of the last of so many cycles; None of none."""
    return int(file["cycles/cycle"][cycles - 1]) if cycles else None


def _hold(file: h5py.File, path: Path) -> tuple[np.ndarray, Damage | None]:
    """The last row of `flushes` that counts and holds, as do all before it; and why it is not a later one. Raises Damage: of the start."""
    flushes, committed = file[FLUSHES], file["committed"][:]
    rows = flushes[: _rows_there(flushes)]
    rows = rows[: np.flatnonzero(rows.any(axis=1)).max(initial=0) + 1]
    digests = {f"partition/{name}": digest(table) for name, table in file.get("partition", {}).items()}
    if not np.array_equal(rows[0], first_row(file, digests)):
        raise Damage(path, "/", "and what was known at the start (configuration, provenance, partition) do not have their SHA-256")
    fitting = np.flatnonzero((rows == committed).all(axis=1))
    last = int(fitting[0]) if fitting.size else len(rows) - 1
    good, why = _follow(growing(file), rows[: last + 1])
    if fitting.size and good == last:
        return rows[good], None
    cycle = last_cycle(file, int(rows[good, 0]))
    if not fitting.size:
        table, why = "committed", "is none of the rows of flushes"
    else:
        table, why = FLUSHES, f"{'from the first one' if cycle is None else f'from cycle {cycle + 1}'} on {why}"
    return rows[good], Damage(path, table, f"{why}; {_good_to(cycle)}")


def _good_to(cycle: int | None) -> str:
    return "no cycle is good" if cycle is None else f"good to cycle {cycle}"


def _follow(tables: Mapping[str, h5py.Dataset], rows: np.ndarray) -> tuple[int, str]:
    """The number of the last row that holds, as do all before it; and what is wrong with the next one."""
    read, known, number = _Ahead(tables), heads(tables), 0
    there = [_rows_there(table) for table in tables.values()]
    try:
        for number, (before, row) in enumerate(itertools.pairwise(rows)):
            counts = row[: len(COMMITTED)].tolist()
            ascends = counts[0] > before[0] and (counts >= before[: len(COMMITTED)]).all()
            if not ascends or any(counts[entry] > most for (_, entry, _), most in zip(known, there, strict=True)):
                return number, "count what is not there"
            if not np.array_equal(row, next_row(before, counts, known, read)):
                return number, "do not have the SHA-256 that was written with them"
    except FAULTS as error:
        return number, f"cannot be read ({first_line(error)})"
    return len(rows) - 1, ""


def _rows_there(table: h5py.Dataset) -> int:
    """How many rows of a table are on disk at most: a shape alone can claim anything."""
    return min(len(table), table.id.get_storage_size() // part_checks.row_bytes(table))


def _hold_end(file: h5py.File, path: Path, last: np.ndarray) -> Damage | None:
    """What is wrong with what was written at the end."""
    try:
        models = {f"models/{name}": digest(table) for name, table in file["models"].items()}
        holds = file.attrs["finished"] == 1 and file.attrs[END_DIGEST] == end_digest(file, last, models).encode()
        why = "do not have their SHA-256"
    except FAULTS as error:
        holds, why = False, f"cannot be read ({first_line(error)})"
    if holds:
        return None
    return Damage(path, "facts", f"and what else was written at the end (models, audit) {why}; {_good_to(last_cycle(file, int(last[0])))}")


class _Ahead:
    """Reads rows of tables in ascending order, blocks of them at once: a flush is a few rows of many tables."""

    def __init__(self, tables: Mapping[str, h5py.Dataset]):
        self._tables = tables
        self._known = {name: (0, np.zeros(0)) for name in tables}
        self._step = {name: max(1, AHEAD_BYTES // part_checks.row_bytes(table)) for name, table in tables.items()}

    def __call__(self, name: str, start: int, stop: int) -> Iterator[np.ndarray]:
        table, step = self._tables[name], self._step[name]
        while start < stop:
            first, block = self._known[name]
            if not first <= start < first + len(block):
                first, block = self._known[name] = start, self._read(table, start, stop, step)
            yield block[start - first : stop - first]
            start = min(stop, first + len(block))

    @staticmethod
    def _read(table: h5py.Dataset, start: int, stop: int, step: int) -> np.ndarray:
        try:
            return table[start : start + step]
        except FAULTS:
            # What lies behind may be damaged, and this flush not.
            return table[start : min(stop, start + step)]
