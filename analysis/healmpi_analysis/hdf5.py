"""Opening one HDF5 file of healmpi, with one sentence for every way in which it can be the wrong one.

The rule that surprises: HDF5's locks are not used. A killed or running writer keeps nobody from reading.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import resource
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pandas as pd

from healmpi_analysis import contract, integrity
from healmpi_analysis.contract import text
from healmpi_analysis.errors import AnalysisError, Damage, TooManyOpen, Unreachable
from healmpi_analysis.heaps import check_heaps

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_OWN_FILES = 64
"""Files that this process opens beside results: libraries, fonts, what it writes."""


Made = TypeVar("Made")

_verifying = contextvars.ContextVar("verifying", default=True)


@contextlib.contextmanager
def verification(wanted: bool) -> Iterator[None]:
    """Whether digests are computed and compared when a file is opened inside. What else is checked, always is."""
    token = _verifying.set(wanted)
    try:
        yield
    finally:
        _verifying.reset(token)


def verifying() -> bool:
    """Whether digests are to be computed."""
    return _verifying.get()


def opened(path: Path, schema: str, later: Collection[str] = ()) -> h5py.File:
    """The file, its schema and its integrity checked. later: see integrity.check. Raises AnalysisError."""
    _refuse_foreign_bytes(path)
    try:
        longest = once(path, "heaps", lambda: check_heaps(path))
        file = _without_locks(path)
    except integrity.FAULTS as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM):
            raise unreachable(path, error) from None
        raise Damage(path, f"is truncated or damaged: HDF5 cannot open it ({integrity.reason(error)})") from None
    try:
        with damage_of(path):
            _check_schema(path, file, schema)
        if not (later and verifying()):
            once(path, INTEGRITY, lambda: integrity.check(path, file, verifying(), longest=longest))
        elif not is_known(path, INTEGRITY):
            integrity.check(path, file, True, later, longest)
    except BaseException:
        file.close()
        raise
    return file


_known: dict[tuple, Any] = {}
"""What was found of a file, by what tells that it is still the same."""

_SETTLED_NS = 2 * 10**9
"""A file that was changed a shorter time ago may be changed again without being any newer by its time."""


INTEGRITY = "integrity"


def once(path: Path, what: str, work: Callable[[], Made]) -> Made:
    """What `work` finds of the file: a report opens a file several times, and reads it once for its digests."""
    key, settled = _key(path, what)
    if key in _known:
        return _known[key]
    made = work()
    if settled:
        _known[key] = made
    return made


def is_known(path: Path, what: str) -> bool:
    """Whether `once` would have nothing to do."""
    return _key(path, what)[0] in _known


def _key(path: Path, what: str) -> tuple[tuple, bool]:
    """What tells that a file is still the same; and whether it has been so for long enough."""
    now, found = time.time_ns(), os.stat(path)
    changed_ns = max(found.st_mtime_ns, found.st_ctime_ns)
    return (what, verifying(), found.st_dev, found.st_ino, found.st_size, changed_ns), now - changed_ns > _SETTLED_NS


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
    start = _start(path)
    if not start:
        raise AnalysisError(f"{path} is empty")
    if start != _SIGNATURE:
        raise AnalysisError(f"{path} is not an HDF5 file")


def _start(path: Path) -> bytes:
    try:
        # A pipe or a device would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unreachable(f"{path} is no file")
        with path.open("rb") as stream:
            return stream.read(len(_SIGNATURE))
    except OSError as error:
        raise unreachable(path, error) from None


def has_signature(path: Path) -> bool:
    """Whether the file begins as HDF5 files do. Raises Unreachable."""
    return _start(path) == _SIGNATURE


def is_foreign(path: Path) -> bool:
    """Whether it is a whole HDF5 file of something else. Raises Unreachable."""
    try:
        return has_signature(path) and _schema_of(path) not in (contract.SCHEMA, contract.PART_SCHEMA)
    except AnalysisError:
        raise
    except integrity.FAULTS:
        # Damaged: whoever reads it says so.
        return False


def _schema_of(path: Path) -> str:
    try:
        with _without_locks(path) as file:
            # Other files may be of any size, and are not looked through for a text that they do not have.
            if "schema" not in file.attrs:
                return ""
            check_heaps(path)
            return integrity.root_text(file, "schema")
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise unreachable(path, error) from None
        raise


def unreachable(path: Path, error: OSError) -> Unreachable:
    """Why this process cannot look at it."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return TooManyOpen(f"{path} cannot be opened: too many files are open, this process may have {limit} (`ulimit -n`)")
    return Unreachable(f"{path} cannot be read ({error.strerror or error})")


def allow_open_files(count: int) -> None:
    """Raise this process's own limit, where the system lets it, so that it can have so many files open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _check_schema(path: Path, file: h5py.File, schema: str) -> None:
    found, version = (integrity.root_text(file, name) for name in ("schema", "schema_version"))
    if schema == contract.SCHEMA and found == contract.PART_SCHEMA:
        raise AnalysisError(f"{path} is the part of one rank; name its folder, {path.parent}, to read the parts of all ranks")
    if found != schema or not version:
        raise AnalysisError(f"{path} is an HDF5 file, but not one of healmpi's (its attribute schema is not {schema!r})")
    if version.partition(".")[0] != contract.MAJOR:
        raise AnalysisError(f"{path} has schema version {version}; this package reads {contract.MAJOR}.x, take one that knows {version}")


@contextlib.contextmanager
def damage_of(path: Path, table: str = "") -> Iterator[None]:
    """What h5py raises inside, or a check of what it read, becomes one sentence: the file has the right name and the wrong content."""
    try:
        yield
    except integrity.FAULTS as error:
        why = f"{table}: {integrity.reason(error)}" if table else integrity.reason(error)
        raise Damage(path, f"is damaged or lacks what every results file has ({why})") from None


def names(scale: h5py.Dataset) -> tuple[str, ...]:
    return tuple(text(value) for value in scale[:])


def texts(values) -> tuple[str, ...]:
    """An attribute that lists texts."""
    return tuple(text(value) for value in np.atleast_1d(values))


def scenario_of(file: h5py.File) -> str:
    """What a merged file or a part calls its faults; empty: it does not say."""
    places = [file["faults"].attrs] if isinstance(file.get("faults"), h5py.Group) else []
    return next((text(attrs["scenario"]) for attrs in [*places, file.attrs] if "scenario" in attrs), "")


def attributes(group: h5py.Group) -> dict:
    return {text(name): _plain(value) for name, value in group.attrs.items()}


def _plain(value):
    """A number, a text, or a list of these."""
    found = text(value) if isinstance(value, (bytes, str)) else np.asarray(value).tolist()
    return found if isinstance(found, (bool, int, float, str)) else texts(found)


def plain_column(values: np.ndarray) -> np.ndarray | list[str]:
    return [text(value) for value in values] if values.dtype.kind in "SO" else values


def fault_frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    if not columns:
        columns = {name: np.empty(0, np.int64) for name in ("cycle", "tick", "node")} | {
            name: np.empty(0, "S1") for name in ("kind", "detail")
        }
    return pd.DataFrame({name: plain_column(values) for name, values in columns.items()})
