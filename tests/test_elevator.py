"""Elevator, sentence by sentence (heal.md section 2), on hand-made exchanges and properties over seeds."""

import random

import pytest
from fleet import Fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from healmpi.messages import Kind, Message
from healmpi.overlay import metrics
from healmpi.overlay.elevator import BACKWARD_REPLY, BACKWARD_REQUEST, CACHE_REPLY, CACHE_REQUEST, Climber, ElevatorSettings


def node(view, c=4, h=2, identity=9, **more) -> Climber:
    return Climber(identity, ElevatorSettings(c, h, **more), view, random.Random(1))


def reply(kind: Kind, source: int, ids: tuple[int, ...], cycle: int = 1, target: int = 9) -> Message:
    return Message(kind, source, target, cycle, 1, ids)


def cycle(overlay: Climber, views: dict[int, tuple], backward: dict[int, tuple] | None = None) -> list[Message]:
    """One active cycle against scripted peers; returns the backward requests."""
    overlay.advance(0, 0, 1)
    overlay.receive(2, [reply(CACHE_REPLY, peer, ids) for peer, ids in views.items()])
    asked = overlay.advance(2, 2, 1)
    overlay.receive(4, [reply(BACKWARD_REPLY, peer, ids) for peer, ids in (backward or {}).items()])
    overlay.advance(4, 4, 1)
    return asked


def test_the_start_is_a_view_of_distinct_foreign_ids():
    with pytest.raises(ValueError, match="distinct"):
        node((1, 1))
    with pytest.raises(ValueError, match="without its own"):
        node((1, 9))


def test_every_peer_in_the_view_is_asked_for_its_view():
    requests = node((1, 2, 3)).advance(0, 7, 5)
    assert requests == [Message(CACHE_REQUEST, 9, peer, 5, 7) for peer in (1, 2, 3)]


def test_preferred_are_the_most_frequent_ids_and_ties_go_to_the_smaller():
    overlay = node((1, 2, 3))
    asked = cycle(overlay, {1: (8, 5, 4), 2: (8, 5, 4), 3: (8, 6, 7)})
    assert overlay.hubs() == (8, 4), "8 is met three times; 4 and 5 twice, so the smaller one"
    assert [message.target for message in asked] == [8, 4]


def test_a_node_s_own_id_counts_like_any_other_so_that_a_hub_lists_itself():
    overlay = node((1, 2, 3))
    cycle(overlay, {1: (9, 5), 2: (9, 5), 3: (9, 6)})
    assert overlay.hubs() == (9, 5) and overlay.is_hub()


def test_a_node_that_stands_in_its_own_view_counts_that_view_too_and_sends_itself_nothing():
    overlay = node((1, 2, 3))
    cycle(overlay, {1: (9, 5), 2: (9, 5), 3: (9, 6)})
    assert overlay.view[0] == 9
    assert 9 not in [message.target for message in overlay.advance(0, 0, 1)]
    overlay.receive(2, [reply(CACHE_REPLY, 5, (6, 7)), reply(CACHE_REPLY, 6, ())])
    overlay.advance(2, 2, 1)
    overlay.advance(4, 4, 1)
    assert overlay.hubs() == (6, 5), "6 once from 5 and once from the own view (9, 5, 6, ...)"


def test_the_view_is_filled_from_the_pool_of_backward_lists_without_repeats_and_without_oneself():
    overlay = node((1, 2, 3), c=5)
    cycle(overlay, {1: (8, 5), 2: (8, 5), 3: (8,)}, {8: (9, 20, 21), 5: (8, 20, 22)})
    assert overlay.hubs() == (8, 5)
    assert sorted(overlay.random_peers()) == [20, 21, 22]


def test_what_is_still_missing_comes_from_the_rest_of_the_frequency_map():
    overlay = node((1, 2, 3), c=5)
    cycle(overlay, {1: (8, 5, 30), 2: (8, 5, 31), 3: (8, 32)}, {8: (20,)})
    assert overlay.hubs() == (8, 5) and overlay.view[2] == 20
    assert set(overlay.view[3:]) <= {30, 31, 32} and len(overlay.view) == 5


def test_the_silent_are_dropped_from_view_backward_and_frequency_map():
    overlay = node((1, 2, 3))
    overlay.receive(0, [Message(CACHE_REQUEST, 3, 9, 1, 0)])
    assert 3 in overlay.backward
    cycle(overlay, {1: (3, 5), 2: (3, 6)})
    assert 3 not in overlay.view and 3 not in overlay.backward


def test_a_request_is_answered_with_the_view_and_the_asker_is_remembered():
    overlay = node((1, 2, 3))
    assert overlay.receive(4, [Message(CACHE_REQUEST, 7, 9, 2, 3)]) == [Message(CACHE_REPLY, 9, 7, 2, 4, (1, 2, 3))]
    assert list(overlay.backward) == [7]


def test_a_backward_answer_has_at_most_backward_limit_distinct_askers():
    overlay = node((1, 2, 3), backward_limit=10)
    overlay.advance(0, 0, 1)
    overlay.receive(1, [Message(CACHE_REQUEST, asker, 9, 1, 0) for asker in range(100, 150)])
    (answer,) = overlay.receive(3, [Message(BACKWARD_REQUEST, 7, 9, 1, 2)])
    assert len(set(answer.payload)) == 10 and set(answer.payload) <= set(range(100, 150))


def test_an_asker_that_stays_away_is_forgotten_after_backward_age_cycles():
    overlay = node((1, 2, 3), backward_age=2)
    overlay.receive(0, [Message(CACHE_REQUEST, 7, 9, 1, 0)])
    for now, remembered in ((3, (7,)), (4, ())):
        overlay.advance(0, 0, now)
        (answer,) = overlay.receive(3, [Message(BACKWARD_REQUEST, 8, 9, now, 2)])
        assert answer.payload == remembered


def test_an_answer_of_another_cycle_has_no_effect():
    overlay = node((1, 2, 3))
    overlay.advance(0, 0, 2)
    overlay.receive(2, [reply(CACHE_REPLY, 1, (5, 6), cycle=1)])
    assert overlay.advance(2, 2, 2) == []


def test_a_node_whose_whole_view_has_died_comes_back_through_those_that_asked_it():
    overlay = node((1, 2, 3))
    overlay.advance(0, 0, 1)
    overlay.receive(1, [Message(CACHE_REQUEST, 7, 9, 1, 0)])
    overlay.advance(2, 2, 1)
    overlay.advance(4, 4, 1)
    assert overlay.view == (7,)


def test_the_four_calls():
    overlay = node((1, 2, 3, 4))
    assert overlay.hubs() == (1, 2) and overlay.random_peers() == (3, 4) and not overlay.is_hub()
    assert {overlay.hub() for _ in range(50)} == {1, 2}


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 40), st.data())
def test_views_keep_their_size_hubs_settle_and_stay(n, data):
    c = data.draw(st.integers(3, min(n - 1, 12)), "c")
    h = data.draw(st.integers(1, c), "h")
    fleet = Fleet(n, c, h, data.draw(st.integers(0, 10**6), "seed"))
    step = data.draw(st.sampled_from([fleet.lockstep, fleet.in_turns]), "order")
    for _ in range(12):
        step()
        for overlay in fleet.nodes.values():
            assert len(set(overlay.view)) == len(overlay.view) <= c
            assert overlay.node not in overlay.random_peers()
    settled = fleet.hubs()
    for _ in range(3):
        step()
        assert set(settled) <= set(fleet.hubs()), "a hub stays one"


def test_metrics_on_a_graph_worked_out_by_hand():
    views = {0: (1,), 1: (2,), 2: (0,), 3: (0, 7)}  # a triangle with a tail; 7 is dead
    assert metrics.in_degree(views) == {0: 2, 1: 1, 2: 1, 3: 0}
    assert metrics.diameter(views) == 2 and metrics.mean_path(views) == pytest.approx((1 + 1 + 1 + 1 + 2 + 2) / 6)
    assert metrics.clustering(views) == pytest.approx((1 / 3 + 1 + 1 + 0) / 4)
    assert metrics.diameter({0: (), 1: ()}) == float("inf")
