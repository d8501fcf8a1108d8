"""What happened on one rank in one cycle, counted and timed, until it is written.

Times: `train` and `group` belong to a node; `messaging` is a node's own handling of messages plus its even share of what
the rank's transport took; `wait` and `harness` are the node's even share of the rank's. Over all nodes of a rank they
add up to the rank's wall time. The rule that surprises: a node's counters go on while it is silent, since what arrives at
a shut door must be counted.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from healmpi.messages import KINDS, Kind, Message, wire_bytes
from healmpi.node import GroupReport
from healmpi.results.schema import GROUP_OUTCOMES, PHASES
from healmpi.results.writer import CycleRows, FaultRow, GroupRow

TRAIN, MESSAGING, WAIT, GROUP, HARNESS, EVALUATION = range(len(PHASES))


class Traffic:
    """Messages and bytes by hosted node and kind, in this cycle. Plain lists: one is added to per message."""

    def __init__(self, first: int, count: int):
        self._first, self._count = first, count
        self.clear()

    def clear(self) -> None:
        empty = [0] * len(KINDS)
        self.out, self.into, self.dropped, self.bytes_out, self.bytes_in = ([empty[:] for _ in range(self._count)] for _ in range(5))

    def sent(self, message: Message) -> None:
        index, kind = message[1] - self._first, message[0]
        self.out[index][kind] += 1
        self.bytes_out[index][kind] += wire_bytes(message)

    def accepted(self, node: int, messages: Sequence[Message]) -> None:
        into, bytes_in = self.into[node - self._first], self.bytes_in[node - self._first]
        for message in messages:
            kind = message[0]
            into[kind] += 1
            bytes_in[kind] += wire_bytes(message)

    def shut_out(self, message: Message) -> None:
        self.dropped[message[2] - self._first][message[0]] += 1

    def reduction(self, node: int, members: int, size: int) -> None:
        """A completed reduction, as its point-to-point equivalent: a model to and from every other member.

        The bytes are those of the reduction itself: 2 (m - 1) / m of a vector of `size` floats, out and in.
        """
        index, kind = node - self._first, Kind.GROUP_REDUCTION
        moved = 8 * size * (members - 1) // members
        self.out[index][kind] += members - 1
        self.into[index][kind] += members - 1
        self.bytes_out[index][kind] += moved
        self.bytes_in[index][kind] += moved


class Recorder:
    """One rank's record of the current cycle. nodes: the hosted ids, a block."""

    def __init__(self, nodes: range, view_size: int):
        self._nodes, self._view_size = nodes, view_size
        self.traffic = Traffic(nodes.start, len(nodes))
        self.faults: list[FaultRow] = []
        self.groups: list[GroupRow] = []
        self._clear()

    def _clear(self) -> None:
        count = len(self._nodes)
        self.traffic.clear()
        self.faults, self.groups = [], []
        self.seconds = np.zeros((count, len(PHASES)))
        self.train_loss = np.full(count, np.nan, np.float32)
        self.trained = np.zeros(count, bool)
        self.accuracy = np.full(count, np.nan, np.float32)
        self.loss = np.full(count, np.nan, np.float32)
        self.crc = np.zeros(count, np.uint32)

    def index(self, node: int) -> int:
        return node - self._nodes.start

    def training(self, node: int, loss: float, seconds: float) -> None:
        index = self.index(node)
        self.trained[index], self.train_loss[index] = True, loss
        self.seconds[index, TRAIN] += seconds

    def evaluated(self, node: int, accuracy: float, loss: float, model: np.ndarray) -> None:
        index = self.index(node)
        self.accuracy[index], self.loss[index] = accuracy, loss
        self.crc[index] = zlib.crc32(model)

    def fault(self, cycle: int, tick: int, node: int, kind: str, detail: str) -> None:
        self.faults.append(FaultRow(cycle, tick, node, kind, detail))

    def group(self, cycle: int, node: int, report: GroupReport) -> None:
        outcome = GROUP_OUTCOMES.index(report.outcome)
        self.groups.append(
            GroupRow(
                cycle, report.attempt, report.epoch, node, report.coordinator, outcome, report.reused, report.weight, 0.0, report.members
            )
        )

    def spread(self, phase: int, seconds: float) -> None:
        """Give every hosted node its even share of the rank's time."""
        self.seconds[:, phase] += seconds / len(self._nodes)

    def group_seconds(self, seconds_of: dict[int, float]) -> None:
        for node, seconds in seconds_of.items():
            self.seconds[self.index(node), GROUP] += seconds
        reports: dict[int, list[GroupRow]] = {}
        for row in self.groups:
            reports.setdefault(row.node, []).append(row)
        for node, rows in reports.items():
            # A node is in one group at a time, in a few attempts at most: they share what the node spent on groups.
            for row in rows:
                row.seconds = seconds_of.get(node, 0.0) / len(rows)

    def rows(self, cycle: int, ticks: int, *, alive, is_hub, incarnation, staleness, views) -> CycleRows:
        """Everything of the cycle as arrays over the hosted nodes; starts the next one."""
        traffic = self.traffic
        rows = CycleRows(
            cycle=cycle, ticks=ticks, accuracy=self.accuracy, loss=self.loss, train_loss=self.train_loss, trained=self.trained,
            alive=np.array(alive, bool), is_hub=np.array(is_hub, bool), incarnation=np.array(incarnation, np.int32),
            staleness=np.array(staleness, np.int32), model_crc32=self.crc, seconds=self.seconds,
            messages_out=np.array(traffic.out, np.int64), messages_in=np.array(traffic.into, np.int64),
            messages_dropped=np.array(traffic.dropped, np.int64), bytes_out=np.array(traffic.bytes_out, np.int64),
            bytes_in=np.array(traffic.bytes_in, np.int64), views=None if views is None else self._padded(views),
        )  # fmt: skip
        self._clear()
        return rows

    def _padded(self, views: Sequence[Sequence[int]]) -> np.ndarray:
        table = np.full((len(self._nodes), self._view_size), -1, np.int32)
        for row, view in zip(table, views, strict=True):
            row[: len(view)] = view
        return table
