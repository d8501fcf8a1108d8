"""Stopping and going on: time limits, STOP files, kills; a run that was interrupted gives the same bits as one that was not."""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace

import drawn
import pytest
from compare import assert_same, tables
from hypothesis import given, settings
from hypothesis import strategies as st
from launch import finish, healmpi, healmpi_mpi, mpirun, python, rank_processes, sets, start, wait_until
from simulate import execute, in_pieces

from healmpi.config import Config
from healmpi.hosting import checkpoint, stopping
from healmpi.launch import run
from healmpi.launch import suite as suites
from healmpi.results import assemble
from healmpi.results.folder import PartsFolder
from healmpi.settings import UsageError

pytestmark = pytest.mark.slow

FLAVOURS = ["openmpi", "mpich"]

HARD = [  # everything that has a state: groups, optimizers, loss, churn, crashes inside a cycle
    *drawn.TINY, "run.nodes=12", "run.cycles=14", "run.warmup_cycles=2", "elevator.hub_count=3", "topology.view_size=6",
    "learner.optimizer=adam", "faults.loss_fraction=0.1", "faults.churn_fraction=0.1", "faults.churn_first_cycle=2",
    "faults.churn_last_cycle=12", 'faults.plan=[{cycle = 6, hubs = "one", point = "in_reduction"}, {cycle = 9, fraction = 0.2}]',
]  # fmt: skip


@pytest.mark.parametrize("algorithm", ["heal", "gaia", "gossip", "epidemic", "fedlay"])
def test_an_interrupted_run_gives_the_same_bits(algorithm, tmp_path):
    overrides = [*HARD, f"run.algorithm={algorithm}"]
    assert_same(tables(execute(overrides, tmp_path / "whole.h5")), tables(in_pieces(overrides, tmp_path, [-1, 1, 5, 6, 7, 13])), algorithm)
    assert not (tmp_path / "pieces.h5.parts").exists(), "nothing is left of the checkpoints"


@settings(max_examples=15)
@given(st.integers(0, 10**9), st.integers(1, 7))
def test_whatever_the_configuration_and_the_cycle(tmp_path_factory, number, cycle):
    folder = tmp_path_factory.mktemp("run")
    overrides = drawn.pair(number)
    assert_same(tables(execute(overrides, folder / "whole.h5")), tables(in_pieces(overrides, folder, [cycle])), str(overrides))


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_stopped_by_a_file_and_resumed_under_mpirun(flavour, tmp_path):
    arguments = ["run", *sets(*HARD), "-o", "part.h5", "--resume"]
    (tmp_path / "part.h5.stop").touch()
    stopped = healmpi_mpi(flavour, 2, *arguments, cwd=tmp_path)
    assert stopped.code == 75, (stopped.code, stopped.err)
    assert "healmpi: stopped after cycle -1: part.h5.stop is there" in stopped.err and "--resume goes on" in stopped.err
    left = sorted(path.name for path in (tmp_path / "part.h5.parts").iterdir() if path.name != "lock")
    assert left == ["checkpoint.json", *(f"rank-0000{rank}.h5" for rank in range(2)), *(f"state-1-rank-0000{rank}" for rank in range(2))]

    again = healmpi_mpi(flavour, 2, *arguments, cwd=tmp_path)
    assert again.code == 75 and "going on after 1 of 16 cycles" in again.out and "after cycle 0" in again.err
    (tmp_path / "part.h5.stop").unlink()
    if flavour == "openmpi":
        mine, other_rank = (PartsFolder(tmp_path / "part.h5").state(2, rank) for rank in range(2))
        aside = mine.rename(tmp_path / "aside")
        other_rank.rename(mine)
        swapped = healmpi_mpi(flavour, 2, *arguments, cwd=tmp_path)
        assert swapped.code == 2 and swapped.err.count("state-2-rank-00000") == 1, "all ranks refuse, and one speaks"
        mine.rename(other_rank)
        aside.rename(mine)
    else:
        other = healmpi_mpi(flavour, 3, *arguments, cwd=tmp_path)
        assert other.code == 2 and "the number of ranks must be 2" in other.err
    ended = healmpi_mpi(flavour, 2, *arguments, cwd=tmp_path)
    assert ended.code == 0 and "VALID" in ended.out.splitlines(), ended.err
    assert_same(tables(execute(HARD, tmp_path / "whole.h5")), tables(tmp_path / "part.h5"), flavour)
    once_more = healmpi_mpi(flavour, 2, *arguments, cwd=tmp_path)
    assert once_more.code == 0 and "VALID" in once_more.out.splitlines() and "cycle/s" not in once_more.err, "it is done: nothing is run"


@pytest.mark.mpi
def test_killed_and_resumed_from_the_last_periodic_checkpoint(tmp_path):
    overrides = [*HARD, "run.cycles=160", "faults.churn_last_cycle=120", "results.audit=off", "results.flush_every=1"]
    arguments = ["run", *sets(*overrides), "-o", "part.h5", "--resume", "--checkpoint-every", "20"]
    process = start([*mpirun("openmpi", 2), "-m", "mpi4py", "-m", "healmpi", *arguments], tmp_path)
    index = tmp_path / "part.h5.parts" / "checkpoint.json"
    deadline = time.monotonic() + 120
    while not (index.exists() and json.loads(index.read_text())["cycle"] >= 40):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    # The ranks themselves: when the launcher alone dies, they may come to their end first.
    for pid in [*rank_processes(process, tmp_path), process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    finish(process, 20)
    wait_until(lambda: not rank_processes(process, tmp_path), 30, "all ranks have ended")
    assert len(list(index.parent.glob("state-*-rank-00000"))) <= 2, "old ones go"
    resumed = healmpi_mpi("openmpi", 2, *arguments, cwd=tmp_path)
    assert resumed.code == 0 and "going on after" in resumed.out, resumed.err
    assert_same(tables(execute(overrides, tmp_path / "whole.h5")), tables(tmp_path / "part.h5"), "killed")


def test_a_time_limit_ends_the_run_before_it(tmp_path):
    endless = sets(*drawn.TINY, "run.cycles=1000000", "results.views_every=0", "results.audit=off")
    began = time.monotonic()
    done = healmpi("run", *endless, "-o", "x.h5", "--time-limit", "12", cwd=tmp_path, timeout_s=60)
    assert done.code == 75 and "the time limit is near" in done.err and time.monotonic() - began < 40
    assert (tmp_path / "x.h5.parts" / "checkpoint.json").exists()
    soon = str(int(time.time()) + 38)
    done = healmpi("run", *endless, "-o", "x.h5", "--resume", cwd=tmp_path, timeout_s=60, SLURM_JOB_END_TIME=soon)
    assert done.code == 75 and "going on after" in done.out


def test_a_suite_stops_and_goes_on_by_itself(tmp_path):
    (tmp_path / "s.toml").write_text(
        "[base.run]\nnodes = 6\ncycles = 40\n[base.data]\ndataset = 'synthetic'\n[axes]\nalgorithm = ['heal', 'ring']\nseed = [1, 2]\n"
    )
    command = ["suite", "s.toml", "-o", "out"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/heal-s2.h5.stop").touch()
    before = healmpi(*command, cwd=tmp_path)
    assert before.code == 75 and "stopped before heal-s2: out/heal-s2.h5.stop is there" in before.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.h5")) == ["heal-s1.h5", "ring-s1.h5"]
    (tmp_path / "out/heal-s2.h5.stop").unlink()
    (experiment,) = suites.load(str(tmp_path / "s.toml")).only(["heal-s2"]).experiments
    flipped(stopped(experiment.config, tmp_path / "out/heal-s2.h5").state(3, 0))
    damaged = healmpi(*command, cwd=tmp_path)
    assert damaged.code == 1 and "4 experiments: 3 valid, 0 invalid, 1 failed" in damaged.out, "the others are run"
    assert "healmpi: heal-s2 has failed: out/heal-s2.h5.parts/state-3-rank-00000 cannot be resumed from: it is damaged" in damaged.err
    assert "--resume" not in damaged.err and "--force starts again" in damaged.err
    done = healmpi(*command, "--force", cwd=tmp_path)
    assert done.code == 0 and "3 of them done already" in done.out, done.err
    (tmp_path / "out/STOP").touch()
    assert healmpi(*command, "--force", "--set", "run.cycles=41", cwd=tmp_path).code == 75


def test_resume_refuses_what_is_not_the_same_run(tmp_path):
    base = sets(*drawn.TINY, "run.cycles=4")
    (tmp_path / "x.h5.stop").touch()
    assert healmpi("run", *base, "-o", "x.h5", cwd=tmp_path).code == 75
    (tmp_path / "x.h5.stop").unlink()
    other = healmpi("run", *base, "--set", "run.seed=2", "-o", "x.h5", "--resume", cwd=tmp_path)
    assert other.code == 2 and "the configuration's hash must be" in other.err and "--force starts again" in other.err
    plain = healmpi("run", *base, "-o", "x.h5", cwd=tmp_path)
    assert plain.code == 2 and "--resume goes on with it" in plain.err and "--force discards" in plain.err
    assert healmpi("run", *base, "-o", "x.h5", "--force", cwd=tmp_path).code == 0


def refused(config, out) -> str:
    """The sentence with which it does not go on; and it would start again with --force."""
    with pytest.raises(run.Refused) as refusal:
        run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, lambda progress: None, run.Options(resume=True))
    assert str(refusal.value).endswith("; --force starts again")
    return str(refusal.value)


def stopped(config, out) -> PartsFolder:
    """What a run leaves that was stopped after its third cycle."""
    stop = out.with_name("stop")
    options = run.Options(resume=True, limits=stopping.Limits(files=(stop,)))
    with pytest.raises(stopping.Stopped):
        run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, lambda now: stop.touch() if now.cycle == 3 else None, options)
    stop.unlink()
    return PartsFolder(out)


def flipped(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {"flipped": flipped, "gone": lambda path: path.unlink(), "empty": lambda path: path.write_bytes(b"")}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["state", "index", "part"])
def test_damage_is_refused_in_a_sentence_and_force_starts_again(what, damage, tmp_path):
    config, out = Config.load(None, [*drawn.TINY, "run.cycles=5"]).resolve(), tmp_path / "x.h5"
    folder = stopped(config, out)
    path = {"state": folder.state(3, 0), "index": folder.index, "part": folder.part(0)}[what]
    DAMAGES[damage](path)
    seen: list = []
    forced = run.Options(force=True, resume=True)
    if what == "index" and not path.exists():
        forced = run.Options(resume=True)  # nothing was saved: it starts again by itself
    elif what == "part" and path.exists() and path.stat().st_size:
        return  # a bit of a part is the business of the part
    else:
        assert refused(config, out).startswith(str(path))
    run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, seen.append, forced)
    assert [one.cycle for one in seen] == [1, 2, 3, 4, 5] and not folder.path.exists()


def prepared_state(folder: PartsFolder, host: dict) -> None:
    """A state with another host, and an index with its digest."""
    index = checkpoint.find(folder.out)
    state = checkpoint.read_state(folder.out, index, 0) | {"host": host}
    digest = checkpoint.write_state(folder.out, index.step, 0, state)
    checkpoint.commit(folder.out, replace(index, states=(digest,)))


def test_force_gets_past_a_state_that_no_node_can_take(tmp_path):
    config, out = Config.load(None, [*drawn.TINY, "run.cycles=4"]).resolve(), tmp_path / "x.h5"
    folder = stopped(config, out)
    prepared_state(folder, {"tick": 5})
    with pytest.raises(run.RunFailed, match=r"x.h5.parts cannot be gone on from: rank 0: KeyError"):
        run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, lambda progress: None, run.Options(resume=True))
    seen: list = []
    run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, seen.append, run.Options(force=True, resume=True))
    assert [one.cycle for one in seen] == [1, 2, 3, 4] and not folder.path.exists()


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
@pytest.mark.parametrize("name", ["lock", "checkpoint.json", "rank-00000.h5", "state-3-rank-00000"])
def test_force_gets_past_whatever_is_called_like_a_file_of_ours_and_leads_nowhere(name, kind, tmp_path):
    config, out = Config.load(None, [*drawn.TINY, "run.cycles=4"]).resolve(), tmp_path / "x.h5"
    folder, precious = stopped(config, out), tmp_path / "precious"
    path = folder.path / name
    path.rename(precious)
    content = precious.read_bytes()
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "link": lambda: path.symlink_to(precious)}[kind]()
    if kind == "folder":
        (path / "inside").write_text("x")
    if name == "lock":
        with pytest.raises(run.Refused, match="it cannot be written"):
            run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, lambda progress: None, run.Options(resume=True))
    else:
        assert str(path) in refused(config, out)
    options = run.Options(force=True, resume=True)
    run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, lambda progress: None, options)
    assert precious.read_bytes() == content and out.exists() and not folder.path.exists()


def test_a_link_in_the_place_of_the_folder_is_refused_and_force_removes_the_link_alone(tmp_path):
    config, out = Config.load(None, [*drawn.TINY, "run.cycles=4"]).resolve(), tmp_path / "x.h5"
    other = stopped(config, tmp_path / "y.h5")
    PartsFolder(out).path.symlink_to(other.path)
    with pytest.raises(run.Refused, match="is a link, and must be a folder of its own"):
        run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, lambda progress: None, run.Options(resume=True))
    before = sorted(path.name for path in other.path.iterdir())
    run.execute(run.prepare(config, run.Ranks()), run.Ranks(), out, lambda progress: None, run.Options(force=True))
    assert sorted(path.name for path in other.path.iterdir()) == before and not PartsFolder(out).path.is_symlink()


def test_a_full_disk_is_told_with_the_file_and_the_checkpoint_before_is_gone_on_from(tmp_path):
    wide = ["data.dataset=synthetic", "data.samples=60", "data.features=20000", "model.name=logistic", "run.nodes=12", "run.cycles=4"]
    base = ["run", *sets(*wide), "-o", "x.h5", "--resume", "--checkpoint-every", "1"]
    limited = ["bash", "-c", 'ulimit -f 1500; exec "$@"', "-", python(), "-m", "healmpi", *base]
    # After the first cycle, in which all are hubs, they share one model: that state is small.
    full = finish(start(limited, tmp_path), 60)
    assert full.code == 1 and "Traceback" not in full.err, full.err
    words = ("rank 0: OSError", "File too large", "the checkpoint after cycle 1 is kept, and --resume", "x.h5.parts/state-2-rank-00000")
    assert all(word in full.err for word in words), full.err
    assert not list((tmp_path / "x.h5.parts").glob("*.new")), "nothing is left of what could not be written"
    done = healmpi(*base, cwd=tmp_path)
    assert done.code == 0 and "going on after 1 of 4" in done.out, done.err
    assert_same(tables(execute(wide, tmp_path / "whole.h5")), tables(tmp_path / "x.h5"), "after a full disk")


def test_force_with_resume_replaces_other_runs_and_goes_on_with_this_one(tmp_path):
    base = ["run", *sets(*drawn.TINY, "run.cycles=4"), "-o", "x.h5", "--resume", "--force"]
    (tmp_path / "x.h5.stop").touch()
    assert healmpi(*base, cwd=tmp_path).code == 75
    again = healmpi(*base, cwd=tmp_path)
    assert again.code == 75 and "going on after 1 of 4" in again.out
    other = healmpi(*base, "--set", "run.seed=2", cwd=tmp_path)
    assert other.code == 75 and "going on" not in other.out


def test_a_run_that_was_merged_before_its_end_still_goes_on(tmp_path):
    base = ["run", *sets(*drawn.TINY, "run.cycles=4"), "-o", "x.h5"]
    (tmp_path / "x.h5.stop").touch()
    assert healmpi(*base, cwd=tmp_path).code == 75
    (tmp_path / "x.h5.stop").unlink()
    merged = healmpi("merge", "x.h5", cwd=tmp_path)
    assert merged.code == 0 and "--resume" in merged.out and (tmp_path / "x.h5").exists()
    done = healmpi(*base, "--resume", cwd=tmp_path)
    assert done.code == 0 and "going on after 1 of 4" in done.out and "VALID" in done.out.splitlines(), done.err


def test_a_run_whose_merging_failed_is_merged_and_not_run_again(tmp_path, monkeypatch):
    ranks, config, out = run.Ranks(), Config.load(None, [*drawn.TINY, "run.cycles=4"]).resolve(), tmp_path / "x.h5"
    with monkeypatch.context() as patch:
        patch.setattr(assemble, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(run.RunFailed, match="No space left"):
            run.execute(run.prepare(config, ranks), ranks, out, lambda progress: None)
    seen = []
    run.execute(run.prepare(config, ranks), ranks, out, seen.append, run.Options(resume=True))
    assert out.exists() and seen == [], "nothing was run"


def test_an_empty_or_unreadable_folder_of_parts_is_in_nobodys_way(tmp_path):
    parts = tmp_path / "x.h5.parts"
    parts.mkdir()
    (parts / "lock").touch()
    assert healmpi("run", *sets(*drawn.TINY, "run.cycles=2"), "-o", "x.h5", cwd=tmp_path).code == 0
    parts.mkdir()
    (parts / "rank-00000.h5").write_bytes(b"rubbish")
    (tmp_path / "x.h5").unlink()
    assert healmpi("run", *sets(*drawn.TINY, "run.cycles=2"), "-o", "x.h5", "--resume", cwd=tmp_path).code == 0


def test_resume_starts_where_there_is_nothing_and_again_where_only_parts_are(tmp_path):
    overrides = [*drawn.TINY, "run.cycles=4"]
    assert healmpi("run", *sets(*overrides), "-o", "a.h5", "--resume", cwd=tmp_path).code == 0
    parts = tmp_path / "b.h5.parts"
    (tmp_path / "b.h5.stop").touch()
    assert healmpi("run", *sets(*overrides), "-o", "b.h5", cwd=tmp_path).code == 75
    (tmp_path / "b.h5.stop").unlink()
    for path in (*parts.glob("state-*"), parts / "checkpoint.json"):
        path.unlink()
    done = healmpi("run", *sets(*overrides), "-o", "b.h5", "--resume", cwd=tmp_path)
    assert done.code == 0 and "going on" not in done.out
    assert_same(tables(tmp_path / "a.h5"), tables(tmp_path / "b.h5"), "started again")


# Time limits, without running anything.


@pytest.mark.parametrize("text, seconds", [("90", 90), ("1.5h", 5400), ("30m", 1800), ("01:02:03", 3723), ("1-00:00:10", 86410)])
def test_time_spans(text, seconds):
    assert stopping.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1:2", "-5", "0", "5", "10:99:00", "5w"])
def test_bad_time_spans_are_refused(text):
    with pytest.raises(UsageError, match="--time-limit"):
        stopping.seconds(text)


def test_the_earlier_of_the_limit_and_the_jobs_end_counts():
    now, begun = time.time(), time.monotonic()
    assert stopping.deadline(None, {}) is None
    assert stopping.deadline("100", {"SLURM_JOB_END_TIME": str(int(now) + 60)}) == pytest.approx(begun + 30, abs=2)
    assert stopping.deadline("10", {"SLURM_JOB_END_TIME": str(int(now) + 60)}) == pytest.approx(begun + 10, abs=2)


def test_a_run_stops_while_there_is_time_for_a_cycle_and_for_saving():
    stopper = stopping.Stopper(stopping.Limits(deadline=time.monotonic() + 100), cycles=10)
    assert stopper.decide(1) == stopping.GO_ON
    stopper.saved(30)
    assert stopper.decide(2) == stopping.GO_ON
    stopper.saved(50)
    assert stopper.decide(3) == stopping.STOP and stopper.reason
    assert stopper.decide(10) == stopping.GO_ON, "the last cycle is the end anyway"


def test_every_so_many_cycles_it_saves():
    stopper = stopping.Stopper(stopping.Limits(every=3), cycles=9)
    assert [stopper.decide(cycle) for cycle in range(1, 10)] == [0, 0, 1, 0, 0, 1, 0, 0, 0]
