"""Finding what runs left, and opening it, be it a merged file or the parts of a killed run.

find_sources(folder) -> paths          open_source(path) -> Source          Source.read("accuracy", 0, 100) -> array

A results file is known by HDF5's signature and by what its root says, never by its name.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.hdf5 import has_signature, is_foreign
from healmpi_analysis.merged import FileSource
from healmpi_analysis.part import part_files
from healmpi_analysis.parts import PartsSource
from healmpi_analysis.source import Source

_SUFFIXES = (".h5", ".hdf5", ".hdf")
"""A file that is called so is meant to be one, and is not passed over in silence when it is none."""


@dataclass(frozen=True, slots=True)
class Found:
    """paths: of runs, in order of name. foreign: HDF5 files of something else that lay in the folders."""

    paths: list[Path]
    foreign: list[Path]


def find_sources(places: Sequence[Path]) -> list[Path]:
    """All runs in files and folders; see find."""
    return find(places).paths


def find(places: Sequence[Path]) -> Found:
    """All runs in files and folders, folders searched to any depth, links followed; each once, in order of name.

    A folder OUT.h5.parts stands for its run where OUT.h5 does not exist. Raises AnalysisError: a place does not exist, or
    nothing was found in any of them.
    """
    paths: dict[str, Path] = {}
    foreign: dict[str, Path] = {}
    for place in map(Path, places):
        place = _standing(place)
        for path in [place] if _is_run(place) else _inside(place):
            known = foreign if path != place and path.is_file() and is_foreign(path) else paths
            known.setdefault(os.path.realpath(path), path)
    if not paths:
        raise AnalysisError(f"there is no results file (HDF5, of healmpi) in {', '.join(map(str, places))}")
    return Found(list(paths.values()), list(foreign.values()))


def _standing(place: Path) -> Path:
    """The place itself, or the parts of the run that was to become it."""
    parts = place.parent / f"{place.name}.parts"
    if not place.exists() and parts.is_dir():
        place = parts
    if not place.exists():
        raise AnalysisError(f"{place} does not exist; name a results file, a folder of them, or OUT.h5.parts")
    return place


def _is_run(place: Path) -> bool:
    return not place.is_dir() or bool(part_files(place)) or place.name.endswith(".parts")


def _inside(folder: Path) -> list[Path]:
    """What may be runs: files with HDF5's signature or called so, and folders of parts without a file beside them."""
    return sorted(path for path in _walk(folder, set()) if path.is_dir() or path.suffix in _SUFFIXES or has_signature(path))


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Files, and folders of parts, to any depth. seen: real paths, so that links in a circle come to an end."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise AnalysisError(f"{folder} cannot be searched ({error.strerror})") from None
    for entry in entries:
        if entry.is_file():
            yield entry
        elif entry.is_dir() and entry.name.endswith(".parts"):
            if part_files(entry) and not entry.with_name(entry.name.removesuffix(".parts")).exists():
                yield entry
        elif entry.is_dir():
            yield from _walk(entry, seen)


def open_source(path: Path | str, passing: Collection[str] = ()) -> Source:
    """The run at this path: a merged file, or a folder of parts. Raises AnalysisError.

    passing: tables of /cycles that are about to be read from the first row to the last; their digests are those of what is read then, and
    `check_passed` is called after it. Without, all digests are looked at here.
    """
    path = Path(path)
    if path.is_dir():
        return PartsSource(path)
    return FileSource(path, passing)
