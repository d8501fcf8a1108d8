"""The analysis package over damaged and prepared files: nothing wrong is believed, and a sentence names the file and the table."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `analysis` is not installed")

import analysis_damage as damage
import healmpi_analysis as analysis
from analysis_sample import CRASH, CYCLES, NODES, config, hash_of, tables, write, write_parts
from digests import unseal
from healmpi_analysis import checks, contract, hdf5
from healmpi_analysis import integrity as ours
from healmpi_analysis.cli import main
from healmpi_analysis.compare import compare
from healmpi_analysis.errors import AnalysisError, Damage
from healmpi_analysis.figures import network, style
from healmpi_analysis.groups import group_records
from healmpi_analysis.heaps import check_heaps
from healmpi_analysis.records import TABLES, read_all, read_record, without_damaged
from healmpi_analysis.recovery import recoveries
from launch import finish, start

from healmpi.results import integrity as theirs

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """A folder with a file of healmpi's own, sealed.h5, and parts of one, a.h5.parts."""
    made = tmp_path_factory.mktemp("real")
    damage.sealed(made / "sealed.h5")
    damage.chained(made / "a.h5")
    return made


@pytest.fixture
def sealed(real, tmp_path) -> Path:
    return Path(shutil.copy(real / "sealed.h5", tmp_path / "sealed.h5"))


@pytest.fixture
def chained(real, tmp_path) -> Path:
    return Path(shutil.copytree(real / "a.h5.parts", tmp_path / "a.h5.parts"))


def flip(path: Path, table: str, bit: int = 3) -> Path:
    """One bit of the numbers of a table that is stored in one piece, or of its first chunk."""
    with h5py.File(path) as file:
        one = file[table].id
        place = one.get_chunk_info(0).byte_offset if file[table].chunks else one.get_offset()
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return path


# The recipe.


def agreed(path: Path) -> bool:
    """Whether both implementations hold the file for good; they say the same."""
    verdicts = []
    with h5py.File(path) as file:
        for check in (lambda: theirs.check(file, path, 0), lambda: ours.check(path, file, True)):
            try:
                check()
                verdicts.append(True)
            except (theirs.Damage, Damage):
                verdicts.append(False)
    assert verdicts[0] == verdicts[1], path
    return verdicts[0]


def test_both_implementations_of_the_recipe_find_the_same_digests(real, tmp_path):
    path = write(tmp_path / "a.h5", models=np.ones((NODES, 2), np.float32), facts={"numbers": np.arange(3), "share": 0.5})
    with h5py.File(path, "a") as file:
        file["cycles/text"] = np.array(["ä", "", "x" * 200], h5py.string_dtype())
        theirs.seal(file)
    for one in (path, real / "sealed.h5"):
        assert agreed(one)
        with h5py.File(one) as file:
            found = dict(ours.objects(file))
            assert ours.root_digest(file, found).encode() == file.attrs["root_sha256"]
            assert all(ours.digest(table).encode() == table.attrs["sha256"] for table in found.values() if isinstance(table, h5py.Dataset))


def test_both_implementations_say_the_same_of_damaged_files(tmp_path):
    """Of a file without HDF5's checksums, so that the digests alone can tell."""
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        theirs.seal(file)
    assert agreed(path)
    for table in ("cycles/accuracy", "cycles/bytes_out", "cycles/ticks", "overlay/views", "faults/kind", "ranks/wall_s"):
        shutil.copy(path, tmp_path / "b.h5")
        assert not agreed(flip(tmp_path / "b.h5", table))
    changes = (
        lambda file: file.attrs.modify("hub_count", 2),
        lambda file: file["config"].attrs.modify("json", "{}"),
        lambda file: file["cycles/accuracy"].attrs.create("unit", "s"),
        lambda file: file.move("cycles/loss", "cycles/lost"),
        lambda file: file.create_dataset("cycles/more", data=1.0),
        lambda file: file.create_group("more"),
        lambda file: file["cycles"].pop("loss"),
        lambda file: file["cycles/loss"].attrs.pop("sha256"),
    )
    for change in changes:
        shutil.copy(path, tmp_path / "b.h5")
        with h5py.File(tmp_path / "b.h5", "a") as file:
            change(file)
        assert not agreed(tmp_path / "b.h5")


def test_a_file_whose_root_digest_is_gone_is_told_by_those_of_its_tables(sealed):
    with h5py.File(sealed, "a") as file:
        del file.attrs["root_sha256"]
    with pytest.raises(AnalysisError, match="is damaged"):
        analysis.load(sealed)


@pytest.mark.parametrize("verify", [True, False])
def test_a_file_or_part_of_this_version_without_digests_is_refused(sealed, chained, verify):
    with h5py.File(sealed, "a") as file:
        unseal(file, file.attrs["schema_version"])
    with pytest.raises(AnalysisError, match=f"{re.escape(str(sealed))} is damaged: it has no digests, which files of"):
        analysis.load(sealed, verify=verify)
    for part in chained.glob("rank-*.h5"):
        with h5py.File(part, "a") as file:
            del file["flushes"]
    with pytest.raises(AnalysisError, match="there is no table flushes"):
        analysis.load(chained, verify=verify)


# Any damage.


@pytest.mark.parametrize("kind, bits, blocks", [("plain", 80, 6), ("sealed", 80, 6), ("parts", 40, 4), ("chained", 40, 4)])
def test_damage_is_noticed_or_does_no_harm(tmp_path, kind, bits, blocks):
    """Drawn with a seed; the process has little memory, and a deadline."""
    command = [sys.executable, HERE / "analysis_damage.py", tmp_path, kind, "1", str(bits), str(blocks)]
    done = finish(start(command, HERE), 120)
    told = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0, (told[-2:], done.err)
    found = dict(zip(told[::2], told[1::2], strict=True))
    allowed = {"refused", "same", "less"} | ({"other"} if kind in ("plain", "parts") else set())
    assert {what: said for what, said in found.items() if said not in allowed} == {}
    assert Counter(found.values())["refused" if kind in ("plain", "sealed") else "less"] > 0


# One damage, and what is said of it.


def test_a_flipped_bit_of_any_table_is_refused_and_the_table_named(real, sealed):
    whole = sealed.read_bytes()
    with h5py.File(sealed) as file:
        tables_of = {path: one for path, one in ours.objects(file) if isinstance(one, h5py.Dataset) and one.id.get_storage_size()}
        named = [path for path, one in tables_of.items() if not ours.is_text(one)]
    assert len(named) > 40
    for table in named:
        sealed.write_bytes(whole)
        with pytest.raises(AnalysisError, match=f"is damaged.*{table[1:]}") as caught:
            read_record(flip(sealed, table))
        assert str(sealed) in str(caught.value)


def test_a_table_that_nobody_reads_is_damage_unless_it_is_not_looked_for(tmp_path, capsys):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        theirs.seal(file)
    whole = analysis.load(path)
    flip(path, "cycles/loss")
    for read in (analysis.load, analysis.frame, analysis.runs, analysis.nodes):
        with pytest.raises(AnalysisError, match="/cycles/loss does not have the SHA-256"):
            read(path)
    assert analysis.load(path, verify=False).identical(whole)
    for read in (analysis.frame, analysis.runs, analysis.nodes):
        read(path, verify=False)
    out = tmp_path / "out"
    for command in (
        [str(path), "-o", str(out), "--no-figures"],
        ["export", str(path), "-o", str(tmp_path / "csv")],
        ["published", str(path)],
        ["compare", str(path), str(path)],
    ):
        assert main([*command, "-q"]) == 2
        assert "/cycles/loss does not have the SHA-256 that was written with it" in capsys.readouterr().err
        assert main([*command, "-q", "--no-verify"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("block_bytes", [1, 2**25])
def test_a_table_that_is_read_has_its_digest_counted_on_the_way(tmp_path, monkeypatch, block_bytes):
    """Tables of which nobody has read all rows are read for it."""
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        theirs.seal(file)
    monkeypatch.setattr("healmpi_analysis.source.BLOCK_BYTES", block_bytes)
    whole = path.read_bytes()
    for table in TABLES:
        if table != "own_accuracy":
            path.write_bytes(whole)
            read_record(path)
            with pytest.raises(AnalysisError, match=f"/cycles/{table} does not have the SHA-256|cycles/{table} has numbers from"):
                read_record(flip(path, f"cycles/{table}", 0))
    path.write_bytes(whole)
    with analysis.open_source(flip(path, "cycles/accuracy", 0), ["accuracy", "alive"]) as source:
        source.read("accuracy", 2, 4)
        with pytest.raises(AnalysisError, match="/cycles/accuracy does not have the SHA-256"):
            source.check_passed()


def test_a_file_is_looked_through_once_and_anew_when_it_has_changed(sealed, monkeypatch):
    calls = []
    monkeypatch.setattr(hdf5.integrity, "digest", lambda table, real=ours.digest: calls.append(table.name) or real(table))
    monkeypatch.setattr(hdf5, "_SETTLED_NS", -1)
    read_record(sealed)
    looked_at = len(calls)
    read_record(sealed)
    assert len(calls) == looked_at > 40
    time.sleep(0.02)  # a file's time has steps
    flip(sealed, "cycles/accuracy")
    with pytest.raises(AnalysisError, match=r"is damaged.*cycles/accuracy"):
        read_record(sealed)


def test_a_report_names_a_damaged_file_and_has_the_others(tmp_path, capsys, sealed):
    write(tmp_path / "b.h5", config(run__seed=2))
    flip(sealed, "cycles/bytes_out")
    assert main([str(tmp_path), "-o", str(tmp_path / "out"), "-q", "--no-figures"]) == 0
    told = capsys.readouterr()
    assert f"left out: {sealed} is damaged" in told.err and "cycles/bytes_out" in told.err
    assert "1 of 1 runs, 1 files cannot be read" in told.out


def with_damaged(path: Path, table: str, **given) -> Path:
    """A file without digests of which a table cannot be read: it has HDF5's checksum, and another bit."""
    write(path, **given)
    with h5py.File(path, "a") as file:
        numbers = file[table][()]
        del file[table]
        file.create_dataset(table, data=numbers, chunks=True, fletcher32=True)
    return flip(path, table)


def test_damage_that_shows_in_the_middle_of_a_report_leaves_that_file_out(tmp_path, capsys):
    write(tmp_path / "b.h5", config(run__seed=2))
    models = np.ones((NODES, 2), np.float32)
    with_damaged(tmp_path / "a.h5", "models/parameters", settings=config(results__save_models=True), models=models)
    assert main([str(tmp_path), "-o", str(tmp_path / "out"), "-q", "--no-figures"]) == 0
    told = capsys.readouterr()
    assert "a.h5 is damaged" in told.err and "models/parameters" in told.err and "1 of 1 runs, 1 files cannot be read" in told.out
    assert main([str(tmp_path / "a.h5"), "-o", str(tmp_path / "out"), "-q", "--no-figures"]) == 2


def test_damage_that_shows_in_a_figure_leaves_that_file_out(tmp_path):
    paths = [write(tmp_path / "b.h5"), with_damaged(tmp_path / "a.h5", "overlay/views", settings=config(run__seed=2, rule__fanout=2))]
    reading = read_all(paths)
    assert len(reading.records) == 2 and not reading.refused
    left = without_damaged(reading, lambda good: (list(network.in_degrees(group_records(good.records))), good)[1])
    assert [record.path for record in left.records] == paths[:1]
    assert left.refused[0][0] == paths[1] and "a.h5 is damaged" in left.refused[0][1] and "overlay/views" in left.refused[0][1]


def test_compare_says_3_of_a_damaged_b_and_2_of_a_damaged_a(tmp_path, capsys, sealed):
    good = Path(shutil.copy(sealed, tmp_path / "good.h5"))
    flip(sealed, "groups/size")
    assert main(["compare", str(good), str(good), "-q", "--include-invalid"]) == 0
    assert main(["compare", str(good), str(sealed), "-q", "--include-invalid"]) == 3
    assert "NOT WHOLE:" in capsys.readouterr().out
    assert main(["compare", str(sealed), str(good), "-q", "--include-invalid"]) == 2
    # Without digests it shows when bits are compared.
    good, bad = write(tmp_path / "a.h5"), with_damaged(tmp_path / "b.h5", "cycles/loss")
    assert main(["compare", str(good), str(bad), "-q"]) == 3
    assert "b.h5 is damaged" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", str(bad), str(good), "-q"]) == 2


# Prepared files, without digests.


def put(name: str, values: object):
    """Another table in place of one."""

    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = values

    return change


def claim(name: str, shape: tuple[int, ...], **options):
    """A table of a size that is nowhere on disk."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, options.pop("dtype", "f4"), **options)

    return change


def root(**attrs: object):
    return lambda file: file.attrs.update(attrs)


def configured(text: str):
    """Another configuration, with its hash."""
    return lambda file: file["config"].attrs.update({"json": text, "hash": hashlib.sha256(text.encode()).hexdigest()[:16]})


def raw_text(group: str, name: str, value: bytes):
    """A text attribute that says to be UTF-8, of these bytes."""

    def change(file: h5py.File) -> None:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(value))
        kind.set_cset(h5py.h5t.CSET_UTF8)
        if name in file[group].attrs:
            del file[group].attrs[name]
        made = h5py.h5a.create(file[group].id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
        made.write(np.array(value, f"S{len(value)}"), mtype=kind)

    return change


def references(file: h5py.File) -> None:
    file.create_dataset("cycles/x", data=np.array([file["cycles"].ref], h5py.ref_dtype))


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((CYCLES, NODES), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (CYCLES, NODES))
    del file["cycles/accuracy"]
    file.create_virtual_dataset("cycles/accuracy", layout)


def bomb(size: int, inflated: int):
    """A compressed chunk that says to have so many bytes, and inflates to others."""

    def change(file: h5py.File) -> None:
        table = file.create_dataset("cycles/x", (size,), "u1", chunks=(size,), compression=1)
        table.id.write_direct_chunk((0,), zlib.compress(bytes(inflated), 9))

    return change


def all_the_same(group: str, longest: int, count: int):
    """A list of texts of any length in an attribute. The longest is there once, and all may lead to it."""
    return lambda file: file[group].attrs.create("x", ["a" * longest, *["b"] * (count - 1)], dtype=h5py.string_dtype())


def unknown_filter(file: h5py.File) -> None:
    del file["cycles/loss"]
    file.create_dataset("cycles/loss", data=tables()["loss"], compression="lzf")


def in_a_circle(file: h5py.File) -> None:
    file["cycles/again"] = file["cycles"]


PREPARED = {
    "a soft link": (put("cycles/x", h5py.SoftLink("/cycles")), "x in it is a link to elsewhere"),
    "an external link": (put("cycles/x", h5py.ExternalLink("elsewhere.h5", "/")), "/ cannot be read .x in it is a link"),
    "a circle": (in_a_circle, "it has two names, or holds itself"),
    "a virtual table": (virtual, "/cycles/accuracy cannot be read .its numbers lie in another file"),
    "an external table": (
        claim("cycles/loss", (CYCLES, NODES), external=[("/etc/passwd", 0, 96)]),
        "/cycles/loss cannot be read .its numbers lie in another file",
    ),
    "references": (references, "/cycles/x cannot be read .it holds object"),
    "lists": (claim("cycles/loss", (CYCLES, NODES), dtype=h5py.vlen_dtype(np.int32)), "/cycles/loss cannot be read .it holds object"),
    "a filter": (unknown_filter, "/cycles/loss cannot be read .its filters"),
    "a type by name": (lambda file: file.__setitem__("cycles/x", np.dtype("f4")), "/cycles/x cannot be read .it is neither"),
    "a large table": (claim("cycles/loss", (2**40, 2**20), chunks=(1, 2**10)), "/cycles/loss cannot be read .it claims"),
    "a table beyond counting": (claim("cycles/loss", (2**40, 2**40), chunks=(1, 2**10)), "/cycles/loss cannot be read .it claims"),
    "large chunks": (claim("cycles/loss", (1, 2**28), chunks=(1, 2**28)), "/cycles/loss cannot be read .it claims"),
    "a list of attributes": (
        lambda file: file.attrs.create("x", ["a"] * 2000, dtype=h5py.string_dtype()),
        "its attribute x is a list of 2000",
    ),
    "a chunk that inflates": (bomb(2**21, 2**25), "/cycles/x cannot be read .a chunk of 2097152 bytes inflates to more"),
    "long texts": (all_the_same("provenance", 2**21, 150), "/provenance cannot be read .with its attribute x it has 15[0-9] texts"),
    "long texts for a title": (root(schema=["healmpi-results"] * 3), "its attribute schema is not 'healmpi-results'"),
    "nodes of another number": (root(nodes=5), "with 6 cycles and 5 nodes"),
    "nodes beyond counting": (root(nodes=2**40), "the attribute nodes is 1099511627776, and not a whole number"),
    "nodes in words": (root(nodes="four"), "the attribute nodes is four"),
    "more ranks than nodes": (root(ranks=5), "the attribute ranks is 5"),
    "ranks of another number": (root(ranks=3), "ranks/first_node has the shape .2,. instead of 3|ranks/state"),
    "hubs": (root(hub_count=2**30), "the attribute hub_count is 1073741824"),
    "a number that is none": (root(hub_count=np.nan), "the attribute hub_count is nan"),
    "a verdict": (lambda file: file["summary"].attrs.modify("verdict", "MAYBE"), "the verdict 'MAYBE', and not VALID or INVALID"),
    "a verdict of bytes": (raw_text("summary", "verdict", b"VA\xffID"), r"the verdict 'VA\\\\udcffID'|the verdict 'VA\\\\xffID'"),
    "no JSON": (configured("{"), "Expecting property name"),
    "a list": (configured("[]"), "config/json is no object of objects"),
    "no sections": (configured('{"run": 3}'), "config/json is no object of objects"),
    "nan": (configured('{"run": {"seed": NaN}}'), "config/json holds NaN, which is no number"),
    "infinity": (configured('{"run": {"x": -Infinity}}'), "config/json holds -Infinity, which is no number"),
    "a number without bounds": (configured('{"run": {"x": 1e999}}'), "config/json holds 1e999, which is no number"),
    "a field twice": (configured('{"run": {"seed": 1, "seed": 2}}'), "config/json has the field seed twice"),
    "a section twice": (configured('{"run": {"seed": 1}, "run": {}}'), "config/json has the field run twice"),
    "a seed beyond counting": (configured('{"run": {"seed": 1' + "0" * 400 + "}}"), "config/json run.seed is 1000"),
    "a seed in words": (configured('{"run": {"seed": "one"}}'), "config/json run.seed is one"),
    "a plan": (configured('{"faults": {"plan": [3]}}'), "faults.plan is no list of objects"),
    "a cycle in words": (configured('{"faults": {"crash_cycle": "x"}}'), "config/json faults crash_cycle is x"),
    "a deep configuration": (configured('{"a": {"b": ' + "[" * 100_000 + "]" * 100_000 + "}}"), "recursion"),
    "another configuration": (
        lambda file: file["config"].attrs.modify("json", json.dumps(config(run__seed=9))),
        "is not the configuration that config/hash names",
    ),
    "texts for numbers": (put("cycles/is_hub", np.full((CYCLES, NODES), b"1")), "cycles/is_hub holds .S1"),
    "whole accuracies": (put("cycles/accuracy", np.ones((CYCLES, NODES), int)), "cycles/accuracy holds int64"),
    "more than all": (put("cycles/accuracy", np.full((CYCLES, NODES), 7.0)), "cycles/accuracy has numbers from 7.0 to 7.0"),
    "half alive": (put("cycles/alive", np.full((CYCLES, NODES), 2, np.int8)), "cycles/alive has numbers from 2 to 2"),
    "times that are none": (put("cycles/seconds", np.full((CYCLES, NODES, 6), np.nan)), "cycles/seconds has numbers from nan"),
    "other kinds": (put("cycles/messages_in", np.zeros((CYCLES, NODES, 3), int)), "cycles/messages_in has the shape .6, 4, 3. instead of"),
    "kinds twice": (put("cycles/kind", np.array([b"a"] * 5)), "cycles/kind has a name twice"),
    "kinds in numbers": (put("cycles/kind", np.arange(5)), "cycles/kind holds int64"),
    "cycles backwards": (put("cycles/cycle", np.arange(CYCLES)[::-1]), "cycles/cycle does not ascend by one"),
    "cycles far apart": (put("cycles/cycle", np.arange(CYCLES) * 300_000_000), "cycles/cycle does not ascend by one"),
    "cycles beyond counting": (put("cycles/cycle", np.arange(CYCLES) + 2**40), "cycles/cycle has numbers from 1099511627776 to"),
    "more views than cycles": (put("overlay/cycle", np.arange(CYCLES + 1)), "overlay/cycle has 7 rows, and there are 6 cycles"),
    "views of other cycles": (put("overlay/cycle", np.arange(CYCLES)), "overlay/cycle has numbers from 0 to 5, and not from 1 to 6"),
    "views backwards": (put("overlay/cycle", np.arange(CYCLES)[::-1] + 1), "overlay/cycle does not ascend"),
    "a group for a table": (lambda file: (file["cycles"].pop("alive"), file.create_group("cycles/alive")), "is damaged or lacks"),
    "views of others": (put("overlay/views", np.zeros((CYCLES, 9, 3), int)), "overlay/views has the shape"),
    "a fault of nobody": (put("faults/node", np.array([77])), "faults/node has numbers from 77 to 77"),
    "a fault before all cycles": (put("faults/cycle", np.array([0])), "faults/cycle has numbers from 0 to 0, and not from 1 to 6"),
    "a fault long before": (put("faults/cycle", np.array([-(2**31)])), "faults/cycle has numbers from -2147483648 to"),
    "a fault after all cycles": (put("faults/cycle", np.array([CYCLES + 1])), "faults/cycle has numbers from 7 to 7"),
    "faults of two lengths": (put("faults/node", np.array([1, 2])), "faults/node has the shape .2,. instead of 1"),
    "blocks that overlap": (put("ranks/first_node", np.array([0, 1])), "the blocks of nodes in ranks/first_node"),
    "a state": (put("ranks/state", np.array([0, 9], np.int8)), "ranks/state has numbers from 0 to 9"),
    "no ranks": (lambda file: file.pop("ranks"), "is damaged or lacks"),
    "classes": (put("cycles/class_accuracy", np.ones((3, 2))), "cycles/class_accuracy has the shape"),
    "models": (put("models/parameters", np.ones((9, 2))), "models/parameters has the shape"),
}


@pytest.mark.parametrize("name", PREPARED)
def test_a_prepared_file_is_refused_in_a_sentence_with_or_without_digests(tmp_path, name):
    change, message = PREPARED[name]
    path = write(tmp_path / "a file.h5")
    with h5py.File(path, "a") as file:
        change(file)
    for verify in (True, False):
        with pytest.raises(AnalysisError, match=message) as caught:
            analysis.load(path, verify=verify)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        str(caught.value).encode()


def test_a_long_compressed_chunk_that_is_what_it_says_is_read(tmp_path):
    """Models were compressed as a whole before schema 1.2."""
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        models = np.random.default_rng(1).normal(size=(NODES, 2**19)).astype(np.float32)
        file.create_dataset("models/parameters", data=models, chunks=(1, 2**19), compression=1, shuffle=True, fletcher32=True)
        file.create_dataset("models/more", data=np.zeros((NODES, 2**19), np.float32), chunks=(1, 2**19), compression=1)
    assert len(analysis.load(path).cycle) == CYCLES


def test_texts_that_lie_inside_each_other_are_refused_at_once(tmp_path):
    """Each object of a heap is the start of another one, up to the same end: going through all of them would never end."""
    path, count = write(tmp_path / "a.h5"), 50_000
    start, bytes_of_object = b"GCOL\1\0\0\0", 32
    pieces = [start + struct.pack("<Q", 16 + count * bytes_of_object)]
    for left in range(count, 0, -1):
        pieces.append(struct.pack("<HHIQ", 1, 0, 0, 16) + start + struct.pack("<Q", left * bytes_of_object - 16))
    path.write_bytes(path.read_bytes() + b"".join(pieces))
    begun = time.monotonic()
    with pytest.raises(AnalysisError, match="lie inside each other, the last at byte") as caught:
        read_record(path)
    assert time.monotonic() - begun < 10 and str(path) in str(caught.value)


def test_the_longest_text_of_a_file_is_known_before_hdf5_reads_it(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs.create("x", "a" * 12345, dtype=h5py.string_dtype())
    assert 12345 <= check_heaps(path) < 12345 + 16
    (tmp_path / "b").write_bytes(b"")
    assert check_heaps(tmp_path / "b") == 0
    # HDF5 does not look at the bytes after the version.
    path.write_bytes(path.read_bytes().replace(b"GCOL\1\0\0\0", b"GCOL\1\1\1\1"))
    assert check_heaps(path) >= 12345
    data = bytearray(path.read_bytes())
    data[14 if data[8] < 2 else 10] = 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its offsets and lengths do not have 8 bytes"):
        check_heaps(path)


def test_a_prepared_file_with_digests_of_its_own_is_refused_the_same(tmp_path):
    for name in ("another configuration", "a verdict", "more ranks than nodes", "cycles backwards"):
        path = write(tmp_path / "a.h5")
        with h5py.File(path, "a") as file:
            PREPARED[name][0](file)
            theirs.seal(file)
        with pytest.raises(AnalysisError, match=PREPARED[name][1]):
            read_record(path)


def test_texts_that_are_no_utf8_are_shown_with_escapes(tmp_path, capsys):
    path = write(tmp_path / "a.h5", scenario="no faults", facts={"started": "2026"})
    with h5py.File(path, "a") as file:
        raw_text("/", "title", b"he\xe9al")(file)
        raw_text("provenance", "command", b"\x1b[31m\xff")(file)
        file["ranks/host"][:] = np.array([b"\xff\xfe", b"b"])
    assert r"\xe9" in read_record(path).algorithm or r"\udce9" in read_record(path).algorithm
    assert main([str(path), "-o", str(tmp_path / "out"), "-q", "--no-figures"]) == 0, capsys.readouterr().err
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "\x1b" not in page and r"\xff" in page


def test_dollars_and_ends_of_lines_in_texts_do_no_harm(tmp_path, capsys):
    """What matplotlib takes for formulas, and what a terminal obeys."""
    evil = "$\\frac{$ \\$x$ a^b_c\n\x1b[2Jhealmpi-report: all is well\u202e\u2028"
    path = write(
        tmp_path / "a.h5", scenario=f"faults {evil}", title=evil, verdict="INVALID", kinds=(f"$\\frac{{${evil}", "b", "model", "c", "d")
    )
    write(tmp_path / "b.h5", config(run__seed=2, rule__fanout=2), scenario="no $ faults $", title="$x^{$")
    with h5py.File(path, "a") as file:
        file["summary"].attrs["reasons"] = np.array([evil], h5py.string_dtype())
        file["ranks/host"][:] = np.array([b"$\\frac{$", b"\n\x1b"])
    out = tmp_path / "out"
    assert main([str(tmp_path), "-o", str(out), "-q", "--include-invalid"]) == 0, capsys.readouterr().err
    assert len(list((out / "figures").glob("*.png"))) > 10
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "\x1b" not in page and "\u202e" not in page and r"$\frac{$ \$x$ a^b_c\n\x1b[2Jhealmpi-report" in page
    assert main(["compare", str(path), str(path), "-q", "--include-invalid"]) in (0, 3)
    told = capsys.readouterr()
    assert not {"\x1b", "\u202e", "\u2028"} & set(told.out + told.err)
    assert not any(line.startswith("healmpi-report: all") for line in (told.out + told.err).splitlines())


def test_ticks_of_logarithmic_axes_are_powers_without_formulas():
    with style.house_style():
        figure, (axes,) = style.stacked(1, 2.0)
        axes.plot([0.002, 3000], [1, 4])
        style.logarithmic(axes, x=True, y=True)
        figure.draw_without_rendering()
    named = {label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in (*axis.get_ticklabels(), *axis.get_minorticklabels())}
    assert {"10⁻²", "10³", "2×10⁰"} <= named and not any("$" in name for name in named)


def test_more_cycles_than_fit_are_not_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5")
    monkeypatch.setattr(checks, "_BYTES_OF_CYCLE", 2**40)
    with pytest.raises(AnalysisError, match="what is kept of 6 cycles takes 6597069766656 bytes of memory, more than there is"):
        read_record(path)


def test_a_size_that_a_file_asks_for_is_not_taken(tmp_path):
    """Without any cycle nothing on disk speaks against the sizes; the memory of the machine does."""
    with pytest.raises(ValueError, match=r"it takes \d+ bytes of memory, more than there is"):
        checks.fits_memory(2**60, "it")
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        for name in [*contract.REQUIRED, "accuracy", "cycle"]:
            kind, (_, *lengths) = file[f"cycles/{name}"].dtype, file[f"cycles/{name}"].shape
            wide = [2**40 if length == NODES else length for length in lengths]
            claim(f"cycles/{name}", (0, *wide), chunks=(1, *[1] * len(wide)), maxshape=(None, *wide), dtype=kind)(file)
        file.attrs["nodes"] = 2**40
    with pytest.raises(AnalysisError, match="the attribute nodes is"):
        read_record(path)


# Parts.


def part(**attrs: object):
    return lambda file: file.attrs.update(attrs)


def counts(*values: int):
    return lambda file: file["committed"].__setitem__(slice(None), values)


def huge_size(file: h5py.File) -> None:
    file["committed"][:] = [6, 6, 6, 12, 1]
    file["groups/size"], file["groups/members"] = np.array([2, 2, 2, 2, 2, 2 + 2**27], np.int32), np.zeros(12, np.int32)


def cell(name: str, value: object):
    """Another number in a row that counts."""

    def change(file: h5py.File) -> None:
        file[name][1, 0] = value

    return change


def fact(name: str, value: object):
    return lambda file: file.require_group("facts").attrs.update({name: value})


PARTS = {
    "negative counts": (counts(-1, 6, 0, 0, 1), "committed says -1 rows of cycles/"),
    "counts beyond the tables": (counts(13, 6, 0, 0, 1), "committed says 13 rows of cycles/cycle, which has 12"),
    "faults beyond the tables": (counts(6, 6, 0, 0, 3), "committed says 3 rows of faults/cycle, which has 2"),
    "few counts": (put("committed", np.arange(3)), "is damaged or lacks"),
    "a size": (huge_size, "groups/size has numbers from 2 to 134217730"),
    "many nodes": (part(total_nodes=2**20), "it hosts 2 nodes of 1048576 on 2 ranks"),
    "nodes beyond counting": (part(total_nodes=2**40), "the attribute total_nodes is"),
    "many ranks": (part(ranks=2**31), "the attribute ranks is 2147483648"),
    "many ranks of many nodes": (part(ranks=2**20, total_nodes=2**20), "it hosts 2 nodes of 1048576"),
    "many hubs": (part(hub_count=2**30), "the attribute hub_count is 1073741824"),
    "other nodes": (part(node_count=3), "cycles/seconds has the shape"),
    "no nodes": (part(node_count=0), "the attribute node_count is 0"),
    "a place beyond the nodes": (part(first_node=3), "the attribute first_node is 3"),
    "a rank beyond the ranks": (part(rank=7), "the attribute rank is 7"),
    "no hubs": (lambda file: file["cycles"].pop("is_hub"), "there is no table cycles/is_hub"),
    "no configuration": (lambda file: file.pop("config"), "is damaged or lacks"),
    "another configuration": (lambda file: file["config"].attrs.modify("json", "{}"), "is not the configuration"),
    "no cycles": (lambda file: file.pop("cycles"), "is damaged or lacks"),
    "a virtual table": (lambda file: virtual_part(file), "its numbers lie in another file"),
    "half alive": (cell("cycles/alive", 7), "cycles/alive has numbers from 0 to 7|cycles/alive has numbers from 1 to 7"),
    "times that are none": (cell("cycles/seconds", np.nan), "cycles/seconds has numbers from nan"),
    "an accuracy without bounds": (cell("cycles/accuracy", np.inf), "cycles/accuracy has numbers from .* to inf"),
    "messages below none": (cell("cycles/messages_in", -1), "cycles/messages_in has numbers from -1"),
    "a time in words": (fact("startup_s", "soon"), "facts/startup_s is 'soon'"),
    "a host in numbers": (fact("host", 3), "facts/host is '3'"),
    "several times": (fact("wall_s", [1.0, 2.0]), "facts/wall_s is"),
    "a fault before all cycles": (put("faults/cycle", np.array([0, 0])), "faults/cycle has numbers from 0 to 0, and not from 1 to 6"),
    "a fault after all cycles": (put("faults/cycle", np.array([2**31 - 1, 0])), "faults/cycle has numbers from 2147483647"),
    "cycles far apart": (put("cycles/cycle", np.arange(2 * CYCLES) * 10**8), "cycles/cycle does not ascend by one"),
    "more views than cycles": (counts(6, 7, 0, 0, 1), "overlay/cycle has 7 rows, and there are 6 cycles"),
    "a link": (put("cycles/x", h5py.ExternalLink("elsewhere.h5", "/")), "x in it is a link to elsewhere"),
}


def virtual_part(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2 * CYCLES, 2), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (2 * CYCLES, 2))
    del file["cycles/accuracy"]
    file.create_virtual_dataset("cycles/accuracy", layout)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_cannot_be_believed_is_unreadable_and_the_others_are_read(tmp_path, name):
    folder = write_parts(tmp_path / "a.h5")
    change, message = PARTS[name]
    with h5py.File(folder / "rank-00000.h5", "a") as file:
        change(file)
    record = read_record(folder)
    assert record.rank_table["state"].tolist() == ["unreadable", "unfinished"] and record.series["live"].tolist() == [2] * 4
    (reason,) = record.facts.reasons[1:]
    assert re.search(message, reason) and "rank-00000.h5" in reason
    shutil.copy(folder / "rank-00000.h5", folder / "rank-00001.h5")
    with pytest.raises(AnalysisError, match="has no part that can be read"):
        read_record(folder)


def test_a_text_that_is_said_to_be_a_list_is_not_read(tmp_path):
    """One bit makes a list of a text of any length, and HDF5 crashes as it reads the one for the other."""
    folder = write_parts(tmp_path / "a.h5")
    path = folder / "rank-00000.h5"
    data = path.read_bytes()
    for name in (b"schema\0", b"schema_version\0", b"title\0"):
        places = [match.start() + data[match.start() :].find(b"\x19\x01") for match in re.finditer(re.escape(name), data)]
        for place in places:
            path.write_bytes(data[: place + 1] + b"\0" + data[place + 2 :])
            assert read_record(folder).rank_table["state"].tolist() == ["unreadable", "unfinished"]
        assert places or name == b"title\0"


def test_a_part_whose_overlay_is_gone_is_read_without_views(tmp_path):
    folder = write_parts(tmp_path / "a.h5")
    with h5py.File(folder / "rank-00000.h5", "a") as file:
        del file["overlay"]
    with analysis.open_source(folder) as source:
        assert len(source.view_cycles()) == 0 and len(source.cycles) == 4


def test_faults_of_cycles_that_not_all_parts_have_do_not_count(tmp_path):
    """A killed run leaves them: a rank that wrote later than the others has faults of later cycles."""
    folder = write_parts(tmp_path / "a.h5")
    with h5py.File(folder / "rank-00000.h5", "a") as file:
        file["committed"][4] = 2
        file["faults/cycle"][:] = [CRASH, CYCLES]
    record = read_record(folder)
    assert record.cycles.tolist() == [1, 2, 3, 4] and record.faults["cycle"].tolist() == [CRASH]
    with h5py.File(folder / "rank-00001.h5", "a") as file:
        file["committed"][:2] = 0
    record = read_record(folder)
    assert not len(record.cycles) and recoveries(record)[0].episode.first == CRASH


def test_parts_that_begin_with_other_cycles_are_of_different_runs(tmp_path):
    folder = write_parts(tmp_path / "a.h5")
    with h5py.File(folder / "rank-00001.h5", "a") as file:
        file["cycles/cycle"][:] += 1
        file["overlay/cycle"][:] += 1
    with pytest.raises(AnalysisError, match=r"rank-00001\.h5 begins with cycle 2, and .*rank-00000\.h5 with cycle 1"):
        read_record(folder)


def test_parts_of_one_rank_or_of_the_same_nodes_are_refused(tmp_path):
    folder = write_parts(tmp_path / "a.h5")
    with h5py.File(folder / "rank-00001.h5", "a") as file:
        file.attrs["first_node"] = 1
    with pytest.raises(AnalysisError, match="host the same nodes"):
        read_record(folder)


def test_a_part_with_digests_counts_up_to_the_flush_that_is_damaged(chained):
    whole = read_record(chained)
    assert whole.rank_table["state"].tolist() == ["finished"] * 2 and whole.facts.reasons == (
        "parts of 2 of 2 ranks, 2 finished; not merged and not judged",
    )
    with h5py.File(chained / "rank-00001.h5", "a") as file:
        file["cycles/bytes_out"][5, 1, 0] ^= 1
    cut = read_record(chained)
    assert cut.cycles.tolist() == [1, 2, 3, 4] and cut.series.equals(whole.series.iloc[:4])
    assert cut.rank_table["state"].tolist() == ["finished", "unfinished"]
    assert any("rank-00001.h5 is damaged after cycle 4: counted up to there" in reason for reason in cut.facts.reasons)
    with hdf5.verification(False):
        assert len(read_record(chained).cycles) == damage.CYCLES


def test_a_part_of_which_the_start_does_not_hold_is_unreadable(chained):
    with h5py.File(chained / "rank-00000.h5", "a") as file:
        file["provenance"].attrs["healmpi"] = "1"
    record = read_record(chained)
    assert record.rank_table["state"].tolist() == ["unreadable", "finished"]
    assert any("do not have the SHA-256 that was written with them" in reason for reason in record.facts.reasons)


def test_a_part_of_which_the_end_does_not_hold_is_unfinished_and_its_facts_are_not_believed(chained):
    with h5py.File(chained / "rank-00000.h5", "a") as file:
        file["facts"].attrs["wall_s"] = 9.0
    record = read_record(chained)
    assert record.rank_table["state"].tolist() == ["unfinished", "finished"] and len(record.cycles) == damage.CYCLES
    assert np.isnan(record.rank_table["wall_s"][0]) and record.rank_table["wall_s"][1] == 2.0


def test_a_comparison_names_a_part_that_is_left_out(tmp_path, chained):
    (chained / "rank-00000.h5").write_bytes(b"")
    (broken, *_) = compare(write(tmp_path / "a.h5"), chained).broken
    assert "is UNJUDGED" in broken and "rank-00000.h5 is empty" in broken


def test_the_hash_of_a_configuration_is_that_of_its_text():
    settings = config()
    assert checks.configuration(json.dumps(settings), hash_of(settings)) == settings
    with pytest.raises(ValueError, match="is not the configuration"):
        checks.configuration(json.dumps(settings), "")
