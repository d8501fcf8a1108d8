"""A file that holds plain data and arrays (state.py), and notices when a bit of it has changed.

    magic       16 bytes, "healmpi state 3\\n"
    lengths     of the JSON and of the arrays, in bytes: two whole numbers of 64 bits, the lower byte first
    JSON        the data, ASCII
    arrays      their bytes, one after another in the order of the JSON
    digest      SHA-256 of all that stands before, 32 bytes

A reader believes nothing before the digest fits, and takes no more memory than the file has bytes. Whatever the file holds, reading it
makes numbers, texts and containers, and runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from healmpi import state
from healmpi.results.folder import OWN_FILE, write_whole

MAGIC = b"healmpi state 3\n"
HEAD = struct.Struct("<16sQQ")
DIGEST_BYTES = hashlib.sha256().digest_size
BLOCK_BYTES = 2**20


class Damaged(ValueError):
    """It is not what was written; the text says in what."""


def write(path: Path, value: Any) -> str:
    """Write it whole or not at all. Returns the digest, in hexadecimal digits. Raises OSError; NotPlain, RecursionError as state.encode."""
    tree, arrays = state.encode(value)
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode("ascii")
    head = HEAD.pack(MAGIC, len(text), sum(array.nbytes for array in arrays))
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes | memoryview]:
        yield from (head, text)
        for array in arrays:
            yield _bytes_of(array)

    def whole() -> Iterator[bytes | memoryview]:
        for piece in pieces():
            digest.update(piece)
            yield piece
        yield digest.digest()

    write_whole(path, whole())
    return digest.hexdigest()


def read(path: Path, digest: str | None = None) -> Any:
    """What was written. digest: that `write` gave; None: any. Raises OSError, Damaged."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | OWN_FILE)) as file:
        place = os.fstat(file.fileno())
        if not stat.S_ISREG(place.st_mode):
            raise Damaged("it is no file")
        size = place.st_size
        text_bytes, array_bytes = _lengths(file, size)
        found = _checked_digest(file, size)
        if digest not in (None, found):
            raise Damaged("it is of another moment or another run than its index")
        file.seek(HEAD.size)
        try:
            return _value(file, text_bytes, array_bytes)
        except (ValueError, TypeError, LookupError, RecursionError, OverflowError) as error:
            raise Damaged(f"it holds no state ({error})") from None


def _lengths(file: IO[bytes], size: int) -> tuple[int, int]:
    head = file.read(HEAD.size)
    if head[: len(MAGIC)] != MAGIC:
        raise Damaged("it does not begin as a state does")
    if size < HEAD.size + DIGEST_BYTES:
        raise Damaged(f"it is cut off after {size} bytes")
    _, text_bytes, array_bytes = HEAD.unpack(head)
    told = HEAD.size + text_bytes + array_bytes + DIGEST_BYTES
    if told != size:
        raise Damaged(f"it has {size} bytes, and its head says {told}")
    return text_bytes, array_bytes


def _checked_digest(file: IO[bytes], size: int) -> str:
    file.seek(0)
    digest, left = hashlib.sha256(), size - DIGEST_BYTES
    while left > 0 and (block := file.read(min(left, BLOCK_BYTES))):
        digest.update(block)
        left -= len(block)
    if file.read(DIGEST_BYTES) != digest.digest():
        raise Damaged("it does not have the SHA-256 that was written with it")
    return digest.hexdigest()


def _value(file: IO[bytes], text_bytes: int, array_bytes: int) -> Any:
    """The value after the head. Its digest holds: all this would fail for what was written by something else."""
    tree, left = json.loads(file.read(text_bytes)), array_bytes

    def take(kind: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        nonlocal left
        needed = math.prod(shape) * kind.itemsize
        if needed > left:
            raise ValueError(f"an array of {needed} bytes, where {left} are left")
        left -= needed
        array = np.empty(shape, kind, order=order)  # type: ignore[call-overload]  # 'C' or 'F'
        if needed and file.readinto(_bytes_of(array)) != needed:  # type: ignore[attr-defined]  # buffered files have it
            raise ValueError("the file has become shorter")
        return array

    value = state.decode(tree, take)
    if left:
        raise ValueError(f"{left} bytes are left over")
    return value


def _bytes_of(array: np.ndarray) -> memoryview:
    """An array's own bytes, of one that is contiguous in either order; a copy of others'."""
    inner = array.T if array.flags.f_contiguous else np.ascontiguousarray(array)
    return inner.reshape(-1).view(np.uint8).data
