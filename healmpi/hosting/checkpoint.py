"""Checkpoints: a run's whole state between two cycles, on disk beside its parts, to go on from to the same bits.

Each rank writes its own state (state_file.py) under a name with the cycle in it; when all are there the first rank writes which cycle
counts, and only then what is older goes. So at any moment one whole checkpoint is there. Between cycles no message is under way and
no group is open: a state is the nodes, the doors, the optimizers and how many rows of the part counted.

The index, checkpoint.json, holds the SHA-256 of each rank's state and of itself: a checkpoint is all of one moment, or refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from healmpi.hosting import state_file
from healmpi.hosting.state_file import Damaged
from healmpi.results.folder import PartsFolder, write_whole
from healmpi.results.schema import COMMITTED
from healmpi.settings import Misuse, UsageError
from healmpi.state import NotPlain

VERSION = 3

LARGEST_INDEX_BYTES = 2**28
"""A million ranks have 67 MB of digests."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Index:
    """Which checkpoint counts. step: cycles since the start. cycle: its number. sources: of what is a user's own, see Chosen.sources.
    capability: of the processors, see provenance.capability; several are joined. states: SHA-256 of each rank's state."""

    step: int
    cycle: int
    ranks: int
    config_hash: str
    run_id: str
    healmpi: str
    version: int = VERSION
    sources: dict[str, str] = field(default_factory=dict)
    capability: str = ""
    states: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises Damaged: no such checkpoint can be."""
        for name in ("step", "cycle", "ranks", "version"):
            if type(getattr(self, name)) is not int:
                raise Damaged(f"{name} is no whole number")
        for name in ("config_hash", "run_id", "healmpi", "capability"):
            if type(getattr(self, name)) is not str:
                raise Damaged(f"{name} is no text")
        if self.step < 1 or self.cycle > self.step or self.ranks < 1:
            raise Damaged(f"no run of {self.ranks} ranks is at cycle {self.cycle} after {self.step}")
        if type(self.sources) is not dict or not all(type(one) is str for pair in self.sources.items() for one in pair):
            raise Damaged("sources are no texts by name")
        if type(self.states) is not tuple or not all(type(one) is str and _DIGEST.fullmatch(one) for one in self.states):
            raise Damaged("states are no digests")
        if len(self.states) != self.ranks:
            raise Damaged(f"it has {len(self.states)} digests for {self.ranks} ranks")


class Unusable(UsageError):
    """A checkpoint from which this run cannot go on."""

    def __init__(self, path: Path, why: str):
        super().__init__("checkpoint", str(path), why)

    def __str__(self) -> str:
        _, path, why = self.args
        return f"{path} cannot be resumed from: {why}; --force starts again"


def write_state(out: Path, step: int, rank: int, state: dict[str, Any]) -> str:
    """Write a rank's state. Returns its digest. Raises OSError; Misuse: it is not plain data."""
    try:
        return state_file.write(PartsFolder(out).state(step, rank), state)
    except (NotPlain, RecursionError) as error:  # a user's own topology or rule can hold anything
        what = str(error) if isinstance(error, NotPlain) else "it is nested too deeply"
        plain = "plain data, arrays and random generators can; for all else a class has state() and restore() of its own"
        raise Misuse(f"the state of nodes cannot be saved: {what}; {plain}") from None


def commit(out: Path, index: Index) -> None:
    """All states are there: this checkpoint counts from now on, older ones go. On the first rank. Raises OSError."""
    folder = PartsFolder(out)
    write_whole(folder.index, _text(index))
    for state in folder.states():
        if state.step < index.step:
            state.path.unlink(missing_ok=True)


def _text(index: Index) -> bytes:
    """What is in the file: one way to write an index, so that no byte can be another one."""
    table = asdict(index)
    digest = hashlib.sha256(json.dumps(table).encode()).hexdigest()
    return json.dumps(table | {"sha256": digest}, indent=1).encode()


def find(out: Path) -> Index | None:
    """The checkpoint that counts, if there is one. Raises Unusable: it cannot be read."""
    path = PartsFolder(out).index
    try:
        if not os.path.lexists(path):
            return None
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise Damaged("it is no file")
        if found.st_size > LARGEST_INDEX_BYTES:
            raise Damaged("it is far too large")
        return _index(path.read_bytes())
    except OSError as error:
        raise Unusable(path, f"it cannot be read ({error.strerror or error})") from None
    except Damaged as error:
        raise Unusable(path, f"it is damaged ({error})") from None
    except _Earlier as error:
        raise Unusable(path, f"it is a checkpoint of an earlier version of healmpi (format {error}, here it is {VERSION})") from None


class _Earlier(ValueError):
    """Of an earlier format."""


def _index(content: bytes) -> Index:
    """Raises Damaged, _Earlier."""
    try:
        table = json.loads(content)
        version = table["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Damaged("it is not the JSON that was written") from None
    if type(version) is int and version < VERSION:
        raise _Earlier(version)
    if set(table) != {item.name for item in fields(Index)} | {"sha256"} or type(table["states"]) is not list:
        raise Damaged("it does not hold what it should")
    del table["sha256"]
    index = Index(**table | {"states": tuple(table["states"])})
    if _text(index) != content:
        raise Damaged("it does not have the SHA-256 that was written with it")
    return index


def check(index: Index, out: Path, *, config_hash: str, ranks: int, healmpi: str, sources: dict[str, str]) -> None:
    """Raise Unusable unless this run can go on from that checkpoint."""
    mine = {"config_hash": config_hash, "ranks": ranks, "healmpi": healmpi, "version": VERSION}
    names = {
        "config_hash": "the configuration's hash",
        "ranks": "the number of ranks",
        "healmpi": "the version",
        "version": "the format",
    }
    saved = {names[name]: getattr(index, name) for name in mine} | _contents(index.sources)
    here = {names[name]: value for name, value in mine.items()} | _contents(sources)
    for what in saved | here:
        if saved.get(what) != here.get(what):
            raise Unusable(PartsFolder(out).path, f"{what} must be {saved.get(what)} as there, here it is {here.get(what)}")


def _contents(sources: dict[str, str]) -> dict[str, str]:
    """What is in the files of a user's own, by what an error calls it. Where they lie may have changed."""
    return {f"the file of your {name.removesuffix('_sha256')}": one for name, one in sources.items() if name.endswith("_sha256")}


def read_state(out: Path, index: Index, rank: int) -> dict[str, Any]:
    """A rank's state. Raises Unusable: it is not there, not the one that was written, or none that could have been."""
    path = PartsFolder(out).state(index.step, rank)
    try:
        state = state_file.read(path, index.states[rank])
        _check_state(state, index)
        return state
    except OSError as error:
        raise Unusable(path, f"it cannot be read ({error.strerror or error})") from None
    except Damaged as error:
        raise Unusable(path, f"it is damaged ({error})") from None


def _check_state(state: Any, index: Index) -> None:
    """What surrounds the state of the nodes, as saving.py writes it; that is looked at by who restores it. Raises Damaged."""
    if type(state) is not dict or set(state) != {"cycle", "host", "rows", "wall_s", "saving_s"}:
        raise Damaged("it does not hold what a state does")
    if type(state["cycle"]) is not int or state["cycle"] != index.cycle:
        raise Damaged(f"it is of another cycle than {index.cycle}")
    if type(state["host"]) is not dict:
        raise Damaged("it holds no nodes")
    rows = state["rows"]
    if type(rows) is not dict or set(rows) != set(COMMITTED) or not all(type(one) is int and one >= 0 for one in rows.values()):
        raise Damaged(f"its numbers of rows are not those of {', '.join(COMMITTED)}")
    for name in ("wall_s", "saving_s"):
        if type(state[name]) is not float or not 0 <= state[name] < math.inf:
            raise Damaged(f"{name} is no time")
