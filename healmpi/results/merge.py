"""The parts of all ranks become one file, which is judged and renamed into place.

What is kept of a killed run are the cycles that all readable parts have. A rank that left nothing readable is filled in: its nodes
are not alive, its numbers nan or 0. Nobody sees an unfinished OUT, since everything is written to a temporary file beside it; and
merging the same parts again gives the same file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from healmpi.results import assemble
from healmpi.results.folder import PartsFolder
from healmpi.results.integrity import FAULTS, first_line
from healmpi.results.parts import FINISHED, Run, collect, read_parts
from healmpi.results.preflight import merged_bytes
from healmpi.results.schema import ResultsError


def merge(out: Path, *, remove_parts: bool, force: bool = False, note: Callable[[str], None] = lambda text: None) -> Path:
    """Make OUT of its parts. Returns OUT.

    remove_parts: unless one is damaged: from a checkpoint the run may still come to its end. force: replace an existing OUT. note: is told
    what is wrong with a part, a sentence each. Raises ResultsError: nothing to merge, OUT exists, the parts do not belong together, or OUT
    cannot be written. The parts are kept then.
    """
    folder = PartsFolder(out)
    try:
        found = folder.parts()
    except OSError as error:
        raise ResultsError(f"{folder.path} cannot be read ({error.strerror})") from None
    if not found:
        owner = PartsFolder.owner(out)
        hint = f"; name {owner}" if owner is not None else ""
        raise ResultsError(f"there are no parts of {out}: no {folder.part_names} in {folder.path}{hint}")
    if out.exists() and not force:
        raise ResultsError(f"{out} exists already; the parts are kept, and --force replaces the file")
    run, temporary = collect(folder), folder.temporary
    for path, what in [*run.damage.values(), *run.nobodys]:
        note(f"{path} {what}")
    _check_room(out, run)
    try:
        assemble.write(temporary, run)
        os.replace(temporary, out)
    except FAULTS as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise ResultsError(f"{out} cannot be made of its parts ({why}); the parts are kept") from error
    finally:
        temporary.unlink(missing_ok=True)
    if remove_parts and not run.damage:
        folder.remove()
    return out


def _check_room(out: Path, run: Run) -> None:
    """Raise ResultsError where the file would not fit on the disk, or a row of its tables into memory: before any of it is taken."""
    attrs = run.attrs
    reports = sum(part.committed["groups"] for part in run.parts)
    needed, row = merged_bytes(
        nodes=run.nodes,
        hosted=sum(part.count for part in run.parts),
        cycles=len(run.cycles),
        kinds=len(attrs["kinds"]),
        ranks=len(run.states),
        view_width=attrs["view_size"],
        views=max(part.committed["views"] for part in run.parts),
        reports=reports,
        member_width=attrs["hub_count"],
    )
    free, memory = shutil.disk_usage(out.parent).free, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for what, count, there in (("on disk", needed, free), ("of memory", row, memory)):
        if count > there:
            size = f"about {count / 1e9:.1f} GB {what}, of which there are {there / 1e9:.1f} GB"
            raise ResultsError(
                f"{out} cannot be made of its parts: they say {run.nodes} nodes on {len(run.states)} ranks, which take {size}"
            )


@dataclass(frozen=True, slots=True)
class PartsState:
    """What is known of the parts of a run.

    finished: all ranks have come to the end, and their parts are whole. sources: SHA-256 of the files of what was a user's own.
    """

    config_hash: str
    finished: bool
    sources: dict[str, str]


def state_of_parts(out: Path) -> PartsState | None:
    """What the parts of OUT are; None: there are none that can be read. Raises OSError."""
    parts, errors = read_parts(PartsFolder(out).parts())
    if not parts:
        return None
    whole = not errors and len(parts) == int(parts[0].attrs["ranks"]) and all(part.state == FINISHED for part in parts)
    return PartsState(str(parts[0].attrs["config_hash"]), whole, parts[0].sources)
