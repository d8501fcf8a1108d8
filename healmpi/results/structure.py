"""Whether a merged file is what its version says: attributes, types, shapes, the configuration's hash; of old files ranges too.

Digests say that a file is as it was written; this says that a reader can believe it. Files of before version 1.5 have no digests:
of them all numbers are looked at. All checks are generators of (table, what is wrong with it): the first one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.config import hash_of
from healmpi.results import integrity
from healmpi.results.schema import PHASES, TABLES, Column

Problems = Iterator[tuple[str, str]]
Found = dict[str, Any]

SEALED_SINCE = 5
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
_TEXTS = {"/": ("schema", "schema_version"), "/config": ("json", "toml", "hash"), "/summary": ("verdict",)}
_LISTS = {"/": ("audit_reasons",), "/summary": ("reasons",), "/groups": ("outcomes",), "/ranks": ("states",)}


def check(file: h5py.File, path: Path, found: Found, verify: bool) -> None:
    """Raises integrity.Damage. found: all objects by path. verify: look at the numbers of a file without digests."""
    sealed = integrity.is_sealed(file)
    try:
        if not sealed and _minor(file) >= SEALED_SINCE:
            raise integrity.Damage(path, "/", f"has no {integrity.ROOT_DIGEST}, which files of its version have")
        for table, why in _problems(found, sealed, verify):
            raise integrity.Damage(path, table, why)
    except integrity.FAULTS as error:
        raise integrity.Damage(path, "/", f"is not as it should be ({integrity.first_line(error)})") from None


def _minor(file: h5py.File) -> int:
    return int(str(file.attrs["schema_version"]).partition(".")[2])


def _problems(found: Found, sealed: bool, verify: bool) -> Problems:
    for name in ("config", "provenance", *TABLES):
        if not isinstance(found.get(f"/{name}"), h5py.Group):
            yield f"/{name}", "is missing, or no group"
    if not (sealed and verify):  # else all texts were read for the digest of the root
        yield from _texts(found)
    yield from _attributes(found)
    yield from _configuration(found["/config"])
    yield from _tables(found)
    if verify and not sealed:
        yield from _values(found)


# Attributes.


def _texts(found: Found) -> Problems:
    for table, one in found.items():
        for name in set(one.attrs) - integrity.DIMENSIONS:
            if not _is_utf8(one.attrs[name]):
                yield table, f"has an attribute {name} that is not UTF-8"


def _attributes(found: Found) -> Problems:
    root = found["/"].attrs
    for name, (least, most) in _COUNTS.items():
        value = root.get(name)
        if not isinstance(value, np.integer) or not least <= value <= most:
            yield "/", f"has an attribute {name} that is not a whole number from {least} to {most}"
    if root["ranks"] > root["nodes"]:
        yield "/", "has more ranks than nodes"
    for table, names in _TEXTS.items():
        yield from ((table, f"has no text {name}") for name in names if not isinstance(found[table].attrs.get(name), str))
    for table, names in _LISTS.items():
        yield from ((table, f"has no list of texts {name}") for name in names if not _is_list(found[table].attrs.get(name)))
    for table, name in (("/", "title"), ("/", "run_id"), ("/faults", "scenario")):
        if not isinstance(found[table].attrs.get(name, ""), str):
            yield table, f"has an attribute {name} that is not a text"
    yield from _verdict(found["/summary"].attrs)


def _verdict(summary: h5py.AttributeManager) -> Problems:
    verdict = summary["verdict"]
    if verdict not in ("VALID", "INVALID"):
        yield "/summary", f"has the verdict {verdict!r}, which is neither VALID nor INVALID"
    if (verdict == "VALID") != (len(summary["reasons"]) == 0):
        yield "/summary", f"has the verdict {verdict} and {len(summary['reasons'])} reasons for INVALID"


def _is_list(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1 and all(isinstance(one, str) for one in value)


def _is_utf8(value: Any) -> bool:
    """Of a list every text in it."""
    return all(integrity.is_utf8(one) for one in np.asarray(value, object).reshape(-1) if isinstance(one, str | bytes))


def _configuration(config: h5py.Group) -> Problems:
    text, named = (config.attrs[name] for name in ("json", "hash"))
    if hash_of(text) != named:
        yield "/config", f"has a configuration (json) whose hash is {hash_of(text)}, not {named} (hash)"
    try:
        integrity.table_of(text)
    except (ValueError, RecursionError) as error:
        yield "/config", f"has a configuration (json) that is none: {integrity.first_line(error)}"


# Tables: what they are.


def _tables(found: Found) -> Problems:
    minor, root = _minor(found["/"]), found["/"].attrs
    lengths = {"node": root["nodes"], "rank": root["ranks"], "slot": root["view_size"], "boundary": root["nodes"] + 1, "phase": len(PHASES)}
    for group, columns in TABLES.items():
        for column in columns:
            path = f"/{group}/{column.name}"
            if path in found:
                yield from _table(path, found, column, lengths)
            elif _is_needed(group, column, minor):
                yield path, "is missing"
    for path, fact in found.items():
        if path.startswith("/ranks/") and (not isinstance(fact, h5py.Dataset) or fact.shape != (root["ranks"],)):
            yield path, f"does not have a value for each of {root['ranks']} ranks"


def _is_needed(group: str, column: Column, minor: int) -> bool:
    if group in _OPTIONAL_GROUPS or "parameter" in column.dims:
        return False
    if group == "ranks" and not column.is_scale:
        return column.name in _FACTS
    return _SINCE.get(f"{group}/{column.name}", 0) <= minor


def _table(path: str, found: Found, column: Column, lengths: dict[str, int]) -> Problems:
    """lengths: of the dimensions of which the root says them; the others are as long as they are."""
    table = found[path]
    if not isinstance(table, h5py.Dataset):
        yield path, "is not a table"
    if not _is_type(table, column):
        yield path, f"holds {table.dtype}, not {np.dtype(column.dtype)}"
    if table.ndim != len(column.dims):
        yield path, f"has {table.ndim} dimensions, not {len(column.dims)}"
    for dim, length in zip(column.dims, table.shape, strict=True):
        scale = found.get(f"{path.rpartition('/')[0]}/{dim}")
        expected = lengths[dim] if dim in lengths else len(scale) if isinstance(scale, h5py.Dataset) else None
        if length != expected:
            yield path, f"has a length of {length} along {dim}, not {expected}"
    if not column.dims and not isinstance(table.attrs.get("unit"), str):
        yield path, "has no unit"


def _is_type(table: h5py.Dataset, column: Column) -> bool:
    dtype = table.dtype
    if column.dtype.startswith("S"):
        # Since 1.4 texts have any length.
        return integrity.is_text(table) or (dtype.kind == "S" and dtype.itemsize <= integrity.LONGEST_TEXT_BYTES)
    # Only numbers of samples can outgrow their type.
    return dtype == np.dtype(column.dtype) or (column.name == "sample" and column.is_scale and dtype == np.dtype("i8"))


# Tables: their numbers.


def _values(found: Found) -> Problems:
    """Of all tables, a piece at a time."""
    for group, columns in TABLES.items():
        for column in columns:
            path = f"/{group}/{column.name}"
            least, most = _range(found, group, column)
            for block in integrity.blocks(found[path]) if path in found and least is not None else ():
                # What is not a number was not measured.
                if ((block < least) | (block > most)).any():
                    yield path, f"holds numbers that are not from {least} to {most}"
    yield from _orders(found)


def _range(found: Found, group: str, column: Column) -> tuple[Any, Any]:
    """The least and the most that a table may hold; None: anything."""
    if column.unit == "bool":
        return 0, 1
    if column.unit == "index":
        return 0, len(found[f"/{group}"].attrs[f"{column.name}s"]) - 1
    if column.unit == "node" and column.dims:
        return -1, int(found["/"].attrs["nodes"])
    if column.name.endswith("accuracy"):
        return 0.0, 1.0
    return None, None


def _orders(found: Found) -> Problems:
    for path in ("/cycles/cycle", "/overlay/cycle"):
        last = -(2**63)
        for block in integrity.blocks(found[path]):
            numbers = block.astype(np.int64)
            if numbers[0] <= last or (np.diff(numbers) <= 0).any():
                yield path, "does not ascend"
            last = int(numbers[-1])
    offsets, samples = found["/partition/node_offsets"][:], found["/partition/sample_indices"].shape[0]
    if offsets[0] != 0 or offsets[-1] != samples or (np.diff(offsets) < 0).any():
        yield "/partition/node_offsets", f"does not ascend from 0 to {samples}"
    first, count = (found[f"/ranks/{name}"][:].astype(np.int64) for name in ("first_node", "node_count"))
    there = count > 0
    ends = first[there] + count[there]
    if (first[there] < 0).any() or (ends > found["/"].attrs["nodes"]).any() or (first[there][1:] < ends[:-1]).any():
        yield "/ranks/first_node", "and node_count do not give each rank a block of nodes"
    width = found["/groups/members"].shape[1]
    if (found["/groups/size"][:] > width).any():
        yield "/groups/size", f"says more than {width} members, which is how many there is room for"
