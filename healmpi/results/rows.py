"""What one rank hands over to be written: a cycle of its nodes, reports of hub groups, faults. The fields are those of `schema`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(slots=True)
class CycleRows:
    """One cycle of the L nodes hosted by one rank; K = number of kinds of message in the run, in the writer's order; c = view size.

    cycle: its number (warm-up cycles end at 0). ticks: supersteps it took.
    accuracy, loss: float32 [L], on the common test set; nan where not evaluated. own_accuracy: float32 [L], the same weighted by
    the labels of the node's own shard. class_hits: int64 [classes], test samples of each class that the evaluated nodes get
    right, added up. train_loss: float32 [L], mean over the
    local steps; nan where the node did not train, which `trained`, bool [L], tells. alive, is_hub: bool [L].
    incarnation: int32 [L], how often the slot was replaced. staleness: int32 [L], cycles since the node last took in a
    global model, or other nodes' models; -1: never. model_crc32: uint32 [L], of the model's bytes at the end of the cycle; 0: not computed.
    seconds: float64 [L, phases]. messages_out, bytes_out: int64 [L, K], counted at the source. messages_in, bytes_in:
    accepted by the target. messages_dropped: shut out by the fault boundary at the target, or under way at the end.
    views: int32 [L, c], padded with -1; None: not recorded in this cycle.
    """

    cycle: int
    ticks: int
    accuracy: np.ndarray
    loss: np.ndarray
    own_accuracy: np.ndarray
    train_loss: np.ndarray
    trained: np.ndarray
    alive: np.ndarray
    is_hub: np.ndarray
    incarnation: np.ndarray
    staleness: np.ndarray
    model_crc32: np.ndarray
    seconds: np.ndarray
    messages_out: np.ndarray
    messages_in: np.ndarray
    messages_dropped: np.ndarray
    bytes_out: np.ndarray
    bytes_in: np.ndarray
    class_hits: np.ndarray
    views: np.ndarray | None


@dataclass(slots=True)
class GroupRow:
    """What one member reports of one attempt to average. outcome: index into schema.GROUP_OUTCOMES. seconds: wall time."""

    cycle: int
    attempt: int
    epoch: int
    node: int
    coordinator: int
    outcome: int
    reused: bool
    weight: int
    seconds: float
    members: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.members)


@dataclass(slots=True)
class FaultRow:
    """One fault that happened. tick: -1 at the end of a cycle.

    node: -1 for an event of the plan that hit nobody (kind 'none'), and for loss of messages that begins. kind: 16 bytes at most,
    detail: 128.
    """

    cycle: int
    tick: int
    node: int
    kind: str
    detail: str
