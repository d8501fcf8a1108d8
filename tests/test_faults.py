"""The fault boundary: who is hit, what a silent node still does, and what the others make of it."""

import drawn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import simulate

from healmpi.config import CRASH_POINTS, FaultEvent
from healmpi.messages import Kind
from healmpi.results.schema import GROUP_OUTCOMES
from healmpi.worlds.faults import Plan, State

SMALL = ("data.dataset=synthetic", "data.samples=200", "data.features=4", "model.name=logistic", "results.audit=on")


def test_a_fraction_of_the_live_nodes_is_drawn_from_the_seed():
    plan = Plan([FaultEvent(cycle=3, fraction=0.2)], seed=1)
    assert plan.strike(2, State(range(50), [])) == []
    hit = [strike.node for strike in plan.strike(3, State(range(50), []))]
    assert len(hit) == 10 and hit == sorted(set(hit)) and hit == [one.node for one in plan.strike(3, State(range(50), []))]
    assert hit != [one.node for one in Plan([FaultEvent(cycle=3, fraction=0.2)], seed=2).strike(3, State(range(50), []))]


def test_given_nodes_one_hub_all_hubs():
    assert [one.node for one in Plan([FaultEvent(cycle=3, nodes=(4, 60, 2))], 1).strike(3, State(range(50), []))] == [2, 4]
    assert [one.node for one in Plan([FaultEvent(cycle=3, hubs="all")], 1).strike(3, State(range(50), [7, 5]))] == [5, 7]
    (one,) = Plan([FaultEvent(cycle=3, hubs="one")], 1).strike(3, State(range(50), [7, 5]))
    assert one.node in (5, 7)


def test_churn_hits_anew_in_every_cycle_of_its_interval():
    plan = Plan([FaultEvent(kind="churn", cycle=3, last_cycle=5, fraction=0.1)], 1)
    hits = [tuple(one.node for one in plan.strike(cycle, State(range(100), []))) for cycle in range(2, 7)]
    assert [len(hit) for hit in hits] == [0, 10, 10, 10, 0] and len(set(hits)) == 4


def test_nobody_is_hit_twice_in_a_cycle():
    plan = Plan([FaultEvent(cycle=3, hubs="all"), FaultEvent(cycle=3, fraction=1.0), FaultEvent(kind="churn", cycle=3, fraction=1.0)], 1)
    hit = plan.strike(3, State(range(10), [1, 2]))
    assert [one.node for one in hit] == list(range(10)) and {one.kind for one in hit} == {"crash"}


def test_the_best_connected_are_those_in_most_views_ties_to_the_smaller_id():
    plan = Plan([FaultEvent(cycle=3, best_connected=3)], 1)
    assert plan.needs_degrees(3) and not plan.needs_degrees(4)
    assert [one.node for one in plan.strike(3, State(range(6), (), {0: 1, 1: 4, 2: 7, 3: 4, 4: 4}))] == [1, 2, 3]


def test_hubs_can_be_spared():
    plan = Plan([FaultEvent(cycle=3, fraction=0.5, spare_hubs=True), FaultEvent(kind="churn", cycle=3, nodes=(1, 2), spare_hubs=True)], 1)
    hit = plan.strike(3, State(range(10), (0, 1)))
    assert plan.needs_hubs(3) and not {one.node for one in hit} & {0, 1}
    assert sum(one.kind == "crash" for one in hit) == 5, "half of all, not of those that may be hit"


def test_losses_add_up_and_are_told_when_they_begin():
    plan = Plan([FaultEvent(kind="loss", cycle=2, last_cycle=4, fraction=0.5), FaultEvent(kind="loss", cycle=4, fraction=0.5)], 1)
    assert [plan.loss(cycle) for cycle in range(1, 6)] == [0, 0.5, 0.5, 0.75, 0]
    assert plan.strike(2, State(range(9))) == [] and plan.remarks(2, State(range(9))) == [("loss", "0.5 of all messages, to cycle 4")]


def test_a_lost_message_was_sent_and_is_counted_as_dropped():
    loss = ("faults.loss_fraction=0.2", "faults.loss_first_cycle=3", "faults.loss_last_cycle=6")
    run = simulate(*SMALL, "run.nodes=40", "run.cycles=9", "run.algorithm=ring", *loss)
    out, into, dropped = (run.column(name).sum(axis=(1, 2)) for name in ("messages_out", "messages_in", "messages_dropped"))
    assert (out == into + dropped).all() and (out == 80).all()
    assert not dropped[[0, 1, 6, 7, 8]].any() and 40 <= dropped[2:6].sum() <= 90, "20 % of 320 are 64"
    assert [(one.cycle, one.kind, one.detail) for one in run.faults] == [(3, "loss", "0.2 of all messages, to cycle 6")]
    assert run.host.complaints == []


def test_a_lost_commit_breaks_one_attempt_and_nothing_hangs():
    run = simulate(
        *SMALL, "run.nodes=30", "run.cycles=30", "elevator.hub_count=4", "faults.loss_fraction=0.3", "faults.loss_first_cycle=10"
    )
    commits = run.column("messages_dropped")[:, :, Kind.GROUP_COMMIT].sum(axis=1)
    assert commits.any() and "abandoned" in {GROUP_OUTCOMES[row.outcome] for row in run.groups}
    assert run.host.complaints == [] and run.column("alive").all()


DEATH = ("faults.crash_hubs=all", "faults.crash_cycle=4", "run.nodes=20", "run.cycles=8")


@pytest.mark.parametrize("algorithm, servers", [("federated", 1), ("gaia", 5)])
def test_without_servers_clients_go_on_training_alone(algorithm, servers):
    run = simulate(*SMALL, *DEATH, f"run.algorithm={algorithm}")
    alive, trained = run.column("alive"), run.column("trained")
    assert alive[3:].sum(axis=1).tolist() == [20 - servers] * 5
    assert (trained[3:] == alive[3:]).all(), "all who are left train"
    assert run.column("staleness")[-1][alive[-1]].tolist() == [5] * (20 - servers), "nobody has heard of a global model since"
    spread = [len(set(run.column("model_crc32")[cycle][alive[cycle]])) for cycle in (2, -1)]
    assert spread == [1, 20 - servers], "one model for all, then a model each"


def test_one_of_gaias_servers_dies_and_its_workers_alone_are_cut_off():
    run = simulate(*SMALL, "run.nodes=20", "run.cycles=8", "run.algorithm=gaia", "faults.crash_nodes=[0]", "faults.crash_cycle=4")
    assert run.column("staleness")[-1].tolist()[1:] == [5] * 3 + [0] * 16
    assert run.host.complaints == []


def test_a_plan_for_hubs_hits_nobody_where_there_are_none():
    run = simulate(*SMALL, *DEATH, "run.algorithm=gossip")
    assert run.column("alive").all() and [(one.kind, one.detail) for one in run.faults] == [("none", "crash of all of the hubs hit nobody")]


def test_the_best_connected_of_a_star_is_its_server():
    run = simulate(
        *SMALL, "run.nodes=20", "run.cycles=6", "run.algorithm=federated", "faults.crash_best_connected=1", "faults.crash_cycle=4"
    )
    assert [one.node for one in run.faults] == [0]


def test_a_crashed_node_sends_nothing_takes_nothing_in_and_what_came_is_counted():
    run = simulate(*SMALL, "run.nodes=20", "run.cycles=8", "faults.crash_nodes=[0,7]", "faults.crash_cycle=4")
    alive, out, into, dropped = (run.column(name) for name in ("alive", "messages_out", "messages_in", "messages_dropped"))
    assert alive[:3].all() and not alive[3:, [0, 7]].any() and alive[3:].sum(axis=1).tolist() == [18] * 5
    assert not out[3:, [0, 7]].any() and not into[3:, [0, 7]].any() and dropped[3, [0, 7]].any()
    assert not dropped[:, [node for node in range(20) if node not in (0, 7)]].any()
    assert (out.sum(axis=1) == into.sum(axis=1) + dropped.sum(axis=1)).all()
    assert [(fault.cycle, fault.node, fault.kind, fault.detail) for fault in run.faults] == [
        (4, 0, "crash", "start"),
        (4, 7, "crash", "start"),
    ]


def test_all_hubs_die_aggregation_pauses_and_resumes_with_others():
    run = simulate(
        *SMALL,
        "run.nodes=40",
        "run.cycles=26",
        "topology.view_size=10",
        "elevator.hub_count=4",
        "faults.crash_hubs=all",
        "faults.crash_cycle=13",
    )
    hubs = run.column("is_hub")
    before, after = set(np.flatnonzero(hubs[11])), set(np.flatnonzero(hubs[-1]))
    assert len(before) == len(after) == 4 and not before & after
    updates = (run.column("staleness") == 0).sum(axis=1)
    assert updates[11] == 40 and updates[-1] == 36
    assert run.host.complaints == []


def test_churn_replaces_in_the_same_slot_and_newcomers_join():
    run = simulate(
        *SMALL, "run.nodes=30", "run.cycles=14", "faults.churn_fraction=0.2", "faults.churn_first_cycle=5", "faults.churn_last_cycle=7"
    )
    incarnation = run.column("incarnation")
    assert incarnation[3].sum() == 0 and [incarnation[cycle].sum() for cycle in (4, 5, 6, 7, -1)] == [6, 12, 18, 18, 18]
    assert run.column("alive").all()
    assert (run.column("staleness")[-1] == 0).all(), "newcomers take part"
    assert sum(fault.kind == "churn" for fault in run.faults) == 18


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("hubs", ["one", "all"])
def test_hubs_fall_silent_at_every_point_and_the_others_go_on(point, hubs):
    run = simulate(
        *SMALL,
        "run.nodes=30",
        "run.cycles=20",
        "elevator.hub_count=4",
        f"faults.crash_hubs={hubs}",
        "faults.crash_cycle=9",
        f"faults.crash_point={point}",
    )
    died = {fault.node for fault in run.faults}
    hubs_before = set(np.flatnonzero(run.column("is_hub")[7]))
    assert died == hubs_before if hubs == "all" else len(died) == 1 and died < hubs_before
    details = {fault.detail for fault in run.faults}
    assert details == {point} if hubs == "one" else details <= {point, "end of cycle"} and point in details
    assert run.host.complaints == [] and run.host.audited
    out, into, dropped = (run.column(name).sum(axis=1) for name in ("messages_out", "messages_in", "messages_dropped"))
    assert (out == into + dropped).all()
    live = run.column("alive")[-1]
    assert live.sum() == 30 - len(died) and (run.column("staleness")[-1][live] == 0).all()


def outcomes(run, cycle: int) -> set[tuple[str, tuple[int, ...]]]:
    return {(GROUP_OUTCOMES[row.outcome], row.members) for row in run.groups if row.cycle == cycle}


@pytest.mark.parametrize("point", ["after_commit", "in_reduction"])
def test_a_hub_that_breaks_the_reduction_costs_an_attempt_and_the_rest_average_in_the_next(point):
    run = simulate(
        *SMALL,
        "run.nodes=30",
        "run.cycles=12",
        "elevator.hub_count=4",
        "faults.crash_hubs=one",
        "faults.crash_cycle=9",
        f"faults.crash_point={point}",
    )
    (died,) = {fault.node for fault in run.faults}
    (before,) = {members for _, members in outcomes(run, 8)}
    rest = tuple(member for member in before if member != died)
    assert outcomes(run, 9) == {("abandoned", before), ("averaged", rest)}


def test_a_client_crashes_before_or_after_sending():
    for point, sent in (("before_send", 0), ("after_send", 1)):
        run = simulate(
            *SMALL,
            "run.nodes=30",
            "run.cycles=12",
            "elevator.hub_count=2",
            "faults.crash_nodes=[29]",
            "faults.crash_cycle=9",
            f"faults.crash_point={point}",
        )
        assert not run.column("is_hub")[8, 29]
        assert run.column("messages_out")[8, 29, Kind.MODEL] == sent and not run.column("alive")[8, 29]


@settings(max_examples=150)
@given(st.integers(0, 10**9))
def test_every_run_ends_and_is_valid_whatever_the_plan(number):
    check_valid(simulate(*drawn.overrides(number)))


@pytest.mark.parametrize("name", drawn.PRESET_NAMES)
@settings(max_examples=25)
@given(st.integers(0, 10**9))
def test_every_preset_ends_and_is_valid_whatever_the_plan(name, number):
    check_valid(simulate(*drawn.preset(number, name)))


@settings(max_examples=100)
@given(st.integers(0, 10**9))
def test_every_sensible_pair_of_topology_and_rule_does_too(number):
    check_valid(simulate(*drawn.pair(number)))


def check_valid(run) -> None:
    """What `VALID` means, on rows in memory."""
    assert len(run.rows) == run.config.run.cycles + run.config.run.warmup_cycles
    out, into, dropped = (run.column(name).sum(axis=1) for name in ("messages_out", "messages_in", "messages_dropped"))
    assert (out == into + dropped).all()
    members = {}
    for row in run.groups:
        assert members.setdefault(row.epoch, row.members) == row.members
    alive, trained = run.column("alive"), run.column("trained")
    assert np.isfinite(run.column("train_loss")[trained]).all()
    assert np.isfinite(run.column("loss")[run.config.run.warmup_cycles :][alive[run.config.run.warmup_cycles :]]).all()
    assert run.host.audited and run.host.complaints == []
