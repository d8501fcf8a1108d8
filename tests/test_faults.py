"""The fault boundary: who is hit, what a silent node still does, and what the others make of it."""

from collections import Counter

import drawn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate import simulate

from healmpi.algorithms.agreement import GROUP_COMMIT
from healmpi.algorithms.averages.mean import Mean
from healmpi.config import Config
from healmpi.faults.doors import Doors
from healmpi.faults.kinds.crash import POINTS
from healmpi.faults.plan import FaultEvent, Plan, Surroundings, carry_out, remarks, scenario, whom, wording
from healmpi.messages import MODEL, Message
from healmpi.results.schema import GROUP_OUTCOMES
from healmpi.settings import UsageError
from healmpi.worlds.local import LocalWorld

SMALL = ("data.dataset=synthetic", "data.samples=200", "data.features=4", "model.name=logistic", "results.audit=on")


# The plan.


class Ground:
    """Notes what faults do."""

    def __init__(self):
        self.struck, self.shares = [], []

    def silence(self, node, kind, detail):
        assert detail == "start"
        self.struck.append((node, kind))

    def arm(self, node, kind, point, arm):
        assert kind == "crash"
        self.struck.append((node, point))

    def replace(self, node, kind):
        self.struck.append((node, kind))

    def lose(self, share):
        self.shares.append(share)


def carried_out(plan: Plan, cycle: int, live, hubs=(), degrees=None) -> Ground:
    ground = Ground()
    carry_out(plan.due(cycle, Surroundings(live, hubs, degrees or {})), ground)
    return ground


def hit(plan: Plan, cycle: int, live, hubs=(), degrees=None) -> list[int]:
    """Who is hit in a cycle, in the order of the blows."""
    return [node for node, _ in carried_out(plan, cycle, live, hubs, degrees).struck]


def test_a_fraction_of_the_live_nodes_is_drawn_from_the_seed():
    plan = Plan([FaultEvent(cycle=3, fraction=0.2)], seed=1)
    assert hit(plan, 2, range(50)) == []
    victims = hit(plan, 3, range(50))
    assert len(victims) == 10 and victims == sorted(set(victims)) and victims == hit(plan, 3, range(50))
    assert victims != hit(Plan([FaultEvent(cycle=3, fraction=0.2)], seed=2), 3, range(50))


def test_given_nodes_one_hub_all_hubs():
    assert hit(Plan([FaultEvent(cycle=3, nodes=(4, 60, 2))], 1), 3, range(50)) == [2, 4]
    assert hit(Plan([FaultEvent(cycle=3, hubs="all")], 1), 3, range(50), [5, 7]) == [5, 7]
    (one,) = hit(Plan([FaultEvent(cycle=3, hubs="one")], 1), 3, range(50), [5, 7])
    assert one in (5, 7)


def test_churn_hits_anew_in_every_cycle_of_its_interval():
    plan = Plan([FaultEvent(kind="churn", cycle=3, last_cycle=5, fraction=0.1)], 1)
    hits = [tuple(hit(plan, cycle, range(100))) for cycle in range(2, 7)]
    assert [len(one) for one in hits] == [0, 10, 10, 10, 0] and len(set(hits)) == 4


def test_nobody_is_hit_twice_in_a_cycle():
    plan = Plan([FaultEvent(cycle=3, hubs="all"), FaultEvent(cycle=3, fraction=1.0), FaultEvent(kind="churn", cycle=3, fraction=1.0)], 1)
    assert carried_out(plan, 3, range(10), [1, 2]).struck == [(node, "crash") for node in range(10)]


def test_crashes_come_before_churn_whatever_their_order_in_the_plan():
    plan = Plan([FaultEvent(kind="churn", cycle=3, nodes=(1, 5)), FaultEvent(cycle=3, nodes=(2, 4), point="after_send")], 1)
    assert carried_out(plan, 3, range(10)).struck == [(2, "after_send"), (4, "after_send"), (1, "churn"), (5, "churn")]


def test_the_best_connected_are_those_in_most_views_ties_to_the_smaller_id():
    plan = Plan([FaultEvent(cycle=3, best_connected=3)], 1)
    assert plan.needs_degrees(3) and not plan.needs_degrees(4)
    assert hit(plan, 3, range(6), (), {0: 1, 1: 4, 2: 7, 3: 4, 4: 4}) == [1, 2, 3]


def test_hubs_can_be_spared():
    plan = Plan([FaultEvent(cycle=3, fraction=0.5, spare_hubs=True), FaultEvent(kind="churn", cycle=3, nodes=(1, 2), spare_hubs=True)], 1)
    struck = carried_out(plan, 3, range(10), (0, 1)).struck
    assert plan.needs_hubs(3) and not {node for node, _ in struck} & {0, 1}
    assert sum(kind == "crash" for _, kind in struck) == 5, "half of all, not of those that may be hit"


@pytest.mark.parametrize("hubs", [(), (0,), (3, 7), (1, 2, 3, 4, 5)])
def test_a_dose_is_as_many_nodes_whatever_the_number_of_hubs(hubs):
    """A server and four workers, five hubs, any five: algorithms lose the same number of nodes."""
    plan = Plan([FaultEvent(cycle=3, hubs="all", dose=5)], 1)
    victims = hit(plan, 3, range(20), hubs)
    assert plan.needs_hubs(3) and len(set(victims)) == 5 and set(hubs) <= set(victims)
    assert victims == hit(plan, 3, range(20), hubs)
    assert not hubs or len(hubs) == 5 or victims != hit(Plan([FaultEvent(cycle=3, hubs="all", dose=5)], 2), 3, range(20), hubs)


def test_one_hub_and_its_dose_are_one_hub_and_others_that_are_none():
    for seed in range(20):
        victims = hit(Plan([FaultEvent(cycle=3, hubs="one", dose=4)], seed), 3, range(12), (0, 5, 9))
        assert len(victims) == 4 and len({0, 5, 9} & set(victims)) == 1


def test_more_hubs_than_the_dose_all_die_and_it_is_told():
    plan = Plan([FaultEvent(cycle=3, hubs="all", dose=2)], 1)
    surroundings = Surroundings(range(9), (1, 2, 3))
    assert hit(plan, 3, range(9), (1, 2, 3)) == [1, 2, 3]
    assert remarks(3, plan.due(3, surroundings)) == [("none", "2 nodes with all hubs crash at 3: hit 3 nodes")]
    assert remarks(3, plan.due(3, Surroundings(range(9), (1,)))) == []
    assert remarks(3, plan.due(3, Surroundings((4,), ()))) == [("none", "2 nodes with all hubs crash at 3: hit 1 node")]
    assert remarks(3, plan.due(3, Surroundings((), ()))) == [("none", "2 nodes with all hubs crash at 3: hit nobody")]


@settings(max_examples=200)
@given(st.sets(st.integers(0, 40)), st.data(), st.sampled_from(["one", "all"]), st.integers(0, 45), st.integers(0, 10**6))
def test_a_dose_in_any_surroundings(live, data, which, dose, seed):
    """Nobody twice, no hub spared or added, never more than the dose but for the hubs; the hubs are those that die without a dose."""
    hubs = sorted(data.draw(st.sets(st.sampled_from(sorted(live)))) if live else set())
    first = FaultEvent(cycle=3, nodes=tuple(data.draw(st.sets(st.integers(0, 40), min_size=1))))
    surroundings = Surroundings(sorted(live), hubs)
    (_, before), (_, victims) = Plan([first, FaultEvent(cycle=3, hubs=which, dose=dose)], seed).due(3, surroundings)
    _, (_, without) = Plan([first, FaultEvent(cycle=3, hubs=which)], seed).due(3, surroundings)
    assert len(set(victims)) == len(victims) and set(victims) <= live - set(before)
    assert set(victims) & set(hubs) == set(without)
    free = [node for node in live - set(before) if node not in hubs]
    assert len(victims) == len(without) + min(len(free), max(0, dose - len(without)))


def test_losses_are_told_when_they_begin():
    plan = Plan([FaultEvent(kind="loss", cycle=2, last_cycle=4, fraction=0.5), FaultEvent(kind="loss", cycle=4, fraction=0.5)], 1)
    assert [carried_out(plan, cycle, range(9)).shares for cycle in range(1, 6)] == [[], [0.5], [0.5], [0.5, 0.5], []]
    due = plan.due(2, Surroundings(range(9)))
    assert hit(plan, 2, range(9)) == [] and remarks(2, due) == [("loss", "50% loss 2-4")]
    assert remarks(3, plan.due(3, Surroundings(range(9)))) == []


class Counts(Counter):
    """Counts traffic."""

    def sent(self, node, actions):
        self["sent"] += len(actions)

    def accepted(self, node, messages):
        self["accepted"] += len(messages)

    def dropped(self, message):
        self["dropped"] += 1


def test_what_several_losses_leave_over_is_multiplied():
    sent, counts = 2000, Counts()
    doors = Doors(LocalWorld(0, Mean()), 2, 1, counts, lambda *row: None)
    for tick, (losses, most, least) in enumerate([((), 0, 0), ((0.5,), 1070, 930), ((0.5, 0.5), 1560, 1440), ((), 0, 0)]):
        counts.clear()
        doors.begin_cycle()
        for share in losses:
            doors.lose(share)
        assert doors.act(0, tick, [Message(MODEL, 0, 1, tick, tick) for _ in range(sent)]) == []
        assert doors.close(tick, tick + 1).targets == {1}
        assert len(doors.deliver(1)) == counts["accepted"] == sent - counts["dropped"]
        assert counts["sent"] == sent and least <= counts["dropped"] <= most
        doors.end_cycle()


@pytest.mark.parametrize(
    ("event", "who", "words"),
    [
        ({"nodes": (3,)}, "node 3", "node 3 crash at 5"),
        ({"nodes": (3, 4), "point": "after_send"}, "2 nodes", "2 nodes crash at 5 (after send)"),
        ({"hubs": "all"}, "all hubs", "all hubs crash at 5"),
        ({"hubs": "one"}, "one hub", "one hub crash at 5"),
        ({"hubs": "all", "dose": 5}, "5 nodes with all hubs", "5 nodes with all hubs crash at 5"),
        ({"hubs": "one", "dose": 1}, "1 node with one hub", "1 node with one hub crash at 5"),
        ({"best_connected": 1}, "best connected", "best connected crash at 5"),
        ({"best_connected": 2}, "2 best connected", "2 best connected crash at 5"),
        ({"fraction": 0.2, "spare_hubs": True}, "20%", "20% crash at 5, hubs spared"),
        ({"kind": "churn", "fraction": 0.125, "last_cycle": 9}, "12.5%", "12.5% churn 5-9"),
        ({"kind": "loss", "fraction": 0.1, "last_cycle": 2**31 - 1}, "10%", "10% loss 5-end"),
    ],
)
def test_an_entry_in_a_few_words(event, who, words):
    made = FaultEvent(**({"cycle": 5} | event))
    assert (whom(made), wording(made)) == (who, words)
    assert scenario([made, made]) == f"{words}, {words}" and scenario([]) == "no faults"


# Whole runs.


def test_a_lost_message_was_sent_and_is_counted_as_dropped():
    loss = ("faults.loss_fraction=0.2", "faults.loss_first_cycle=3", "faults.loss_last_cycle=6")
    run = simulate(*SMALL, "run.nodes=40", "run.cycles=9", "run.algorithm=ring", *loss)
    out, into, dropped = (run.column(name).sum(axis=(1, 2)) for name in ("messages_out", "messages_in", "messages_dropped"))
    assert (out == into + dropped).all() and (out == 80).all()
    assert not dropped[[0, 1, 6, 7, 8]].any() and 40 <= dropped[2:6].sum() <= 90, "20 % of 320 are 64"
    assert [(one.cycle, one.kind, one.detail) for one in run.faults] == [(3, "loss", "20% loss 3-6")]
    assert run.complaints == []


def test_a_lost_commit_breaks_one_attempt_and_nothing_hangs():
    run = simulate(
        *SMALL, "run.nodes=30", "run.cycles=30", "elevator.hub_count=4", "faults.loss_fraction=0.3", "faults.loss_first_cycle=10"
    )
    commits = run.of_kinds("messages_dropped", GROUP_COMMIT).sum(axis=(1, 2))
    assert commits.any() and "abandoned" in {GROUP_OUTCOMES[row.outcome] for row in run.groups}
    assert run.complaints == [] and run.column("alive").all()


DOSE = ("faults.crash_hubs=all", "faults.crash_dose=5", "faults.crash_cycle=12")
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


@pytest.mark.parametrize("algorithm", ["heal", "federated", "gaia", "gossip", "epidemic"])
def test_equal_doses_leave_equally_many_nodes_in_every_algorithm(algorithm):
    run = simulate(*SMALL, "run.nodes=20", "run.cycles=16", f"run.algorithm={algorithm}", *DOSE)
    hubs = set(np.flatnonzero(run.column("is_hub")[10]))
    died = {one.node for one in run.faults}
    assert len(died) == 5 and hubs <= died and run.column("alive")[-1].sum() == 15
    assert run.config.fault_events()[0].dose == 5 and scenario(run.config.fault_events()) == "5 nodes with all hubs crash at 12"
    assert run.complaints == []


def test_churn_can_have_a_dose_too():
    churn = "faults.plan=[{kind='churn', cycle=3, last_cycle=4, hubs='all', dose=3}]"
    run = simulate(*SMALL, "run.nodes=12", "run.cycles=5", "run.algorithm=federated", churn)
    assert [run.column("incarnation")[cycle].sum() for cycle in range(5)] == [0, 0, 3, 6, 6]
    assert scenario(run.config.fault_events()) == "3 nodes with all hubs churn 3-4"


def test_one_of_gaias_servers_dies_and_its_workers_alone_are_cut_off():
    run = simulate(*SMALL, "run.nodes=20", "run.cycles=8", "run.algorithm=gaia", "faults.crash_nodes=[0]", "faults.crash_cycle=4")
    assert run.column("staleness")[-1].tolist()[1:] == [5] * 3 + [0] * 16
    assert run.complaints == []


def test_a_plan_for_hubs_hits_nobody_where_there_are_none():
    run = simulate(*SMALL, *DEATH, "run.algorithm=gossip")
    assert run.column("alive").all() and [(one.kind, one.detail) for one in run.faults] == [("none", "all hubs crash at 4: hit nobody")]


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
    assert run.complaints == []


def test_churn_replaces_in_the_same_slot_and_newcomers_join():
    run = simulate(
        *SMALL, "run.nodes=30", "run.cycles=14", "faults.churn_fraction=0.2", "faults.churn_first_cycle=5", "faults.churn_last_cycle=7"
    )
    incarnation = run.column("incarnation")
    assert incarnation[3].sum() == 0 and [incarnation[cycle].sum() for cycle in (4, 5, 6, 7, -1)] == [6, 12, 18, 18, 18]
    assert run.column("alive").all()
    assert (run.column("staleness")[-1] == 0).all(), "newcomers take part"
    assert sum(fault.kind == "churn" for fault in run.faults) == 18


@pytest.mark.parametrize("point", POINTS)
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
    assert run.complaints == [] and run.host.closing.audited
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
        assert run.of_kinds("messages_out", MODEL)[8, 29].tolist() == [sent] and not run.column("alive")[8, 29]


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
    assert run.host.closing.audited and run.complaints == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('{kind = "churn", fraction = 0.1, point = "before_send"}', ["faults.plan.point", "before_send", "kind = 'churn'", "crash"]),
        ("{fraction = 0.1, last_cycle = 3}", ["faults.plan.last_cycle", "3", "kind = 'crash'", "churn, loss"]),
        ('{kind = "loss", fraction = 0.1, point = "after_send"}', ["faults.plan.point", "after_send", "kind = 'loss'"]),
    ],
)
def test_an_entry_that_says_what_its_kind_does_not_have_is_refused(entry, words):
    with pytest.raises(UsageError) as raised:
        Config.load(None, [f"faults.plan=[{entry}]"]).resolve()
    assert all(word in str(raised.value) for word in words), str(raised.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("faults.plan=[{fraction=0.1, dose=3}]", ["faults.plan.dose", "3", "hubs 'one' and 'all'"]),
        ("faults.plan=[{nodes=[1], dose=3}]", ["faults.plan.dose", "3"]),
        ("faults.plan=[{best_connected=1, dose=3}]", ["faults.plan.dose", "3"]),
        ("faults.plan=[{kind='churn', fraction=0.1, dose=3}]", ["faults.plan.dose", "3"]),
        ("faults.plan=[{kind='loss', fraction=0.1, dose=3}]", ["faults.plan", "'dose': 3", "a fraction of all messages"]),
        ("faults.plan=[{dose=3}]", ["faults.plan", "says who is hit"]),
        ("faults.plan=[{hubs='all', dose=-1}]", ["dose", "-1", "at least 0"]),
        ("faults.plan=[{hubs='all', dose=9}]", ["faults.plan[0].dose", "9", "at most run.nodes, 8"]),
        ("faults.crash_dose=3", ["faults.crash_dose", "3", "faults.crash_hubs is 'none'"]),
    ],
)
def test_a_dose_is_of_hubs_and_of_no_more_nodes_than_there_are(given, words):
    with pytest.raises(UsageError) as raised:
        Config.load(None, ["run.nodes=8", given]).resolve()
    assert all(word in str(raised.value) for word in words), str(raised.value)
    with pytest.raises(UsageError, match=r"faults\.crash_dose = 9 .*at most run\.nodes, 8"):
        Config.load(None, ["run.nodes=8", "faults.crash_hubs=all", "faults.crash_dose=9"]).resolve()


def test_a_silent_node_does_nothing_any_more():
    """Nothing that it does leaves, whatever it had begun before."""
    doors = Doors(LocalWorld(0, Mean()), 2, 1, Counts(), lambda *row: None)
    doors.silence(1, True)
    assert doors.act(1, 5, [Message(MODEL, 1, 0, 1, 5)]) == []
    assert not doors.close(5, 9).targets
