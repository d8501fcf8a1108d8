"""A communicator for the current hub group: made, reused, abandoned, buried, freed.

`MPI_Comm_create_group` involves only the members' ranks and blocks until all of them are there; they are, since the
group was agreed on by point-to-point messages before (algorithms/agreement.py) and a rank keeps its nodes' promises even when
they have fallen silent. The average is bandwidth-optimal and its order is fixed: every rank gets one slice of all
members' vectors (Ialltoallv), adds it up in node order, and the averaged slices are gathered (Iallgatherv). That moves
2 (r - 1) / r of a vector in and out of each of r ranks, as a ring allreduce does, and gives the same bits on any layout. Where an
averaging rule looks at whole vectors, all ranks get all of them in the first step, and there is no second.

A communicator with an unfinished collective must never be freed (Open MPI crashes). An
abandoned one goes to the graveyard together with its buffers and is freed only when its last request has completed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI

from healmpi.worlds.checks import WireChecks, holds, with_sum
from healmpi.worlds.reductions import CarefulAverage, Reduction, Stage
from healmpi.worlds.world import Facts

SETTLE_S = 10.0
"""How long `close` waits for abandoned collectives to complete; what is left then is never freed."""


_NEVER_FREED: list = []
"""Exchanges that did not come to rest: their buffers must outlive everything, MPI may still write into them."""


@dataclass(slots=True)
class _Collectives:
    """The collectives of one reduction and all buffers they use.

    comm: None where one rank hosts all members. slices: which part of the vectors each rank averages, (from, to).
    """

    comm: MPI.Intracomm | None
    size: int
    slices: list[tuple[int, int]]
    requests: list[MPI.Request] = field(default_factory=list)
    buffers: list[np.ndarray] = field(default_factory=list)
    received: np.ndarray | None = None
    result: np.ndarray | None = None


@dataclass(slots=True)
class _Communicator:
    comm: MPI.Intracomm
    used_in: int


class HubGroupBackend:
    """Owns every hub communicator of this rank.

    comm: the parent, for nothing else than making groups. average: how hubs average. checks: what goes over the wire has a sum behind it.
    """

    def __init__(self, comm: MPI.Intracomm, facts: Facts, average: CarefulAverage, checks: WireChecks | None = None):
        self._parent, self._facts, self._average, self._checks = comm, facts, average, checks
        self._extra = 0 if checks is None else 1  # floats behind each slice
        self._parent_group = comm.Get_group()
        self._rank = comm.Get_rank()
        self._communicators: dict[int, _Communicator] = {}
        self._graveyard: list[_Collectives] = []
        self._cycles = 0
        self.resumed = False  # from a checkpoint: groups live on, their communicators do not

    # What Reductions calls.

    def prepare(self, reduction: Reduction, size: int) -> None:
        ranks = len(reduction.ranks)
        bounds = [index * size // ranks for index in range(ranks + 1)]
        slices = list(itertools.pairwise(bounds)) if self._average.elementwise else [(0, size)] * ranks
        comm = self._communicator(reduction) if ranks > 1 else None
        reduction.handle = _Collectives(comm, size, slices)

    def _communicator(self, reduction: Reduction) -> MPI.Intracomm:
        known = self._communicators.get(reduction.epoch)
        if known is not None:
            known.used_in = self._cycles
            self._facts.add("communicators_reused")
            return known.comm
        assert not reduction.reused or self.resumed, f"the communicator of group {reduction.epoch} is gone"
        group = self._parent_group.Incl(reduction.ranks)
        # It ends: all ranks of the group come here in this tick, those of silent members included, and in the same order.
        comm = self._parent.Create_group(group, tag=reduction.epoch % 32768)
        group.Free()
        self._communicators[reduction.epoch] = _Communicator(comm, self._cycles)
        self._facts.add("communicators_created")
        return comm

    def scatter(self, reduction: Reduction) -> None:
        if reduction.handle.comm is not None:
            self._start_scatter(reduction, [reduction.vectors[member] for member in reduction.hosted])

    def gather(self, reduction: Reduction) -> None:
        collectives: _Collectives = reduction.handle
        if collectives.comm is None:
            collectives.result = self._average([reduction.vectors[member] for member in reduction.members], reduction.weights)
            return
        assert collectives.received is not None
        collectives.requests.pop().Wait()  # it ends: every rank of the group has started its part
        rows = self._checked(collectives.received.reshape(len(reduction.members), -1), "the model of node", reduction.members)
        averaged = self._average(list(rows), reduction.weights)
        if self._average.elementwise:
            self._start_gather(reduction, averaged)
        else:
            collectives.result = averaged

    def result(self, reduction: Reduction) -> np.ndarray | None:
        collectives: _Collectives = reduction.handle
        if collectives.requests:
            collectives.requests.pop().Wait()  # it ends: every rank of the group has started its part
            collectives.result = self._without_sums(collectives, reduction)
        if collectives.result is None or sum(reduction.weights) == 0:
            return None
        collectives.result.flags.writeable = False
        return collectives.result

    def abandon(self, reduction: Reduction) -> None:
        collectives: _Collectives = reduction.handle
        self._facts.add("reductions_abandoned")
        if collectives.comm is None:
            return
        # The others have started this collective and would never see it complete: take part, with nothing.
        if not reduction.complete and reduction.stage is Stage.SCATTER:
            self._start_scatter(reduction, [np.zeros(collectives.size, np.float32)] * len(reduction.hosted))
        elif not reduction.complete and self._average.elementwise:
            self._start_gather(reduction, None)
        del self._communicators[reduction.epoch]
        self._graveyard.append(collectives)

    def end_cycle(self) -> None:
        """Free the communicators that this cycle and the one before did not use, and the dead that are at rest."""
        self._cycles += 1
        for epoch, known in list(self._communicators.items()):
            if known.used_in < self._cycles - 1:
                self._free(known.comm)
                del self._communicators[epoch]
        self._reap()

    def close(self) -> None:
        """Release everything; wait at most SETTLE_S for abandoned collectives."""
        deadline = time.monotonic() + SETTLE_S
        self._reap()
        while self._graveyard and time.monotonic() < deadline:
            time.sleep(0.001)
            self._reap()
        self._facts.add("communicators_left", len(self._graveyard))
        _NEVER_FREED.extend(self._graveyard)
        for known in self._communicators.values():
            self._free(known.comm)
        self._communicators.clear()
        self._parent_group.Free()

    # The collectives.

    def _start_scatter(self, reduction: Reduction, vectors: list[np.ndarray]) -> None:
        collectives: _Collectives = reduction.handle
        assert collectives.comm is not None
        lengths = [high - low + self._extra for low, high in collectives.slices]
        hosted = len(reduction.hosted)
        send_counts = [hosted * length for length in lengths]
        if self._checks is not None:
            parts = collectives.slices if self._average.elementwise else collectives.slices[:1]
            send = np.concatenate([with_sum(vector[low:high]) for low, high in parts for vector in vectors])
            offsets = _offsets(send_counts) if self._average.elementwise else [0] * len(lengths)
        elif not self._average.elementwise:
            # All ranks get the same.
            send = vectors[0] if hosted == 1 else np.concatenate(vectors)
            offsets = [0] * len(lengths)
        elif hosted == 1:
            send, offsets = vectors[0], _offsets(send_counts)
        else:
            send = np.concatenate([vector[low:high] for low, high in collectives.slices for vector in vectors])
            offsets = _offsets(send_counts)

        # A rank hosts a block of consecutive ids, so that what comes from ascending ranks is in ascending node order.
        own = lengths[reduction.ranks.index(self._rank)]
        receive_counts = [count * own for count in reduction.members_at]
        collectives.received = np.empty(len(reduction.members) * own, np.float32)
        collectives.buffers += [send, collectives.received]
        collectives.requests.append(
            collectives.comm.Ialltoallv(
                [send, (send_counts, offsets), MPI.FLOAT],
                [collectives.received, (receive_counts, _offsets(receive_counts)), MPI.FLOAT],
            )
        )

    def _start_gather(self, reduction: Reduction, part: np.ndarray | None) -> None:
        collectives: _Collectives = reduction.handle
        assert collectives.comm is not None
        lengths = [high - low for low, high in collectives.slices]
        if part is None:
            part = np.zeros(lengths[reduction.ranks.index(self._rank)], np.float32)
        if self._checks is not None:
            part, lengths = with_sum(part), [length + 1 for length in lengths]
        collectives.result = np.empty(sum(lengths), np.float32)
        collectives.buffers += [part, collectives.result]
        collectives.requests.append(
            collectives.comm.Iallgatherv([part, len(part), MPI.FLOAT], [collectives.result, (lengths, _offsets(lengths)), MPI.FLOAT])
        )

    def _checked(self, rows: np.ndarray, what: str, numbers: Sequence[int]) -> np.ndarray:
        """The rows without their sums. rows: float32 [numbers, floats]."""
        if self._checks is None:
            return rows
        for row, number in zip(rows, numbers, strict=True):
            if not holds(row):
                self._checks.tell(f"{what} {number} in a hub group")
        return rows[:, :-1]

    def _without_sums(self, collectives: _Collectives, reduction: Reduction) -> np.ndarray | None:
        """The gathered result."""
        if self._checks is None or collectives.result is None:
            return collectives.result
        ends = list(itertools.accumulate(high - low + 1 for low, high in collectives.slices))
        parts = np.split(collectives.result, ends[:-1])
        return np.concatenate(
            [self._checked(part[None], "the part of rank", [rank])[0] for part, rank in zip(parts, reduction.ranks, strict=True)]
        )

    # The graveyard.

    def _reap(self) -> None:
        resting = [collectives for collectives in self._graveyard if MPI.Request.Testall(collectives.requests)]
        for collectives in resting:
            assert collectives.comm is not None
            self._free(collectives.comm)
            self._graveyard.remove(collectives)

    def _free(self, comm: MPI.Intracomm) -> None:
        comm.Free()
        self._facts.add("communicators_freed")


def _offsets(counts: list[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts))]
