"""What must hold of a file's numbers and texts before anything is computed of them, whether it has digests or not.

Each function raises ValueError with the table and what is wrong; whoever knows the file makes a sentence of it (hdf5.damage_of).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from healmpi_analysis import contract, integrity
from healmpi_analysis.contract import text

NUMBERS, INTEGERS, TEXTS = "biuf", "iu", "S"

_COUNTS = ("run.seed", "run.cycles", "run.nodes", "rule.fanout")
"""Fields of a configuration that are computed with; so are the cycles and fractions of its faults."""

_LARGEST = 2**63 - 1
"""Of these, a seed."""


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
    found = json.loads(raw, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_fields)
    if not isinstance(found, dict) or not all(isinstance(section, dict) for section in found.values()):
        raise ValueError("config/json is no object of objects")
    _check_fields(found)
    return _clean(found)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"config/json holds {name}, which is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits[:40])


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers do not agree on which of two counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"config/json has the field {text(twice)[:40]} twice")
    return found


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
    if not isinstance(value, kind) or not isinstance(value, (int, float)) or abs(value) > _LARGEST:
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
    """int64 [length], the numbers of the cycles, each one more than the one before; all without a length."""
    place = f"{group.name.strip('/')}/cycle"
    found = table(group, "cycle", INTEGERS, (None,))
    count = len(found) if length is None else length
    fits_memory(_BYTES_OF_CYCLE * count, f"what is kept of {count} cycles")
    numbers = found[:count].astype(np.int64)
    if (np.diff(numbers) != 1).any():
        raise ValueError(f"{place} does not ascend by one")
    return within(place, numbers, -(2**31), 2**31 - 1)


def view_cycles(group: h5py.Group, among: np.ndarray, length: int | None = None) -> np.ndarray:
    """int64 [length], those of the cycles `among` of which there are views; all without a length."""
    place = f"{group.name.strip('/')}/cycle"
    found = table(group, "cycle", INTEGERS, (None,))
    count = len(found) if length is None else length
    if count > len(among):
        raise ValueError(f"{place} has {count} rows, and there are {len(among)} cycles")
    numbers = found[:count].astype(np.int64)
    if (np.diff(numbers) <= 0).any():
        raise ValueError(f"{place} does not ascend")
    return of_cycles(place, numbers, among)


def of_cycles(place: str, values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The values themselves, each of them one of these cycles; where there are none, any."""
    return within(place, values, int(among[0]), int(among[-1])) if len(among) else values


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

_BYTES_OF_CYCLE = 1024
"""What a record keeps of a cycle, roughly, and what it takes to make it."""

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
