"""Results files: what is written comes back, whatever happens to the writer; what is wrong is named."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from digests import unseal
from hypothesis import given, settings
from hypothesis import strategies as st

from healmpi import messages
from healmpi.config import Config, hash_of
from healmpi.results import folder, info, integrity, merge, preflight, tables, verdict
from healmpi.results.folder import PartsFolder, write_whole
from healmpi.results.heaps import check_heaps
from healmpi.results.schema import (
    CYCLE_COLUMNS,
    GROUP_COLUMNS,
    GROUP_OUTCOMES,
    PART_TABLES,
    PHASES,
    SCHEMA_VERSION,
    TABLES,
    ResultsError,
    fact_column,
)
from healmpi.results.writer import CycleRows, FaultRow, GroupRow, PartWriter
from healmpi.settings import UsageError

ASK, TOTAL = messages.kind("test_ask"), messages.kind("test_total", carries_model=True)
KINDS = (ASK, messages.MODEL, TOTAL, messages.kind("test_answer"))
VIEW, KIND_COUNT = 3, len(KINDS)
TESTED = np.array([7, 3])  # test samples by label
FORMAT = (Path(__file__).parents[1] / "docs" / "results-format.md").read_text(encoding="utf-8")


def config(cycles: int, nodes: int, warmup: int = 0) -> Config:
    return Config.from_table({"run": {"cycles": cycles, "nodes": nodes, "warmup_cycles": warmup, "algorithm": "ring"}}).resolve(1)


def open_writer(
    out: Path, rank: int, ranks: int, nodes: range, total: int, settings: Config, flush_every: int = 2, **changes
) -> PartWriter:
    samples = [np.arange(node + 1) * 3 for node in nodes]
    known = {
        "rank": rank,
        "ranks": ranks,
        "nodes": nodes,
        "total_nodes": total,
        "config_json": settings.to_json(),
        "config_toml": "# as TOML",
        "config_hash": settings.hash(),
        "title": "a ring",
        "scenario": "no faults",
        "kinds": KINDS,
        "view_size": VIEW,
        "hub_count": 2,
        "flush_every": flush_every,
        "provenance": {"healmpi": "0", "started": "2000-01-01T00:00:00", "seed": 1},
        "partition": (samples, np.array([[len(one), 0] for one in samples]), TESTED),
    }
    return PartWriter(PartsFolder(out).part(rank), **(known | changes))


def make_rows(rng: np.random.Generator, cycle: int, count: int, views: bool = True) -> CycleRows:
    """Random numbers that a valid run could have left: all that was sent was accepted by the sender itself."""
    messages = rng.integers(0, 50, (count, KIND_COUNT))
    return CycleRows(
        cycle=cycle,
        ticks=int(rng.integers(1, 20)),
        accuracy=rng.random(count, np.float32),
        loss=rng.random(count, np.float32),
        own_accuracy=rng.random(count, np.float32),
        train_loss=rng.random(count, np.float32),
        trained=rng.random(count) < 0.5,
        alive=np.ones(count, bool),
        is_hub=rng.random(count) < 0.3,
        incarnation=rng.integers(0, 3, count, np.int32),
        staleness=rng.integers(-1, 5, count, np.int32),
        model_crc32=rng.integers(0, 2**32, count, np.uint32),
        seconds=rng.random((count, len(PHASES))),
        messages_out=messages,
        messages_in=messages.copy(),
        messages_dropped=np.zeros_like(messages),
        bytes_out=messages * 2**33,
        bytes_in=messages * 2**33,
        class_hits=rng.integers(0, count * TESTED + 1),
        views=rng.integers(-1, 2, (count, VIEW), np.int32) if views else None,
    )


def finish(writer: PartWriter, count: int, **changes) -> None:
    facts = {"host": "näme", "pid": 7, "wall_s": 2.0}
    known = {
        "model_digests": ["0f" * 32] * count,
        "models": None,
        "rank_facts": facts,
        "audit": [],
        "audited": True,
        "survivors_finished": True,
    }
    writer.finish(**(known | changes))
    writer.close()


def write_run(out: Path, rows: list[list[CycleRows]], groups=(), faults=(), *, asked: int | None = None, **changes) -> Path:
    """Parts of a finished run. rows: by rank, by cycle. groups, faults: all of rank 0, given with its first cycle of the same number."""
    counts = [len(one[0].alive) for one in rows]
    total = sum(counts)
    settings = config(asked or len(rows[0]), max(2, total))
    first = 0
    for rank, (mine, count) in enumerate(zip(rows, counts, strict=True)):
        writer = open_writer(out, rank, len(rows), range(first, first + count), total, settings)
        for one in mine:
            here = rank == 0
            writer.append(one, [g for g in groups if here and g.cycle == one.cycle], [f for f in faults if here and f.cycle == one.cycle])
        finish(writer, count, **changes)
        first += count
    return out


def random_run(out: Path, counts=(2, 1), cycles: int = 3, seed: int = 0) -> list[list[CycleRows]]:
    rng = np.random.default_rng(seed)
    return [[make_rows(rng, cycle, count) for cycle in range(1, cycles + 1)] for count in counts]


def group_row(cycle: int = 1, epoch: int = 5, members=(0, 1), outcome: int = 0, reused: bool = False, node: int = 0) -> GroupRow:
    return GroupRow(cycle, 0, epoch, node, members[0], outcome, reused, 1, 0.25, tuple(members))


# What is written comes back.


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    cycles=st.integers(1, 9),
    flush_every=st.integers(1, 12),
    views_every=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_of_all_ranks_come_back_in_their_place(tmp_path_factory, counts, cycles, flush_every, views_every, seed):
    out, rng = tmp_path_factory.mktemp("run") / "out.h5", np.random.default_rng(seed)
    total, settings = sum(counts), config(max(1, cycles - 1), max(2, sum(counts)), warmup=1 if cycles > 1 else 0)
    numbers = range(0 if cycles > 1 else 1, cycles if cycles > 1 else 2)
    written, groups, faults, models, first = [], [], [], [], 0
    for rank, count in enumerate(counts):
        writer = open_writer(out, rank, len(counts), range(first, first + count), total, settings, flush_every)
        rows = [make_rows(rng, cycle, count, cycle % views_every == 0) for cycle in numbers]
        for one in rows:
            mine = [
                group_row(one.cycle, 1000 * rank + int(size), tuple(range(int(size))), node=first)
                for size in rng.integers(1, min(6, total) + 1, int(rng.integers(0, 3)))
            ]
            hit = (
                [FaultRow(one.cycle, 3, first, "crash", "nach dem Frühstück " + "ü" * int(rng.integers(0, 90)))]
                if rng.random() < 0.5
                else []
            )
            groups, faults = groups + mine, faults + hit
            writer.append(one, mine, hit)
        models.append(rng.random((count, 11), np.float32))
        finish(writer, count, models=models[-1], rank_facts={"host": f"h{rank}", "wall_s": float(rank), f"only_{rank}": rank + 1})
        written.append(rows)
        first += count

    assert merge.merge(out, remove_parts=True) == out
    assert not PartsFolder(out).path.exists()
    with h5py.File(out) as file:
        assert file.attrs["complete"] == 1 and file["config"].attrs["hash"] == settings.hash()
        for column in CYCLE_COLUMNS:
            expected = np.stack([np.concatenate([getattr(rows[i], column.name) for rows in written]) for i in range(len(numbers))])
            np.testing.assert_array_equal(file["cycles"][column.name][:], expected, err_msg=column.name)
            assert file["cycles"][column.name].dtype == np.dtype(column.dtype)
        assert file["cycles/cycle"][:].tolist() == list(numbers)
        hits = np.array([sum(rows[i].class_hits for rows in written) for i in range(len(numbers))])
        asked = total * file["partition/test_counts"][:]
        assert file["cycles/class_accuracy"][:].tobytes() == (hits / asked).astype(np.float32).tobytes()
        recorded = [i for i, cycle in enumerate(numbers) if cycle % views_every == 0]
        assert file["overlay/cycle"][:].tolist() == [numbers[i] for i in recorded]
        for place, i in enumerate(recorded):
            np.testing.assert_array_equal(file["overlay/views"][place], np.concatenate([rows[i].views for rows in written]))
        groups.sort(key=lambda one: one.cycle)
        faults.sort(key=lambda one: one.cycle)
        for column in GROUP_COLUMNS[:-1]:
            assert file["groups"][column.name][:].tolist() == [getattr(one, column.name) for one in groups]
        assert [tuple(row[row >= 0]) for row in file["groups/members"][:]] == [one.members for one in groups]
        assert [one.decode() for one in file["faults/detail"][:]] == [one.detail.encode()[:128].decode(errors="ignore") for one in faults]
        np.testing.assert_array_equal(file["models/parameters"][:], np.concatenate(models))
        offsets = file["partition/node_offsets"][:]
        for node in range(total):
            assert file["partition/sample_indices"][offsets[node] : offsets[node + 1]].tolist() == [3 * i for i in range(node + 1)]
        assert file["partition/label_counts"][:, 0].tolist() == list(range(1, total + 1))
        assert file["ranks/only_0"][:].tolist() == [1] + [0] * (len(counts) - 1)
        assert file["ranks/host"][:].tolist() == [b"h%d" % rank for rank in range(len(counts))]
        reasons = verdict.judge(file)
        assert all("different members" in reason for reason in reasons), reasons
        assert info.conclusion(out) == (reasons, verdict.summarise(file))


def test_small_blocks_and_chunks_give_the_same_file(tmp_path, monkeypatch):
    rows = random_run(tmp_path, counts=(40, 30), cycles=40)
    write_run(tmp_path / "a.h5", rows, [group_row(c, c, tuple(range(9))) for c in range(1, 41)])
    whole = merge.merge(tmp_path / "a.h5", remove_parts=False).rename(tmp_path / "whole.h5")
    for module, name, value in (
        (tables, "BLOCK_BYTES", 40_000),
        (tables, "CHUNK_BYTES", 4096),
        (tables, "LARGE_BYTES", 100),
        (verdict, "BLOCK_BYTES", 9000),
    ):
        monkeypatch.setattr(module, name, value)
    pieces = merge.merge(tmp_path / "a.h5", remove_parts=False)
    with h5py.File(whole) as one, h5py.File(pieces) as other:
        assert other["cycles/seconds"].chunks is not None
        for group in ("cycles", "overlay", "groups", "models", "partition"):
            for name in one[group]:
                np.testing.assert_array_equal(one[group][name][:], other[group][name][:], err_msg=name)
    assert info.conclusion(whole)[0] == info.conclusion(pieces)[0] == []
    for before, after in zip(info.conclusion(whole)[1], info.conclusion(pieces)[1], strict=True):
        assert before.name == after.name and before.value == pytest.approx(after.value, rel=1e-12)


def test_a_very_long_configuration_fits(tmp_path):
    long = {"config_toml": "#" * 300_000, "provenance": {"command": "x" * 100_000}, "partition": None}
    writer = open_writer(tmp_path / "o.h5", 0, 1, range(2), 2, config(1, 2), flush_every=1, **long)
    writer.append(make_rows(np.random.default_rng(0), 1, 2), [], [])
    finish(writer, 2, model_digests=[])
    with h5py.File(merge.merge(tmp_path / "o.h5", remove_parts=True)) as file:
        assert len(file["config"].attrs["toml"]) == 300_000 and len(file["provenance"].attrs["command"]) == 100_000


def test_xarray_opens_every_group(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    out = tmp_path / "with space.h5"
    write_run(out, random_run(out), [group_row()])
    merge.merge(out, remove_parts=True)
    assert "VALID" in info.describe(out)
    for group in ("cycles", "overlay", "groups", "faults", "partition", "models", "ranks", "summary"):
        with xarray.open_dataset(out, group=group, engine="h5netcdf") as data:
            data.load()
            assert all(variable.dtype != object for variable in data.variables.values()), group
    with xarray.open_dataset(out, group="cycles", engine="h5netcdf") as data:
        # As docs/results-format.md has it: by text, in the way that is the same for all engines.
        by_text = data.messages_out.isel(kind=data.kind.astype(str) == "model")
        assert by_text.identical(data.messages_out.sel(kind=["model"])) and by_text.sizes["kind"] == 1
        assert dict(data.sizes) == {"cycle": 3, "node": 3, "kind": KIND_COUNT, "phase": len(PHASES), "label": 2}
        assert data.alive.dtype == bool and data.messages_out.dims == ("cycle", "node", "kind")
        assert data.sel(cycle=2, phase="train").seconds.shape == (3,)
        assert data.carries_model.dims == ("kind",) and data.kind[data.carries_model].values.tolist() == ["model", "test_total"]


def test_a_damaged_heap_of_texts_is_refused_before_hdf5_goes_round_in_it(tmp_path):
    out = tmp_path / "a.h5"
    write_run(out, random_run(out), [group_row()])
    merge.merge(out, remove_parts=True)
    good = out.read_bytes()
    place = good.index(b"GCOL\x01\x00\x00\x00")
    free = place + int.from_bytes(good[place + 8 : place + 16], "little")
    check_heaps(out)
    for at, value in ((place + 8, 1), (place + 15, 255), (place + 24, 255), (place + 31, 1)):
        out.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
        with pytest.raises(ResultsError, match="damaged: "):
            info.describe(out)
    # Free space of no size, over which HDF5 would never come to an end.
    out.write_bytes(good[: place + 16] + bytes(free - place - 16) + good[free:])
    with pytest.raises(ResultsError, match=f"the texts at byte {place} .* are damaged"):
        info.describe(out)


def test_room_is_made_for_all_that_texts_take_on_disk(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group, count = tables.Group(file, "faults"), 20_000
        group.count("fault", count)
        before = file.id.get_filesize()
        for name in ("kind", "detail"):
            dtype = np.dtype(next(one.dtype for one in TABLES["faults"] if one.name == name))
            group.create(name)[...] = np.full(count, b"x" * dtype.itemsize, dtype)
            file.flush()
            assert file.id.get_filesize() - before <= tables.room(dtype, count)
            before = file.id.get_filesize()


# Killed, cut off, full.


def run_script(text: str, *arguments: object) -> subprocess.CompletedProcess:
    start = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\nfrom test_results import *\n"
    command = [sys.executable, "-c", start + textwrap.dedent(text), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_killed_run_keeps_what_all_ranks_have_flushed(tmp_path):
    out = tmp_path / "out.h5"
    script = """
        rank = int(sys.argv[2])
        writer = open_writer(Path(sys.argv[1]), rank, 3, range(2 * rank, 2 * rank + 2), 6, config(50, 6))
        for cycle in range(1, int(sys.argv[3]) + 1):
            rows = make_rows(np.random.default_rng(cycle), cycle, 2)
            writer.append(rows, [group_row(cycle, cycle)], [FaultRow(cycle, 1, 0, "crash", "start")])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    for rank, cycles in ((0, 9), (2, 6)):
        assert run_script(script, out, rank, cycles).returncode == -signal.SIGKILL
    with pytest.raises(ResultsError, match="healmpi merge"):
        info.describe(out)
    merge.merge(out, remove_parts=False)
    with h5py.File(out) as file:
        assert file.attrs["complete"] == 0
        assert file["cycles/cycle"][:].tolist() == [1, 2, 3, 4, 5, 6]  # rank 0 had flushed 8 of its 9
        assert file["ranks/cycles"][:].tolist() == [8, 0, 6] and file["ranks/state"][:].tolist() == [1, 2, 1]
        np.testing.assert_array_equal(file["cycles/accuracy"][2, :2], make_rows(np.random.default_rng(3), 3, 2).accuracy)
        assert np.isnan(file["cycles/accuracy"][:, 2:4]).all() and not file["cycles/alive"][:, 2:4].any()
        assert len(file["faults/cycle"]) == 12 and file["partition/label_counts"][:, 0].tolist() == [1, 2, 0, 0, 5, 6]
    reasons = " | ".join(info.conclusion(out)[0])
    for text in ("rank 1 left no part file", "2 of 6 nodes", "not complete: 6 cycles", "ranks 0, 2 did not finish and had live nodes"):
        assert text in reasons
    assert "NOT complete" in info.describe(out)


def test_a_part_cut_off_in_the_middle_counts_as_unreadable(tmp_path):
    out = write_run(tmp_path / "out.h5", random_run(tmp_path))
    path = PartsFolder(out).part(1)
    os.truncate(path, path.stat().st_size // 2)
    merge.merge(out, remove_parts=False)
    assert "rank 1 left a part file that cannot be read" in info.conclusion(out)[0]
    os.truncate(PartsFolder(out).part(0), 0)
    with pytest.raises(ResultsError, match=r"rank-00000.h5 is empty"):
        merge.merge(out, remove_parts=False, force=True)


def test_a_run_killed_before_its_first_flush_gives_a_file_without_cycles(tmp_path):
    out = tmp_path / "out.h5"
    open_writer(out, 0, 1, range(2), 2, config(5, 2)).close()
    merge.merge(out, remove_parts=True)
    assert "no cycle was recorded" in info.conclusion(out)[0]
    assert "0 cycles" in info.describe(out)


def test_a_part_that_goes_on_is_as_if_it_had_never_stopped(tmp_path):
    rows = [make_rows(np.random.default_rng(cycle), cycle, 2) for cycle in range(1, 8)]
    models = np.random.default_rng(0).random((2, 5), np.float32)

    def write(writer: PartWriter, some: list[CycleRows]) -> None:
        for one in some:
            writer.append(one, [group_row(one.cycle, one.cycle)], [FaultRow(one.cycle, 1, 0, "crash", "start")])

    whole, pieces = tmp_path / "whole.h5", tmp_path / "pieces.h5"
    writer = open_writer(whole, 0, 1, range(2), 2, config(7, 2))
    write(writer, rows)
    finish(writer, 2, models=models)
    writer = open_writer(pieces, 0, 1, range(2), 2, config(7, 2))
    write(writer, rows[:3])
    done = writer.progress()
    write(writer, rows[3:])
    finish(writer, 2, models=models)  # killed after its end, before the merging
    writer = PartWriter.reopen(PartsFolder(pieces).part(0), range(2), 4, done, 3)
    write(writer, rows[3:])
    finish(writer, 2, models=models)
    with h5py.File(merge.merge(whole, remove_parts=True)) as one, h5py.File(merge.merge(pieces, remove_parts=True)) as other:
        for group, columns in TABLES.items():
            for column in columns:
                if column.name in one[group]:
                    np.testing.assert_array_equal(one[group][column.name][()], other[group][column.name][()], err_msg=column.name)
        assert one.attrs["complete"] == other.attrs["complete"] == 1


LIMITED = """
    import resource
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
"""


def test_a_full_disk_keeps_the_flushed_rows_and_says_so(tmp_path):
    out = tmp_path / "out.h5"
    script = (
        LIMITED
        + """
    writer = open_writer(Path(sys.argv[1]), 0, 1, range(50), 50, config(2000, 50), 5)
    try:
        for cycle in range(1, 2001):
            writer.append(make_rows(np.random.default_rng(cycle), cycle, 50), [], [])
    except OSError as error:
        print(error)
    writer.close()
    """
    )
    done = run_script(script, out, 4_000_000)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "File too large" in done.stdout and "what was flushed before is kept" in done.stdout and "rank-00000.h5" in done.stdout
    merge.merge(out, remove_parts=False)
    with h5py.File(out) as file:
        count = len(file["cycles/cycle"])
        assert count > 50 and count % 5 == 0
        np.testing.assert_array_equal(file["cycles/seconds"][-1], make_rows(np.random.default_rng(count), count, 50).seconds)


def test_a_full_disk_while_merging_keeps_the_parts(tmp_path):
    out = write_run(tmp_path / "out.h5", random_run(tmp_path, counts=(60,), cycles=60))
    script = (
        LIMITED
        + """
    try:
        merge.merge(Path(sys.argv[1]), remove_parts=True)
    except ResultsError as error:
        print(error)
    """
    )
    done = run_script(script, out, 700_000)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "out.h5 cannot be made of its parts (File too large); the parts are kept" in done.stdout
    assert os.listdir(tmp_path) == ["out.h5.parts"]
    assert info.conclusion(merge.merge(out, remove_parts=True))[0] == []


# What makes a run invalid.


def spoil(rows: list[list[CycleRows]], name: str, where: tuple, value) -> None:
    getattr(rows[0][-1], name)[where] = value


def reasons_of(out: Path, rows, groups=(), **changes) -> list[str]:
    merge.merge(write_run(out, rows, groups, **changes), remove_parts=True, force=True)
    with h5py.File(out) as file:
        assert verdict.judge(file) == info.conclusion(out)[0]
    return info.conclusion(out)[0]


@pytest.mark.parametrize(
    ("name", "where", "value", "expected"),
    [
        ("messages_in", (0, 1), -1000, r"^model messages: \d+ sent, .* unaccounted for"),
        ("messages_dropped", (0, 0), 1, r"^test_ask messages: .* 1 too many"),
        ("loss", (1,), np.nan, "1 losses of live nodes are not finite, the first is loss of node 1 in cycle 3"),
        ("train_loss", (0,), np.inf, "the first is train_loss of node 0 in cycle 3"),
    ],
)
def test_numbers_that_make_a_run_invalid(tmp_path, name, where, value, expected):
    rows = random_run(tmp_path)
    spoil(rows, "trained", (0,), True)
    assert reasons_of(tmp_path / "a.h5", rows) == []
    spoil(rows, name, where, value)
    (reason,) = reasons_of(tmp_path / "b.h5", rows)
    assert re.search(expected, reason), reason


def test_a_loss_that_was_not_measured_is_no_divergence(tmp_path):
    rows = random_run(tmp_path)
    spoil(rows, "trained", (0,), False)
    spoil(rows, "train_loss", (0,), np.nan)
    for name in ("accuracy", "loss"):
        spoil(rows, name, (1,), np.nan)
    assert reasons_of(tmp_path / "a.h5", rows) == []


def test_groups_audit_and_ranks_that_make_a_run_invalid(tmp_path):
    rows = random_run(tmp_path)
    same = [group_row(1, 5), group_row(2, 5, reused=True, node=1)]
    assert reasons_of(tmp_path / "a.h5", rows, same) == []
    assert reasons_of(tmp_path / "b.h5", rows, [*same, group_row(3, 5, (0, 2))]) == ["group 5 is reported with different members"]
    assert reasons_of(tmp_path / "c.h5", rows, audit=["cycle 1, node 0: off"]) == ["audit: cycle 1, node 0: off"]
    assert reasons_of(tmp_path / "d.h5", rows, survivors_finished=False) == [
        "ranks 0, 1 reported survivors that did not finish and had live nodes"
    ]
    assert reasons_of(tmp_path / "e.h5", rows, asked=4) == ["the run is not complete: 3 cycles are common to all parts"]
    many = reasons_of(tmp_path / "f.h5", rows, audit=[f"{i} " + "x" * 1000 for i in range(300)])
    assert len(many) == 100 and many[-1] == "audit: and 201 more"


def test_figures_of_merit_of_a_run_worked_out_by_hand(tmp_path):
    rows = random_run(tmp_path, counts=(2, 2), cycles=4)
    for rank, mine in enumerate(rows):
        for cycle, one in enumerate(mine):
            one.accuracy[:] = np.nan if cycle == 3 else [0.8 + 0.1 * cycle, 0.7 + 0.1 * cycle]
            one.own_accuracy[:] = [0.5, 0.6] if rank == 0 else [np.nan, 0.9]
            one.alive[:] = [True, rank == 0 or cycle == 0]
            one.is_hub[:] = [rank == 0, True]
            one.seconds[:] = [1, 2, 3, 4, 0, 90]
            one.messages_out[:], one.messages_in[:], one.bytes_out[:] = 1, 1, 10
            one.messages_out[0, 0] = one.messages_in[0, 0] = 3
    groups = [
        group_row(1, 5),
        group_row(1, 5, node=1),
        group_row(2, 5, reused=True),
        group_row(3, 6, outcome=1),
        group_row(4, 7, (0,), outcome=2),
    ]
    assert reasons_of(tmp_path / "a.h5", rows, groups) == []
    found = {figure.name: figure.value for figure in info.conclusion(tmp_path / "a.h5")[1]}
    expected = {
        "accuracy_mean": 2.9 / 3,
        "accuracy_std": np.std([1.0, 0.9, 1.0]),
        "accuracy_min": 0.9,
        "own_accuracy_mean": 0.55,
        "cycles_to_0.85": 2,
        "cycles_to_0.90": 3,
        "cycles_to_0.95": 3,
        "live_nodes": 3,
        "hubs": 2,
        "wall_s": 2.0,
        "cycles_per_s": 2.0,
        "train_share": 0.1,
        "messaging_share": 0.2,
        "wait_share": 0.3,
        "group_share": 0.4,
        "harness_share": 0.0,
        "messages_per_cycle": 4 * len(KINDS) + 4,
        "model_messages_per_cycle": 8,
        "bytes_per_cycle": 40 * len(KINDS),
        "groups_created": 1,
        "groups_reused": 1,
        "groups_abandoned": 1,
    }
    assert set(found) == set(expected) | {"loss_mean"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_a_run_of_the_overlay_alone_has_no_learning_figures(tmp_path):
    rows = random_run(tmp_path)
    for one in (one for mine in rows for one in mine):
        one.accuracy[:] = one.loss[:] = one.train_loss[:] = np.nan
        one.trained[:] = False
    assert reasons_of(tmp_path / "a.h5", rows, model_digests=[]) == []
    names = {figure.name for figure in info.conclusion(tmp_path / "a.h5")[1]}
    assert "hubs" in names and not any(name.startswith(("accuracy", "loss", "cycles_to")) for name in names)
    assert "accuracy" not in info.describe(tmp_path / "a.h5")


# Files that are refused.


def test_files_that_are_not_results_are_refused_by_name(tmp_path):
    def refused(path: Path, text: str) -> None:
        for read in (info.describe, info.conclusion):
            with pytest.raises(ResultsError, match=text) as caught:
                read(path)
            assert "\n" not in str(caught.value)

    good = merge.merge(write_run(tmp_path / "good.h5", random_run(tmp_path, cycles=30)), remove_parts=False)
    refused(tmp_path / "no.h5", "does not exist")
    refused(tmp_path, "is a folder, not a results file")
    refused(PartsFolder(good).path, r"run `healmpi merge .*good.h5`")
    refused(PartsFolder(good).part(0), "is the part of one rank")
    (tmp_path / "empty.h5").touch()
    refused(tmp_path / "empty.h5", "is empty")
    (tmp_path / "text.h5").write_text("cycle,accuracy\n")
    refused(tmp_path / "text.h5", "is not an HDF5 file")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    refused(tmp_path / "foreign.h5", "not one of healmpi's")
    for share in (0.02, 0.5, 0.99):
        (tmp_path / "cut.h5").write_bytes(good.read_bytes()[: int(good.stat().st_size * share)])
        refused(tmp_path / "cut.h5", "truncated or damaged")
    with h5py.File(good, "r+") as file:
        file.attrs["schema_version"] = "2.0"
    refused(good, "schema version 2.0, and this healmpi reads version 1.x only")
    with h5py.File(good, "r+") as file:
        file.attrs["schema_version"] = "1.7"
        file.create_group("addition")
        integrity.seal(file)
    assert "verdict" in info.describe(good)
    with h5py.File(good, "r+") as file:
        del file["summary"]
    refused(good, "is damaged: ")


def test_merge_refuses_what_does_not_belong_together(tmp_path):
    out = tmp_path / "out.h5"
    with pytest.raises(ResultsError, match="there are no parts of"):
        merge.merge(out, remove_parts=False)
    write_run(out, random_run(tmp_path))
    merge.merge(out, remove_parts=False)
    before = out.read_bytes()
    with pytest.raises(ResultsError, match="exists already"):
        merge.merge(out, remove_parts=False)
    assert merge.merge(out, remove_parts=False, force=True).read_bytes() == before
    other = write_run(tmp_path / "other.h5", random_run(tmp_path), asked=4)
    os.replace(PartsFolder(other).part(1), PartsFolder(out).part(1))
    with pytest.raises(ResultsError, match="are of different runs: config_hash"):
        merge.merge(out, remove_parts=False, force=True)
    assert out.read_bytes() == before


def test_a_rank_hosts_a_block_and_rows_must_fit(tmp_path):
    with pytest.raises(ValueError, match="block of nodes"):
        open_writer(tmp_path / "a.h5", 0, 1, [0, 2], 3, config(1, 3))
    writer = open_writer(tmp_path / "b.h5", 0, 1, range(2), 2, config(1, 2), flush_every=1)
    with pytest.raises(AssertionError, match="rows of shape"):
        writer.append(make_rows(np.random.default_rng(0), 1, 1), [], [])


# Before the run.


def test_places_where_nothing_can_be_written_are_refused(tmp_path):
    def refused(out: Path, text: str, force: bool = False, needed: int = 0) -> None:
        with pytest.raises(UsageError, match=text):
            preflight.check_output(out, force, needed)

    preflight.check_output(tmp_path / "a b.h5", False, 1000)
    refused(tmp_path / "no" / "out.h5", "does not exist")
    refused(tmp_path, "this is a folder")
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "out.h5", "is not a folder")
    refused(tmp_path / "file", "--force replaces it")
    preflight.check_output(tmp_path / "file", True, 0)
    refused(tmp_path / "out.h5", "about .* TB are needed", needed=10**18)
    out = write_run(tmp_path / "old.h5", random_run(tmp_path))
    refused(out, "healmpi merge .*old.h5.*--force discards")
    preflight.check_output(out, True, 0)
    (PartsFolder(out).path / "mine.txt").touch()
    PartsFolder(out).prepare(True)
    assert os.listdir(PartsFolder(out).path) == ["mine.txt"]


def test_the_estimate_covers_what_is_written(tmp_path):
    rows = random_run(tmp_path, counts=(50,), cycles=100)
    merge.merge(write_run(tmp_path / "out.h5", rows), remove_parts=False)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.h5") if path.is_file())
    known = {"nodes": 50, "cycles": 100, "kinds": KIND_COUNT, "ranks": 1, "model_size": 7, "view_width": VIEW}
    changing = preflight.estimate_bytes(**known, static=False, views_every=1, save_models=False)
    assert written < changing < 3 * written
    once = preflight.estimate_bytes(**known, static=True, views_every=1, save_models=False)
    assert changing - once == 99 * 50 * 4 * VIEW * 3 // 2, "views of a static topology are written once"
    assert preflight.estimate_bytes(**known, static=True, views_every=1, save_models=True) - once == 2 * 50 * 7 * 4


def test_only_regular_files_are_replaced(tmp_path):
    def refused(out: Path, text: str) -> None:
        with pytest.raises(UsageError, match=text):
            preflight.check_output(out, True, 0)

    refused(Path("/dev/full"), "this is not a regular file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "this is not a regular file")
    (tmp_path / "file").touch()
    for target in ("file", "nothing"):
        (tmp_path / f"link to {target}").symlink_to(tmp_path / target)
        refused(tmp_path / f"link to {target}", "this is a symbolic link, .* name the file it points to")


def test_what_the_system_refuses_is_a_sentence_before_the_run(tmp_path, monkeypatch):
    for length in (300, 252, 247):  # the name, with .parts, with what the temporary file adds
        with pytest.raises(UsageError, match="File name too long"):
            preflight.check_output(tmp_path / ("x" * length), False, 0)
    with pytest.raises(ResultsError, match="File name too long"):
        merge.merge(tmp_path / ("x" * 300), remove_parts=False)

    def forbidden(*_, **__) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(UsageError, match="Permission denied"):
        PartsFolder(tmp_path / "out.h5").prepare(False)
    monkeypatch.setattr(Path, "stat", forbidden)
    with pytest.raises(UsageError, match="Permission denied"):
        preflight.check_output(tmp_path / "out.h5", False, 0)


def test_parts_that_another_process_writes_are_left_alone(tmp_path):
    out = write_run(tmp_path / "out.h5", random_run(tmp_path))
    script = "lock = PartsFolder(Path(sys.argv[1])).hold(); print('held', flush=True); sys.stdin.read()"
    start = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\nfrom test_results import *\n"
    with subprocess.Popen([sys.executable, "-c", start + script, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        for attempt in (
            lambda: preflight.check_output(out, True, 0),
            lambda: PartsFolder(out).prepare(True),
            lambda: PartsFolder(out).refuse_running(),
            lambda: PartsFolder(out).hold(),
        ):
            with pytest.raises(UsageError, match=rf"a run is writing there \(pid {other.pid} on .+\)"):
                attempt()
        other.stdin.close()
        assert other.wait(30) == 0
    PartsFolder(out).refuse_running()
    preflight.check_output(out, True, 0)
    with PartsFolder(out).hold():  # the run itself
        merge.merge(out, remove_parts=True)
    assert os.listdir(tmp_path) == ["out.h5"]


def test_a_file_system_without_locks_goes_without(tmp_path, monkeypatch):
    def unsupported(*_) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(folder.fcntl, "flock", unsupported)
    out = tmp_path / "out.h5"
    PartsFolder(out).prepare(False)
    with PartsFolder(out).hold():
        PartsFolder(out).refuse_running()


def test_parts_of_two_runs_of_one_configuration_are_not_mixed(tmp_path):
    def write(rank: int, run_id: str) -> None:
        PartsFolder(out).part(rank).unlink(missing_ok=True)
        writer = open_writer(out, rank, 2, range(rank, rank + 1), 2, config(1, 2), run_id=run_id)
        writer.append(make_rows(np.random.default_rng(rank), 1, 1), [], [])
        finish(writer, 1)

    out = tmp_path / "out.h5"
    for rank in (0, 1):
        write(rank, "first")
    with h5py.File(merge.merge(out, remove_parts=False)) as file:
        assert file.attrs["run_id"] == "first"
    write(1, "second")
    with pytest.raises(ResultsError, match="are of different runs: run_id is second and first"):
        merge.merge(out, remove_parts=False, force=True)


def test_parts_that_count_other_messages_are_not_mixed(tmp_path):
    out, rng = tmp_path / "out.h5", np.random.default_rng(0)
    for rank, kinds in enumerate((KINDS, KINDS[::-1])):
        writer = open_writer(out, rank, 2, range(rank, rank + 1), 2, config(1, 2), kinds=kinds)
        writer.append(make_rows(rng, 1, 1), [], [])
        finish(writer, 1)
    with pytest.raises(ResultsError, match=r"are of different runs: kinds is \('test_answer', .*\) and \('test_ask', "):
        merge.merge(out, remove_parts=False)


def test_parts_of_another_version_are_neither_merged_nor_lost(tmp_path):
    out = write_run(tmp_path / "out.h5", random_run(tmp_path))
    for rank in (0, 1):
        with h5py.File(PartsFolder(out).part(rank), "r+") as file:
            file.attrs["schema_version"] = "1.1"
            del file.attrs["kinds"], file.attrs["kinds_carrying_models"], file["flushes"]
    assert merge.state_of_parts(out) == merge.PartsState(config(3, 3).hash(), finished=True, sources={})
    with pytest.raises(
        ResultsError, match=rf"rank-00000.h5 has schema version 1.1, and this healmpi merges parts of {SCHEMA_VERSION} only"
    ):
        merge.merge(out, remove_parts=True)
    assert len(PartsFolder(out).parts()) == 2


def test_the_folder_of_the_parts_knows_what_is_its_own(tmp_path):
    parts = PartsFolder(tmp_path / "out.h5")
    assert (parts.parts(), parts.states(), parts.leftovers()) == ([], [], []) and not parts.path.exists()
    parts.prepare(False)
    parts.hold().close()
    assert parts.leftovers() == [], "the lock is no leftover"
    for step, rank in ((12, 0), (3, 1), (3, 0)):
        write_whole(parts.state(step, rank), b"state")
    write_whole(parts.index, b"{}")
    for rank in (1, 0):
        parts.part(rank).touch()
    (parts.path / "state-9-rank-00000.new").touch()  # of a writer that was killed
    (parts.path / "mine.txt").touch()
    assert parts.parts() == [parts.part(0), parts.part(1)]
    assert [state[:2] for state in parts.states()] == [(3, 0), (3, 1), (12, 0)]
    assert all(state.path == parts.state(state.step, state.rank) for state in parts.states())
    assert len(parts.leftovers()) == 8
    assert PartsFolder.owner(parts.path) == parts.out and PartsFolder.owner(parts.out) is None
    parts.remove()
    assert os.listdir(parts.path) == ["mine.txt"]
    (parts.path / "mine.txt").unlink()
    parts.remove()
    assert not parts.path.exists()
    parts.remove()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_whole(path, b"before")

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folder.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    write_whole(path, b"after")
    assert path.read_bytes() == b"after" and os.listdir(tmp_path) == ["x"]


def test_merging_without_parts_says_so(tmp_path):
    out = write_run(tmp_path / "out.h5", random_run(tmp_path))
    with pytest.raises(ResultsError, match=r"there are no parts of .*out.h5.parts: .*; name .*out.h5$"):
        merge.merge(PartsFolder(out).path, remove_parts=False)
    merge.merge(out, remove_parts=True)
    with pytest.raises(ResultsError, match=r"there are no parts of .*out.h5: "):
        merge.merge(out, remove_parts=False)
    with pytest.raises(ResultsError, match="there are no parts of"):
        merge.merge(Path("."), remove_parts=False)


def test_of_a_run_cut_short_only_the_cause_is_told(tmp_path):
    rows = random_run(tmp_path)
    spoil(rows, "messages_in", (0, 1), -1000)
    assert reasons_of(tmp_path / "a.h5", rows, asked=9) == ["the run is not complete: 3 cycles are common to all parts"]


def test_a_run_without_survivors_has_no_final_accuracy(tmp_path):
    rows = random_run(tmp_path, counts=(2,))
    rows[0][-1].alive[:] = False
    assert reasons_of(tmp_path / "a.h5", rows) == []
    found = {figure.name: figure.value for figure in info.conclusion(tmp_path / "a.h5")[1]}
    assert found["live_nodes"] == 0 and not {"accuracy_mean", "accuracy_min", "own_accuracy_mean", "loss_mean"} & set(found)


def test_what_a_summary_shows_of_faults_groups_and_figures(tmp_path):
    rows = random_run(tmp_path)
    faults = [FaultRow(1, 4, -1, "none", "crash of all hubs hit nobody"), FaultRow(2, 9, 0, "crash", "start")]
    alone = group_row(1, 5, (0,), outcome=GROUP_OUTCOMES.index("alone"))
    out = merge.merge(write_run(tmp_path / "a.h5", rows, [alone], faults), remove_parts=True)
    with h5py.File(out) as file:
        assert file["faults/node"][:].tolist() == [-1, 0] and GROUP_OUTCOMES[-1] == "alone"
        assert file["groups"].attrs["outcomes"][file["groups/outcome"][0]] == "alone"
    text = info.describe(out)
    for line in (
        "faults: 1 node hit",
        "  cycle 1: crash of all hubs hit nobody",
        "  cycle 2: crash of 1 node (start)",
        "hub groups: 1 report",
    ):
        assert f"\n{line}" in text
    assert "(alone 1)" in text and "hubs*" in text and "* nodes that count themselves hubs; 'hubs wanted' is h" in text
    assert all(f"\n  {figure.name} " in text for figure in info.conclusion(out)[1])
    short = info.describe(out, figures=False)
    assert "verdict" not in short and "figures of merit" not in short and "faults: 1 node hit" in short
    assert set(short.splitlines()) < set(text.splitlines())


def test_a_configuration_that_is_no_table_is_refused(tmp_path):
    out = merge.merge(write_run(tmp_path / "a.h5", random_run(tmp_path)), remove_parts=True)
    for wrong in ("[1, 2]", '{"run": 3}', "7", "{"):
        with h5py.File(out, "r+") as file:
            unseal(file)
            file["config"].attrs.update({"json": wrong, "hash": hash_of(wrong)})
        with pytest.raises(ResultsError, match="is damaged: "):
            info.describe(out)


# The contract.


def documented() -> dict[str, tuple[str, ...]]:
    """What docs/results-format.md says of each table: dtype, dimensions, unit (of a figure of merit the unit alone)."""
    found, group = {}, ""
    for title, names, cells in re.findall(r"^(?:## /(\w+).*|\| (`[\w.]+`(?:, `\w+`)*).*? \| (.+) \|)$", FORMAT, re.MULTILINE):
        group = title or group
        # What a table means is the last cell.
        found |= {f"{group}/{name}": tuple(cells.split(" | ")[:-1]) for name in re.findall(r"`([\w.]+)`", names)}
    return found


def test_every_dataset_of_a_merged_file_is_declared(tmp_path):
    facts = {"host": "h", "wall_s": 1.0, "startup_s": 1, "checkpoint_s": 1.0, "tail_s": 1.0, "odd_s": 2.0, "pid": 3, "word": "w"}
    rows = random_run(tmp_path, counts=(2,))
    rows[0][-1].accuracy[:] = 1  # every target is reached
    faults = [FaultRow(1, 2, 0, "crash", "start")]
    out = write_run(tmp_path / "a.h5", rows, [group_row()], faults, rank_facts=facts, models=np.ones((2, 5)))
    declared = {f"{group}/{column.name}": column for group, columns in TABLES.items() for column in columns}
    declared |= {f"ranks/{name}": fact_column(name, [facts[name]]) for name in ("odd_s", "pid", "word")}
    seen = []

    def check(path: str, table) -> None:
        if not isinstance(table, h5py.Dataset):
            return
        column = declared[path]
        seen.append(path)
        assert table.dtype == (h5py.string_dtype() if column.dtype.startswith("S") else np.dtype(column.dtype)), path
        if column.is_scale:
            assert table.is_scale, path
        else:
            assert tuple(table.dims[axis][0].name.split("/")[-1] for axis in range(table.ndim)) == column.dims, path
            assert tuple(len(table.parent[dim]) for dim in column.dims) == table.shape, path
        assert (table.attrs["unit"], table.attrs["long_name"]) == (column.unit, column.doc), path
        assert (table.attrs.get("dtype") == "bool") == (column.unit == "bool"), path

    with h5py.File(merge.merge(out, remove_parts=True)) as file:
        file.visititems(check)
    assert set(seen) == set(declared) - {"ranks/damage"}, "a run that has everything has all that is declared"
    assert {declared[f"ranks/{name}"].unit for name in ("odd_s", "pid", "word")} == {"s", "1", "text"}


def test_every_declared_dataset_is_documented():
    known, sections = documented(), dict(re.findall(r"^## /(\w+).*?\n(.*?)(?=^## )", FORMAT, re.MULTILINE | re.DOTALL))
    for group, columns in TABLES.items():
        for column in columns:
            if column.is_scale:
                assert re.search(rf"Dimensions?:.*`{column.name}`", sections[group], re.DOTALL), f"{group}/{column.name}"
                continue
            dtype = column.dtype if column.dtype.startswith("S") else np.dtype(column.dtype).name
            expected = (column.unit,) if group == "summary" else (dtype, ", ".join(column.dims), column.unit)
            assert known[f"{group}/{column.name}"] == expected, f"{group}/{column.name}"
    assert f"version {SCHEMA_VERSION}\n" in FORMAT and f'"{SCHEMA_VERSION}"' in FORMAT


def test_every_dataset_of_a_part_is_one_of_the_merged_file(tmp_path):
    out = tmp_path / "a.h5"
    writer = open_writer(out, 0, 1, range(2), 2, config(1, 2))
    writer.append(make_rows(np.random.default_rng(0), 1, 2), [group_row()], [FaultRow(1, 2, 0, "crash", "start")])
    finish(writer, 2, models=np.ones((2, 5)))
    expected = {f"{group}/{column.name}": column.dtype for group, columns in PART_TABLES.items() for column in columns}
    merged = {f"{group}/{column.name}" for group, columns in TABLES.items() for column in columns}
    assert expected.keys() - merged == {"cycles/class_hits"}, "the sums behind class_accuracy"
    with h5py.File(PartsFolder(out).part(0)) as file:
        found = {}
        file.visititems(lambda path, table: found.update({path: table.dtype}) if isinstance(table, h5py.Dataset) else None)
    assert found == {path: np.dtype(dtype) for path, dtype in expected.items()} | dict.fromkeys(("committed", "flushes"), np.dtype("i8"))


def test_what_a_run_says_of_itself_is_in_its_file(tmp_path):
    out = merge.merge(write_run(tmp_path / "a.h5", random_run(tmp_path)), remove_parts=True)
    with h5py.File(out) as file:
        assert (file.attrs["title"], file["faults"].attrs["scenario"]) == ("a ring", "no faults")
        assert file.attrs["schema_version"] == SCHEMA_VERSION
        assert file["cycles/kind"][:].tolist() == [b"test_ask", b"model", b"test_total", b"test_answer"]
        assert file["cycles/carries_model"][:].tolist() == [0, 1, 1, 0]
    assert info.describe(out).startswith("a ring: 3 nodes on 2 ranks, 3 cycles")


def older(path: Path, version: str) -> Path:
    """The file as an earlier version would have made it."""
    with h5py.File(path, "r+") as file:
        unseal(file, version)
        del file["cycles/own_accuracy"], file["cycles/class_accuracy"], file["cycles/label"], file["partition/test_counts"]
        if version == "1.2":
            return path
        del file.attrs["title"], file["cycles/carries_model"], file["faults"].attrs["scenario"]
        if version == "1.0":
            del file.attrs["run_id"]
    return path


def test_a_file_of_the_minor_version_before_is_read_to_the_same_text(tmp_path):
    out = merge.merge(write_run(tmp_path / "a.h5", random_run(tmp_path)), remove_parts=True)
    new = info.identity(out), info.conclusion(out), info.describe(out)
    older(out, "1.2")
    assert (info.identity(out), info.conclusion(out), info.describe(out)) == new
    with h5py.File(out) as file:
        assert verdict.judge(file) == []
        again = {figure.name for figure in verdict.summarise(file)}
    assert {figure.name for figure in new[1][1]} - again == {"own_accuracy_mean"}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_files_of_older_minor_versions_are_read(tmp_path, version):
    out = merge.merge(write_run(tmp_path / "a.h5", random_run(tmp_path)), remove_parts=True)
    new = info.identity(out), info.conclusion(out), info.describe(out)
    older(out, version)
    assert (info.identity(out), info.conclusion(out)) == new[:2]
    assert info.describe(out).splitlines()[1:] == new[2].splitlines()[1:] and info.describe(out).startswith("ring: 3 nodes on 2 ranks")
    with h5py.File(out) as file:
        assert verdict.judge(file) == []
        again = {figure.name for figure in verdict.summarise(file)}
    assert {figure.name for figure in new[1][1]} - again == {"model_messages_per_cycle", "own_accuracy_mean"}


@pytest.mark.parametrize(
    ("chosen", "title"),
    [
        ({"run": {"algorithm": "heal"}}, "heal"),
        ({"run": {"algorithm": "custom"}, "topology": {"name": "ring"}, "rule": {"name": "gossip"}}, "ring+gossip"),
        (
            {"run": {"algorithm": "custom"}, "topology": {"name": "", "factory": "tree:Tree"}, "rule": {"name": "gossip"}},
            "tree:Tree+gossip",
        ),
    ],
)
def test_a_file_without_a_title_is_called_by_what_was_chosen(tmp_path, chosen, title):
    out = older(merge.merge(write_run(tmp_path / "a.h5", random_run(tmp_path)), remove_parts=True), "1.1")
    with h5py.File(out, "r+") as file:
        file["config"].attrs.update({"json": json.dumps(chosen), "hash": hash_of(json.dumps(chosen))})
    assert info.describe(out).startswith(f"{title}: 3 nodes on 2 ranks")


def test_the_examples_of_the_format_run(tmp_path, monkeypatch):
    pytest.importorskip("h5netcdf")
    merge.merge(write_run(tmp_path / "out.h5", random_run(tmp_path)), remove_parts=True)
    monkeypatch.chdir(tmp_path)
    for example in re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL):
        known: dict = {}
        exec(example, known)
        if "hubs" in known:
            assert known["hubs"].shape == (3, 3, 2)
