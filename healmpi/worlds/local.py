"""The local world: one process hosts all nodes, messages are handed over by reference, no MPI is needed.

It is the reference for the other world: the same configuration and seed give the same bits in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from healmpi.algorithms.averaging import mean_in_order
from healmpi.messages import Message
from healmpi.worlds.reductions import Reduction, Reductions
from healmpi.worlds.world import FAILED, Closed, Facts, Seconds, by_source


class LocalBackend:
    """All members live here: the reduction is a sum in node order."""

    def __init__(self, facts: Facts):
        self._facts = facts

    def prepare(self, reduction: Reduction, size: int) -> None:
        self._facts.add("communicators_reused" if reduction.reused else "communicators_created")

    def scatter(self, reduction: Reduction) -> None:
        pass

    def gather(self, reduction: Reduction) -> None:
        pass

    def result(self, reduction: Reduction) -> np.ndarray | None:
        return mean_in_order([reduction.vectors[member] for member in reduction.members], reduction.weights)

    def abandon(self, reduction: Reduction) -> None:
        self._facts.add("reductions_abandoned")

    def end_cycle(self) -> None:
        pass


class LocalWorld:
    """One process that hosts all nodes. size: floats in a model."""

    def __init__(self, model_size: int):
        self.rank, self.size = 0, 1
        self.seconds, self.facts = Seconds(), Facts()
        self.reductions = Reductions(0, model_size, lambda node: 0, LocalBackend(self.facts))
        self._inbox: dict[int, list[Message]] = {}

    def send(self, message: Message) -> None:
        target = message[2]
        if target in self._inbox:
            self._inbox[target].append(message)
        else:
            self._inbox[target] = [message]

    def close(self, tick: int, wake: int) -> Closed:
        self.reductions.begin_close()
        under_way = bool(self._inbox) or self.reductions.busy()
        following = tick + 1 if under_way and wake != FAILED else wake
        outcomes = self.reductions.end_close(following, ())
        inbox = {target: by_source(messages) for target, messages in self._inbox.items()}
        self._inbox = {}
        return Closed(following, inbox, outcomes)

    def meet(self, word: int = 0) -> int:
        return word

    def resume(self, counts: dict[str, int]) -> None:
        self.facts.counts.update(counts)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def share(self, value: Any) -> list[Any]:
        return [value]

    def finish(self) -> None:
        pass
