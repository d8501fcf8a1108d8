"""Checkpoints: a run's whole state between two cycles, on disk beside its parts, to go on from to the same bits.

Each rank writes its own state under a name with the cycle in it; when all are there the first rank writes which cycle counts, and
only then what is older goes. So at any moment one whole checkpoint is there. Between cycles no message is under way and no
group is open: a state is the nodes, the doors, the optimizers and how many rows of the part counted.

The rule that surprises: a state is a Python pickle. Resume only what you have written yourself.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healmpi.config import ConfigError
from healmpi.results.schema import parts_folder

INDEX = "checkpoint.json"

STATE = re.compile(r"state-(\d+)-rank-(\d+)")
"""Name of a state: cycles since the start of the run, warm-up included, and rank."""

VERSION = 1


@dataclass(frozen=True, slots=True)
class Index:
    """Which checkpoint counts. step: cycles since the start. cycle: its number."""

    step: int
    cycle: int
    ranks: int
    config_hash: str
    run_id: str
    healmpi: str
    version: int = VERSION


def state_path(out: Path, step: int, rank: int) -> Path:
    """Where a rank's state goes."""
    return parts_folder(out) / f"state-{step}-rank-{rank:05d}"


def write_state(out: Path, step: int, rank: int, state: dict[str, Any]) -> None:
    """Write a rank's state. Raises OSError."""
    # One pickle: models that nodes share are written once.
    _write(state_path(out, step, rank), pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL))


def commit(out: Path, index: Index) -> None:
    """All states are there: this checkpoint counts from now on, older ones go. On the first rank. Raises OSError."""
    fields = {name: getattr(index, name) for name in Index.__slots__}
    _write(parts_folder(out) / INDEX, json.dumps(fields).encode())
    for path in parts_folder(out).iterdir():
        named = STATE.fullmatch(path.name)
        if named and int(named[1]) < index.step:
            path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also when the power fails."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def find(out: Path) -> Index | None:
    """The checkpoint that counts, if there is one. Raises ConfigError: it cannot be read."""
    path = parts_folder(out) / INDEX
    if not path.exists():
        return None
    try:
        return Index(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError("--resume", str(path), f"it cannot be read ({error}); --force starts again") from None


def check(index: Index, out: Path, *, config_hash: str, ranks: int, healmpi: str) -> None:
    """Raise ConfigError unless this run can go on from that checkpoint."""
    mine = {"config_hash": config_hash, "ranks": ranks, "healmpi": healmpi, "version": VERSION}
    names = {"config_hash": "the configuration's hash", "ranks": "the number of ranks", "healmpi": "the version", "version": "the format"}
    for name, value in mine.items():
        if getattr(index, name) != value:
            allowed = f"{names[name]} must be {getattr(index, name)} as in {parts_folder(out)}, here it is {value}; --force starts again"
            raise ConfigError("--resume", str(out), allowed)


def read_state(out: Path, index: Index, rank: int) -> dict[str, Any]:
    """A rank's state. Raises ConfigError."""
    path = state_path(out, index.step, rank)
    try:
        return pickle.loads(path.read_bytes())
    except Exception as error:  # a damaged pickle can raise anything
        raise ConfigError("--resume", str(path), f"it cannot be read ({error}); --force without --resume starts again") from None
