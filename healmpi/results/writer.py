"""The part file of one rank: everything it hosts, written in bulk every few cycles and readable after a SIGKILL.

    static facts, partition | block of cycles | block of cycles | ... | final facts, `finished`
                            ^ flushed         ^ flushed               ^ flushed

Datasets are longer than what was recorded. They grow by whole chunks, so that most flushes leave
HDF5's own structures alone, and the dataset `committed` says how many rows count; it is written after the rows are on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from healmpi.messages import Kind
from healmpi.results.files import close_trimmed, open_file, reason_array, reserve, storable, text_array
from healmpi.results.rows import CycleRows, FaultRow, GroupRow
from healmpi.results.schema import (
    CLASS_HITS,
    COMMITTED,
    CYCLE_COLUMNS,
    DIGEST_BYTES,
    FAULT_COLUMNS,
    GROUP_COLUMNS,
    PART_SCHEMA,
    PART_TABLES,
    PHASES,
    SCHEMA_VERSION,
    Column,
    column,
    fixed,
)

__all__ = ["CycleRows", "FaultRow", "GroupRow", "PartWriter"]

_GROWING = {f"{group}/{one.name}": one for group, columns in PART_TABLES.items() for one in columns if one.in_parts in COMMITTED}

CHUNK_BYTES = 32 * 1024
LONGEST_CHUNK_ROWS = 1024

Partition = tuple[Sequence[np.ndarray], np.ndarray, np.ndarray]
"""Per hosted node its sample indices; int [nodes, classes], how many samples of each label it holds; int [classes], the test set's."""


class PartWriter:
    """Owns one rank's part file, from the first row to `close`."""

    _rows: list[CycleRows]
    _groups: list[GroupRow]
    _faults: list[FaultRow]
    _last_cycle: int | None
    _tables: dict[str, h5py.Dataset]

    def __init__(
        self,
        path: Path,
        *,
        rank: int,
        ranks: int,
        nodes: Sequence[int],
        total_nodes: int,
        config_json: str,
        config_toml: str,
        config_hash: str,
        title: str,
        scenario: str,
        kinds: Sequence[Kind],
        view_size: int,
        hub_count: int,
        flush_every: int,
        provenance: Mapping[str, str | int | float],
        partition: Partition | None = None,
        run_id: str = "",
    ):
        """Create the file, write all that is known before the first cycle and flush it.

        nodes: the hosted ids, a block in ascending order. title: what the run is called. scenario: its faults in a sentence. kinds:
        of the run's messages, in the order of the last axis of CycleRows. partition: None: nothing is learnt.
        run_id: one for all parts of a run.
        Raises ValueError for other nodes, FileExistsError when the part is there already, OSError when it cannot be written.
        """
        if list(nodes) != list(range(nodes[0], nodes[0] + len(nodes))):
            raise ValueError(f"a rank hosts a block of nodes in ascending order, not {list(nodes)}")
        path.parent.mkdir(exist_ok=True)
        self._begin(path, "x", len(nodes), flush_every)
        self._reserve_start(4 * len(config_json + config_toml) + _partition_bytes(partition))
        attrs = {"rank": rank, "ranks": ranks, "first_node": nodes[0], "node_count": len(nodes), "total_nodes": total_nodes,
                 "view_size": view_size, "hub_count": hub_count, "config_hash": config_hash, "run_id": run_id,
                 "title": title, "scenario": scenario, "kinds": text_array([kind.name for kind in kinds]),
                 "kinds_carrying_models": text_array([kind.name for kind in kinds if kind.carries_model])}  # fmt: skip
        self._file.attrs.update({"schema": PART_SCHEMA, "schema_version": SCHEMA_VERSION} | attrs)
        self._file.create_group("config").attrs.update({"json": config_json, "toml": config_toml})
        self._file.create_group("provenance").attrs.update({name: storable(value) for name, value in provenance.items()})
        self._write_partition(partition)
        classes = 0 if partition is None else len(partition[2])
        self._create_tables({"node": len(nodes), "phase": len(PHASES), "kind": len(kinds), "slot": view_size, "label": classes})
        self._file.flush()

    @classmethod
    def reopen(cls, path: Path, nodes: Sequence[int], flush_every: int, done: Mapping[str, int], last_cycle: int) -> PartWriter:
        """The part of a run that goes on. done, last_cycle: as `progress` told; what was written later is written anew.

        Raises OSError.
        """
        writer = cls.__new__(cls)
        writer._begin(path, "r+", len(nodes), flush_every)
        writer._done, writer._last_cycle = dict(done), last_cycle
        # Killed after its end and before the merging: it comes to its end again.
        for name in ("models", "facts"):
            if name in writer._file:
                del writer._file[name]
        for name in ("finished", "audit", "audited", "survivors_finished"):
            if name in writer._file.attrs:
                del writer._file.attrs[name]
        writer._keep_tables_open()
        writer._write_counts()
        return writer

    def progress(self) -> dict[str, int]:
        """How many rows of each kind are on disk, after a flush. Raises OSError."""
        self.flush()
        return dict(self._done)

    def append(self, rows: CycleRows, groups: Sequence[GroupRow], faults: Sequence[FaultRow]) -> None:
        """Take over one cycle; it is on disk after at most `flush_every` of them. Raises OSError."""
        assert self._last_cycle is None or rows.cycle > self._last_cycle, f"cycle {rows.cycle} after {self._last_cycle}"
        self._last_cycle = rows.cycle
        self._rows.append(rows)
        self._groups += groups
        self._faults += faults
        if len(self._rows) >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered. Raises OSError; what was flushed before remains readable then."""
        if not self._rows:
            return
        blocks = self._cycle_blocks() | self._view_blocks() | self._group_blocks() | self._fault_blocks()
        # A table of no width has no rows: a run without messages, for example.
        blocks = {name: block for name, block in blocks.items() if name in self._tables}
        self._reserve(sum(self._growth_bytes(name, len(block)) for name, block in blocks.items()))
        for name, block in blocks.items():
            self._put(name, block)
        self._commit()
        self._forget()

    def finish(
        self,
        *,
        model_digests: Sequence[str],
        models: np.ndarray | None,
        rank_facts: Mapping[str, int | float | str],
        audit: Sequence[str],
        audited: bool,
        survivors_finished: bool,
    ) -> None:
        """Write what is known at the end, then the mark that this part is whole.

        model_digests: SHA-256 of each hosted node's model in hexadecimal digits; empty: nothing was learnt. models: float32
        [nodes, parameters] or None. audit: what the audit objects to (rank 0). Raises OSError.
        """
        self.flush()
        digests = model_digests or [""] * self._count
        assert len(digests) == self._count, f"{len(digests)} digests of {self._count} models"
        self._reserve(DIGEST_BYTES * self._count + (0 if models is None else 4 * models.size))
        self._store("models/sha256", [digest.encode() for digest in digests])
        if models is not None:
            self._store("models/parameters", models)
        self._file.create_group("facts").attrs.update({name: storable(value) for name, value in rank_facts.items()})
        self._file.attrs["audit"] = reason_array(audit)
        self._file.attrs.update({"audited": int(audited), "survivors_finished": int(survivors_finished)})
        self._file.flush()
        self._file.attrs["finished"] = 1
        self._file.flush()

    def close(self) -> None:
        """Write what is buffered and close. May be called twice. Raises OSError."""
        if not self._file:
            return
        try:
            self.flush()
        finally:
            close_trimmed(self._file, self._path)

    # The start of the file.

    def _begin(self, path: Path, mode: str, count: int, flush_every: int) -> None:
        self._path, self._count, self._flush_every = path, count, flush_every
        self._done = dict.fromkeys(COMMITTED, 0)
        self._last_cycle = None
        self._forget()
        self._file = open_file(path, mode)

    def _forget(self) -> None:
        self._rows, self._groups, self._faults = [], [], []

    def _reserve_start(self, growth_bytes: int) -> None:
        try:
            self._reserve(growth_bytes)
        except OSError:
            self._file.close()
            self._path.unlink()
            raise

    def _reserve(self, growth_bytes: int) -> None:
        try:
            reserve(self._file, growth_bytes)
        except OSError as error:
            self._forget()  # there is no room for what was buffered
            text = f"{error.strerror}; what was flushed before is kept, `healmpi merge` makes a file of it"
            raise OSError(error.errno, text, str(self._path)) from None

    def _write_partition(self, partition: Partition | None) -> None:
        if partition is None:
            return
        indices, label_counts, test_counts = partition
        assert len(indices) == len(label_counts) == self._count
        self._store("partition/node_offsets", np.cumsum([0, *(len(one) for one in indices)]))
        self._store("partition/sample_indices", np.concatenate(indices))
        self._store("partition/label_counts", label_counts)
        self._store("partition/test_counts", test_counts)

    def _store(self, name: str, values: np.ndarray | Sequence[bytes]) -> None:
        self._file[name] = np.asarray(values, column(name).dtype)

    def _create_tables(self, widths: Mapping[str, int]) -> None:
        for name, one in _GROWING.items():
            # Dimensions that have no width yet are left out: lists of members are laid end to end.
            row = tuple(widths[dim] for dim in one.dims[1:] if dim in widths)
            if 0 in row:
                continue
            row_bytes = max(1, int(np.prod(row)) * np.dtype(one.dtype).itemsize)
            rows = max(1, min(LONGEST_CHUNK_ROWS, CHUNK_BYTES // row_bytes))
            self._file.create_dataset(name, (0, *row), one.dtype, maxshape=(None, *row), chunks=(rows, *row))
        self._file["committed"] = np.zeros(len(COMMITTED), np.int64)
        self._keep_tables_open()

    def _keep_tables_open(self) -> None:
        # Looking a dataset up costs as much as writing it.
        self._tables = {name: self._file[name] for name in _GROWING if name in self._file}

    # A block of cycles: what is added to which table.

    def _cycle_blocks(self) -> dict[str, np.ndarray]:
        rows = self._rows
        blocks = {f"cycles/{name}": np.array([getattr(one, name) for one in rows]) for name in ("cycle", "ticks")}
        return blocks | {f"cycles/{one.name}": np.stack([getattr(row, one.name) for row in rows]) for one in (*CYCLE_COLUMNS, CLASS_HITS)}

    def _view_blocks(self) -> dict[str, np.ndarray]:
        views = {one.cycle: one.views for one in self._rows if one.views is not None}
        return {"overlay/cycle": np.array(list(views)), "overlay/views": np.stack(list(views.values()))} if views else {}

    def _group_blocks(self) -> dict[str, np.ndarray]:
        if not self._groups:
            return {}
        members = np.array([node for one in self._groups for node in one.members], np.int32)
        return _column_blocks("groups", GROUP_COLUMNS, self._groups) | {"groups/members": members}

    def _fault_blocks(self) -> dict[str, np.ndarray]:
        return _column_blocks("faults", FAULT_COLUMNS, self._faults) if self._faults else {}

    def _growth_bytes(self, name: str, rows: int) -> int:
        table = self._tables[name]
        chunk = table.chunks[0]
        chunks = -(-(self._done[_GROWING[name].in_parts] + rows) // chunk) - table.shape[0] // chunk
        return max(0, chunks) * int(np.prod(table.chunks)) * table.dtype.itemsize

    def _put(self, name: str, block: np.ndarray) -> None:
        table, start = self._tables[name], self._done[_GROWING[name].in_parts]
        # HDF5 would stretch a block of another shape, and clip a number that is too large.
        assert block.shape[1:] == table.shape[1:], f"{name}: rows of shape {block.shape[1:]} instead of {table.shape[1:]}"
        if table.dtype == np.int32 and block.dtype == np.int64:
            assert not block.size or abs(block).max() < 2**31, f"{name}: {abs(block).max()} does not fit"
        stop, chunk = start + len(block), table.chunks[0]
        if stop > table.shape[0]:
            table.resize(-(-stop // chunk) * chunk, axis=0)
        table[start:stop] = block

    def _commit(self) -> None:
        written = (len(self._rows), sum(one.views is not None for one in self._rows), len(self._groups))
        members = sum(one.size for one in self._groups)
        for name, count in zip(COMMITTED, (*written, members, len(self._faults)), strict=True):
            self._done[name] += count
        self._write_counts()

    def _write_counts(self) -> None:
        self._file.flush()
        self._file["committed"][...] = np.array([self._done[name] for name in COMMITTED])
        self._file.flush()


def _column_blocks(group: str, columns: Iterable[Column], rows: Sequence[GroupRow] | Sequence[FaultRow]) -> dict[str, np.ndarray]:
    blocks = {}
    for one in columns:
        values = [getattr(row, one.name) for row in rows]
        if one.dtype.startswith("S"):
            values = [fixed(value, int(one.dtype[1:])) for value in values]
        blocks[f"{group}/{one.name}"] = np.array(values)
    return blocks


def _partition_bytes(partition: Partition | None) -> int:
    return 0 if partition is None else 8 * (sum(len(one) for one in partition[0]) + len(partition[0]) + partition[1].size)
