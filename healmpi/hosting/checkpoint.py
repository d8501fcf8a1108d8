"""Checkpoints: a run's whole state between two cycles, on disk beside its parts, to go on from to the same bits.

Each rank writes its own state under a name with the cycle in it; when all are there the first rank writes which cycle counts, and
only then what is older goes. So at any moment one whole checkpoint is there. Between cycles no message is under way and no
group is open: a state is the nodes, the doors, the optimizers and how many rows of the part counted.

A state is a Python pickle: resume only what you have written yourself.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from healmpi.results.folder import PartsFolder, write_whole
from healmpi.settings import Misuse, UsageError

VERSION = 2


@dataclass(frozen=True, slots=True)
class Index:
    """Which checkpoint counts. step: cycles since the start. cycle: its number. sources: of what is a user's own, see Chosen.sources.
    capability: of the processors, see provenance.capability; several are joined."""

    step: int
    cycle: int
    ranks: int
    config_hash: str
    run_id: str
    healmpi: str
    version: int = VERSION
    sources: dict[str, str] = field(default_factory=dict)
    capability: str = ""


def write_state(out: Path, step: int, rank: int, state: dict[str, Any]) -> None:
    """Write a rank's state. Raises OSError; Misuse: it cannot be pickled."""
    try:
        # One pickle: models that nodes share are written once.
        content = pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        raise
    except Exception as error:  # a user's own topology or rule can hold anything
        raise Misuse(f"the state of nodes cannot be saved: it must be possible to pickle it ({type(error).__name__}: {error})") from error
    write_whole(PartsFolder(out).state(step, rank), content)


def commit(out: Path, index: Index) -> None:
    """All states are there: this checkpoint counts from now on, older ones go. On the first rank. Raises OSError."""
    folder = PartsFolder(out)
    write_whole(folder.index, json.dumps(asdict(index)).encode())
    for state in folder.states():
        if state.step < index.step:
            state.path.unlink(missing_ok=True)


def find(out: Path) -> Index | None:
    """The checkpoint that counts, if there is one. Raises UsageError: it cannot be read."""
    path = PartsFolder(out).index
    if not path.exists():
        return None
    try:
        return Index(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError("--resume", str(path), f"it cannot be read ({error}); --force starts again") from None


def check(index: Index, out: Path, *, config_hash: str, ranks: int, healmpi: str, sources: dict[str, str]) -> None:
    """Raise UsageError unless this run can go on from that checkpoint."""
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
            same = f"{what} must be {saved.get(what)} as in {PartsFolder(out).path}, here it is {here.get(what)}"
            raise UsageError("--resume", str(out), f"{same}; --force starts again")


def _contents(sources: dict[str, str]) -> dict[str, str]:
    """What is in the files of a user's own, by what an error calls it. Where they lie may have changed."""
    return {f"the file of your {name.removesuffix('_sha256')}": one for name, one in sources.items() if name.endswith("_sha256")}


def read_state(out: Path, index: Index, rank: int) -> dict[str, Any]:
    """A rank's state. Raises UsageError."""
    path = PartsFolder(out).state(index.step, rank)
    try:
        return pickle.loads(path.read_bytes())
    except Exception as error:  # a damaged pickle can raise anything
        raise UsageError("--resume", str(path), f"it cannot be read ({error}); --force without --resume starts again") from None
