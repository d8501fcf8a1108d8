"""Everything that can be wrong with the place for the results, found before any work is done. Nothing is changed here.

Even with `--force` an existing file stays until the new one is renamed over it, at the end; the parts of an earlier run go in
`PartsFolder.prepare`, once everything else is known to be fine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np

from healmpi.results.folder import PartsFolder, refusing
from healmpi.results.schema import CYCLE_COLUMNS, PHASES
from healmpi.settings import UsageError

RANK_BYTES = 1024 * 1024
"""What a part holds besides its cycles: texts, empty tables, indices."""

MERGED_SHARE = 0.5
"""The merged file over its parts, both of which exist for a moment. Measured: a quarter; numbers of a real run vary."""

FILLED_SHARE = 0.01
"""The merged file over what it would take without compression, of nodes in lost parts: the same number again and again."""


def check_output(out: Path, force: bool, bytes_needed: int, leftovers: bool = False, resuming: bool = False) -> None:
    """Raise UsageError unless OUT can be written.

    force: an existing OUT, or what is left of a killed run, may go. leftovers: the latter are known and wanted, or may go. resuming: the
    run would have gone on from them, and they are those of another one.
    """
    with refusing(out):
        _check_output(out, force, bytes_needed, leftovers, resuming)


def _check_output(out: Path, force: bool, bytes_needed: int, leftovers: bool, resuming: bool) -> None:
    folder, parts = out.parent, PartsFolder(out)
    if not folder.exists():
        raise UsageError("-o", str(out), f"its folder {folder} does not exist")
    if not folder.is_dir():
        raise UsageError("-o", str(out), f"{folder} is not a folder")
    if out.is_dir():
        raise UsageError("-o", str(out), "this is a folder, a file is needed")
    if out.is_symlink():
        raise UsageError("-o", str(out), "this is a symbolic link, which the new file would replace: name the file it points to")
    if out.exists() and not out.is_file():
        raise UsageError("-o", str(out), "this is not a regular file")
    for longer in (parts.part(0), parts.temporary):
        # Raises for a name that is too long with its suffix.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            longer.stat()
    parts.refuse_running()
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError("-o", str(out), f"there is no permission to write in {folder}")
    _check_leftovers(parts, force, leftovers, resuming)
    free = shutil.disk_usage(folder).free
    if bytes_needed > free:
        raise UsageError("-o", str(out), f"about {_size(bytes_needed)} are needed in {folder}, {_size(free)} are free")


def _check_leftovers(parts: PartsFolder, force: bool, leftovers: bool, resuming: bool) -> None:
    out = parts.out
    if out.exists() and not force:
        raise UsageError("-o", str(out), "it exists already; --force replaces it")
    if parts.path.exists() and not parts.path.is_dir():
        raise UsageError("-o", str(out), f"{parts.path} is in the way: the parts are written to a folder of that name")
    if parts.leftovers() and not (force or leftovers):
        ways = f"`healmpi merge {out}` makes a file of what is there, --force discards it"
        if resuming:
            raise UsageError("-o", str(out), f"{parts.path} holds the parts of a run of another configuration: {ways}")
        raise UsageError("-o", str(out), f"{parts.path} holds the parts of an earlier run: --resume goes on with it, {ways}")


def estimate_bytes(
    *,
    nodes: int,
    cycles: int,
    kinds: int,
    ranks: int,
    model_size: int,
    view_width: int,
    static: bool,
    views_every: int,
    save_models: bool,
    classes: int = 0,
) -> int:
    """About what a run writes, parts and merged file together.

    cycles: recorded ones, those of warm-up included. kinds: how many kinds of message it has. model_size: floats in a model.
    classes: of the data. view_width: ids in a view at most; static: views are written once. views_every: 0: they are not written.
    """
    row = _node_bytes(kinds)
    views = cycles // views_every if views_every else 0
    tables = nodes * (cycles * row + (min(1, views) if static else views) * 4 * view_width)
    models = 2 * 4 * nodes * model_size if save_models else 0
    tables += 8 * cycles * classes * ranks
    return int(tables * (1 + MERGED_SHARE)) + models + ranks * RANK_BYTES


def merged_bytes(
    *,
    nodes: int,
    hosted: int,
    cycles: int,
    kinds: int,
    ranks: int,
    view_width: int,
    views: int,
    reports: int,
    member_width: int,
) -> tuple[int, int]:
    """About what a merged file takes on disk, and about what of it is in memory at a time: a row, more than once.

    nodes: of the run; hosted: those in parts that are there. views: cycles in which they were recorded. reports: of hub groups.
    """
    row = _node_bytes(kinds)
    of_node = cycles * row + views * 4 * view_width
    filled = (nodes - hosted) * of_node + 4 * reports * member_width + ranks * 1024
    return int(hosted * of_node * MERGED_SHARE + filled * FILLED_SHARE), 4 * nodes * max(row, 4 * view_width) + 1024 * ranks


def _node_bytes(kinds: int) -> int:
    """What is recorded of a node in a cycle, views aside."""
    widths = {"phase": len(PHASES), "kind": kinds}
    return sum(np.dtype(column.dtype).itemsize * widths.get(column.dims[-1], 1) for column in CYCLE_COLUMNS)


def _size(count: int) -> str:
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
