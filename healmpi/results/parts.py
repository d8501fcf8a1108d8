"""The parts of one run as they lie on disk: which can be read, whether they belong together, how far all of them have come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from healmpi.results.files import open_part
from healmpi.results.folder import PartsFolder
from healmpi.results.part_integrity import examine
from healmpi.results.schema import RANK_STATES, SCHEMA_VERSION, ResultsError

FINISHED, UNFINISHED, MISSING, UNREADABLE = range(len(RANK_STATES))

_SAME = ("ranks", "total_nodes", "view_size", "hub_count", "kinds", "kinds_carrying_models", "config_hash", "schema_version", "run_id")
"""Attributes in which all parts of a run agree."""


@dataclass(frozen=True, slots=True)
class Part:
    """One readable part. attrs: of its root, arrays as tuples. See part_integrity.Examined.

    committed: rows of each kind that count. last_cycle: the number of the last one; None: there is none. damage: what is wrong with what
    would follow; the part is unfinished then. alike: see part_integrity.Examined. A part of another schema version was not looked at any
    further.
    """

    path: Path
    rank: int
    first: int
    count: int
    state: int
    committed: dict[str, int]
    attrs: dict[str, Any]
    facts: dict[str, str | int | float]
    sources: dict[str, str]
    last_cycle: int | None = None
    damage: ResultsError | None = None
    alike: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> slice:
        """The hosted nodes, as a range of rows."""
        return slice(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class Run:
    """All parts of one run, in rank order. cycles: numbers of those that all parts have. states: by rank.

    damage: by rank, the path of a part that is damaged, whether the rest of it can be read or not, and what is wrong with it. nobodys: the
    same of files that are called like a part and are no rank's.
    """

    parts: list[Part]
    states: np.ndarray
    cycles: np.ndarray
    damage: dict[int, tuple[Path, str]] = field(default_factory=dict)
    nobodys: list[tuple[Path, str]] = field(default_factory=list)

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
    def last_cycle(self) -> int:
        """The number of the last cycle that all parts have; below any other if there is none."""
        return int(self.cycles[-1]) if len(self.cycles) else int(np.iinfo(np.int32).min)


def read_parts(paths: Sequence[Path]) -> tuple[list[Part], dict[Path, ResultsError]]:
    """Those that can be read, and what is wrong with the others."""
    parts: list[Part] = []
    errors: dict[Path, ResultsError] = {}
    for path in paths:
        try:
            parts.append(_read_part(path))
        except ResultsError as error:
            errors[path] = error
    return parts, errors


def collect(folder: PartsFolder) -> Run:
    """The run whose parts lie there. Raises ResultsError: none can be read, they do not belong together, or are of another version."""
    parts, errors = read_parts(folder.parts())
    if not parts:
        raise next(iter(errors.values()))
    parts.sort(key=lambda part: part.rank)
    parts = _without_others(parts, errors)
    _check_same_run(parts)
    _check_places(parts)
    states = np.full(parts[0].attrs["ranks"], MISSING, np.int8)
    damage, nobodys = {}, []
    for path, error in errors.items():
        rank, what = folder.rank_of(path), (path, _without(path, error))
        if rank is None or rank >= len(states):
            nobodys.append(what)
        else:
            states[rank], damage[rank] = UNREADABLE, what
    for part in parts:
        states[part.rank] = part.state
        if part.damage is not None:
            damage[part.rank] = part.path, _without(part.path, part.damage)
    return Run(parts, states, _common_cycles(parts), damage, nobodys)


def _without_others(parts: list[Part], errors: dict[Path, ResultsError]) -> list[Part]:
    """Those that go together: of this schema version, and alike as most are; what is wrong with the others goes to `errors`.

    Raises ResultsError: all are of another version.
    """
    names = dict.fromkeys(name for part in parts for name in part.alike)
    kept = [part for part in parts if part.attrs["schema_version"] == SCHEMA_VERSION]
    for part in parts:
        if part not in kept:
            version = part.attrs["schema_version"]
            errors[part.path] = ResultsError(
                f"{part.path} has schema version {version}, and this healmpi merges parts of {SCHEMA_VERSION} only"
            )
    if not kept:
        raise errors[parts[0].path]
    for name in names:
        counts = Counter(part.alike[name] for part in kept if name in part.alike)
        usual = counts.most_common(1)[0][0] if counts else None
        for part in [one for one in kept if one.alike.get(name, usual) != usual]:
            errors[part.path] = ResultsError(
                f"{part.path} does not fit the other parts: {name} {part.alike[name]!r:.60}, not {usual!r:.60}"
            )
            kept.remove(part)
    return kept


def _without(path: Path, error: ResultsError) -> str:
    """What follows on the path of the file in the sentence."""
    return str(error).removeprefix(f"{path} ")


def _read_part(path: Path) -> Part:
    found = examine(path)
    return Part(
        path=path,
        rank=found.attrs["rank"],
        first=found.attrs["first_node"],
        count=found.attrs["node_count"],
        state=FINISHED if found.finished else UNFINISHED,
        committed=found.committed,
        attrs=found.attrs,
        facts=found.facts,
        sources=found.sources,
        last_cycle=found.last_cycle,
        damage=found.damage,
        alike=found.alike,
    )


def _common_cycles(parts: Sequence[Part]) -> np.ndarray:
    """The numbers of the cycles that all parts have, int32. Raises ResultsError: they have others, or views of others."""
    common = min(part.committed["cycles"] for part in parts)
    first, first_views = _cycles(parts[0], common)
    for part in parts[1:]:
        cycles, views = _cycles(part, common)
        if not (np.array_equal(cycles, first) and np.array_equal(views, first_views)):
            raise ResultsError(f"{part.path} and {parts[0].path} are of different runs: they have other cycles")
    return first


def _cycles(part: Part, common: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the first so many cycles, and of those among them with views."""
    with open_part(part.path) as file:
        cycles, views = file["cycles/cycle"][:common], file["overlay/cycle"][: part.committed["views"]]
    return cycles, views[views <= cycles[-1]] if common else views[:0]


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
    # A run deals its nodes evenly: so many can only be lost if as many ranks are.
    most = ranks * (max(part.count for part in parts) + 1)
    if nodes > most:
        raise ResultsError(f"{parts[0].path} says that the run has {nodes} nodes; on {ranks} ranks like this one there are {most} at most")
