"""After every cycle: whether the state of the run is saved, and whether the run stops. The first rank decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from healmpi.hosting.guard import Guard, RunFailed
from healmpi.hosting.stopping import GO_ON, STOP, Stopped, Stopper
from healmpi.worlds.world import World


class Saver(Protocol):
    """Saves the run's state. stopper: the first rank's judgement of when. save: on all ranks together; raises RunFailed."""

    stopper: Stopper

    def save(self, step: int, cycle: int, state: Callable[[], dict[str, Any]]) -> None: ...


class Checkpointing:
    """One rank's part. first_cycle: of the run, from which steps are counted."""

    def __init__(self, world: World, guard: Guard, saver: Saver | None, first_cycle: int):
        self._world, self._guard, self._saver, self._first_cycle = world, guard, saver, first_cycle

    def end_cycle(self, cycle: int, state: Callable[[], dict[str, Any]]) -> float:
        """Wait for all ranks; save the state, and stop, if the first rank says so. Returns the seconds that it took.

        Raises RunFailed, Stopped.
        """
        started = time.perf_counter()
        saver, world = self._saver, self._world
        # Ranks that had less to do wait here, not in the next cycle, where it would count as the algorithm's.
        decision = world.allreduce(saver.stopper.decide(cycle) if saver and world.rank == 0 else GO_ON)
        if decision != GO_ON:
            assert saver is not None
            # A rank that has failed has no state worth keeping.
            self._guard.fail_together()
            self._save(saver, cycle, state)
            if decision == STOP:
                reason = world.allgather(saver.stopper.reason)[0]
                world.finish()
                raise Stopped(f"after cycle {cycle}: {reason}")
        return time.perf_counter() - started

    def _save(self, saver: Saver, cycle: int, state: Callable[[], dict[str, Any]]) -> None:
        try:
            saver.save(cycle - self._first_cycle + 1, cycle, state)
        except RunFailed:
            self._world.finish()
            raise
