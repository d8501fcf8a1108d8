"""Runs a configuration in the local world inside the test's own process and keeps all rows in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from healmpi.config import Config
from healmpi.hosting import stopping
from healmpi.hosting.host import Host
from healmpi.launch import run
from healmpi.launch.run import Ranks, prepare
from healmpi.learning.learners.kind import Trainer
from healmpi.results.rows import CycleRows, FaultRow, GroupRow


@dataclass
class Simulated:
    """What came of a run. kinds: of messages, in the order of the last axis of traffic."""

    config: Config
    learner: Trainer | None
    rows: list[CycleRows]
    groups: list[GroupRow]
    faults: list[FaultRow]
    host: Host | None = None

    def column(self, name: str) -> np.ndarray:
        """[cycles, nodes, ...]"""
        return np.array([getattr(row, name) for row in self.rows])

    def of_kinds(self, name: str, *kinds: Any) -> np.ndarray:
        """[cycles, nodes, kinds]: traffic of these kinds of messages; 0 of one that the run does not have."""
        table, known = self.column(name), list(self.config.chosen.kinds)
        empty = np.zeros(table.shape[:2], table.dtype)
        return np.stack([table[:, :, known.index(kind)] if kind in known else empty for kind in kinds], axis=2)

    def accuracy(self) -> np.ndarray:
        """Mean over live nodes, [cycles]."""
        return np.nanmean(self.column("accuracy"), axis=1)

    @property
    def nodes(self) -> dict[int, Any]:
        return self.host.population.nodes

    @property
    def complaints(self) -> list[str]:
        """Of the audit."""
        return self.host.closing.complaints


def simulate(*overrides: str) -> Simulated:
    return simulate_config(Config.load(None, overrides).resolve(1))


def simulate_config(config: Config) -> Simulated:
    ranks = Ranks()
    prepared = prepare(config, ranks)
    world = ranks.world(config.run.nodes, prepared.vector_size, config.chosen.average, 60.0)
    found = Simulated(config, prepared.learner, [], [], [])

    def sink(rows, groups, faults) -> None:
        found.rows.append(rows)
        found.groups += groups
        found.faults += faults

    found.host = Host(config, world, prepared.nodes, prepared.learner, sink, lambda progress: None)
    found.host.run()
    found.host.finish()
    return found


def execute(overrides: Sequence[str], path: Path) -> Path:
    """The whole of it in this process: the results file."""
    ranks = Ranks()
    prepared = prepare(Config.load(None, overrides).resolve(), ranks)
    return run.execute(prepared, ranks, path, lambda progress: None)


def in_pieces(overrides: Sequence[str], folder: Path, stops: Sequence[int], name: str = "pieces.h5") -> Path:
    """Stops after each of these cycles and goes on."""
    ranks, config, out = Ranks(), Config.load(None, overrides).resolve(), folder / name
    stop = folder / "stop"
    for last in [*stops, None]:
        stop.unlink(missing_ok=True)

        def watch(progress: Any, last: int | None = last) -> None:
            if progress.cycle == last:
                stop.touch()

        options = run.Options(resume=True, limits=stopping.Limits(files=(stop,)))
        try:
            return run.execute(prepare(config, ranks), ranks, out, watch, options)
        except stopping.Stopped as stopped:
            assert str(stopped).startswith(f"after cycle {last}:")
    raise AssertionError("it has never come to its end")
