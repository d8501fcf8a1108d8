"""Damages small results files in a process of its own, in many ways, and says what the analysis package made of each.

    python tests/analysis_damage.py FOLDER KIND SEED BITS BLOCKS      KIND: plain, sealed, parts; a line of JSON a damage

Each line: what was damaged, and 'refused', 'same' (what is read is what was written), 'other', or the traceback of any other exception.
The process has little memory, so that a size that a damaged file asks for cannot be taken.
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

import h5py
import numpy as np
from analysis_sample import tables, write, write_parts
from healmpi_analysis.consensus import final_distance
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.loading import load
from healmpi_analysis.records import read_record, reduce_source
from healmpi_analysis.sources import open_source

from healmpi.results.integrity import seal

MEMORY_BYTES = 3 * 2**30
"""Of addresses, libraries included: without a file the process takes half of it."""


def plain(path: Path) -> Path:
    """A file of schema 1.2 with everything that is read; no digests."""
    crc = np.arange(8, dtype=np.float32).reshape(4, 2)
    return write(path, scenario="all hubs crash at 3", models=crc, own_accuracy=tables()["accuracy"])


def rewritten(path: Path, sealed: bool) -> Path:
    """The same file as healmpi writes it: tables in chunks, compressed and with checksums, HDF5's own structures with checksums, too."""
    new = path.with_suffix(".new")
    with h5py.File(path) as old, h5py.File(new, "w", libver="latest") as file:
        file.attrs.update(dict(old.attrs))
        old.visititems(lambda name, one: _copy(file, name, one))
        if sealed:
            seal(file)
    return new.replace(path)


def _copy(file: h5py.File, name: str, one: h5py.Group | h5py.Dataset) -> None:
    if isinstance(one, h5py.Group):
        made = file.create_group(name)
    else:
        filters = {"compression": 1, "shuffle": True, "fletcher32": True, "chunks": True} if one.size else {}
        made = file.create_dataset(name, data=one[()], **filters)
    kept = set(one.attrs) - {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST"}
    made.attrs.update({each: one.attrs[each] for each in kept})


def sealed(path: Path) -> Path:
    return rewritten(plain(path), sealed=True)


def parts(path: Path) -> Path:
    return write_parts(path, committed=(5, 4), scenario="all hubs crash at 3", extra_kinds=0)


MAKERS = {"plain": plain, "sealed": sealed, "parts": parts}


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


def outcome(path: Path, original: str) -> str:
    try:
        return "same" if fingerprint(path) == original else "other"
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
    original = fingerprint(path)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for victim in victims:
        whole = victim.read_bytes()
        for what, data in damages(whole, seed, bits // len(victims), blocks // len(victims)):
            print(json.dumps(f"{victim.name} {what}"), flush=True)
            victim.write_bytes(data)
            print(json.dumps(outcome(path, original)), flush=True)
        victim.write_bytes(whole)
    assert outcome(path, original) == "same"


if __name__ == "__main__":
    warnings.simplefilter("error")
    run(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
