"""The audit: all averages of a cycle recomputed serially, from what the nodes say they sent to what they hold.

What is recomputed is declared with each record (algorithms/records.py), and how with each averaging rule; both demand equal bits.
"""

from __future__ import annotations

from healmpi.algorithms.averaging import Average
from healmpi.algorithms.records import Records


def recompute(cycle: int, records: Records, average: Average) -> list[str]:
    """Sentences about every average that does not come out. records: of all nodes in this cycle."""
    return [f"cycle {cycle}, node {node}: {text}" for node in sorted(records) for text in records[node].objections(node, records, average)]
