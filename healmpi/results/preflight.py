"""Everything that can be wrong with the place for the results, found before any work is done.

The rule that surprises: `--force` deletes nothing here. An existing file goes when the new one is renamed over it, at the
end; the parts of an earlier run go in `prepare_parts`, once everything else is known to be fine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from healmpi.config import Config, ConfigError
from healmpi.messages import KINDS
from healmpi.results.merge import remove_part_files, temporary_path
from healmpi.results.schema import CYCLE_COLUMNS, LOCK_NAME, PHASES, part_path, parts_folder

__all__ = ["check_output", "estimate_bytes", "hold_parts", "part_path", "prepare_parts", "refuse_running"]

RANK_BYTES = 1024 * 1024
"""What a part holds besides its cycles: texts, empty tables, indices."""

MERGED_SHARE = 0.5
"""The merged file over its parts, both of which exist for a moment. Measured: a quarter; numbers of a real run vary."""


def check_output(out: Path, force: bool, bytes_needed: int, leftovers: bool = False) -> None:
    """Raise ConfigError unless OUT can be written.

    force: an existing OUT, or what is left of a killed run, may go. leftovers: the latter are known and wanted, or may go.
    """
    with _refusing(out):
        _check_output(out, force, bytes_needed, leftovers)


@contextlib.contextmanager
def _refusing(out: Path) -> Iterator[None]:
    """What the system refuses becomes a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError("-o", str(out), f"it cannot be written ({error.strerror or error})") from None


def _check_output(out: Path, force: bool, bytes_needed: int, leftovers: bool) -> None:
    folder = out.parent
    if not folder.exists():
        raise ConfigError("-o", str(out), f"its folder {folder} does not exist")
    if not folder.is_dir():
        raise ConfigError("-o", str(out), f"{folder} is not a folder")
    if out.is_dir():
        raise ConfigError("-o", str(out), "this is a folder, a file is needed")
    if out.is_symlink():
        raise ConfigError("-o", str(out), "this is a symbolic link, which the new file would replace: name the file it points to")
    if out.exists() and not out.is_file():
        raise ConfigError("-o", str(out), "this is not a regular file")
    for longer in (part_path(out, 0), temporary_path(out)):
        # Raises for a name that is too long with its suffix.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            longer.stat()
    refuse_running(out)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError("-o", str(out), f"there is no permission to write in {folder}")
    _check_leftovers(out, force, leftovers)
    free = shutil.disk_usage(folder).free
    if bytes_needed > free:
        raise ConfigError("-o", str(out), f"about {_size(bytes_needed)} are needed in {folder}, {_size(free)} are free")


def _check_leftovers(out: Path, force: bool, leftovers: bool) -> None:
    parts = parts_folder(out)
    if out.exists() and not force:
        raise ConfigError("-o", str(out), "it exists already; --force replaces it")
    if parts.exists() and not parts.is_dir():
        raise ConfigError("-o", str(out), f"{parts} is in the way: the parts are written to a folder of that name")
    if parts.is_dir() and any(path.name != LOCK_NAME for path in parts.iterdir()) and not (force or leftovers):
        ways = f"--resume goes on with it, `healmpi merge {out}` makes a file of what is there, --force discards it"
        raise ConfigError("-o", str(out), f"{parts} holds the parts of an earlier run: {ways}")


def refuse_running(out: Path) -> None:
    """Raise ConfigError while a run writes the parts of OUT."""
    # No lock: nobody writes. Some network file systems have no locks either: there this check is not to be had.
    with contextlib.suppress(OSError), (parts_folder(out) / LOCK_NAME).open() as lock:
        _lock(out, lock, fcntl.LOCK_SH)


def hold_parts(out: Path) -> IO[str]:
    """Lock the folder of the parts until the returned file is closed or this process ends.

    Raises ConfigError: another run holds it, or the lock cannot be written.
    """
    with _refusing(out), contextlib.ExitStack() as undo:
        lock = undo.enter_context((parts_folder(out) / LOCK_NAME).open("a+"))
        lock.seek(0)
        with contextlib.suppress(OSError):  # a file system without locks
            _lock(out, lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"pid {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        undo.pop_all()
        return lock


def _lock(out: Path, lock: IO[str], how: int) -> None:
    """Raises ConfigError: somebody else holds it; OSError: there are no locks here."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError("OUT.h5", str(out), f"a run is writing there ({lock.read()})") from None


def prepare_parts(out: Path, force: bool) -> None:
    """Make an empty folder for the parts; on one rank, after `check_output`. force: discard older parts. Raises ConfigError."""
    refuse_running(out)
    with _refusing(out):
        if force:
            remove_part_files(out)
        parts_folder(out).mkdir(exist_ok=True)


def estimate_bytes(config: Config, ranks: int, model_size: int, view_width: int, static: bool) -> int:
    """About what a run writes, parts and merged file together.

    config: a resolved one. model_size: floats in a model. view_width: ids in a view at most; static: they are written once.
    """
    nodes, cycles = config.run.nodes, config.run.cycles + config.run.warmup_cycles
    widths = {"phase": len(PHASES), "kind": len(KINDS)}
    row = sum(np.dtype(column.dtype).itemsize * widths.get(column.dims[-1], 1) for column in CYCLE_COLUMNS)
    views = cycles // config.results.views_every if config.results.views_every else 0
    tables = nodes * (cycles * row + (min(1, views) if static else views) * 4 * view_width)
    models = 2 * 4 * nodes * model_size if config.results.save_models else 0
    return int(tables * (1 + MERGED_SHARE)) + models + ranks * RANK_BYTES


def _size(count: int) -> str:
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
