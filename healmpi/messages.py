"""The vocabulary of the protocol: what one node can say to another.

A message is small and immutable. Its payload is None, a tuple of ids, or a float32 vector that nobody changes after it
was sent, so that within a process it travels by reference. The rule that surprises: `number` is the only scalar a
message carries; its meaning belongs to the kind.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

HEADER_BYTES = 32
"""Size of the fixed header in front of every payload on the wire, in bytes (worlds/wire.py)."""


class Kind(IntEnum):
    """Message kinds; the values are part of the wire and results formats."""

    CACHE_REQUEST = 0  # Elevator: may I have your view?
    CACHE_REPLY = 1  # Elevator: my view (ids)
    BACKWARD_REQUEST = 2  # Elevator: who has asked you lately?
    BACKWARD_REPLY = 3  # Elevator: these (ids)
    MODEL = 4  # a node's model for a hub, a server or a peer (vector; gossip: number: its age)
    GLOBAL_MODEL = 5  # a hub's or server's global model for a client (vector)
    GROUP_PROPOSE = 6  # hub group: join me? (number: attempt)
    GROUP_PROMISE = 7  # hub group: yes (number: weight of my average)
    GROUP_COMMIT = 8  # hub group: this is it (member ids, then their weights; number: 2 * epoch + reused)
    GROUP_REDUCTION = 9  # never sent: the reduction's traffic, counted as its point-to-point equivalent
    NEWS_REQUEST = 10  # Newscast: my view, and may I have yours? (id, cycle, id, cycle, ...)
    NEWS_REPLY = 11  # Newscast: my view (the same)


KINDS = tuple(kind.name.lower() for kind in Kind)


class Message(NamedTuple):
    """One protocol message.

    kind: Kind or its int value. source, target: node ids. cycle: the sender's cycle. tick: when it was sent.
    payload: None | tuple[int, ...] | float32 ndarray [size]. number: int, see Kind.
    """

    kind: int
    source: int
    target: int
    cycle: int
    tick: int
    payload: tuple[int, ...] | np.ndarray | None = None
    number: int = 0


def wire_bytes(message: Message) -> int:
    """Bytes of the message on the wire: header and 4 bytes an id or float."""
    payload = message.payload
    return HEADER_BYTES if payload is None else HEADER_BYTES + 4 * len(payload)
