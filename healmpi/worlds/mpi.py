"""The MPI world: nodes in blocks on the ranks of COMM_WORLD, every protocol message one MPI message.

A tick is closed by a sparse non-blocking consensus (NBX: Hoefler, Siebert, Lumsdaine, PPoPP 2010): nobody knows how many
messages will come, so each rank receives until all have entered a non-blocking reduction, and enters it itself once its
own messages have been received. Only the last message to a rank in a tick is sent synchronously: MPI keeps the order
between two ranks, so when it has been matched, all before it have. The reduction carries the next tick.

The harness has communicators of its own: one for the consensus and the gathering of results, one for making hub groups.
A waiting rank yields its core and soon sleeps: with more ranks than cores a rank that spins takes the core from those that train.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import mpi4py
import numpy as np

# One thread calls MPI: without this MPI takes locks for every call.
mpi4py.rc.thread_level = "funneled"
# MPICH spins without end when ranks share a core (docs/algorithms.md, "MPI"); harmless where it has a core of its own.
os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE", "true")
os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT", "1")

from mpi4py import MPI  # noqa: E402

from healmpi import cores  # noqa: E402
from healmpi.algorithms.averaging import Average  # noqa: E402
from healmpi.messages import Message  # noqa: E402
from healmpi.node import NEVER, Action, EnterGroup  # noqa: E402
from healmpi.worlds.checks import WireChecks  # noqa: E402
from healmpi.worlds.clock import Clock, Lockstep  # noqa: E402
from healmpi.worlds.hub_group import HubGroupBackend  # noqa: E402
from healmpi.worlds.mailbox import Mailbox  # noqa: E402
from healmpi.worlds.reductions import CarefulAverage, Notice, Reductions  # noqa: E402
from healmpi.worlds.wire import decode, encode, header, pieces  # noqa: E402
from healmpi.worlds.world import FAILED, Closed, Facts, Seconds, StepTimeout, WireFault, blocks  # noqa: E402

NOTICE = 255
"""Kind of the harness's own message in a step: a rank's notice on a reduction. Never counted as protocol traffic."""

POLLS, YIELDS = 2000, 100
"""Looks in vain before a rank naps: with a core of its own, and, yielding the core each time, with a shared one."""

SMALL_BYTES = 4096

NAP_S, LONGEST_NAP_S = 20e-6, 1e-3

LONGEST_WAIT_S = 3600.0
"""Longest wait outside of the run's steps: for a rank that loads data, or for rank 0 that merges."""

START_S = 600.0
"""Longest wait for the first word of all ranks."""


SENDS_IN_PLACE = MPI.Get_library_version().startswith("Open MPI")
LARGEST_IN_PLACE = 2**20
"""Vectors of up to so many bytes are sent from where they lie, by a derived datatype. Measured in bursts (docs/algorithms.md,
"MPI"): it halves the time under Open MPI, and costs more than a copy under MPICH and for larger vectors."""


class MpiWorld:
    """This rank's access to the others.

    model_size: floats in a model. average: how hubs average. timeout_s: longest wait for a step to close. wire_checks: whether all
    that goes over MPI has a sum behind it.
    """

    def __init__(self, nodes: int, model_size: int, average: Average, timeout_s: float, wire_checks: bool = False):
        self._protocol, self._harness, groups = (MPI.COMM_WORLD.Dup() for _ in range(3))
        self._groups_parent = groups
        self.rank, self.size = self._protocol.Get_rank(), self._protocol.Get_size()
        self.seconds, self.facts = Seconds(), Facts()
        self._rank_of = [rank for rank, block in enumerate(blocks(nodes, self.size)) for _ in block]
        self._average = CarefulAverage(average)
        self._checks = WireChecks(self.rank, self.facts) if wire_checks else None
        self._backend = HubGroupBackend(groups, self.facts, self._average, self._checks)
        self.reductions = Reductions(self.rank, model_size, self._rank_of.__getitem__, self._backend)
        self._timeout_s = timeout_s
        self._shared = _cores_are_shared()
        self._step = 0
        self._clock: Clock = Lockstep()
        self._mailbox = Mailbox()
        self._inbox: dict[int, list[Message]] = {}
        self._notices: list[Notice] = []
        self._held: dict[int, tuple[int, Message]] = {}  # rank -> the last message for it in this tick, not yet sent, and its due time
        self._kept: list[Any] = []  # what the messages of this tick are sent from
        self._sent: list[MPI.Request] = []
        self._earliest_sent = NEVER  # when the first of what was sent to other ranks in this tick is due
        self._proposal, self._earliest = np.empty(1, np.int64), np.empty(1, np.int64)  # of the consensus, one at a time

    @property
    def failure(self) -> Exception | None:
        return self._average.failure

    # Sending.

    def act(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        due, rest = self._clock.due(tick), []
        for action in actions:
            if type(action) is Message:
                rank = self._rank_of[action[2]]
                if rank == self.rank:
                    self._mailbox.put(due, action)
                else:
                    if due < self._earliest_sent:
                        self._earliest_sent = due
                    self._post(rank, due, action)
            elif type(action) is EnterGroup:
                self.reductions.enter(node, action)
            else:
                rest.append(action)
        return rest

    def _post(self, rank: int, due: int, message: Message) -> None:
        # The one before is sent now, this one is held back: the last of the tick must go synchronously.
        before = self._held.get(rank)
        self._held[rank] = (due, message)
        if before is not None:
            self._sent.append(self._start(self._protocol.Isend, before, rank))

    def _start(self, call: Callable[..., MPI.Request], held: tuple[int, Message], rank: int) -> MPI.Request:
        """Begin to send a message; what it is made of is kept until the tick is closed."""
        due, message = held
        vector = message[5]
        if self._checks is not None:
            buffer = self._checks.sealed(pieces(message, due), rank)
            self._kept.append(buffer)
            return call([buffer, MPI.BYTE], rank, self._step & 1)
        if type(vector) is not np.ndarray or not SENDS_IN_PLACE or vector.nbytes > LARGEST_IN_PLACE:
            buffer = encode(message, due)
            self._kept.append(buffer)
            return call([buffer, MPI.BYTE], rank, self._step & 1)
        # One MPI message out of two places: the vector goes out from where it lies, however many targets it has.
        assert vector.dtype == np.float32 and vector.flags.c_contiguous, "a model is a contiguous float32 vector"
        head = header(message, due)
        datatype = MPI.BYTE.Create_hindexed([len(head), vector.nbytes], [MPI.Get_address(head), MPI.Get_address(vector)])
        request = call([MPI.BOTTOM, 1, datatype.Commit()], rank, self._step & 1)
        datatype.Free()
        self._kept += (head, vector)
        return request

    # Closing a tick.

    def close(self, tick: int, wake: int) -> Closed:
        notices = self.reductions.begin_close()
        started = time.perf_counter()
        for notice in notices:
            self._post(notice.rank, tick + 1, Message(NOTICE, self.rank, notice.rank, int(notice.complete), tick, None, notice.epoch))
        last = [self._start(self._protocol.Issend, held, rank) for rank, held in self._held.items()]
        earliest = tick + 1 if notices or self.reductions.busy() else min(self._earliest_sent, self._mailbox.earliest())
        self.seconds.messaging += time.perf_counter() - started

        following = self._agree(last, FAILED if wake == FAILED else min(wake, earliest))

        started = time.perf_counter()
        # These end: the consensus says that every message has been matched, and its receiver is taking it in.
        if self._sent:
            MPI.Request.Waitall(self._sent)
            self._sent.clear()
        self._held.clear()
        self._kept.clear()
        self._earliest_sent = NEVER
        self._step += 1
        self._inbox = self._mailbox.take(following)
        received, self._notices = self._notices, []
        self.seconds.harness += time.perf_counter() - started
        return Closed(following, self.reductions.end_close(following, received), self._inbox.keys())

    def deliver(self, node: int) -> list[Message]:
        return self._inbox.pop(node, [])

    def end_cycle(self) -> None:
        assert not self._inbox, f"messages were not fetched: {sorted(self._inbox)}"
        self.reductions.end_cycle()

    def _agree(self, last: list[MPI.Request], proposal: int) -> int:
        """Receive until every rank's messages of this step have been received; return the earliest proposal."""
        mine, earliest = self._proposal, self._earliest
        mine[0] = proposal
        consensus: MPI.Request | None = None
        patience = _Patience(self._shared, self._timeout_s, self.rank)
        begun, moved_before = time.perf_counter(), self.seconds.messaging
        while True:
            if self._receive_all():
                patience.renew()
            if consensus is None:
                if MPI.Request.Testall(last):
                    consensus = self._harness.Iallreduce(mine, earliest, op=MPI.MIN)
            elif consensus.Test():
                # Nothing can have come since the last look: all messages were matched before anybody could finish.
                self.seconds.wait += time.perf_counter() - begun - (self.seconds.messaging - moved_before)
                return int(earliest[0])
            patience.rest()

    def allreduce(self, decision: int = 0) -> int:
        return _allreduce(self._harness, _Patience(self._shared, self._timeout_s, self.rank), decision)

    def state(self) -> Any:
        return self.facts.counts

    def resume(self, state: Any) -> None:
        self.facts.counts.update(state)
        self._backend.resumed = True

    def give_up(self) -> None:
        self.reductions.give_up()

    def _receive_all(self) -> bool:
        """Take in whatever is there; say whether anything was."""
        # The tag tells this step's messages from the next one's: a rank that has left the step may be sending already.
        protocol, status, tag, put = self._protocol, MPI.Status(), self._step & 1, self._mailbox.put
        probe = protocol.Improbe(MPI.ANY_SOURCE, tag, status)
        if probe is None:
            return False
        started = time.perf_counter()
        while probe is not None:
            size = status.Get_count(MPI.BYTE)
            # A bytearray is read faster, an empty array is not filled with zeros first.
            buffer: Any = bytearray(size) if size <= SMALL_BYTES else np.empty(size, np.uint8)
            probe.Recv([buffer, MPI.BYTE])
            if self._checks is not None:
                buffer = self._checks.opened(buffer, status.Get_source())
            if buffer is None:
                self._check_lost()
            else:
                due, message = decode(buffer)
                if message[0] == NOTICE:
                    self._notices.append(Notice(message.source, message.number, bool(message.cycle)))
                else:
                    put(due, message)
            probe = protocol.Improbe(MPI.ANY_SOURCE, tag, status)
        self.seconds.messaging += time.perf_counter() - started
        return True

    def _check_lost(self) -> None:
        """A message was not what it should be. Raises WireFault: it may have been a notice, without which a reduction has no end."""
        if self.reductions.busy():
            raise WireFault(f"{self.facts.faults[-1]}, while a hub group was averaging: the run cannot go on")

    # The harness's plane.

    def gather(self, value: Any) -> list[Any] | None:
        return self._harness.gather(value, root=0)

    def allgather(self, value: Any) -> list[Any]:
        return self._harness.allgather(value)

    def finish(self) -> None:
        # Every close has received all that was sent, so only the hub groups can have something open.
        self._backend.close()
        self.allreduce()
        for comm in (self._protocol, self._harness, self._groups_parent):
            comm.Free()


class _Patience:
    """How a rank waits: it looks again and again, then yields or naps between looks, and gives up at the deadline."""

    def __init__(self, shared: bool, timeout_s: float, rank: int):
        self._shared, self._timeout_s, self._rank = shared, timeout_s, rank
        self._begun = time.perf_counter()
        self.renew()

    def renew(self) -> None:
        """Something has come: look eagerly again."""
        self._looks, self._nap_s = 0, NAP_S

    def rest(self) -> None:
        """Between two looks. Raises StepTimeout."""
        self._looks += 1
        if self._shared and self._looks <= YIELDS:
            os.sched_yield()
        elif self._shared or self._looks > POLLS:
            self._check_deadline()
            time.sleep(self._nap_s)
            self._nap_s = min(2 * self._nap_s, LONGEST_NAP_S)

    def _check_deadline(self) -> None:
        if time.perf_counter() - self._begun > self._timeout_s:
            raise StepTimeout(
                f"rank {self._rank} has waited {self._timeout_s:g} s for the others to close a step: "
                "a rank hangs, or one trains longer than limits.step_timeout_s allows"
            )


def _cores_are_shared() -> bool:
    """Whether this machine has more ranks than cores they may run on."""
    ranks, there = crowd()
    return ranks > there


def crowd() -> tuple[int, int]:
    """Ranks on this machine, and cores they may run on. On all ranks together."""
    local = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    masks = local.allgather(sorted(cores.GIVEN))
    ranks = local.Get_size()
    local.Free()
    return ranks, len({core for mask in masks for core in mask})


def library() -> str:
    """The MPI library's name and version, one line."""
    return MPI.Get_library_version().split(",")[0].split("\n")[0].strip()


def abort(code: int) -> None:
    """End the whole job now."""
    MPI.COMM_WORLD.Abort(code)


def place() -> tuple[int, int]:
    """This process's rank and the number of ranks."""
    return MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()


_heard = False


def allgather(value: Any) -> list[Any]:
    """All ranks' values on every rank, outside of any world. Raises StepTimeout."""
    global _heard
    limit_s = LONGEST_WAIT_S if _heard else START_S
    try:
        _allreduce(MPI.COMM_WORLD, _Patience(True, limit_s, MPI.COMM_WORLD.Get_rank()))
    except StepTimeout:
        rank = MPI.COMM_WORLD.Get_rank()
        raise StepTimeout(f"rank {rank} has waited {limit_s:g} s for a word of the other ranks: one has not come this far") from None
    _heard = True
    return MPI.COMM_WORLD.allgather(value)


def leave() -> None:
    """End MPI here: from now on a non-zero exit code is this process's own, and no reason to abort the job."""
    MPI.COMM_WORLD.Barrier()
    MPI.Finalize()


def _allreduce(comm: MPI.Intracomm, patience: _Patience, decision: int = 0) -> int:
    """Wait for all ranks of the communicator, as patience has it; the largest decision."""
    mine, largest = np.array([decision], np.int64), np.empty(1, np.int64)
    request = comm.Iallreduce(mine, largest, op=MPI.MAX)
    while not request.Test():
        patience.rest()
    return int(largest[0])
