"""Names of the field: topologies, rules, and the algorithms of the publications as a topology with a rule.

Source: heal.md section 4. An algorithm is a topology (who knows whom) and a rule (who trains, who averages what). Any
sensible pair is a configuration; the publication's eight have names. Plain data, without a look at the code behind it.
"""

from __future__ import annotations

from typing import NamedTuple

CENTRAL_TOPOLOGIES = ("star", "multi-star", "elevator")
"""Topologies in which some nodes are hubs or servers."""

PEER_TOPOLOGIES = ("ring", "chord", "random-regular", "complete", "fedlay", "newscast", "uniform", "elevator")
"""Topologies in which every node has peers of equal standing; Elevator's views serve for both."""

OVERLAYS = ("elevator", "newscast")
"""Topologies with a protocol of their own, worth running alone."""

TOPOLOGIES = tuple(dict.fromkeys(CENTRAL_TOPOLOGIES + PEER_TOPOLOGIES))

COMBINATIONS = {"central": CENTRAL_TOPOLOGIES, "gossip": PEER_TOPOLOGIES, "epidemic": PEER_TOPOLOGIES, "none": OVERLAYS}
"""Rule -> the topologies that it makes sense on."""

RULES = tuple(COMBINATIONS)

STATIC = ("star", "multi-star", "ring", "chord", "random-regular", "complete", "fedlay")
"""Topologies that never change: their links belong to the slot, a newcomer takes over its predecessor's."""


class Preset(NamedTuple):
    """An algorithm by name."""

    topology: str
    rule: str
    doc: str


PRESETS = {
    "heal": Preset("elevator", "central", "HEAL: hubs that emerge average their clients' models, then among themselves"),
    "federated": Preset("star", "central", "FedAvg: a fixed server averages the models of all others"),
    "gaia": Preset("multi-star", "central", "Gaia: fixed servers average those of their own workers, then among themselves"),
    "gossip": Preset("newscast", "gossip", "Gossip learning: a model to one random peer, who merges it and trains"),
    "epidemic": Preset("newscast", "epidemic", "Epidemic learning: train, send to ten peers, average what came"),
    "ring": Preset("ring", "epidemic", "the epidemic rule on a ring"),
    "chord": Preset("chord", "epidemic", "the epidemic rule on Chord's fingers"),
    "fedlay": Preset("fedlay", "epidemic", "the epidemic rule on FedLay's virtual rings"),
    "elevator": Preset("elevator", "none", "the overlay alone, nothing is learnt"),
}

CUSTOM = "custom"
"""run.algorithm of a pair without a name."""


def name_of(topology: str, rule: str) -> str:
    """The preset's name, or 'topology+rule' of a pair without one."""
    return next((name for name, one in PRESETS.items() if (one.topology, one.rule) == (topology, rule)), f"{topology}+{rule}")
