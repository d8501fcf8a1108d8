"""What happened on one rank in one cycle, counted and timed, until it is written.

Times: `train` and `group` belong to a node; `messaging` is a node's own handling of messages plus its even share of what
the rank's transport took; `wait` and `harness` are the node's even share of the rank's. Over all nodes of a rank they
add up to the rank's wall time. A node's counters go on while it is silent, since what arrives at a shut door must be counted.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from healmpi.learning.jobs import Judgement
from healmpi.messages import GROUP_REDUCTION, HEADER_BYTES, Kind, Message, kind_count, numbered
from healmpi.node import Action, GroupReport
from healmpi.results.rows import CycleRows, FaultRow, GroupRow
from healmpi.results.schema import GROUP_OUTCOMES, PHASES
from healmpi.settings import Misuse

TRAIN, MESSAGING, WAIT, GROUP, HARNESS, EVALUATION = range(len(PHASES))


class Traffic:
    """Messages and bytes by hosted node and kind, in this cycle. Plain lists: one is added to per message.

    kinds: of this run, in the order of the tables. model_size: floats in what is sent as a model.
    """

    def __init__(self, hosted: range, kinds: Sequence[Kind], model_size: int):
        self._first, self._count, self._kinds, self._model_size = hosted.start, len(hosted), list(kinds), model_size
        self._numbers = kind_count()
        self.clear()

    def clear(self) -> None:
        empty = [0] * self._numbers
        self._out, self._into, self._lost, self._bytes_out, self._bytes_in = ([empty[:] for _ in range(self._count)] for _ in range(5))

    def sent(self, node: int, actions: Sequence[Action]) -> None:
        """What a node sends: the messages among its actions."""
        out, size = self._out[node - self._first], self._bytes_out[node - self._first]
        for action in actions:
            if type(action) is Message:
                kind, payload = action[0], action[5]
                out[kind] += 1
                size[kind] += HEADER_BYTES if payload is None else HEADER_BYTES + 4 * len(payload)

    def accepted(self, node: int, messages: Sequence[Message]) -> None:
        """What gets in."""
        into, size = self._into[node - self._first], self._bytes_in[node - self._first]
        for message in messages:
            kind, payload = message[0], message[5]
            into[kind] += 1
            size[kind] += HEADER_BYTES if payload is None else HEADER_BYTES + 4 * len(payload)

    def dropped(self, message: Message) -> None:
        """What does not."""
        self._lost[message[2] - self._first][message[0]] += 1

    def reduction(self, node: int, members: int) -> None:
        """A completed reduction, as its point-to-point equivalent: a model to and from every other member.

        The bytes are those of the reduction itself: 2 (m - 1) / m of a model out and in.
        """
        index, kind = node - self._first, GROUP_REDUCTION
        moved = 8 * self._model_size * (members - 1) // members
        self._out[index][kind] += members - 1
        self._into[index][kind] += members - 1
        self._bytes_out[index][kind] += moved
        self._bytes_in[index][kind] += moved

    def tables(self) -> dict[str, np.ndarray]:
        """int64 [nodes, kinds] each, by the names of the results. Raises Misuse: a kind was sent that is not one of the run's."""
        tables = {
            "messages_out": self._out,
            "messages_in": self._into,
            "messages_dropped": self._lost,
            "bytes_out": self._bytes_out,
            "bytes_in": self._bytes_in,
        }
        arrays = {name: np.array(rows, np.int64) for name, rows in tables.items()}
        foreign = set(np.flatnonzero(arrays["messages_out"].any(axis=0)).tolist()) - set(self._kinds)
        if foreign:
            raise Misuse(f"messages of kind {numbered(min(foreign))} were sent, which neither topology nor rule has in its `kinds`")
        return {name: array[:, self._kinds] for name, array in arrays.items()}


class Recorder:
    """One rank's record of the current cycle. nodes: the hosted ids, a block. kinds: of messages. model_size: floats in one that is sent.

    classes: of the data; 0: nothing is learnt.
    """

    def __init__(self, nodes: range, kinds: Sequence[Kind], view_size: int, model_size: int, classes: int):
        self._nodes, self._view_size, self._classes = nodes, view_size, classes
        self.cycle = 0
        self.traffic = Traffic(nodes, kinds, model_size)
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
        self.own_accuracy = np.full(count, np.nan, np.float32)
        self.class_hits = np.zeros(self._classes, np.int64)
        self.crc = np.zeros(count, np.uint32)

    def index(self, node: int) -> int:
        return node - self._nodes.start

    def training(self, node: int, loss: float, seconds: float) -> None:
        index = self.index(node)
        self.trained[index], self.train_loss[index] = True, loss
        self.seconds[index, TRAIN] += seconds

    def evaluated(self, node: int, found: Judgement, own_accuracy: float, model: np.ndarray) -> None:
        index = self.index(node)
        self.accuracy[index], self.loss[index], self.own_accuracy[index] = found.accuracy, found.loss, own_accuracy
        self.class_hits += found.hits
        self.crc[index] = zlib.crc32(model.data)

    def fault(self, tick: int, node: int, kind: str, detail: str) -> None:
        self.faults.append(FaultRow(self.cycle, tick, node, kind, detail))

    def group(self, node: int, report: GroupReport) -> None:
        outcome = GROUP_OUTCOMES.index(report.outcome)
        attempt, epoch, coordinator, _, reused, weight, members = report
        self.groups.append(GroupRow(self.cycle, attempt, epoch, node, coordinator, outcome, reused, weight, 0.0, members))

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

    def rows(self, ticks: int, *, alive, is_hub, incarnation, staleness, views) -> CycleRows:
        """Everything of the cycle as arrays over the hosted nodes; starts the next one."""
        rows = CycleRows(
            cycle=self.cycle,
            ticks=ticks,
            accuracy=self.accuracy,
            loss=self.loss,
            own_accuracy=self.own_accuracy,
            train_loss=self.train_loss,
            trained=self.trained,
            alive=np.array(alive, bool),
            is_hub=np.array(is_hub, bool),
            incarnation=np.array(incarnation, np.int32),
            staleness=np.array(staleness, np.int32),
            model_crc32=self.crc,
            seconds=self.seconds,
            **self.traffic.tables(),
            class_hits=self.class_hits,
            views=None if views is None else self._padded(views),
        )
        self._clear()
        return rows

    def _padded(self, views: Sequence[Sequence[int]]) -> np.ndarray:
        table = np.full((len(self._nodes), self._view_size), -1, np.int32)
        for node, row, view in zip(self._nodes, table, views, strict=True):
            if len(view) > self._view_size:
                raise Misuse(f"the view of node {node} holds {len(view)} ids: the `view_size` of its topology is {self._view_size}")
            row[: len(view)] = view
        return table
