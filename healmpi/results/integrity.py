"""What a finished results file says of itself, and whether it still holds: SHA-256 of each dataset, and one of all that names them.

    seal(file)             each dataset gets an attribute `sha256`, the root `root_sha256`
    check(file, path, ...)   every object is plain, every digest holds; else ResultsError names the first table that is wrong

The recipe is in docs/results-format.md; healmpi_analysis follows it on its own, as it imports nothing of healmpi.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.results.schema import ResultsError

DIGEST, ROOT_DIGEST = "sha256", "root_sha256"

BLOCK_BYTES = 16 * 1024 * 1024
"""How much of a dataset is in memory at a time."""

MOST_OBJECTS, DEEPEST, MOST_ATTRIBUTES, MOST_TEXTS = 10_000, 8, 1_000, 1_000
"""In a file; groups in groups; of an object; in an attribute that is a list."""

LONGEST_ATTRIBUTE_BYTES = 64 * 1024 * 1024

LONGEST_LIST_BYTES = 256 * 1024 * 1024
"""Of texts of any length in an attribute, if each were the longest one of the file: all can lead to the same."""

LONGEST_TEXT_BYTES = 1024
"""Of a text in a table; those in attributes have any length."""

_TEXT = np.dtype([("length", "<u4"), ("place", "<u8"), ("number", "<u4")])
"""How HDF5 notes a text of any length where the table is: bytes, and where they are in a heap."""

TEXTS_AT_ONCE = 1024 * 1024

LARGEST_CHUNK_BYTES, LARGEST_BLIND_BYTES = 16 * 1024 * 1024, 1024 * 1024
"""HDF5 holds a chunk in memory as a whole, and whatever a compressed one becomes: up to 1032 times its bytes on disk. So one that may be
longer than the second number is looked at before: up to schema 1.1 models were compressed as a whole."""

COMPRESSION_LIMIT = 1100
"""Of deflate, 1032: a dataset that claims to hold more than so many times its bytes on disk holds nothing."""

KNOWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}

DIMENSIONS = {"DIMENSION_LIST", "REFERENCE_LIST"}
"""The attributes in which HDF5 notes which dimensions a table has: the only ones that refer to other objects."""

Names = dict[int, str]
"""Paths of objects by their address in the file."""

FAULTS = (LookupError, OSError, RuntimeError, AttributeError, TypeError, ValueError, MemoryError, ArithmeticError)
"""What h5py raises where bytes are not what HDF5 wrote."""


class Damage(ResultsError):
    """A file that is not what was written. table: the first object that is wrong."""

    def __init__(self, path: Path, table: str, why: str):
        super().__init__(f"{path} is damaged: {printable(table)} {printable(why)}")
        self.table = table


def seal(file: h5py.File, known: Mapping[str, str] | None = None) -> None:
    """Write the digests of all that is in the file. Nothing may be changed afterwards. known: digests of tables. Raises OSError."""
    known = known or {}
    for path, one in objects(file):
        if isinstance(one, h5py.Dataset):
            one.attrs[DIGEST] = np.bytes_(known.get(path) or digest(one))
    file.attrs[ROOT_DIGEST] = np.bytes_(root_digest(file))


def is_sealed(file: h5py.File) -> bool:
    """Files of schema 1.4 and before are not."""
    return ROOT_DIGEST in file.attrs


def check(file: h5py.File, path: Path, longest: int, digests: bool = True) -> dict[str, Any]:
    """All objects by path, the root as '/'. Raises Damage: one is no plain one, or a digest does not hold.

    longest: see check_plain. digests: False looks at the objects alone, and reads no numbers; so it is for a file that is not sealed.
    """
    table, found, total = "/", {}, hashlib.sha256()
    try:
        digests = digests and is_sealed(file)
        for table, one in objects(file):
            found[table] = one
        names = _names(found) if digests else {}
        for table, one in found.items():
            check_plain(one, longest)
            if digests and isinstance(one, h5py.Dataset) and _text(one.attrs[DIGEST]) != digest(one):
                raise Damage(path, table, "does not have the SHA-256 that was written with it")
            if digests:
                total.update(_described(names, table, one))
        table = "/"
        if digests and _text(file.attrs[ROOT_DIGEST]) != total.hexdigest():
            raise Damage(path, table, "and what names and describes its tables do not have the SHA-256 that was written with them")
        return found
    except FAULTS as error:
        raise Damage(path, table, f"cannot be read ({first_line(error)})") from None


def root_text(file: h5py.File, name: str) -> str:
    """A text attribute of the root of a file that was not looked at yet; empty: there is none. h5py crashes over damaged types."""
    if name not in file.attrs:
        return ""
    attribute = file.attrs.get_id(name)
    if not isinstance(attribute.get_type(), h5py.h5t.TypeStringID) or attribute.shape != ():
        return ""
    value = file.attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """The root and all below, by path: parents first. Raises ValueError: a link that leads elsewhere, or too much."""
    waiting: list[tuple[str, Any]] = [("/", file)]
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


def check_plain(one: h5py.Group | h5py.Dataset, longest: int) -> None:
    """Raises ValueError: what healmpi does not write, and what could read other files or take more memory than there is.

    longest: bytes of the longest text in a heap of the file, see heaps.py.
    """
    if len(one.attrs) > MOST_ATTRIBUTES:
        raise ValueError(f"it has {len(one.attrs)} attributes")
    for name in one.attrs:
        _check_attribute(name, one.attrs.get_id(name), longest)
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
    claimed, stored = one.nbytes, one.id.get_storage_size()
    if (claimed > 1024 * 1024 and claimed > COMPRESSION_LIMIT * stored) or stored > one.file.id.get_filesize():
        raise ValueError(f"it claims {claimed} bytes and has {stored}")
    if is_text(one):
        _check_texts(one)
    _check_chunks(one, filters)


def is_text(table: h5py.Dataset) -> bool:
    """Whether it holds texts of any length, as merged files do since schema 1.4."""
    return table.dtype.hasobject and h5py.check_string_dtype(table.dtype) is not None


def _check_texts(table: h5py.Dataset) -> None:
    """HDF5 takes as much memory as a text says to be long, before it looks where it is."""
    if table.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        raise ValueError("its texts are not in one piece, as healmpi writes them")
    place = table.id.get_offset()
    if place is None or not table.size:
        return
    with open(table.file.filename, "rb") as stream:
        stream.seek(place)
        for start in range(0, table.size, TEXTS_AT_ONCE):
            count = min(TEXTS_AT_ONCE, table.size - start)
            found = np.frombuffer(stream.read(count * _TEXT.itemsize), _TEXT)
            most = int(found["length"].max(initial=0))
            if most > LONGEST_TEXT_BYTES:
                raise ValueError(f"a text in it has {most} bytes")


_PLAIN_TYPES = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeStringID)


def _check_attribute(name: str, attribute: h5py.h5a.AttrID, longest: int) -> None:
    """Numbers, texts, and what HDF5 notes of dimensions: that alone refers to other objects."""
    count, kind = math.prod(attribute.shape), attribute.get_type()
    if count * kind.get_size() > LONGEST_ATTRIBUTE_BYTES:
        raise ValueError(f"its attribute {name} has {count} elements")
    is_plain = isinstance(kind, _PLAIN_TYPES)
    # Elements of any length can all lead to the same long text.
    if count > MOST_TEXTS and (not is_plain or attribute.dtype.hasobject):
        raise ValueError(f"its attribute {name} is a list of {count}")
    if is_plain and attribute.dtype.hasobject and count * longest > LONGEST_LIST_BYTES:
        raise ValueError(f"its attribute {name} is a list of {count} texts, which may have {longest} bytes each")
    if not is_plain and not _is_of_dimensions(name, attribute.dtype):
        raise ValueError(f"its attribute {name} holds {attribute.dtype}, which healmpi does not write")


def _is_of_dimensions(name: str, kind: np.dtype) -> bool:
    """HDF5 crashes over lists of another type than it takes them for."""
    if kind.names:
        return name == "REFERENCE_LIST" and h5py.check_ref_dtype(kind[0]) is h5py.Reference and kind[1].kind in "iu"
    listed = h5py.check_vlen_dtype(kind)
    return name == "DIMENSION_LIST" and listed is not None and h5py.check_ref_dtype(np.dtype(listed)) is h5py.Reference


def _check_chunks(table: h5py.Dataset, filters: Sequence[int]) -> None:
    if table.chunks is None:
        return
    size = math.prod(table.chunks) * table.id.get_type().get_size()
    if size > LARGEST_CHUNK_BYTES:
        raise ValueError(f"its chunks have {size} bytes each")
    # What is compressed is never much longer than it was, and what is longer could become anything.
    most = size + size // 64 + 1024
    found: list[tuple[int, tuple[int, ...]]] = []
    if hasattr(table.id, "chunk_iter"):  # of HDF5 1.12.3 and later
        table.id.chunk_iter(lambda chunk: found.append((chunk.size, chunk.chunk_offset)))
    longest = max((stored for stored, _ in found), default=0)
    if longest > most:
        raise ValueError(f"a chunk of {size} bytes has {longest} on disk")
    if table.compression is not None and size > LARGEST_BLIND_BYTES:
        for _, place in found:
            _check_inflated(table, place, size, filters)


def _check_inflated(table: h5py.Dataset, place: tuple[int, ...], size: int, filters: Sequence[int]) -> None:
    """That a chunk becomes no more than it should, found without becoming it. A checksum follows on it, inside or outside."""
    skipped, packed = table.id.read_direct_chunk(place)
    packs = not skipped >> filters.index(h5py.h5z.FILTER_DEFLATE) & 1
    try:
        longer = packs and len(zlib.decompressobj().decompress(packed, size + 5)) > size + 4
    except zlib.error as error:
        raise ValueError(f"a chunk of {size} bytes cannot be inflated ({error})") from None
    if longer:
        raise ValueError(f"a chunk of {size} bytes becomes more than that")


def begin(dataset: h5py.Dataset) -> Any:
    """The hash of a dataset's type and shape, to be updated with all its numbers in C order."""
    return hashlib.sha256(f"{_type(dataset)} {_shape(dataset)}\n".encode())


def digest(dataset: h5py.Dataset) -> str:
    """SHA-256 of a dataset's type, shape and numbers, in hexadecimal digits; of texts the bytes of each, with a zero byte behind it."""
    found = begin(dataset)
    for block in blocks(dataset):
        if block.dtype.hasobject:
            found.update(b"".join(text + b"\0" for text in block.flat))
        else:
            found.update(np.ascontiguousarray(block).data)
    return found.hexdigest()


def blocks(dataset: h5py.Dataset, start: tuple[int, ...] = ()) -> Iterator[np.ndarray]:
    """Its numbers in C order, about BLOCK_BYTES at a time, of whole chunks where it can be. start: the place on the first axes."""
    axis, shape = len(start), dataset.shape
    if dataset.ndim == 0:
        yield np.asarray(dataset[()], dataset.dtype)
    if dataset.ndim == 0 or not dataset.size:
        return
    row = math.prod(shape[axis + 1 :]) * (LONGEST_TEXT_BYTES if is_text(dataset) else dataset.dtype.itemsize)
    if row > BLOCK_BYTES and axis + 1 < dataset.ndim:
        for place in range(shape[axis]):
            yield from blocks(dataset, (*start, place))
        return
    chunk = dataset.chunks[axis] if dataset.chunks else 1
    step = max(1, BLOCK_BYTES // row // chunk) * chunk
    for place in range(0, shape[axis], step):
        yield dataset[(*start, slice(place, place + step))]


def root_digest(file: h5py.File) -> str:
    """SHA-256 of the names, types, shapes, attributes and digests of all objects, in hexadecimal digits."""
    found, total = dict(objects(file)), hashlib.sha256()
    names = _names(found)
    for path, one in found.items():
        total.update(_described(names, path, one))
    return total.hexdigest()


def _names(found: Mapping[str, Any]) -> Names:
    """What the references among the attributes lead to. HDF5 would look for the name through all of the file."""
    return {h5py.h5o.get_info(one.id).addr: path for path, one in found.items()}


def _described(names: Names, path: str, one: h5py.Group | h5py.Dataset) -> bytes:
    """The lines of an object. Raises ValueError: a text in it is not UTF-8."""
    is_table = isinstance(one, h5py.Dataset)
    lines = [f"dataset {path} {_type(one)} {_shape(one)} {_text(one.attrs[DIGEST])}" if is_table else f"group {path}"]
    lines += [f"attribute {name} {_value(one, names, one.attrs[name])}" for name in sorted(set(one.attrs) - {DIGEST, ROOT_DIGEST})]
    return "\n".join([*lines, ""]).encode()


def _type(dataset: h5py.Dataset) -> str:
    return "text" if dataset.dtype.hasobject else dataset.dtype.str


def _shape(dataset: h5py.Dataset) -> str:
    return "x".join(map(str, dataset.shape)) or "scalar"


def _value(one: h5py.Group | h5py.Dataset, names: Names, value: Any) -> str:
    """An attribute's value as text: texts as JSON, numbers by type and bytes, references (of dimensions) by what they lead to."""
    if isinstance(value, str):
        value.encode()  # of bytes that are not UTF-8 h5py makes what cannot be encoded
        return json.dumps(value)
    if isinstance(value, h5py.Reference):
        return json.dumps(names[h5py.h5o.get_info(h5py.h5r.dereference(value, one.id)).addr])
    array = np.asarray(value)
    if isinstance(value, h5py.Empty):
        raise ValueError("an attribute of it is empty")
    if array.dtype.names:
        return "[" + ", ".join(_value(one, names, item) for row in array.reshape(-1) for item in row) + "]"
    if array.dtype.kind == "O":
        return "[" + ", ".join(_value(one, names, item) for item in array.reshape(-1)) + "]"
    return f"{array.dtype.str} {'x'.join(map(str, array.shape)) or 'scalar'} {array.tobytes().hex()}"


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def is_utf8(text: str | bytes) -> bool:
    """h5py makes of bytes that are not UTF-8 a text that cannot be encoded."""
    try:
        text.encode() if isinstance(text, str) else text.decode()
    except UnicodeError:
        return False
    return True


def table_of(text: str) -> dict[str, Any]:
    """A configuration's JSON. Raises ValueError: it is none; numbers that JSON does not know are none either."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    table = json.loads(text, parse_constant=refuse)
    if not isinstance(table, dict) or not all(isinstance(section, dict) for section in table.values()):
        raise ValueError("it is not made of sections")
    return table


def printable(text: str, most: int | None = 300) -> str:
    """The text with nothing in it that would move a cursor, and bounded: names in a file can be anything."""
    return "".join(one if one.isprintable() else "?" for one in text[:most])


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
