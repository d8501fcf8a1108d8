"""Finding what runs left, and opening it, be it a merged file or the parts of a killed run.

find_sources(folder) -> paths          open_source(path) -> Source          Source.read("accuracy", 0, 100) -> array
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.merged import FileSource
from healmpi_analysis.parts import PartsSource
from healmpi_analysis.source import Source


def find_sources(places: Sequence[Path]) -> list[Path]:
    """All runs in files and folders, folders searched to any depth; each once, in order of name.

    A folder OUT.h5.parts stands for its run where OUT.h5 does not exist. Raises AnalysisError: a place does not exist, or
    nothing was found in any of them.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        parts = place.parent / f"{place.name}.parts"
        if not place.exists() and parts.is_dir():
            place = parts
        if not place.exists():
            raise AnalysisError(f"{place} does not exist; name a results file (.h5), a folder of them, or OUT.h5.parts")
        for path in [place] if place.is_file() or place.name.endswith(".parts") else _inside(place):
            found.setdefault(path)
    if not found:
        raise AnalysisError(f"there is no results file (*.h5) in {', '.join(map(str, places))}")
    return list(found)


def _inside(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*.h5") if path.is_file() and not path.parent.name.endswith(".parts")]
    parts = [path for path in folder.rglob("*.parts") if path.is_dir() and any(path.glob("rank-*.h5"))]
    return sorted([*files, *(path for path in parts if not path.with_name(path.name.removesuffix(".parts")).exists())])


def open_source(path: Path | str) -> Source:
    """The run at this path: a merged file, or a folder of parts. Raises AnalysisError."""
    path = Path(path)
    if path.is_dir():
        return PartsSource(path)
    return FileSource(path)
