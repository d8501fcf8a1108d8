"""The parts of one run as they lie on disk: which can be read, whether they belong together, how far all of them have come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.results.files import open_part
from healmpi.results.folder import PartsFolder
from healmpi.results.schema import COMMITTED, RANK_STATES, SCHEMA_VERSION, ResultsError

FINISHED, UNFINISHED, MISSING, UNREADABLE = range(len(RANK_STATES))

_SAME = ("ranks", "total_nodes", "view_size", "hub_count", "kinds", "kinds_carrying_models", "config_hash", "schema_version", "run_id")
"""Attributes in which all parts of a run agree."""


@dataclass(frozen=True, slots=True)
class Part:
    """One readable part. committed: rows of each kind that count. attrs: of its root, arrays as tuples."""

    path: Path
    rank: int
    first: int
    count: int
    state: int
    committed: dict[str, int]
    attrs: dict[str, Any]
    facts: dict[str, str | int | float]
    sources: dict[str, str]

    @property
    def nodes(self) -> slice:
        """The hosted nodes, as a range of rows."""
        return slice(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class Run:
    """All parts of one run, in rank order. cycles: numbers of those that all parts have. states: by rank."""

    parts: list[Part]
    states: np.ndarray
    cycles: np.ndarray

    @property
    def attrs(self) -> dict[str, Any]:
        """What all parts have in common, and the rest of the first of them."""
        return self.parts[0].attrs

    @property
    def nodes(self) -> int:
        """Nodes of the run, those of lost parts included."""
        return int(self.attrs["total_nodes"])

    @property
    def first(self) -> Part:
        """The part with the lowest rank."""
        return self.parts[0]

    @property
    def by_rank(self) -> list[Part | None]:
        """The part of every rank; None: it left none that can be read."""
        known = {part.rank: part for part in self.parts}
        return [known.get(rank) for rank in range(len(self.states))]

    @property
    def last_cycle(self) -> int:
        """The number of the last cycle that all parts have; below any other if there is none."""
        return int(self.cycles[-1]) if len(self.cycles) else int(np.iinfo(np.int32).min)


def read_parts(paths: Sequence[Path]) -> tuple[list[Part], list[ResultsError]]:
    """Those that can be read, and what is wrong with the others."""
    parts, errors = [], []
    for path in paths:
        try:
            parts.append(_read_part(path))
        except ResultsError as error:
            errors.append(error)
    return parts, errors


def collect(folder: PartsFolder) -> Run:
    """The run whose parts lie there. Raises ResultsError: none can be read, they do not belong together, or are of another version."""
    parts, errors = read_parts(folder.parts())
    if not parts:
        raise errors[0]
    parts.sort(key=lambda part: part.rank)
    version = parts[0].attrs["schema_version"]
    if version != SCHEMA_VERSION:
        raise ResultsError(f"{parts[0].path} has schema version {version}, and this healmpi merges parts of {SCHEMA_VERSION} only")
    _check_same_run(parts)
    _check_places(parts)
    states = np.full(parts[0].attrs["ranks"], MISSING, np.int8)
    for rank in range(len(states)):
        if folder.part(rank).exists():
            states[rank] = UNREADABLE
    for part in parts:
        states[part.rank] = part.state
    common = min(part.committed["cycles"] for part in parts)
    with open_part(parts[0].path) as file:
        return Run(parts, states, file["cycles/cycle"][:common])


def _read_part(path: Path) -> Part:
    with open_part(path) as file:
        try:
            return _part(path, file)
        except (KeyError, OSError, RuntimeError) as error:
            raise ResultsError(f"{path} is damaged ({error})") from None


def _part(path: Path, file: h5py.File) -> Part:
    attrs = {name: _plain(value) for name, value in file.attrs.items()}
    return Part(
        path=path,
        rank=attrs["rank"],
        first=attrs["first_node"],
        count=attrs["node_count"],
        state=FINISHED if attrs.get("finished") else UNFINISHED,
        committed=dict(zip(COMMITTED, file["committed"][:].tolist(), strict=True)),
        attrs=attrs,
        facts={name: _plain(value) for name, value in file["facts"].attrs.items()} if "facts" in file else {},
        sources={name: str(value) for name, value in file["provenance"].attrs.items() if name.endswith("_sha256")},
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    return value.item() if isinstance(value, np.generic) else value


def _check_same_run(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for name in _SAME:
            mine, theirs = part.attrs.get(name), first.attrs.get(name)
            if mine != theirs:
                raise ResultsError(f"{part.path} and {first.path} are of different runs: {name} is {mine} and {theirs}")


def _check_places(parts: Sequence[Part]) -> None:
    """Ranks and blocks of nodes in ascending order, without overlap."""
    ranks, nodes = parts[0].attrs["ranks"], parts[0].attrs["total_nodes"]
    end, rank = 0, -1
    for part in parts:
        if not (rank < part.rank < ranks and end <= part.first and part.first + part.count <= nodes):
            place = f"nodes {part.first} to {part.first + part.count - 1} as rank {part.rank}"
            raise ResultsError(f"{part.path} hosts {place}, which does not fit the other parts")
        end, rank = part.first + part.count, part.rank
