"""Whether a file is what was written: plain objects alone, and the digests of docs/results-format.md (schema 1.5).

    sha256 of a table       SHA-256 of its type, its shape and its numbers, in the table's attribute `sha256`
    root_sha256 of a file   SHA-256 of the names, types, shapes, attributes and digests of all objects, by path

Objects are looked at before any number is read: a link to elsewhere is not followed, and no memory is taken for what is not there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi_analysis.chunks import check_chunks
from healmpi_analysis.contract import SCHEMA, text
from healmpi_analysis.errors import Damage

DIGEST, ROOT_DIGEST = "sha256", "root_sha256"

SEALED_SINCE = 5
"""The second number of the first schema version that has them."""

UNLIKE = "does not have the SHA-256 that was written with it"

BLOCK_BYTES = 16 * 1024 * 1024
"""How much of a table is in memory at a time."""

MOST_OBJECTS, DEEPEST, MOST_ATTRIBUTES, MOST_TEXTS = 10_000, 8, 1_000, 1_000
"""In a file; groups in groups; of an object; in an attribute that is a list."""

LONGEST_ATTRIBUTE_BYTES = 64 * 1024 * 1024

LONGEST_TEXT_BYTES, TEXT_ROWS = 1024, 64
"""Of a text in a table; how many are read at a time, as damaged ones may all be as long as the longest."""

MOST_HEAP_BYTES = 256 * 1024 * 1024
"""What the attributes of an object may take if each of their texts of any length is the longest of the file: they can all lead to it."""

COMPRESSION_LIMIT, SMALL_BYTES = 1100, 1024 * 1024
"""Deflate comes to 1032 at most: a table that claims more than so many times its bytes on disk holds nothing. Small ones may."""

KNOWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}

FAULTS = (LookupError, OSError, RuntimeError, AttributeError, TypeError, ValueError, MemoryError, ArithmeticError)
"""What h5py and numpy raise where bytes are not what HDF5 wrote."""


def check(path: Path, file: h5py.File, digests: bool, later: Collection[str] = (), longest: int = 0) -> None:
    """Raises Damage: an object is no plain one, or, with `digests`, one of them does not hold. A file without any has none to hold.

    later: paths of tables whose numbers are looked at elsewhere, see Passed. longest: bytes, see heaps.check_heaps."""
    table = "/"
    try:
        found = dict(objects(file))
        for table, one in found.items():  # noqa: B007 (the sentence below names it)
            check_plain(one, longest)
        table = "/"
        sealed = is_sealed(file, found)
        if not sealed and root_text(file, "schema") == SCHEMA and has_digests(file):
            raise Damage(path, f"is damaged: it has no digests, which files of schema {root_text(file, 'schema_version')} have")
        if not digests or not sealed:
            return
        for table, one in found.items():
            if isinstance(one, h5py.Dataset) and table not in later and said(one) != digest(one):
                raise Damage(path, f"is damaged: {text(table)} {UNLIKE}")
        table = "/"
        if _ascii(file.attrs[ROOT_DIGEST]) != root_digest(file, found):
            raise Damage(path, "is damaged: names or attributes of its tables are not those that were written")
    except FAULTS as error:
        raise Damage(path, f"is damaged: {text(table)} cannot be read ({reason(error)})") from None


def is_sealed(file: h5py.File, found: dict[str, Any]) -> bool:
    """A digest of any table tells as much as the one of the root, whose name may be damaged."""
    return ROOT_DIGEST in file.attrs or any(DIGEST in one.attrs for one in found.values() if isinstance(one, h5py.Dataset))


def has_digests(file: h5py.File) -> bool:
    """Whether files and parts of its version have them. Raises ValueError: it does not say its version."""
    return int(root_text(file, "schema_version").partition(".")[2]) >= SEALED_SINCE


def objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """The root and all below, by path: parents first, then by name. Raises ValueError: a link that leads elsewhere, or too much."""
    waiting: list[tuple[str, Any]] = [("/", file["/"])]
    seen = set()
    while waiting:
        path, one = waiting.pop()
        yield path, one
        place = h5py.h5o.get_info(one.id).addr
        if place in seen:
            raise ValueError("it has two names, or holds itself")
        seen.add(place)
        if len(seen) > MOST_OBJECTS:
            raise ValueError(f"there are more than {MOST_OBJECTS} objects")
        if not isinstance(one, h5py.Group):
            continue
        if path.count("/") > DEEPEST or len(one) > MOST_OBJECTS:
            raise ValueError("it holds too many groups or tables")
        for name in sorted(one, reverse=True):
            if one.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                raise ValueError(f"{name} in it is a link to elsewhere")
            waiting.append((f"{path.rstrip('/')}/{name}", one[name]))


def check_plain(one: h5py.Group | h5py.Dataset, longest: int = 0) -> None:
    """Raises ValueError: what healmpi does not write, and what could read other files or take more memory than there is.

    longest: bytes of a text of any length."""
    count = h5py.h5a.get_num_attrs(one.id)
    if count > MOST_ATTRIBUTES:
        raise ValueError(f"it has {count} attributes")
    in_heaps = 0
    for number in range(count):
        attribute = h5py.h5a.open(one.id, index=number)
        in_heaps += _check_attribute(attribute)
        if in_heaps * longest > MOST_HEAP_BYTES:
            raise ValueError(f"with its attribute {text(attribute.name)} it has {in_heaps} texts, each of which may have {longest} bytes")
    if isinstance(one, h5py.Group):
        return
    if not isinstance(one, h5py.Dataset) or one.shape is None:
        raise ValueError("it is neither a group nor a table")
    if one.dtype.kind not in "biufS" and not is_text(one):
        raise ValueError(f"it holds {one.dtype}, which healmpi does not write")
    creation = one.id.get_create_plist()
    if one.is_virtual or creation.get_external_count():
        raise ValueError("its numbers lie in another file")
    filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
    if not KNOWN_FILTERS.issuperset(filters) or len(set(filters)) < len(filters):
        raise ValueError(f"its filters (numbers {filters}) are not those that healmpi uses")
    # Whole numbers of any size: the product of damaged lengths may be too large for one of 64 bits.
    claimed, stored = math.prod(one.shape) * one.dtype.itemsize, one.id.get_storage_size()
    if (claimed > SMALL_BYTES and claimed > COMPRESSION_LIMIT * stored) or stored > one.file.id.get_filesize():
        raise ValueError(f"it claims {claimed} bytes and has {stored}")
    check_chunks(one, filters)


_PLAIN_TYPES = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeStringID)


def _check_attribute(attribute: h5py.h5a.AttrID) -> int:
    """Numbers, texts, and what HDF5 notes of dimensions: that alone refers to other objects. How many elements lie in heaps."""
    count, kind = attribute.get_space().get_simple_extent_npoints(), attribute.get_type()
    if count * kind.get_size() > LONGEST_ATTRIBUTE_BYTES:
        raise ValueError(f"its attribute {text(attribute.name)} has {count} elements")
    is_plain = isinstance(kind, _PLAIN_TYPES)
    # Elements of any length can all lead to the same long text.
    if count > MOST_TEXTS and (not is_plain or attribute.dtype.hasobject):
        raise ValueError(f"its attribute {text(attribute.name)} is a list of {count}")
    if not is_plain and not _is_of_dimensions(attribute):
        raise ValueError(f"its attribute {text(attribute.name)} holds {attribute.dtype}, which healmpi does not write")
    in_heap = kind.is_variable_str() if isinstance(kind, h5py.h5t.TypeStringID) else isinstance(kind, h5py.h5t.TypeVlenID)
    return count if in_heap else 0


def _is_of_dimensions(attribute: h5py.h5a.AttrID) -> bool:
    """HDF5 crashes over lists of another type than it takes them for."""
    kind = attribute.dtype
    if kind.names:
        return text(attribute.name) == "REFERENCE_LIST" and h5py.check_ref_dtype(kind[0]) is h5py.Reference and kind[1].kind in "iu"
    listed = h5py.check_vlen_dtype(kind)
    return text(attribute.name) == "DIMENSION_LIST" and listed is not None and h5py.check_ref_dtype(np.dtype(listed)) is h5py.Reference


def root_text(file: h5py.File, name: str) -> str:
    """A text attribute of the root of a file that was not looked at yet; empty: there is none."""
    if name not in file.attrs:
        return ""
    held = file.attrs.get_id(name)
    # All texts of a list may be the longest there is.
    if held.shape != () or h5py.check_string_dtype(held.dtype) is None:
        return ""
    return text(file.attrs[name])


def is_text(table: h5py.Dataset) -> bool:
    """Whether it holds texts of any length, as files have them since schema 1.4."""
    held = h5py.check_string_dtype(table.dtype)
    return held is not None and held.length is None


def blocks(table: h5py.Dataset, start: tuple[int, ...] = ()) -> Iterator[np.ndarray]:
    """Its numbers in C order, about BLOCK_BYTES at a time, of whole chunks where it can be; texts as an array of bytes.

    start: the place on the first axes. Raises ValueError: a text is longer than any."""
    axis, shape = len(start), table.shape
    if table.ndim == 0:
        yield _bounded(table, np.asarray(table[()], table.dtype))
    if table.ndim == 0 or not table.size:
        return
    row = math.prod(shape[axis + 1 :]) * table.dtype.itemsize
    if row > BLOCK_BYTES and axis + 1 < table.ndim:
        for place in range(shape[axis]):
            yield from blocks(table, (*start, place))
        return
    chunk = table.chunks[axis] if table.chunks else 1
    step = TEXT_ROWS if is_text(table) else max(1, BLOCK_BYTES // row // chunk) * chunk
    for place in range(0, shape[axis], step):
        yield _bounded(table, table[(*start, slice(place, place + step))])


def _bounded(table: h5py.Dataset, block: np.ndarray) -> np.ndarray:
    longest = max(map(len, block.flat), default=0) if is_text(table) else 0
    if longest > LONGEST_TEXT_BYTES:
        raise ValueError(f"it holds a text of {longest} bytes")
    return block


class Passed:
    """The digest of a table of numbers whose rows pass by on their way to somebody else: they are read once. worker: computes it."""

    def __init__(self, table: h5py.Dataset, worker: Executor):
        self._table, self._worker = table, worker
        self._found, self._rows = _begun(table), 0
        self._last: Future | None = None

    def add(self, start: int, block: np.ndarray) -> None:
        """Rows from `start` on; only those that follow on the ones before count. Waits for those, so that no more are in memory."""
        if start == self._rows:
            self._wait()
            self._last = self._worker.submit(self._found.update, np.ascontiguousarray(block).data)
            self._rows += len(block)

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def holds(self) -> bool:
        """Whether the table has the digest that was written with it; what did not pass by is read."""
        self._wait()
        return said(self._table) == (self._found.hexdigest() if self._rows == len(self._table) else digest(self._table))


def said(table: h5py.Dataset) -> str:
    """The digest that was written with the table."""
    return _ascii(table.attrs[DIGEST])


def _begun(table: h5py.Dataset) -> Any:
    return hashlib.sha256(f"{_type(table)} {shape_text(table.shape)}\n".encode())


def digest(table: h5py.Dataset) -> str:
    """SHA-256 of a table's type, shape and numbers, in hexadecimal digits; of texts the bytes of each, with a zero byte behind it."""
    found = _begun(table)
    for block in blocks(table):
        found.update(b"".join(one + b"\0" for one in block.flat) if is_text(table) else np.ascontiguousarray(block).data)
    return found.hexdigest()


def root_digest(file: h5py.File, found: dict[str, Any]) -> str:
    """SHA-256 of the names, types, shapes, attributes and digests of all objects, in hexadecimal digits. found: all of them by path."""
    total = hashlib.sha256()
    names = {h5py.h5o.get_info(one.id).addr: path for path, one in found.items()}
    for path, one in found.items():
        if isinstance(one, h5py.Dataset):
            total.update(f"dataset {path} {_type(one)} {shape_text(one.shape)} {said(one)}\n".encode())
        else:
            total.update(f"group {path}\n".encode())
        for name in sorted(set(one.attrs) - {DIGEST, ROOT_DIGEST}):
            total.update(f"attribute {name} {value_text(one.attrs[name], file, names)}\n".encode())
    return total.hexdigest()


def _type(table: h5py.Dataset) -> str:
    return "text" if is_text(table) else table.dtype.str


def shape_text(shape: tuple[int, ...]) -> str:
    """Lengths of the axes; where there is none, `scalar`."""
    return "x".join(map(str, shape)) or "scalar"


def value_text(value: Any, file: h5py.File, names: dict[int, str]) -> str:
    """An attribute's value as text: texts as JSON, numbers by type and bytes, references (of dimensions) by what they lead to.

    names: of all objects, by their place in the file."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, h5py.Reference):
        return json.dumps(names[h5py.h5o.get_info(h5py.h5r.dereference(value, file.id)).addr])
    if isinstance(value, h5py.Empty):
        raise ValueError("an attribute of it is empty")
    array = np.asarray(value)
    if array.dtype.names:
        return "[" + ", ".join(value_text(item, file, names) for row in array.reshape(-1) for item in row) + "]"
    if array.dtype.kind == "O":
        return "[" + ", ".join(value_text(item, file, names) for item in array.reshape(-1)) + "]"
    return f"{array.dtype.str} {shape_text(array.shape)} {array.tobytes().hex()}"


def _ascii(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    return text(str(said).strip().partition("\n")[0]) or type(error).__name__
