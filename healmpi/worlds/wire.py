"""How a message looks on the wire: a fixed header of 32 bytes, then 4 bytes an id or a float, little-endian.

    offset  0  1  2      4       8       12     16    20       28     32
            kind  -      source  target  cycle  tick  number   due    payload ...
               payload type: 0 none, 1 ids (int32), 2 vector (float32)

How many values there are is told by the length of the message, which MPI knows. A decoded vector is a view into the received
buffer, so nothing is copied; the buffer is never used again.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

import numpy as np

from healmpi.messages import HEADER_BYTES, KIND_OF, Message

HEADER = struct.Struct("<BBHiiiiqi")
assert HEADER.size == HEADER_BYTES

NONE, IDS, VECTOR = 0, 1, 2
WITH_VALUES = (IDS, VECTOR)

FLOAT32 = np.dtype(np.float32)

_message = functools.partial(tuple.__new__, Message)
"""A message out of the tuple of its fields; half of what Message(...) costs."""


class WireError(ValueError):
    """A buffer that is no message."""


@functools.lru_cache(maxsize=4096)
def _ids(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}i")


def header(message: Message, due: int) -> bytes:
    """The 32 bytes in front of the message's payload. due: when it may be delivered."""
    kind, source, target, cycle, tick, payload, number = message
    if payload is None:
        return HEADER.pack(kind, NONE, 0, source, target, cycle, tick, number, due)
    form = IDS if type(payload) is tuple else VECTOR
    return HEADER.pack(kind, form, 0, source, target, cycle, tick, number, due)


def encode(message: Message, due: int) -> bytes:
    """The message as one contiguous buffer. A transport that can send from two places spares the copy of a vector."""
    return b"".join(pieces(message, due))


def pieces(message: Message, due: int) -> tuple[Any, ...]:
    """What the buffer is made of, bytes of any kind: a vector is not copied yet."""
    payload = message[5]
    if payload is None:
        return (header(message, due),)
    return header(message, due), _ids(len(payload)).pack(*payload) if type(payload) is tuple else payload.data


def decode(buffer: Any) -> tuple[int, Message]:
    """When the message in a buffer of exactly its size is due, and the message. buffer: bytes of any kind. Raises WireError."""
    size = len(buffer)
    if size < HEADER_BYTES:
        raise WireError(f"{size} bytes are less than a header")
    kind, form, _, source, target, cycle, tick, number, due = HEADER.unpack_from(buffer)
    # What is no kind of the protocol is the harness's own.
    kind = KIND_OF.get(kind, kind)
    if form == NONE and size == HEADER_BYTES:
        return due, _message((kind, source, target, cycle, tick, None, number))
    if size & 3 or form not in WITH_VALUES:
        raise WireError(f"{size} bytes do not hold a header and values of type {form}")
    if form == IDS:
        ids = _ids((size - HEADER_BYTES) >> 2).unpack_from(buffer, HEADER_BYTES)
        return due, _message((kind, source, target, cycle, tick, ids, number))
    # numpy takes twice as long over keywords, and over the flag as an attribute.
    vector = np.frombuffer(buffer, FLOAT32, -1, HEADER_BYTES)
    vector.setflags(write=False)
    return due, _message((kind, source, target, cycle, tick, vector, number))
