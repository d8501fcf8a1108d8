"""The end of a cycle: models are judged, the first rank hears how it went, time is accounted for, rows are handed over.

All of this is the harness's own work: it lies between cycles and is timed apart, so that it never counts as the algorithm's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from healmpi import streams
from healmpi.config import Config
from healmpi.hosting.audit import recompute
from healmpi.hosting.guard import Guard
from healmpi.hosting.population import Population
from healmpi.hosting.recorder import EVALUATION, HARNESS, MESSAGING, WAIT, Recorder
from healmpi.learning.learners.kind import Trainer
from healmpi.node import Node
from healmpi.results.rows import CycleRows, FaultRow, GroupRow
from healmpi.worlds.world import MortalWorld

AUDIT_BYTES = 8 * 2**20
"""With results.audit = 'auto', runs whose models together are no larger than this are audited, in bytes."""

LARGEST_COMPLAINT_COUNT = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the whole run stands, for the person who watches. accuracy: mean over live nodes, nan without evaluation."""

    cycle: int
    live: int
    hubs: int
    accuracy: float


Sink = Callable[[CycleRows, list[GroupRow], list[FaultRow]], None]
Watch = Callable[[Progress], None]


class Closing:
    """Ends cycles on one rank. sink: takes each cycle's rows. watch: called on rank 0 after each cycle.

    complaints: of the audit, on rank 0. tail_s: seconds spent after the last cycle's rows were made.
    """

    def __init__(
        self, config: Config, world: MortalWorld, population: Population, learner: Trainer | None, recorder: Recorder, sink: Sink,
        watch: Watch, guard: Guard,
    ):  # fmt: skip
        self._config, self._world, self._population, self._learner, self._recorder = config, world, population, learner, recorder
        self._sink, self._watch, self._guard = sink, watch, guard
        self.complaints: list[str] = []
        self.tail_s = 0.0
        self._labels_of: dict[int, np.ndarray] = {}
        self.audited = learner is not None and self._wants_audit(config.chosen.vector_size(learner.size))

    def _wants_audit(self, vector_size: int) -> bool:
        wanted = self._config.results.audit
        small = self._config.run.nodes * vector_size * 4 <= AUDIT_BYTES
        # A user's own rule need not keep records.
        kept = all(node.record is not None for node in self._population.nodes.values())
        return kept and (wanted == "on" or (wanted == "auto" and small))

    def end_cycle(self, cycle: int, ticks: int, started: float) -> None:
        """The cycle's last tick has been closed. started: time.perf_counter() at its start."""
        self._world.end_cycle()
        ended = time.perf_counter()
        self._guard(lambda: self._evaluate(cycle))
        evaluated = time.perf_counter()
        self._report(cycle)
        self._account(evaluated - ended, time.perf_counter() - started + self.tail_s)

        # What follows is booked in the next cycle, since this one's rows are handed over here.
        handing_over = time.perf_counter()
        self._guard(lambda: self._sink(*self._rows(cycle, ticks)))
        self.tail_s = time.perf_counter() - handing_over

    # Judging models.

    def _evaluate(self, cycle: int) -> None:
        """Judge the live nodes' models if this cycle is one for it."""
        if self._learner is None or not self._evaluates(cycle):
            return
        judged = self._sample(cycle)
        models: list[np.ndarray] = [node.model for node in judged if node.model is not None]
        tested = self._learner.tested
        for node, model, found in zip(judged, models, self._learner.judge(models), strict=True):
            own = own_accuracy(found.hits, tested, self._labels(node.id))
            self._recorder.evaluated(node.id, found, own, model)

    def _labels(self, node: int) -> np.ndarray:
        """Training samples of the node's shard by label. A shard belongs to the slot and never changes."""
        if node not in self._labels_of and self._learner is not None:
            self._labels_of[node] = self._learner.labels(node)
        return self._labels_of[node]

    def _sample(self, cycle: int) -> list[Node]:
        """The hosted ones of the live nodes that are judged in this cycle: all ranks make the same draw."""
        count, standing = self._config.evaluation.nodes, self._population.standing()
        live = self._world.survivors()
        if not count or count >= len(live):
            return standing
        chosen = set(streams.picker(self._config.run.seed, "evaluation", cycle).sample(live, count))
        return [node for node in standing if node.id in chosen]

    def _evaluates(self, cycle: int) -> bool:
        every = self._config.evaluation.every
        return every > 0 and cycle >= 1 and (cycle % every == 0 or cycle == self._config.run.cycles)

    # Reporting.

    def _report(self, cycle: int) -> None:
        """Tell rank 0 how the cycle went: for the person who watches, and for the audit."""
        standing = self._population.standing()
        hubs = self._guard.value(lambda: sum(node.is_hub for node in standing), 0)
        accuracies = self._recorder.accuracy[~np.isnan(self._recorder.accuracy)]
        nothing: dict[int, Any] = {}
        records = self._guard.value(lambda: self._records(cycle), nothing)
        self._world.allreduce()
        told = self._world.gather((len(standing), hubs, float(accuracies.sum()), len(accuracies), records))
        if told is None:
            return
        live, hubs, total, judged = (sum(part[index] for part in told) for index in range(4))
        self._watch(Progress(cycle, live, hubs, total / judged if judged else float("nan")))
        self._guard(lambda: self._audit(cycle, {node: one for part in told for node, one in part[4].items()}))

    def _records(self, cycle: int) -> dict[int, Any]:
        """What the hosted nodes did in this cycle, those included that fell silent inside it."""
        if not self.audited or cycle < 1:
            return {}
        live = self._world.live
        return {node: self._population.nodes[node].record for node in self._population.hosted if node in live}

    def _audit(self, cycle: int, records: dict[int, Any]) -> None:
        """On rank 0. A rule that does not keep a record in every cycle cannot be audited."""
        if any(record is None for record in records.values()):
            self.audited = False
        if self.audited and len(self.complaints) < LARGEST_COMPLAINT_COUNT:
            self.complaints += recompute(cycle, records, self._config.chosen.average)

    def _account(self, evaluated_s: float, wall_s: float) -> None:
        """Split the cycle's wall time; what nothing else claims is the harness's."""
        recorder, inside = self._recorder, self._world.seconds.take()
        recorder.group_seconds(self._world.reductions.seconds_of)
        self._world.reductions.seconds_of.clear()
        recorder.spread(MESSAGING, inside.messaging)
        recorder.spread(WAIT, inside.wait)
        recorder.spread(EVALUATION, evaluated_s)
        recorder.spread(HARNESS, max(0.0, wall_s - recorder.seconds.sum()))

    # The rows.

    def _rows(self, cycle: int, ticks: int) -> tuple[CycleRows, list[GroupRow], list[FaultRow]]:
        recorder, population, silent = self._recorder, self._population, self._world.silent
        nodes = [population.nodes[node] for node in population.hosted]
        alive = [node.id not in silent for node in nodes]
        groups, faults = recorder.groups, recorder.faults
        rows = recorder.rows(
            ticks,
            alive=alive,
            is_hub=[up and node.is_hub for up, node in zip(alive, nodes, strict=True)],
            incarnation=[population.incarnation[node.id] for node in nodes],
            staleness=[-1 if node.updated_in is None else cycle - node.updated_in for node in nodes],
            views=[node.view for node in nodes] if self._shows_views(cycle) else None,
        )
        return rows, groups, faults

    def _shows_views(self, cycle: int) -> bool:
        every, first = self._config.results.views_every, 1 - self._config.run.warmup_cycles
        # Views that never change are written once.
        return every > 0 and (cycle == first if self._config.chosen.topology.static else cycle % every == 0)


def own_accuracy(hits: np.ndarray, tested: np.ndarray, labels: np.ndarray) -> float:
    """The accuracy on a test set in which labels are as frequent as in a shard: the sum over classes of share times accuracy.

    hits, tested: int64 [classes], test samples of each that were got right, and all of them. labels: int64 [classes], of the shard.
    Classes that the test set does not have are left out of the shares; nan: it has none of the shard's.
    """
    known = tested > 0
    shard = labels[known]
    total = int(shard.sum())
    return float((shard * (hits[known] / tested[known])).sum() / total) if total else float("nan")
