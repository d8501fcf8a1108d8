"""Faults at the start of a cycle: who is hit is worked out on all ranks alike, and done where the victim lives."""

from __future__ import annotations

from collections import Counter

from healmpi.faults import plan
from healmpi.faults.doors import Doors
from healmpi.faults.kind import Arm
from healmpi.hosting.guard import Guard
from healmpi.hosting.population import Population
from healmpi.hosting.recorder import Recorder


class Striker:
    """Carries out the fault plan on one rank; the ground on which kinds of faults act."""

    def __init__(self, faults: plan.Plan, population: Population, doors: Doors, recorder: Recorder, guard: Guard):
        self._plan, self._population, self._doors, self._recorder, self._guard = faults, population, doors, recorder, guard
        self._cycle = self._tick = 0

    def begin_cycle(self, cycle: int, tick: int) -> None:
        """Do what the plan has for the start of this cycle; arm what it has for later in it."""
        self._cycle, self._tick = cycle, tick
        self._doors.begin_cycle()
        due = self._plan.due(cycle, self._surroundings(cycle))
        if self._population.hosted.start == 0:
            for kind, text in plan.remarks(cycle, due):
                self._recorder.fault(tick, -1, kind, text)
        self._guard(lambda: plan.carry_out(due, self))

    def _surroundings(self, cycle: int) -> plan.Surroundings:
        """What the plan needs to know of the whole run in this cycle; the same on all ranks."""
        hubs: list[int] = []
        if self._plan.needs_hubs(cycle):
            none: list[int] = []
            mine = self._guard.value(lambda: [node.id for node in self._population.standing() if node.is_hub], none)
            hubs = [hub for part in self._doors.allgather(mine) for hub in part]
        degrees: Counter[int] = Counter()
        if self._plan.needs_degrees(cycle):
            nobody: Counter[int] = Counter()
            known = self._guard.value(lambda: Counter(peer for node in self._population.standing() for peer in set(node.view)), nobody)
            for part in self._doors.allgather(known):
                degrees.update(part)
        return plan.Surroundings(sorted(self._doors.live), sorted(hubs), degrees)

    # The ground.

    def silence(self, node: int, kind: str, detail: str) -> None:
        hosted = node in self._population.hosted
        self._doors.silence(node, hosted)
        if hosted:
            self._recorder.fault(self._tick, node, kind, detail)

    def arm(self, node: int, kind: str, point: str, arm: Arm) -> None:
        self._doors.arm(node, kind, point, arm, node in self._population.hosted)

    def replace(self, node: int, kind: str) -> None:
        # Newcomers learn of nodes that stand after this cycle's crashes.
        if self._population.replace(node, self._doors.live, self._cycle):
            self._recorder.fault(self._tick, node, kind, f"incarnation {self._population.incarnation[node]}")

    def lose(self, share: float) -> None:
        self._doors.lose(share)
