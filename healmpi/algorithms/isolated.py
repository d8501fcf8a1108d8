"""No exchange: each node trains its own model on its own shard, once a cycle.

On one node with all data this is the central baseline, the upper line of a comparison; on many nodes, each with its shard, what a node
reaches without the others: the lower line.
"""

from __future__ import annotations

from typing import ClassVar

from healmpi.algorithms.records import PeerRecord
from healmpi.messages import Kind
from healmpi.node import NEVER, Action, Rule, Setup, Train, Trained


class Isolated(Rule):
    """Train, and send nothing."""

    name: ClassVar[str] = "isolated"
    kinds: ClassVar[tuple[Kind, ...]] = ()
    ticks: ClassVar[int] = 0

    def __init__(self, setup: Setup):
        super().__init__(setup)
        # Nothing is averaged, so there is nothing that the audit could object to.
        self.record = PeerRecord()

    def begin(self, tick: int, cycle: int) -> list[Action]:
        self.wake = NEVER
        return [Train(self.model)]

    def trained(self, event: Trained) -> list[Action]:
        self.model = event.model
        return []
