"""Whether files are as they were written: what `healmpi verify` says, a line for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py

from healmpi.results import integrity
from healmpi.results.files import open_file, open_results, refuse_foreign_bytes
from healmpi.results.folder import PartsFolder
from healmpi.results.heaps import check_heaps
from healmpi.results.schema import PART_SCHEMA, ResultsError


class Finding(NamedTuple):
    """What is known of a file, in one line that begins with its name."""

    good: bool
    line: str


def look(path: Path) -> Iterator[Finding]:
    """A finding for a file; of a folder OUT.h5.parts one for each part in it. Raises FileNotFoundError: there is nothing to look at."""
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        yield _finding(path)
        return
    owner = PartsFolder.owner(path)
    parts = PartsFolder(owner).parts() if owner is not None else []
    if not parts:
        raise FileNotFoundError(f"{path} is a folder without parts of a run")
    for part in parts:
        yield _finding(part)


def _finding(path: Path) -> Finding:
    try:
        return Finding(True, f"{path}: {_part(path) if is_part(path) else _whole(path)}")
    except ResultsError as error:
        return Finding(False, str(error))


def is_part(path: Path) -> bool:
    """Whether it is one rank's part: by its place, or by what it says of itself wherever it is."""
    if path.match(PartsFolder.part_names) and PartsFolder.owner(path.absolute().parent) is not None:
        return True
    try:
        refuse_foreign_bytes(path)
        check_heaps(path)
        with open_file(path, "r") as file:
            return integrity.root_text(file, "schema") == PART_SCHEMA
    except (ResultsError, *integrity.FAULTS):
        return False


def _part(path: Path) -> str:
    from healmpi.results.part_integrity import check_part

    return check_part(path)


def _whole(path: Path) -> str:
    with open_results(path) as file:
        if not integrity.is_sealed(file):
            return "has no digests: written by schema 1.4 or before; its structure is sound"
        tables = sum(isinstance(one, h5py.Dataset) for _, one in integrity.objects(file))
        return f"good ({tables} tables, {path.stat().st_size} bytes, schema {file.attrs['schema_version']})"
