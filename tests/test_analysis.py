"""The analysis package against numbers worked out by hand, and against files that are not what they should be."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `analysis` is not installed")

from analysis_sample import CYCLES, MEANS, config, tables, write
from healmpi_analysis import metrics, statistics, topology
from healmpi_analysis.consensus import final_distance
from healmpi_analysis.groups import by_ranks, group_records
from healmpi_analysis.records import TABLES, read_record, read_records
from healmpi_analysis.recovery import episodes, recoveries
from healmpi_analysis.scaling import strong_scaling, weak_scaling
from healmpi_analysis.source import BLOCK_BYTES
from healmpi_analysis.sources import open_source
from healmpi_analysis.tables import all_tables
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
    # 8 B at most a number: 5 numbers of a node, 6 phases, 4 tables of 5 kinds.
    assert sum(steps) == 1000 and max(steps) * 8 * 1000 * (5 + 6 + 4 * 5) <= BLOCK_BYTES < 2 * max(steps) * 8 * 1000 * (5 + 6 + 4 * 5)


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
