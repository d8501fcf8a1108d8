"""One rank's part of a run that did not end, opened and looked over before anything is believed of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from healmpi_analysis import checks, contract, integrity, part_integrity
from healmpi_analysis.contract import text
from healmpi_analysis.hdf5 import attributes, damage_of, once, opened, texts, verifying
from healmpi_analysis.part_integrity import Held
from healmpi_analysis.source import BLOCK_BYTES, FAULT_COLUMNS, RANK_FACTS, TEXT_FACTS


@dataclass(frozen=True, slots=True)
class Part:
    """One readable part. committed: rows that count, by table. kinds, phases: lengths of the last axes. first_cycle: None: no cycle
    counts. note: a sentence on what of it does not count, empty: nothing."""

    path: Path
    file: h5py.File
    rank: int
    nodes: slice
    total_nodes: int
    ranks: int
    committed: dict[str, int]
    config: dict
    facts: dict
    finished: bool
    kinds: int
    phases: int
    first_cycle: int | None
    note: str = ""

    def text(self, name: str) -> str:
        """An attribute of the root; empty: it does not have it."""
        return text(self.file.attrs.get(name, ""))

    def texts(self, name: str) -> tuple[str, ...] | None:
        """The same of a list; None: it does not have it."""
        return texts(self.file.attrs[name]) if name in self.file.attrs else None


def part_files(folder: Path) -> list[Path]:
    """The parts in a folder, in order of ranks."""
    return sorted(folder.glob("rank-*.h5"))


def open_part(path: Path, files: int) -> Part:
    """files: how many parts there are. Raises AnalysisError."""
    file = opened(path, contract.PART_SCHEMA)
    try:
        with damage_of(path):
            return _part(path, file, files)
    except BaseException:
        file.close()
        raise


def _part(path: Path, file: h5py.File, files: int) -> Part:
    attrs = file.attrs
    total = checks.whole(attrs, "total_nodes", 1)
    ranks = checks.whole(attrs, "ranks", 1, max(total, files))
    count = checks.whole(attrs, "node_count", 1, total)
    first = checks.whole(attrs, "first_node", 0, total - count)
    # Nodes are dealt evenly: another rank hosts one more at most.
    if total > min(ranks * (count + 1), contract.MOST_HOSTED * count * files):
        raise ValueError(f"it hosts {count} nodes of {total} on {ranks} ranks")
    for name in ("hub_count", "view_size"):
        checks.whole(attrs, name, 0, max(total, contract.WIDEST_VIEW))
    held = _held(path, file)
    committed = dict(zip(contract.PART_COMMITTED, held.counts, strict=True))
    cycles = checks.cycles(file["cycles"], committed["cycles"])
    kinds, phases = _check_cycles(file, count, cycles, committed["views"])
    _check_groups(file, committed, total)
    _check_faults(file, committed["faults"], total, cycles)
    once(path, "numbers", lambda: _check_numbers(file, len(cycles)))
    return Part(
        path=path,
        file=file,
        rank=checks.whole(attrs, "rank", 0, ranks - 1),
        nodes=slice(first, first + count),
        total_nodes=total,
        ranks=ranks,
        committed=committed,
        config=checks.configuration(file["config"].attrs["json"], text(attrs["config_hash"])),
        facts=_facts(file["facts"]) if "facts" in file and held.whole else {},
        finished=bool(attrs.get("finished", 0)) and held.whole,
        kinds=kinds,
        phases=phases,
        first_cycle=int(cycles[0]) if len(cycles) else None,
        note="" if held.whole else f"{path} is damaged {_where(file, committed['cycles'])}: counted up to there",
    )


def _where(file: h5py.File, rows: int) -> str:
    return f"after cycle {int(file['cycles/cycle'][rows - 1])}" if rows else "from the first cycle on"


def _held(path: Path, file: h5py.File) -> Held:
    """How many rows count, as far as they hold, and that there are as many."""
    chained = part_integrity.FLUSHES in file
    if not chained and integrity.has_digests(file):
        raise ValueError(f"there is no table {part_integrity.FLUSHES}")
    if chained and verifying():
        found = once(path, "rows", lambda: part_integrity.held(file))
    else:
        # Since schema 1.5 digests follow on the counts.
        counts = checks.small(file, "committed", checks.INTEGERS, None).tolist()[: len(contract.PART_COMMITTED)]
        found = Held(tuple(counts), True)
    committed = dict(zip(contract.PART_COMMITTED, found.counts, strict=True))
    for place, name in contract.GROWING.items():
        length = len(checks.rows(file, place)) if place in file else committed[name]
        if not 0 <= committed[name] <= length:
            raise ValueError(f"committed says {committed[name]} rows of {place}, which has {length}")
    return found


def _check_cycles(file: h5py.File, count: int, cycles: np.ndarray, views: int) -> tuple[int, int]:
    """How many kinds of messages and phases the tables tell apart."""
    group = file["cycles"]
    # A run without messages leaves no tables of them.
    kinds = group["messages_out"].shape[-1] if "messages_out" in group else 0
    phases = checks.table(group, "seconds", "f", (None, count, None)).shape[2]
    lasts = dict.fromkeys(contract.BY_KIND, kinds) | {"seconds": phases}
    for name, numbers in contract.TYPES.items():
        if name in group or (name in contract.REQUIRED and (kinds or name not in contract.BY_KIND)):
            checks.table(group, name, numbers, (None, count, *([lasts[name]] if name in lasts else [])))
    if "overlay" in file:
        checks.view_cycles(file["overlay"], cycles, views)
        if "views" in file["overlay"]:
            checks.table(file["overlay"], "views", checks.INTEGERS, (None, count, None))
    return kinds, phases


def _check_numbers(file: h5py.File, rows: int) -> None:
    """What would show as the tables are read, when it is too late to do without this part."""
    for name in contract.RANGES:
        if name in contract.TYPES and name in file["cycles"]:
            table = file[f"cycles/{name}"]
            step = max(1, BLOCK_BYTES * len(table) // max(1, table.nbytes))
            for start in range(0, rows, step):
                checks.in_range(name, table[start : min(rows, start + step)])


def _facts(group: h5py.Group) -> dict:
    found = attributes(group)
    for name in RANK_FACTS:
        kinds = (str,) if name in TEXT_FACTS else (int, float)
        if not isinstance(found.get(name, kinds[0]()), kinds):
            raise ValueError(f"facts/{name} is {text(found[name])[:40]!r}")
    return found


def _check_groups(file: h5py.File, committed: dict[str, int], total: int) -> None:
    """The lists of members are laid end to end, as long as the sizes say."""
    if not committed["groups"]:
        return
    sizes = checks.table(file["groups"], "size", checks.INTEGERS, (None,))[: committed["groups"]]
    checks.within("groups/size", sizes, 0, total)
    if sizes.sum(dtype=np.int64) != committed["members"]:
        raise ValueError(f"groups/size adds up to {sizes.sum(dtype=np.int64)}, and groups/members has {committed['members']} rows")
    members = checks.table(file["groups"], "members", checks.INTEGERS, (None,))[: committed["members"]]
    checks.within("groups/members", members, 0, total - 1)


def _check_faults(file: h5py.File, count: int, total: int, cycles: np.ndarray) -> None:
    if count:
        tables = {name: checks.table(file["faults"], name, kinds, (None,)) for name, kinds in FAULT_COLUMNS.items()}
        checks.within("faults/node", tables["node"][:count], contract.NO_NODE, total - 1)
        checks.of_cycles("faults/cycle", tables["cycle"][:count], cycles)
