"""What a finished results file says of itself, and whether it still holds: SHA-256 of each dataset, and one of all that names them.

    seal(file)             each dataset gets an attribute `sha256`, the root `root_sha256`
    check(file, path)      every object is plain, every digest holds; else ResultsError names the first table that is wrong

The recipe is in docs/results-format.md; healmpi_analysis follows it on its own, as it imports nothing of healmpi.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.results.schema import ResultsError

DIGEST, ROOT_DIGEST = "sha256", "root_sha256"

BLOCK_BYTES = 16 * 1024 * 1024
"""How much of a dataset is in memory at a time."""

MOST_OBJECTS, MOST_ATTRIBUTES, LONGEST_ATTRIBUTE_BYTES = 10_000, 1_000, 64 * 1024 * 1024

COMPRESSION_LIMIT = 1100
"""Of deflate, 1032: a dataset that claims to hold more than so many times its bytes on disk holds nothing."""

KNOWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}

FAULTS = (KeyError, OSError, RuntimeError, AttributeError, TypeError, ValueError, MemoryError, OverflowError)
"""What h5py raises where bytes are not what HDF5 wrote."""


class Damage(ResultsError):
    """A file that is not what was written. table: the first object that is wrong."""

    def __init__(self, path: Path, table: str, why: str):
        super().__init__(f"{path} is damaged: {table} {why}")
        self.table = table


def seal(file: h5py.File) -> None:
    """Write the digests of all that is in the file. Nothing may be changed afterwards. Raises OSError."""
    for _, one in objects(file):
        if isinstance(one, h5py.Dataset):
            one.attrs[DIGEST] = np.bytes_(digest(one))
    file.attrs[ROOT_DIGEST] = np.bytes_(root_digest(file))


def is_sealed(file: h5py.File) -> bool:
    """Files of schema 1.3 and before are not."""
    return ROOT_DIGEST in file.attrs


def check(file: h5py.File, path: Path) -> None:
    """Raises Damage: an object is no plain one, or a digest does not hold. Of a file that is not sealed the objects alone are looked at."""
    table = "/"
    try:
        sealed = is_sealed(file)
        for table, one in objects(file):
            check_plain(table, one)
            if sealed and isinstance(one, h5py.Dataset) and _text(one.attrs[DIGEST]) != digest(one):
                raise Damage(path, table, "does not have the SHA-256 that was written with it")
        table = "/"
        if sealed and _text(file.attrs[ROOT_DIGEST]) != root_digest(file):
            raise Damage(path, table, "and what names and describes its tables do not have the SHA-256 that was written with them")
    except Damage:
        raise
    except FAULTS as error:
        raise Damage(path, table, f"cannot be read ({first_line(error)})") from None


def objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """The root and all below, by path: parents first. Raises ValueError: a link that leads elsewhere, or too much."""
    waiting: list[tuple[str, Any]] = [("/", file)]
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


def check_plain(path: str, one: h5py.Group | h5py.Dataset) -> None:
    """Raises ValueError: what healmpi does not write, and what could read other files or take more memory than there is."""
    if len(one.attrs) > MOST_ATTRIBUTES:
        raise ValueError(f"it has {len(one.attrs)} attributes")
    for name in one.attrs:
        found = one.attrs.get_id(name)
        # Of one without elements HDF5 does not say the size.
        size = found.get_storage_size() if 0 not in found.shape else 0
        if size > LONGEST_ATTRIBUTE_BYTES:
            raise ValueError(f"its attribute {name} has {size} bytes")
    if isinstance(one, h5py.Group):
        return
    if not isinstance(one, h5py.Dataset):
        raise ValueError("it is neither a group nor a table")
    if one.dtype.kind not in "biufS" or one.dtype.hasobject:
        raise ValueError(f"it holds {one.dtype}, which healmpi does not write")
    creation = one.id.get_create_plist()
    if one.is_virtual or creation.get_external_count():
        raise ValueError("its numbers lie in another file")
    filters = {creation.get_filter(number)[0] for number in range(creation.get_nfilters())}
    if not filters <= KNOWN_FILTERS:
        raise ValueError(f"it has a filter that is not known here (number {min(filters - KNOWN_FILTERS)})")
    claimed, stored = one.nbytes, one.id.get_storage_size()
    if claimed > 1024 * 1024 and claimed > COMPRESSION_LIMIT * stored:
        raise ValueError(f"it claims {claimed} bytes and has {stored}")


def digest(dataset: h5py.Dataset) -> str:
    """SHA-256 of a dataset's type, shape and numbers, in hexadecimal digits."""
    found = hashlib.sha256(f"{dataset.dtype.str} {_shape(dataset)}\n".encode())
    if dataset.ndim == 0:
        found.update(np.asarray(dataset[()], dataset.dtype).tobytes())
        return found.hexdigest()
    row = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    chunk = dataset.chunks[0] if dataset.chunks else 1
    step = max(1, BLOCK_BYTES // row // chunk) * chunk
    for start in range(0, dataset.shape[0], step):
        found.update(np.ascontiguousarray(dataset[start : start + step]).data if dataset.size else b"")
    return found.hexdigest()


def root_digest(file: h5py.File) -> str:
    """SHA-256 of the names, types, shapes, attributes and digests of all objects, in hexadecimal digits."""
    found = hashlib.sha256()
    for path, one in objects(file):
        if isinstance(one, h5py.Dataset):
            found.update(f"dataset {path} {one.dtype.str} {_shape(one)} {_text(one.attrs[DIGEST])}\n".encode())
        else:
            found.update(f"group {path}\n".encode())
        for name in sorted(set(one.attrs) - {DIGEST, ROOT_DIGEST}):
            found.update(f"attribute {name} {_value(file, one.attrs[name])}\n".encode())
    return found.hexdigest()


def _shape(dataset: h5py.Dataset) -> str:
    return "x".join(map(str, dataset.shape)) or "scalar"


def _value(file: h5py.File, value: Any) -> str:
    """An attribute's value as text: texts as JSON, numbers by type and bytes, references (of dimensions) by what they lead to."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, h5py.Reference):
        return json.dumps(file[value].name)
    array = np.asarray(value)
    if array.dtype.names:
        return "[" + ", ".join(_value(file, item) for row in array.reshape(-1) for item in row) + "]"
    if array.dtype.kind == "O":
        return "[" + ", ".join(_value(file, item) for item in array.reshape(-1)) + "]"
    return f"{array.dtype.str} {'x'.join(map(str, array.shape)) or 'scalar'} {array.tobytes().hex()}"


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
