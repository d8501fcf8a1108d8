"""The processes of this job, whether they are many or one; and how they refuse or fail together."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from healmpi.algorithms.averaging import Average
from healmpi.hosting.guard import RunFailed
from healmpi.results.schema import ResultsError
from healmpi.settings import Misuse, UsageError
from healmpi.worlds.local import LocalWorld
from healmpi.worlds.world import World

Value = TypeVar("Value")


FAULTS = (OSError, MemoryError, ResultsError, Misuse)
"""What a machine or a user's own can do wrong, and say in a sentence."""


class Refused(Exception):
    """The input cannot be used, and all ranks know it."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """mpi: the module worlds.mpi, or None in a process of its own."""

    rank: int = 0
    size: int = 1
    mpi: Any = None

    def world(self, nodes: int, model_size: int, average: Average, timeout_s: float, wire_checks: bool = False) -> World:
        """Messages of models of `model_size` floats between all nodes. wire_checks: see `worlds.checks`."""
        if self.mpi is None:
            return LocalWorld(model_size, average)
        return self.mpi.MpiWorld(nodes, model_size, average, timeout_s, wire_checks)

    def allgather(self, value: Value) -> list[Value]:
        """All ranks' values on every rank, in rank order."""
        return [value] if self.mpi is None else self.mpi.allgather(value)

    def refuse_together(self, attempt: Callable[[], Value]) -> Value:
        """The attempt's value. If it raises UsageError on any rank: Refused on all of them, with the first rank's sentence."""
        return self._together(attempt, UsageError, (OSError, MemoryError), Refused)

    def fail_together(self, attempt: Callable[[], Value], faults: tuple[type[Exception], ...] = FAULTS) -> Value:
        """The attempt's value. If the machine, or a user's own, fails it on any rank: RunFailed on all of them."""
        return self._together(attempt, (), faults, RunFailed)

    def _together(self, attempt: Callable[[], Value], plain: Any, faults: Any, outcome: type[Exception]) -> Value:
        """plain: errors whose text says all; faults: those that the rank and the kind are to be said of, too."""
        found: list[Value] = []
        sentence = None
        try:
            found.append(attempt())
        except plain as error:
            sentence = str(error)
        except faults as error:
            if not isinstance(error, FAULTS):  # these say all by themselves
                traceback.print_exc()
            sentence = f"rank {self.rank}: {type(error).__name__}: {error}"
        first = next((one for one in self.allgather(sentence) if one is not None), None)
        if first is not None:
            raise outcome(first)
        return found[0]
