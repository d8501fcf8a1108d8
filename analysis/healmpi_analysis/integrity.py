"""Whether a file is what was written: plain objects alone, and the digests of docs/results-format.md (schema 1.4).

    sha256 of a table       SHA-256 of its type, its shape and its numbers, in the table's attribute `sha256`
    root_sha256 of a file   SHA-256 of the names, types, shapes, attributes and digests of all objects, by path

Objects are looked at before any number is read: a link to elsewhere is not followed, and no memory is taken for what is not there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi_analysis.contract import text
from healmpi_analysis.errors import Damage

DIGEST, ROOT_DIGEST = "sha256", "root_sha256"

BLOCK_BYTES = 16 * 1024 * 1024
"""How much of a table is in memory at a time."""

MOST_OBJECTS, MOST_ATTRIBUTES, LONGEST_ATTRIBUTE_BYTES = 10_000, 1_000, 64 * 1024 * 1024

COMPRESSION_LIMIT, SMALL_BYTES = 1100, 1024 * 1024
"""Deflate comes to 1032 at most: a table that claims more than so many times its bytes on disk holds nothing. Small ones may."""

KNOWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}

FAULTS = (KeyError, IndexError, OSError, RuntimeError, AttributeError, TypeError, ValueError, MemoryError, ArithmeticError)
"""What h5py and numpy raise where bytes are not what HDF5 wrote."""


def check(path: Path, file: h5py.File, digests: bool) -> None:
    """Raises Damage: an object is no plain one, or, with `digests`, one of them does not hold. A file without any has none to hold."""
    table = "/"
    try:
        found = dict(objects(file))
        for table, one in found.items():  # noqa: B007 (the sentence below names it)
            check_plain(one)
        if not digests or not is_sealed(file, found):
            return
        for table, one in found.items():
            if isinstance(one, h5py.Dataset) and _ascii(one.attrs[DIGEST]) != digest(one):
                raise Damage(path, f"is damaged: {text(table)} does not have the SHA-256 that was written with it")
        table = "/"
        if _ascii(file.attrs[ROOT_DIGEST]) != root_digest(file, found):
            raise Damage(path, "is damaged: names or attributes of its tables are not those that were written")
    except FAULTS as error:
        raise Damage(path, f"is damaged: {text(table)} cannot be read ({reason(error)})") from None


def is_sealed(file: h5py.File, found: dict[str, Any]) -> bool:
    """Files of schema 1.3 and before are not. A digest of any table tells as much as the one of the root, whose name may be damaged."""
    return ROOT_DIGEST in file.attrs or any(DIGEST in one.attrs for one in found.values() if isinstance(one, h5py.Dataset))


def objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """The root and all below, by path: parents first, then by name. Raises ValueError: a link that leads elsewhere, or too much."""
    waiting: list[tuple[str, Any]] = [("/", file["/"])]
    seen, count = set(), 0
    while waiting:
        path, one = waiting.pop()
        yield path, one
        count += 1
        if count > MOST_OBJECTS:
            raise ValueError(f"there are more than {MOST_OBJECTS} objects")
        if not isinstance(one, h5py.Group):
            continue
        place = h5py.h5o.get_info(one.id).addr
        if place in seen:
            raise ValueError(f"group {path} holds itself")
        seen.add(place)
        for name in sorted(one, reverse=True):
            if one.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                raise ValueError(f"{name} in {path} is a link to elsewhere")
            waiting.append((f"{path.rstrip('/')}/{name}", one[name]))


def check_plain(one: h5py.Group | h5py.Dataset) -> None:
    """Raises ValueError: what healmpi does not write, and what could read other files or take more memory than there is."""
    if h5py.h5a.get_num_attrs(one.id) > MOST_ATTRIBUTES:
        raise ValueError(f"it has {len(one.attrs)} attributes")
    for number in range(h5py.h5a.get_num_attrs(one.id)):
        attribute = h5py.h5a.open(one.id, index=number)
        size = attribute.get_space().get_simple_extent_npoints() * attribute.get_type().get_size()
        if size > LONGEST_ATTRIBUTE_BYTES:
            raise ValueError(f"one of its attributes has {size} bytes")
    if isinstance(one, h5py.Group):
        return
    if not isinstance(one, h5py.Dataset):
        raise ValueError("it is neither a group nor a table")
    if one.shape is None or one.dtype.kind not in "biufS":
        raise ValueError(f"it holds {one.dtype}, which healmpi does not write")
    creation = one.id.get_create_plist()
    if one.is_virtual or creation.get_external_count():
        raise ValueError("its numbers lie in another file")
    filters = {creation.get_filter(number)[0] for number in range(creation.get_nfilters())}
    if not filters <= KNOWN_FILTERS:
        raise ValueError(f"it has a filter that is not known here (number {min(filters - KNOWN_FILTERS)})")
    # Whole numbers of any size: the product of damaged lengths may be too large for one of 64 bits.
    claimed, stored = math.prod(one.shape) * one.dtype.itemsize, one.id.get_storage_size()
    if claimed > SMALL_BYTES and claimed > COMPRESSION_LIMIT * stored:
        raise ValueError(f"it claims {claimed} bytes and has {stored}")


def digest(table: h5py.Dataset) -> str:
    """SHA-256 of a table's type, shape and numbers, in hexadecimal digits."""
    found = hashlib.sha256(f"{table.dtype.str} {shape_text(table.shape)}\n".encode())
    if table.ndim == 0:
        found.update(np.asarray(table[()], table.dtype).tobytes())
        return found.hexdigest()
    row = max(1, math.prod(table.shape[1:]) * table.dtype.itemsize)
    chunk = table.chunks[0] if table.chunks else 1
    step = max(1, BLOCK_BYTES // row // chunk) * chunk
    for start in range(0, table.shape[0] if table.size else 0, step):
        found.update(np.ascontiguousarray(table[start : start + step]).data)
    return found.hexdigest()


def root_digest(file: h5py.File, found: dict[str, Any]) -> str:
    """SHA-256 of the names, types, shapes, attributes and digests of all objects, in hexadecimal digits. found: all of them by path."""
    total = hashlib.sha256()
    for path, one in found.items():
        if isinstance(one, h5py.Dataset):
            total.update(f"dataset {path} {one.dtype.str} {shape_text(one.shape)} {_ascii(one.attrs[DIGEST])}\n".encode())
        else:
            total.update(f"group {path}\n".encode())
        for name in sorted(set(one.attrs) - {DIGEST, ROOT_DIGEST}):
            total.update(f"attribute {name} {value_text(file, one.attrs[name])}\n".encode())
    return total.hexdigest()


def shape_text(shape: tuple[int, ...]) -> str:
    """Lengths of the axes; where there is none, `scalar`."""
    return "x".join(map(str, shape)) or "scalar"


def value_text(file: h5py.File, value: Any) -> str:
    """An attribute's value as text: texts as JSON, numbers by type and bytes, references (of dimensions) by what they lead to."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, h5py.Reference):
        return json.dumps(file[value].name)
    array = np.asarray(value)
    if array.dtype.names:
        return "[" + ", ".join(value_text(file, item) for row in array.reshape(-1) for item in row) + "]"
    if array.dtype.kind == "O":
        return "[" + ", ".join(value_text(file, item) for item in array.reshape(-1)) + "]"
    return f"{array.dtype.str} {'x'.join(map(str, array.shape)) or 'scalar'} {array.tobytes().hex()}"


def _ascii(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    return text(str(said).strip().partition("\n")[0]) or type(error).__name__
