"""The audit: all averages of a cycle recomputed serially, from what the clients say they sent to what the clients hold.

Written without a look at the protocol's own averaging: plain loops over float32 arrays, in ascending node order, as the
specification says (heal.md sections 3 and 4). It covers the whole way of a model, transport included, and demands equal bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from healmpi.algorithms.averaging import Exchange
from healmpi.algorithms.central import Round

Rounds = Mapping[int, Round] | Mapping[int, Exchange]


def recompute(cycle: int, rounds: Rounds) -> list[str]:
    """Sentences about every average that does not come out. rounds: node -> what it did in this cycle, all nodes."""
    complaints = []
    for node in sorted(rounds):
        parts = (_peer,) if isinstance(rounds[node], Exchange) else (_hub, _group, _client)
        complaints += [f"cycle {cycle}, node {node}: {text}" for part in parts for text in part(node, rounds)]
    return complaints


def _peer(node: int, rounds: Mapping[int, Exchange]) -> list[str]:
    """An average among equals against what each of them sent."""
    mine = rounds[node]
    missing = [source for source in mine.sources if source not in rounds or rounds[source].sent is None]
    if missing:
        return [f"averaged models of {missing}, which sent none"]
    if mine.result is None:
        return []
    alone = mine.sources == (node,)
    expected = mine.sent if alone else _mean([rounds[source].sent for source in mine.sources], list(mine.weights))
    return [] if _same(expected, mine.result) else [f"average of the models of {list(mine.sources)} differs from the serial one"]


def _mean(vectors: list[np.ndarray], weights: list[int]) -> np.ndarray | None:
    total = sum(weights)
    if total == 0:
        return None
    result = np.zeros(len(vectors[0]), np.float32)
    for vector, weight in zip(vectors, weights, strict=True):
        if weight:
            result = result + np.float32(weight) * vector
    return result / np.float32(total)


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    # Bits, but for the sign of a zero, which the first addition to 0 loses; NaN models are reported elsewhere.
    return np.array_equal(one, other, equal_nan=True)


def _hub(node: int, rounds: Mapping[int, Round]) -> list[str]:
    """A hub's average against what its clients sent."""
    mine = rounds[node]
    missing = [client for client in mine.contributors if client not in rounds or rounds[client].sent is None]
    if missing:
        return [f"averaged models of {missing}, which sent none"]
    sent = [rounds[client].sent for client in mine.contributors]
    expected = _mean(sent, [1] * len(sent)) if sent else None
    return [] if _same(expected, mine.average) else [f"average of the models of {list(mine.contributors)} differs from the serial one"]


def _group(node: int, rounds: Mapping[int, Round]) -> list[str]:
    """A group's average against those of its members."""
    mine = rounds[node]
    if not mine.members:
        alone = mine.result is None or _same(mine.result, mine.average)
        return [] if alone else ["sent out something else than its average without having been in a group"]
    averages = [rounds[member].average for member in mine.members]
    for member, average, weight in zip(mine.members, averages, mine.weights, strict=True):
        if (average is None) != (weight == 0):
            return [f"group member {member} has weight {weight} and {'no' if average is None else 'an'} average"]
    size = next((len(average) for average in averages if average is not None), 0)
    expected = _mean([np.zeros(size, np.float32) if average is None else average for average in averages], list(mine.weights))
    return [] if _same(expected, mine.result) else [f"average of group {list(mine.members)} differs from the serial one"]


def _client(node: int, rounds: Mapping[int, Round]) -> list[str]:
    """What a client holds against what the hubs that answered it sent out, or against its own model if none did."""
    mine = rounds[node]
    if mine.kept is None:
        return []
    results = [rounds[hub].result if hub in rounds else None for hub in mine.answered]
    if any(result is None for result in results):
        return [f"took over models of hubs {list(mine.answered)}, not all of which sent one"]
    expected = _mean(results, [1] * len(results)) if results else mine.sent
    return [] if _same(expected, mine.kept) else [f"holds something else than the average of hubs {list(mine.answered)}"]
