"""The local world: one process hosts all nodes, messages are handed over by reference, no MPI is needed.

It is the reference for the other world: the same configuration and seed give the same bits in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from healmpi.algorithms.averaging import Average
from healmpi.messages import Message
from healmpi.node import Action, EnterGroup
from healmpi.worlds.clock import Clock, Lockstep
from healmpi.worlds.mailbox import Mailbox
from healmpi.worlds.reductions import CarefulAverage, Reduction, Reductions
from healmpi.worlds.world import FAILED, Closed, Facts, Seconds


class LocalBackend:
    """All members live here: the reduction is an average in node order."""

    def __init__(self, facts: Facts, average: CarefulAverage):
        self._facts, self._average = facts, average

    def prepare(self, reduction: Reduction, size: int) -> None:
        self._facts.add("communicators_reused" if reduction.reused else "communicators_created")

    def scatter(self, reduction: Reduction) -> None:
        pass

    def gather(self, reduction: Reduction) -> None:
        pass

    def result(self, reduction: Reduction) -> np.ndarray | None:
        return self._average([reduction.vectors[member] for member in reduction.members], reduction.weights)

    def abandon(self, reduction: Reduction) -> None:
        self._facts.add("reductions_abandoned")

    def end_cycle(self) -> None:
        pass


class LocalWorld:
    """One process that hosts all nodes. model_size: floats in a model. average: how hubs average."""

    def __init__(self, model_size: int, average: Average):
        self.rank, self.size = 0, 1
        self.seconds, self.facts = Seconds(), Facts()
        self._average = CarefulAverage(average)
        self.reductions = Reductions(0, model_size, lambda node: 0, LocalBackend(self.facts, self._average))
        self._clock: Clock = Lockstep()
        self._mailbox = Mailbox()
        self._inbox: dict[int, list[Message]] = {}

    @property
    def failure(self) -> Exception | None:
        return self._average.failure

    def act(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        due, put, rest = self._clock.due(tick), self._mailbox.put, []
        for action in actions:
            if type(action) is Message:
                put(due, action)
            elif type(action) is EnterGroup:
                self.reductions.enter(node, action)
            else:
                rest.append(action)
        return rest

    def deliver(self, node: int) -> list[Message]:
        return self._inbox.pop(node, [])

    def close(self, tick: int, wake: int) -> Closed:
        self.reductions.begin_close()
        earliest = tick + 1 if self.reductions.busy() else self._mailbox.earliest()
        following = FAILED if wake == FAILED else min(wake, earliest)
        outcomes = self.reductions.end_close(following, ())
        self._inbox = self._mailbox.take(following)
        return Closed(following, outcomes, self._inbox.keys())

    def end_cycle(self) -> None:
        assert not self._inbox, f"messages were not fetched: {sorted(self._inbox)}"
        self.reductions.end_cycle()

    def allreduce(self, decision: int = 0) -> int:
        return decision

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def allgather(self, value: Any) -> list[Any]:
        return [value]

    def state(self) -> Any:
        return self.facts.counts

    def resume(self, state: Any) -> None:
        self.facts.counts.update(state)

    def give_up(self) -> None:
        self.reductions.give_up()

    def finish(self) -> None:
        pass
