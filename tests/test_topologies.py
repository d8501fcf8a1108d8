"""Topologies: what their graphs look like, Newscast's views, uniform samples (heal.md section 4)."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healmpi.catalogue import TOPOLOGIES
from healmpi.config import Config
from healmpi.node import HUBS
from healmpi.overlay import metrics, uniform
from healmpi.overlay.newscast import NEWS_REPLY, Mixed
from healmpi.overlay.topology import Start
from healmpi.settings import UsageError


def graph(name: str, nodes: int, seed: int = 1, **settings) -> dict[int, tuple[int, ...]]:
    algorithm = [f"{key}={value}" for key, value in settings.items()]
    rule = "central" if HUBS in TOPOLOGIES[name].serves else "epidemic"
    overrides = ["run.algorithm=custom", f"topology.name={name}", f"rule.name={rule}", f"run.nodes={nodes}", f"run.seed={seed}"]
    topology = Config.load(None, [*overrides, *algorithm]).resolve().chosen.topology
    views = {node: topology.links(node) for node in range(nodes)}
    assert max(map(len, views.values())) == topology.view_size
    overlays = {node: topology.overlay(Start(node, range(nodes), 1, random.Random(1))) for node in range(nodes)}
    assert {node: overlay.view for node, overlay in overlays.items()} == views
    return views


@settings(max_examples=60)
@given(
    st.sampled_from(["star", "multi-star", "ring", "chord", "complete", "random-regular", "fedlay"]), st.integers(4, 40), st.integers(0, 99)
)
def test_links_are_distinct_others_in_ascending_order_and_reach_everybody(name, nodes, seed):
    views = graph(name, nodes, seed)
    for node, view in views.items():
        assert node not in view and list(view) == sorted(set(view)) and set(view) <= set(range(nodes)) and view
    assert metrics.diameter(views) < float("inf")
    assert views == graph(name, nodes, seed)


@settings(max_examples=30)
@given(st.sampled_from(["star", "multi-star", "ring", "complete", "random-regular", "fedlay"]), st.integers(4, 40))
def test_all_but_chords_fingers_are_links_both_ways(name, nodes):
    views = graph(name, nodes)
    assert all(node in views[peer] for node, view in views.items() for peer in view)


def test_star_and_multi_star():
    assert graph("star", 4) == {0: (1, 2, 3), 1: (0,), 2: (0,), 3: (0,)}
    assert graph("multi-star", 6, **{"topology.servers": 2}) == {0: (1, 2, 3), 1: (0,), 2: (0,), 3: (0, 4, 5), 4: (3,), 5: (3,)}


def test_gaia_has_five_servers_with_19_workers_each():
    topology = Config.load(None, ["run.algorithm=gaia", "run.nodes=100"]).resolve().chosen.topology
    assert topology.servers == (0, 20, 40, 60, 80) and topology.hubs_wanted == 5
    views = graph("multi-star", 100)
    assert [len(views[server]) for server in (0, 20, 40, 60, 80)] == [19 + 4] * 5


def test_ring_chord_complete_regular():
    assert graph("ring", 5)[0] == (1, 4)
    assert graph("chord", 100)[90] == tuple(sorted((90 + 2**k) % 100 for k in range(7)))
    both = graph("chord", 100, **{"topology.fingers": 5, "topology.both_ways": "true"})
    assert all(len(view) == 10 for view in both.values()), "the publication's 1000 models in a cycle"
    assert graph("complete", 4)[2] == (0, 1, 3)
    assert all(len(view) == 6 for view in graph("random-regular", 31, **{"topology.degree": 6}).values())


def test_chord_reaches_everybody_in_log_n_hops():
    views = graph("chord", 128)
    reached = {0}
    for _ in range(7):
        reached |= {peer for node in reached for peer in views[node]}
    assert len(reached) == 128


def test_fedlay_links_each_node_to_its_neighbours_in_every_ring():
    views = graph("fedlay", 100)
    degrees = Counter(len(view) for view in views.values())
    print(f"degrees {dict(degrees)}, {sum(map(len, views.values()))} link ends (published: 956 models in a cycle)")
    assert max(degrees) <= 10 and sum(map(len, views.values())) > 930
    assert graph("fedlay", 100, seed=2) != views


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["run.algorithm=gossip", "topology.name=ring"], ["topology.name", "ring", "'newscast'", "custom"]),
        (["run.algorithm=custom", "rule.name=gossip"], ["topology.name", "auto", "newscast"]),
        (
            ["run.algorithm=custom", "topology.name=star", "rule.name=gossip"],
            ["topology.name", "star", "random-regular, ring", "rule.name = 'gossip'"],
        ),
        (["run.algorithm=custom", "topology.name=ring", "rule.name=central"], ["topology.name", "ring", "elevator, multi-star, star"]),
        (["run.algorithm=custom", "topology.name=ring", "rule.name=none"], ["topology.name", "ring", "elevator, newscast"]),
        (["run.algorithm=federated", "rule.fanout=2"], ["rule.fanout", "2", "one server"]),
        (["run.algorithm=gaia", "topology.servers=9", "run.nodes=12"], ["topology.servers", "9", "2 to 6"]),
        (["run.algorithm=chord", "topology.fingers=5"], ["topology.fingers", "5", "at most 3"]),
        (
            ["run.algorithm=custom", "topology.name=random-regular", "rule.name=gossip", "run.nodes=9", "topology.degree=3"],
            ["topology.degree", "3", "even number"],
        ),
        (["faults.loss_fraction=0.1", "faults.loss_first_cycle=9", "faults.loss_last_cycle=3"], ["faults.loss_last_cycle", "3", "9"]),
        (["faults.crash_best_connected=99"], ["faults.crash_best_connected", "99", "at most run.nodes, 8"]),
        (["evaluation.nodes=9"], ["evaluation.nodes", "9", "at most run.nodes, 8"]),
    ],
)
def test_senseless_configurations_are_refused_with_what_works(overrides, words):
    with pytest.raises(UsageError) as refused:
        Config.load(None, overrides).resolve()
    assert all(word in str(refused.value) for word in words), str(refused.value)


# Newscast.


class Newscasts:
    """Nodes that run Newscast alone, in lockstep."""

    def __init__(self, n: int, c: int, seed: int):
        self.c, self.cycle, self.rng = c, 0, random.Random(seed)
        self.nodes = {}
        for node in range(n):
            self.join(node, range(n))

    def join(self, node: int, known) -> None:
        rng = random.Random(self.rng.random())
        others = [peer for peer in known if peer != node]
        self.nodes[node] = Mixed(node, self.c, rng.sample(others, min(self.c, len(others))), self.cycle, rng)

    def run(self, cycles: int) -> None:
        for _ in range(cycles):
            self.cycle += 1
            requests = [one for node in sorted(self.nodes) for one in self.nodes[node].advance(0, 0, self.cycle)]
            replies = self.deliver(1, requests)
            assert all(one.kind == NEWS_REPLY for one in replies) and self.deliver(2, replies) == []

    def deliver(self, tick: int, messages) -> list:
        return [
            one for node in sorted(self.nodes) for one in self.nodes[node].receive(tick, [m for m in messages if m.target == node])
        ]  # fmt: skip

    def views(self) -> dict[int, tuple[int, ...]]:
        return {node: one.view for node, one in self.nodes.items()}


@settings(max_examples=40)
@given(st.integers(3, 40), st.integers(1, 12), st.integers(0, 1000), st.integers(0, 8))
def test_newscasts_views_hold_at_most_c_distinct_others(n, c, seed, cycles):
    fleet = Newscasts(n, min(c, n - 1), seed)
    fleet.run(cycles)
    for node, view in fleet.views().items():
        assert node not in view and len(set(view)) == len(view) == min(c, n - 1)
        assert all(stamp <= fleet.cycle for stamp in fleet.nodes[node].entries.values())


def test_two_that_swap_hold_the_freshest_of_both():
    one, other = Mixed(1, 3, (2, 3, 4), 0, random.Random(1)), Mixed(2, 3, (5, 6, 7), 0, random.Random(2))
    other.entries = {5: 4, 6: 3, 7: 0}
    one.entries = {2: 0, 3: 5, 4: 1}
    (request,) = one.advance(0, 0, 6)
    request = request._replace(target=2)
    other.advance(0, 0, 6)
    (reply,) = other.receive(1, [request])
    one.receive(2, [reply])
    assert other.entries == {1: 6, 3: 5, 5: 4} and one.entries == {2: 6, 3: 5, 5: 4}


def test_newscast_stays_connected_with_a_short_mean_path_and_no_favourites():
    fleet = Newscasts(300, 20, 1)
    fleet.run(30)
    views = fleet.views()
    degrees = sorted(metrics.in_degree(views).values())
    path, clustering = metrics.mean_path(views), metrics.clustering(views)
    print(f"in-degree {degrees[0]} to {degrees[-1]}, median {degrees[150]}; path {path:.2f}, clustering {clustering:.2f}")
    assert metrics.diameter(views) <= 6 and metrics.mean_path(views) < 3.2
    assert degrees[-1] < 150, "nobody becomes a hub"
    small, large = (sum(metrics.in_degree(views)[node] for node in block) / 150 for block in (range(150), range(150, 300)))
    assert abs(small - large) < 3, "small ids are in no more views than large ones"


def test_newscast_forgets_the_dead_within_a_few_cycles():
    fleet = Newscasts(200, 20, 3)
    fleet.run(10)
    dead = set(range(0, 200, 2))
    for node in dead:
        del fleet.nodes[node]
    left = []
    for _ in range(15):
        fleet.run(1)
        left.append(sum(peer in dead for view in fleet.views().values() for peer in view) / 100)
    print(f"dead ids in a view, by cycle: {left}")
    assert left[0] > 4 and left[-1] < 0.2
    assert metrics.diameter(fleet.views()) < float("inf")


def test_a_newcomer_is_known_after_a_few_cycles():
    fleet = Newscasts(100, 20, 3)
    fleet.run(10)
    del fleet.nodes[7]
    fleet.run(10)
    fleet.join(7, sorted(fleet.nodes))
    fleet.run(5)
    assert metrics.in_degree(fleet.views())[7] > 5


# Uniform samples.


def test_local_samples_are_uniform_and_never_the_node_itself():
    draw, rng = uniform.local(3, 10, 4), random.Random(1)
    counts = Counter(peer for cycle in range(900) for peer in draw(cycle, rng))
    assert 3 not in counts and set(counts) == set(range(10)) - {3}
    assert all(340 <= count <= 460 for count in counts.values())


@settings(max_examples=40)
@given(st.integers(2, 30), st.integers(0, 1000), st.integers(-3, 50))
def test_the_oracles_draw_gives_everybody_equally_much_to_send_and_to_hear(nodes, seed, cycle):
    count = random.Random(seed).randint(1, nodes - 1)
    oracle = uniform.Oracle(nodes, count, seed)
    rng = random.Random(1)
    views = {node: oracle.of(node)(cycle, rng) for node in range(nodes)}
    assert all(len(set(view)) == count and node not in view for node, view in views.items())
    assert set(Counter(peer for view in views.values() for peer in view).values()) == {count}
    assert views == {node: uniform.Oracle(nodes, count, seed).of(node)(cycle, rng) for node in range(nodes)}


def test_sections_are_resolved_for_few_nodes():
    assert Config().topology.rings == 5
    assert Config.load(None, ["run.algorithm=gaia"]).resolve().topology.servers == 2
    assert Config.load(None, ["run.algorithm=epidemic"]).resolve().rule.fanout == 7
    assert Config.load(None, ["run.algorithm=gaia", "run.nodes=100"]).resolve().rule.group_attempts == 5
