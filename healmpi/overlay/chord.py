"""Chord's fingers: links over distances 1, 2, 4 ... on a ring. Source: Stoica et al. 2001.

Ids are places on the ring, all taken: the successor of a finger's place is the node there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from healmpi.overlay.static import Graph, at_distances
from healmpi.settings import Section, option


@dataclass(frozen=True, slots=True)
class ChordSettings(Section):
    """Fingers."""

    title: ClassVar[str] = "topology"
    fingers: int = option(0, "Fingers of a node in 'chord', at distances 1, 2, 4 ... 0: all below the number of nodes.", low=0, high=64)
    both_ways: bool = option(False, "'chord': whether a finger is a link for the node it points to as well.")


class Chord(Graph):
    """A ring with fingers, links over distances 1, 2, 4 ..."""

    name: ClassVar[str] = "chord"
    Settings: ClassVar[type[Section]] = ChordSettings

    @classmethod
    def resolve(cls, settings: ChordSettings, nodes: int) -> ChordSettings:
        if 2 ** (settings.fingers - 1) >= nodes:
            raise settings.refusal("fingers", f"at most {(nodes - 1).bit_length()}: the last one is within {nodes} nodes")
        return settings

    def links(self, node: int) -> tuple[int, ...]:
        fingers = [2**index for index in range(self.settings.fingers or (self.nodes - 1).bit_length())]
        return at_distances(node, self.nodes, [*fingers, *(-finger for finger in fingers)] if self.settings.both_ways else fingers)
