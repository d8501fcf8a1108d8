"""How a message looks on the wire: a fixed header of 32 bytes, then 4 bytes an id or a float, little-endian.

    offset  0  1  2      4       8       12     16    20       28     32
            kind  -      source  target  cycle  tick  number   count  payload ...
               payload type: 0 none, 1 ids (int32), 2 vector (float32)

The rule that surprises: a decoded vector is a view into the received buffer, so nothing is copied; the buffer is never
used again.
"""

from __future__ import annotations

import functools
import struct

import numpy as np

from healmpi.messages import HEADER_BYTES, Message

HEADER = struct.Struct("<BBHiiiiqI")
assert HEADER.size == HEADER_BYTES

NONE, IDS, VECTOR = 0, 1, 2


class WireError(ValueError):
    """A buffer that is no message."""


@functools.lru_cache(maxsize=4096)
def _ids(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}i")


def header(message: Message) -> bytes:
    """The 32 bytes in front of the message's payload."""
    kind, source, target, cycle, tick, payload, number = message
    if payload is None:
        return HEADER.pack(kind, NONE, 0, source, target, cycle, tick, number, 0)
    form = IDS if type(payload) is tuple else VECTOR
    return HEADER.pack(kind, form, 0, source, target, cycle, tick, number, len(payload))


def encode(message: Message) -> bytes:
    """The message as one contiguous buffer. A transport that can send from two places spares the copy of a vector."""
    payload = message[5]
    if payload is None:
        return header(message)
    return header(message) + (_ids(len(payload)).pack(*payload) if type(payload) is tuple else payload.tobytes())


def decode(buffer: np.ndarray | bytes | bytearray | memoryview) -> Message:
    """The message in a buffer of exactly its size. Raises WireError."""
    if len(buffer) < HEADER_BYTES:
        raise WireError(f"{len(buffer)} bytes are less than a header")
    kind, form, _, source, target, cycle, tick, number, count = HEADER.unpack_from(buffer)
    if form == NONE and len(buffer) == HEADER_BYTES:
        return Message(kind, source, target, cycle, tick, None, number)
    if len(buffer) != HEADER_BYTES + 4 * count or form not in (IDS, VECTOR):
        raise WireError(f"{len(buffer)} bytes do not hold {count} values of type {form}")
    if form == IDS:
        return Message(kind, source, target, cycle, tick, _ids(count).unpack_from(buffer, HEADER_BYTES), number)
    vector = np.frombuffer(buffer, dtype=np.float32, offset=HEADER_BYTES)
    vector.flags.writeable = False
    return Message(kind, source, target, cycle, tick, vector, number)
