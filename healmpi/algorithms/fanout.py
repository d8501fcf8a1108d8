"""s, the hubs or peers that a node sends its model to: an option that all rules share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from healmpi.settings import option

PEERS_ENOUGH = 10
"""Peers that a node sends to in a cycle where it sends to all, and its topology offers more than it can use."""


def fanout_option() -> Any:
    """The option `rule.fanout`."""
    return option(
        0,
        "s: hubs or peers a node sends its model to. 0: 1, or, where a rule sends to all peers, all of them; 10 where its topology "
        "offers more than it can use.",
        low=0,
        high=1_000_000,
    )


def check_fanout(settings: Any, topology: Any, needs: str) -> None:
    """Raise UsageError if there are never so many hubs or peers. needs: node.HUBS or node.PEERS."""
    most = topology.most_targets(needs)
    if most is not None and settings.fanout > most[0]:
        raise settings.refusal("fanout", most[1])


def chosen(peers: Sequence[int], fanout: int, rng: Any) -> Sequence[int]:
    """`fanout` of the peers at random, or all of them where they are no more; 0: all."""
    return peers if not 0 < fanout < len(peers) else sorted(rng.sample(peers, fanout))
