"""What the analysis package makes of a file's words: its faults, its message kinds, its name; and files that cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `analysis` is not installed")

import healmpi_analysis as analysis
from analysis_sample import CYCLES, KINDS, NODES, config, views, write, write_parts
from healmpi_analysis import metrics
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.figures.traffic import FAMILIES, OTHER, families
from healmpi_analysis.groups import group_records
from healmpi_analysis.records import read_record
from healmpi_analysis.recovery import episodes, recoveries
from healmpi_analysis.scenario import FAULT_FREE, flatten
from healmpi_analysis.sources import find_sources, open_source

from healmpi.results.integrity import seal

NO_CRASH = {"faults__crash_hubs": "none"}

# Scenarios.


@pytest.mark.parametrize(
    "changes, text",
    [
        ({}, "no faults"),
        ({"faults__crash_hubs": "all"}, "crash_hubs=all, crash_cycle=3"),
        (
            {"faults__crash_fraction": 0.2, "faults__crash_point": "before_send"},
            "crash_fraction=0.2, crash_point=before_send, crash_cycle=3",
        ),
        ({"faults__crash_nodes": [1, 2]}, "crash_nodes=[1, 2], crash_cycle=3"),
        ({"faults__crash_best_connected": 3}, "crash_best_connected=3, crash_cycle=3"),
        ({"faults__crash_fraction": 0.2, "faults__spare_hubs": True}, "crash_fraction=0.2, spare_hubs=true, crash_cycle=3"),
        ({"faults__churn_fraction": 0.1}, "churn_fraction=0.1, churn_first_cycle=10, churn_last_cycle=20"),
        (
            {"faults__loss_fraction": 0.1, "faults__loss_first_cycle": 1, "faults__loss_last_cycle": 0},
            "loss_fraction=0.1, loss_first_cycle=1, loss_last_cycle=0",
        ),
        ({"faults__spare_hubs": True}, "spare_hubs=true"),
        ({"faults__plan": [{"cycle": 5, "hubs": "one", "point": "start"}]}, "plan=[cycle=5 hubs=one]"),
        ({"faults__message_loss": 0.05}, "message_loss=0.05"),
    ],
)
def test_an_older_file_gets_a_label_of_its_fault_fields(tmp_path, changes, text):
    assert read_record(write(tmp_path / "a.h5", config(**(NO_CRASH | changes)))).scenario == text


def test_a_file_of_schema_1_2_says_its_scenario_itself(tmp_path):
    assert read_record(write(tmp_path / "a.h5", scenario="all hubs crash at 3")).scenario == "all hubs crash at 3"
    assert read_record(write(tmp_path / "b.h5", config(**NO_CRASH), scenario=FAULT_FREE)).scenario == FAULT_FREE


def test_parts_of_schema_1_2_say_it_as_well(tmp_path):
    folder = write_parts(tmp_path / "a.h5", scenario="all hubs crash at 3")
    assert read_record(folder).scenario == "all hubs crash at 3"
    (folder / "rank-00000.h5").unlink()  # it was in the group of faults there, and is at the root here
    assert read_record(folder).scenario == "all hubs crash at 3"


def test_groups_are_called_by_the_words_of_their_files(tmp_path):
    for name, seed, scenario in (("a", 1, FAULT_FREE), ("b", 2, FAULT_FREE), ("c", 1, "10% loss 1-end")):
        settings = config(run__seed=seed, faults__crash_hubs="none", faults__loss_fraction=0.0 if scenario == FAULT_FREE else 0.1)
        write(tmp_path / f"{name}.h5", settings, scenario=scenario)
    groups = group_records([read_record(path) for path in find_sources([tmp_path])])
    assert [(group.label, len(group.runs)) for group in groups] == [("heal, no faults", 2), ("heal, 10% loss 1-end", 1)]


# Names of kinds and runs.


def test_a_file_says_itself_which_kinds_carry_a_model(tmp_path):
    mine = ("cache_request", "push", "weights", "global_model", "news_request")
    record = read_record(write(tmp_path / "a.h5", scenario="all hubs crash at 3", kinds=mine))
    assert record.facts.model_kinds == ("weights", "global_model")
    assert record.series["model_messages"].tolist() == [13, 13, 6, 11, 11, 11]
    (group,) = group_records([record])
    told = dict(zip([*FAMILIES, OTHER], families(group, "kind_messages"), strict=True))
    assert told["models"] == pytest.approx((8 + 8 + 4 * 6) / 6) and told[OTHER] == 0
    assert read_record(write(tmp_path / "b.h5", kinds=mine)).facts.model_kinds == ("global_model",)  # schema 1.1 does not say it


def test_parts_of_schema_1_2_name_their_kinds(tmp_path):
    whole, cut = read_record(write(tmp_path / "whole.h5")), read_record(write_parts(tmp_path / "a.h5", scenario="x", extra_kinds=0))
    assert cut.facts.kinds == KINDS and cut.facts.model_kinds == ("model", "global_model") and cut.facts.title == "heal"
    assert cut.series.equals(whole.series.iloc[:4])


def test_a_run_is_called_by_its_title_and_a_users_own_parts_by_their_options(tmp_path):
    own = {"run__algorithm": "custom", "topology__name": "custom", "topology__factory": "mine:Torus"}
    for width in (3, 4):
        write(tmp_path / f"{width}.h5", config(**own, topology__options={"width": width}), scenario=FAULT_FREE, title="torus-gossip")
    records = [read_record(path) for path in find_sources([tmp_path])]
    assert records[0].algorithm == "torus-gossip" and records[0].config["topology.options.width"] == 3
    assert [group.label for group in group_records(records)] == ["torus-gossip width=3", "torus-gossip width=4"]
    assert analysis.runs(tmp_path)["algorithm"].tolist() == ["torus-gossip"] * 2
    assert read_record(write(tmp_path / "old.h5", config(**own))).algorithm == "custom"


def test_names_are_flat_and_lists_are_texts():
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}, "e": []}}) == {"a.b": 1, "a.c.d": "[1, 2]", "a.e": "[]"}


def test_who_hears_of_nobody_is_told(tmp_path):
    staleness = np.zeros((CYCLES, NODES), np.int32)
    staleness[-1] = (0, 3, -1, 0)  # node 0 is dead
    record = read_record(write(tmp_path / "a.h5", staleness=staleness))
    assert record.series["stale"].tolist() == [0, 0, 0, 0, 0, 2]
    assert metrics.share_alone(record) == pytest.approx(2 / 3)


def test_an_accuracy_is_reached_in_spite_of_its_rounding(tmp_path):
    accuracy = np.full((CYCLES, NODES), 0.9, np.float32)
    assert accuracy.astype(float).mean() < 0.9
    assert metrics.cycles_to(read_record(write(tmp_path / "a.h5", accuracy=accuracy)), 0.9) == 1


# Loading.


def test_load_has_the_configuration_as_coordinates(tmp_path):
    write(tmp_path / "with space.h5")
    write(tmp_path / "b.h5", config(run__seed=2, run__algorithm="gossip"))
    loaded = analysis.load(tmp_path)
    assert dict(loaded.sizes) == {"run": 2, "cycle": CYCLES, "kind": 5, "phase": 6}
    gossip = loaded.isel(run=(loaded["run.algorithm"] == "gossip").to_numpy())
    assert gossip["seed"].item() == 2 and gossip["accuracy"].sel(cycle=6).item() == pytest.approx(0.96)
    assert loaded["model.hidden"].to_numpy().tolist() == ["[200, 200]"] * 2
    assert loaded["kind_messages"].sel(kind="model", cycle=1).to_numpy().tolist() == [8, 8]
    assert loaded["seconds"].attrs["unit"] == "s"


def test_frame_and_runs_and_nodes(tmp_path):
    path = write(tmp_path / "a.h5")
    rows, whole = analysis.frame([path, write(tmp_path / "b.h5", config(run__seed=2))]), analysis.runs(path)
    assert len(rows) == 2 * CYCLES and rows.loc[rows["cycle"] == 6, "accuracy"].tolist() == pytest.approx([0.96] * 2)
    assert rows["run.seed"].unique().tolist() == [1, 2]
    assert whole["cycles_to_0.90"].tolist() == [2] and whole["scenario"].tolist() == ["crash_hubs=all, crash_cycle=3"]
    one = analysis.nodes(path)
    assert one["alive"].dtype == bool and one["accuracy"].shape == (CYCLES, NODES) and one.attrs["run.algorithm"] == "heal"


def test_parts_of_a_killed_run_are_read_without_changing_them(tmp_path):
    folder = write_parts(tmp_path / "a.h5")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    whole, cut = read_record(write(tmp_path / "whole.h5")), read_record(folder)
    assert cut.cycles.tolist() == [1, 2, 3, 4]  # what both parts have
    # Kinds have no names there and stand in the order of the format, in which the third is not the sample's.
    assert cut.series.drop(columns="model_messages").equals(whole.series.iloc[:4].drop(columns="model_messages"))
    assert cut.facts.verdict == "UNJUDGED" and "2 of 2 ranks, 0 finished" in cut.facts.reasons[0]
    assert cut.facts.kinds[:2] == ("cache_request", "cache_reply") and cut.facts.kinds[-2:] == ("kind_12", "kind_13")
    assert len(episodes(cut)) == 1
    with open_source(folder) as source:
        assert (source.views(2) == views()[2]).all()
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    assert find_sources([tmp_path]) == [folder, tmp_path / "whole.h5"]
    assert find_sources([tmp_path / "a.h5"]) == [folder]


def test_of_a_rank_that_left_nothing_the_nodes_are_not_alive(tmp_path):
    folder = write_parts(tmp_path / "a.h5")
    (folder / "rank-00001.h5").write_bytes(b"")
    record = read_record(folder)
    assert record.series["live"].tolist() == [2, 2, 1, 1, 1, 1]
    assert np.isnan(record.rank_seconds[1]).all() and record.rank_table["state"].tolist() == ["unfinished", "unreadable"]
    assert any("rank-00001.h5 is empty" in reason for reason in record.facts.reasons)
    (folder / "rank-00001.h5").unlink()
    assert read_record(folder).rank_table["state"].tolist() == ["unfinished", "missing"]


def test_parts_of_different_runs_are_refused(tmp_path):
    folder = write_parts(tmp_path / "a.h5")
    with h5py.File(folder / "rank-00001.h5", "a") as file:
        file.attrs["run_id"] = "b"
    with pytest.raises(AnalysisError, match="are of different runs: run_id differs"):
        read_record(folder)


def test_a_run_without_cycles_is_read(tmp_path):
    record = read_record(write_parts(tmp_path / "a.h5", committed=(0, 0)))
    assert len(record.series) == 0 and np.isnan(metrics.final_accuracy(record)) and recoveries(record)[0].hub_cycles is not None


# Files that are not what they should be.


def truncated(path):
    write(path)
    path.write_bytes(path.read_bytes()[:3000])


def without_summary(path):
    write(path)
    with h5py.File(path, "a") as file:
        del file["summary"]


def foreign(path):
    with h5py.File(path, "w") as file:
        file["x"] = 1


def without_a_table(path):
    write(path)
    with h5py.File(path, "a") as file:
        del file["cycles/alive"]


def of_another_size(path):
    write(path)
    with h5py.File(path, "a") as file:
        file.attrs["nodes"] = 5


def part_alone(path):
    with h5py.File(path, "w") as file:
        file.attrs.update({"schema": "healmpi-results-part", "schema_version": "1.0"})


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("hello, this is no HDF5 file"), "is not an HDF5 file"),
        (truncated, "truncated or damaged"),
        (foreign, "not one of healmpi's"),
        (part_alone, "is the part of one rank; name its folder"),
        (lambda path: write(path, version="2.0"), "has schema version 2.0; this package reads 1.x"),
        (without_summary, "is damaged or lacks"),
        (without_a_table, "no table cycles/alive"),
        (of_another_size, "with 6 cycles and 5 nodes"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, make, message):
    path = tmp_path / "a file.h5"
    make(path)
    with pytest.raises(AnalysisError, match=message) as caught:
        analysis.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["1.0", "1.7"])
def test_any_minor_version_is_read(tmp_path, version):
    path = write(tmp_path / "a.h5", version=version)
    if version == "1.7":
        with h5py.File(path, "a") as file:
            seal(file)
    assert read_record(path).facts.nodes == NODES


def test_a_place_without_results_is_refused(tmp_path):
    with pytest.raises(AnalysisError, match="does not exist"):
        analysis.load(tmp_path / "no")
    with pytest.raises(AnalysisError, match="no results file"):
        analysis.load(tmp_path)


def test_importing_the_package_loads_neither_healmpi_nor_anything_heavy():
    script = (
        "import sys, healmpi_analysis, healmpi_analysis.cli as cli;"
        "print(sorted({'healmpi', 'torch', 'matplotlib', 'pandas', 'xarray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_json_has_no_nan(tmp_path):
    from healmpi_analysis.compare import compare

    found = compare(write(tmp_path / "a.h5"), write(tmp_path / "b.h5"))
    json.loads(json.dumps(found.as_dict(), allow_nan=False))
