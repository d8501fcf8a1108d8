"""When messages are delivered, and in which order: the clock and the mailbox of a rank, and a world around them."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healmpi.algorithms.averages.mean import Mean
from healmpi.messages import MODEL, Message
from healmpi.node import NEVER, Train
from healmpi.worlds.clock import Lockstep
from healmpi.worlds.local import LocalWorld
from healmpi.worlds.mailbox import Mailbox


def message(source: int, target: int, number: int = 0) -> Message:
    return Message(MODEL, source, target, 1, 0, None, number)


def taken(mailbox: Mailbox, now: int) -> dict[int, list[tuple[int, int]]]:
    """By target: source and number of what is handed out."""
    return {target: [(one.source, one.number) for one in messages] for target, messages in mailbox.take(now).items()}


def test_in_lockstep_every_message_takes_one_tick():
    assert [Lockstep().due(tick) for tick in (0, 7, 2**31)] == [1, 8, 2**31 + 1]


def test_an_empty_mailbox_waits_for_nothing():
    mailbox = Mailbox()
    assert mailbox.earliest() == NEVER and mailbox.take(NEVER) == {}


def test_nothing_is_handed_out_before_it_is_due_and_nothing_twice():
    mailbox = Mailbox()
    mailbox.put(5, message(1, 9))
    assert mailbox.earliest() == 5 and mailbox.take(4) == {}
    assert taken(mailbox, 5) == {9: [(1, 0)]}
    assert mailbox.earliest() == NEVER and mailbox.take(5) == {}


def test_each_target_has_its_own_by_ascending_source_whatever_came_first():
    mailbox = Mailbox()
    for source, target in ((7, 1), (3, 2), (0, 1), (5, 1)):
        mailbox.put(4, message(source, target))
    assert taken(mailbox, 4) == {1: [(0, 0), (5, 0), (7, 0)], 2: [(3, 0)]}


def test_what_one_source_sent_keeps_its_order():
    mailbox = Mailbox()
    for source, number in ((4, 2), (3, 9), (4, 1)):
        mailbox.put(1, message(source, 1, number))
    assert taken(mailbox, 1) == {1: [(3, 9), (4, 2), (4, 1)]}


def test_what_was_due_earlier_comes_first_among_what_one_source_sent():
    mailbox = Mailbox()
    for due, number in ((6, 2), (4, 1), (7, 3), (9, 4)):
        mailbox.put(due, message(3, 1, number))
    mailbox.put(7, message(2, 1, 5))
    assert taken(mailbox, 7) == {1: [(2, 5), (3, 1), (3, 2), (3, 3)]} and mailbox.earliest() == 9


ids = st.integers(0, 5)
posts = st.lists(st.tuples(st.integers(1, 12), ids, ids), max_size=60)  # due, source, target


@given(posts, st.lists(st.integers(0, 13), max_size=8), st.randoms(use_true_random=False))
def test_everything_arrives_once_in_its_time_and_in_an_order_that_does_not_depend_on_arrival(given_posts, times, rng):
    numbered = [(due, message(source, target, number)) for number, (due, source, target) in enumerate(given_posts)]
    mailbox, other = Mailbox(), Mailbox()
    for due, one in numbered:
        mailbox.put(due, one)
    for due, one in _shuffled(numbered, rng):
        other.put(due, one)

    left = list(numbered)
    for now in [*sorted(times), 13]:
        assert mailbox.earliest() == min((due for due, _ in left), default=NEVER)
        found, expected = mailbox.take(now), defaultdict(list)
        for due, one in sorted(left, key=lambda post: (post[1].source, post[0], post[1].number)):
            if due <= now:
                expected[one.target].append(one)
        assert found == dict(expected) == other.take(now)
        left = [(due, one) for due, one in left if due > now]
    assert left == [] and mailbox.earliest() == NEVER


def _shuffled(numbered: list, rng) -> list:
    """As it may arrive: between two nodes messages keep their order, all else is mixed."""
    queues = defaultdict(list)
    for due, one in numbered:
        queues[one.source, one.target].append((due, one))
    order = [key for key, queue in queues.items() for _ in queue]
    rng.shuffle(order)
    return [queues[key].pop(0) for key in order]


# A world of one process.


def test_a_message_is_fetched_once_in_the_tick_that_close_announces():
    world = LocalWorld(0, Mean())
    rest = Train(np.zeros(0, np.float32))
    assert world.act(0, 4, [message(0, 2), rest, message(0, 1)]) == [rest], "what is not the world's is handed back"
    assert world.deliver(2) == []
    following, outcomes, targets = world.close(4, NEVER)
    assert (following, outcomes, set(targets)) == (5, [], {1, 2})
    assert world.deliver(2) == [message(0, 2)] and world.deliver(2) == [] == world.deliver(0)
    with pytest.raises(AssertionError, match=r"not fetched: \[1\]"):
        world.end_cycle()


def test_a_tick_in_which_nothing_is_due_is_skipped():
    world = LocalWorld(0, Mean())
    assert world.close(4, 9).tick == 9
    world.act(0, 9, [message(0, 2)])
    assert world.close(9, 30).tick == 10, "a message comes before the next deadline"
