"""Figures and reports of real runs, in a real browser, from the checkout and from a wheel; comparisons and their exit codes."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `analysis` is not installed")

from analysis_browser import browser, look
from analysis_sample import CYCLES, NODES, config, tables, write, write_parts
from healmpi_analysis.cli import main
from healmpi_analysis.export import export
from healmpi_analysis.figures import accuracy, all_pictures, models, recovery
from healmpi_analysis.figures.style import Palette, house_style
from healmpi_analysis.groups import group_records
from healmpi_analysis.records import read_record, read_records
from healmpi_analysis.report import MANIFEST, PAGE, make_report
from healmpi_analysis.scenario import FAULT_FREE
from healmpi_analysis.sources import find_sources
from launch import ROOT, finish, healmpi_mpi, sets, start

pytestmark = pytest.mark.slow

SMALL = sets(
    "run.nodes=24", "run.cycles=16", "data.dataset=synthetic", "data.samples=600", "model.name=logistic", "learner.optimizer=sgd",
    "learner.learning_rate=0.3", "evaluation.every=2", "results.save_models=true",
)  # fmt: skip
CRASH = sets("faults.crash_hubs=all", "faults.crash_cycle=8")
CHURN = sets("faults.churn_fraction=0.1", "faults.churn_first_cycle=6", "faults.churn_last_cycle=9")
RUNS = {
    "no fault 1.h5": [],
    "no fault 2.h5": sets("run.seed=2"),
    "crash 1.h5": CRASH,
    "crash 2.h5": [*CRASH, *sets("run.seed=2")],
    "churn.h5": CHURN,
    "overlay.h5": sets("run.algorithm=elevator"),
}

EVERY_FIGURE = {
    "accuracy_classes",
    "accuracy_own",
    "accuracy_cycles",
    "accuracy_scenarios",
    "accuracy_seconds",
    "accuracy_bytes",
    "time_to_accuracy",
    "recovery",
    "hub_membership",
    "overlay",
    "topology",
    "in_degree",
    "traffic_cycles",
    "traffic_kinds",
    "load",
    "time_ranks",
    "scaling_strong",
    "distinct_models",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Real runs of healmpi, in one process, and one on two ranks."""
    made = tmp_path_factory.mktemp("runs with a space")
    script = "import json, sys; from healmpi.launch.cli import main\nfor given in json.loads(sys.argv[1]):\n    main(given)"
    commands = [["run", *SMALL, *more, "-o", str(made / name)] for name, more in RUNS.items()]
    done = finish(start([sys.executable, "-c", script, json.dumps(commands)], made), 200)
    assert all((made / name).exists() for name in RUNS), done.err
    done = healmpi_mpi("openmpi", 2, "run", *SMALL, "-o", made / "two ranks.h5", cwd=made)
    assert done.code == 0, done.err
    return made


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory) -> Path:
    """The report of the real runs."""
    out = tmp_path_factory.mktemp("out") / "a report"
    assert main([str(folder), "-o", str(out), "-q", "--detailed", "3"]) == 0
    return out


def kinds_of(pictures: Path) -> set[str]:
    return {re.sub(r"-\d+$", "", path.stem) for path in pictures.glob("*.png")}


def test_every_figure_is_made_of_real_runs(report):
    assert kinds_of(report / "figures") == EVERY_FIGURE
    for png in (report / "figures").glob("*.png"):
        assert png.read_bytes().startswith(b"\x89PNG") and png.with_suffix(".svg").read_text().startswith("<?xml")


def test_every_table_is_there_in_three_forms(report):
    names = {"accuracy", "time_to_accuracy", "traffic", "load", "time", "recovery", "strong_scaling", "consensus", "class_accuracy", "runs"}
    assert {path.stem for path in (report / "tables").iterdir()} == names
    assert {path.suffix for path in (report / "tables").iterdir()} == {".csv", ".md", ".tex"}


@pytest.mark.parametrize("width_px", [390, 1280])
def test_the_page_is_whole_and_readable_in_a_browser(report, tmp_path, width_px):
    with browser(tmp_path / "profile") as opened:
        seen = look(opened, report / "index.html", width_px)
    assert seen["log"] == []
    assert seen["images"] == len(list((report / "figures").glob("*.png"))) and seen["broken"] == 0
    assert seen["outside"] == []
    assert seen["loose"] == [] and seen["scroll"] <= seen["width"], "the page scrolls sideways"
    assert seen["smallest_px"] >= 12
    # Figures are set in 9 pt and 5.2 in wide: at this width a letter is still some 8 px high.
    assert seen["narrowest_image"] >= 340
    assert seen["headings"] == ["Verdicts", "What was run", "Figures", "Tables", "Provenance"]


def test_the_page_needs_nothing_from_outside(report):
    text = (report / "index.html").read_text()
    assert "<script" not in text and not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_the_page_tells_what_was_run_and_where_it_comes_from(report, folder):
    text = (report / "index.html").read_text()
    scenarios = {read_record(folder / name).scenario for name in RUNS}
    assert FAULT_FREE in scenarios and len(scenarios) == 3
    for piece in ("All 7 runs are VALID", *scenarios, "faults.churn_fraction", "mpi_library", "crash 1.h5"):
        assert piece in text, piece


def test_the_numbers_agree_with_what_healmpi_says_itself(folder):
    for path in find_sources([folder]):
        record = read_record(path)
        with h5py.File(path) as file:
            said = {name: value[()] for name, value in file["summary"].items()}
        series = record.series
        assert series["messages"].mean() == pytest.approx(said["messages_per_cycle"])
        assert series["bytes"].mean() == pytest.approx(said["bytes_per_cycle"])
        assert series["live"].iloc[-1] == said["live_nodes"] and series["hubs"].iloc[-1] == said["hubs"]
        assert series["wall_elapsed"].iloc[-1] == pytest.approx(said["wall_s"], rel=0.1, abs=0.05)
        if "accuracy_mean" in said:
            assert record.judged.iloc[-1] == pytest.approx(said["accuracy_mean"])
            assert series["accuracy_std"].dropna().iloc[-1] == pytest.approx(said["accuracy_std"], abs=1e-7)
            assert series["model_messages"].mean() == pytest.approx(said["model_messages_per_cycle"])


def test_a_run_that_was_killed_is_reported(tmp_path):
    out = tmp_path / "killed.h5"
    process = start(
        [sys.executable, "-m", "healmpi", "run", *SMALL, *sets("run.cycles=1000000", "results.flush_every=5"), "-o", out], tmp_path
    )
    seen = ""
    while not re.search(r"([6-9]|\d\d)/1000000", seen):
        letter = process.stderr.read(1)
        assert letter, seen
        seen += letter
    os.kill(process.pid, signal.SIGKILL)
    finish(process, 30)
    assert not out.exists()
    record = read_record(out.with_name("killed.h5.parts"))
    assert len(record.series) >= 5 and len(record.series) % 5 == 0  # what was flushed
    assert record.series["live"].tolist() == [24] * len(record.series)
    made = make_report([tmp_path], tmp_path / "report", figures=False)
    assert made.used == 1 and "No run is VALID" in made.page.read_text() and "not merged and not judged" in made.page.read_text()


# Files of other algorithms, and files that are not what they should be.


def test_without_hubs_there_are_no_figures_of_hubs(tmp_path):
    settings = config(run__algorithm="gossip", faults__crash_hubs="none", run__seed=1)
    path = write(tmp_path / "gossip.h5", settings, hubs=False, hub_count=0, recorded=[0])
    names = {picture.name for picture in all_pictures(group_records([read_record(path)]))}
    assert names >= {"accuracy_cycles", "overlay", "topology", "in_degree", "traffic_cycles", "time_ranks"}
    assert not names & {"hub_membership", "load", "recovery"}


def test_without_views_there_is_no_graph_and_without_accuracy_no_learning(tmp_path):
    accuracy = np.full_like(tables()["accuracy"], np.nan)
    path = write(tmp_path / "a.h5", recorded=[], accuracy=accuracy, model_crc32=np.zeros((6, NODES), np.uint32))
    names = {picture.name for picture in all_pictures(group_records([read_record(path)]))}
    assert names == {"recovery", "hub_membership", "traffic_cycles", "traffic_kinds", "load", "time_ranks"}


def test_many_groups_are_spread_over_figures(tmp_path):
    for fanout in range(1, 18):
        write(tmp_path / f"{fanout}.h5", config(rule__fanout=fanout))
    records, _ = read_records(find_sources([tmp_path]))
    pictures = [picture.name for picture in all_pictures(group_records(records), detailed=1)]
    assert [name for name in pictures if name.startswith("accuracy_cycles")] == [f"accuracy_cycles-{place}" for place in (1, 2)]
    assert pictures.count("overlay") == 1


def test_what_cannot_be_read_or_is_not_valid_is_named_and_left_out(tmp_path, capsys):
    runs = tmp_path / "runs"
    runs.mkdir()
    write(runs / "good.h5")
    write(runs / "bad.h5", config(run__seed=2), verdict="INVALID")
    write(runs / "newer.h5", version="2.0")
    (runs / "empty.h5").write_bytes(b"")
    assert main([str(runs), "-o", str(tmp_path / "out"), "-q", "--no-figures"]) == 0
    told = capsys.readouterr()
    assert "1 of 2 runs, 2 files cannot be read" in told.out and told.err.count("left out") == 2
    text = (tmp_path / "out" / "index.html").read_text()
    assert (
        "1 of 2 runs are not VALID and are left out" in text
        and "rank 1 left no part file &lt;&amp;&gt;" in text
        and "has schema version 2.0" in text
    )
    assert main([str(runs), "-o", str(tmp_path / "out"), "-q", "--no-figures", "--include-invalid"]) == 0
    assert "and are in figures and tables" in (tmp_path / "out" / "index.html").read_text()


def test_a_second_report_removes_what_the_first_wrote_and_nothing_else(tmp_path):
    out, path = tmp_path / "out", write(tmp_path / "a.h5")
    make_report([path], out, detailed=1)
    (out / "figures" / "mine.png").write_bytes(b"")
    assert (out / "figures" / "overlay.png").exists() and "figures/overlay.png" in (out / MANIFEST).read_text()
    make_report([path], out, figures=False)
    assert not (out / "figures" / "overlay.png").exists() and (out / "figures" / "mine.png").exists()


# The folder.


def everything_in(folder: Path) -> dict[str, bytes]:
    """All files by name, the hidden ones and folders too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


STOPPED = """
import os, resource, signal, sys
from pathlib import Path
from healmpi_analysis import cli, report
how = sys.argv[1]
def stop(*_):
    if how == "signal":
        os.kill(os.getpid(), signal.SIGINT)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
    return "Tables are next."
report.run_table = lambda made, *rest, last=report.run_table: (stop(), last(made, *rest))[1]
try:
    sys.exit(cli.main(sys.argv[2:]))
except KeyboardInterrupt:
    sys.exit(130)
"""
"""A report that is interrupted, or finds the disk full, on its way; files beyond 9 kB cannot be written then."""


@pytest.mark.parametrize(("how", "code"), [("signal", 130), ("full", 2)])
@pytest.mark.parametrize("before", [True, False], ids=["over a finished report", "where nothing was"])
def test_a_report_that_is_stopped_leaves_the_old_one_as_it_was_and_no_litter(tmp_path, how, code, before):
    path, out = write(tmp_path / "a.h5"), tmp_path / "deep" / "out"
    if before:
        make_report([path], out, figures=False, title="old")
        (out / "mine.txt").write_text("mine")
    was = everything_in(tmp_path)
    command = [sys.executable, "-c", STOPPED, how, str(path), "-o", str(out), "-q", "--no-figures"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert everything_in(tmp_path) == was
    assert how == "signal" or (done.stderr.count("\n") == 1 and "cannot be written" in done.stderr)


def test_no_signal_comes_between_the_files_of_a_folder(tmp_path, monkeypatch):
    write(tmp_path / "a.h5")
    real, renamed = os.replace, []

    def rename(*names):
        renamed.append(names)
        if len(renamed) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        real(*names)

    monkeypatch.setattr("healmpi_analysis.folder.os.replace", rename)
    with pytest.raises(KeyboardInterrupt):
        make_report([tmp_path / "a.h5"], tmp_path / "out", figures=False)
    manifest = (tmp_path / "out" / MANIFEST).read_text().splitlines()
    assert PAGE in manifest and all((tmp_path / "out" / name).is_file() for name in manifest)
    assert not list((tmp_path / "out").glob(f"{MANIFEST}?*"))


def test_a_link_stays_a_link_and_the_current_folder_is_one_like_others(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    make_report([path], tmp_path / "link", figures=False)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / PAGE).is_file()
    monkeypatch.chdir(tmp_path / "real")
    (tmp_path / "real" / "mine.txt").write_text("mine")
    for title in ("one", "two"):
        make_report([path], Path("."), figures=False, title=title)
    assert "<h1>two</h1>" in (tmp_path / "real" / PAGE).read_text() and Path("mine.txt").read_text() == "mine"


def in_the_way(out: Path, what: str) -> None:
    if what == "page":
        (out / PAGE).write_text("mine")
    elif what == "table":
        (out / "tables").mkdir()
        (out / "tables" / "runs.csv").write_text("mine")
    elif what == "link":
        (out.parent / "elsewhere").mkdir()
        (out / "tables").symlink_to(out.parent / "elsewhere")
    else:
        (out / "tables").write_text("mine")


@pytest.mark.parametrize("what", ["page", "table", "link", "file"])
def test_what_healmpi_report_did_not_write_is_never_replaced(tmp_path, capsys, what):
    path, out = write(tmp_path / "a.h5"), tmp_path / "out"
    out.mkdir()
    in_the_way(out, what)
    was = everything_in(tmp_path)
    assert main([str(path), "-o", str(out), "-q", "--no-figures"]) == 2
    assert "it is not replaced; -o names another folder" in capsys.readouterr().err
    assert everything_in(tmp_path) == was


def test_a_link_to_nothing_is_no_folder(tmp_path, capsys):
    path = write(tmp_path / "a.h5")
    (tmp_path / "out").symlink_to("gone")
    assert main([str(path), "-o", str(tmp_path / "out"), "-q"]) == 2
    assert "is a link to nothing" in capsys.readouterr().err


def test_without_anything_to_read_no_folder_is_made(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"")
    assert main([str(tmp_path / "a.h5"), "-o", str(tmp_path / "out"), "-q"]) == 2
    assert not (tmp_path / "out").exists()


# What the user has set for matplotlib.


USERS = """
text.usetex: True
savefig.transparent: True
font.weight: bold
font.family: serif
axes.grid.axis: x
axes.prop_cycle: cycler(color=["red"])
axes.facecolor: yellow
path.sketch: (1, 100, 2)
savefig.bbox: tight
savefig.dpi: 30
svg.fonttype: none
xtick.direction: in
axes.xmargin: 0.4
backend: nonsense
no.such.key: 1
"""


def first_picture(path: Path) -> bytes:
    made = next(all_pictures(group_records([read_record(path)])))
    return made.png() + made.svg()


DRAW = f"""
import hashlib, sys
from healmpi_analysis.figures import all_pictures
from healmpi_analysis.groups import group_records
from healmpi_analysis.records import read_record
{inspect.getsource(first_picture)}
print(hashlib.sha256(first_picture(sys.argv[1])).hexdigest())
"""


@pytest.mark.parametrize(
    ("rc", "variables"),
    [(USERS.encode(), {"MPLBACKEND": "nonsense"}), (b"font.weight: b\xe9ld\n", {"MPLCONFIGDIR": "."})],
    ids=["another look", "no text"],
)
def test_figures_are_the_same_bytes_whatever_the_user_has_set(tmp_path, rc, variables):
    (tmp_path / "matplotlibrc").write_bytes(rc)
    path = write(tmp_path / "a.h5")
    done = subprocess.run(
        [sys.executable, "-c", DRAW.replace(": Path", ""), path], cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == hashlib.sha256(first_picture(path)).hexdigest()


def test_a_style_of_the_calling_program_changes_no_figure_and_stays(tmp_path):
    import matplotlib

    (group,) = group_records([read_record(write(tmp_path / "a.h5"))])

    def first() -> bytes:
        return next(all_pictures([group])).svg()

    plain = first()
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.grid.axis": "x", "figure.facecolor": "red"}):
        assert first() == plain and matplotlib.rcParams["font.size"] == 30


# What figures show.


def lines_of(picture) -> dict[str, np.ndarray]:
    """The data of all lines with a name, of all axes."""
    lines = [line for axes in picture.figure.axes for line in axes.get_lines()]
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in lines if not str(line.get_label()).startswith("_")}


def made(maker, groups) -> list:
    with house_style():
        return list(maker(groups, Palette(tuple(group.variant for group in groups))))


def test_the_share_of_different_models_is_of_those_that_were_looked_at(tmp_path):
    crc = tables()["model_crc32"]
    crc[:, 2:] = 0
    (picture,) = made(models.different, group_records([read_record(write(tmp_path / "a.h5", model_crc32=crc))]))
    assert lines_of(picture)["heal (n=1)"][:, 1].tolist() == [100.0] * CYCLES
    assert "only a sample of the nodes was judged" in picture.caption


def test_a_crash_at_the_start_of_a_cycle_is_drawn_before_the_values_of_its_end(tmp_path):
    group = group_records([read_record(write(tmp_path / "a.h5"))])
    (picture,) = made(accuracy.over_cycles, group)
    (mark,) = [line.get_xdata()[0] for line in picture.figure.axes[0].get_lines() if len(set(line.get_xdata())) == 1]
    assert 2 < mark < 2.5
    (picture,) = made(accuracy.over_bytes, group)
    (mark,) = [line.get_xydata()[0] for line in picture.figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    sent = np.array([0, 53, 106, 142]) / 1e4  # MB at the ends of cycles 0 to 3
    assert sent[2] < mark[0] < sent[3] and 0.7 < mark[1] < 0.9


def test_never_has_a_column_of_its_own(tmp_path):
    hub = np.zeros((CYCLES, NODES), np.int8)
    hub[:2, 0] = 1
    paths = [write(tmp_path / "1.h5", is_hub=hub), write(tmp_path / "2.h5", config(run__seed=2))]
    with house_style():
        (picture,) = recovery.recovery(group_records([read_record(path) for path in paths]))
    axes = picture.figure.axes[0]
    (never,) = [tick for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True) if label.get_text() == "never"]
    marks = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D" and len(line.get_xdata()) == 1]
    assert sorted(marks) == [1, never] and "1 of 2" in [text.get_text() for text in axes.texts]
    assert "its last value before" in picture.figure.legends[0].get_texts()[1].get_text()


def central(path: Path) -> Path:
    """One node that sends nothing, of the data and model of the others."""
    silent = {name: 0 * table for name, table in tables().items() if name.startswith(("messages", "bytes"))}
    changes = {name: table[:, :1] for name, table in (tables(lift=0.01) | silent).items()} | {"alive": np.ones((CYCLES, 1), np.int8)}
    changes |= {"accuracy": np.full((CYCLES, 1), 0.97, np.float32), "is_hub": np.zeros((CYCLES, 1), np.int8)}
    write(path, config(run__algorithm="upper", run__nodes=1, faults__crash_hubs="none"), ranks=1, hub_count=0, **changes)
    with h5py.File(path, "a") as file:
        file.attrs["nodes"] = 1
        file["ranks/node_count"][:] = 1
        del file["overlay"], file["cycles/node"]
    return path


def test_one_node_with_all_data_is_the_line_above_in_every_figure_of_accuracy(tmp_path):
    paths = [write(tmp_path / "a.h5"), write(tmp_path / "b.h5", config(faults__crash_hubs="none")), central(tmp_path / "c.h5")]
    pictures = list(all_pictures(group_records([read_record(path) for path in paths])))
    for picture in pictures:
        name, lines = re.sub(r"-\d+$", "", picture.name), lines_of(picture)
        if name in ("accuracy_cycles", "accuracy_scenarios", "accuracy_seconds", "accuracy_bytes"):
            (upper,) = [line for label, line in lines.items() if label.startswith("upper") and label.endswith("all data (n=1)")]
            assert upper[:, 1].tolist() == pytest.approx([0.97] * len(upper), abs=1e-6)
            assert "one node with all data" in picture.caption
        elif name.startswith(("traffic", "distinct")):
            assert not any("upper" in label for label in lines)
    assert sum("all data (n=1)" in str(lines_of(picture)) for picture in pictures) == 7


def test_a_central_baseline_alone_has_figures_of_its_own(tmp_path):
    names = {picture.name for picture in all_pictures(group_records([read_record(central(tmp_path / "c.h5"))]))}
    assert "accuracy_cycles" in names and "accuracy_bytes" not in names


def test_skew_has_figures_where_it_was_recorded(tmp_path):
    own = tables()["accuracy"]
    classes = np.linspace(0, 1, 3 * CYCLES, dtype=np.float32).reshape(CYCLES, 3)
    pictures = {
        one.name: one
        for one in all_pictures(group_records([read_record(write(tmp_path / "a.h5", own_accuracy=own, class_accuracy=classes))]))
    }
    assert lines_of(pictures["accuracy_classes"])["heal (n=1)"].tolist() == pytest.approx(np.array([[0, 15 / 17], [1, 16 / 17], [2, 1]]))
    assert "accuracy_own" in pictures


def test_different_data_sets_are_not_in_one_figure(tmp_path):
    paths = [write(tmp_path / f"{data}.h5", config(data__dataset=data)) for data in ("spambase", "mnist10k")]
    pictures = made(accuracy.over_cycles, group_records([read_record(path) for path in paths]))
    titles = [picture.figure.axes[0].get_title(loc="left") for picture in pictures]
    assert titles == ["mnist10k: crash_hubs=all, crash_cycle=3", "spambase: crash_hubs=all, crash_cycle=3"]


# Export.


def test_a_run_is_exported_as_one_row_a_cycle(tmp_path, capsys):
    write(tmp_path / "a.h5")
    assert main(["export", str(tmp_path / "a.h5"), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 1 runs\n"
    rows = (tmp_path / "out" / "a.csv").read_text().splitlines()
    heads = rows[0].split(",")
    assert len(rows) == 1 + CYCLES and {"cycle", "accuracy", "sent_bytes", "kind_messages_model", "phase_seconds_wait"} <= set(heads)
    assert dict(zip(heads, rows[2].split(","), strict=True))["sent_bytes"] == "10600.0"
    assert "own_accuracy" not in heads, "a column without a number"


def test_runs_of_one_name_in_two_folders_are_two_files(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.h5")
    write_parts(tmp_path / "b.h5")
    written, refused = export([tmp_path], tmp_path / "out")
    assert sorted(path.name for path in written) == sorted(path.name for path in (tmp_path / "out").glob("*.csv")) and refused == []
    assert {path.name.removesuffix(".csv")[-3:] for path in written} == {"x-a", "y-a", "7-b"} or len({path.name for path in written}) == 3


def test_without_tensorboard_its_format_is_refused_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    path = write(tmp_path / "a.h5")
    assert main(["export", str(path), "-o", str(tmp_path / "out"), "--format", "tensorboard", "-q"]) == 2
    told = capsys.readouterr().err
    assert "needs the package tensorboard" in told and told.count("\n") == 1 and not (tmp_path / "out").exists()


def test_tensorboard_reads_what_was_exported(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed")
    export([write(tmp_path / "a.h5")], tmp_path / "out", kind="tensorboard")
    events = reader.EventAccumulator(str(tmp_path / "out" / "a"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("accuracy/accuracy")][1] == (2, pytest.approx(0.9))
    assert [one.value for one in events.Scalars("traffic/sent_bytes")][:2] == [5300, 10600]


@pytest.mark.parametrize(
    "given, message",
    [
        ([], "the following arguments are required: DIR"),
        (["none"], "none does not exist"),
        (["."], "there is no results file (HDF5, of healmpi) in ."),
        ([".", "--detailed", "-1"], "'-1' is not allowed: a whole number from 0 on"),
        (["compare", "a"], "the following arguments are required: B"),
        (["compare", "a", "b", "--tolerance", "x"], "'x' is not allowed: a number from 0 on"),
        (["compare", "a", "b"], "a does not exist"),
        (["published"], "the following arguments are required: DIR"),
        (["published", "none"], "none does not exist"),
        (["export", "none", "-o", "out"], "none does not exist"),
        (["export", "a.h5"], "the following arguments are required: -o/--out"),
        (["export", "a.h5", "-o", "out", "--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_bad_input_gets_one_line_and_code_2(given, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(given)
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr().err
    assert code == 2 and message in told and told.count("\n") == 1


def test_a_report_into_a_file_is_refused(tmp_path, capsys):
    path = write(tmp_path / "a.h5")
    assert main([str(path), "-o", str(path)]) == 2
    assert "is a file; -o names the folder" in capsys.readouterr().err


def test_progress_is_shown_unless_quiet(tmp_path, capsys):
    path = write(tmp_path / "a.h5")
    main([str(path), "-o", str(tmp_path / "out"), "--no-figures"])
    assert "reading: 1 of 1 runs" in capsys.readouterr().err
    main([str(path), "-o", str(tmp_path / "out"), "--no-figures", "-q"])
    assert capsys.readouterr().err == ""


# As it is installed.


def test_the_command_is_installed_and_reads_without_healmpi(tmp_path):
    """The module healmpi is made unimportable: whoever imports it fails."""
    path, block = write(tmp_path / "a.h5"), tmp_path / "block"
    block.mkdir()
    (block / "healmpi.py").write_text("raise ImportError('healmpi is not on this laptop')")
    environment = os.environ | {"PYTHONPATH": str(block)}
    command = [Path(sys.executable).parent / "healmpi-report", path, "-o", tmp_path / "out", "--no-figures"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "index.html").exists()


def test_a_wheel_holds_the_package_and_the_command(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="no setuptools that can build the wheel")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "healmpi", "analysis"):
        # Built from a copy: a build leaves folders in the source.
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("healmpi-*.whl"))) as wheel:
        names = wheel.namelist()
        commands = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
        wheel.extractall(tmp_path / "site")
    shipped = {str(path.relative_to(ROOT / "analysis")) for kind in ("py", "toml", "md") for path in (ROOT / "analysis").rglob(f"*.{kind}")}
    assert shipped <= set(names) and "healmpi/__main__.py" in names
    assert "healmpi-report = healmpi_analysis.cli:main" in commands
    script = "import sys, healmpi_analysis.cli as cli; assert 'site' in cli.__file__; sys.exit(cli.main(sys.argv[1:]))"
    path = write(tmp_path / "a.h5")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    for given, answer in ((["compare", path, path], "no difference seen"), (["published", path], "Published and measured")):
        done = subprocess.run([sys.executable, "-c", script, *given], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and answer in done.stdout, done.stderr
