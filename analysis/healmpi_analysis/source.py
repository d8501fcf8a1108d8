"""One run that can be read, whatever it lies in: what is known of it, and its tables a block of cycles at a time.

Nothing is loaded on opening but names and attributes, so that memory is bounded however long the run was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

BLOCK_BYTES = 32 * 1024 * 1024
"""How much of a file is in memory at a time."""

RANK_FACTS = ("state", "first_node", "node_count", "cycles", "host", "wall_s", "startup_s", "tail_s", "cpu_capability")
"""What is read of /ranks; the other facts are for who looks into a single file."""

TEXT_FACTS = ("host", "cpu_capability")

FAULT_COLUMNS = {"cycle": "iu", "tick": "iu", "node": "iu", "kind": "S", "detail": "S"}
"""What is read of /faults, and of which kind each is."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run before any table is read.

    complete: whether every rank finished. config: nested, as it was resolved. verdict: 'VALID', 'INVALID', or 'UNJUDGED'
    for parts, with its reasons. kinds, phases: names of the last axes. model_kinds: those of kinds that carry a model.
    hub_count: 0 where there are no hubs. title, scenario: what the file calls the run and its faults; empty: it does not
    say (before schema 1.2). run_id: of this very run, empty: not known.
    """

    path: Path
    nodes: int
    ranks: int
    view_size: int
    hub_count: int
    complete: bool
    config: dict
    config_hash: str
    provenance: dict
    verdict: str
    reasons: tuple[str, ...]
    kinds: tuple[str, ...]
    model_kinds: tuple[str, ...]
    phases: tuple[str, ...]
    title: str
    scenario: str
    run_id: str = ""


class Source:
    """One run, open for reading; a context manager. cycles: int [C], numbers of the recorded cycles, ascending."""

    facts: Facts
    cycles: np.ndarray

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close all files. May be called twice."""
        raise NotImplementedError

    def check_passed(self) -> None:
        """After all that was to be read once has been: whether it has the digests that were written with it. Raises Damage."""

    def has(self, name: str) -> bool:
        """Whether /cycles has the table."""
        raise NotImplementedError

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of a table of /cycles: [cycles, nodes] or [cycles, nodes, kinds or phases]."""
        raise NotImplementedError

    def class_accuracy(self) -> np.ndarray | None:
        """float [cycles, classes], mean over judged nodes of the accuracy on test samples of a class; None: not recorded."""
        raise NotImplementedError

    def view_cycles(self) -> np.ndarray:
        """int [V], the cycles in which views were recorded; static topologies have one."""
        raise NotImplementedError

    def views(self, index: int) -> np.ndarray:
        """int [nodes, slots], the views of the recorded cycle with that index; -1: empty."""
        raise NotImplementedError

    def faults(self) -> pd.DataFrame:
        """Columns cycle, tick, node (-1: none), kind, detail, in time."""
        raise NotImplementedError

    def rank_table(self) -> pd.DataFrame:
        """One row a rank: the columns RANK_FACTS as far as the run left them; state as text."""
        raise NotImplementedError

    def models(self) -> h5py.Dataset | None:
        """float32 [nodes, parameters], the final models, not yet read; None: not saved."""
        raise NotImplementedError

    def blocks(self, names: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Ranges of rows such that these tables, read together, take about BLOCK_BYTES."""
        row_bytes = sum(8 * self.facts.nodes * self._width(name) for name in names)
        step = max(1, BLOCK_BYTES // max(1, row_bytes))
        # A power of two, as the files' chunks are: no chunk is taken out of its compression twice.
        step = 1 << (step.bit_length() - 1)
        for start in range(0, len(self.cycles), step):
            yield start, min(len(self.cycles), start + step)

    def _width(self, name: str) -> int:
        if name == "seconds":
            return len(self.facts.phases)
        return len(self.facts.kinds) if name.startswith(("messages_", "bytes_")) else 1
