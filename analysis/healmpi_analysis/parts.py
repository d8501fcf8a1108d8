"""The parts of a run that was killed or still runs, OUT.h5.parts, as a Source."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from healmpi_analysis import checks, contract
from healmpi_analysis.errors import AnalysisError, Damage, Unreachable
from healmpi_analysis.hdf5 import allow_open_files, attributes, damage_of, fault_frame, scenario_of
from healmpi_analysis.part import Part, open_part, part_files
from healmpi_analysis.source import FAULT_COLUMNS, RANK_FACTS, TEXT_FACTS, Facts, Source

_MODELS = "kinds_carrying_models"
_SAME = ("run_id", "config_hash", "ranks", "total_nodes", "kinds")
"""Attributes of the root that all parts of a run have alike."""


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
        self._parts: list[Part] = []
        self._unreadable: dict[Path, str] = {}
        try:
            self._open(paths)
            with damage_of(folder):
                self._check_same_run()
                self._measure()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for part in self._parts:
            part.file.close()

    def _open(self, paths: Sequence[Path]) -> None:
        allow_open_files(len(paths))
        for path in paths:
            try:
                self._parts.append(open_part(path, len(paths)))
            except Unreachable:
                # Its nodes are not dead: this process cannot look at them.
                raise
            except AnalysisError as error:
                self._unreadable[path] = str(error)
        if not self._parts:
            raise Damage(self._path, f"has no part that can be read: {next(iter(self._unreadable.values()))}")
        self._parts.sort(key=lambda part: part.rank)

    def _check_same_run(self) -> None:
        first = self._parts[0]
        for part in self._parts[1:]:
            for name in _SAME:
                if part.text(name) != first.text(name):
                    raise AnalysisError(f"{part.path} and {first.path} are of different runs: {name} differs")
            if (part.kinds, part.phases) != (first.kinds, first.phases):
                raise AnalysisError(f"{part.path} and {first.path} tell apart other kinds of messages, or phases")
            if None not in (part.first_cycle, first.first_cycle) and part.first_cycle != first.first_cycle:
                raise AnalysisError(f"{part.path} begins with cycle {part.first_cycle}, and {first.path} with cycle {first.first_cycle}")
        for one, other in itertools.pairwise(self._parts):
            if one.rank == other.rank or one.nodes.stop > other.nodes.start:
                raise AnalysisError(f"{one.path} and {other.path} host the same nodes, or are of the same rank")
        hosted = sum(part.nodes.stop - part.nodes.start for part in self._parts)
        if first.total_nodes > contract.MOST_HOSTED * hosted:
            raise AnalysisError(f"{self._path} has {hosted} nodes of {first.total_nodes}: too few to make a run of")

    def _measure(self) -> None:
        part = self._parts[0]
        first, attrs = part.file, part.file.attrs
        self.cycles = checks.cycles(first["cycles"], min(part.committed["cycles"] for part in self._parts))
        finished = sum(part.finished for part in self._parts)
        reason = f"parts of {len(self._parts)} of {part.ranks} ranks, {finished} finished; not merged and not judged"
        known = part.texts("kinds") or contract.PART_KINDS
        named = contract.part_names(known, part.kinds, "kind")
        checks.fits_memory(8 * part.total_nodes * max(part.kinds, part.phases, 1), f"a cycle of {part.total_nodes} nodes")
        self.facts = Facts(
            path=self._path,
            nodes=part.total_nodes,
            ranks=part.ranks,
            view_size=checks.whole(attrs, "view_size", 0),
            hub_count=checks.whole(attrs, "hub_count", 0),
            complete=False,
            config=part.config,
            config_hash=part.text("config_hash"),
            provenance=attributes(first["provenance"]) if "provenance" in first else {},
            verdict="UNJUDGED",
            reasons=(reason, *(one.note for one in self._parts if one.note), *self._unreadable.values()),
            kinds=named,
            model_kinds=part.texts(_MODELS) or contract.carrying_models(named),
            phases=contract.part_names(contract.PART_PHASES, part.phases, "phase"),
            title=part.text("title"),
            scenario=scenario_of(first),
            run_id=part.text("run_id"),
        )

    def has(self, name: str) -> bool:
        silent = not self.facts.kinds and name in contract.BY_KIND
        known = name in contract.TYPES and all(f"cycles/{name}" in part.file for part in self._parts)
        return silent or known

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        if not self.facts.kinds and name in contract.BY_KIND:
            return np.zeros((stop - start, self.facts.nodes, 0), np.int64)
        block = None
        for part in self._parts:
            with damage_of(part.path, f"cycles/{name}"):
                rows = checks.in_range(name, part.file[f"cycles/{name}"][start:stop])
                if block is None:
                    block = np.full((stop - start, self.facts.nodes, *rows.shape[2:]), contract.MISSING.get(name, 0), rows.dtype)
                block[:, part.nodes] = rows
        assert block is not None
        return block

    def class_accuracy(self) -> np.ndarray | None:
        return None  # a part knows the nodes of its rank alone

    def view_cycles(self) -> np.ndarray:
        with damage_of(self._path):
            if not all("overlay/views" in part.file for part in self._parts):
                return np.empty(0, np.int64)
            recorded = min(part.committed["views"] for part in self._parts)
            # The first part may have views of cycles that another one does not have.
            views = self._parts[0].file["overlay/cycle"][:recorded].astype(np.int64)
            return views[np.isin(views, self.cycles)]

    def views(self, index: int) -> np.ndarray:
        with damage_of(self._path, "overlay/views"):
            widest = max(part.file["overlay/views"].shape[2] for part in self._parts)
            checks.fits_memory(4 * widest * self.facts.nodes, "it")
            block = np.full((self.facts.nodes, widest), -1, np.int32)
            for part in self._parts:
                rows = part.file["overlay/views"][index]
                block[part.nodes, : rows.shape[1]] = rows
            return block

    def faults(self) -> pd.DataFrame:
        """Those of cycles that all parts have, as in a merged file: of the others nothing else is known. Of a run without cycles, all."""
        frames = []
        for part in self._parts:
            with damage_of(part.path, "faults"):
                count = part.committed["faults"]
                frames.append(fault_frame({name: part.file[f"faults/{name}"][:count] for name in FAULT_COLUMNS} if count else {}))
        found = pd.concat(frames, ignore_index=True)
        if len(self.cycles):
            found = found[found["cycle"].isin(self.cycles)]
        return found.sort_values(["cycle", "node"], kind="stable", ignore_index=True)

    def rank_table(self) -> pd.DataFrame:
        with damage_of(self._path):
            return self._rank_table()

    def _rank_table(self) -> pd.DataFrame:
        ranks = self.facts.ranks
        columns = {"state": np.full(ranks, "missing", object), "first_node": np.full(ranks, -1), "node_count": np.zeros(ranks, int)}
        columns["cycles"] = np.zeros(ranks, int)
        for path in self._unreadable:
            rank = path.stem.removeprefix("rank-")
            if rank.isdecimal() and int(rank) < ranks:
                columns["state"][int(rank)] = "unreadable"
        known = [name for name in RANK_FACTS if name not in columns and any(name in part.facts for part in self._parts)]
        columns |= {name: np.full(ranks, None, object) if name in TEXT_FACTS else np.full(ranks, np.nan) for name in known}
        for part in self._parts:
            own = {"state": "finished" if part.finished else "unfinished", "first_node": part.nodes.start}
            own |= {"node_count": part.nodes.stop - part.nodes.start, "cycles": part.committed["cycles"]}
            for name, value in ({name: part.facts[name] for name in known if name in part.facts} | own).items():
                columns[name][part.rank] = value
        return pd.DataFrame(columns, index=pd.RangeIndex(ranks, name="rank"))

    def models(self) -> h5py.Dataset | None:
        return None
