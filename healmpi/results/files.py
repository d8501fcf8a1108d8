"""Opening results files, with one sentence for every way in which a file can be the wrong one.

Files are opened without HDF5's locks: each has one writer, parallel file systems often have no locks to give, and a killed
writer must not keep anybody from reading.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.results import integrity, structure
from healmpi.results.folder import PartsFolder
from healmpi.results.heaps import check_heaps
from healmpi.results.schema import PART_SCHEMA, SCHEMA, SCHEMA_VERSION, ResultsError, bounded

METADATA_BYTES = 512 * 1024
"""Room for HDF5's own structures in one step of growth: indices of all tables, object headers."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_file(path: Path, mode: str, **options: Any) -> h5py.File:
    """An HDF5 file without locks, where this HDF5 lets one choose. options: of h5py.File. Raises OSError."""
    try:
        return h5py.File(path, mode, locking=False, **options)
    except (TypeError, ValueError):
        return h5py.File(path, mode, **options)
    except OSError as error:
        # This process has the file open already, with locks: HDF5 wants the same choice again.
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, mode, **options)


def open_results(path: Path, verify: bool = True) -> h5py.File:
    """A merged results file, for reading, that is as it was written. verify: False believes its numbers. Raises ResultsError."""
    _refuse_absent(path)
    refuse_foreign_bytes(path)
    try:
        longest = check_heaps(path)
    except (ValueError, OSError) as error:
        raise ResultsError(f"{path} is truncated or damaged: {error}") from None
    file = _opened(path, SCHEMA)
    try:
        structure.check(file, path, integrity.check(file, path, longest, verify), verify)
    except BaseException:
        file.close()
        raise
    return file


def open_part(path: Path) -> h5py.File:
    """One rank's part, finished or not, for reading. Raises ResultsError."""
    return _opened(path, PART_SCHEMA)


def _refuse_absent(path: Path) -> None:
    if path.is_dir():
        owner = PartsFolder.owner(path)
        if owner is not None:
            raise ResultsError(f"{path} is the folder with the parts of a run: run `healmpi merge {owner}`")
        raise ResultsError(f"{path} is a folder, not a results file")
    if path.exists():
        return
    if PartsFolder(path).path.is_dir():
        raise ResultsError(f"{path} does not exist, but the parts of its run do: run `healmpi merge {path}`")
    raise ResultsError(f"{path} does not exist")


def _opened(path: Path, schema: str) -> h5py.File:
    refuse_foreign_bytes(path)
    try:
        file = open_file(path, "r")
    except integrity.FAULTS as error:
        raise ResultsError(f"{path} is truncated or damaged: HDF5 cannot open it ({integrity.first_line(error)})") from None
    try:
        _check_schema(path, file, schema)
    except integrity.FAULTS as error:
        file.close()
        raise integrity.Damage(path, "/", f"cannot be read ({integrity.first_line(error)})") from None
    except BaseException:
        file.close()
        raise
    return file


def refuse_foreign_bytes(path: Path) -> None:
    """Raises ResultsError: it is no HDF5 file, as its first bytes tell, or no file at all: a pipe would be waited for."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ResultsError(f"{path} is no file")
        with path.open("rb") as stream:
            start = stream.read(len(_SIGNATURE))
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror})") from None
    if not start:
        raise ResultsError(f"{path} is empty")
    if start != _SIGNATURE:
        raise ResultsError(f"{path} is not an HDF5 file")


def _check_schema(path: Path, file: h5py.File, schema: str) -> None:
    found, version = (integrity.root_text(file, name) for name in ("schema", "schema_version"))
    if schema == SCHEMA and found == PART_SCHEMA:
        raise ResultsError(f"{path} is the part of one rank: `healmpi merge` makes a results file of all of them")
    if found != schema or not version:
        raise ResultsError(f"{path} is an HDF5 file, but not one of healmpi's (its attribute schema is not {schema!r})")
    known = SCHEMA_VERSION.partition(".")[0]
    major, _, minor = version.partition(".")
    if major != known or not minor.isdecimal():
        raise ResultsError(f"{path} has schema version {integrity.printable(version)}, and this healmpi reads version {known}.x only")


def reserve(file: h5py.File, growth_bytes: int) -> None:
    """Make sure that the file can grow by that much, before HDF5 is asked to. Raises OSError (full, quota, size limit).

    When a write fails inside HDF5, the file can no longer be opened (it claims a length that it does not have) and the
    process may crash at exit; so it must not come to that.
    """
    size = file.id.get_filesize()
    try:
        os.posix_fallocate(file.id.get_vfd_handle(), size, growth_bytes + growth_bytes // 64 + METADATA_BYTES)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.filename) from None


_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}
"""Where a superblock of each version says how long the file is (HDF5 file format specification, II.A)."""


def close_trimmed(file: h5py.File, path: Path) -> None:
    """Flush and close the file, and give back what was reserved and not needed. Raises OSError."""
    file.flush()
    file.close()
    with path.open("rb") as stream:
        start = stream.read(64)
    os.truncate(path, int.from_bytes(start[_END_AT[start[8]] :][:8], "little"))


def text_array(texts: Sequence[str]) -> np.ndarray:
    """Texts as an attribute holds them: an array of strings of any length."""
    return np.array([storable(text) for text in texts], dtype=h5py.string_dtype())


def storable(value: Any) -> Any:
    """A value that an attribute can hold: of a text that names a file, bytes that are no UTF-8 become \\x.., all else stays."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if isinstance(value, str) else value


def reason_array(reasons: Sequence[str]) -> np.ndarray:
    """Sentences for the user as an attribute holds them, bounded."""
    return text_array(bounded(reasons))
