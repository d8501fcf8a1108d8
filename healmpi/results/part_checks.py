"""What a part says of itself is looked at before it is believed: attributes, shapes, and numbers that others are found by.

Digests tell what has changed since it was written. This tells what nobody could have written, so that a file that was made up, or a fault
of ours, takes no memory, fills no disk and ends in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from healmpi.config import hash_of
from healmpi.messages import LONGEST_NAME, MOST_KINDS
from healmpi.results.integrity import is_utf8, table_of
from healmpi.results.schema import COMMITTED, GROUP_OUTCOMES, ONCE, PART_TABLES, PHASES, Column, fact_column

GROWING = {f"{group}/{one.name}": one for group, columns in PART_TABLES.items() for one in columns if one.in_parts in COMMITTED}
"""The tables of a part that grow, by path."""

MOST_RANKS = 2**24
WIDEST_VIEW = 2**16
"""Of a user's own topology: it may declare more ids than there are nodes."""


class Wrong(ValueError):
    """table: what cannot be true, or '/' of an attribute of the root. why: as the end of a sentence about it."""

    def __init__(self, table: str, why: str):
        super().__init__(f"{table} {why}")
        self.table, self.why = table, why


def row_bytes(table: h5py.Dataset) -> int:
    """Bytes of a row, at least 1."""
    return max(1, int(np.prod(table.shape[1:], dtype=object)) * table.dtype.itemsize)


# Attributes.


def attributes(attrs: Mapping[str, Any]) -> None:
    """Those of the root. Raises Wrong."""
    total = _whole(attrs, "total_nodes", 1, 2**31 - 1)
    ranks = _whole(attrs, "ranks", 1, min(MOST_RANKS, total))  # a rank hosts a node at least
    _whole(attrs, "rank", 0, ranks - 1)
    first = _whole(attrs, "first_node", 0, total - 1)
    _whole(attrs, "node_count", 1, total - first)
    for name in ("view_size", "hub_count"):
        _whole(attrs, name, 0, max(total, WIDEST_VIEW))
    for name in ("schema_version", "config_hash", "run_id", "title", "scenario"):
        if not isinstance(attrs.get(name), str):
            raise Wrong("/", f"has {name} = {attrs.get(name)!r:.60}, which is no text")
    kinds, carrying = (attrs.get(name, 0) for name in ("kinds", "kinds_carrying_models"))
    if not (_are_names(kinds) and _are_names(carrying) and set(carrying) <= set(kinds)):
        raise Wrong("/", "has kinds, and kinds_carrying_models among them, that are no names of messages")


def _whole(attrs: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = attrs.get(name)
    if type(value) is not int or not low <= value <= high:
        raise Wrong("/", f"has {name} = {value!r:.60}, not a whole number from {low} to {high}")
    return value


def _are_names(value: Any) -> bool:
    if not isinstance(value, tuple) or len(value) > MOST_KINDS or len(set(value)) < len(value):
        return False
    return all(isinstance(one, str) and one.isascii() and one.isprintable() and 0 < len(one) <= LONGEST_NAME for one in value)


def configuration(config: Mapping[str, Any], config_hash: str) -> None:
    """The attributes of the group of that name, against the hash that names the configuration (Config.hash). Raises Wrong."""
    text = config.get("json")
    if not isinstance(text, str) or not isinstance(config.get("toml"), str):
        raise Wrong("config", "has no texts json and toml")
    if hash_of(text) != config_hash:
        raise Wrong("config", f"has a json whose hash is not {config_hash}")
    try:
        table_of(text)
    except (ValueError, RecursionError) as error:
        raise Wrong("config", f"has a json that is no configuration: {error}") from None


def facts(group: str, found: Mapping[str, Any]) -> None:
    """Facts are texts and numbers; tables are named after those about a rank. Raises Wrong."""
    for name, value in found.items():
        number = type(value) is float or (type(value) is int and abs(value) < 2**63)
        if not name.isidentifier() or not (isinstance(value, str) or number):
            raise Wrong(group, f"has {name!r:.60}, which is no text and no number")
        kind = np.dtype(fact_column(name, [value]).dtype).kind
        if group == "facts" and (isinstance(value, str) != (kind == "S") or (kind == "i" and type(value) is not int)):
            raise Wrong(group, f"has {name} = {value!r:.60}, which is not of its type")


# Tables.


def tables(file: h5py.File, attrs: Mapping[str, Any]) -> None:
    """Types and shapes of all that is there before the first cycle; of what grows the width. Raises Wrong."""
    count = attrs["node_count"]
    classes = _partition(file, count) if "partition" in file else 0
    widths = {"node": count, "phase": len(PHASES), "kind": len(attrs["kinds"]), "slot": attrs["view_size"], "label": classes}
    for name, one in GROWING.items():
        row = growing_shape(one, widths)
        if 0 in row and name in file:
            raise Wrong(name, "is there, and has no width")
        if 0 not in row and _dataset(file, name, one.dtype, 1 + len(row)).shape[1:] != row:
            raise Wrong(name, f"has rows of shape {file[name].shape[1:]}, not {row}")
    numbers = len(COMMITTED) + 4
    if not (_dataset(file, "flushes", "i8", 2).shape[1] == numbers and len(file["flushes"])):
        raise Wrong("flushes", f"has the shape {file['flushes'].shape}, not rows of {numbers} numbers")
    if _dataset(file, "committed", "i8", 1).shape != (numbers,):
        raise Wrong("committed", f"has the shape {file['committed'].shape}, not ({numbers},)")


def growing_shape(one: Column, widths: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a row. Dimensions that have no width yet are left out: lists of members are laid end to end."""
    return tuple(widths[dim] for dim in one.dims[1:] if dim in widths)


def _partition(file: h5py.File, count: int) -> int:
    """How many classes it has."""
    found = {one.name: _once(file, "partition", one) for one in PART_TABLES["partition"]}
    offsets, classes = found["node_offsets"], len(found["test_counts"])
    expected = {"node_offsets": (count + 1,), "label_counts": (count, classes)}
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise Wrong(f"partition/{name}", f"has the shape {found[name].shape}, not {shape}")
    places = offsets[:]
    if places[0] != 0 or (np.diff(places) < 0).any() or places[-1] != len(found["sample_indices"]):
        raise Wrong("partition/node_offsets", f"does not ascend from 0 to the {len(found['sample_indices'])} of sample_indices")
    for name in ("sample_indices", "label_counts", "test_counts"):
        _within(f"partition/{name}", found[name][:], 0, 2**62)
    return classes


def end(file: h5py.File, attrs: Mapping[str, Any]) -> None:
    """What is written at the end. Raises Wrong."""
    for name in ("audited", "survivors_finished"):
        _whole(attrs, name, 0, 1)
    audit = attrs.get("audit")
    if not (isinstance(audit, tuple) and all(isinstance(one, str) for one in audit)):
        raise Wrong("/", "has an audit that is no list of texts")
    for one in PART_TABLES["models"]:
        if one.name == "sha256" or f"models/{one.name}" in file:
            table = _once(file, "models", one)
            if len(table) != attrs["node_count"] or 0 in table.shape:
                raise Wrong(f"models/{one.name}", f"has the shape {table.shape}, with {attrs['node_count']} nodes")


def _once(file: h5py.File, group: str, one: Column) -> h5py.Dataset:
    """A table that is written in one piece, all of it on disk."""
    assert one.in_parts == ONCE
    table = _dataset(file, f"{group}/{one.name}", one.dtype, len(one.dims))
    if table.nbytes > table.id.get_storage_size():
        raise Wrong(f"{group}/{one.name}", f"claims {table.nbytes} bytes and has {table.id.get_storage_size()}")
    return table


def _dataset(file: h5py.File, name: str, dtype: str, dims: int) -> h5py.Dataset:
    table = file.get(name)
    if not isinstance(table, h5py.Dataset):
        raise Wrong(name, "is missing")
    if table.dtype != np.dtype(dtype) or table.ndim != dims:
        raise Wrong(name, f"has the type {table.dtype} and {table.ndim} dimensions, not {np.dtype(dtype)} and {dims}")
    if table.id.get_create_plist().get_nfilters():
        raise Wrong(name, "has a filter, which tables of parts do not have")
    if table.id.get_storage_size() > file.id.get_filesize():
        raise Wrong(name, f"claims {table.id.get_storage_size()} bytes on disk, more than its file has")
    return table


# Numbers that others are found by.


def rows(file: h5py.File, attrs: Mapping[str, Any], committed: Mapping[str, int]) -> None:
    """Of rows that count. Raises Wrong."""
    nodes = attrs["total_nodes"]
    cycles, recorded = file["cycles/cycle"][: committed["cycles"]], file["overlay/cycle"][: committed["views"]]
    if (np.diff(cycles) != 1).any():
        raise Wrong("cycles/cycle", "does not ascend by one")
    if len(recorded) and not (len(cycles) and cycles[0] <= recorded[0] and recorded[-1] <= cycles[-1] and (np.diff(recorded) > 0).all()):
        raise Wrong("overlay/cycle", "does not ascend, or has other cycles than cycles/cycle")
    groups = {name: file[f"groups/{name}"][: committed["groups"]] for name in ("node", "coordinator", "outcome", "size")}
    for name, low, high in (
        ("node", 0, nodes - 1),
        ("coordinator", 0, nodes - 1),
        ("outcome", 0, len(GROUP_OUTCOMES) - 1),
        ("size", 0, nodes),
    ):
        _within(f"groups/{name}", groups[name], low, high)
    if groups["size"].sum(dtype=np.int64) != committed["members"]:
        raise Wrong("groups/size", f"adds up to {groups['size'].sum(dtype=np.int64)}, not to the {committed['members']} of groups/members")
    _within("groups/members", file["groups/members"][: committed["members"]], 0, nodes - 1)
    _within("faults/node", file["faults/node"][: committed["faults"]], -1, nodes - 1)
    for name in ("kind", "detail"):
        _texts(f"faults/{name}", file[f"faults/{name}"][: committed["faults"]].tolist())


def _within(name: str, values: np.ndarray, low: int, high: int) -> None:
    if values.size and not (low <= values.min() and values.max() <= high):
        raise Wrong(name, f"has {values.min() if values.min() < low else values.max()}, which is not from {low} to {high}")


def _texts(name: str, values: Sequence[bytes]) -> None:
    for value in set(values):
        if not is_utf8(value):
            raise Wrong(name, f"has {value!r:.60}, which is no text")
