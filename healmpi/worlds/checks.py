"""`results.wire_checks`: a CRC-32 and a number behind each message that goes over MPI, a CRC-32 behind each slice of a reduction.

Networks have checksums of their own, and still some links deliver other bits than were sent. What is wrong here is told and makes a
run INVALID; it is not sent again, as that would hide how often it happens.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from healmpi.worlds.world import Facts

TRAILER = struct.Struct("<II")
"""CRC-32 of all bytes before the trailer; number of the message, counted from 0 from that rank to that rank."""

MOST_TOLD = 20
"""Sentences that are kept; all are counted."""

ERRORS = "wire_errors"
"""The count's name among the facts about ranks."""

BYTES = TRAILER.size


class WireChecks:
    """One rank's. facts: what is wrong is counted and told there."""

    def __init__(self, rank: int, facts: Facts):
        self._rank, self._facts = rank, facts
        facts.add(ERRORS, 0)
        self._sent: Counter[int] = Counter()
        self._received: Counter[int] = Counter()

    def sealed(self, pieces: Sequence[Any], target: int) -> bytes:
        """A message with its trailer. pieces: of it, bytes of any kind. target: the rank that it goes to."""
        number = self._sent[target]
        self._sent[target] = number + 1
        crc = functools.reduce(lambda found, piece: zlib.crc32(piece, found), pieces, 0)
        return b"".join((*pieces, TRAILER.pack(crc, number & 0xFFFFFFFF)))

    def opened(self, buffer: Any, source: int) -> Any:
        """The message without its trailer; None: it is not what was sent, and lost. buffer: bytes. source: the rank that it came from."""
        number = self._received[source]
        self._received[source] = number + 1
        size = len(buffer) - BYTES
        if size >= 0 and TRAILER.unpack_from(buffer, size) == (zlib.crc32(memoryview(buffer)[:size]), number & 0xFFFFFFFF):
            return buffer[:size]
        self.tell(f"message {number} from rank {source}")
        return None

    def tell(self, what: str) -> None:
        """Remember that this is not what was sent."""
        self._facts.add(ERRORS)
        if len(self._facts.faults) < MOST_TOLD:
            self._facts.faults.append(f"rank {self._rank} received {what} with other bits than it was sent with (results.wire_checks)")


def with_sum(values: np.ndarray) -> np.ndarray:
    """float32 [n] -> float32 [n + 1]: the last has the bits of the others' CRC-32."""
    return np.append(values, np.array([zlib.crc32(np.ascontiguousarray(values).data)], np.uint32).view(np.float32))


def holds(values: np.ndarray) -> bool:
    """Whether float32 [n + 1] is what `with_sum` gave. values: contiguous."""
    return zlib.crc32(values[:-1].data) == int(values[-1:].view(np.uint32)[0])
