"""The part file of one rank: everything it hosts, written in bulk every few cycles and readable after a SIGKILL.

    static facts, partition | block of cycles | block of cycles | ... | final facts, `finished`
                            ^ flushed         ^ flushed               ^ flushed

Datasets are longer than what was recorded, see growing.py. The dataset `committed` says how many rows count; it is written after the rows
are on disk. What is written is chained by SHA-256, see part_integrity.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from healmpi.messages import Kind
from healmpi.results.files import close_trimmed, open_file, reason_array, reserve, storable, text_array
from healmpi.results.growing import Growing
from healmpi.results.integrity import FAULTS, Damage, first_line
from healmpi.results.part_checks import GROWING, growing_shape
from healmpi.results.part_integrity import (
    END_ATTRIBUTES,
    END_DIGEST,
    FLUSHES,
    ROW,
    Head,
    array_digest,
    end_digest,
    first_row,
    growing,
    heads,
    next_row,
)
from healmpi.results.rows import CycleRows, FaultRow, GroupRow
from healmpi.results.schema import (
    CLASS_HITS,
    COMMITTED,
    CYCLE_COLUMNS,
    DIGEST_BYTES,
    FAULT_COLUMNS,
    GROUP_COLUMNS,
    PART_SCHEMA,
    PHASES,
    SCHEMA_VERSION,
    Column,
    column,
    fixed,
)

__all__ = ["CycleRows", "FaultRow", "GroupRow", "PartWriter"]

CHUNK_BYTES = 32 * 1024
LONGEST_CHUNK_ROWS, LONGEST_CHUNK_BYTES = 1024, 8 * 1024 * 1024
FLUSHES_CHUNK_ROWS = CHUNK_BYTES // (8 * ROW)

Partition = tuple[Sequence[np.ndarray], np.ndarray, np.ndarray]
"""Per hosted node its sample indices; int [nodes, classes], how many samples of each label it holds; int [classes], the test set's."""


class PartWriter:
    """Owns one rank's part file, from the first row to `close`."""

    _rows: list[CycleRows]
    _groups: list[GroupRow]
    _faults: list[FaultRow]
    _last_cycle: int | None
    _tables: dict[str, Growing]
    _heads: list[Head]
    _flushes: Growing
    _committed: h5py.Dataset
    _flushed: int
    _last_row: np.ndarray

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
        digests = self._write_partition(partition)
        classes = 0 if partition is None else len(partition[2])
        self._create_tables({"node": len(nodes), "phase": len(PHASES), "kind": len(kinds), "slot": view_size, "label": classes}, digests)
        self._file.flush()

    @classmethod
    def reopen(cls, path: Path, nodes: Sequence[int], flush_every: int, done: Mapping[str, int], last_cycle: int) -> PartWriter:
        """The part of a run that goes on. done, last_cycle: as `progress` told; what was written later is written anew.

        Raises OSError; Damage: it cannot be read, or has no flush that ends there.
        """
        writer = cls.__new__(cls)
        try:
            writer._begin(path, "r+", len(nodes), flush_every)
            writer._done, writer._last_cycle = dict(done), last_cycle
            writer._go_back()
        except FAULTS as error:
            if hasattr(writer, "_file"):
                writer._file.close()
            raise Damage(path, "/", f"cannot be read ({first_line(error)})") from error
        return writer

    def progress(self) -> dict[str, int]:
        """How many rows of each kind are on disk, after a flush: `reopen` goes on there. Raises OSError."""
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
        self._check_place()
        if not self._rows:
            return
        blocks = self._cycle_blocks() | self._view_blocks() | self._group_blocks() | self._fault_blocks()
        # A table of no width has no rows: a run without messages, for example.
        blocks = {name: block for name, block in blocks.items() if name in self._tables}
        places = {name: self._done[GROWING[name].in_parts] for name in blocks}
        self._reserve(CHUNK_BYTES + sum(self._tables[name].growth_bytes(places[name], len(block)) for name, block in blocks.items()))
        blocks = {name: self._tables[name].put(places[name], block) for name, block in blocks.items()}
        self._commit(blocks)
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
        written = self._store("models/sha256", [one.encode() for one in digests])
        if models is not None:
            written |= self._store("models/parameters", models)
        self._file.create_group("facts").attrs.update({name: storable(value) for name, value in rank_facts.items()})
        self._file.attrs["audit"] = reason_array(audit)
        self._file.attrs.update({"audited": int(audited), "survivors_finished": int(survivors_finished)})
        self._file.attrs[END_DIGEST] = np.bytes_(end_digest(self._file, self._last_row, written))
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
            # Another file of that name is not ours to trim.
            if self._is_in_place():
                close_trimmed(self._file, self._path)
            else:
                self._file.close()

    # The start of the file.

    def _begin(self, path: Path, mode: str, count: int, flush_every: int) -> None:
        self._path, self._count, self._flush_every = path, count, flush_every
        self._done = dict.fromkeys(COMMITTED, 0)
        self._last_cycle = None
        self._forget()
        self._file = open_file(path, mode)

    def _is_in_place(self) -> bool:
        """Whether the file still has its name: without it everything that is written goes when it is closed."""
        here = os.fstat(self._file.id.get_vfd_handle())
        try:
            there = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # of the file system, which says nothing of the name
            return here.st_nlink > 0
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def _check_place(self) -> None:
        if not self._is_in_place():
            self._forget()
            text = "it was removed or replaced while the run writes it, and all that is written there would be lost"
            raise FileNotFoundError(errno.ENOENT, text, str(self._path))

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

    def _write_partition(self, partition: Partition | None) -> dict[str, str]:
        if partition is None:
            return {}
        indices, label_counts, test_counts = partition
        assert len(indices) == len(label_counts) == self._count
        offsets = np.cumsum([0, *(len(one) for one in indices)])
        known = {
            "node_offsets": offsets,
            "sample_indices": np.concatenate(indices),
            "label_counts": label_counts,
            "test_counts": test_counts,
        }
        return {path: one for name, values in known.items() for path, one in self._store(f"partition/{name}", values).items()}

    def _store(self, name: str, values: np.ndarray | Sequence[bytes]) -> dict[str, str]:
        """Returns its digest, by path."""
        self._file[name] = array = np.asarray(values, column(name).dtype)
        return {name: array_digest(array)}

    def _create_tables(self, widths: Mapping[str, int], digests: Mapping[str, str]) -> None:
        """digests: of the partition."""
        for name, one in GROWING.items():
            row = growing_shape(one, widths)
            if 0 in row:
                continue
            size = max(1, int(np.prod(row)) * np.dtype(one.dtype).itemsize)
            rows = max(1, min(LONGEST_CHUNK_ROWS, CHUNK_BYTES // size))
            # HDF5 and its readers hold a chunk in memory: a very long row is cut along its first axis.
            pieces = -(-size // LONGEST_CHUNK_BYTES)
            chunk = (rows, *(-(-length // pieces) if axis == 0 else length for axis, length in enumerate(row)))
            self._file.create_dataset(name, (0, *row), one.dtype, maxshape=(None, *row), chunks=chunk)
        self._file.create_dataset(FLUSHES, (0, ROW), "<i8", maxshape=(None, ROW), chunks=(FLUSHES_CHUNK_ROWS, ROW))
        self._file["committed"] = self._last_row = first_row(self._file, digests)
        self._keep_tables_open()
        self._put_flush(0)

    def _keep_tables_open(self) -> None:
        # Looking a dataset up costs as much as writing it.
        tables = growing(self._file)
        self._tables, self._heads = {name: Growing(table) for name, table in tables.items()}, heads(tables)
        self._flushes, self._committed = Growing(self._file[FLUSHES]), self._file["committed"]

    def _go_back(self) -> None:
        """To the flush after which the rows were as many as in `_done`; what follows on it does not count any more. Raises KeyError."""
        self._keep_tables_open()
        rows, counts = self._file[FLUSHES][:], [self._done[name] for name in COMMITTED]
        numbers = np.flatnonzero((rows[:, : len(counts)] == counts).all(axis=1))
        if not numbers.size:
            raise KeyError(f"it has no flush after {counts[0]} cycles")
        self._flushed, self._last_row = int(numbers[0]), rows[numbers[0]]
        # Killed after its end and before the merging: it comes to its end again.
        for name in ("models", "facts"):
            if name in self._file:
                del self._file[name]
        for name in ("finished", END_DIGEST, *END_ATTRIBUTES):
            if name in self._file.attrs:
                del self._file.attrs[name]
        self._write_committed()
        # Where `committed` is damaged later, these rows must not take its place.
        self._file[FLUSHES][self._flushed + 1 :] = 0
        self._file.flush()

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

    def _commit(self, blocks: Mapping[str, np.ndarray]) -> None:
        written = (len(self._rows), sum(one.views is not None for one in self._rows), len(self._groups))
        members = sum(one.size for one in self._groups)
        for name, count in zip(COMMITTED, (*written, members, len(self._faults)), strict=True):
            self._done[name] += count
        counts = [self._done[name] for name in COMMITTED]
        self._last_row = next_row(self._last_row, counts, self._heads, lambda name, start, stop: [blocks[name]] if stop > start else [])
        self._put_flush(self._flushed + 1)
        self._write_committed()

    def _put_flush(self, number: int) -> None:
        self._flushes.put(number, self._last_row[None])
        self._flushed = number

    def _write_committed(self) -> None:
        self._file.flush()
        self._committed[...] = self._last_row
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
