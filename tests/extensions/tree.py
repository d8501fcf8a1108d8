"""A tree: node 0 is the root, and every node is linked to its parent and its children."""

from dataclasses import dataclass

from healmpi.overlay.static import Graph
from healmpi.settings import Section, option


class Tree(Graph):
    """A k-ary tree."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """How wide the tree is."""

        branching: int = option(2, "Children of a node.", low=1, high=1000)

    @classmethod
    def resolve(cls, settings, nodes):
        if settings.branching >= nodes:
            raise settings.refusal("branching", f"less than run.nodes, {nodes}")
        return settings

    def links(self, node):
        k = self.settings.branching
        parent = [] if node == 0 else [(node - 1) // k]
        children = range(k * node + 1, min(k * node + k + 1, self.nodes))
        return (*parent, *children)
