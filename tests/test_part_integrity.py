"""Parts of ranks that are damaged: nothing wrong is believed, what is good is kept, and a sentence says from where on it is not."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import drawn
import h5py
import numpy as np
import pytest
from digests import fixed_length
from launch import finish, healmpi, mpirun, sets, start, wait_until

from healmpi import messages
from healmpi.config import Config
from healmpi.hosting import stopping
from healmpi.launch import run
from healmpi.launch import suite as suites
from healmpi.results import info, merge
from healmpi.results import writer as writer_module
from healmpi.results.folder import PartsFolder
from healmpi.results.integrity import FAULTS, Damage, digest
from healmpi.results.part_checks import GROWING
from healmpi.results.part_integrity import END_DIGEST, check_part, end_digest, first_row, growing, heads, next_row
from healmpi.results.parts import read_parts
from healmpi.results.schema import COMMITTED, PHASES, ResultsError
from healmpi.results.writer import CycleRows, FaultRow, GroupRow, PartWriter

KINDS = (messages.kind("part_ask"), messages.MODEL)
CYCLES, FLUSH_EVERY, COUNT = 7, 2, 2
"""Of the small run: two ranks of two nodes; flushes after cycles 2, 4, 6, 7."""


def rows(rank: int, cycle: int) -> CycleRows:
    rng = np.random.default_rng(100 * rank + cycle)
    sent = rng.integers(0, 50, (COUNT, len(KINDS)))
    known = {name: rng.random(COUNT, np.float32) for name in ("accuracy", "loss", "own_accuracy", "train_loss")}
    known |= {name: rng.integers(0, 9, COUNT) for name in ("incarnation", "staleness", "model_crc32")}
    known |= {"trained": rng.random(COUNT) < 0.5, "alive": np.ones(COUNT, bool), "is_hub": rng.random(COUNT) < 0.3}
    known |= {f"messages_{way}": sent for way in ("out", "in")} | {f"bytes_{way}": sent * 2**33 for way in ("out", "in")}
    known |= {"messages_dropped": 0 * sent, "seconds": rng.random((COUNT, len(PHASES))), "class_hits": rng.integers(0, 5, 2)}
    return CycleRows(cycle=cycle, ticks=3, views=rng.integers(-1, 4, (COUNT, 3), np.int32), **known)


def append(writer: PartWriter, rank: int, cycle: int) -> None:
    first = rank * COUNT
    group = GroupRow(cycle, 0, 10 * cycle + rank, first, first, 0, False, 1, 0.5, (first, first + 1))
    writer.append(rows(rank, cycle), [group], [FaultRow(cycle, 1, first, "crash", "start")])


def open_part(out: Path, rank: int, ranks: int = 2) -> PartWriter:
    config = Config.from_table({"run": {"cycles": CYCLES, "nodes": ranks * COUNT, "algorithm": "ring"}}).resolve(1)
    samples = [np.arange(5) + 10 * rank, np.arange(3)]
    return PartWriter(
        PartsFolder(out).part(rank), rank=rank, ranks=ranks, nodes=range(rank * COUNT, rank * COUNT + COUNT), total_nodes=ranks * COUNT,
        config_json=config.to_json(), config_toml=config.to_toml(), config_hash=config.hash(), title="a ring", scenario="no faults",
        kinds=KINDS, view_size=3, hub_count=2, flush_every=FLUSH_EVERY, provenance={"healmpi": "0", "seed": 1}, run_id="a",
        partition=(samples, np.array([[3, 2], [1, 2]]), np.array([2, 2])),
    )  # fmt: skip


def end(writer: PartWriter) -> None:
    writer.finish(
        model_digests=["0f" * 32] * COUNT, models=np.ones((COUNT, 5), np.float32), rank_facts={"host": "h", "pid": 7, "wall_s": 2.0},
        audit=[], audited=True, survivors_finished=True,
    )  # fmt: skip
    writer.close()


def write_part(out: Path, rank: int, cycles: int = CYCLES, ended: bool = True, ranks: int = 2) -> Path:
    writer = open_part(out, rank, ranks)
    for cycle in range(1, cycles + 1):
        append(writer, rank, cycle)
    if ended:
        end(writer)
    writer.close()
    return PartsFolder(out).part(rank)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """The results file of an undamaged run, its parts beside it: with small chunks, as otherwise nearly all of a small part is unused."""
    out = tmp_path_factory.mktemp("good") / "out.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "CHUNK_BYTES", 256)
        patch.setattr(writer_module, "FLUSHES_CHUNK_ROWS", 4)
        for rank in (0, 1):
            write_part(out, rank)
    return merge.merge(out, remove_parts=False)


def copied(good: Path, folder: Path) -> tuple[Path, Path]:
    """OUT beside a copy of its parts, and the part of rank 1."""
    out = folder / "out.h5"
    shutil.rmtree(PartsFolder(out).path, ignore_errors=True)
    shutil.copytree(PartsFolder(good).path, PartsFolder(out).path)
    return out, PartsFolder(out).part(1)


def merged(out: Path) -> list[str]:
    """Notes on the parts."""
    notes: list[str] = []
    merge.merge(out, remove_parts=False, force=True, note=notes.append)
    return notes


def assert_rows_are_those_of(good: Path, out: Path, lost: bool) -> int:
    """Cycles that OUT has, all of which must be those of the good file. lost: rank 1's are filled in."""
    nodes = slice(0, COUNT if lost else 2 * COUNT)
    with h5py.File(good) as one, h5py.File(out) as other:
        count = len(other["cycles/cycle"])
        last = other["cycles/cycle"][-1] if count else 0
        for name in (name for name in GROWING if name in one):
            mine, theirs = fixed_length(one[name]), fixed_length(other[name])
            if name.startswith(("cycles/", "overlay/")):
                mine, theirs = mine[:count], theirs[:count]
                mine, theirs = (mine[:, nodes], theirs[:, nodes]) if mine.ndim > 1 else (mine, theirs)
            else:
                group = name.split("/")[0]
                kept = (one[f"{group}/cycle"][:] <= last) & (one[f"{group}/node"][:] < nodes.stop)
                mine = mine[kept]
            assert theirs.tobytes() == mine.tobytes(), f"{name} of {count} cycles"
        return count


def contents(part: Path) -> dict[str, object]:
    """All that merging takes from a whole part, read by h5py alone."""
    found: dict[str, object] = {}
    with h5py.File(part) as file:
        counts = file["committed"][:5].tolist()
        for name, column in GROWING.items():
            found[name] = fixed_length(file[name])[: counts[COMMITTED.index(column.in_parts)]].tobytes()
        for group in ("partition", "models"):
            found |= {f"{group}/{name}": fixed_length(table).tobytes() for name, table in file[group].items()}
        for place in ("/", "config", "provenance", "facts"):
            found |= {f"{place} {name}": np.array(value).tolist() for name, value in file[place].attrs.items()}
    return found


def outcome(good: Path, out: Path, part: Path, expected: dict[str, object]) -> str:
    """What became of the merging; fails where a wrong number was believed, or something else than a sentence came of it.

    expected: contents of the undamaged part.
    """
    try:
        said = check_part(part)
    except ResultsError as error:
        said = str(error)
        assert str(part) in said and "\n" not in said
    if said == f"good, finished, {CYCLES} cycles":
        assert contents(part) == expected
        return "unhurt"
    try:
        notes = merged(out)
    except ResultsError as error:
        assert "\n" not in str(error)
        return "refused"
    with h5py.File(out) as file:
        state = file["ranks/state"][1]
        assert not file.attrs["complete"]
    count = assert_rows_are_those_of(good, out, lost=state == 3)
    assert notes == [said], "check and merge say the same"
    assert "INVALID" in info.describe(out)
    if state == 3:
        return "unreadable"
    assert state == 1 and (f"good to cycle {count}" in said if count else "no cycle is good" in said), (said, count)
    return "cut"


# The recipe.


def test_the_chain_is_as_the_format_says(tmp_path):
    def attributes(where: str, attrs: h5py.AttributeManager, names: list[str]) -> str:
        return "".join(f"attribute {where} {name} {value(attrs[name])}\n" for name in names)

    def value(one) -> str:
        if isinstance(one, str):
            return json.dumps(one)
        if isinstance(one, np.ndarray) and one.dtype == object:
            return "[" + ", ".join(json.dumps(text) for text in one) + "]"
        return f"{one.dtype.str} scalar {one.tobytes().hex()}"

    def of_dataset(name: str) -> str:
        table = file[name][()]
        head = f"{table.dtype.str} {'x'.join(map(str, table.shape))}\n"
        return f"dataset {name} {hashlib.sha256(head.encode() + table.tobytes()).hexdigest()}\n"

    def of_table(name: str) -> str:
        return f"table {name} {file[name].dtype.str} {'x'.join(map(str, file[name].shape[1:])) or 'scalar'}"

    cycle_tables = [
        "cycle", "ticks", "accuracy", "loss", "own_accuracy", "train_loss", "trained", "alive", "is_hub", "incarnation", "staleness",
        "model_crc32", "seconds", "messages_out", "messages_in", "messages_dropped", "bytes_out", "bytes_in", "class_hits",
    ]  # fmt: skip
    group_tables = ["cycle", "attempt", "epoch", "node", "coordinator", "outcome", "reused", "weight", "seconds", "size", "members"]
    order = [(f"cycles/{name}", 0) for name in cycle_tables] + [("overlay/cycle", 1), ("overlay/views", 1)]
    order += [(f"groups/{name}", 3 if name == "members" else 2) for name in group_tables]
    order += [(f"faults/{name}", 4) for name in ("cycle", "tick", "node", "kind", "detail")]
    with h5py.File(write_part(tmp_path / "out.h5", 1)) as file:
        late = ["audit", "audited", "survivors_finished"]
        text = attributes("/", file.attrs, sorted({*file.attrs} - {*late, "finished", "end_sha256"}))
        text += "".join(attributes(where, file[where].attrs, sorted(file[where].attrs)) for where in ("config", "provenance"))
        text += "".join(of_dataset(f"partition/{name}") for name in ("node_offsets", "sample_indices", "label_counts", "test_counts"))
        text += "".join(f"{of_table(name)}\n" for name, _ in order)
        found = [hashlib.sha256(text.encode()).digest()]
        counts = [[0] * 5, *([cycles, cycles, cycles, 2 * cycles, cycles] for cycles in (2, 4, 6, 7))]
        for before, after in itertools.pairwise(counts):
            one = hashlib.sha256(found[-1])
            for name, entry in order:
                one.update(f"{of_table(name)} {before[entry]} {after[entry]}\n".encode())
                one.update(file[name][before[entry] : after[entry]].tobytes())
            found.append(one.digest())
        expected = [np.array(count, "<i8").tobytes() + one for count, one in zip(counts, found, strict=True)]
        assert [row.tobytes() for row in file["flushes"][:5]] == expected and file["committed"][:].tobytes() == expected[-1]
        assert not file["flushes"][5:].any()
        text = (
            f"flush {expected[-1].hex()}\n"
            + attributes("/", file.attrs, late)
            + attributes("facts", file["facts"].attrs, ["host", "pid", "wall_s"])
        )
        text += of_dataset("models/sha256") + of_dataset("models/parameters")
        assert file.attrs["end_sha256"] == hashlib.sha256(text.encode()).hexdigest().encode() and file.attrs["finished"] == 1


def test_a_good_part_says_how_far_it_is(tmp_path):
    assert check_part(write_part(tmp_path / "a.h5", 0)) == "good, finished, 7 cycles"
    assert check_part(write_part(tmp_path / "b.h5", 0, 5, ended=False)) == "good to cycle 5, unfinished"
    assert check_part(write_part(tmp_path / "c.h5", 0, 0, ended=False)) == "good, unfinished, without a cycle"


# One thing that is wrong.


def seal(path: Path) -> None:
    """The digests that fit to what is in the part now: what is left then is whether it can be true."""
    with h5py.File(path, "r+") as file:
        tables, flushes = growing(file), file["flushes"]
        row = first_row(file, {f"partition/{name}": digest(table) for name, table in file.get("partition", {}).items()})
        counts = [one for one in flushes[:, : len(COMMITTED)].tolist() if any(one)]
        flushes[0] = row
        for number, one in enumerate(counts, 1):
            row = next_row(row, one, heads(tables), lambda name, start, stop: [tables[name][start:stop]])
            flushes[number] = row
        file["committed"][...] = row
        file.attrs[END_DIGEST] = np.bytes_(end_digest(file, row, {f"models/{name}": digest(one) for name, one in file["models"].items()}))


def attribute(name: str, value) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def number(name: str, where: tuple, value) -> Callable[[h5py.File], None]:
    return lambda file: file[name].__setitem__(where, value)


def without(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def instead(name: str, **what) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **what)

    return change


def external(file: h5py.File) -> None:
    del file["cycles/loss"]
    file["cycles/loss"] = h5py.ExternalLink("elsewhere.h5", "/cycles/loss")


def soft(file: h5py.File) -> None:
    del file["cycles/loss"]
    file["cycles/loss"] = h5py.SoftLink("/cycles/accuracy")


def virtual(file: h5py.File) -> None:
    del file["cycles/loss"]
    layout = h5py.VirtualLayout((8, COUNT), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "loss", (8, COUNT))
    file["cycles"].create_virtual_dataset("loss", layout)


def hard_loop(file: h5py.File) -> None:
    file["cycles/cycles"] = file["cycles"]


WRONG = {  # what is wrong: how it comes about; what must be said of it
    "ranks of a billion": (attribute("ranks", 2**31), "ranks = 2147483648"),
    "more ranks than nodes": (attribute("ranks", 5), "ranks = 5"),
    "no ranks": (attribute("ranks", 0), "ranks = 0"),
    "ranks as text": (attribute("ranks", "2"), "ranks = '2'"),
    "ranks as fraction": (attribute("ranks", 2.0), "ranks = 2.0"),
    "rank beyond": (attribute("rank", 2), "rank = 2"),
    "hubs without end": (attribute("hub_count", 2**30), "hub_count = 1073741824"),
    "views without end": (attribute("view_size", 2**30), "view_size = 1073741824"),
    "views of another width": (attribute("view_size", 4), "overlay/views has rows of shape"),
    "fewer nodes": (attribute("node_count", 1), "has the shape|has rows of shape"),
    "more nodes": (attribute("node_count", 3), "node_count = 3"),
    "nodes elsewhere": (attribute("first_node", -1), "first_node = -1"),
    "kinds of nothing": (attribute("kinds", 7), "kinds"),
    "kinds without ASCII": (attribute("kinds", np.array(["ä", "model"], h5py.string_dtype())), "kinds"),
    "another configuration": (lambda file: file["config"].attrs.__setitem__("json", '{"run": {"cycles": 3}}'), "json whose hash is not"),
    "another hash": (attribute("config_hash", "0" * 16), "json whose hash is not"),
    "a title that is a number": (attribute("title", 3), "title = 3"),
    "no configuration": (without("config"), "cannot be read|config"),
    "no provenance": (without("provenance"), "cannot be read|provenance"),
    "no hubs": (without("cycles/is_hub"), "cycles/is_hub is missing"),
    "no overlay": (without("overlay"), "overlay/cycle is missing"),
    "no flushes": (without("flushes"), "flushes is missing"),
    "nothing committed": (without("committed"), "committed is missing"),
    "half a partition": (without("partition/test_counts"), "partition/test_counts is missing"),
    "a table as group": (lambda file: (file.__delitem__("cycles/loss"), file.create_group("cycles/loss")), "cycles/loss is missing"),
    "another type": (instead("cycles/loss", data=np.zeros((8, COUNT))), "cycles/loss has the type float64"),
    "another width": (instead("cycles/loss", data=np.zeros((8, 3), "f4")), "cycles/loss has rows of shape"),
    "too few rows": (instead("cycles/loss", shape=(3, COUNT), dtype="f4"), "flushes from"),
    "a shape of nothing": (instead("cycles/loss", shape=(2**40, COUNT), dtype="f4", chunks=(4, COUNT)), "claims"),
    "compressed": (instead("cycles/loss", data=np.zeros((8, COUNT), "f4"), compression=1), "filter"),
    "texts of any length": (instead("cycles/loss", shape=(8, COUNT), dtype=h5py.string_dtype()), "has the type object"),
    "references": (instead("cycles/loss", shape=(8, COUNT), dtype=h5py.ref_dtype), "which healmpi does not write"),
    "a link to elsewhere": (external, "link to elsewhere"),
    "a soft link": (soft, "link to elsewhere"),
    "another file's numbers": (virtual, "in another file"),
    "a group that holds itself": (hard_loop, "holds itself"),
    "cycles with a gap": (number("cycles/cycle", (3,), 9), "cycles/cycle does not ascend"),
    "views of no cycle": (number("overlay/cycle", (6,), 9), "overlay/cycle does not ascend"),
    "a size beyond": (number("groups/size", (5,), 2**27 + 2), "groups/size has 134217730"),
    "a size below": (number("groups/size", (5,), -1), "groups/size has -1"),
    "sizes of others": (number("groups/size", (5,), 3), "groups/size adds up to 15, not to the 14"),
    "a member that is no node": (number("groups/members", (0,), 4), "groups/members has 4"),
    "a reporter that is no node": (number("groups/node", (0,), 4), "groups/node has 4"),
    "a fault of no node": (number("faults/node", (2,), 4), "faults/node has 4"),
    "an outcome of nothing": (number("groups/outcome", (2,), 5), "groups/outcome has 5"),
    "a detail without UTF-8": (number("faults/detail", (2,), b"\xff"), "faults/detail has"),
    "samples backwards": (number("partition/node_offsets", (1,), 9), "node_offsets does not ascend"),
    "samples beyond": (number("partition/node_offsets", (2,), 2**40), "node_offsets does not ascend"),
    "samples below": (number("partition/sample_indices", (0,), -1), "sample_indices has -1"),
    "a fact that is a path": (lambda file: file["facts"].attrs.__setitem__("../cycles/x", 1), "facts has"),
    "a fact of many numbers": (lambda file: file["facts"].attrs.__setitem__("many", np.arange(3)), "facts has"),
    "a time that is a text": (lambda file: file["facts"].attrs.__setitem__("wall_s", "long"), "facts has wall_s"),
    "an audit that is a number": (attribute("audit", 3), "audit"),
    "models of other nodes": (instead("models/sha256", data=np.array([b"x"] * 3, "S64")), "models/sha256 has the shape"),
    "committed without end": (number("committed", (0,), 2**62), "committed is none"),
    "committed below": (number("committed", (0,), -1), "committed is none"),
    "committed of an earlier flush": (number("committed", slice(0, 5), (2, 2, 2, 4, 2)), "committed is none"),
    "committed zeroed": (number("committed", slice(None), 0), "committed is none"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_said_and_the_other_rank_counts(good, tmp_path, what):
    change, expected = WRONG[what]
    sayings = []
    for sealed in (False, True):
        out, part = copied(good, tmp_path)
        with h5py.File(part, "r+") as file:
            change(file)
        if sealed:
            try:
                seal(part)
            except FAULTS:
                continue  # what it is made of is gone, or was made up again
        if "committed" in what and sealed:
            continue
        with pytest.raises(Damage) as caught:
            check_part(part)
        sayings.append(str(caught.value))
        last = part.read_bytes()
    part.write_bytes(last)
    parts, errors = read_parts(PartsFolder(out).parts())
    assert [one.rank for one in parts if one.damage is None] == [0], "what is left is merged in the tests below"
    assert [str(error) for error in errors.values()] + [str(one.damage) for one in parts if one.damage] == [sayings[-1]]
    assert any(re.search(expected, saying) for saying in sayings), sayings


# Any bytes.


def changed(content: bytes, rng: random.Random) -> bytes:
    """The content with a block zeroed, drawn, moved, put in or left out."""
    size, length = len(content), rng.choice([1, 8, 64, 512, 4096, 32768])
    place, other = sorted(rng.sample(range(size - length), 2))
    block = content[place : place + length]
    how = rng.randrange(6)
    if how == 0:
        return content[:place] + bytes(length) + content[place + length :]
    if how == 1:
        return content[:place] + rng.randbytes(length) + content[place + length :]
    if how == 2:
        return content[:other] + block + content[other + length :]
    if how == 3:
        return content[:place] + rng.randbytes(length) + content[place:]
    if how == 4:
        return content[:place] + content[place + length :]
    return content[:other]


def test_a_bit_that_flips_is_noticed_and_no_wrong_number_is_believed(good, tmp_path):
    out, part = copied(good, tmp_path)
    content, expected, rng = part.read_bytes(), contents(part), random.Random(11)
    found: Counter[str] = Counter()
    for _ in range(120):
        place = rng.randrange(len(content))
        part.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
        found[outcome(good, out, part, expected)] += 1
    print(dict(found))
    assert found["cut"] and found["unreadable"], found


def test_a_block_that_is_damaged_is_noticed_and_no_wrong_number_is_believed(good, tmp_path):
    out, part = copied(good, tmp_path)
    content, expected, rng = part.read_bytes(), contents(part), random.Random(12)
    found: Counter[str] = Counter()
    for _ in range(30):
        part.write_bytes(changed(content, rng))
        found[outcome(good, out, part, expected)] += 1
    print(dict(found))
    assert found["cut"] and found["unreadable"], found


# Parts that do not go together.


def recoded(file: h5py.File, name: str) -> None:
    """A text that is not UTF-8."""
    file.attrs.create(name, b"x\xff", dtype=h5py.string_dtype())


def with_one_class(file: h5py.File) -> None:
    for name in ("partition/label_counts", "partition/test_counts", "cycles/class_hits"):
        values = file[name][..., :1]
        chunks, most = file[name].chunks, file[name].maxshape
        del file[name]
        file.create_dataset(name, data=values, chunks=chunks and (*chunks[:-1], 1), maxshape=(*most[:-1], 1) if chunks else None)


def with_wider_models(file: h5py.File) -> None:
    values = file["models/parameters"][:]
    del file["models/parameters"]
    file["models/parameters"] = np.concatenate([values, values], axis=1)


def of_an_earlier_version(file: h5py.File) -> None:
    file.attrs["schema_version"] = "1.3"
    del file["flushes"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: recoded(file, "title"), "is not UTF-8"),
        (lambda file: recoded(file["provenance"], "healmpi"), "is not UTF-8"),
        (lambda file: recoded(file["config"], "toml"), "is not UTF-8"),
        (lambda file: file.attrs.modify("title", "a chord"), "does not fit the other parts: title 'a chord', not 'a ring'"),
        (with_one_class, "does not fit the other parts: samples of the test set by class"),
        (with_wider_models, "does not fit the other parts: floats in a model"),
        (of_an_earlier_version, "has schema version 1.3, and this healmpi merges parts of"),
    ],
    ids=["title", "provenance", "toml", "other title", "classes", "models", "version"],
)
def test_a_part_that_does_not_fit_is_left_out_and_the_others_are_merged(tmp_path, change, words):
    out = tmp_path / "out.h5"
    for rank in range(3):
        write_part(out, rank, ranks=3)
    part = PartsFolder(out).part(2)
    with h5py.File(part, "r+") as file:
        change(file)
    if "schema version" not in words and "UTF-8" not in words:
        seal(part)
    notes = merged(out)
    assert len(notes) == 1 and words in notes[0] and str(part) in notes[0]
    with h5py.File(out) as file:
        assert file["ranks/state"][:].tolist() == [0, 0, 3]


def test_a_file_that_is_called_like_a_part_and_is_nobodys_is_told(good, tmp_path):
    out, part = copied(good, tmp_path)
    stranger = part.with_name("rank-abc.h5")
    stranger.write_text("no HDF5")
    assert merged(out) == [f"{stranger} is not an HDF5 file"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_a_part_that_is_no_file_of_its_own_is_not_read_and_the_other_counts(good, tmp_path, kind):
    out, part = copied(good, tmp_path)
    aside = part.rename(tmp_path / "aside")
    {"fifo": lambda: os.mkfifo(part), "folder": part.mkdir, "link": lambda: part.symlink_to(aside)}[kind]()
    (note,) = merged(out)
    assert note.startswith(str(part)) and note.endswith({"link": "is a link: a part is a file of its own"}.get(kind, "is no file"))


def test_a_part_of_another_version_that_lacks_what_it_should_have_is_damaged(good, tmp_path):
    _, part = copied(good, tmp_path)
    for spoil in (lambda file: file.attrs.pop("run_id"), lambda file: file.attrs.pop("config_hash")):
        with h5py.File(part, "r+") as file:
            of_an_earlier_version(file) if "flushes" in file else None
            spoil(file)
        with pytest.raises(Damage):
            check_part(part)


# What counts.


def test_a_flush_that_is_not_committed_does_not_count(tmp_path):
    part = write_part(tmp_path / "out.h5", 0, 6, ended=False)
    with h5py.File(part, "r+") as file:
        file["committed"][...] = file["flushes"][2]  # killed between the two
    assert check_part(part) == "good to cycle 4, unfinished"
    with h5py.File(part, "r+") as file:
        file["cycles/loss"][5] = 7  # behind what counts
        file["flushes"][3, 6] += 1
    assert check_part(part) == "good to cycle 4, unfinished"
    with h5py.File(part, "r+") as file:
        file["committed"][7] += 1
    with pytest.raises(Damage, match="committed is none of the rows of flushes; good to cycle 4"):
        check_part(part)


@pytest.mark.parametrize(("row", "cycle"), [(1, None), (2, 2), (3, 4)])
def test_a_flush_that_does_not_hold_ends_what_counts(good, tmp_path, row, cycle):
    out, part = copied(good, tmp_path)
    with h5py.File(part, "r+") as file:
        file["flushes"][row, 8] ^= 1
    said = "from the first one on .*; no cycle is good" if cycle is None else f"from cycle {cycle + 1} on .*; good to cycle {cycle}$"
    with pytest.raises(Damage, match=said) as caught:
        check_part(part)
    assert caught.value.table == "flushes" and outcome(good, out, part, contents(PartsFolder(good).part(1))) == "cut"
    with h5py.File(out) as file:
        assert file["ranks/damage"][:].tolist()[0] == b"" and file["ranks/damage"][1].startswith(b"is damaged: flushes from")
        assert file["ranks/state"][:].tolist() == [0, 1] and file["ranks/cycles"][:].tolist() == [7, cycle or 0]
        assert file["models/sha256"][:].tolist() == [b"0f" * 32] * 2 + [b""] * 2, "models of what was not finished are none"
    assert any(reason.startswith("the part of rank 1 is damaged: flushes from") for reason in info.conclusion(out)[0])


def test_an_end_that_does_not_hold_leaves_all_cycles_and_none_of_the_end(good, tmp_path):
    out, part = copied(good, tmp_path)
    with h5py.File(part, "r+") as file:
        file["models/parameters"][0, 0] = 2
    assert outcome(good, out, part, contents(PartsFolder(good).part(1))) == "cut"
    with h5py.File(out) as file:
        assert len(file["cycles/cycle"]) == CYCLES and np.isnan(file["models/parameters"][COUNT:]).all()
        assert file["ranks/pid"][:].tolist() == [7, 0] and file["ranks/survivors_finished"][:].tolist() == [1, 0]
    assert merge.state_of_parts(out).finished is False


def test_a_part_that_goes_on_leaves_no_trace_of_what_it_takes_back(tmp_path):
    out = tmp_path / "out.h5"
    writer = open_part(out, 0)
    for cycle in (1, 2, 3):
        append(writer, 0, cycle)
    done = writer.progress()
    for cycle in (4, 5, 6, 7):
        append(writer, 0, cycle)
    end(writer)
    part = PartsFolder(out).part(0)
    writer = PartWriter.reopen(part, range(COUNT), FLUSH_EVERY, done, 3)
    writer.close()
    assert check_part(part) == "good to cycle 3, unfinished"
    with h5py.File(part) as file:
        assert not file["flushes"][3:].any() and "end_sha256" not in file.attrs
    writer = PartWriter.reopen(part, range(COUNT), FLUSH_EVERY, done, 3)
    for cycle in (4, 5, 6, 7):
        append(writer, 0, cycle)
    end(writer)
    assert check_part(part) == "good, finished, 7 cycles"
    with pytest.raises(Damage, match="no flush after 5 cycles"):
        PartWriter.reopen(part, range(COUNT), FLUSH_EVERY, dict.fromkeys(done, 5), 5)


def test_a_writer_killed_at_any_moment_leaves_a_part_that_is_good_to_its_last_flush(tmp_path):
    script = """
import sys
sys.path[:0] = sys.argv[1:3]
from test_part_integrity import *
writer = open_part(Path(sys.argv[3]), 0)
for cycle in range(1, 100_000):
    append(writer, 0, cycle)
    if cycle == 2:
        print("begun", flush=True)
"""
    rng = random.Random(13)
    for number in range(5):
        out = tmp_path / f"{number}.h5"
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(Path(__file__).parents[1]), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout.readline() == "begun\n"
                time.sleep(rng.random() / 3)
            finally:
                process.kill()
        said = re.fullmatch(r"good to cycle (\d+), unfinished", check_part(PartsFolder(out).part(0)))
        assert said and int(said[1]) % FLUSH_EVERY == 0, said
        with h5py.File(PartsFolder(out).part(0)) as file:
            assert file["cycles/loss"][int(said[1]) - 1].tobytes() == rows(0, int(said[1])).loss.tobytes()


def test_a_size_that_all_parts_claim_is_checked_before_it_is_taken(good, tmp_path, monkeypatch):
    def claimed(**sizes: int) -> Path:
        out, _ = copied(good, tmp_path)
        for path in PartsFolder(out).parts():
            with h5py.File(path, "r+") as file:
                file.attrs.update(sizes)
            seal(path)
            assert check_part(path) == "good, finished, 7 cycles"
        return out

    with pytest.raises(ResultsError, match="says that the run has 1048576 nodes; on 2 ranks like this one there are 6 at most"):
        merged(claimed(total_nodes=2**20))
    full, small = lambda path: types.SimpleNamespace(free=1000), lambda name: 9
    for module, name, value in ((merge.shutil, "disk_usage", full), (merge.os, "sysconf", small)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(ResultsError, match="they say 1000 nodes on 900 ranks, which take about"):
                merged(claimed(total_nodes=1000, ranks=900))
    before = time.monotonic()
    assert merged(claimed(total_nodes=1000, ranks=900)) == []
    assert "996 of 1000 nodes are in no part" in info.conclusion(tmp_path / "out.h5")[0] and time.monotonic() - before < 10


# In a run.

TINY = [*drawn.TINY, "run.nodes=6", "run.cycles=6", "results.flush_every=1"]


def execute(out: Path, watch=lambda progress: None, config: Config | None = None, **options) -> Path | None:
    config = config or Config.load(None, TINY).resolve()
    return run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, watch, run.Options(**options))


def stopped_at(out: Path, cycle: int, config: Config | None = None) -> None:
    """A run that has saved its state after this cycle and has gone on to the next one before it was stopped."""
    stop = out.with_name("stop")

    def watch(progress) -> None:
        if progress.cycle == cycle:
            stop.touch()

    with pytest.raises(stopping.Stopped):
        execute(out, watch, config, limits=stopping.Limits(files=(stop,)))
    stop.unlink()


def flip(path: Path, name: str, where: tuple) -> None:
    with h5py.File(path, "r+") as file:
        file[name][where] += 1


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"somebody's")


@pytest.mark.parametrize("act", [remove, replace])
def test_a_part_that_loses_its_name_ends_the_run_at_the_next_flush(tmp_path, act):
    out, seen = tmp_path / "out.h5", []

    def watch(progress) -> None:
        seen.append(progress.cycle)
        if progress.cycle == 2:
            act(PartsFolder(out).part(0))

    with pytest.raises(run.RunFailed, match=r"it was removed or replaced while the run writes it, .*rank-00000\.h5"):
        execute(out, watch)
    assert seen[-1] <= 3
    if act is replace:
        assert PartsFolder(out).part(0).read_bytes() == b"somebody's", "another file of that name is left alone"


@pytest.mark.mpi
def test_a_part_removed_under_mpirun_ends_the_run_on_all_ranks(tmp_path):
    out = tmp_path / "out.h5"
    endless = sets(*drawn.TINY, "run.nodes=8", "run.cycles=1000000", "results.flush_every=1", "results.views_every=0", "results.audit=off")
    process = start([*mpirun("openmpi", 2), "-m", "mpi4py", "-m", "healmpi", "run", *endless, "-o", out], tmp_path)
    try:
        wait_until(lambda: len(read_parts(PartsFolder(out).parts())[0]) == 2, 60, "both ranks have begun")
        PartsFolder(out).part(1).unlink()
    finally:
        done = finish(process, 30)
    assert done.code == 1 and "Traceback" not in done.err, (done.code, done.err)
    assert "the run has failed: rank 1: FileNotFoundError" in done.err and "rank-00001.h5" in done.err, done.err


def test_a_part_damaged_between_its_end_and_the_merging_makes_no_valid_file(tmp_path, monkeypatch, capsys):
    out, real = tmp_path / "out.h5", merge.merge

    def damaging(path: Path, **how) -> Path:
        flip(PartsFolder(path).part(0), "cycles/bytes_out", (3, 0, 0))
        return real(path, **how)

    monkeypatch.setattr(merge, "merge", damaging)
    assert execute(out) == out
    said = capsys.readouterr().err
    assert said.count("rank-00000.h5 is damaged: flushes from cycle 4 on") == 1 and len(said.splitlines()) == 1
    reasons = info.conclusion(out)[0]
    assert reasons[0].startswith("the part of rank 0 is damaged: flushes from cycle 4 on")
    assert "rank 0 did not finish and had live nodes" in reasons
    monkeypatch.undo()
    assert PartsFolder(out).parts(), "what can be repeated from a checkpoint is kept"
    assert execute(out, resume=True) == out and info.conclusion(out)[0] == []
    assert not PartsFolder(out).path.exists()


@pytest.mark.parametrize("spoil", [remove, lambda path: path.write_bytes(b"rubbish"), lambda path: flip(path, "cycles/ticks", (1,))])
def test_a_run_goes_on_only_from_parts_that_are_good_so_far(tmp_path, spoil):
    out = tmp_path / "out.h5"
    stopped_at(out, 3)
    spoil(PartsFolder(out).part(0))
    with pytest.raises(run.Refused, match=r"rank-00000\.h5 cannot be resumed from: .*; --force starts again"):
        execute(out, resume=True)
    assert execute(out, resume=True, force=True) == out and info.conclusion(out)[0] == []


def test_damage_behind_the_checkpoint_is_written_anew(tmp_path):
    out = tmp_path / "out.h5"
    stopped_at(out, 3)
    flip(PartsFolder(out).part(0), "committed", (0,))
    with pytest.raises(Damage, match="committed is none of the rows of flushes; good to cycle 3"):
        check_part(PartsFolder(out).part(0))
    assert execute(out, resume=True) == out and info.conclusion(out)[0] == []


SUITE = """
title = "Tiny"
[base.run]
nodes = 6
cycles = 4
[base.data]
dataset = "synthetic"
samples = 60
[base.model]
name = "logistic"
[axes]
algorithm = ["ring"]
"""


def test_a_suite_gets_past_damaged_parts(tmp_path):
    (tmp_path / "tiny.toml").write_text(SUITE)
    out = tmp_path / "out" / "ring.h5"

    def suite(*more: str):
        return healmpi("suite", "tiny.toml", "-o", "out", *more, cwd=tmp_path)

    out.parent.mkdir()
    stopped_at(out, 1, suites.load(str(tmp_path / "tiny.toml")).experiments[0].config)
    part = PartsFolder(out).part(0)
    flip(part, "cycles/ticks", (0,))
    refused = suite()
    assert refused.code == 1 and "no cycle is good" in refused.err and "--force starts again" in refused.err
    assert "--resume" not in refused.err and "Traceback" not in refused.err
    assert suite("--force").code == 0 and info.conclusion(out)[0] == []
    out.unlink()
    PartsFolder(out).path.mkdir()
    part.write_bytes(b"rubbish")
    assert suite().code == 0 and info.conclusion(out)[0] == [], "without a checkpoint it starts again by itself"
    out.unlink()
    write_part(out, 0)
    refused = suite()
    assert refused.code == 1 and "of another configuration" in refused.err and "--resume" not in refused.err
    assert suite("--force").code == 0 and info.conclusion(out)[0] == []
