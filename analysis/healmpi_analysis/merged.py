"""A merged results file as a Source."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from healmpi_analysis import checks, contract, integrity
from healmpi_analysis.contract import text
from healmpi_analysis.errors import Damage
from healmpi_analysis.hdf5 import (
    INTEGRITY,
    attributes,
    damage_of,
    fault_frame,
    is_known,
    once,
    opened,
    plain_column,
    scenario_of,
    texts,
    verifying,
)
from healmpi_analysis.source import FAULT_COLUMNS, RANK_FACTS, TEXT_FACTS, Facts, Source


class FileSource(Source):
    """A merged results file."""

    def __init__(self, path: Path, passing: Collection[str] = ()):
        """passing: see sources.open_source. Raises AnalysisError: no such file, not one of healmpi's, a newer schema, damaged."""
        self._file = opened(path, contract.SCHEMA, [f"/cycles/{name}" for name in passing])
        self._path = path
        self._worker = ThreadPoolExecutor(1)
        try:
            with damage_of(path):
                self.facts = self._read_facts()
                self.cycles = checks.cycles(self._file["cycles"])
                self._tables = {name: table for name, table in self._file["cycles"].items() if _by_node(name, table)}
                self._check_tables()
                self._views, self._models = self._read_views(), self._read_models()
                self._passed = self._to_pass(passing)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._worker.shutdown()
        self._file.close()

    def _to_pass(self, names: Collection[str]) -> dict[str, integrity.Passed]:
        """Those tables of which no digest was looked at when the file was opened."""
        if not verifying() or is_known(self._path, INTEGRITY):
            return {}
        tables = {name: table for name, table in self._file["cycles"].items() if name in names and integrity.DIGEST in table.attrs}
        return {name: integrity.Passed(table, self._worker) for name, table in tables.items()}

    def check_passed(self) -> None:
        for name, passed in self._passed.items():
            with damage_of(self._path, f"cycles/{name}"):
                holds = passed.holds()
            if not holds:
                raise Damage(self._path, f"is damaged: /cycles/{name} {integrity.UNLIKE}")
        once(self._path, INTEGRITY, lambda: None)

    def _check_tables(self) -> None:
        for name in contract.REQUIRED:
            if name not in self._tables:
                raise KeyError(f"no table cycles/{name}")
        lasts = dict.fromkeys(contract.BY_KIND, len(self.facts.kinds)) | {"seconds": len(self.facts.phases)}
        for name, table in self._tables.items():
            if table.shape[:2] != (len(self.cycles), self.facts.nodes):
                raise ValueError(f"cycles/{name} has the shape {table.shape} with {len(self.cycles)} cycles and {self.facts.nodes} nodes")
            if name in contract.TYPES:
                last = [lasts[name]] if name in lasts else []
                checks.table(self._file["cycles"], name, contract.TYPES[name], (*table.shape[:2], *last))

    def _read_facts(self) -> Facts:
        attrs, config, summary = self._file.attrs, self._file["config"].attrs, self._file["summary"].attrs
        kinds, phases = (self._names(name) for name in ("kind", "phase"))
        nodes = checks.whole(attrs, "nodes", 1)
        verdict = text(summary["verdict"])
        if verdict not in contract.VERDICTS:
            raise ValueError(f"summary has the verdict {verdict[:40]!r}, and not VALID or INVALID")
        return Facts(
            path=self._path,
            nodes=nodes,
            ranks=checks.whole(attrs, "ranks", 1, nodes),
            view_size=checks.whole(attrs, "view_size", 0, max(nodes, contract.WIDEST_VIEW)),
            hub_count=checks.whole(attrs, "hub_count", 0, max(nodes, contract.WIDEST_VIEW)),
            complete=bool(checks.whole(attrs, "complete", 0, 1)),
            config=checks.configuration(config["json"], text(config["hash"])),
            config_hash=text(config["hash"]),
            provenance=attributes(self._file["provenance"]) if "provenance" in self._file else {},
            verdict=verdict,
            reasons=texts(summary["reasons"]),
            kinds=kinds,
            model_kinds=self._model_kinds(kinds),
            phases=phases,
            title=text(attrs.get("title", "")),
            scenario=scenario_of(self._file),
            run_id=text(attrs.get("run_id", "")),
        )

    def _names(self, scale: str) -> tuple[str, ...]:
        found = tuple(text(value) for value in checks.small(self._file["cycles"], scale, checks.TEXTS, None))
        if len(set(found)) != len(found):
            raise ValueError(f"cycles/{scale} has a name twice")
        return found

    def _model_kinds(self, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if "carries_model" not in self._file["cycles"]:
            return contract.carrying_models(kinds)
        carries = checks.small(self._file["cycles"], "carries_model", checks.INTEGERS, len(kinds))
        return tuple(kind for kind, carry in zip(kinds, carries, strict=True) if carry)

    def _read_views(self) -> tuple[np.ndarray, h5py.Dataset | None]:
        """The cycles with recorded views, and the table of these."""
        group = self._file.get("overlay")
        if group is None:
            return np.empty(0, np.int64), None
        recorded = checks.view_cycles(group, self.cycles)
        return recorded, checks.table(group, "views", checks.INTEGERS, (len(recorded), self.facts.nodes, None))

    def _read_models(self) -> h5py.Dataset | None:
        group = self._file.get("models")
        return checks.table(group, "parameters", "f", (self.facts.nodes, None)) if group is not None and "parameters" in group else None

    def has(self, name: str) -> bool:
        return name in self._tables

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        with damage_of(self._path, f"cycles/{name}"):
            block = self._tables[name][start:stop]
            if name in self._passed:
                self._passed[name].add(start, block)
            return checks.in_range(name, block)

    def class_accuracy(self) -> np.ndarray | None:
        with damage_of(self._path):
            if contract.OF_CLASSES not in self._file["cycles"]:
                return None
            table = checks.table(self._file["cycles"], contract.OF_CLASSES, "f", (len(self.cycles), None))
            checks.fits_memory(table.size * table.dtype.itemsize, table.name)
            return checks.in_range(contract.OF_CLASSES, table[:])

    def view_cycles(self) -> np.ndarray:
        return self._views[0]

    def views(self, index: int) -> np.ndarray:
        with damage_of(self._path, "overlay/views"):
            if self._views[1] is None:
                raise ValueError("there are none")
            return self._views[1][index]

    def faults(self) -> pd.DataFrame:
        with damage_of(self._path):
            group = self._file.get("faults", {})
            if not any(name in group for name in FAULT_COLUMNS):
                return fault_frame({})
            length = len(checks.table(group, "cycle", checks.INTEGERS, (None,)))
            columns = {name: checks.small(group, name, kinds, length) for name, kinds in FAULT_COLUMNS.items()}
            checks.within("faults/node", columns["node"], contract.NO_NODE, self.facts.nodes - 1)
            checks.of_cycles("faults/cycle", columns["cycle"], self.cycles)
            return fault_frame(columns)

    def rank_table(self) -> pd.DataFrame:
        with damage_of(self._path):
            group, ranks = self._file["ranks"], self.facts.ranks
            states = texts(group.attrs["states"])
            kinds = {name: checks.TEXTS if name in TEXT_FACTS else checks.NUMBERS for name in RANK_FACTS if name in group}
            found = {name: checks.small(group, name, kind, ranks) for name, kind in kinds.items()}
            checks.blocks(found["first_node"], found["node_count"], self.facts.nodes)
            columns = {name: plain_column(values) for name, values in found.items()}
            columns["state"] = [states[index] for index in checks.within("ranks/state", found["state"], 0, len(states) - 1)]
            return pd.DataFrame(columns, index=pd.RangeIndex(ranks, name="rank"))

    def models(self) -> h5py.Dataset | None:
        return self._models


def _by_node(name: str, table: h5py.Dataset) -> bool:
    """Whether a table of /cycles has a row of nodes for each cycle; what says no dimensions of its own (older files) has."""
    if name == contract.OF_CLASSES or table.ndim < 2:
        return False
    scales = [scale.name.rpartition("/")[2] for scale in table.dims[1].values()]
    return not scales or "node" in scales
