"""Opening what a run left, a merged file or the parts of a killed run, behind one face; everything is opened for reading.

    find_sources(folder) -> paths          open_source(path) -> Source          Source.read("accuracy", 0, 100) -> array

The rule that surprises: nothing is loaded on opening but names and attributes. Tables are read a block of cycles at a
time, so that memory is bounded however long the run was. HDF5's locks are not used: a killed or running writer keeps
nobody from reading.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from healmpi_analysis import contract
from healmpi_analysis.contract import text
from healmpi_analysis.errors import AnalysisError

BLOCK_BYTES = 32 * 1024 * 1024
"""How much of a file is in memory at a time."""

RANK_FACTS = ("state", "first_node", "node_count", "cycles", "host", "wall_s", "startup_s", "tail_s")
"""What is read of /ranks; the other facts are for who looks into a single file."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run before any table is read.

    complete: whether every rank finished. config: nested, as it was resolved. verdict: 'VALID', 'INVALID', or 'UNJUDGED'
    for parts, with its reasons. kinds, phases: names of the last axes. hub_count: 0 where there are no hubs.
    """

    path: Path
    nodes: int
    ranks: int
    view_size: int
    hub_count: int
    complete: bool
    run_id: str
    config: dict
    config_hash: str
    provenance: dict
    verdict: str
    reasons: tuple[str, ...]
    kinds: tuple[str, ...]
    phases: tuple[str, ...]


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

    def has(self, name: str) -> bool:
        """Whether /cycles has the table."""
        raise NotImplementedError

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of a table of /cycles: [cycles, nodes] or [cycles, nodes, kinds or phases]."""
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


# Finding.


def find_sources(places: Sequence[Path]) -> list[Path]:
    """All runs in files and folders, folders searched to any depth; each once, in order of name.

    A folder OUT.h5.parts stands for its run where OUT.h5 does not exist. Raises AnalysisError: a place does not exist, or
    nothing was found in any of them.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        parts = place.parent / f"{place.name}.parts"
        if not place.exists() and parts.is_dir():
            place = parts
        if not place.exists():
            raise AnalysisError(f"{place} does not exist; name a results file (.h5), a folder of them, or OUT.h5.parts")
        for path in [place] if place.is_file() or place.name.endswith(".parts") else _inside(place):
            found.setdefault(path)
    if not found:
        raise AnalysisError(f"there is no results file (*.h5) in {', '.join(map(str, places))}")
    return list(found)


def _inside(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*.h5") if path.is_file() and not path.parent.name.endswith(".parts")]
    parts = [path for path in folder.rglob("*.parts") if path.is_dir() and any(path.glob("rank-*.h5"))]
    return sorted([*files, *(path for path in parts if not path.with_name(path.name.removesuffix(".parts")).exists())])


def open_source(path: Path | str) -> Source:
    """The run at this path: a merged file, or a folder of parts. Raises AnalysisError."""
    path = Path(path)
    if path.is_dir():
        return PartsSource(path)
    return FileSource(path)


# A file of any kind.


def _opened(path: Path, schema: str) -> h5py.File:
    """The file, its schema checked. Raises AnalysisError."""
    _refuse_foreign_bytes(path)
    try:
        file = _without_locks(path)
    except OSError as error:
        raise AnalysisError(f"{path} is truncated or damaged: HDF5 cannot open it ({error})") from None
    try:
        _check_schema(path, file, schema)
    except BaseException:
        file.close()
        raise
    return file


def _without_locks(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except (TypeError, ValueError):  # an h5py or HDF5 that does not let one choose
        return h5py.File(path, "r")
    except OSError as error:
        # The calling program has the file open already, with locks: HDF5 wants the same choice again.
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")


def _refuse_foreign_bytes(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_SIGNATURE))
    except OSError as error:
        raise AnalysisError(f"{path} cannot be read ({error.strerror})") from None
    if not start:
        raise AnalysisError(f"{path} is empty")
    if start != _SIGNATURE:
        raise AnalysisError(f"{path} is not an HDF5 file")


def _check_schema(path: Path, file: h5py.File, schema: str) -> None:
    found, version = text(file.attrs.get("schema", "")), text(file.attrs.get("schema_version", ""))
    if schema == contract.SCHEMA and found == contract.PART_SCHEMA:
        raise AnalysisError(f"{path} is the part of one rank; name its folder, {path.parent}, to read the parts of all ranks")
    if found != schema or not version:
        raise AnalysisError(f"{path} is an HDF5 file, but not one of healmpi's (its attribute schema is not {schema!r})")
    if version.partition(".")[0] != contract.MAJOR:
        raise AnalysisError(f"{path} has schema version {version}; this package reads {contract.MAJOR}.x, take one that knows {version}")


@contextlib.contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """What h5py raises inside becomes one sentence: the file has the right name and the wrong content."""
    try:
        yield
    except (KeyError, OSError, RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise AnalysisError(f"{path} is damaged or lacks what every results file has ({reason})") from None


def _names(scale: h5py.Dataset) -> tuple[str, ...]:
    return tuple(text(value) for value in scale[:])


def _attributes(group: h5py.Group) -> dict:
    return {name: text(value) if isinstance(value, (bytes, str)) else np.asarray(value).tolist() for name, value in group.attrs.items()}


# A merged file.


class FileSource(Source):
    """A merged results file."""

    def __init__(self, path: Path):
        """Raises AnalysisError: no such file, not one of healmpi's, a newer schema, damaged."""
        self._file = _opened(path, contract.SCHEMA)
        self._path = path
        try:
            with _damage_of(path):
                self.facts = self._read_facts()
                self.cycles = self._file["cycles/cycle"][:].astype(np.int64)
                self._tables = {name: table for name, table in self._file["cycles"].items() if table.ndim > 1}
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
        return Facts(
            path=self._path, nodes=int(attrs["nodes"]), ranks=int(attrs["ranks"]), view_size=int(attrs["view_size"]),
            hub_count=int(attrs["hub_count"]), complete=bool(attrs["complete"]), run_id=text(attrs.get("run_id", "")),
            config=json.loads(text(config["json"])), config_hash=text(config["hash"]),
            provenance=_attributes(self._file["provenance"]) if "provenance" in self._file else {},
            verdict=text(summary["verdict"]), reasons=tuple(text(reason) for reason in np.atleast_1d(summary["reasons"])),
            kinds=_names(self._file["cycles/kind"]), phases=_names(self._file["cycles/phase"]),
        )  # fmt: skip

    def has(self, name: str) -> bool:
        return name in self._tables

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        with _damage_of(self._path):
            return self._tables[name][start:stop]

    def view_cycles(self) -> np.ndarray:
        with _damage_of(self._path):
            return self._file["overlay/cycle"][:].astype(np.int64) if "overlay" in self._file else np.empty(0, np.int64)

    def views(self, index: int) -> np.ndarray:
        with _damage_of(self._path):
            return self._file["overlay/views"][index]

    def faults(self) -> pd.DataFrame:
        with _damage_of(self._path):
            group = self._file.get("faults", {})
            return _fault_frame({name: group[name][:] for name in ("cycle", "tick", "node", "kind", "detail") if name in group})

    def rank_table(self) -> pd.DataFrame:
        with _damage_of(self._path):
            group = self._file["ranks"]
            states = [text(state) for state in group.attrs["states"]]
            columns = {name: _plain_column(group[name][:]) for name in RANK_FACTS if name in group}
            columns["state"] = [states[index] for index in group["state"][:]]
            return pd.DataFrame(columns, index=pd.RangeIndex(self.facts.ranks, name="rank"))

    def models(self) -> h5py.Dataset | None:
        return self._file.get("models/parameters")


def _plain_column(values: np.ndarray) -> np.ndarray | list[str]:
    return [text(value) for value in values] if values.dtype.kind in "SO" else values


def _fault_frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    if not columns:
        columns = {name: np.empty(0, np.int64) for name in ("cycle", "tick", "node")} | {
            name: np.empty(0, "S1") for name in ("kind", "detail")
        }
    return pd.DataFrame({name: _plain_column(values) for name, values in columns.items()})


# The parts of a killed run.


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
        paths = sorted(folder.glob("rank-*.h5"))
        if not paths:
            raise AnalysisError(f"{folder} holds no parts of a run (rank-*.h5); name a results file, a folder of them, or OUT.h5.parts")
        self._path, self._parts = folder, []
        try:
            self._open(paths)
            with _damage_of(folder):
                self._measure()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for part in self._parts:
            part.file.close()

    def _open(self, paths: Sequence[Path]) -> None:
        errors = []
        for path in paths:
            try:
                self._parts.append(_open_part(path))
            except AnalysisError as error:
                errors.append(error)
        if not self._parts:
            raise errors[0]
        self._parts.sort(key=lambda part: part.rank)
        self._unreadable = len(errors)
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
        kinds, phases = (first[f"cycles/{name}"].shape[2] for name in ("messages_out", "seconds"))
        self.facts = Facts(
            path=self._path, nodes=int(attrs["total_nodes"]), ranks=ranks, view_size=int(attrs["view_size"]),
            hub_count=int(attrs["hub_count"]), complete=False, run_id=text(attrs.get("run_id", "")),
            config=json.loads(text(first["config"].attrs["json"])), config_hash=text(attrs["config_hash"]),
            provenance=_attributes(first["provenance"]), verdict="UNJUDGED", reasons=(reason,),
            kinds=contract.part_names(contract.PART_KINDS, kinds, "kind"),
            phases=contract.part_names(contract.PART_PHASES, phases, "phase"),
        )  # fmt: skip

    def has(self, name: str) -> bool:
        return f"cycles/{name}" in self._parts[0].file and name not in ("cycle", "ticks")

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        with _damage_of(self._path):
            first = self._parts[0].file[f"cycles/{name}"]
            block = np.full((stop - start, self.facts.nodes, *first.shape[2:]), contract.MISSING.get(name, 0), first.dtype)
            for part in self._parts:
                block[:, part.nodes] = part.file[f"cycles/{name}"][start:stop]
            return block

    def view_cycles(self) -> np.ndarray:
        with _damage_of(self._path):
            recorded = min(part.committed["views"] for part in self._parts)
            return self._parts[0].file["overlay/cycle"][:recorded].astype(np.int64)

    def views(self, index: int) -> np.ndarray:
        with _damage_of(self._path):
            widest = max(part.file["overlay/views"].shape[2] for part in self._parts)
            block = np.full((self.facts.nodes, widest), -1, np.int32)
            for part in self._parts:
                rows = part.file["overlay/views"][index]
                block[part.nodes, : rows.shape[1]] = rows
            return block

    def faults(self) -> pd.DataFrame:
        with _damage_of(self._path):
            frames = []
            for part in self._parts:
                group, count = part.file["faults"], part.committed["faults"]
                frames.append(_fault_frame({name: group[name][:count] for name in ("cycle", "tick", "node", "kind", "detail")}))
            return pd.concat(frames, ignore_index=True).sort_values(["cycle", "node"], kind="stable", ignore_index=True)

    def rank_table(self) -> pd.DataFrame:
        rows = {rank: {"state": "missing", "first_node": -1, "node_count": 0, "cycles": 0} for rank in range(self.facts.ranks)}
        for part in self._parts:
            facts = _attributes(part.file["facts"]) if "facts" in part.file else {}
            facts = {name: value for name, value in facts.items() if name in RANK_FACTS}
            nodes = {"first_node": part.nodes.start, "node_count": part.nodes.stop - part.nodes.start}
            state = "finished" if part.file.attrs.get("finished", 0) else "unfinished"
            rows[part.rank] = {"state": state, **nodes, "cycles": part.committed["cycles"], **facts}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("rank")

    def models(self) -> h5py.Dataset | None:
        return None


def _open_part(path: Path) -> _Part:
    file = _opened(path, contract.PART_SCHEMA)
    try:
        with _damage_of(path):
            attrs = file.attrs
            first = int(attrs["first_node"])
            committed = dict(zip(contract.PART_COMMITTED, file["committed"][:].tolist(), strict=False))
            return _Part(file, int(attrs["rank"]), slice(first, first + int(attrs["node_count"])), committed)
    except BaseException:
        file.close()
        raise
