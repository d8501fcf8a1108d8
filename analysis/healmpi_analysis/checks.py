"""What must hold of a file's numbers and texts before anything is computed of them, whether it has digests or not.

Each function raises ValueError with the table and what is wrong; whoever knows the file makes a sentence of it (hdf5.damage_of).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from healmpi_analysis import contract, integrity
from healmpi_analysis.contract import text

NUMBERS, INTEGERS, TEXTS = "biuf", "iu", "S"

_COUNTS = ("run.seed", "run.cycles", "run.nodes", "rule.fanout")
"""Fields of a configuration that are computed with; so are the cycles and fractions of its faults."""


# Attributes.


def whole(attrs: h5py.AttributeManager, name: str, low: int, high: int = contract.MOST_NODES) -> int:
    """A whole number from low to high."""
    value = np.asarray(attrs[name])
    if value.dtype.kind not in NUMBERS or value.size != 1 or not low <= value.item() <= high or value.item() != int(value.item()):
        raise ValueError(f"the attribute {name} is {text(value)[:40]}, and not a whole number from {low} to {high}")
    return int(value.item())


def configuration(stored: object, name: str) -> dict:
    """The configuration of a run: JSON, an object of objects. name: the hash that the file has for it."""
    if not isinstance(stored, (str, bytes)):
        raise ValueError("config/json is no text")
    raw = stored if isinstance(stored, bytes) else stored.encode("utf-8", "surrogateescape")
    if hashlib.sha256(raw).hexdigest()[: len(name)] != name or not name:
        raise ValueError(f"config/json is not the configuration that config/hash names, {name[:40]}")
    found = json.loads(raw, parse_constant=_no_number)
    if not isinstance(found, dict) or not all(isinstance(section, dict) for section in found.values()):
        raise ValueError("config/json is no object of objects")
    _check_fields(found)
    return _clean(found)


def _no_number(name: str):
    raise ValueError(f"config/json holds {name}")


def _check_fields(config: dict) -> None:
    for name in _COUNTS:
        section, _, field = name.partition(".")
        _check_number(f"config/json {name}", config.get(section, {}).get(field, 0), int)
    faults = config.get("faults", {})
    plan = faults.get("plan", [])
    if not isinstance(plan, list) or not all(isinstance(event, dict) for event in plan):
        raise ValueError("config/json faults.plan is no list of objects")
    for fields in (faults, *plan):
        for field, value in fields.items():
            if re.search("cycle$|fraction$", field):
                _check_number(f"config/json faults {text(field)}", value, (int, float))


def _check_number(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {text(value)[:40]}")


def _clean(value):
    """All texts as they can be shown."""
    if isinstance(value, dict):
        return {text(name): _clean(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return text(value) if isinstance(value, str) else value


# Tables.


def table(group: h5py.Group, name: str, kinds: str, shape: Sequence[int | None]) -> h5py.Dataset:
    """A table of these kinds of numbers and this shape; None: of any length along this axis."""
    one, place = group.get(name), f"{group.name.strip('/')}/{name}"
    if not isinstance(one, h5py.Dataset):
        raise ValueError(f"there is no table {place}")
    fits = one.ndim == len(shape) and all(want in (None, length) for want, length in zip(shape, one.shape, strict=True))
    if not fits:
        wanted = " x ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{place} has the shape {one.shape} instead of {wanted}")
    # Of a table without rows the type says nothing. Texts have any length since schema 1.4, a fixed one before.
    if one.size and ("S" if integrity.is_text(one) else one.dtype.kind) not in kinds:
        raise ValueError(f"{place} holds {one.dtype}")
    return one


def rows(file: h5py.File, place: str) -> h5py.Dataset:
    """A table that has rows, of whatever kind."""
    one = file[place]
    if not isinstance(one, h5py.Dataset) or not one.ndim:
        raise ValueError(f"{place} is no table")
    return one


def small(group: h5py.Group, name: str, kinds: str, length: int | None) -> np.ndarray:
    """All of a table with one axis that fits into memory."""
    one = table(group, name, kinds, (length,))
    fits_memory(one.size * one.dtype.itemsize, f"{group.name.strip('/')}/{name}")
    pieces = list(integrity.blocks(one))
    return np.concatenate(pieces) if pieces else one[:]


def cycles(group: h5py.Group, length: int | None = None) -> np.ndarray:
    """int64 [length], the numbers of the recorded cycles; all without a length."""
    found = table(group, "cycle", INTEGERS, (None,))
    fits_memory(8 * len(found), f"{group.name.strip('/')}/cycle")
    numbers = found[:length].astype(np.int64)
    if (np.diff(numbers) <= 0).any():
        raise ValueError(f"{group.name.strip('/')}/cycle does not ascend")
    return numbers


def in_range(name: str, block: np.ndarray) -> np.ndarray:
    """The block itself; name: of its table in /cycles."""
    if name not in contract.RANGES or not block.size:
        return block
    low, high = contract.RANGES[name]
    # Of numbers that may be nan those count that are none; all nan is all right, too.
    known = np.isnan(contract.MISSING.get(name, 0))
    with np.errstate(invalid="ignore"):
        least = (np.fmin if known else np.minimum).reduce(block, axis=None)
        most = least if high is None else (np.fmax if known else np.maximum).reduce(block, axis=None)
    if not (low <= least and (high is None or most <= high)) and not (known and np.isnan(least)):
        raise ValueError(f"cycles/{name} has numbers from {least} to {most}")
    return block


def within(place: str, values: np.ndarray, low: int, high: int) -> np.ndarray:
    """The values themselves, whole numbers from low to high."""
    if values.size and not low <= values.min() <= values.max() <= high:
        raise ValueError(f"{place} has numbers from {values.min()} to {values.max()}, and not from {low} to {high}")
    return values


def blocks(first: np.ndarray, count: np.ndarray, nodes: int) -> None:
    """Who hosts which nodes: blocks that do not overlap, at least one of them; of a rank that left nothing -1 and 0."""
    hosting = count > 0
    first, count = first[hosting].astype(np.int64), count[hosting].astype(np.int64)
    order = np.argsort(first)
    ends = np.concatenate([[0], first[order] + count[order]])
    if not hosting.any() or (ends[:-1] > first[order]).any() or ends.max() > nodes:
        raise ValueError(f"the blocks of nodes in ranks/first_node and ranks/node_count are none of {nodes} nodes")


# Memory.

_HALF = 2
"""What is read may take one part of so many of the memory that there is."""


def fits_memory(size: int, what: str) -> None:
    """Raises ValueError: so many bytes are more than this machine can spare."""
    if size > 1024 * 1024 and size > _available() // _HALF:
        raise ValueError(f"{what} takes {size} bytes of memory, more than there is")


def _available() -> int:
    """Bytes of memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
