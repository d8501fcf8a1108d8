"""Runs a configuration in the local world inside the test's own process and keeps all rows in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from healmpi import run
from healmpi.config import Config
from healmpi.host import Host
from healmpi.participants import Participants
from healmpi.results.writer import CycleRows, FaultRow, GroupRow
from healmpi.run import Ranks, prepare


@dataclass
class Simulated:
    config: Config
    rows: list[CycleRows]
    groups: list[GroupRow]
    faults: list[FaultRow]
    host: Host

    def column(self, name: str) -> np.ndarray:
        """[cycles, nodes, ...]"""
        return np.array([getattr(row, name) for row in self.rows])

    def accuracy(self) -> np.ndarray:
        """Mean over live nodes, [cycles]."""
        return np.nanmean(self.column("accuracy"), axis=1)


def simulate(*overrides: str) -> Simulated:
    config = Config.load(None, overrides).resolve(1)
    ranks = Ranks()
    prepared = prepare(config, ranks)
    world = ranks.world(config.run.nodes, prepared.learner.size if prepared.learner else 0, 60.0)
    run = Simulated(config, [], [], [], None)

    def sink(rows, groups, faults) -> None:
        run.rows.append(rows)
        run.groups += groups
        run.faults += faults

    run.host = Host(config, Participants(config), world, prepared.nodes, prepared.learner, sink, lambda progress: None)
    run.host.run()
    run.host.finish()
    return run


def execute(overrides: Sequence[str], path: Path) -> Path:
    """The whole of it in this process: the results file."""
    ranks = Ranks()
    prepared = prepare(Config.load(None, overrides).resolve(), ranks)
    return run.execute(prepared, ranks, path, lambda progress: None)
