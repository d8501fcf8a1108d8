"""Files of states: what is written comes back as it was, every damage is noticed, and nothing in one is ever run."""

import dataclasses
import hashlib
import json
import math
import os
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healmpi.hosting import checkpoint, state_file
from healmpi.hosting.checkpoint import Index, Unusable
from healmpi.hosting.state_file import Damaged
from healmpi.messages import MODEL, Message
from healmpi.results.folder import PartsFolder
from healmpi.results.schema import COMMITTED
from healmpi.settings import Misuse
from healmpi.state import NotPlain, Stateful

# There and back.

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=5)
NUMBERS = st.sampled_from([np.float32(-0.0), np.float64("nan"), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.bytes_(b"a\0b")])
TYPES = st.sampled_from(["<f4", ">f8", "<f2", "|b1", "|u1", "<i8", ">i2", "|S3"])


@st.composite
def arrays(draw):
    """Of all kinds, shapes and orders in memory; some cannot be changed."""
    kind, shape = np.dtype(draw(TYPES)), tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = math.prod(shape) * kind.itemsize
    plain = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), "|u1").copy()
    array = (plain % 2 if kind.kind == "b" else plain).view(kind).reshape(shape) if size else np.zeros(shape, kind)
    array = draw(st.sampled_from([lambda one: one, np.asfortranarray, lambda one: one.T, lambda one: one[::2] if one.ndim else one]))(array)
    array.flags.writeable = draw(st.booleans())
    return array


HASHABLE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT | st.binary(max_size=4)
LEAVES = HASHABLE | st.integers(-(2**200), 2**200) | st.floats() | arrays() | NUMBERS | st.builds(random.Random, st.integers(0, 9))
PLAIN = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4), st.frozensets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip


def assert_equal(one, other) -> None:
    """The same types, bits, order of keys and layout in memory."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype.str, one.shape, one.tobytes()) == (other.dtype.str, other.shape, other.tobytes())
        assert other.flags.writeable == one.flags.writeable
        assert not one.flags.c_contiguous or other.flags.c_contiguous
        assert not one.flags.f_contiguous or other.flags.f_contiguous
    elif isinstance(one, random.Random):
        assert one.getstate() == other.getstate()
    elif isinstance(one, float | np.generic):
        bits = (np.asarray(value).tobytes() for value in (one, other))
        assert next(bits) == next(bits)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    elif isinstance(one, dict):
        assert_equal(list(one), list(other))
        assert_equal(list(one.values()), list(other.values()))
    else:
        assert one == other


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("states") / "state"


@settings(max_examples=200)
@given(PLAIN)
def test_plain_data_come_back_as_they_were(path, value):
    assert_equal(value, state_file.read(path, state_file.write(path, value)))


def test_a_large_number_and_a_large_text_come_back(path):
    value = [10**5000, "x" * 10**6, list(range(10**5)), {number: -number for number in range(10**4)}]
    assert_equal(value, state_file.read(path, state_file.write(path, value)))


@pytest.mark.parametrize("bits", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_go_on_where_they_were(bits, path):
    value = [random.Random(3), np.random.Generator(getattr(np.random, bits)(5))]
    for one in value:
        one.random()
    value[0].gauss(0, 1)  # which draws two and keeps one
    value[1].integers(2**31, dtype=np.uint32)
    found = state_file.read(path, state_file.write(path, value))
    assert [found[0].gauss(0, 1), *found[1].random(9)] == [value[0].gauss(0, 1), *value[1].random(9)]


def test_what_is_shared_is_written_once_and_is_one_object_again(path):
    model, rng, views = np.zeros(100_000, np.float32), random.Random(1), [1, 2]
    views.append(views)
    nodes = {node: {"model": model, "rng": rng, "views": views, "sent": Message(MODEL, 1, 2, 3, 4, model)} for node in range(50)}
    found = state_file.read(path, state_file.write(path, nodes))
    assert path.stat().st_size < model.nbytes + 20_000
    for name in ("model", "rng", "views"):
        assert len({id(node[name]) for node in found.values()}) == 1
    assert found[7]["sent"].payload is found[0]["model"] and found[7]["sent"].kind is MODEL
    assert found[0]["views"][2] is found[0]["views"]


def test_the_same_state_gives_the_same_bytes_whatever_the_order_in_a_set(path):
    digests = {state_file.write(path, {"live": set(order)}) for order in ([800, 1, 16, 8], [8, 16, 800, 1], [1, 8, 16, 800])}
    assert len(digests) == 1


# What is not plain.


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda: 1, "deep.0 is of type function"),
        (Odd(), "deep.0 is of type test_state.Odd"),
        (np.array([None]), "deep.0 is an array of object"),
        (np.zeros(2, complex), "deep.0 is an array of complex128"),
        (random.SystemRandom(), "deep.0 is of type random.SystemRandom"),
        ({"x": [1, ("y", Odd)]}, "deep.0.x.1.1 is of type type"),
        (type("Pair", (tuple,), {})(), "is of type test_state.Pair"),
        (iter([]), "is of type list_iterator"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_written_is_named_by_the_way_to_it(value, words, path):
    with pytest.raises(NotPlain) as refusal:
        state_file.write(path, {"deep": [value]})
    assert words in str(refusal.value)


# Damage.


def small(path: Path) -> str:
    """A state of less than a kilobyte. Returns its digest."""
    value = {"cycle": 3, "nodes": {0: {"model": np.arange(5, dtype=np.float32)}}, "live": {1, 2}, "rng": np.random.default_rng(1)}
    return state_file.write(path, value)


@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest unknown"])
def test_every_byte_that_is_changed_is_noticed(known, path):
    digest, content = small(path), path.read_bytes()
    assert len(content) < 1000
    for place in range(len(content)):
        for bit in (1, 128):
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            with pytest.raises(Damaged):
                state_file.read(path, digest if known else None)


def test_what_is_cut_off_longer_or_in_another_order_is_noticed(path):
    digest, content = small(path), path.read_bytes()
    wrong = [content[:length] for length in range(len(content))]
    wrong += [content + b"\0", content + content, content[:100] + b"\0" + content[100:], content[64:] + content[:64], bytes(len(content))]
    for one in wrong:
        path.write_bytes(one)
        with pytest.raises(Damaged):
            state_file.read(path, digest)


def forged(path: Path, tree: object, data: bytes = b"") -> None:
    """A state whose digest fits, and that nobody has written."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    content = state_file.HEAD.pack(state_file.MAGIC, len(text), len(data)) + text + data
    path.write_bytes(content + hashlib.sha256(content).digest())


@pytest.mark.parametrize(
    "tree",
    [
        ["array", "<f4", [2**40], "C", True], ["array", "<f4", [2**62, 4], "C", True], ["array", "|S999999999", [], "C", True],
        ["array", "<f4", [-1], "C", True], ["array", "|O", [1], "C", True], ["array", "<f4", [True], "C", True],
        ["array", "<f4", [0, 2**62], "C", True], ["array", "<f4", [0] * 100, "C", True], ["array", "<f4", "1", "C", True],
        ["same", 0], ["same", -1], ["same", "x"], ["os.system", "true"], [], [[]], ["dict", 1], ["dict", ["list"], 1],
        ["set", ["list"]], ["number", "<f4", "00"], ["number", "O", "00"], ["int", "x"], ["float", "00"], ["bytes", "0"],
        ["kind", "no_such_kind"], ["message", "model"], ["random", 3, None], ["random", 9, None], ["generator", "PCG64", 3],
        ["generator", "Generator", ["dict"]], {"a": 1}, b"{", b"\xff", b"[" * 100_000, b"1" * 5000,
    ],
    ids=str,
)  # fmt: skip
def test_a_forged_state_takes_no_memory_and_makes_nothing(tree, path):
    forged(path, tree)
    with pytest.raises(Damaged):
        state_file.read(path)


# Checkpoints.


def held(rank: int, cycle: int, **more: Any) -> dict[str, Any]:
    """What a rank saves."""
    return {"cycle": cycle, "host": {"rank": rank}, "rows": dict.fromkeys(COMMITTED, cycle), "wall_s": 1.5, "saving_s": 0.0} | more


def saved(out: Path, step: int, ranks: int = 2) -> Index:
    """A checkpoint of so many ranks after so many cycles."""
    PartsFolder(out).path.mkdir(exist_ok=True)
    states = [checkpoint.write_state(out, step, rank, held(rank, step)) for rank in range(ranks)]
    index = Index(step, step, ranks, "c" * 64, "f" * 16, "0.1", sources={"rule_sha256": "é"}, states=tuple(states))
    checkpoint.commit(out, index)
    return index


def test_a_checkpoint_is_found_as_it_was_saved_and_replaces_the_one_before(tmp_path):
    out = tmp_path / "x.h5"
    assert checkpoint.find(out) is None
    saved(out, 3)
    index = saved(out, 5)
    assert checkpoint.find(out) == index and checkpoint.read_state(out, index, 1) == held(1, 5)
    assert [state[:2] for state in PartsFolder(out).states()] == [(5, 0), (5, 1)]


def test_every_byte_of_an_index_that_is_changed_is_noticed(tmp_path):
    saved(tmp_path / "x.h5", 4)
    path = PartsFolder(tmp_path / "x.h5").index
    content = path.read_bytes()
    wrong = [content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :] for place in range(len(content)) for bit in (1, 4, 128)]
    for one in [*wrong, *(content[:length] for length in range(len(content))), content + b" ", b" " + content]:
        path.write_bytes(one)
        with pytest.raises(Unusable, match=r"checkpoint.json cannot be resumed from: it is .*; --force starts again"):
            checkpoint.find(tmp_path / "x.h5")


@pytest.mark.parametrize(
    "change",
    [
        {"step": 0}, {"cycle": 9}, {"ranks": 0}, {"ranks": 3}, {"step": 4.0}, {"step": True}, {"run_id": None}, {"sources": []},
        {"sources": {"a": 1}}, {"states": ["x", "y"]}, {"states": "xy"}, {"more": 1}, {"step": "4"}, {"version": 4},
    ],
    ids=str,
)  # fmt: skip
def test_an_index_that_nobody_can_have_written_is_refused_though_its_digest_fits(change, tmp_path):
    index = saved(tmp_path / "x.h5", 4)
    path = PartsFolder(tmp_path / "x.h5").index
    table = {name: getattr(index, name) for name in Index.__dataclass_fields__} | change
    digest = hashlib.sha256(json.dumps(table).encode()).hexdigest()
    path.write_text(json.dumps(table | {"sha256": digest}, indent=1))
    found = None
    with pytest.raises(Unusable):
        found = checkpoint.find(tmp_path / "x.h5")
        checkpoint.check(found, tmp_path / "x.h5", config_hash="c" * 64, ranks=2, healmpi="0.1", sources=found.sources)


def test_a_checkpoint_of_an_earlier_version_is_refused_as_such(tmp_path):
    folder = PartsFolder(tmp_path / "x.h5")
    folder.path.mkdir()
    folder.index.write_text('{"step": 1, "cycle": 1, "ranks": 1, "config_hash": "c", "run_id": "r", "healmpi": "0.1", "version": 2}')
    with pytest.raises(Unusable, match=r"of an earlier version of healmpi \(format 2, here it is 3\); --force starts again"):
        checkpoint.find(tmp_path / "x.h5")


def test_states_of_other_ranks_other_cycles_and_other_runs_are_not_mixed(tmp_path):
    out, other = tmp_path / "x.h5", tmp_path / "y.h5"
    saved(other, 5)
    folder, foreign = PartsFolder(out), PartsFolder(other)
    saved(out, 4)
    earlier = folder.state(4, 0).read_bytes()
    index = saved(out, 5)
    checkpoint.write_state(other, 5, 0, held(0, 5, wall_s=2.0))
    mine = folder.state(5, 0).read_bytes()
    for content in (folder.state(5, 1).read_bytes(), earlier, foreign.state(5, 0).read_bytes()):
        folder.state(5, 0).write_bytes(content)
        with pytest.raises(Unusable, match=r"state-5-rank-00000 cannot be resumed from: .*of another moment or another run than its index"):
            checkpoint.read_state(out, index, 0)
    folder.state(5, 0).unlink()
    with pytest.raises(Unusable, match=r"state-5-rank-00000 .* cannot be read \(No such file or directory"):
        checkpoint.read_state(out, index, 0)
    folder.state(5, 0).write_bytes(mine)
    assert checkpoint.read_state(out, index, 0)["cycle"] == 5


@pytest.mark.parametrize(
    "change",
    [
        {"cycle": 3}, {"cycle": "4"}, {"host": []}, {"rows": {}}, {"rows": dict.fromkeys(COMMITTED, -1)}, {"rows": "x"},
        {"wall_s": math.inf}, {"wall_s": "x"}, {"saving_s": -1.0}, {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_state_that_nobody_can_have_written_is_refused_though_its_digest_fits(change, tmp_path):
    out = tmp_path / "x.h5"
    index = saved(out, 4, 1)
    for one in (held(0, 4) | change, [], "x"):
        digest = checkpoint.write_state(out, 4, 0, one)
        with pytest.raises(Unusable, match=r"state-4-rank-00000 cannot be resumed from: it is damaged \("):
            checkpoint.read_state(out, dataclasses.replace(index, states=(digest,)), 0)


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
@pytest.mark.parametrize("name", ["checkpoint.json", "state-4-rank-00000"])
def test_what_is_no_file_is_not_read_and_not_waited_for(name, kind, tmp_path):
    out = tmp_path / "x.h5"
    index, path = saved(out, 4, 1), PartsFolder(out).path / name
    aside = path.rename(tmp_path / "aside")
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "link": lambda: path.symlink_to(aside)}[kind]()
    with pytest.raises(Unusable, match=rf"{name} cannot be resumed from: it (is damaged|cannot be read) \("):
        checkpoint.find(out) if name == "checkpoint.json" else checkpoint.read_state(out, index, 0)


def test_a_link_in_the_way_of_what_is_written_leads_nowhere(tmp_path):
    out, precious = tmp_path / "x.h5", tmp_path / "precious"
    precious.write_text("dear")
    folder = PartsFolder(out)
    folder.path.mkdir()
    for name in ("checkpoint.json.new", "state-4-rank-00000.new"):
        (folder.path / name).symlink_to(precious)
    index = saved(out, 4, 1)
    assert precious.read_text() == "dear" and checkpoint.find(out) == index and checkpoint.read_state(out, index, 0) == held(0, 4)


class Runs:
    """What its pickle does when it is read."""

    def __init__(self, trace: Path):
        self._trace = trace

    def __reduce__(self):
        return Path.touch, (self._trace,)


def test_a_pickle_in_the_place_of_a_state_runs_nothing(tmp_path):
    out, trace = tmp_path / "x.h5", tmp_path / "trace"
    index = saved(out, 4)
    content = pickle.dumps(Runs(trace))
    for one in (content, state_file.MAGIC + content, struct.pack("<16sQQ", state_file.MAGIC, len(content), 0) + content):
        for tail in (b"", hashlib.sha256(one).digest()):
            PartsFolder(out).state(4, 0).write_bytes(one + tail)
            for digest in (index.states[0], hashlib.sha256(one).hexdigest()):
                with pytest.raises(Damaged):
                    state_file.read(PartsFolder(out).state(4, 0), digest)
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists(), "it would have"


# Who has a state.


class Inner(Stateful):
    def __init__(self):
        self.count = 0


class Base(Stateful):
    __slots__ = ("__dict__", "__hidden", "rng")
    fleeting = frozenset(("open",))

    def __init__(self):
        self.__hidden, self.rng, self.inner, self.state_of_mind, self.open, self.gone = 1, random.Random(1), Inner(), "calm", {}, 1

    def work(self):
        self.__hidden, self.state, self.later, self.open, self.inner.count = 2, "busy", (1, 2), lambda: 1, 7
        del self.gone
        return self.rng.random()

    def seen(self):
        return self.__hidden, self.state, self.later, self.inner.count, self.rng.random(), hasattr(self, "gone")


class Derived(Base):
    fleeting = frozenset(("late",))


def test_all_attributes_last_but_fleeting_ones_of_any_class_above(path):
    one, other = Derived(), Derived()
    one.work()
    one.late = Odd()
    Stateful.restore(other, state_file.read(path, state_file.write(path, Stateful.state(one))))
    assert other.seen() == one.seen() and other.open == {} and not hasattr(other, "late")


def test_a_state_fits_the_class_and_parts_that_are_there_from_the_start():
    with pytest.raises(Misuse, match="a state of Inner does not fit Base"):
        Stateful.restore(Base(), Inner().state())
    one = Inner()
    one.more = Inner()
    with pytest.raises(Misuse, match=r"Inner\.more has a state, and a new Inner has nothing there: make it in __init__"):
        Inner().restore(one.state())


def test_what_cannot_be_saved_is_named_by_class_and_attribute(tmp_path):
    one = Inner()
    one.count = [lambda: 1]
    (tmp_path / "x.h5.parts").mkdir()
    with pytest.raises(Misuse, match=r"the state of nodes cannot be saved: Inner\.count\.0 is of type function; .*restore\(\) of its own"):
        checkpoint.write_state(tmp_path / "x.h5", 1, 0, {"nodes": {3: one.state()}})
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Misuse, match="nested too deeply"):
        checkpoint.write_state(tmp_path / "x.h5", 1, 0, {"nodes": deep})
