"""`healmpi-report published` on hand-made files: published numbers beside measured ones, and no fault taken for none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `analysis` is not installed")

from analysis_sample import CRASH, CYCLES, NODES, config, tables, write
from healmpi_analysis.cli import main
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.published import make_page
from healmpi_analysis.published.library import Library
from healmpi_analysis.published.overlays import elevator, is_overlay
from healmpi_analysis.records import read_record
from healmpi_analysis.scenario import FAULT_FREE

PUBLISHED_SETTING = {
    "run__nodes": 100,
    "run__cycles": 200,
    "elevator__hub_count": 5,
    "data__partition": "iid",
    "topology__view_size": 20,
    "model__initial": "common",
    "faults__crash_hubs": "none",
}


def settings(algorithm: str = "heal", **changes) -> dict:
    """A configuration that stands beside the published ones."""
    return config(**(PUBLISHED_SETTING | {"run__algorithm": algorithm} | changes))


def rows_of(text: str, title: str) -> dict[str, list[str]]:
    """The first table below a title: by its first cells, the others."""
    below = text[text.index(title) :]
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE).group().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells if set(row[0]) != {"-"}}


def headings(text: str) -> list[str]:
    return re.findall(r"^##? (.*)$", text.partition("## What comes out")[0], re.MULTILINE)


# Without faults.


def test_measured_accuracy_stands_beside_the_published_one(tmp_path):
    for seed, lift in ((1, 0.0), (2, 0.02)):
        write(tmp_path / f"{seed}.h5", settings(run__seed=seed), scenario=FAULT_FREE, lift=lift)
    text = make_page([tmp_path]).text
    assert "from 2 results files" in text
    rows = rows_of(text, "### Spambase")
    assert rows[""] == ["published, cycle 1000", "common start, cycle 200", "published to .85/.90", "common: to .85/.90"]
    assert rows["heal"] == [".9001", ".9700 +- .0141 (2)", "4/339", "2 / 2"]
    assert rows["gaia"] == [".8826", "-", "6/-", ""]
    assert list(rows)[1:] == ["federated", "gaia", "gossip", "epidemic", "ring", "chord", "fedlay", "heal"]


def test_models_are_counted_by_what_the_file_says_of_its_kinds(tmp_path):
    write(tmp_path / "a.h5", settings(), scenario=FAULT_FREE)
    assert rows_of(make_page([tmp_path]).text, "## Models sent")["heal"] == ["210", "11.0 (1)"]  # in the last cycle of a short run


def test_of_two_runs_that_differ_in_evaluation_alone_one_counts(tmp_path):
    accuracy = tables()["accuracy"]
    accuracy[::2] = np.nan
    write(tmp_path / "a.h5", settings(evaluation__every=2), scenario=FAULT_FREE, accuracy=accuracy - 0.5)
    write(tmp_path / "b.h5", settings(evaluation__every=1), scenario=FAULT_FREE)
    assert rows_of(make_page([tmp_path]).text, "### Spambase")["heal"][1] == ".9600 (1)"


def test_a_run_of_another_size_does_not_stand_beside_the_published_ones(tmp_path):
    write(tmp_path / "a.h5", settings(run__nodes=50), scenario=FAULT_FREE)
    write(tmp_path / "b.h5", settings(rule__fanout=2), scenario=FAULT_FREE)
    assert headings(make_page([tmp_path]).text) == ["Published and measured"]


# With faults.


def test_a_scenario_of_schema_1_2_has_its_published_number(tmp_path):
    crash = {"faults__crash_fraction": 0.2, "data__dataset": "mnist10k"}
    write(tmp_path / "a.h5", settings(data__dataset="mnist10k"), scenario=FAULT_FREE)
    for name in ("heal", "gossip"):
        write(tmp_path / f"{name}.h5", settings(name, **crash), scenario="20% crash at 10", lift=-0.01)
    rows = rows_of(make_page([tmp_path]).text, "Digits, the 10 000 that are embedded, 200 cycles")
    assert rows == {
        "": ["no faults", "20% crash at 10"],
        "gaia": ["-", "- [.9637]"],
        "gossip": ["-", ".9500 (1)"],
        "chord": ["-", "- [.9520]"],
        "fedlay": ["-", "- [.9563]"],
        "heal": [".9600 (1)", ".9500 (1) [.9658]"],
    }


def test_claims_are_judged_by_pairs_of_seeds(tmp_path):
    crash = {"faults__crash_fraction": 0.2}
    for seed in (1, 2):
        write(tmp_path / f"h{seed}.h5", settings(run__seed=seed, **crash), scenario="20% crash at 10")
        write(tmp_path / f"g{seed}.h5", settings("gossip", run__seed=seed, **crash), scenario="20% crash at 10", lift=-0.02)
    text = make_page([tmp_path]).text
    row = rows_of(text, "**HEAL is better than gossip")["spambase"]
    assert row == ["20% crash at 10", "heal - gossip", "+0.0200 +- 0.0000 (2)", "+0.0200 +- 0.0000 (2)", "holds"]
    assert "HEAL is like federated" not in text.partition("## What comes out")[0]


def test_the_death_of_the_servers_tells_who_hears_of_nobody(tmp_path):
    staleness = np.zeros((CYCLES, NODES), np.int32)
    staleness[-1, 1:] = 4
    fields = settings("federated", faults__crash_hubs="all", faults__crash_cycle=CRASH)
    write(tmp_path / "a.h5", fields, scenario="all hubs crash at 10", staleness=staleness)
    row = rows_of(make_page([tmp_path]).text, "**Federated dies")["spambase"]
    assert row == ["federated", ".9000 (1)", ".9600 (1)", "-", "100 %"]


def churned(path: Path, **options) -> Path:
    """Node 1 is replaced in cycles 3 and 4, and knows nothing in either."""
    incarnation, accuracy = np.zeros((CYCLES, NODES), np.int32), np.full((CYCLES, NODES), 0.9, np.float32)
    incarnation[2:, 1], incarnation[3:, 1], accuracy[2:4, 1] = 1, 2, 0.1
    alive = np.ones((CYCLES, NODES), np.int8)
    fields = settings(faults__churn_fraction=0.1)
    write(path, fields, incarnation=incarnation, accuracy=accuracy, alive=alive, **options)
    with h5py.File(path, "a") as file:
        scenario = dict(file["faults"].attrs)
        del file["faults"]
        for name, values in {"cycle": [3, 4], "tick": [-1, -1], "node": [1, 1], "kind": [b"churn"] * 2, "detail": [b""] * 2}.items():
            file[f"faults/{name}"] = np.array(values)
        file["faults"].attrs.update(scenario)
    return path


def test_the_drop_under_churn_is_told_with_newcomers_and_without(tmp_path):
    churned(tmp_path / "a.h5", scenario="10% churn 50-150")
    below = make_page([tmp_path]).text.partition("## Churn")[2]
    assert rows_of(below, "### Spambase")["heal"] == ["10% churn 50-150", ".9507/.0955", ".9000 (1)", ".2000 (1)", ".0000 (1)"]


@pytest.mark.parametrize("scenario", ["", "said by the file"])
@pytest.mark.parametrize(
    "faults",
    [
        {"faults__crash_best_connected": 10},
        {"faults__spare_hubs": True},
        {"faults__crash_fraction": 0.2, "faults__spare_hubs": True},
        {"faults__loss_fraction": 0.1},
        {"faults__plan": [{"kind": "loss", "fraction": 0.1}]},
    ],
)
def test_no_fault_is_filed_under_no_faults(tmp_path, faults, scenario):
    """scenario: of a file of schema 1.2; none: the file is of schema 1.1."""
    write(tmp_path / "a.h5", settings(**faults), scenario=scenario)
    record = read_record(tmp_path / "a.h5")
    assert record.scenario != FAULT_FREE and (record.scenario == scenario or not scenario)
    text = make_page([tmp_path]).text
    assert headings(text) == ["Published and measured", "Crashes and loss"]
    assert rows_of(text, "### Spambase") == {"": [record.scenario], "heal": [".9600 (1)"]}


@pytest.mark.parametrize("words", ["2 nodes crash at 3", ""])
def test_other_victims_have_a_column_of_their_own(tmp_path, words):
    for place, nodes in enumerate(([0, 1], [2, 3])):
        write(tmp_path / f"{place}.h5", settings(faults__crash_nodes=nodes, faults__crash_hubs="none"), scenario=words, lift=-0.1 * place)
    rows = rows_of(make_page([tmp_path]).text, "### Spambase")
    assert len(rows[""]) == 2 and "[0, 1]" in rows[""][0] and "[2, 3]" in rows[""][1]
    assert rows["heal"] == [".9600 (1)", ".8600 (1)"]


def test_churn_of_an_older_file_is_told_under_its_label_without_published_numbers(tmp_path):
    churned(tmp_path / "a.h5")
    below = make_page([tmp_path]).text.partition("## Churn")[2]
    label = "churn_fraction=0.1, churn_first_cycle=10, churn_last_cycle=20"
    assert rows_of(below, "### Spambase")["heal"][:3] == [label, "", ".9000 (1)"]


# Other tables.


def test_skewed_labels_have_a_column_a_partition(tmp_path):
    digits = {"data__dataset": "mnist10k", "run__cycles": 100}
    write(tmp_path / "a.h5", settings(**digits), scenario=FAULT_FREE)
    write(tmp_path / "b.h5", settings(**digits, data__partition="shards", data__shards_per_node=2), scenario=FAULT_FREE, lift=-0.1)
    text = make_page([tmp_path]).text
    assert "With no faults." in text
    assert rows_of(text, "## Skewed labels")["heal"] == [".9600 (1)", "-", "-", ".8600 (1)"]


def test_the_hub_sweep_has_a_row_a_number_of_hubs(tmp_path):
    for fanout in (1, 2):
        write(tmp_path / f"{fanout}.h5", settings(topology__view_size=30, rule__fanout=fanout), scenario=FAULT_FREE, hub_count=4)
    rows = rows_of(make_page([tmp_path]).text, "## Hub sweep")
    assert rows["4"] == [".9600 (1)", "2", ".9600 (1)", "2"]


SIZES = {
    "elevator": {
        "fields": {"rule.name": "none"},
        "text": "How soon:",
        "settling": [{"nodes": NODES, "view_size": 3, "hub_count": 1, "cycles": 7}],
        "faults": {"text": "The end:", "nodes": NODES, "hub_count": 1, "scenarios": ["all hubs crash at 3"], "watched_cycles": [2]},
    }
}
"""A page of published numbers for overlays as small as the hand-made ones."""


def test_the_overlay_alone_is_measured_by_its_views(tmp_path):
    quiet = read_record(write(tmp_path / "a.h5", settings(rule__name="none"), scenario=FAULT_FREE, alive=np.ones((CYCLES, NODES), np.int8)))
    crash = settings(rule__name="none", faults__crash_hubs="all")
    hit = read_record(write(tmp_path / "b.h5", crash, scenario="all hubs crash at 3"))
    assert is_overlay(quiet, SIZES) and not is_overlay(read_record(write(tmp_path / "c.h5")), SIZES)
    assert not is_overlay(read_record(write(tmp_path / "d.h5", settings(rule__name="none"), recorded=[])), SIZES)
    text = "\n".join(elevator([quiet, hit], SIZES))
    assert rows_of(text, "How soon")["4, 3, 1"] == ["7", "1"]  # node 2 stands in every view from the first cycle on
    rows = rows_of(text, "The end")
    assert list(rows)[1:] == [FAULT_FREE, "all hubs crash at 3"]
    assert rows["all hubs crash at 3"][:4] == ["1", "3", "3", "1 cycles"]


# The command.


def test_the_page_is_printed_or_written(tmp_path, capsys):
    path = write(tmp_path / "a.h5", settings(), scenario=FAULT_FREE)
    assert main(["published", str(path), "-q"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("# Published and measured\n\nMade by `healmpi-report published` from 1 results files") and told.err == ""
    assert main(["published", str(path), "-q", "-o", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == told.out
    assert capsys.readouterr().out == f"{tmp_path / 'page.md'}: 1 runs\n"


def test_what_is_left_out_is_told(tmp_path, capsys):
    write(tmp_path / "a.h5", settings(), scenario=FAULT_FREE)
    write(tmp_path / "b.h5", settings(), scenario=FAULT_FREE, verdict="INVALID")
    (tmp_path / "c.h5").write_bytes(b"")
    assert main(["published", str(tmp_path), "-q"]) == 0
    told = capsys.readouterr()
    assert "from 1 results files" in told.out
    assert "left out: " in told.err and "c.h5 is empty" in told.err and "b.h5 is INVALID" in told.err


def test_without_a_valid_run_there_is_no_page(tmp_path, capsys):
    path = write(tmp_path / "a.h5", settings(), verdict="INVALID")
    with pytest.raises(AnalysisError, match="there is no VALID run in"):
        make_page([path])
    assert main(["published", str(path), "-q"]) == 2 and capsys.readouterr().err.count("\n") == 1
    assert main(["published", str(write(path, settings())), "-q", "-o", str(tmp_path / "no" / "page.md")]) == 2


def test_runs_of_nothing_published_give_no_tables(tmp_path):
    path = write(tmp_path / "a.h5", config(run__algorithm="mine"), scenario="one hub crash at 3")
    assert headings(make_page([path]).text) == ["Published and measured"]


def test_cells_do_not_know_how_often_runs_were_judged(tmp_path):
    paths = [write(tmp_path / f"{every}.h5", settings(evaluation__every=every), scenario=FAULT_FREE) for every in (1, 2)]
    assert len(Library([read_record(path) for path in paths], {}).records) == 1


def test_the_numbers_are_data(tmp_path):
    """No name of an algorithm stands in the code of the page."""
    import healmpi_analysis.published as package

    names = json.dumps(Path(package.__file__).parent.parent.joinpath("published.toml").read_text())
    code = "".join(path.read_text() for path in Path(package.__file__).parent.glob("*.py"))
    for name in ("federated", "gaia", "gossip", "epidemic", "chord", "fedlay", "heal"):
        assert name in names and f'"{name}"' not in code
