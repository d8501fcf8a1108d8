"""What a topology is: who knows whom, what others must know of that, and how each node's part of it is made.

The shipped ones are in this package, a file each; a user's own comes in as `topology.factory = "module:Name"`. A topology is made
once a run on every rank, from the same settings and seed, so that all ranks have the same without a word; it makes the overlays of
the nodes that live there.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any, ClassVar, NamedTuple

from healmpi.messages import Kind
from healmpi.node import PEERS, Overlay
from healmpi.settings import NoSettings, Section, option
from healmpi.state import Configured


class Start(NamedTuple):
    """What an overlay is made with. known: the ids its first view is drawn from. cycle: the first of this node. rng: its own stream."""

    node: int
    known: Collection[int]
    cycle: int
    rng: random.Random


class Topology(Configured):
    """A topology of a run.

    name: of one that is shipped. Settings: its options. serves: what a rule finds in it (node.PEERS, HUBS), and whether its overlay is
    worth running alone (ALONE). static: whether links never change: then they belong to the slot, and a newcomer takes over its
    predecessor's. abundant: whether views hold more peers than a rule needs in a cycle. ticks: how long its step in a cycle takes.
    kinds: of its messages. fixed_nodes: how many nodes it is made for; 0: any number from 2 on. spared: whether the fault plan passes over
    all of them. view_size: ids in a view at most. hubs_wanted: hubs or servers that there should be; 0: all nodes are alike.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type[Section]] = NoSettings
    serves: ClassVar[frozenset[str]] = frozenset((PEERS,))
    static: ClassVar[bool] = False
    abundant: ClassVar[bool] = False
    ticks: ClassVar[int] = 0
    kinds: ClassVar[tuple[Kind, ...]] = ()
    fixed_nodes: ClassVar[int] = 0
    spared: ClassVar[bool] = False

    view_size: int = 0
    hubs_wanted: int = 0

    def __init__(self, settings: Any, nodes: int, seed: int):
        self.settings, self.nodes, self.seed = settings, nodes, seed

    @classmethod
    def resolve(cls, settings: Any, nodes: int) -> Any:
        """The settings with every "choose for me" replaced for so many nodes. Raises UsageError: they cannot be so."""
        return settings

    def most_targets(self, needs: str) -> tuple[int, str] | None:
        """How many hubs or peers a node can send to at most, and how to say so; None: as many as its view happens to hold."""
        return None

    def overlay(self, start: Start) -> Overlay:
        """A node's part, in its starting state."""
        raise NotImplementedError


DEFAULT_VIEW_SIZE = 20


def view_size_option() -> Any:
    """The option `topology.view_size`, of all topologies whose views are drawn."""
    return option(
        0,
        "c: ids a node keeps in its view, or draws in a cycle. 0: 20 (10 where they are drawn anew in each), or nodes - 1.",
        low=0,
        high=1_000_000,
        section="topology",
    )


def resolved_view_size(settings: Any, nodes: int, usual: int = DEFAULT_VIEW_SIZE) -> int:
    """The size of a view, chosen where it is 0. Raises UsageError: there are not so many others."""
    if settings.view_size >= nodes:
        raise settings.refusal("view_size", f"less than run.nodes, {nodes}")
    return settings.view_size or min(usual, nodes - 1)


def first_view(start: Start, size: int) -> list[int]:
    """Distinct random ids of those that are known, without the own one."""
    others = [peer for peer in sorted(start.known) if peer != start.node]
    return start.rng.sample(others, min(size, len(others)))
