"""A merged results file as a Source."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from healmpi_analysis import contract
from healmpi_analysis.contract import text
from healmpi_analysis.hdf5 import attributes, damage_of, fault_frame, names, opened, plain_column, scenario_of, texts
from healmpi_analysis.source import RANK_FACTS, Facts, Source


class FileSource(Source):
    """A merged results file."""

    def __init__(self, path: Path):
        """Raises AnalysisError: no such file, not one of healmpi's, a newer schema, damaged."""
        self._file = opened(path, contract.SCHEMA)
        self._path = path
        try:
            with damage_of(path):
                self.facts = self._read_facts()
                self.cycles = self._file["cycles/cycle"][:].astype(np.int64)
                of_nodes = {name: table for name, table in self._file["cycles"].items() if name != contract.OF_CLASSES}
                self._tables = {name: table for name, table in of_nodes.items() if _by_node(table)}
                self._check_tables()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def _check_tables(self) -> None:
        for name in contract.REQUIRED:
            if name not in self._tables:
                raise KeyError(f"no table cycles/{name}")
        for name, table in self._tables.items():
            if table.shape[:2] != (len(self.cycles), self.facts.nodes):
                raise ValueError(f"cycles/{name} has the shape {table.shape} with {len(self.cycles)} cycles and {self.facts.nodes} nodes")

    def _read_facts(self) -> Facts:
        attrs, config, summary = self._file.attrs, self._file["config"].attrs, self._file["summary"].attrs
        kinds = names(self._file["cycles/kind"])
        return Facts(
            path=self._path,
            nodes=int(attrs["nodes"]),
            ranks=int(attrs["ranks"]),
            view_size=int(attrs["view_size"]),
            hub_count=int(attrs["hub_count"]),
            complete=bool(attrs["complete"]),
            config=json.loads(text(config["json"])),
            config_hash=text(config["hash"]),
            provenance=attributes(self._file["provenance"]) if "provenance" in self._file else {},
            verdict=text(summary["verdict"]),
            reasons=texts(summary["reasons"]),
            kinds=kinds,
            model_kinds=self._model_kinds(kinds),
            phases=names(self._file["cycles/phase"]),
            title=text(attrs.get("title", "")),
            scenario=scenario_of(self._file),
            run_id=text(attrs.get("run_id", "")),
        )

    def _model_kinds(self, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if "carries_model" not in self._file["cycles"]:
            return contract.carrying_models(kinds)
        return tuple(kind for kind, carries in zip(kinds, self._file["cycles/carries_model"][:], strict=True) if carries)

    def has(self, name: str) -> bool:
        return name in self._tables

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        with damage_of(self._path):
            return self._tables[name][start:stop]

    def class_accuracy(self) -> np.ndarray | None:
        with damage_of(self._path):
            table = self._file["cycles"].get(contract.OF_CLASSES)
            if table is not None and (table.ndim != 2 or len(table) != len(self.cycles)):
                raise ValueError(f"cycles/{contract.OF_CLASSES} has the shape {table.shape} with {len(self.cycles)} cycles")
            return None if table is None else table[:]

    def view_cycles(self) -> np.ndarray:
        with damage_of(self._path):
            return self._file["overlay/cycle"][:].astype(np.int64) if "overlay" in self._file else np.empty(0, np.int64)

    def views(self, index: int) -> np.ndarray:
        with damage_of(self._path):
            return self._file["overlay/views"][index]

    def faults(self) -> pd.DataFrame:
        with damage_of(self._path):
            group = self._file.get("faults", {})
            return fault_frame({name: group[name][:] for name in ("cycle", "tick", "node", "kind", "detail") if name in group})

    def rank_table(self) -> pd.DataFrame:
        with damage_of(self._path):
            group = self._file["ranks"]
            states = [text(state) for state in group.attrs["states"]]
            columns = {name: plain_column(group[name][:]) for name in RANK_FACTS if name in group}
            columns["state"] = [states[index] for index in group["state"][:]]
            return pd.DataFrame(columns, index=pd.RangeIndex(self.facts.ranks, name="rank"))

    def models(self) -> h5py.Dataset | None:
        return self._file.get("models/parameters")


def _by_node(table: h5py.Dataset) -> bool:
    """Whether a table of /cycles has a row of nodes for each cycle; what says no dimensions of its own (older files) has."""
    if table.ndim < 2:
        return False
    scales = [scale.name.rpartition("/")[2] for scale in table.dims[1].values()]
    return not scales or "node" in scales
