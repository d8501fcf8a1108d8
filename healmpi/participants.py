"""Makes the nodes of a run: the overlay and the rule that the configuration names, each with its own stream.

The one place that knows all topologies and rules. The rule that surprises: what a topology is made of (a random graph, a
draw for all nodes) comes from the seed alone, so that every rank makes the same without a word.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import numpy as np

from healmpi import streams
from healmpi.algorithms.central import Central, CentralSettings
from healmpi.algorithms.epidemic import Epidemic, EpidemicSettings
from healmpi.algorithms.gossip import Gossip, GossipSettings
from healmpi.config import Config
from healmpi.node import Node, Overlay, Rule
from healmpi.overlay import static, uniform
from healmpi.overlay.elevator import Elevator, ElevatorSettings
from healmpi.overlay.newscast import Newscast
from healmpi.overlay.uniform import Uniform
from healmpi.presets import STATIC


class Participants:
    """config: a resolved one.

    static: whether views never change. view_width: ids in a view at most. overlay_ticks, round_ticks: how long the two parts
    of a cycle can take.
    """

    def __init__(self, config: Config):
        topology, nodes, seed = config.topology, config.run.nodes, config.run.seed
        self._config = config
        self.static = topology.name in STATIC
        self.view_width = topology.view_size
        self.overlay_ticks = {"elevator": Elevator.ticks, "newscast": Newscast.ticks}.get(topology.name, 0)
        if self.static:
            self._links = static.links(topology, nodes, seed)
            self._servers = static.servers(topology, nodes)
            self.view_width = static.most_links(topology, nodes, self._links)
        self._oracle = uniform.Oracle(nodes, topology.view_size, seed)
        self._elevator = _elevator_settings(config)
        rule = config.rule
        self._central = CentralSettings(rule.fanout, rule.weighting == "models", rule.delta_ticks, rule.group_attempts, nodes)
        self.round_ticks = {"central": Central.round_ticks(self._central), "none": 0}.get(rule.name, Gossip.ticks)

    def make(self, node: int, incarnation: int, known: Collection[int], model: np.ndarray | None, cycle: int) -> Node:
        """A node in its starting state.

        known: the ids its first view is drawn from. model: float32 [size]; None: nothing is learnt. cycle: its first one.
        """
        seed = self._config.run.seed
        overlay = self._overlay(node, known, cycle, streams.picker(seed, "overlay", node, incarnation))
        if model is None:
            return Node(node, overlay, None)
        return Node(node, overlay, self._rule(node, overlay, model, streams.picker(seed, "learning", node, incarnation)))

    def _overlay(self, node: int, known: Collection[int], cycle: int, rng: random.Random) -> Overlay:
        topology, nodes = self._config.topology, self._config.run.nodes
        if self.static:
            return static.Static(node, self._links(node), self._servers)
        if topology.name == "uniform":
            drawn_by_all = topology.sampling == "oracle"
            return Uniform(node, self._oracle.of(node) if drawn_by_all else uniform.local(node, nodes, topology.view_size, rng))
        others = [peer for peer in sorted(known) if peer != node]
        view = rng.sample(others, min(topology.view_size, len(others)))
        if topology.name == "newscast":
            return Newscast(node, topology.view_size, view, cycle - 1, rng)
        return Elevator(node, self._elevator, view, rng)

    def _rule(self, node: int, overlay: Overlay, model: np.ndarray, rng: random.Random) -> Rule:
        rule = self._config.rule
        if rule.name == "central":
            return Central(node, self._central, overlay, model, rng)
        if rule.name == "gossip":
            return Gossip(node, GossipSettings(rule.fanout, rule.merge == "age"), overlay, model, rng)
        return Epidemic(node, EpidemicSettings(rule.fanout), overlay, model, rng)


def _elevator_settings(config: Config) -> ElevatorSettings:
    section, view_size = config.elevator, config.topology.view_size
    contacts = view_size if section.backward_contacts == "view" else section.hub_count
    return ElevatorSettings(view_size, section.hub_count, section.backward_limit, section.backward_age, contacts)
