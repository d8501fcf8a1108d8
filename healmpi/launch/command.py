"""What all ranks must have been told alike: the command, the configuration, the versions. It is the first thing that they exchange.

Ranks that were started with different words would otherwise wait for each other, or write over each other's results.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import healmpi
from healmpi.config import Config
from healmpi.launch.launcher import started
from healmpi.launch.ranks import Ranks, Refused
from healmpi.settings import UsageError

Value = TypeVar("Value")

PACKAGES = ("torch", "numpy", "mpi4py", "h5py")

BY_ITSELF = ("file", "overrides")
"""Arguments that count by what they come to: the configuration."""


def agree(ranks: Ranks, options: argparse.Namespace, resolve: Callable[[], tuple[Value, dict[str, Any]]]) -> Value:
    """What the command means on this rank, once it is known that it means the same on all.

    resolve: gives that, and more that must be the same, by name. Raises Refused: it raised UsageError on a rank, or ranks differ.
    """
    sentence, value, told = None, None, _told(options)
    try:
        value, more = resolve()
        told |= more
    except UsageError as error:
        sentence = str(error)
    except (OSError, MemoryError) as error:
        sentence = f"rank {ranks.rank}: {type(error).__name__}: {error}"
    _exchange(ranks, sentence, told)
    assert value is not None
    return value


def refuse(ranks: Ranks, sentence: str) -> None:
    """For a rank that does not understand its arguments: what it has to say in that exchange. Raises Refused where another's is said."""
    _exchange(ranks, sentence, {})


def _exchange(ranks: Ranks, sentence: str | None, told: dict[str, Any]) -> None:
    heard = ranks.allgather((sentence, told))
    started()
    # Who was started with another command has other errors, too: that comes first.
    different = _difference([one for _, one in heard], only_command=any(refused for refused, _ in heard))
    first = different or next((refused for refused, _ in heard if refused), None)
    if first is not None:
        raise Refused(first)


def fields_of(config: Config) -> dict[str, Any]:
    """All fields of the configuration, by name."""
    table = config.to_table()
    return {f"{section}.{name}": value for section, values in table.items() for name, value in values.items()}


def _told(options: argparse.Namespace) -> dict[str, Any]:
    """The command line's own options, and versions."""
    given = {name: _text(value) for name, value in vars(options).items() if name not in BY_ITSELF}
    versions = {"healmpi": healmpi.__version__, "Python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    return {OPTIONS.get(name, f"--{name.replace('_', '-')}"): text for name, text in given.items()} | {
        f"version of {name}": text for name, text in versions.items()
    }


OPTIONS = {"command": "the command", "out": "-o"}


def _text(value: Any) -> str:
    """Paths as they are meant, wherever a rank was started."""
    return os.path.abspath(value) if isinstance(value, Path) else str(value)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _difference(told: list[dict[str, Any]], only_command: bool) -> str | None:
    """A sentence on the first thing in which a rank differs from rank 0. only_command: some have not told all."""
    for rank, mine in enumerate(told[1:], 1):
        for name in dict.fromkeys([*told[0], *mine]):
            if only_command and not (name in told[0] and name in mine):
                continue
            first, other = (one.get(name, "nothing") for one in (told[0], mine))
            if first != other:
                return str(UsageError(name, other, f"the same on every rank: rank {rank} was told {other!r}, rank 0 {first!r}"))
    return None
