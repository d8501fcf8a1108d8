"""Figures and reports of real runs, in a real browser, from the checkout and from a wheel; comparisons and their exit codes."""

from __future__ import annotations

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
from analysis_sample import NODES, config, tables, write
from healmpi_analysis.cli import main
from healmpi_analysis.figures import all_pictures
from healmpi_analysis.groups import group_records
from healmpi_analysis.records import read_record, read_records
from healmpi_analysis.report import MANIFEST, make_report
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
    "accuracy_cycles",
    "accuracy_scenarios",
    "accuracy_seconds",
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
    names = {"accuracy", "time_to_accuracy", "traffic", "load", "time", "recovery", "strong_scaling", "consensus", "runs"}
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
