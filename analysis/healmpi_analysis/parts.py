"""The parts of a run that was killed or still runs, OUT.h5.parts, as a Source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from healmpi_analysis import contract
from healmpi_analysis.contract import text
from healmpi_analysis.errors import AnalysisError, Unreachable
from healmpi_analysis.hdf5 import allow_open_files, attributes, damage_of, fault_frame, opened, scenario_of, texts
from healmpi_analysis.source import RANK_FACTS, Facts, Source

_MODELS = "kinds_carrying_models"


@dataclass(frozen=True, slots=True)
class _Part:
    """One readable part. committed: rows that count, by table."""

    file: h5py.File
    rank: int
    nodes: slice
    committed: dict[str, int]


class PartsSource(Source):
    """The parts of a run that did not end, OUT.h5.parts: the cycles that all readable parts have.

    A rank that left nothing readable is filled in as in a merged file: not alive, nan, 0.
    """

    def __init__(self, folder: Path):
        """Raises AnalysisError: no parts, none readable, or parts of different runs."""
        paths = part_files(folder)
        if not paths:
            raise AnalysisError(f"{folder} holds no parts of a run (rank-*.h5); name a results file, a folder of them, or OUT.h5.parts")
        self._path = folder
        self._parts: list[_Part] = []
        try:
            self._open(paths)
            with damage_of(folder):
                self._measure()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for part in self._parts:
            part.file.close()

    def _open(self, paths: Sequence[Path]) -> None:
        allow_open_files(len(paths))
        errors = []
        for path in paths:
            try:
                self._parts.append(_open_part(path))
            except Unreachable:
                # Its nodes are not dead: this process cannot look at them.
                raise
            except AnalysisError as error:
                errors.append(error)
        if not self._parts:
            raise errors[0]
        self._parts.sort(key=lambda part: part.rank)
        first = self._parts[0].file.attrs
        for part in self._parts[1:]:
            for name in ("run_id", "config_hash", "ranks", "total_nodes"):
                if text(part.file.attrs.get(name, "")) != text(first.get(name, "")):
                    raise AnalysisError(f"{part.file.filename} and {self._parts[0].file.filename} are of different runs: {name} differs")

    def _measure(self) -> None:
        first, attrs = self._parts[0].file, self._parts[0].file.attrs
        self.cycles = first["cycles/cycle"][: min(part.committed["cycles"] for part in self._parts)].astype(np.int64)
        ranks = int(attrs["ranks"])
        finished = sum(bool(part.file.attrs.get("finished", 0)) for part in self._parts)
        reason = f"parts of {len(self._parts)} of {ranks} ranks, {finished} finished; not merged and not judged"
        # A run without messages leaves no tables of them.
        kinds = first["cycles/messages_out"].shape[2] if "messages_out" in first["cycles"] else 0
        phases = first["cycles/seconds"].shape[2]
        known = texts(attrs["kinds"]) if "kinds" in attrs else contract.PART_KINDS
        named = contract.part_names(known, kinds, "kind")
        self.facts = Facts(
            path=self._path,
            nodes=int(attrs["total_nodes"]),
            ranks=ranks,
            view_size=int(attrs["view_size"]),
            hub_count=int(attrs["hub_count"]),
            complete=False,
            config=json.loads(text(first["config"].attrs["json"])),
            config_hash=text(attrs["config_hash"]),
            provenance=attributes(first["provenance"]),
            verdict="UNJUDGED",
            reasons=(reason,),
            kinds=named,
            model_kinds=texts(attrs[_MODELS]) if _MODELS in attrs else contract.carrying_models(named),
            phases=contract.part_names(contract.PART_PHASES, phases, "phase"),
            title=text(attrs.get("title", "")),
            scenario=scenario_of(first),
            run_id=text(attrs.get("run_id", "")),
        )

    def has(self, name: str) -> bool:
        silent = not self.facts.kinds and name.startswith(("messages_", "bytes_"))
        return silent or (f"cycles/{name}" in self._parts[0].file and name not in ("cycle", "ticks", "class_hits"))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        with damage_of(self._path):
            if f"cycles/{name}" not in self._parts[0].file:
                return np.zeros((stop - start, self.facts.nodes, 0), np.int64)
            first = self._parts[0].file[f"cycles/{name}"]
            block = np.full((stop - start, self.facts.nodes, *first.shape[2:]), contract.MISSING.get(name, 0), first.dtype)
            for part in self._parts:
                block[:, part.nodes] = part.file[f"cycles/{name}"][start:stop]
            return block

    def class_accuracy(self) -> np.ndarray | None:
        return None  # a part knows the nodes of its rank alone

    def view_cycles(self) -> np.ndarray:
        with damage_of(self._path):
            recorded = min(part.committed["views"] for part in self._parts)
            return self._parts[0].file["overlay/cycle"][:recorded].astype(np.int64)

    def views(self, index: int) -> np.ndarray:
        with damage_of(self._path):
            widest = max(part.file["overlay/views"].shape[2] for part in self._parts)
            block = np.full((self.facts.nodes, widest), -1, np.int32)
            for part in self._parts:
                rows = part.file["overlay/views"][index]
                block[part.nodes, : rows.shape[1]] = rows
            return block

    def faults(self) -> pd.DataFrame:
        with damage_of(self._path):
            frames = []
            for part in self._parts:
                group, count = part.file["faults"], part.committed["faults"]
                frames.append(fault_frame({name: group[name][:count] for name in ("cycle", "tick", "node", "kind", "detail")}))
            return pd.concat(frames, ignore_index=True).sort_values(["cycle", "node"], kind="stable", ignore_index=True)

    def rank_table(self) -> pd.DataFrame:
        rows = {rank: {"state": "missing", "first_node": -1, "node_count": 0, "cycles": 0} for rank in range(self.facts.ranks)}
        for part in self._parts:
            facts = attributes(part.file["facts"]) if "facts" in part.file else {}
            facts = {name: value for name, value in facts.items() if name in RANK_FACTS}
            nodes = {"first_node": part.nodes.start, "node_count": part.nodes.stop - part.nodes.start}
            state = "finished" if part.file.attrs.get("finished", 0) else "unfinished"
            rows[part.rank] = {"state": state, **nodes, "cycles": part.committed["cycles"], **facts}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("rank")

    def models(self) -> h5py.Dataset | None:
        return None


def part_files(folder: Path) -> list[Path]:
    """The parts in a folder, in order of ranks."""
    return sorted(folder.glob("rank-*.h5"))


def _open_part(path: Path) -> _Part:
    file = opened(path, contract.PART_SCHEMA)
    try:
        with damage_of(path):
            attrs = file.attrs
            first = int(attrs["first_node"])
            committed = dict(zip(contract.PART_COMMITTED, file["committed"][:].tolist(), strict=False))
            return _Part(file, int(attrs["rank"]), slice(first, first + int(attrs["node_count"])), committed)
    except BaseException:
        file.close()
        raise
