"""Clocks: when a message that is sent now may be delivered.

Lockstep    time is ticks, and all ranks end each together; what is sent in a tick is due in the next one
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A rank's sense of time."""

    def due(self, tick: int) -> int:
        """When a message that is sent at `tick` may be delivered; later than that."""


class Lockstep:
    """Every message takes one tick."""

    def due(self, tick: int) -> int:
        return tick + 1
