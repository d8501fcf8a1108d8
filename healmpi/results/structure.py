"""Whether a merged file is what its version says: attributes, types, shapes, what the configuration's hash names; of old files the ranges too.

Digests say that a file is as it was written; this says that a reader can believe it. Files of before version 1.4 have no digests:
of them all numbers are looked at. All checks are generators of (table, what is wrong with it): the first one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.config import hash_of
from healmpi.results import integrity
from healmpi.results.schema import PHASES, TABLES, Column

Problems = Iterator[tuple[str, str]]

SEALED_SINCE = 4
"""The second number of the first schema version that has digests."""

LONGEST_NUMBER = 2**31 - 1

_SINCE = {
    "cycles/carries_model": 2, "cycles/own_accuracy": 3, "cycles/class_accuracy": 3, "cycles/label": 3, "partition/test_counts": 3,
}  # fmt: skip
"""The second number of the version that brought a table; the others have always been there."""

_OPTIONAL_GROUPS = {"summary"}
_FACTS = {"state", "survivors_finished", "first_node", "node_count", "cycles"}
"""Of /ranks these are always there."""

_COUNTS = {
    "complete": (0, 1), "audited": (0, 1), "nodes": (1, LONGEST_NUMBER), "ranks": (1, LONGEST_NUMBER), "view_size": (0, LONGEST_NUMBER),
    "hub_count": (0, LONGEST_NUMBER),
}  # fmt: skip
_TEXTS = {"/": ("schema", "schema_version"), "config": ("json", "toml", "hash"), "summary": ("verdict",)}
_LISTS = {"/": ("audit_reasons",), "summary": ("reasons",), "groups": ("outcomes",), "ranks": ("states",)}


def check(file: h5py.File, path: Path, values: bool) -> None:
    """Raises integrity.Damage. values: look at the numbers of a file without digests."""
    sealed = integrity.is_sealed(file)
    try:
        if not sealed and _minor(file) >= SEALED_SINCE:
            raise integrity.Damage(path, "/", f"has no {integrity.ROOT_DIGEST}, which files of its version have")
        for table, why in _problems(file, values and not sealed):
            raise integrity.Damage(path, f"/{table.lstrip('/')}", why)
    except integrity.FAULTS as error:
        raise integrity.Damage(path, "/", f"is not as it should be ({integrity.first_line(error)})") from None


def _minor(file: h5py.File) -> int:
    return int(str(file.attrs["schema_version"]).partition(".")[2])


def _problems(file: h5py.File, values: bool) -> Problems:
    yield from _attributes(file)
    yield from _configuration(file)
    yield from _tables(file)
    if values:
        yield from _values(file)


# Attributes.


def _attributes(file: h5py.File) -> Problems:
    for table, one in integrity.objects(file):
        for name in set(one.attrs) - integrity.DIMENSIONS:
            if not _is_utf8(one.attrs[name]):
                yield table, f"has an attribute {name} that is not UTF-8"
    for name, (least, most) in _COUNTS.items():
        value = file.attrs.get(name)
        if not isinstance(value, np.integer) or not least <= value <= most:
            yield "/", f"has an attribute {name} that is not a whole number from {least} to {most}"
    if file.attrs["ranks"] > file.attrs["nodes"]:
        yield "/", "has more ranks than nodes"
    for group, names in _TEXTS.items():
        yield from ((group, f"has no text {name}") for name in names if not isinstance(_attribute(file, group, name), str))
    for group, names in _LISTS.items():
        yield from ((group, f"has no list of texts {name}") for name in names if not _is_list(_attribute(file, group, name)))
    for table, name in (("/", "title"), ("/", "run_id"), ("faults", "scenario")):
        if not isinstance(_attribute(file, table, name) or "", str):
            yield table, f"has an attribute {name} that is not a text"
    yield from _verdict(file["summary"].attrs)


def _verdict(summary: h5py.AttributeManager) -> Problems:
    verdict = summary["verdict"]
    if verdict not in ("VALID", "INVALID"):
        yield "summary", f"has the verdict {verdict!r}, which is neither VALID nor INVALID"
    if (verdict == "VALID") != (len(summary["reasons"]) == 0):
        yield "summary", f"has the verdict {verdict} and {len(summary['reasons'])} reasons for INVALID"


def _attribute(file: h5py.File, group: str, name: str) -> Any:
    return file[group].attrs.get(name) if isinstance(file.get(group), h5py.Group) else None


def _is_list(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1 and all(isinstance(one, str) for one in value)


def _is_utf8(value: Any) -> bool:
    """h5py makes surrogates of bytes that are not."""
    try:
        for one in np.asarray(value, object).reshape(-1):
            if isinstance(one, str):
                one.encode()
            elif isinstance(one, bytes):
                one.decode()
    except UnicodeError:
        return False
    return True


def _configuration(file: h5py.File) -> Problems:
    text, named = (file["config"].attrs[name] for name in ("json", "hash"))
    if hash_of(text) != named:
        yield "config", f"has a configuration (json) whose hash is {hash_of(text)}, not {named} (hash)"
    table = json.loads(text)
    if not isinstance(table, dict) or not all(isinstance(section, dict) for section in table.values()):
        yield "config", "has a configuration (json) that is not made of sections"


# Tables: what they are.


def _tables(file: h5py.File) -> Problems:
    minor = _minor(file)
    for group, columns in TABLES.items():
        if not isinstance(file.get(group), h5py.Group):
            yield group, "is missing"
        for column in columns:
            if column.name in file[group]:
                yield from _table(file, group, column)
            elif _is_needed(group, column, minor):
                yield f"{group}/{column.name}", "is missing"
    ranks = file.attrs["ranks"]
    for name, fact in file["ranks"].items():
        if not isinstance(fact, h5py.Dataset) or fact.shape != (ranks,):
            yield f"ranks/{name}", f"does not have a value for each of {ranks} ranks"


def _is_needed(group: str, column: Column, minor: int) -> bool:
    if group in _OPTIONAL_GROUPS or "parameter" in column.dims:
        return False
    if group == "ranks" and not column.is_scale:
        return column.name in _FACTS
    return _SINCE.get(f"{group}/{column.name}", 0) <= minor


def _table(file: h5py.File, group: str, column: Column) -> Problems:
    path, table = f"{group}/{column.name}", file[group][column.name]
    if not isinstance(table, h5py.Dataset):
        yield path, "is not a table"
    if not _is_type(table, column):
        yield path, f"holds {table.dtype}, not {np.dtype(column.dtype)}"
    if table.ndim != len(column.dims):
        yield path, f"has {table.ndim} dimensions, not {len(column.dims)}"
    for dim, length in zip(column.dims, table.shape, strict=True):
        expected = _length(file, group, dim)
        if length != expected:
            yield path, f"has a length of {length} along {dim}, not {expected}"
    if column.unit and not column.dims and not isinstance(table.attrs.get("unit"), str):
        yield path, "has no unit"


def _is_type(table: h5py.Dataset, column: Column) -> bool:
    dtype = table.dtype
    if column.dtype.startswith("S"):
        # Since 1.4 texts have any length.
        return integrity.is_text(table) or (dtype.kind == "S" and dtype.itemsize <= integrity.LONGEST_TEXT_BYTES)
    # Only numbers of samples can outgrow their type.
    return dtype == np.dtype(column.dtype) or (column.name == "sample" and column.is_scale and dtype == np.dtype("i8"))


def _length(file: h5py.File, group: str, dim: str) -> int:
    """What the root says of it, or else the dimension itself."""
    attrs = file.attrs
    known = {"node": attrs["nodes"], "rank": attrs["ranks"], "slot": attrs["view_size"], "boundary": attrs["nodes"] + 1, "phase": len(PHASES)}
    return int(known[dim]) if dim in known else len(file[group][dim])


# Tables: their numbers.


def _values(file: h5py.File) -> Problems:
    """Of all tables, a piece at a time."""
    for group, columns in TABLES.items():
        for column in columns:
            if column.name in file[group]:
                least, most = _range(file, group, column)
                for block in integrity.blocks(file[group][column.name]) if least is not None else ():
                    # What is not a number was not measured.
                    if ((block < least) | (block > most)).any():
                        yield f"{group}/{column.name}", f"holds numbers that are not from {least} to {most}"
    yield from _orders(file)


def _range(file: h5py.File, group: str, column: Column) -> tuple[Any, Any]:
    """The least and the most that a table may hold; None: anything."""
    if column.unit == "bool":
        return 0, 1
    if column.unit == "index":
        return 0, len(file[group].attrs[f"{column.name}s"]) - 1
    if column.unit == "node" and column.dims:
        return -1, int(file.attrs["nodes"])
    if column.name.endswith("accuracy"):
        return 0.0, 1.0
    return None, None


def _orders(file: h5py.File) -> Problems:
    for table in ("cycles/cycle", "overlay/cycle"):
        if (np.diff(file[table][:].astype(np.int64)) <= 0).any():
            yield table, "does not ascend"
    offsets, samples = file["partition/node_offsets"][:], file["partition/sample_indices"].shape[0]
    if offsets[0] != 0 or offsets[-1] != samples or (np.diff(offsets) < 0).any():
        yield "partition/node_offsets", f"does not ascend from 0 to {samples}"
    first, count = (file[f"ranks/{name}"][:].astype(np.int64) for name in ("first_node", "node_count"))
    there = count > 0
    ends = first[there] + count[there]
    if (first[there] < 0).any() or (ends > file.attrs["nodes"]).any() or (first[there][1:] < ends[:-1]).any():
        yield "ranks/first_node", "and node_count do not give each rank a block of nodes"
    if (file["groups/size"][:] > file["groups/members"].shape[1]).any():
        yield "groups/size", f"says more than {file['groups/members'].shape[1]} members, which is how many there is room for"
