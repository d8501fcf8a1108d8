"""Saves a run's state on all ranks, and keeps the wall times that go on from checkpoint to checkpoint."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import healmpi
from healmpi.hosting import checkpoint
from healmpi.hosting.stopping import Limits, Stopper
from healmpi.launch.preparing import Prepared
from healmpi.launch.ranks import Ranks
from healmpi.results.folder import PartsFolder
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
        self._kept: int | None = saved["cycle"] if saved else None
        self.stopper = Stopper(limits, prepared.config.run.cycles)

    def seconds(self) -> dict[str, float]:
        """Wall times for the record."""
        return {"startup_s": self._startup_s, "wall_s": self._wall_s + time.perf_counter() - self._begun, "checkpoint_s": self._saving_s}

    def save(self, step: int, cycle: int, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state of all ranks, then that it counts. Raises RunFailed."""
        started = time.perf_counter()
        ranks = self._ranks
        # A user's own state() can fail in any way.
        states = ranks.allgather(ranks.fail_together(lambda: self._write(step, cycle, state()), (Exception,)))
        ranks.fail_together(lambda: self._commit(step, cycle, states) if ranks.rank == 0 else None)
        self._kept = cycle
        took_s = time.perf_counter() - started
        self._saving_s += took_s
        self.stopper.saved(took_s)

    def _write(self, step: int, cycle: int, state: dict[str, Any]) -> str:
        """This rank's state. Returns its digest. Raises OSError, Misuse."""
        folder, rank = PartsFolder(self._out), self._ranks.rank
        # The rows go first: a state must never promise more of them than are on disk.
        with self._telling(folder.part(rank)):
            rows = self._writer.progress()
        known = self.seconds()
        whole = {"cycle": cycle, "host": state, "rows": rows, "wall_s": known["wall_s"], "saving_s": known["checkpoint_s"]}
        with self._telling(folder.state(step, rank)):
            return checkpoint.write_state(self._out, step, rank, whole)

    def _commit(self, step: int, cycle: int, states: Sequence[str]) -> None:
        config, version = self._config, healmpi.__version__
        index = checkpoint.Index(
            step,
            cycle,
            self._ranks.size,
            config.hash(),
            self._run_id,
            version,
            sources=config.chosen.sources(),
            capability=self._capability,
            states=tuple(states),
        )
        with self._telling(PartsFolder(self._out).index):
            checkpoint.commit(self._out, index)

    @contextlib.contextmanager
    def _telling(self, path: Path) -> Iterator[None]:
        """What the system refuses is told with the file, and with what is left."""
        try:
            yield
        except OSError as error:
            again = "--resume, or the same suite again,"
            kept = f"the checkpoint after cycle {self._kept} is kept, and {again} goes on from it"
            left = f"no checkpoint was saved before, and {again} starts from nothing" if self._kept is None else kept
            raise OSError(error.errno, f"{error.strerror or error}; {left}", str(path)) from None
