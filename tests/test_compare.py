"""`healmpi-report compare`: a gate that lets nothing through which it cannot vouch for; verdicts, exit codes, bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("pandas", reason="the extra `analysis` is not installed")

from analysis_sample import config, tables, write, write_parts
from healmpi_analysis.cli import main
from healmpi_analysis.compare import Rules, compare, describe
from simulate import execute

from healmpi.results.integrity import seal

OK, USAGE, REGRESSED, NOT_JUDGED = 0, 2, 3, 4


def seeds(folder: Path, count: int, fields: dict | None = None, *, turn: int | None = None, facts: dict | None = None, **changes) -> Path:
    """A folder of runs that differ in the seed. turn: 0 or 1, they were started in turns with those of the other side; None: not."""
    folder.mkdir()
    for seed in range(1, count + 1):
        scattered = {"lift": changes.get("lift", 0.0) + 0.002 * seed, "scale": changes.get("scale", 1.0) * (1 + 0.01 * seed)}
        started = f"2026-01-{2 * seed + turn:02d}" if turn is not None else f"2026-{len(folder.name):02d}-{seed:02d}"
        made = {"started": started} | (facts or {})
        write(folder / f"{seed}.h5", config(run__seed=seed, **(fields or {})), facts=made, **(changes | scattered))
    return folder


def verdict(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1].removeprefix("verdict: ")


# What is told from numbers.


@pytest.mark.parametrize(
    "changes, expected, code",
    [
        ({}, "no difference seen", OK),
        ({"scale": 1.03}, "no difference seen", OK),  # seen, but below the tolerance
        ({"scale": 1.5}, "slower", REGRESSED),
        ({"scale": 0.5}, "faster", OK),
        ({"lift": -0.02}, "less accurate", REGRESSED),
        ({"lift": 0.02}, "more accurate", OK),
        ({"lift": 0.02, "scale": 2.0}, "more accurate, slower", REGRESSED),
    ],
)
def test_the_verdict_and_exit_code_of_a_comparison(tmp_path, capsys, changes, expected, code):
    """Of another healmpi: the same one would have to give the same bits."""
    a, b = seeds(tmp_path / "a", 4, turn=0), seeds(tmp_path / "b", 4, turn=1, facts={"healmpi": "2"}, **changes)
    assert main(["compare", str(a), str(b), "-q", "--json", str(tmp_path / "found.json")]) == code
    assert verdict(capsys) == expected
    assert json.loads((tmp_path / "found.json").read_text())["verdict"] == expected


def test_a_comparison_tells_the_numbers_with_their_intervals(tmp_path):
    a, b = seeds(tmp_path / "a", 3, turn=0), seeds(tmp_path / "b", 3, {"rule__fanout": 2}, turn=1, scale=2.0)
    found = compare(a, b)
    assert found.differences == (("rule.fanout", "1", "2"),)
    changes = {change.name: change for change in found.pairs[0].changes}
    time = changes["seconds per cycle"]
    assert (time.a, time.b, time.change) == (pytest.approx(0.32 * 1.02), pytest.approx(0.64 * 1.02), pytest.approx(1.0))
    assert 0.95 < time.low <= 1.0 <= time.high < 1.05
    assert changes["messages per cycle"].change == changes["messages per cycle"].high == 0
    assert "rule.fanout: 1 -> 2" in describe(found)


def test_groups_are_compared_with_their_counterparts(tmp_path):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for algorithm in ("heal", "ring"):
            write(tmp_path / side / f"{algorithm}.h5", config(run__algorithm=algorithm, learner__threads=1 + (side == "b")))
    write(tmp_path / "b" / "chord.h5", config(run__algorithm="chord", learner__threads=2))
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [pair.label for pair in found.pairs] == ["heal", "ring"] and found.only_b == ("chord",)
    assert found.differences == (("learner.threads", "1", "2"),) and not found.regressed


@pytest.mark.parametrize("lift, tolerance, code", [(-0.4, [], 3), (-0.02, [], 3), (-0.02, ["--accuracy-tolerance", "0.03"], 0)])
def test_a_single_run_a_side_is_judged_by_the_tolerance_of_accuracy(tmp_path, capsys, lift, tolerance, code):
    a, b = write(tmp_path / "a.h5"), write(tmp_path / "b.h5", lift=lift, facts={"healmpi": "2"})
    assert main(["compare", str(a), str(b), "-q", *tolerance]) == code
    assert ("less accurate" in verdict(capsys)) == (code == REGRESSED)


def test_an_accuracy_that_nobody_measured_in_b_is_not_judged(tmp_path, capsys):
    nothing = np.full_like(tables()["accuracy"], np.nan)
    a, b = write(tmp_path / "a.h5"), write(tmp_path / "b.h5", config(evaluation__every=0), accuracy=nothing)
    assert main(["compare", str(a), str(b), "-q", "--ignore-time"]) == OK
    assert "it takes an evaluated cycle on both sides" in capsys.readouterr().out
    assert main(["compare", str(a), str(b), "-q", "--ignore-time", "--strict"]) == NOT_JUDGED


# Time.


@pytest.mark.parametrize("count, turns", [(1, (0, 1)), (2, (0, 1)), (4, (None, None))])
def test_time_is_not_judged_without_repeats_in_turns(tmp_path, capsys, count, turns):
    a = seeds(tmp_path / "a", count, turn=turns[0])
    b = seeds(tmp_path / "later", count, turn=turns[1], scale=3.0)
    assert main(["compare", str(a), str(b), "-q"]) == OK
    out = capsys.readouterr().out
    assert "slower" not in out and "not judged: it takes at least 3 runs a side, started in turns" in out
    assert out.splitlines()[-1] == "verdict: no difference seen, seconds per cycle not judged"
    assert main(["compare", str(a), str(b), "-q", "--strict"]) == NOT_JUDGED


def test_time_that_is_ignored_is_told_and_asks_for_nothing(tmp_path, capsys):
    a, b = seeds(tmp_path / "a", 3, turn=0), seeds(tmp_path / "b", 3, turn=1, scale=2.0)
    assert main(["compare", str(a), str(b), "-q", "--ignore-time", "--strict"]) == OK
    out = capsys.readouterr().out
    assert "seconds per cycle: 0.3264 -> 0.6528 s" in out and out.splitlines()[-1] == "verdict: no difference seen"


# What is not there, or not whole.


def broken(make) -> str:
    return make.__name__


def missing_group(folder: Path) -> None:
    for path in folder.glob("heal*"):
        path.unlink()


def missing_seed(folder: Path) -> None:
    (folder / "heal 2.h5").unlink()


def invalid(folder: Path) -> None:
    write(folder / "heal 1.h5", config(run__seed=1), verdict="INVALID")


def truncated(folder: Path) -> None:
    path = folder / "heal 1.h5"
    path.write_bytes(path.read_bytes()[:2000])


def killed(folder: Path) -> None:
    (folder / "heal 1.h5").unlink()
    write_parts(folder / "heal 1.h5")


def empty(folder: Path) -> None:
    (folder / "heal 1.h5").write_bytes(b"")


@pytest.mark.parametrize("make", [missing_group, missing_seed, invalid, truncated, killed, empty], ids=broken)
def test_what_is_missing_or_failed_or_invalid_in_b_is_a_regression_and_said_first(tmp_path, capsys, make):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for algorithm in ("heal", "ring"):
            for seed in (1, 2):
                write(tmp_path / side / f"{algorithm} {seed}.h5", config(run__algorithm=algorithm, run__seed=seed))
    make(tmp_path / "b")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "-q"]) == REGRESSED
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines[lines.index("") :] if line)
    assert first.startswith("NOT WHOLE:") and lines[-1].startswith("verdict: not whole")
    assert main(["compare", str(tmp_path / "b"), str(tmp_path / "a"), "-q"]) in (OK, USAGE)


def test_a_single_invalid_file_as_b_is_a_regression_and_as_a_a_base_that_cannot_be_used(tmp_path, capsys):
    a, b = write(tmp_path / "a.h5"), write(tmp_path / "b.h5", verdict="INVALID")
    assert main(["compare", str(a), str(b), "-q"]) == REGRESSED
    assert "b.h5 is INVALID (rank 1 left no part file <&>)" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", str(b), str(a), "-q"]) == USAGE
    assert "has no VALID run" in capsys.readouterr().err
    assert main(["compare", str(a), str(b), "-q", "--include-invalid"]) == OK
    # Of the parts of a killed run the last cycle is an earlier one.
    assert main(["compare", str(a), str(write_parts(tmp_path / "c.h5")), "-q", "--include-invalid"]) == REGRESSED


def test_sides_with_nothing_in_common_are_refused(tmp_path, capsys):
    for side, algorithms in (("a", ("heal", "ring")), ("b", ("chord", "gaia"))):
        (tmp_path / side).mkdir()
        for algorithm in algorithms:
            write(tmp_path / side / f"{algorithm}.h5", config(run__algorithm=algorithm))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "-q"]) == USAGE
    assert "no group of runs in common" in capsys.readouterr().err


# Bits.


def test_runs_that_must_agree_and_do_not_are_a_regression_and_the_first_table_is_named(tmp_path, capsys):
    accuracy = tables()["accuracy"]
    accuracy[4, 2] += np.float32(1e-7)
    a, b = write(tmp_path / "a.h5"), write(tmp_path / "b.h5", accuracy=accuracy, train_loss=tables()["train_loss"])
    assert main(["compare", str(a), str(b), "-q"]) == REGRESSED
    text = " ".join(capsys.readouterr().out.split())
    assert "OTHER BITS: " in text and "first in cycles/accuracy, from cycle 5 on" in text
    assert "verdict: other bits" in text


@pytest.mark.parametrize("facts", [{"torch": "9"}, {"numpy": "9"}, {"healmpi": "9"}])
def test_other_versions_may_give_other_bits(tmp_path, facts):
    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5", facts=facts, lift=0.001))
    assert not found.other_bits and not found.regressed and found.differences[0][0] in facts


def test_another_capability_of_the_cpu_may_give_other_bits(tmp_path):
    for name, capability in (("a", b"AVX2"), ("b", b"DEFAULT")):
        with h5py.File(write(tmp_path / f"{name}.h5", lift=0.001 * (name == "b")), "a") as file:
            file["ranks/cpu_capability"] = np.array([capability] * 2)
    found = compare(tmp_path / "a.h5", tmp_path / "b.h5")
    assert not found.other_bits and ("CPU capability", "AVX2", "DEFAULT") in found.differences


def test_times_and_the_order_of_kinds_are_no_bits(tmp_path):
    order = [4, 2, 3, 0, 1]
    made = tables()
    changed = {name: made[name][..., order] for name in made if name.startswith(("messages_", "bytes_"))}
    kinds = tuple(np.array(("cache_request", "cache_reply", "model", "global_model", "news_request"))[order])
    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5", scale=1.3, kinds=kinds, **changed))
    assert (found.other_bits, found.agreed) == ((), 1)


def test_real_runs_of_one_configuration_agree_and_a_touched_one_is_told(tmp_path):
    small = [
        "data.dataset=synthetic",
        "run.nodes=6",
        "run.cycles=3",
        "model.name=logistic",
        "faults.crash_cycle=2",
        "faults.crash_hubs=all",
    ]
    for name in ("a", "b"):
        execute(small, tmp_path / f"{name}.h5")
    assert compare(tmp_path / "a.h5", tmp_path / "b.h5").agreed == 1
    shutil.copy(tmp_path / "b.h5", tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        file["cycles/messages_in"][1, 3, 0] += 1
    damaged, *_ = compare(tmp_path / "a.h5", tmp_path / "c.h5").broken
    assert damaged.endswith("/cycles/messages_in does not have the SHA-256 that was written with it")
    with h5py.File(tmp_path / "c.h5", "a") as file:
        seal(file)
    (difference,) = compare(tmp_path / "a.h5", tmp_path / "c.h5").other_bits
    assert difference.endswith("first in cycles/messages_in, from cycle 2 on")


# What is read.


def test_everything_that_is_printed_fits_into_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for side in ("a", "b"):
        seeds(Path(side), 2, scale=1.0 + (side == "b"), lift=-0.1 * (side == "b"))
    invalid_run = write(Path("b/9.h5"), config(run__seed=9), verdict="INVALID")
    assert main(["compare", "a", "b", "-q"]) == REGRESSED and invalid_run.exists()
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_copy_does_not_count_twice(tmp_path):
    a = seeds(tmp_path / "a", 2)
    shutil.copytree(a, tmp_path / "b")
    shutil.copy(tmp_path / "b" / "1.h5", tmp_path / "b" / "again.h5")
    found = compare(a, tmp_path / "b", Rules())
    assert [(pair.n_a, pair.n_b) for pair in found.pairs] == [(2, 2)] and found.agreed == 2
    assert any("is the same run as" in text for text in found.left_out)
