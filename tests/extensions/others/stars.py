"""Two stars: fixed servers for the rule `central`."""

from healmpi.node import HUBS
from healmpi.overlay.static import Graph


class Two(Graph):
    """Nodes 0 and 4 serve the three after them, and know each other."""

    serves = frozenset((HUBS,))
    servers = (0, 4)

    def links(self, node):
        if node in self.servers:
            return tuple(sorted({4 - node, *range(node + 1, node + 4)}))
        return (node // 4 * 4,)
