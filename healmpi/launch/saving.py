"""Saves a run's state on all ranks, and keeps the wall times that go on from checkpoint to checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import healmpi
from healmpi.hosting import checkpoint
from healmpi.hosting.stopping import Limits, Stopper
from healmpi.launch.preparing import Prepared
from healmpi.launch.ranks import Ranks
from healmpi.results.writer import PartWriter


class StateSaver:
    """One rank's part. saved: the state that the run goes on from; its wall times go on, too. capability: as checkpoint.Index has it."""

    def __init__(
        self,
        ranks: Ranks,
        out: Path,
        writer: PartWriter,
        limits: Limits,
        prepared: Prepared,
        run_id: str,
        saved: dict[str, Any] | None,
        capability: str,
    ):
        self._ranks, self._out, self._writer = ranks, out, writer
        self._config, self._run_id = prepared.config, run_id
        self._begun = time.perf_counter()
        self._startup_s = self._begun - prepared.begun
        self._wall_s: float = saved["wall_s"] if saved else 0.0
        self._saving_s: float = saved["saving_s"] if saved else 0.0
        self._capability = capability
        self.stopper = Stopper(limits, prepared.config.run.cycles)

    def seconds(self) -> dict[str, float]:
        """Wall times for the record."""
        return {"startup_s": self._startup_s, "wall_s": self._wall_s + time.perf_counter() - self._begun, "checkpoint_s": self._saving_s}

    def save(self, step: int, cycle: int, state: dict[str, Any]) -> None:
        """Write the state of all ranks, then that it counts. Raises RunFailed."""
        started = time.perf_counter()
        ranks, config = self._ranks, self._config
        version, own = healmpi.__version__, config.chosen.sources()
        index = checkpoint.Index(step, cycle, ranks.size, config.hash(), self._run_id, version, sources=own, capability=self._capability)
        ranks.fail_together(lambda: self._write(step, cycle, state))
        ranks.fail_together(lambda: checkpoint.commit(self._out, index) if ranks.rank == 0 else None)
        took_s = time.perf_counter() - started
        self._saving_s += took_s
        self.stopper.saved(took_s)

    def _write(self, step: int, cycle: int, state: dict[str, Any]) -> None:
        # The rows go first: a state must never promise more of them than are on disk.
        rows, known = self._writer.progress(), self.seconds()
        whole = {"cycle": cycle, "host": state, "rows": rows, "wall_s": known["wall_s"], "saving_s": known["checkpoint_s"]}
        checkpoint.write_state(self._out, step, self._ranks.rank, whole)
