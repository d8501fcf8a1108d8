"""Writing the merged file of a run from its parts, block of cycles by block of cycles; at the end it is judged."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from healmpi.results import integrity, tables, verdict
from healmpi.results.files import close_trimmed, open_file, open_part, reason_array, reserve
from healmpi.results.parts import FINISHED, Part, Run
from healmpi.results.schema import (
    CLASS_ACCURACY,
    CLASS_HITS,
    CYCLE_COLUMNS,
    DIGEST_BYTES,
    FAULT_COLUMNS,
    GROUP_COLUMNS,
    GROUP_OUTCOMES,
    PHASES,
    RANK_STATES,
    SCHEMA,
    SCHEMA_VERSION,
    VIEWS,
    Column,
    fact_column,
    fixed,
)

LIBVER = ("v110", "v110")
"""Since HDF5 1.10 all structures of a file can have checksums. Parts are in the older format, which is readable after a kill."""


def write(path: Path, run: Run) -> None:
    """Write the file and judge it. Raises OSError; what is there then is of no use."""
    file = open_file(path, "w", libver=LIBVER)
    try:
        reserve(file, 0)
        _write_root(file, run)
        _write_ranks(tables.Group(file, "ranks"), run)
        digests = _write_cycles(tables.Group(file, "cycles"), run)
        digests |= _write_overlay(tables.Group(file, "overlay"), run)
        _write_groups(tables.Group(file, "groups"), run)
        _write_faults(tables.Group(file, "faults"), run)
        _write_partition(tables.Group(file, "partition"), run)
        _write_models(tables.Group(file, "models"), run)
        reserve(file, 0)
        verdict.conclude(file)
        reserve(file, 0)
        integrity.seal(file, digests)
    finally:
        close_trimmed(file, path)


def _write_root(file: h5py.File, run: Run) -> None:
    attrs = run.attrs
    with open_part(run.first.path) as first:
        config = dict(first["config"].attrs)
        reserve(file, 4 * sum(len(text) for text in config.values()))
        file.create_group("config").attrs.update(config | {"hash": attrs["config_hash"]})
        file.create_group("provenance").attrs.update(dict(first["provenance"].attrs))
    # What the audit found is in the part of rank 0.
    audit = attrs if run.first.rank == 0 else {}
    file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "title": attrs["title"], "run_id": attrs["run_id"]})
    file.attrs.update({"complete": int(_complete(run, config["json"])), "nodes": run.nodes, "ranks": len(run.states)})
    file.attrs.update({name: attrs[name] for name in ("view_size", "hub_count")})
    file.attrs["audited"] = int(audit.get("audited", 0))
    file.attrs["audit_reasons"] = reason_array(audit.get("audit", ()))


def _complete(run: Run, config_json: str) -> bool:
    """Every rank has finished, with the cycles that the configuration asks for."""
    wanted = json.loads(config_json).get("run", {})
    expected = wanted.get("cycles", len(run.cycles)) + wanted.get("warmup_cycles", 0)
    lengths = {part.committed["cycles"] for part in run.parts}
    return bool((run.states == FINISHED).all()) and lengths == {expected} and len(run.cycles) == expected


# What is known of each rank.


def _write_ranks(group: tables.Group, run: Run) -> None:
    group.attrs["states"] = list(RANK_STATES)
    group.count("rank", len(run.states))
    group.put("state", run.states)
    facts = {part.rank: part.facts | _own_facts(part) for part in run.parts}
    for rank, (_, what) in run.damage.items():
        facts.setdefault(rank, {})["damage"] = what
    known = list(_own_facts(run.first))
    for name in [*known, *sorted({name for one in facts.values() for name in one} - {*known, "rank", "state"})]:
        column = fact_column(name, [one.get(name) for one in facts.values()])
        values = np.full(len(run.states), column.missing, column.dtype)
        for rank, one in facts.items():
            values[rank] = _fact(one.get(name), column)
        group.put(column, values)


def _own_facts(part: Part) -> dict[str, Any]:
    """What the part itself tells of its rank."""
    survivors = int(part.attrs.get("survivors_finished", 0))
    return {
        "survivors_finished": survivors,
        "first_node": part.first,
        "node_count": part.count,
        "cycles": part.committed["cycles"],
    }


def _fact(value: str | int | float | None, column: Column) -> str | int | float | bytes:
    if value is None:
        return column.missing
    return fixed(str(value), int(column.dtype[1:])) if column.dtype.startswith("S") else value


# Cycles and views: the nodes of each part go into their place.


def _write_cycles(group: tables.Group, run: Run) -> dict[str, str]:
    kinds, carrying = run.attrs["kinds"], run.attrs["kinds_carrying_models"]
    group.scale("cycle", run.cycles)
    group.count("node", run.nodes)
    group.scale("kind", kinds)
    group.scale("phase", PHASES)
    tested = _test_counts(run)
    group.count("label", len(tested))
    group.put("carries_model", np.array([kind in carrying for kind in kinds], np.int8))
    with open_part(run.first.path) as first:
        group.put("ticks", first["cycles/ticks"][: len(run.cycles)])
    widths = {"node": run.nodes, "kind": len(kinds), "phase": len(PHASES)}
    row_bytes = sum(int(np.prod([widths[dim] for dim in column.dims[1:]])) * np.dtype(column.dtype).itemsize for column in CYCLE_COLUMNS)
    # No chunk is longer than a block, so that a block of whole chunks stays within its bound.
    most_rows = max(1, tables.BLOCK_BYTES // max(1, row_bytes))
    made = [group.create(column, most_rows) for column in CYCLE_COLUMNS]
    digests = _fill(made, run, CYCLE_COLUMNS, "cycles")
    accuracy = next(table for table, column in zip(made, CYCLE_COLUMNS, strict=True) if column.name == "accuracy")
    _fill_classes(group.create(CLASS_ACCURACY), accuracy, tested, run)
    return digests


def _test_counts(run: Run) -> np.ndarray:
    """Samples of the test set by label, which all parts know: int64 [classes]; of length 0 where nothing is learnt."""
    with open_part(run.first.path) as first:
        return first["partition/test_counts"][:] if "partition/test_counts" in first else np.zeros(0, np.int64)


def _fill_classes(table: h5py.Dataset, accuracy: h5py.Dataset, tested: np.ndarray, run: Run) -> None:
    """Accuracy by class: what all ranks' evaluated nodes got right, over what they were asked."""
    if not table.size:
        return
    for start, stop in tables.blocks([table]):
        hits = np.zeros((stop - start, len(tested)), np.int64)
        for part in run.parts:
            with open_part(part.path) as file:
                hits += file[f"cycles/{CLASS_HITS.name}"][start:stop]
        judged = (~np.isnan(accuracy[start:stop])).sum(axis=1)
        asked = judged[:, None] * tested[None, :]
        block = np.divide(hits, asked, out=np.full(hits.shape, np.nan), where=asked > 0).astype(np.float32)
        reserve(table.file, block.nbytes)
        table[start:stop] = block


def _write_overlay(group: tables.Group, run: Run) -> dict[str, str]:
    with open_part(run.first.path) as first:
        recorded = first["overlay/cycle"][: run.first.committed["views"]]
    group.scale("cycle", recorded[recorded <= run.last_cycle])
    group.count("node", run.nodes)
    group.count("slot", run.attrs["view_size"])
    return _fill([group.create(VIEWS)], run, (VIEWS,), "overlay")


def _fill(made: Sequence[h5py.Dataset], run: Run, columns: Sequence[Column], source: str) -> dict[str, str]:
    """Copy the rows of all parts, a block at a time. Returns the digests of the tables, by path, of what was in memory."""
    digests = {table.name: integrity.begin(table) for table in made}
    for start, stop in tables.blocks(made):
        blocks = [
            np.full((stop - start, *table.shape[1:]), column.missing, table.dtype) for table, column in zip(made, columns, strict=True)
        ]
        for part in run.parts:
            with open_part(part.path) as file:
                for block, column in zip(blocks, columns, strict=True):
                    if block.size:
                        block[:, part.nodes] = file[f"{source}/{column.name}"][start:stop]
        reserve(made[0].file, sum(block.nbytes for block in blocks))
        for table, block in zip(made, blocks, strict=True):
            table[start:stop] = block
            digests[table.name].update(block.data)
    return {name: one.hexdigest() for name, one in digests.items()}


# Reports of groups, and faults: by cycle, attempt, node.


def _write_groups(group: tables.Group, run: Run) -> None:
    group.attrs["outcomes"] = list(GROUP_OUTCOMES)
    values, order = _ordered(run, "groups", GROUP_COLUMNS)
    group.count("report", len(order))
    group.count("member", max(run.attrs["hub_count"], int(values["size"].max(initial=0))))
    for column in GROUP_COLUMNS:
        group.put(column, values[column.name])
    table, lists = group.create("members"), _member_lists(run, order)
    for start, stop in tables.blocks([table]):
        block = np.full((stop - start, table.shape[1]), -1, np.int32)
        for row, members in zip(block, lists[start:stop], strict=True):
            row[: len(members)] = members
        reserve(group.file, block.nbytes)
        table[start:stop] = block


def _write_faults(group: tables.Group, run: Run) -> None:
    group.attrs["scenario"] = run.attrs["scenario"]
    values, order = _ordered(run, "faults", FAULT_COLUMNS)
    group.count("fault", len(order))
    for column in FAULT_COLUMNS:
        group.put(column, values[column.name])


def _ordered(run: Run, source: str, columns: Sequence[Column]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All parts' rows up to the last common cycle, sorted; and where each stood when the parts were laid end to end."""
    found: dict[str, list[np.ndarray]] = {column.name: [] for column in columns}
    for part in run.parts:
        with open_part(part.path) as file:
            for name, pieces in found.items():
                pieces.append(file[f"{source}/{name}"][: part.committed[source]])
    values = {name: np.concatenate(pieces) for name, pieces in found.items()}
    # An order that does not depend on which rank hosts which node.
    order = np.lexsort([values[key] for key in ("node", "attempt", "cycle") if key in values])
    order = order[values["cycle"][order] <= run.last_cycle]
    return {name: column[order] for name, column in values.items()}, order


def _member_lists(run: Run, order: np.ndarray) -> list[np.ndarray]:
    lists: list[np.ndarray] = []
    for part in run.parts:
        with open_part(part.path) as file:
            sizes = file["groups/size"][: part.committed["groups"]]
            flat = file["groups/members"][: part.committed["members"]]
        if len(sizes):
            lists += np.split(flat, np.cumsum(sizes)[:-1])
    return [lists[index] for index in order]


# What each node holds.


def _write_partition(group: tables.Group, run: Run) -> None:
    sizes, classes = np.zeros(run.nodes, np.int64), 0
    for part in run.parts:
        with open_part(part.path) as source:
            if "partition" in source:
                sizes[part.nodes] = np.diff(source["partition/node_offsets"][:])
                classes = max(classes, source["partition/label_counts"].shape[1])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    group.count("node", run.nodes)
    group.count("label", classes)
    group.count("boundary", run.nodes + 1)
    group.count("sample", int(offsets[-1]))
    group.put("node_offsets", offsets)
    group.put("test_counts", _test_counts(run))
    counts, indices = group.create("label_counts"), group.create("sample_indices")
    for part in run.parts:
        with open_part(part.path) as source:
            if "partition" not in source:
                continue
            found = source["partition/sample_indices"][:]
            reserve(group.file, 2 * found.nbytes + 8 * part.count * classes)
            indices[offsets[part.first] : offsets[part.first + part.count]] = found
            counts[part.nodes] = source["partition/label_counts"][:]
    _fill_lost(counts, run, 0)


def _fill_lost(table: h5py.Dataset, run: Run, value: float) -> None:
    """Rows of nodes that no part has. They are written, so that no table claims to be much longer than what is there."""
    ends = [(0, 0), *((part.first, part.first + part.count) for part in run.parts), (run.nodes, run.nodes)]
    for (_, start), (stop, _) in itertools.pairwise(ends):
        if stop > start and table.size:
            reserve(table.file, int((stop - start) * np.prod(table.shape[1:])) * table.dtype.itemsize // 64)
            table[start:stop] = value


def _write_models(group: tables.Group, run: Run) -> None:
    group.count("node", run.nodes)
    reserve(group.file, tables.room(np.dtype(f"S{DIGEST_BYTES}"), run.nodes))
    digests, size = np.zeros(run.nodes, f"S{DIGEST_BYTES}"), 0
    for part in run.parts:
        if part.state != FINISHED:
            continue
        with open_part(part.path) as source:
            if "models/sha256" in source:
                digests[part.nodes] = source["models/sha256"][:]
            size = max(size, source["models/parameters"].shape[1] if "models/parameters" in source else 0)
    group.put("sha256", digests)
    if size:
        group.count("parameter", size)
        # A chunk for each model: the parts end anywhere.
        _fill_models(group.create("parameters", most_rows=1), run)


def _fill_models(table: h5py.Dataset, run: Run) -> None:
    step = max(1, tables.BLOCK_BYTES // (4 * table.shape[1]))
    for part in run.parts:
        with open_part(part.path) as source:
            if part.state != FINISHED or "models/parameters" not in source:
                table[part.nodes] = np.nan
                continue
            for start in range(0, part.count, step):
                block = source["models/parameters"][start : start + step]
                reserve(table.file, block.nbytes)
                table[part.first + start : part.first + start + len(block)] = block
    _fill_lost(table, run, np.nan)
