"""The analysis package against numbers worked out by hand, and against files that are not what they should be."""

from __future__ import annotations

import dataclasses
from csv import DictReader

import h5py
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `analysis` is not installed")

from analysis_sample import CYCLES, MEANS, NODES, config, set_faults, tables, write, write_parts
from healmpi_analysis import metrics, statistics, topology
from healmpi_analysis.baseline import baselines_of, is_central
from healmpi_analysis.consensus import final_distance
from healmpi_analysis.groups import by_ranks, group_records
from healmpi_analysis.records import TABLES, read_record, read_records
from healmpi_analysis.recovery import BEFORE, NEVER, UNDISTURBED, episodes, recoveries, undisturbed_runs
from healmpi_analysis.scaling import strong_scaling, weak_scaling
from healmpi_analysis.scenario import FAULT_FREE
from healmpi_analysis.source import BLOCK_BYTES
from healmpi_analysis.sources import open_source
from healmpi_analysis.tables import all_tables, recovery_table, target_table
from healmpi_analysis.text import number, size, to_csv, to_latex, to_markdown


def records_of(*paths):
    records, refused = read_records(list(paths))
    assert not refused
    return records


# One file, by hand.


def test_accuracy_is_the_mean_over_live_nodes(tmp_path):
    series = read_record(write(tmp_path / "a.h5")).series
    assert series.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert series["accuracy"].tolist() == pytest.approx(MEANS, abs=1e-6)
    assert series["accuracy_std"].tolist() == pytest.approx([0.02] * 2 + [0.02 * np.sqrt(2 / 3)] * 4, abs=1e-6)
    assert series["accuracy_min"].tolist() == pytest.approx([mean - 0.02 for mean in MEANS], abs=1e-6)
    assert series["evaluated"].tolist() == series["live"].tolist() == [4, 4, 3, 3, 3, 3]
    assert series["hubs"].tolist() == [1, 1, 0, 1, 1, 1]


def test_traffic_is_counted_for_all_and_for_hubs_and_others(tmp_path):
    record = read_record(write(tmp_path / "a.h5"))
    series = record.series
    assert series["messages"].tolist() == [53, 53, 36, 41, 41, 41]  # 12 a live node, 5 more by a hub
    assert series["model_messages"].tolist() == [13, 13, 6, 11, 11, 11]
    assert (series["bytes"] == 100 * series["messages"]).all()
    assert series["hub_messages"].tolist() == [17, 17, 0, 17, 17, 17]
    # Node 3 accepts what all send: that is load of another node.
    assert series["other_messages"].tolist() == [36 + 53, 36 + 53, 36 + 36, 24 + 41, 24 + 41, 24 + 41]
    assert metrics.load(record, "messages") == (17.0, pytest.approx((89 * 2 + 72 + 65 * 3) / (3 * 3 + 2 * 3)))
    assert metrics.messages_per_cycle(record) == pytest.approx(265 / 6)
    assert record.kind_messages[0].tolist() == [40, 0, 8, 5, 0]


def test_seconds_are_those_of_the_slowest_rank_without_the_benchmarks_own(tmp_path):
    record = read_record(write(tmp_path / "a.h5"))
    assert record.series["seconds"].tolist() == pytest.approx([2 * 0.16] * 6)  # the second rank waits 0.01 s a node
    assert record.series["elapsed"].tolist() == pytest.approx(0.32 * np.arange(1, 7))
    assert record.series["wall_seconds"].tolist() == pytest.approx([2 * 0.66] * 6)
    assert record.rank_seconds[:, 0].tolist() == pytest.approx([1.2, 1.2])
    assert record.rank_seconds[:, 2].tolist() == pytest.approx([0.0, 0.12])
    assert metrics.cycles_per_second(record) == pytest.approx(1 / 0.32)
    assert metrics.wall_seconds(record) == 10.0
    assert metrics.phase_shares(record)["train"] == pytest.approx(0.1 / 0.355)


def test_cycles_and_seconds_to_an_accuracy(tmp_path):
    record = read_record(write(tmp_path / "a.h5"))
    assert [metrics.cycles_to(record, target) for target in (0.85, 0.95)] == [2, 6]
    assert metrics.seconds_to(record, 0.85) == pytest.approx(0.64)
    assert np.isnan(metrics.cycles_to(record, 0.99)) and np.isnan(metrics.seconds_to(record, 0.99))
    assert metrics.final_accuracy(record) == pytest.approx(0.96)


def test_recovery_counts_until_the_same_hubs_stand_and_accuracy_is_back(tmp_path):
    (one,) = recoveries(read_record(write(tmp_path / "a.h5")))
    assert (one.episode.kind, one.episode.first, one.episode.nodes, one.episode.hubs) == ("crash", 3, 1, 1)
    assert (one.hub_cycles, one.hub_seconds) == (1, pytest.approx(0.32))
    assert (one.accuracy_before, one.accuracy_lowest) == (pytest.approx(0.9), pytest.approx(0.7))
    assert (one.accuracy_cycles, one.accuracy_seconds) == (2, pytest.approx(0.64))


def test_a_hub_of_one_cycle_does_not_stand(tmp_path):
    hub = tables()["is_hub"]
    hub[2, 2] = 1  # node 2 believes to be a hub in the cycle of the crash, node 1 from the next one on
    (one,) = recoveries(read_record(write(tmp_path / "a.h5", is_hub=hub)))
    assert one.hub_cycles == 1


def test_neighbouring_cycles_of_churn_are_one_episode(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["faults"]
        for name, values in {
            "cycle": [2, 2, 3, 5, 6],
            "tick": [-1] * 5,
            "node": [1, 2, 1, 3, -1],
            "kind": [b"churn"] * 4 + [b"none"],
            "detail": [b""] * 5,
        }.items():
            file[f"faults/{name}"] = np.array(values)
    found = episodes(read_record(path))
    assert [(one.first, one.last, one.nodes) for one in found] == [(2, 3, 2), (5, 5, 1)]


def test_newcomers_of_the_cycle_are_told_apart_in_what_was_lost(tmp_path):
    fields, accuracy = tables(), tables()["accuracy"]
    fields["incarnation"][2:, 1] = 1
    accuracy[2, 1] = 0.1
    (one,) = recoveries(read_record(write(tmp_path / "a.h5", incarnation=fields["incarnation"], accuracy=accuracy)))
    assert one.accuracy_lowest == pytest.approx((0.1 + 0.68 + 0.7) / 3, abs=1e-6)
    assert one.settled_lowest == pytest.approx((0.68 + 0.7) / 2, abs=1e-6)


def test_a_fault_without_a_node_is_an_episode(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["faults/kind"][...], file["faults/node"][...], file["faults/detail"][...] = b"loss", -1, b"0.1"
    (one,) = episodes(read_record(path))
    assert (one.kind, one.nodes, one.hubs) == ("loss", 0, 0)


def test_cycles_without_evaluation_and_nodes_out_of_the_sample_are_no_accuracy(tmp_path):
    accuracy = tables()["accuracy"]
    accuracy[[0, 2, 4]] = np.nan
    accuracy[:, 1] = np.nan
    record = read_record(write(tmp_path / "a.h5", accuracy=accuracy))
    assert record.judged.index.tolist() == [2, 4, 6]
    assert record.judged[2] == pytest.approx(0.9 + 0.02 / 3, abs=1e-6)


# Recovery against the undisturbed run.

QUIET = {"faults__crash_hubs": "none"}
FLAT = np.where(tables()["alive"] != 0, np.float32(0.8), np.float32(np.nan))
"""Accuracies of a run that never falls: against its last value before, it is back at once."""


def rising(to: float) -> np.ndarray:
    """Accuracies of all nodes: 0.8 up to the crash, then in even steps to this value."""
    return np.repeat(np.interp(np.arange(1, CYCLES + 1), [2, CYCLES], [0.8, to])[:, None], NODES, axis=1).astype(np.float32)


def recovery_beside(tmp_path, accuracy, quiet_accuracy, **quiet):
    """The recovery of a run of this accuracy beside one without faults, which differs in `quiet` besides."""
    records = records_of(
        write(tmp_path / "a.h5", accuracy=accuracy), write(tmp_path / "b.h5", config(**(QUIET | quiet)), accuracy=quiet_accuracy)
    )
    (one,) = recoveries(records[0], undisturbed_runs(records).get(records[0].path))
    return one


def test_nodes_that_stand_still_while_the_undisturbed_run_goes_on_are_never_back(tmp_path):
    one = recovery_beside(tmp_path, FLAT, rising(0.9))
    assert (one.against, one.accuracy_cycles, one.accuracy_seconds) == (UNDISTURBED, NEVER, NEVER)
    assert (one.accuracy_gap, one.final_gap) == (pytest.approx(0.1, abs=1e-6), pytest.approx(0.1, abs=1e-6))


def test_accuracy_is_back_when_it_has_caught_up_with_the_undisturbed_run(tmp_path):
    caught = rising(0.9)
    caught[3:5] -= 0.02
    one = recovery_beside(tmp_path, caught, rising(0.9))
    assert (one.accuracy_cycles, one.accuracy_gap, one.final_gap) == (3, pytest.approx(0.02, abs=1e-6), 0)


def test_a_run_that_falls_no_more_than_the_undisturbed_one_lost_nothing(tmp_path):
    falling = rising(0.6)
    one = recovery_beside(tmp_path, falling, falling)
    assert (one.accuracy_cycles, one.accuracy_gap) == (0, 0) and one.accuracy_drop == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("other", [{"run__seed": 2}, {"rule__fanout": 2}, {"evaluation__every": 2}, {"run__algorithm": "ring"}])
def test_a_run_that_differs_in_more_than_its_faults_is_no_undisturbed_one(tmp_path, other):
    one = recovery_beside(tmp_path, FLAT, rising(0.9), **other)
    assert (one.against, one.accuracy_cycles) == (BEFORE, 0)


@pytest.mark.parametrize("other", [{"faults__crash_cycle": 9}, {"results__save_models": True}, {"limits__step_timeout_s": 9.0}])
def test_how_a_run_is_written_does_not_count_for_the_undisturbed_one(tmp_path, other):
    assert recovery_beside(tmp_path, FLAT, rising(0.9), **other).against == UNDISTURBED


def test_never_needs_a_cycle_in_which_it_could_have_come_back(tmp_path):
    low = tables()["accuracy"]
    low[-1] -= 0.5
    path = set_faults(write(tmp_path / "a.h5", accuracy=low), (CYCLES, 0, 1, "crash", "start"))
    (one,) = recoveries(read_record(path))
    assert np.isnan(one.accuracy_cycles) and np.isnan(one.hub_cycles) and one.accuracy_gap > 0.4


def test_hubs_that_do_not_come_back_never_do_and_without_hubs_nothing_is_said(tmp_path):
    hub = np.zeros((CYCLES, NODES), np.int8)
    hub[:2, 0] = 1
    (one,) = recoveries(read_record(write(tmp_path / "a.h5", is_hub=hub)))
    assert one.hub_cycles == one.hub_seconds == NEVER
    (one,) = recoveries(read_record(write(tmp_path / "b.h5", is_hub=hub, hub_count=0)))
    assert np.isnan(one.hub_cycles)


def test_never_is_a_word_of_its_own_in_every_form_of_a_table(tmp_path):
    hub = np.zeros((CYCLES, NODES), np.int8)
    hub[:2, 0] = 1
    paths = [write(tmp_path / "a.h5", is_hub=hub, accuracy=FLAT), write(tmp_path / "b.h5", config(**QUIET), accuracy=rising(0.9))]
    table = recovery_table(group_records(records_of(*paths)))
    (row,) = table.rows()
    assert row[5:9] == ["0 of 1", "never", "never", UNDISTURBED] and row[10:13] == ["0 of 1", "never", "never"]
    assert table.frame["accuracy_cycles"][0] == NEVER
    (csv,) = DictReader(to_csv(table).splitlines())
    assert csv["hub_cycles"] == csv["accuracy_cycles"] == csv["accuracy_seconds"] == "never" and csv["accuracy_cycles_low"] == ""
    assert "| never |" in to_markdown(table) and "never &" in to_latex(table)
    targets = target_table(group_records(records_of(*paths))).rows()
    assert next(row[1:] for row in targets if row[2] == "0 of 1") == ["0.85", "0 of 1", "never", "never", "never"]


def test_what_accuracy_is_held_against_stands_in_the_table(tmp_path):
    (row,) = recovery_table(group_records(records_of(write(tmp_path / "a.h5")))).rows()
    assert row[8] == BEFORE == "its last value before"


# Where a fault belongs on an axis on which c is the end of cycle c.


@pytest.mark.parametrize(
    ("row", "begins"),
    [
        ((3, 20, 0, "crash", "start"), (2.0, 2.5)),
        ((3, 20, 0, "crash", "in_reduction"), (2.4, 2.6)),
        ((3, -1, 0, "crash", "after_send"), (3.0, 3.0)),
        ((3, 20, 0, "churn", "incarnation 1"), (2.0, 2.5)),
    ],
)
def test_a_fault_of_a_cycle_lies_between_its_end_and_the_one_before(tmp_path, row, begins):
    (one,) = episodes(read_record(set_faults(write(tmp_path / "a.h5"), row)))
    assert begins[0] <= one.begins == one.ends <= begins[1] and (begins[0] == 3.0 or one.begins > 2.0) and not one.lasts


def test_churn_of_some_cycles_is_shaded_from_the_start_of_the_first_to_the_end_of_the_last(tmp_path):
    rows = [(cycle, 9 * cycle, 1, "churn", "incarnation 1") for cycle in (3, 4)]
    (one,) = episodes(read_record(set_faults(write(tmp_path / "a.h5"), *rows)))
    assert 2.0 < one.begins < 2.5 and one.ends == 4.0 and one.lasts


@pytest.mark.parametrize(
    ("faults", "last"),
    [
        ({"loss_fraction": 0.1, "loss_first_cycle": 2, "loss_last_cycle": 4}, 4),
        ({"loss_fraction": 0.1, "loss_first_cycle": 2, "loss_last_cycle": 0}, CYCLES),
        ({"plan": [{"kind": "loss", "cycle": 2, "last_cycle": 5, "fraction": 0.1}]}, 5),
        ({"plan": [{"kind": "loss", "cycle": 2, "last_cycle": 2**31 - 1, "fraction": 0.1}]}, CYCLES),
        ({"plan": [{"kind": "loss", "cycle": 2, "fraction": 0.1}]}, 2),
    ],
)
def test_a_window_of_loss_lasts_to_the_end_of_its_last_cycle(tmp_path, faults, last):
    settings = config(**{f"faults__{name}": value for name, value in faults.items()})
    (one,) = episodes(read_record(set_faults(write(tmp_path / "a.h5", settings), (2, 9, -1, "loss", "10% loss"))))
    assert (one.first, one.last, one.begins, one.ends) == (2, last, 1.0, last) and one.lasts


# What is out of what.


def test_different_models_are_out_of_those_that_were_looked_at(tmp_path):
    crc = tables()["model_crc32"]
    crc[:, 2:] = 0  # two of four nodes are judged, and one of them dies
    series = read_record(write(tmp_path / "a.h5", model_crc32=crc)).series
    assert series["models_seen"].tolist() == [2, 2, 1, 1, 1, 1] and series["distinct_models"].tolist() == [2, 2, 1, 1, 1, 1]
    assert series["live"].tolist() == [4, 4, 3, 3, 3, 3]


# Skewed labels.


def skewed(path, **more):
    """A file with accuracies on own labels and of three classes; nobody is judged in the last cycle."""
    own = tables()["accuracy"] + np.float32(0.02)
    classes = np.linspace(0, 1, 3 * CYCLES, dtype=np.float32).reshape(CYCLES, 3)
    own[-1], classes[-1] = np.nan, np.nan
    return write(path, own_accuracy=own, class_accuracy=classes, **more)


def test_accuracy_on_own_labels_and_by_class_are_read_where_they_are(tmp_path):
    record = read_record(skewed(tmp_path / "a.h5"))
    assert record.series["own_accuracy"].tolist()[:5] == pytest.approx([mean + 0.02 for mean in MEANS[:5]], abs=1e-6)
    assert metrics.own_accuracy(record) == pytest.approx(0.92, abs=1e-6)
    assert metrics.class_accuracy(record).tolist() == pytest.approx([12 / 17, 13 / 17, 14 / 17])
    found = {table.name: table for table in all_tables(group_records([record]))}
    assert "on own labels" in [cell.header for cell in found["accuracy"].cells]
    assert found["class_accuracy"].rows() == [["heal", "1", "0.706 (class 0)", "0.706", "0.765", "0.824"]]


def test_files_and_parts_without_them_have_none(tmp_path):
    for record in (read_record(write(tmp_path / "a.h5")), read_record(write_parts(tmp_path / "b.h5"))):
        assert record.series["own_accuracy"].isna().all() and metrics.class_accuracy(record).size == 0
        found = {table.name: table for table in all_tables(group_records([record]))}
        assert "class_accuracy" not in found and "on own labels" not in [cell.header for cell in found["accuracy"].cells]


def test_bytes_are_counted_up_to_an_accuracy(tmp_path):
    record = read_record(write(tmp_path / "a.h5"))
    assert metrics.bytes_to(record, 0.85) == 100 * (53 + 53) and np.isnan(metrics.bytes_to(record, 0.99))
    (row,) = [row for row in target_table(group_records([record])).rows() if row[1] == "0.85"]
    assert row[-1] == "10.6 kB"


# The central baseline.


def central(path, seed=1, **changes):
    """One node that sends nothing, under a name that tells nothing."""
    settings = config(run__algorithm="upper", run__nodes=1, run__seed=seed, faults__crash_hubs="none", **changes)
    alone = {name: table[:, 1:2] for name, table in tables().items()}
    for name in alone:
        if name.startswith(("messages", "bytes")):
            alone[name] = 0 * alone[name]
    path = write(path, settings, ranks=1, **alone)
    with h5py.File(path, "a") as file:
        file.attrs["nodes"] = 1
        file["ranks/node_count"][:] = 1
        for name in ("cycles/node", "overlay/node", "overlay/views"):
            del file[name]
        file["cycles/node"] = np.zeros(1, np.int32)
        file["overlay/views"] = np.zeros((CYCLES, 1, 3), np.int32)
    return path


def test_the_central_baseline_is_known_by_one_node_and_no_message(tmp_path):
    paths = [write(tmp_path / "a.h5"), central(tmp_path / "b.h5"), central(tmp_path / "c.h5", seed=2, data__partition="shards")]
    paths += [central(tmp_path / "d.h5", data__dataset="mnist10k"), central(tmp_path / "e.h5", model__hidden=[9])]
    groups = group_records(records_of(*paths))
    assert [is_central(group) for group in groups] == [False, True, True, True, True]
    (one,) = baselines_of(groups[:1], groups)  # another seed, data set or model is no line above this one
    assert [run.path.name for run in one.runs] == ["b.h5"] and one.label.endswith("all data (n=1)")


def test_the_partition_and_the_start_make_no_other_baseline(tmp_path):
    paths = [write(tmp_path / "a.h5"), central(tmp_path / "b.h5", data__partition="shards", model__initial="independent")]
    groups = group_records(records_of(*paths))
    (one,) = baselines_of(groups[:1], groups)
    assert one.label == "upper, all data (n=1)"


# Consensus.


def test_checksums_and_saved_models_tell_of_consensus(tmp_path):
    models = np.array([[9, 9], [1, 0], [-1, 0], [0, 0]], np.float32)  # node 0 is dead
    path = write(tmp_path / "a.h5", models=models)
    assert read_record(path).series["distinct_models"].tolist() == [4, 4, 3, 3, 1, 1]
    with open_source(path) as source:
        assert final_distance(source) == pytest.approx(np.sqrt(2 / 3))
    with open_source(write(tmp_path / "b.h5")) as source:
        assert np.isnan(final_distance(source))


def test_blocks_of_any_size_give_the_same_record(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5")
    whole = read_record(path)
    monkeypatch.setattr("healmpi_analysis.source.BLOCK_BYTES", 1)
    with open_source(path) as source:
        assert len(list(source.blocks(["alive"]))) == CYCLES
    assert read_record(path).series.equals(whole.series)


def test_a_block_of_a_large_run_stays_within_its_bound(tmp_path):
    with open_source(write(tmp_path / "a.h5")) as source:
        source.cycles = np.arange(1000)
        source.facts = dataclasses.replace(source.facts, nodes=1000)
        steps = [stop - start for start, stop in source.blocks(TABLES)]
    # 8 B at most a number: 7 numbers of a node, 6 phases, 4 tables of 5 kinds.
    assert sum(steps) == 1000 and max(steps) * 8 * 1000 * (7 + 6 + 4 * 5) <= BLOCK_BYTES < 2 * max(steps) * 8 * 1000 * (7 + 6 + 4 * 5)


# The overlay.


def test_measures_of_a_graph_by_hand():
    # 0 and 1 know each other, both know 2; 3 is known by 2 alone; 4 is dead, and known by all.
    known = np.array([[1, 2, 4], [0, 2, 4], [2, 3, 4], [3, 4, -1], [0, 1, 2]])
    graph = topology.overlay(known, np.array([True] * 4 + [False]))
    found = topology.measures(graph)
    assert graph.in_degree.tolist() == [1, 1, 3, 2]  # own ids count here
    assert (found.in_degree_max, found.diameter) == (3, 2)
    assert found.path == pytest.approx((4 * 1 + 2 * 2) / 6)
    assert found.clustering == pytest.approx((1 + 1 + 1 / 3 + 0) / 4)


@pytest.mark.parametrize("nodes, slots", [(2, 1), (30, 3), (130, 6), (300, 2)])
def test_measures_agree_with_networkx(nodes, slots):
    networkx = pytest.importorskip("networkx")
    generator = np.random.default_rng(nodes)
    known, alive = generator.integers(-1, nodes, (nodes, slots)), generator.random(nodes) < 0.9
    alive[:2] = True
    if nodes == 2:
        known = np.array([[1], [0]])
    found = topology.measures(topology.overlay(known, alive))
    graph = topology.to_networkx(known, alive).to_undirected()
    assert found.clustering == pytest.approx(networkx.average_clustering(graph), abs=1e-6)
    if networkx.is_connected(graph):
        assert found.diameter == networkx.diameter(graph)
        assert found.path == pytest.approx(networkx.average_shortest_path_length(graph))
    else:
        assert found.path == found.diameter == np.inf


def test_a_complete_graph_is_searched_in_pieces(monkeypatch):
    everybody = np.broadcast_to(np.arange(90), (90, 90))
    monkeypatch.setattr(topology, "PIECE_BYTES", 4000)
    found = topology.measures(topology.overlay(everybody, np.ones(90, bool)))
    assert (found.in_degree_max, found.clustering, found.path, found.diameter) == (90, pytest.approx(1), 1, 1)


def test_a_large_ring_is_measured(tmp_path):
    ring = (np.arange(1500)[:, None] + [1]) % 1500
    found = topology.measures(topology.overlay(ring, np.ones(1500, bool)))
    assert (found.diameter, found.clustering) == (750, 0)
    assert found.path == pytest.approx(750**2 / 1499)


# Statistics and texts.


def test_statistics_by_hand():
    assert statistics.harmonic_mean([1, 2, 4]) == pytest.approx(3 / 1.75)
    assert np.isnan(statistics.harmonic_mean([1, 0])) and np.isnan(statistics.spread([1])) and np.isnan(statistics.percentile([1], 10))
    assert statistics.spread([1, 2, 3]) == 1 and statistics.median([1, np.nan, 3]) == 2
    assert all(np.isnan(statistics.bootstrap([1])))
    assert statistics.bootstrap([2, 2, 2]) == (2, 2)
    low, high = statistics.bootstrap(np.random.default_rng(0).normal(5, 1, 400))
    assert low < 5.1 and high > 4.9 and high - low == pytest.approx(4 / 20, abs=0.05)


def test_block_means_scatter_around_the_mean():
    values = np.arange(100.0)
    found = statistics.block_means(values, np.random.default_rng(0), 500)
    assert found.mean() == pytest.approx(49.5, abs=2)
    assert statistics.block_means(np.array([3.0]), np.random.default_rng(0), 5).tolist() == [3.0] * 5


def test_numbers_and_sizes_as_people_read_them():
    assert [number(value, 2) for value in (1.005, np.nan, np.inf)] == ["1.00", "-", "infinite"]
    assert [size(value) for value in (0, 999, 1000, 1.5e6, 2e13, np.nan)] == ["0 B", "999 B", "1 kB", "1.5 MB", "20 TB", "-"]


# Scenarios and groups.


def test_groups_differ_in_more_than_seed_and_ranks(tmp_path):
    ring = {"run__algorithm": "ring", "topology__name": "ring"}
    paths = [
        write(tmp_path / "1.h5"), write(tmp_path / "2.h5", config(run__seed=2), ranks=1), write(tmp_path / "3.h5", config(**ring)),
        write(tmp_path / "4.h5", config(rule__fanout=2)), write(tmp_path / "5.h5", config(faults__crash_hubs="none", **ring)),
    ]  # fmt: skip
    groups = group_records(records_of(*paths))
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("heal fanout=1, crash_hubs=all, crash_cycle=3", 2),
        ("heal fanout=2, crash_hubs=all, crash_cycle=3", 1),
        ("ring, no faults", 1),
        ("ring, crash_hubs=all, crash_cycle=3", 1),
    ]
    assert [group.label for group in by_ranks(groups)][:2] == [
        "heal fanout=1, crash_hubs=all, crash_cycle=3, 1 rank",
        "heal fanout=1, crash_hubs=all, crash_cycle=3, 2 ranks",
    ]


def test_a_skewed_partition_is_in_the_name_though_another_field_tells(tmp_path):
    plain, skewed = {"data__dataset": "a", "data__partition": "iid"}, {"data__dataset": "b", "data__partition": "shards"}
    paths = [write(tmp_path / f"{number}.h5", config(**one)) for number, one in enumerate((plain, skewed))]
    variants = [group.variant for group in group_records(records_of(*paths))]
    assert variants == ["heal dataset=a", "heal dataset=b partition=shards"]


SAID = {
    "all hubs crash at 3": {"crash_hubs": "all"},
    "3 best connected crash at 3": {"crash_best_connected": 3},
    "30% crash at 3": {"crash_fraction": 0.3},
    "30% crash at 3, hubs spared": {"crash_fraction": 0.3, "spare_hubs": True},
    "30% loss 2-4": {"loss_fraction": 0.3, "loss_first_cycle": 2, "loss_last_cycle": 4},
    "30% loss 1-end": {"loss_fraction": 0.3, "loss_first_cycle": 1, "loss_last_cycle": 0},
    "all hubs crash at 3 (in reduction)": {"crash_hubs": "all", "crash_point": "in_reduction"},
}


@pytest.mark.parametrize("said", [True, False], ids=["in words", "before schema 1.2"])
def test_faults_of_different_kinds_are_different_scenarios(tmp_path, said):
    paths = []
    for place, (words, faults) in enumerate(SAID.items()):
        settings = config(**({"faults__crash_hubs": "none"} | {f"faults__{name}": value for name, value in faults.items()}))
        paths.append(write(tmp_path / f"{place}.h5", settings, scenario=words if said else ""))
    groups = group_records(records_of(*paths))
    assert len({group.scenario for group in groups}) == len({group.label for group in groups}) == len(SAID)
    assert {group.variant for group in groups} == {"heal"}
    assert not said or {group.scenario for group in groups} == set(SAID)


@pytest.mark.parametrize("words", ["2 nodes crash at 3", ""])
def test_other_victims_are_another_scenario_though_the_words_are_the_same(tmp_path, words):
    changes = [{"faults__crash_nodes": nodes} for nodes in ([0, 1], [2, 3])]
    changes += [{"faults__crash_nodes": [0, 1], "run__algorithm": "ring"}]
    paths = [
        write(tmp_path / f"{place}.h5", config(faults__crash_hubs="none", **more), scenario=words) for place, more in enumerate(changes)
    ]
    groups = group_records(records_of(*paths))
    first, second, ring = (group.scenario for group in groups)
    assert first != second and first == ring and "[0, 1]" in first and "[2, 3]" in second
    assert [group.variant for group in groups] == ["heal", "heal", "ring"]


def test_another_model_of_newcomers_is_another_scenario_and_without_churn_it_is_nothing(tmp_path):
    def of(name, **faults):
        settings = config(faults__crash_hubs="none", **{f"faults__{field}": value for field, value in faults.items()})
        return write(tmp_path / name, settings)

    churned = [of(f"{model}.h5", churn_fraction=0.1, newcomer_model=model) for model in ("random", "initial")]
    assert len({record.scenario for record in records_of(*churned)}) == 2
    assert read_record(of("c.h5", newcomer_model="initial")).scenario == FAULT_FREE


def test_runs_without_faults_are_one_group_whatever_their_fault_section_holds(tmp_path):
    paths = [write(tmp_path / f"{cycle}.h5", config(faults__crash_hubs="none", faults__crash_cycle=cycle)) for cycle in (3, 9)]
    (group,) = group_records(records_of(*paths))
    assert (group.scenario, len(group.runs)) == (FAULT_FREE, 2)


def test_a_single_group_is_called_by_its_algorithm(tmp_path):
    assert [group.label for group in group_records(records_of(write(tmp_path / "a.h5")))] == ["heal"]


def test_scaling_by_hand(tmp_path):
    one, two = write(tmp_path / "1.h5", ranks=1), write(tmp_path / "2.h5", ranks=2)
    base, more = strong_scaling(by_ranks(group_records(records_of(one, two))))
    assert (base.ranks, base.seconds, base.speed_up) == (1, pytest.approx(0.62), 1)
    assert (more.base_seconds, more.seconds) == (pytest.approx(0.62), pytest.approx(0.32))
    assert (more.speed_up, more.efficiency) == (pytest.approx(0.62 / 0.32), pytest.approx(0.31 / 0.32))
    assert weak_scaling(by_ranks(group_records(records_of(one, two)))) == []


def test_tables_show_the_numbers_in_every_form(tmp_path):
    paths = [write(tmp_path / f"{seed}.h5", config(run__seed=seed), lift=lift) for seed, lift in ((1, -0.02), (2, 0.0), (3, 0.02))]
    found = {table.name: table for table in all_tables(group_records(records_of(*paths)))}
    assert list(found) == ["accuracy", "time_to_accuracy", "traffic", "load", "time", "recovery"]
    row = found["accuracy"].frame.iloc[0]
    assert (row["n"], row["mean"], row["std"]) == (3, pytest.approx(0.96), pytest.approx(0.02, rel=1e-4))
    assert 0.94 - 1e-6 <= row["mean_low"] < 0.96 < row["mean_high"] <= 0.98 + 1e-6
    assert found["time"].frame.iloc[0]["rate"] == pytest.approx(1 / 0.32)
    reached = found["time_to_accuracy"].frame.set_index("target")
    assert reached.loc[0.95, "reached"] == 2 and reached.loc[0.95, "cycles"] == 6  # one seed ends at 0.94
    assert to_csv(found["accuracy"]).splitlines()[0].startswith("group,n,mean,mean_low,mean_high")
    assert "| heal | 3 | 0.9600 [" in to_markdown(found["accuracy"])
    latex = to_latex(found["time"])
    assert r"train \%" in latex and r"\toprule" in latex and "95 %" not in latex
