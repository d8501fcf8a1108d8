"""The complete graph: everybody is linked to everybody."""

from __future__ import annotations

from typing import ClassVar

from healmpi.overlay.static import Graph


class Complete(Graph):
    """Everybody linked to everybody."""

    name: ClassVar[str] = "complete"

    def links(self, node: int) -> tuple[int, ...]:
        return (*range(node), *range(node + 1, self.nodes))

    @property
    def view_size(self) -> int:  # type: ignore[override]  # known, and too large to be looked at whole
        return self.nodes - 1
