"""What a node did in a round, for the audit: which models it averaged, and what came out. With each record its check.

A rule puts one of these into `record`; the audit gathers those of all nodes and asks each what it objects to. Everything is
recomputed from what the nodes say they *sent*, so the whole way of a model is covered, transport included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from healmpi.algorithms.averaging import Average

Records = Mapping[int, Any]
"""Node -> its record, all nodes of the run that have one."""


class PeerRecord(NamedTuple):
    """A round among equals. Vectors are float32 [size] or None.

    sent: the model it offered to others. sources, weights: whose models it averaged, ascending, its own included. result.
    """

    sent: np.ndarray | None = None
    sources: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    result: np.ndarray | None = None

    def objections(self, node: int, records: Records, average: Average) -> list[str]:
        """Sentences about what does not come out."""
        missing = _missing(self.sources, records, "sent")
        if missing:
            return [f"averaged models of {missing}, which sent none"]
        if self.result is None:
            return []
        alone = self.sources == (node,)
        expected = self.sent if alone else average.serial(_sent(self.sources, records), self.weights)
        return [] if same(expected, self.result) else [f"average of the models of {list(self.sources)} differs from the serial one"]


class CentralRecord(NamedTuple):
    """A round with hubs. Vectors are float32 [size] or None."""

    sent: np.ndarray | None = None  # client: the model it sent
    counts: int = 1  # client: how often that is to be counted
    contributors: tuple[int, ...] = ()  # hub: whose models it averaged
    average: np.ndarray | None = None  # hub: their average
    weight: int = 0  # hub: what that counts among hubs
    members: tuple[int, ...] = ()  # hub: the group it averaged in
    weights: tuple[int, ...] = ()
    result: np.ndarray | None = None  # hub: the global model it sent out
    answered: tuple[int, ...] = ()  # client: the hubs whose answers it averaged
    kept: np.ndarray | None = None  # client: the model it holds after the round

    def objections(self, node: int, records: Records, average: Average) -> list[str]:
        """Sentences about what does not come out."""
        return [*self._of_hub(records, average), *self._of_group(records, average), *self._of_client(records, average)]

    def _of_hub(self, records: Records, average: Average) -> list[str]:
        """A hub's average against what its clients sent."""
        missing = _missing(self.contributors, records, "sent")
        if missing:
            return [f"averaged models of {missing}, which sent none"]
        sent = _sent(self.contributors, records)
        expected = average.serial(sent, [records[one].counts for one in self.contributors]) if sent else None
        return [] if same(expected, self.average) else [f"average of the models of {list(self.contributors)} differs from the serial one"]

    def _of_group(self, records: Records, average: Average) -> list[str]:
        """A group's average against those of its members."""
        if not self.members:
            alone = self.result is None or same(self.result, self.average)
            return [] if alone else ["sent out something else than its average without having been in a group"]
        averages = [records[member].average for member in self.members]
        for member, one, weight in zip(self.members, averages, self.weights, strict=True):
            if (one is None) != (weight == 0):
                return [f"group member {member} has weight {weight} and {'no' if one is None else 'an'} average"]
            if weight != records[member].weight:
                return [f"group member {member} has weight {weight} here, and said {records[member].weight}"]
        size = next((len(one) for one in averages if one is not None), 0)
        expected = average.serial([np.zeros(size, np.float32) if one is None else one for one in averages], self.weights)
        return [] if same(expected, self.result) else [f"average of group {list(self.members)} differs from the serial one"]

    def _of_client(self, records: Records, average: Average) -> list[str]:
        """What a client holds against what the hubs that answered it sent out, or against its own model if none did."""
        if self.kept is None:
            return []
        if _missing(self.answered, records, "result"):
            return [f"took over models of hubs {list(self.answered)}, not all of which sent one"]
        results = [records[hub].result for hub in self.answered]
        # One answer is taken over as it is.
        expected = (average.serial(results, [1] * len(results)) if len(results) > 1 else results[0]) if results else self.sent
        return [] if same(expected, self.kept) else [f"holds something else than the average of hubs {list(self.answered)}"]


def _missing(nodes: Sequence[int], records: Records, what: str) -> list[int]:
    return [node for node in nodes if node not in records or getattr(records[node], what, None) is None]


def _sent(nodes: Sequence[int], records: Records) -> list[np.ndarray]:
    return [records[node].sent for node in nodes]


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Equal bits, but for the sign of a zero, which the first addition to 0 loses; NaN models are reported elsewhere."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=True)
