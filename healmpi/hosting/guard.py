"""What goes wrong on one rank ends the run on all, in the same step: nobody waits for a rank that has given up."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from healmpi.settings import Misuse, UsageError
from healmpi.worlds.world import World

Value = TypeVar("Value")


class RunFailed(RuntimeError):
    """Something went wrong in a run on some rank. Raised on all ranks, which are at rest: another run can follow."""


class Guard:
    """Does what only this rank does, and remembers whether it failed."""

    def __init__(self, world: World):
        self._world = world
        self._failure: str | None = None

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def __call__(self, work: Callable[[], None]) -> None:
        """Do it. If it fails, the others learn of it when the next step closes. After a failure nothing is done any more."""
        if self._failure is not None:
            return
        try:
            work()
        except Exception as error:
            if not isinstance(error, OSError | MemoryError | Misuse | UsageError):  # these say all by themselves
                traceback.print_exc()
            self._failure = f"rank {self._world.rank}: {type(error).__name__}: {error}"

    def value(self, work: Callable[[], Value], otherwise: Value) -> Value:
        """What the work gives; `otherwise` where it fails, or something has failed before."""
        found = [otherwise]
        self(lambda: found.append(work()))
        return found[-1]

    def fail_together(self) -> None:
        """Raise RunFailed on all ranks if any has failed."""
        first = next((one for one in self._world.allgather(self._failure) if one is not None), None)
        if first is not None:
            self._world.give_up()
            self._world.finish()
            raise RunFailed(first)
