"""HEAL's round, sentence by sentence (heal.md section 3), as events and actions without any world."""

import random

import numpy as np
import pytest

from healmpi.algorithms import agreement
from healmpi.algorithms.agreement import ATTEMPT_TICKS, GROUP_COMMIT, GROUP_PROMISE, GROUP_PROPOSE
from healmpi.algorithms.averages.mean import Mean
from healmpi.algorithms.central import GLOBAL_MODEL, Central, CentralSettings, Phase
from healmpi.messages import MODEL, Kind, Message
from healmpi.node import EnterGroup, GroupAbandoned, GroupAveraged, GroupReport, Setup, Train, Trained

ME = 5


class Believes:
    """An overlay that believes in these hubs."""

    def __init__(self, *hubs: int):
        self._hubs = hubs

    def hubs(self):
        return self._hubs

    def is_hub(self):
        return ME in self._hubs


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def rule(*hubs: int, fanout=1, weighting="hubs", delta=1, attempts=3, samples=1) -> Central:
    settings = CentralSettings(fanout, weighting, delta_ticks=delta, group_attempts=attempts)
    return Central(Setup(ME, 100, settings, Believes(*hubs), vector(1, 2), random.Random(1), Mean(), samples))


def message(kind: Kind, source: int, payload=None, number: int = 0, cycle: int = 1) -> Message:
    return Message(kind, source, ME, cycle, 0, payload, number)


def hub_with_models(*hubs: int, models=((20, (2, 4)), (21, (4, 8))), **settings) -> tuple[Central, list]:
    """A hub at the end of its collection (tick 1), and what it does then."""
    heal = rule(*hubs, **settings)
    assert heal.begin(0, 1) == []
    heal.receive(1, [message(MODEL, client, vector(*values)) for client, values in models])
    return heal, heal.alarm(1)


# Clients.


def test_a_client_trains_and_sends_its_model_to_s_of_its_hubs():
    heal = rule(7, 8, 9, fanout=2)
    (train,) = heal.begin(0, 1)
    assert isinstance(train, Train) and train.model is heal.model
    trained = vector(3, 3)
    sent = heal.trained(Trained(0, trained))
    assert {one.kind for one in sent} == {MODEL} and len({one.target for one in sent}) == 2
    assert {one.target for one in sent} <= {7, 8, 9} and all(one.payload is trained for one in sent)


def test_over_many_cycles_every_hub_gets_its_share_of_clients():
    heal = rule(7, 8, 9)
    targets = []
    for cycle in range(300):
        heal.begin(0, cycle)
        targets += [one.target for one in heal.trained(Trained(0, vector(0, 0)))]
    assert all(70 <= targets.count(hub) <= 130 for hub in (7, 8, 9))


def test_the_new_model_is_the_plain_average_of_the_answers():
    heal = rule(7, 8, fanout=2)
    heal.begin(0, 1)
    heal.trained(Trained(0, vector(9, 9)))
    heal.receive(9, [message(GLOBAL_MODEL, 7, vector(1, 2)), message(GLOBAL_MODEL, 8, vector(3, 6))])
    assert heal.model.tolist() == [2, 4] and heal.updated_in == 1 and heal.phase is Phase.IDLE


def test_one_of_two_answers_by_the_deadline_is_taken_over_alone():
    heal = rule(7, 8, fanout=2)
    heal.begin(0, 1)
    heal.trained(Trained(0, vector(9, 9)))
    heal.receive(9, [message(GLOBAL_MODEL, 8, vector(3, 6))])
    assert heal.phase is Phase.AWAITING
    heal.alarm(heal.wake)
    assert heal.model.tolist() == [3, 6]


def test_a_client_without_an_answer_keeps_its_own_model():
    heal = rule(7)
    heal.begin(0, 1)
    heal.trained(Trained(0, vector(9, 9)))
    assert heal.wake == Central.round_ticks(CentralSettings(1, group_attempts=3)) == 1 + 3 * ATTEMPT_TICKS + 1
    heal.alarm(heal.wake)
    assert heal.model.tolist() == [9, 9] and heal.updated_in is None


@pytest.mark.parametrize("late", [message(GLOBAL_MODEL, 7, vector(0, 0), cycle=0), message(GLOBAL_MODEL, 6, vector(0, 0))])
def test_an_answer_of_another_cycle_or_from_somebody_not_asked_has_no_effect(late):
    heal = rule(7)
    heal.begin(0, 1)
    heal.trained(Trained(0, vector(9, 9)))
    heal.receive(9, [late])
    assert heal.phase is Phase.AWAITING and heal.model.tolist() == [9, 9]


# Hubs.


def test_a_hub_does_not_train_and_averages_what_came_until_delta():
    heal = rule(ME, delta=3)
    assert heal.begin(0, 1) == [] and heal.wake == 3
    heal.receive(1, [message(MODEL, 20, vector(2, 4))])
    heal.receive(3, [message(MODEL, 21, vector(4, 8))])
    report, *answers = heal.alarm(3)
    assert report == GroupReport(0, report.epoch, ME, "solo", False, 1, (ME,))
    assert [(one.kind, one.target) for one in answers] == [(GLOBAL_MODEL, 20), (GLOBAL_MODEL, 21)]
    assert heal.model.tolist() == [3, 6] and answers[0].payload is heal.model
    heal.receive(4, [message(MODEL, 22, vector(0, 0))])
    assert heal.record.contributors == (20, 21), "a model after delta is too late"


def test_the_smallest_id_proposes_the_others_promise_and_the_group_is_whoever_promised():
    coordinator, proposals = hub_with_models(ME, 6, 8)
    assert [(one.kind, one.target) for one in proposals] == [(GROUP_PROPOSE, 6), (GROUP_PROPOSE, 8)]
    coordinator.receive(3, [message(GROUP_PROMISE, 8, number=1)])
    (commit,) = coordinator.alarm(3)
    assert (commit.kind, commit.target, commit.payload) == (GROUP_COMMIT, 8, (ME, 8, 1, 1))
    (enter,) = coordinator.alarm(4)
    assert enter.members == (ME, 8) and enter.weights == (1, 1) and not enter.reused and enter.vector.tolist() == [3, 6]


def test_a_member_promises_once_and_enters_when_the_commit_comes():
    member, actions = hub_with_models(2, ME)
    assert actions == []
    (promise,) = member.receive(2, [message(GROUP_PROPOSE, 2), message(GROUP_PROPOSE, 4)])
    assert (promise.kind, promise.target, promise.number) == (GROUP_PROMISE, 2, 1)
    assert member.receive(2, [message(GROUP_PROPOSE, 1)]) == [], "one open promise"
    assert member.receive(4, [message(GROUP_COMMIT, 4, (4, ME, 1, 1), 8)]) == [], "promised to another"
    (enter,) = member.receive(4, [message(GROUP_COMMIT, 2, (2, ME, 1, 1), 8)])
    assert isinstance(enter, EnterGroup) and enter.epoch == 4 and enter.members == (2, ME)


def test_the_average_is_kept_and_goes_to_the_contributors():
    member, _ = hub_with_models(2, ME)
    member.receive(2, [message(GROUP_PROPOSE, 2)])
    member.receive(4, [message(GROUP_COMMIT, 2, (2, ME, 1, 1), 8)])
    average = vector(10, 10)
    report, *answers = member.averaged(GroupAveraged(6, 4, average))
    assert report.outcome == "averaged" and member.model is average
    assert [(one.kind, one.target) for one in answers] == [(GLOBAL_MODEL, 20), (GLOBAL_MODEL, 21)]


def test_a_hub_that_got_nothing_brings_no_average_and_still_receives_the_global_one():
    member, _ = hub_with_models(2, ME, models=())
    (promise,) = member.receive(2, [message(GROUP_PROPOSE, 2)])
    assert promise.number == 0
    (enter,) = member.receive(4, [message(GROUP_COMMIT, 2, (2, ME, 1, 0), 8)])
    assert enter.vector.tolist() == [0, 0]
    member.averaged(GroupAveraged(6, 4, vector(7, 7)))
    assert member.model.tolist() == [7, 7]


def test_weighting_by_models_promises_their_number():
    member, _ = hub_with_models(2, ME, weighting="models")
    (promise,) = member.receive(2, [message(GROUP_PROPOSE, 2)])
    assert promise.number == 2


def test_weighting_by_samples_sends_the_size_of_the_shard_and_promises_the_sum_of_what_came():
    client = rule(7, weighting="samples", samples=30)
    client.begin(0, 1)
    assert [one.number for one in client.trained(Trained(0, vector(3, 3)))] == [30]
    plain = rule(7, samples=30)
    plain.begin(0, 1)
    assert [one.number for one in plain.trained(Trained(0, vector(3, 3)))] == [0], "nothing else than before"

    hub = rule(2, ME, weighting="samples")
    hub.begin(0, 1)
    hub.receive(1, [message(MODEL, 20, vector(2, 4), 30), message(MODEL, 21, vector(6, 0), 10)])
    hub.alarm(1)
    assert hub.record.average.tolist() == [3, 3] and hub.record.weight == 40
    (promise,) = hub.receive(2, [message(GROUP_PROPOSE, 2)])
    assert promise.number == 40


def test_a_silent_coordinator_is_suspected_and_the_next_one_proposes():
    hub, actions = hub_with_models(2, ME, 8)
    assert actions == [] and hub.wake == 1 + ATTEMPT_TICKS
    proposals = hub.alarm(hub.wake)
    assert [(one.kind, one.target, one.number) for one in proposals] == [(GROUP_PROPOSE, 2, 1), (GROUP_PROPOSE, 8, 1)]


def test_a_coordinator_that_does_not_commit_is_suspected_too():
    hub, _ = hub_with_models(2, ME, 8)
    hub.receive(2, [message(GROUP_PROPOSE, 2)])
    assert hub.agreement.phase is agreement.Phase.PROMISED and hub.wake == 1 + ATTEMPT_TICKS
    assert [one.target for one in hub.alarm(hub.wake)] == [2, 8]


def test_nobody_promises_a_group_of_one():
    hub, _ = hub_with_models(ME, 8)
    report, *answers = hub.alarm(3)
    assert report.outcome == "solo" and len(answers) == 2 and hub.model.tolist() == [3, 6]


def test_after_an_abandoned_reduction_the_same_coordinator_tries_again_with_those_that_still_promise():
    hub, _ = hub_with_models(ME, 8, 9)
    hub.receive(3, [message(GROUP_PROMISE, 8, number=1), message(GROUP_PROMISE, 9, number=1)])
    hub.alarm(3)
    (enter,) = hub.alarm(4)
    (report,) = hub.abandoned(GroupAbandoned(5, enter.epoch))
    assert report.outcome == "abandoned" and hub.agreement.phase is agreement.Phase.BROKEN and hub.wake == 6
    assert [(one.kind, one.target) for one in hub.alarm(6)] == [(GROUP_PROPOSE, 8), (GROUP_PROPOSE, 9)]
    hub.receive(8, [message(GROUP_PROMISE, 9, number=1)])
    (commit,) = hub.alarm(8)
    assert commit.payload == (ME, 9, 1, 1) and commit.number // 2 != enter.epoch


def test_a_member_of_a_broken_group_waits_for_the_same_coordinator():
    member, _ = hub_with_models(2, ME)
    member.receive(2, [message(GROUP_PROPOSE, 2)])
    member.receive(4, [message(GROUP_COMMIT, 2, (2, ME, 1, 1), 8)])
    member.abandoned(GroupAbandoned(6, 4))
    assert member.agreement.phase is agreement.Phase.ELECTING
    (promise,) = member.receive(7, [message(GROUP_PROPOSE, 2)])
    assert promise.target == 2


def test_after_the_last_attempt_a_hub_goes_on_with_its_own_average():
    hub, _ = hub_with_models(2, ME, attempts=1)
    report, *answers = hub.alarm(hub.wake)
    assert report.outcome == "alone" and [one.kind for one in answers] == [GLOBAL_MODEL] * 2 and hub.model.tolist() == [3, 6]


def test_the_epoch_lives_on_while_the_group_stays_and_ends_with_a_gap():
    hub = rule(ME, 8)
    epochs, reused = [], []
    for cycle, promiser in ((1, 8), (2, 8), (4, 8), (5, 8), (6, 9)):
        hub.begin(0, cycle)
        hub.receive(1, [message(MODEL, 20, vector(0, 0), cycle=cycle)])
        hub.alarm(1)
        hub.receive(3, [message(GROUP_PROMISE, promiser, number=1, cycle=cycle)])
        hub.alarm(3)
        (enter,) = hub.alarm(4)
        hub.averaged(GroupAveraged(6, enter.epoch, vector(0, 0)))
        epochs.append(enter.epoch)
        reused.append(enter.reused)
    assert reused == [False, True, False, True, False]
    assert epochs[0] == epochs[1] and epochs[2] == epochs[3] and len(set(epochs)) == 3


# Averages.


def test_the_mean_is_added_in_the_given_order_and_slices_give_the_same_bits():
    rng, mean = np.random.default_rng(1), Mean()
    vectors = [rng.normal(size=1001).astype(np.float32) * 10.0**k for k in range(-3, 4)]
    whole = mean(vectors, [1, 2, 0, 1, 3, 1, 1])
    parts = [mean([one[low:high] for one in vectors], [1, 2, 0, 1, 3, 1, 1]) for low, high in ((0, 3), (3, 500), (500, 1001))]
    assert whole.tobytes() == np.concatenate(parts).tobytes()
    exact = np.average(np.array(vectors, np.float64), axis=0, weights=[1, 2, 0, 1, 3, 1, 1])
    np.testing.assert_allclose(whole, exact, rtol=1e-4, atol=1e-4)
    assert mean(vectors, [0] * 7) is None and mean([]) is None
