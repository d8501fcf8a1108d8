"""Damages small results files in a process of its own, in many ways, and says what the analysis package made of each.

    python tests/analysis_damage.py FOLDER KIND SEED BITS BLOCKS      KIND: plain, sealed, parts, chained; two lines of JSON a damage

The first line: what was damaged; the second: 'refused', 'same' (what is read is what was written), 'less' (all that is read is), 'other',
or the traceback of any other exception. The process has little memory: a size that a damaged file asks for cannot be taken.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from analysis_sample import config, tables, write, write_parts
from healmpi_analysis import contract
from healmpi_analysis.consensus import final_distance
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.loading import load
from healmpi_analysis.records import read_record, reduce_source
from healmpi_analysis.sources import open_source

from healmpi import messages
from healmpi.results import merge
from healmpi.results import writer as writer_module
from healmpi.results.writer import CycleRows, FaultRow, GroupRow, PartWriter

MEMORY_BYTES = 3 * 2**30
"""Of addresses, libraries included: without a file the process takes half of it."""

KINDS = (messages.kind("analysis_ask"), messages.MODEL)
COUNT, CYCLES = 2, 8
"""Nodes of each of two ranks."""


def plain(path: Path) -> Path:
    """A file of schema 1.2, without digests."""
    models = np.arange(8, dtype=np.float32).reshape(4, 2)
    return write(path, scenario="all hubs crash at 3", models=models, own_accuracy=tables()["accuracy"])


def parts(path: Path) -> Path:
    """Of schema 1.2, too."""
    return write_parts(path, committed=(5, 4), scenario="all hubs crash at 3", extra_kinds=0)


def chained(path: Path) -> Path:
    """Parts as healmpi writes them, finished; with small chunks, as otherwise nearly all of a small part is unused."""
    writer_module.CHUNK_BYTES, writer_module.FLUSHES_CHUNK_ROWS = 256, 4
    for rank in (0, 1):
        _write_part(path, rank)
    return path.with_name(f"{path.name}.parts")


def sealed(path: Path) -> Path:
    """The file that healmpi makes of them."""
    chained(path)
    return merge.merge(path, remove_parts=True)


MAKERS = {"plain": plain, "sealed": sealed, "parts": parts, "chained": chained}


def _write_part(out: Path, rank: int) -> None:
    settings = json.dumps(config(run__cycles=CYCLES))
    writer = PartWriter(
        out.with_name(f"{out.name}.parts") / f"rank-{rank:05d}.h5", rank=rank, ranks=2, nodes=range(rank * COUNT, rank * COUNT + COUNT),
        total_nodes=2 * COUNT, config_json=settings, config_toml="", config_hash=hashlib.sha256(settings.encode()).hexdigest()[:16],
        title="heal", scenario="all hubs crash at 3", kinds=KINDS, view_size=3, hub_count=1, flush_every=2, provenance={"healmpi": "0"},
        run_id="a", partition=([np.arange(3)] * COUNT, np.array([[3, 2]] * COUNT), np.array([2, 2])),
    )  # fmt: skip
    for cycle in range(1, CYCLES + 1):
        _append(writer, rank, cycle)
    writer.finish(
        model_digests=["0f" * 32] * COUNT, models=np.ones((COUNT, 5), np.float32), rank_facts={"host": "h", "wall_s": 2.0}, audit=[],
        audited=True, survivors_finished=True,
    )  # fmt: skip
    writer.close()


def _append(writer: PartWriter, rank: int, cycle: int) -> None:
    rng, first = np.random.default_rng(100 * rank + cycle), rank * COUNT
    sent = rng.integers(0, 50, (COUNT, len(KINDS)))
    known = {name: rng.random(COUNT, np.float32) for name in ("accuracy", "loss", "own_accuracy", "train_loss")}
    known |= {name: rng.integers(0, 9, COUNT) for name in ("incarnation", "staleness", "model_crc32")}
    known |= {"trained": rng.random(COUNT) < 0.5, "alive": np.ones(COUNT, bool), "is_hub": rng.random(COUNT) < 0.3}
    known |= {f"messages_{way}": sent for way in ("out", "in")} | {f"bytes_{way}": sent * 2**33 for way in ("out", "in")}
    known |= {"messages_dropped": 0 * sent, "seconds": rng.random((COUNT, 6)), "class_hits": rng.integers(0, 5, 2)}
    row = CycleRows(cycle=cycle, ticks=3, views=rng.integers(-1, 4, (COUNT, 3), np.int32), **known)
    group = GroupRow(cycle, 0, 10 * cycle + rank, first, first, 0, False, 1, 0.5, (first, first + 1))
    writer.append(row, [group], [FaultRow(cycle, 1, first, "crash", "start")])


# Damages.


def damages(data: bytes, seed: int, bits: int, blocks: int) -> Iterator[tuple[str, bytes]]:
    """(what was done, the bytes after it). bits: how many single ones are flipped. blocks: how many of each kind of block."""
    generator = np.random.default_rng(seed)
    size = len(data)
    for place in generator.integers(0, 8 * size, bits).tolist():
        yield f"bit {place}", _put(data, place // 8, bytes([data[place // 8] ^ 1 << place % 8]))
    for _ in range(blocks):
        start, length = int(generator.integers(size)), int(generator.integers(1, 2000))
        block = data[start : start + length]
        yield f"zeroed {start}+{length}", _put(data, start, bytes(len(block)))
        yield f"random {start}+{length}", _put(data, start, generator.bytes(len(block)))
        other = int(generator.integers(max(1, size - length)))
        yield f"copied {other} to {start}+{length}", _put(data, start, data[other : other + len(block)])
        yield f"inserted {start}+{length}", data[:start] + generator.bytes(length) + data[start:]
        yield f"taken out {start}+{length}", data[:start] + data[start + length :]
        yield f"truncated {start}", data[:start]


def _put(data: bytes, start: int, block: bytes) -> bytes:
    return data[:start] + block + data[start + len(block) :]


# What is read.


def fingerprint(path: Path) -> str:
    """Of all that the package reads of a run."""
    found = hashlib.sha256()
    with open_source(path) as source:
        record = reduce_source(source)
        found.update(repr(dataclasses.asdict(record.facts)).encode())
        arrays = [record.series, record.kind_messages, record.kind_bytes, record.phase_seconds, record.rank_seconds, record.class_accuracy]
        arrays += [source.read(name, 0, len(source.cycles)) for name in ("loss", "train_loss", "trained") if source.has(name)]
        arrays += [source.views(place) for place in range(len(source.view_cycles()))]
        arrays += [source.view_cycles(), np.array(final_distance(source)), record.series.index]
        for one in arrays:
            found.update(np.ascontiguousarray(one).tobytes())
        found.update(record.faults.to_csv().encode() + record.rank_table.to_csv().encode())
    return found.hexdigest()


def rows(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The nodes that are hosted, and all tables of cycles."""
    with open_source(path) as source:
        ranks = source.rank_table()
        hosted = [np.arange(first, first + count) for first, count in zip(ranks["first_node"], ranks["node_count"], strict=True)]
        known = [name for name in contract.TYPES if source.has(name)]
        return np.concatenate(hosted), {name: source.read(name, 0, len(source.cycles)) for name in known}


def is_less(path: Path, whole: dict[str, np.ndarray]) -> bool:
    """Whether what is read of parts is of the first cycles, and of some of the nodes, of the whole."""
    nodes, found = rows(path)
    return all(table[:, nodes].tobytes() == whole[name][: len(table), nodes].tobytes() for name, table in found.items())


def outcome(path: Path, original: str, whole: dict[str, np.ndarray]) -> str:
    try:
        if fingerprint(path) == original:
            return "same"
        return "less" if path.is_dir() and is_less(path, whole) else "other"
    except AnalysisError as error:
        told = str(error)
        told.encode()
        return "refused" if "\n" not in told else f"more than a line: {told}"
    except Exception:
        return traceback.format_exc()


def run(folder: Path, kind: str, seed: int, bits: int, blocks: int) -> None:
    path = MAKERS[kind](folder / "a.h5")
    victims = [path] if path.is_file() else sorted(path.iterdir())
    load(path), read_record(path)  # all libraries are in memory now
    original, whole_rows = fingerprint(path), rows(path)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for victim in victims:
        whole = victim.read_bytes()
        for what, data in damages(whole, seed, bits // len(victims), blocks // len(victims)):
            print(json.dumps(f"{victim.name} {what}"), flush=True)
            victim.write_bytes(data)
            print(json.dumps(outcome(path, original, whole_rows)), flush=True)
        victim.write_bytes(whole)
    assert outcome(path, original, whole_rows) == "same"


if __name__ == "__main__":
    warnings.simplefilter("error")
    run(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
