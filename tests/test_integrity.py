"""A finished file that is not as it was written is noticed, whatever was done to it, and nothing in it is believed unseen."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from digests import unseal
from simulate import execute

from healmpi.config import hash_of
from healmpi.launch import cli
from healmpi.results import info, integrity, structure, tables, verify
from healmpi.results.files import open_results
from healmpi.results.heaps import HEADER, OBJECT, START
from healmpi.results.schema import SCHEMA_VERSION, TABLES, ResultsError

FORMAT = (Path(__file__).parents[1] / "docs" / "results-format.md").read_text(encoding="utf-8")
SMALL = (
    "data.dataset=synthetic", "data.samples=60", "run.nodes=6", "run.cycles=4", "model.name=logistic", "results.save_models=true",
    "faults.plan=[{cycle=3, nodes=[1]}]",
)  # fmt: skip
FLIPS, SEED = 64, 11


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The results file of a small run, not to be changed."""
    return execute(SMALL, tmp_path_factory.mktemp("made") / "out.h5")


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copy(made, tmp_path / "copy.h5"))


def read(path: Path) -> dict[str, object]:
    """All that a reader can see of a file, in plain values."""
    with h5py.File(path) as file:
        found: dict[str, object] = {}
        everything = dict(integrity.objects(file))
        names = integrity._names(everything)
        for name, one in everything.items():
            found[name] = (one.dtype.str, one.shape, np.asarray(one[()]).tolist().__repr__()) if isinstance(one, h5py.Dataset) else "group"
            found |= {f"{name}@{key}": integrity._value(one, names, one.attrs[key]) for key in one.attrs}
    return found


def old(path: Path) -> Path:
    """The file as version 1.4 would have made it: without digests."""
    with h5py.File(path, "r+") as file:
        unseal(file)
    return path


def refusal(path: Path) -> str:
    """The one sentence with which the file is refused."""
    with pytest.raises(ResultsError) as caught:
        info.describe(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and text.isprintable(), text
    return text


# Damage.


def noticed(path: Path, data: bytes, original: dict[str, object]) -> bool:
    """Whether a reader refuses these bytes; if not, they must say the same as before."""
    path.write_bytes(data)
    try:
        open_results(path).close()
    except ResultsError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return True
    assert read(path) == original, "damage that was not noticed"
    return False


def test_a_flipped_bit_is_noticed_or_lies_where_nothing_is_read(made, tmp_path):
    data, original, draw = made.read_bytes(), read(made), random.Random(SEED)
    places = [*range(0, 64, 4), *(draw.randrange(len(data)) for _ in range(FLIPS))]
    unnoticed = []
    assert not noticed(tmp_path / "flipped.h5", data, original)
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << draw.randrange(8)
        if not noticed(tmp_path / "flipped.h5", bytes(changed), original):
            unnoticed.append(place)
    print(f"{len(places)} bits of a file of {len(data)} bytes, {len(unnoticed)} where nothing is read")
    assert len(unnoticed) < len(places) / 10


def blocks_of_damage(data: bytes, draw: random.Random) -> dict[str, bytes]:
    size, block = len(data), draw.choice([16, 512, 4096])
    first, second = sorted(draw.sample(range(0, size - block, 8), 2))
    one, other = data[first : first + block], data[second : second + block]
    rest = data[first + block :]
    return {
        "cut off": data[:first],
        "zeroed": data[:first] + bytes(block) + rest,
        "random": data[:first] + draw.randbytes(block) + rest,
        "inserted": data[:first] + draw.randbytes(block) + data[first:],
        "lost": data[:first] + rest,
        "copied": data[:first] + other + rest,
        "swapped": data[:first] + other + data[first + block : second] + one + data[second + block :] if second >= first + block else b"",
    }


def test_lost_zeroed_random_swapped_and_inserted_blocks_are_noticed(made, tmp_path):
    data, original, draw = made.read_bytes(), read(made), random.Random(SEED)
    for _ in range(12):
        for how, changed in blocks_of_damage(data, draw).items():
            if changed != data:
                seen = noticed(tmp_path / "changed.h5", changed, original)
                assert seen or how not in ("cut off", "lost"), how
    for cut in (0, 1, 7, 8, 47, 48, len(data) // 2, len(data) - 1):
        assert noticed(tmp_path / "changed.h5", data[:cut], original), cut


@pytest.mark.parametrize("how", ["flipped", "other bytes"])
def test_damage_to_a_file_without_digests_never_ends_in_a_traceback(made, tmp_path, how):
    data, draw, path = old(Path(shutil.copy(made, tmp_path / "old.h5"))).read_bytes(), random.Random(SEED), tmp_path / "changed.h5"
    for _ in range(30):
        changed, place = bytearray(data), draw.randrange(len(data) - 64)
        if how == "flipped":
            changed[place] ^= 1 << draw.randrange(8)
        else:
            changed[place : place + 64] = draw.randbytes(64)
        path.write_bytes(changed)
        for looks in (True, False):
            with contextlib.suppress(ResultsError):
                info.describe(path, verify=looks)


def test_each_table_is_named_when_one_of_its_numbers_is_another(made, tmp_path):
    with h5py.File(made) as file:
        names = [name for name, one in integrity.objects(file) if isinstance(one, h5py.Dataset) and one.size]
    assert len(names) > 60
    for name in names[::3]:
        path = Path(shutil.copy(made, tmp_path / "copy.h5"))
        with h5py.File(path, "r+") as file:
            values = np.atleast_1d(file[name][()])
            if integrity.is_text(file[name]):
                values = values.astype("S99")
            raw = bytearray(values.tobytes())
            raw[0] ^= 1
            file[name][...] = np.frombuffer(bytes(raw), values.dtype).reshape(file[name].shape)
        assert f"is damaged: {name} does not have the SHA-256" in refusal(path)


@pytest.mark.parametrize("table", ["/", "config", "summary", "provenance", "cycles/bytes_out", "summary/wall_s"])
def test_each_attribute_is_covered(copy, table):
    with h5py.File(copy, "r+") as file:
        names = set(file[table].attrs) - {integrity.DIGEST, integrity.ROOT_DIGEST, "schema", "schema_version"} - integrity.DIMENSIONS
        for name in sorted(names):
            before = file[table].attrs[name]
            file[table].attrs[name] = "another"
            with pytest.raises(integrity.Damage, match="is damaged: / and what names"):
                integrity.check(file, copy, 0)
            file[table].attrs[name] = before
        file[table].attrs["added"] = 1
        with pytest.raises(integrity.Damage):
            integrity.check(file, copy, 0)


def test_names_are_covered(copy):
    with h5py.File(copy, "r+") as file:
        file.move("summary/wall_s", "summary/wall_z")
    assert "is damaged: / and what names" in refusal(copy)
    with h5py.File(copy, "r+") as file:
        file.move("summary/wall_z", "summary/wall_s")
        file.create_group("another")
    assert "is damaged: / and what names" in refusal(copy)


# How the file is made.


def test_every_table_and_all_that_describes_it_has_checksums(made):
    with h5py.File(made) as file:
        # 8 bytes of signature, then the version: since 3 the superblock and object headers have checksums, and so have all indices.
        assert made.read_bytes()[8] == 3
        for name, one in integrity.objects(file):
            if isinstance(one, h5py.Dataset):
                assert one.fletcher32 or one.shape == () or integrity.is_text(one), name
                assert len(one.attrs[integrity.DIGEST]) == 64
    assert b"TREE" not in made.read_bytes() and b"SNOD" not in made.read_bytes(), "structures of before HDF5 1.8 have no checksums"


def test_pieces_of_a_table_give_the_digest_of_the_whole(made, monkeypatch):
    with h5py.File(made) as file:
        whole = [integrity.digest(one) for _, one in integrity.objects(file) if isinstance(one, h5py.Dataset)]
        for size in (1, 100, 1000):
            monkeypatch.setattr(integrity, "BLOCK_BYTES", size)
            assert [integrity.digest(one) for _, one in integrity.objects(file) if isinstance(one, h5py.Dataset)] == whole


def test_the_program_in_the_document_finds_the_digests(made, copy, monkeypatch):
    (program,) = re.findall(r"```python\n(import hashlib\n.*?)```", FORMAT, re.DOTALL)
    assert len([line for line in program.splitlines() if line]) <= 36 and max(map(len, program.splitlines())) <= 80
    monkeypatch.chdir(made.parent)
    exec(program, {})
    with h5py.File(copy, "r+") as file:
        file["cycles/alive"][0, 0] ^= 1
    monkeypatch.chdir(copy.parent)
    copy.rename("out.h5")
    with pytest.raises(AssertionError):
        exec(program, {})


# Files that are not damaged, but made to mislead.


def replace(file: h5py.File, name: str, make: Callable[[h5py.Group, str], object]) -> None:
    group, _, last = name.rpartition("/")
    del file[name]
    make(file[group or "/"], last)


def low_level(group: h5py.Group, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], *filters: int) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(chunk)
    for number in filters:
        creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.NATIVE_INT64, h5py.h5s.create_simple(shape), creation)


def virtual(group: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout((4,), "i4")
    layout[:] = h5py.VirtualSource("another.h5", "x", (4,))
    group.create_virtual_dataset(name, layout)


def deep(file: h5py.File) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group("a")


def many(file: h5py.File) -> None:
    for number in range(10_100):
        file.create_group(f"g/{number}")


def not_utf8(file: h5py.File, where: str, name: str) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(h5py.h5t.VARIABLE)
    kind.set_cset(h5py.h5t.CSET_UTF8)
    if name in file[where].attrs:
        del file[where].attrs[name]
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    attribute = h5py.h5a.create(file[where].id, name.encode(), kind, space)
    attribute.write(np.array(b"\xff\xfe", dtype=h5py.string_dtype()))


def listed(group: h5py.Group, name: str = "extra") -> None:
    values = np.empty(1, object)
    values[0] = np.arange(3, dtype=np.int32)
    group.attrs.create(name, values, dtype=VLEN)


def configured(file: h5py.File, text: str) -> None:
    file["config"].attrs.update({"json": text, "hash": hash_of(text)})


VLEN = h5py.vlen_dtype(np.int32)
REFERENCES = h5py.ref_dtype

PREPARED: dict[str, Callable[[h5py.File], object]] = {
    "an external link": lambda f: replace(f, "cycles/ticks", lambda g, n: g.__setitem__(n, h5py.ExternalLink("b.h5", "/x"))),
    "a soft link": lambda f: replace(f, "cycles/ticks", lambda g, n: g.__setitem__(n, h5py.SoftLink("/cycles/alive"))),
    "a dangling link": lambda f: replace(f, "cycles/ticks", lambda g, n: g.__setitem__(n, h5py.SoftLink("/nowhere"))),
    "a second name": lambda f: f.__setitem__("cycles/again", f["cycles/alive"]),
    "a group in itself": lambda f: f.__setitem__("cycles/self", f["cycles"]),
    "a virtual dataset": lambda f: replace(f, "cycles/ticks", virtual),
    "numbers in another file": lambda f: replace(
        f, "cycles/ticks", lambda g, n: g.create_dataset(n, (4,), "i4", external=[("other.bin", 0, 16)])
    ),
    "references": lambda f: f["cycles"].create_dataset("extra", data=np.array([f.ref], REFERENCES), dtype=REFERENCES),
    "lists": lambda f: f["cycles"].create_dataset("extra", (3,), VLEN),
    "a long text": lambda f: f["faults/detail"].__setitem__(0, "x" * 5000),
    "texts in chunks": lambda f: replace(f, "faults/detail", lambda g, n: g.create_dataset(n, (1,), h5py.string_dtype(), chunks=(1,))),
    "a compound": lambda f: f["cycles"].create_dataset("extra", (3,), np.dtype([("a", "i4"), ("b", "f8")])),
    "opaque bytes": lambda f: f["cycles"].create_dataset("extra", (3,), np.dtype("V9")),
    "nothing at all": lambda f: f["cycles"].create_dataset("extra", data=h5py.Empty("i4")),
    "a named type": lambda f: f["cycles"].__setitem__("extra", np.dtype("i4")),
    "an unknown filter": lambda f: low_level(f["cycles"], "extra", (4,), (4,), 32_100),
    "a filter twice": lambda f: low_level(f["cycles"], "extra", (4,), (4,), 1, 1),
    "a huge shape": lambda f: f["cycles"].create_dataset("extra", (2**40, 2**20), "i8", chunks=(8, 8)),
    "a huge shape of its own": lambda f: replace(
        f, "cycles/ticks", lambda g, n: g.create_dataset(n, (2**50,), "i4", chunks=(1024,), compression=1)
    ),
    "a huge chunk": lambda f: low_level(f["cycles"], "extra", (2**29,), (2**28,), 1),
    "a huge attribute": lambda f: f["cycles"].attrs.create("extra", np.zeros(8_400_000)),
    "a long list of texts": lambda f: f["summary"].attrs.create("extra", ["x"] * 1001, dtype=h5py.string_dtype()),
    "an attribute of references": lambda f: f["cycles"].attrs.create("extra", f.ref, dtype=REFERENCES),
    "dimensions that are numbers": lambda f: listed(f["summary"], "DIMENSION_LIST"),
    "dimensions that are no pairs": lambda f: f["summary"].attrs.create("REFERENCE_LIST", np.zeros(2, [("a", "f8"), ("b", "i4")])),
    "an attribute of lists": lambda f: listed(f["cycles"]),
    "an empty attribute": lambda f: f["cycles"].attrs.create("title", h5py.Empty("S1")),
    "deep groups": deep,
    "many groups": many,
    "a name that moves the cursor": lambda f: f["cycles"].__setitem__("a\x1b[2J\nb", h5py.SoftLink("/x")),
    # What is plain, and not what the schema says.
    "no nodes": lambda f: f.attrs.__setitem__("nodes", 0),
    "negative ranks": lambda f: f.attrs.__setitem__("ranks", -1),
    "other nodes": lambda f: f.attrs.__setitem__("nodes", 7),
    "more ranks than nodes": lambda f: f.attrs.__setitem__("ranks", 7),
    "half a node": lambda f: f.attrs.__setitem__("nodes", 6.5),
    "nodes as a text": lambda f: f.attrs.__setitem__("nodes", "6"),
    "nodes as a list": lambda f: f.attrs.__setitem__("nodes", [6, 6]),
    "another width of views": lambda f: f.attrs.__setitem__("view_size", 2**30),
    "maybe complete": lambda f: f.attrs.__setitem__("complete", 2),
    "a title that is a number": lambda f: f.attrs.__setitem__("title", 7),
    "a title that is not UTF-8": lambda f: not_utf8(f, "/", "title"),
    "a host that is not UTF-8": lambda f: not_utf8(f, "provenance", "command"),
    "no verdict": lambda f: f["summary"].attrs.__delitem__("verdict"),
    "the verdict MAYBE": lambda f: f["summary"].attrs.__setitem__("verdict", "MAYBE"),
    "VALID for a reason": lambda f: f["summary"].attrs.__setitem__("reasons", np.array(["x"], h5py.string_dtype())),
    "INVALID for none": lambda f: f["summary"].attrs.__setitem__("verdict", "INVALID"),
    "reasons that are numbers": lambda f: f["summary"].attrs.__setitem__("reasons", [1, 2]),
    "one reason and no list": lambda f: f["summary"].attrs.__setitem__("reasons", "x"),
    "another configuration": lambda f: f["config"].attrs.__setitem__("json", f["config"].attrs["json"].replace("6", "7", 1)),
    "another hash": lambda f: f["config"].attrs.__setitem__("hash", "0" * 16),
    "a configuration that is no JSON": lambda f: configured(f, "{"),
    "a configuration that is a list": lambda f: configured(f, "[1]"),
    "a section that is a number": lambda f: configured(f, '{"run": 3}'),
    "a configuration with a number that is none": lambda f: configured(f, '{"run": {"seed": NaN}}'),
    "a configuration of many brackets": lambda f: configured(f, "[" * 100_000),
    "no configuration": lambda f: f.__delitem__("config"),
    "no cycles": lambda f: f.__delitem__("cycles"),
    "no table of who lives": lambda f: f.__delitem__("cycles/alive"),
    "a table that is a group": lambda f: replace(f, "cycles/alive", lambda g, n: g.create_group(n)),
    "a group that is a table": lambda f: replace(f, "faults", lambda g, n: g.create_dataset(n, data=1)),
    "another type": lambda f: replace(f, "cycles/ticks", lambda g, n: g.create_dataset(n, data=np.zeros(4))),
    "another length": lambda f: replace(f, "cycles/ticks", lambda g, n: g.create_dataset(n, data=np.zeros(5, "i4"))),
    "another dimension": lambda f: replace(f, "cycles/ticks", lambda g, n: g.create_dataset(n, data=np.zeros((4, 1), "i4"))),
    "a fact of too many ranks": lambda f: f["ranks"].create_dataset("extra", data=np.zeros(3)),
    "a figure without a unit": lambda f: f["summary/wall_s"].attrs.__delitem__("unit"),
}  # fmt: skip


# What is not plain is refused before it is asked whether there are digests.
PLAIN = list(PREPARED)[list(PREPARED).index("no nodes") :]


@pytest.mark.parametrize(("what", "version"), [*((what, "sealed") for what in PREPARED), *((what, "old") for what in PLAIN)])
def test_a_prepared_file_is_refused_in_a_sentence(copy, capsys, what, version):
    if version == "old":
        old(copy)
    with h5py.File(copy, "r+") as file:
        PREPARED[what](file)
        if version == "sealed" and not what.startswith("a huge"):
            # Whoever prepares a file can seal it, too.
            with contextlib.suppress(*integrity.FAULTS):
                integrity.seal(file)
    with pytest.raises(ResultsError):
        info.describe(copy, verify=False)
    assert cli.main(["verify", str(copy)]) == 3
    told = capsys.readouterr()
    (line,) = told.out.splitlines()
    assert line.startswith(f"{copy} is damaged: ") and line.isprintable() and told.err == ""


def bomb(file: h5py.File) -> None:
    """A chunk that becomes a thousand times its bytes."""
    table = file["provenance"].create_dataset("bomb", (4 * 2**20,), "i4", chunks=(4 * 2**20,), compression=1)
    packer = zlib.compressobj(9)
    table.id.write_direct_chunk((0,), b"".join(packer.compress(bytes(2**24)) for _ in range(8)) + packer.flush())


def many_of_the_longest(file: h5py.File) -> None:
    file["provenance"].attrs["x"] = np.array(["A" * 2**20] + ["b"] * 400, h5py.string_dtype())


def compact_texts(file: h5py.File) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    kind = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
    h5py.h5d.create(file["provenance"].id, b"texts", kind, h5py.h5s.create_simple((4,)), creation)


@pytest.mark.parametrize("prepare", [bomb, many_of_the_longest, compact_texts])
def test_a_file_that_would_take_memory_by_the_gigabyte_is_refused_before_it_does(copy, prepare):
    with h5py.File(copy, "r+") as file:
        prepare(file)
    with pytest.raises(ResultsError, match=r"is damaged: /provenance"):
        info.describe(copy, verify=False)


def test_heaps_that_lie_in_each_other_are_walked_through_in_no_time(copy):
    """Each of 200 000 texts is itself the beginning of a heap that goes to the end: walking from each of them would take hours."""
    count = 200_000
    length = HEADER.size + count * (OBJECT.size + HEADER.size)
    places = range(HEADER.size + OBJECT.size, length, OBJECT.size + HEADER.size)
    texts = b"".join(OBJECT.pack(1, 0, 0, HEADER.size) + HEADER.pack(START, length - place) for place in places)
    with copy.open("ab") as file:
        file.write(HEADER.pack(START, length) + texts)
    with pytest.raises(ResultsError, match="global heap"):
        info.describe(copy)


@pytest.mark.parametrize("act", [lambda path: info.describe(path), lambda path: list(verify.look(path)), lambda path: info.identity(path)])
def test_a_pipe_is_not_waited_for(tmp_path, act):
    path = tmp_path / "a.h5"
    os.mkfifo(path)
    try:
        (found,) = act(path)
        assert found == (False, f"{path} is no file")
    except ResultsError as error:
        assert str(error) == f"{path} is no file"


def test_a_large_file_of_something_else_is_not_read_through(tmp_path):
    with (tmp_path / "a.h5").open("wb") as file:
        file.truncate(2**40)
    assert [one.line for one in verify.look(tmp_path / "a.h5")] == [f"{tmp_path / 'a.h5'} is not an HDF5 file"]


def test_what_is_shown_moves_no_cursor_and_has_an_end(copy, capsys):
    with h5py.File(copy, "r+") as file:
        file.attrs["title"] = "\x1b[31mred\rgone"
        table = json.loads(file["config"].attrs["json"])
        configured(file, json.dumps(table | {"x": {"y": [[]] * 10_000}}))
        integrity.seal(file)
    assert cli.main(["info", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert "?[31mred?gone" in shown and "characters)" in shown and len(shown) < 30_000
    moved = copy.rename(copy.with_name("a\x1b[2J.h5"))
    assert cli.main(["verify", str(moved)]) == 0
    assert "\x1b" not in capsys.readouterr().out


RANGES: dict[str, tuple[str, object]] = {
    "cycles/alive": ("numbers that are not from 0 to 1", 2), "cycles/accuracy": ("numbers that are not from 0.0 to 1.0", 1.5),
    "cycles/cycle": ("does not ascend", 1), "overlay/views": ("numbers that are not from -1 to 6", 7),
    "groups/outcome": ("numbers that are not from 0 to 4", 5), "groups/size": ("more than", 6), "ranks/state": ("not from 0 to 3", 9),
    "ranks/first_node": ("a block of nodes", 1), "partition/node_offsets": ("does not ascend from 0", -1), "faults/node": ("-1 to 6", 99),
}  # fmt: skip


@pytest.mark.parametrize("table", RANGES)
def test_numbers_of_a_file_without_digests_are_looked_at(copy, table):
    why, value = RANGES[table]
    with h5py.File(old(copy), "r+") as file:
        file[table][...] = value
    text = refusal(copy)
    assert f"is damaged: /{table} " in text and why in text
    with contextlib.suppress(ResultsError):
        info.describe(copy, verify=False)


# What is good.


def test_a_file_of_an_older_version_says_the_same_and_has_no_digests(made, copy, capsys):
    old(copy)
    assert info.describe(copy) == info.describe(made) == info.describe(copy, verify=False)
    assert info.conclusion(copy) == info.conclusion(made) and info.identity(copy) == info.identity(made)
    assert cli.main(["verify", str(copy)]) == 0
    assert capsys.readouterr().out == f"{copy}: has no digests: written by schema 1.4 or before; its structure is sound\n"


def test_a_file_of_this_version_without_digests_is_damaged(copy):
    with h5py.File(old(copy), "r+") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION
    assert "has no root_sha256" in refusal(copy)


def test_a_file_of_a_later_version_is_read(copy):
    with h5py.File(copy, "r+") as file:
        file.attrs["schema_version"] = "1.9"
        file["cycles"].create_dataset("new", data=np.arange(3))
        file.create_group("addition").create_dataset("x", data=1.0)
        integrity.seal(file)
    assert "verdict: VALID" in info.describe(copy)


def test_without_verifying_another_number_is_believed(copy, capsys):
    with h5py.File(copy, "r+") as file:
        file["cycles/bytes_out"][0, 0, 0] += 1
    assert cli.main(["info", str(copy)]) == 2
    assert cli.main(["info", "--no-verify", str(copy)]) == 0
    told = capsys.readouterr()
    assert "/cycles/bytes_out does not have the SHA-256" in told.err and "verdict: VALID" in told.out


def test_verify_says_a_line_for_each_file_and_its_exit_code_the_worst(made, copy, tmp_path, capsys):
    count = len([one for columns in TABLES.values() for one in columns])
    assert cli.main(["verify", str(made)]) == 0
    line = capsys.readouterr().out
    found = re.fullmatch(rf"{re.escape(str(made))}: good \((\d+) tables, {made.stat().st_size} bytes, schema {SCHEMA_VERSION}\)\n", line)
    assert found and 60 < int(found[1]) < count + 20, line

    absent, text, cut = tmp_path / "absent.h5", tmp_path / "text.h5", tmp_path / "cut.h5"
    text.write_text("cycle,accuracy")
    cut.write_bytes(made.read_bytes()[:-100])
    with h5py.File(copy, "r+") as file:
        file["cycles/bytes_out"][0, 0, 0] += 1
    for given, code, lines in (
        ([made, made], 0, ["good", "good"]),
        ([absent], 2, []),
        ([absent, made], 2, ["good"]),
        ([copy], 3, ["is damaged: /cycles/bytes_out does"]),
        ([made, copy, absent, text, cut], 3, ["good", "/cycles/bytes_out", "is not an HDF5 file", "truncated or damaged"]),
        ([tmp_path], 2, []),
    ):
        assert cli.main(["verify", *map(str, given)]) == code, given
        told = capsys.readouterr()
        assert len(told.out.splitlines()) == len(lines)
        assert all(part in line for part, line in zip(lines, told.out.splitlines(), strict=True))
        assert (absent in given) == ("absent.h5 does not exist" in told.err)
    assert cli.main(["verify"]) == 2


def test_a_damaged_file_is_not_taken_for_a_finished_run(copy):
    with h5py.File(copy, "r+") as file:
        file["cycles/bytes_out"][0, 0, 0] += 1
        known = str(file["config"].attrs["hash"])
    with pytest.raises(ResultsError):
        info.identity(copy)
    assert not info.is_rest_of(copy, known)


def test_lost_nodes_are_written_so_that_no_table_claims_more_than_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LARGE_BYTES", 100)
    out = execute(SMALL, tmp_path / "out.h5")
    with h5py.File(out) as file:
        for name, one in integrity.objects(file):
            if isinstance(one, h5py.Dataset) and one.chunks and one.size:
                expected = math.prod(-(-length // size) for length, size in zip(one.shape, one.chunks, strict=True))
                assert one.id.get_num_chunks() == expected, name


def test_only_known_tables_are_old(made):
    """What the versions brought is what the format says they did."""
    text = FORMAT[FORMAT.index("## Versions") : FORMAT.index("## /cycles")]
    for name, minor in structure._SINCE.items():
        (line,) = [one for one in re.split(r"\n- ", text) if one.startswith(f"1.{minor} ")]
        assert name.rpartition("/")[2] in line


def test_the_test_is_of_a_whole_file(made):
    with h5py.File(made) as file:
        assert json.loads(file["config"].attrs["json"])["run"]["nodes"] == 6 and len(file["groups/size"]) and len(file["faults/node"])
        assert file["models/parameters"].size and os.path.getsize(made) < 300_000
