"""The parts of all ranks become one file, block of cycles by block of cycles; then it is judged and renamed into place.

What is kept of a killed run are the cycles that all readable parts have. A rank that left nothing readable is filled in:
its nodes are not alive, its numbers nan or 0. The rule that surprises: nobody sees an unfinished OUT, since everything is
written to a temporary file beside it; and a second merge of the same parts gives the same file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from healmpi.messages import KINDS
from healmpi.results import verdict
from healmpi.results.files import close_trimmed, open_file, open_part, reserve
from healmpi.results.schema import (
    CYCLE_COLUMNS,
    FACT_BYTES,
    FAULT_COLUMNS,
    GROUP_COLUMNS,
    GROUP_OUTCOMES,
    LOCK_NAME,
    PHASES,
    RANK_COLUMNS,
    RANK_STATES,
    SCALES,
    SCHEMA,
    SCHEMA_VERSION,
    Column,
    ResultsError,
    fixed,
    part_path,
    parts_folder,
)
from healmpi.results.writer import COMMITTED, strings

BLOCK_BYTES = 64 * 1024 * 1024
"""How much of the cycles is in memory at a time."""

CHUNK_BYTES = 512 * 1024
LARGE_BYTES = 64 * 1024
"""Datasets from this size on are chunked and compressed."""

FINISHED, UNFINISHED, MISSING, UNREADABLE = range(len(RANK_STATES))

_SAME = ("ranks", "total_nodes", "view_size", "hub_count", "config_hash", "schema_version", "run_id")


@dataclass(frozen=True, slots=True)
class Part:
    """One readable part. committed: rows of each kind that count."""

    path: Path
    rank: int
    first: int
    count: int
    state: int
    committed: dict[str, int]
    attrs: dict
    facts: dict[str, str | int | float]

    @property
    def nodes(self) -> slice:
        return slice(self.first, self.first + self.count)


@dataclass(frozen=True, slots=True)
class Run:
    """All parts of one run, in rank order. cycles: numbers of those that all parts have. states: by rank."""

    parts: list[Part]
    states: np.ndarray
    cycles: np.ndarray
    nodes: int
    view_size: int
    hub_count: int

    @property
    def last_cycle(self) -> int:
        return int(self.cycles[-1]) if len(self.cycles) else np.iinfo(np.int32).min


def merge(out: Path, *, remove_parts: bool, force: bool = False) -> Path:
    """Make OUT of OUT.parts. Returns OUT.

    force: replace an existing OUT. Raises ResultsError: nothing to merge, OUT exists, or the parts do not belong
    together, OUT cannot be written. The parts are kept then.
    """
    try:
        found = _part_files(parts_folder(out))
    except OSError as error:
        raise ResultsError(f"{parts_folder(out)} cannot be read ({error.strerror})") from None
    if not found:
        hint = f"; name {out.with_suffix('')}" if out.suffix == ".parts" else ""
        raise ResultsError(f"there are no parts of {out}: no rank-*.h5 in {parts_folder(out)}{hint}")
    if out.exists() and not force:
        raise ResultsError(f"{out} exists already; the parts are kept, and --force replaces the file")
    run = _collect(out)
    temporary = temporary_path(out)
    try:
        _write(temporary, run)
        os.replace(temporary, out)
    except OSError as error:
        raise ResultsError(f"{out} cannot be made of its parts ({error.strerror or error}); the parts are kept") from error
    finally:
        temporary.unlink(missing_ok=True)
    if remove_parts:
        remove_part_files(out)
    return out


@dataclass(frozen=True, slots=True)
class PartsState:
    """What is known of the parts of a run. finished: all ranks have come to the end, and their parts are whole."""

    config_hash: str
    finished: bool


def state_of_parts(out: Path) -> PartsState | None:
    """What the parts of OUT are; None: there are none that can be read."""
    parts, broken = [], False
    for path in _part_files(parts_folder(out)):
        try:
            parts.append(_read_part(path))
        except ResultsError:
            broken = True
    if not parts:
        return None
    whole = not broken and len(parts) == int(parts[0].attrs["ranks"]) and all(part.state == FINISHED for part in parts)
    return PartsState(str(parts[0].attrs["config_hash"]), whole)


def temporary_path(out: Path) -> Path:
    """Where this process makes OUT, before it is renamed."""
    return out.with_name(f"{out.name}.merging-{os.getpid()}")


def remove_part_files(out: Path) -> None:
    """Delete the parts of OUT, their lock, and their folder unless something else lies in it."""
    folder = parts_folder(out)
    for path in (*_part_files(folder), *folder.glob("state-*-rank-*"), *folder.glob("checkpoint.json*"), folder / LOCK_NAME):
        path.unlink(missing_ok=True)
    # Somebody's own file in the folder is not ours to delete.
    with contextlib.suppress(OSError):
        folder.rmdir()


def _part_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("rank-*.h5")) if folder.is_dir() else []


# What is there.


def _collect(out: Path) -> Run:
    paths = _part_files(parts_folder(out))
    parts, errors = [], []
    for path in paths:
        try:
            parts.append(_read_part(path))
        except ResultsError as error:
            errors.append(error)
    if not parts:
        raise errors[0]
    parts.sort(key=lambda part: part.rank)
    _check_same_run(parts)
    return _run(out, parts)


def _read_part(path: Path) -> Part:
    with open_part(path) as file:
        try:
            attrs = dict(file.attrs)
            committed = dict(zip(COMMITTED, file["committed"][:].tolist(), strict=True))
            facts = {name: _plain(value) for name, value in file["facts"].attrs.items()} if "facts" in file else {}
            state = FINISHED if attrs.get("finished") else UNFINISHED
            return Part(path, int(attrs["rank"]), int(attrs["first_node"]), int(attrs["node_count"]), state, committed, attrs, facts)
        except (KeyError, OSError, RuntimeError) as error:
            raise ResultsError(f"{path} is damaged ({error})") from None


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _check_same_run(parts: list[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for name in _SAME:
            if part.attrs.get(name) != first.attrs.get(name):
                raise ResultsError(
                    f"{part.path} and {first.path} are of different runs: {name} is {part.attrs.get(name)} and {first.attrs.get(name)}"
                )
    end, rank = 0, -1
    for part in parts:
        if (
            part.first < end
            or part.rank <= rank
            or part.rank >= first.attrs["ranks"]
            or part.first + part.count > first.attrs["total_nodes"]
        ):
            place = f"nodes {part.first} to {part.first + part.count - 1} as rank {part.rank}"
            raise ResultsError(f"{part.path} hosts {place}, which does not fit the other parts")
        end, rank = part.first + part.count, part.rank


def _run(out: Path, parts: list[Part]) -> Run:
    attrs = parts[0].attrs
    states = np.full(attrs["ranks"], MISSING, np.int8)
    for rank in range(len(states)):
        if part_path(out, rank).exists():
            states[rank] = UNREADABLE
    for part in parts:
        states[part.rank] = part.state
    common = min(part.committed["cycles"] for part in parts)
    with open_part(parts[0].path) as file:
        cycles = file["cycles/cycle"][:common]
    return Run(parts, states, cycles, int(attrs["total_nodes"]), int(attrs["view_size"]), int(attrs["hub_count"]))


# The file.


def _write(path: Path, run: Run) -> None:
    file = open_file(path, "w")
    try:
        reserve(file, 0)
        _write_root(file, run)
        _write_ranks(file, run)
        _write_cycles(file, run)
        _write_overlay(file, run)
        _write_groups(file, run)
        _write_faults(file, run)
        _write_partition(file, run)
        _write_models(file, run)
        reserve(file, 0)
        verdict.conclude(file)
    finally:
        close_trimmed(file, path)


def _write_root(file: h5py.File, run: Run) -> None:
    attrs = run.parts[0].attrs
    with open_part(run.parts[0].path) as first:
        config = dict(first["config"].attrs)
        reserve(file, 4 * sum(len(text) for text in config.values()))
        file.create_group("config").attrs.update(config | {"hash": attrs["config_hash"]})
        file.create_group("provenance").attrs.update(dict(first["provenance"].attrs))
    file.attrs.update({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "complete": int(_complete(run, config["json"]))})
    file.attrs.update({"nodes": run.nodes, "ranks": len(run.states), "view_size": run.view_size, "hub_count": run.hub_count})
    file.attrs["run_id"] = attrs.get("run_id", "")
    file.attrs["audited"] = int(attrs.get("audited", 0)) if run.parts[0].rank == 0 else 0
    file.attrs["audit_reasons"] = attrs["audit"] if run.parts[0].rank == 0 and "audit" in attrs else strings([])


def _complete(run: Run, config_json: str) -> bool:
    """Every rank has finished, with the cycles that the configuration asks for."""
    wanted = json.loads(config_json).get("run", {})
    expected = wanted.get("cycles", len(run.cycles)) + wanted.get("warmup_cycles", 0)
    lengths = {part.committed["cycles"] for part in run.parts}
    return bool((run.states == FINISHED).all()) and lengths == {expected} and len(run.cycles) == expected


def _write_ranks(file: h5py.File, run: Run) -> None:
    group = file.create_group("ranks")
    group.attrs["states"] = list(RANK_STATES)
    by_rank = {part.rank: part for part in run.parts}
    ranks = range(len(run.states))
    _scale(group, "rank", np.arange(len(run.states), dtype=np.int32))
    columns = {
        "state": run.states,
        "survivors_finished": np.array(
            [by_rank[rank].attrs.get("survivors_finished", 0) if rank in by_rank else 0 for rank in ranks], np.int8
        ),
        "first_node": np.array([by_rank[rank].first if rank in by_rank else -1 for rank in ranks], np.int32),
        "node_count": np.array([by_rank[rank].count if rank in by_rank else 0 for rank in ranks], np.int32),
        "cycles": np.array([by_rank[rank].committed["cycles"] if rank in by_rank else 0 for rank in ranks], np.int32),
    }
    for name in sorted({name for part in run.parts for name in part.facts} - set(columns) - {"rank"}):
        columns[name] = _fact_column([by_rank[rank].facts.get(name) if rank in by_rank else None for rank in ranks])
    for name, values in columns.items():
        usual = "text" if values.dtype.kind == "S" else "s" if name.endswith("_s") else "1"
        unit, doc = RANK_COLUMNS.get(name, (usual, name.replace("_", " ")))
        _dataset(group, name, values.shape, values.dtype, ("rank",), unit=unit, doc=doc)[...] = values


def _fact_column(values: list) -> np.ndarray:
    """A fact of all ranks: text, else whole numbers (0 where absent: it was never counted), else numbers (nan where absent)."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in known):
        return np.array([fixed("" if value is None else str(value), FACT_BYTES) for value in values], f"S{FACT_BYTES}")
    if all(isinstance(value, int) for value in known):
        return np.array([value or 0 for value in values], np.int64)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _write_cycles(file: h5py.File, run: Run) -> None:
    group = file.create_group("cycles")
    sizes = {"cycle": len(run.cycles), "node": run.nodes, "kind": len(KINDS), "phase": len(PHASES)}
    _scale(group, "cycle", run.cycles.astype(np.int32))
    _scale(group, "node", np.arange(run.nodes, dtype=np.int32))
    _scale(group, "kind", np.array([kind.encode() for kind in KINDS]))
    _scale(group, "phase", np.array([phase.encode() for phase in PHASES]))
    _dataset(group, "ticks", (len(run.cycles),), "i4", ("cycle",), unit="tick", doc="supersteps of the cycle")
    shapes = [tuple(sizes[dim] for dim in column.dims) for column in CYCLE_COLUMNS]
    row_bytes = sum(int(np.prod(shape[1:])) * np.dtype(column.dtype).itemsize for shape, column in zip(shapes, CYCLE_COLUMNS, strict=True))
    for shape, column in zip(shapes, CYCLE_COLUMNS, strict=True):
        # No chunk is longer than a block, so that a block of whole chunks stays within its bound.
        _column(group, column, shape, most_rows=max(1, BLOCK_BYTES // max(1, row_bytes)))
    if len(run.cycles):
        with open_part(run.parts[0].path) as first:
            group["ticks"][...] = first["cycles/ticks"][: len(run.cycles)]
        _fill(group, run, CYCLE_COLUMNS, "cycles")


def _write_overlay(file: h5py.File, run: Run) -> None:
    group = file.create_group("overlay")
    with open_part(run.parts[0].path) as first:
        recorded = first["overlay/cycle"][: run.parts[0].committed["views"]]
    recorded = recorded[recorded <= run.last_cycle]
    column = Column("views", "i4", ("cycle", "node", "slot"), "node", -1, "the node's view, preferred ids first; -1: empty")
    _scale(group, "cycle", recorded)
    _scale(group, "node", np.arange(run.nodes, dtype=np.int32))
    _scale(group, "slot", np.arange(run.view_size, dtype=np.int32))
    _column(group, column, (len(recorded), run.nodes, run.view_size))
    _fill(group, run, (column,), "overlay")


def _fill(group: h5py.Group, run: Run, columns: tuple[Column, ...], source: str) -> None:
    """Copy the rows of all parts, a block at a time, the nodes of each part into their place."""
    tables = [group[column.name] for column in columns]
    row_bytes = sum(int(np.prod(table.shape[1:])) * table.dtype.itemsize for table in tables)
    for start, stop in _blocks(tables[0].shape[0], row_bytes, [table.chunks[0] if table.chunks else 1 for table in tables]):
        blocks = [
            np.full((stop - start, *table.shape[1:]), column.missing, table.dtype) for table, column in zip(tables, columns, strict=True)
        ]
        for part in run.parts:
            with open_part(part.path) as file:
                for block, column in zip(blocks, columns, strict=True):
                    block[:, part.nodes] = file[f"{source}/{column.name}"][start:stop]
        reserve(group.file, sum(block.nbytes for block in blocks))
        for table, block in zip(tables, blocks, strict=True):
            table[start:stop] = block


def _blocks(rows: int, row_bytes: int, chunk_rows: list[int]) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about BLOCK_BYTES, of whole chunks: a chunk is compressed once."""
    longest = max(chunk_rows)
    step = max(1, BLOCK_BYTES // max(1, row_bytes) // longest) * longest
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


# Reports of groups, and faults: by cycle, attempt, node.


def _write_groups(file: h5py.File, run: Run) -> None:
    group = file.create_group("groups")
    group.attrs["outcomes"] = list(GROUP_OUTCOMES)
    values, order = _ordered(run, "groups", GROUP_COLUMNS)
    _scale(group, "report", np.arange(len(order), dtype=np.int32))
    for column in GROUP_COLUMNS:
        _column(group, column, (len(order),))[...] = values[column.name]
    width = max(run.hub_count, int(values["size"].max(initial=0)))
    _scale(group, "member", np.arange(width, dtype=np.int32))
    column = Column("members", "i4", ("report", "member"), "node", -1, "the group's members in ascending order; -1: none")
    table = _column(group, column, (len(order), width))
    lists = _member_lists(run, order)
    for start, stop in _blocks(len(order), 4 * width, [table.chunks[0] if table.chunks else 1]):
        block = np.full((stop - start, width), -1, np.int32)
        for row, members in zip(block, lists[start:stop], strict=True):
            row[: len(members)] = members
        reserve(file, block.nbytes)
        table[start:stop] = block


def _write_faults(file: h5py.File, run: Run) -> None:
    group = file.create_group("faults")
    values, order = _ordered(run, "faults", FAULT_COLUMNS)
    _scale(group, "fault", np.arange(len(order), dtype=np.int32))
    reserve(file, sum(column.nbytes for column in values.values()))
    for column in FAULT_COLUMNS:
        _column(group, column, (len(order),))[...] = values[column.name]


def _ordered(run: Run, source: str, columns: tuple[Column, ...]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All parts' rows up to the last common cycle, sorted; and where each stood when the parts were laid end to end."""
    found: dict[str, list[np.ndarray]] = {column.name: [] for column in columns}
    for part in run.parts:
        with open_part(part.path) as file:
            for name, pieces in found.items():
                pieces.append(file[f"{source}/{name}"][: part.committed[source]])
    values = {name: np.concatenate(pieces) for name, pieces in found.items()}
    # By cycle, attempt, node: an order that does not depend on which rank hosts which node.
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


def _write_partition(file: h5py.File, run: Run) -> None:
    group = file.create_group("partition")
    sizes, classes = np.zeros(run.nodes, np.int64), 0
    for part in run.parts:
        with open_part(part.path) as source:
            if "partition" in source:
                sizes[part.nodes] = source["partition/node_sizes"][:]
                classes = max(classes, source["partition/label_counts"].shape[1])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    _scale(group, "node", np.arange(run.nodes, dtype=np.int32))
    _scale(group, "label", np.arange(classes, dtype=np.int32))
    _scale(group, "boundary", np.arange(run.nodes + 1, dtype=np.int32))
    reserve(file, 4 * int(offsets[-1]))
    _scale(group, "sample", np.arange(offsets[-1], dtype=np.int32 if offsets[-1] < 2**31 else np.int64))
    table = _dataset(
        group, "node_offsets", offsets.shape, "i8", ("boundary",), unit="sample", doc="node n holds sample_indices[offsets[n]:offsets[n+1]]"
    )
    table[...] = offsets
    counts = _dataset(
        group, "label_counts", (run.nodes, classes), "i8", ("node", "label"), unit="sample", doc="training samples by node and label"
    )
    indices = _dataset(group, "sample_indices", (int(offsets[-1]),), "i8", ("sample",), unit="1", doc="rows of the training set")
    for part in run.parts:
        with open_part(part.path) as source:
            if "partition" not in source:
                continue
            found = source["partition/sample_indices"][:]
            reserve(file, 2 * found.nbytes + 8 * part.count * classes)
            indices[offsets[part.first] : offsets[part.first + part.count]] = found
            counts[part.nodes] = source["partition/label_counts"][:]


def _write_models(file: h5py.File, run: Run) -> None:
    group = file.create_group("models")
    _scale(group, "node", np.arange(run.nodes, dtype=np.int32))
    reserve(file, 64 * run.nodes)
    digests = _dataset(
        group, "sha256", (run.nodes,), "S64", ("node",), unit="text", doc="SHA-256 of the final model's float32 bytes; empty: no model"
    )
    size = 0
    for part in run.parts:
        with open_part(part.path) as source:
            if "sha256" in source:
                digests[part.nodes] = source["sha256"][:]
            size = max(size, source["models"].shape[1] if "models" in source else 0)
    if size:
        reserve(file, 4 * size)
        _scale(group, "parameter", np.arange(size, dtype=np.int32))
        _write_parameters(group, run, size)


def _write_parameters(group: h5py.Group, run: Run, size: int) -> None:
    table = _dataset(
        group,
        "parameters",
        (run.nodes, size),
        "f4",
        ("node", "parameter"),
        unit="1",
        doc="final models; nan: no model",
        fill=np.nan,
        chunks=(1, size),
    )
    step = max(1, BLOCK_BYTES // (4 * size))
    for part in run.parts:
        with open_part(part.path) as source:
            if "models" not in source:
                continue
            for start in range(0, part.count, step):
                block = source["models"][start : start + step]
                reserve(group.file, block.nbytes)
                table[part.first + start : part.first + start + len(block)] = block


# Datasets with their dimensions.


def _scale(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """A dimension of the group: what xarray and netCDF call a coordinate."""
    large = values.nbytes >= LARGE_BYTES
    group.create_dataset(name, data=values, **({"compression": 1, "shuffle": True} if large else {}))
    group[name].make_scale(name)
    unit, doc = SCALES[name]
    group[name].attrs.update({"unit": unit, "long_name": doc})


def _column(group: h5py.Group, column: Column, shape: tuple[int, ...], most_rows: int = 2**31) -> h5py.Dataset:
    chunks = _chunks(shape, np.dtype(column.dtype).itemsize, most_rows)
    return _dataset(group, column.name, shape, column.dtype, column.dims, unit=column.unit, doc=column.doc, chunks=chunks)


def _dataset(
    group: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    dtype,
    dims: tuple[str, ...],
    *,
    unit: str,
    doc: str,
    fill=None,
    chunks=None,
) -> h5py.Dataset:
    item = np.dtype(dtype).itemsize
    if int(np.prod(shape)) * item >= LARGE_BYTES:
        table = group.create_dataset(name, shape, dtype, chunks=chunks or _chunks(shape, item), compression=1, shuffle=True, fillvalue=fill)
    else:
        table = group.create_dataset(name, shape, dtype, fillvalue=fill)
    for index, dim in enumerate(dims):
        table.dims[index].attach_scale(group[dim])
    table.attrs.update({"unit": unit, "long_name": doc} | ({"dtype": "bool"} if unit == "bool" else {}))
    return table


def _chunks(shape: tuple[int, ...], item: int, most_rows: int = 2**31) -> tuple[int, ...]:
    """Whole rows, a power of two of them, of CHUNK_BYTES at most; of a row longer than that, a piece along its first axis."""
    row_bytes = max(1, int(np.prod(shape[1:])) * item)
    rows = max(1, min(shape[0], CHUNK_BYTES // row_bytes, most_rows))
    rows = 1 << (rows.bit_length() - 1)
    if row_bytes <= CHUNK_BYTES or len(shape) == 1:
        return (rows, *shape[1:])
    inner = max(1, CHUNK_BYTES // (int(np.prod(shape[2:])) * item))
    return (1, min(shape[1], inner), *shape[2:])
