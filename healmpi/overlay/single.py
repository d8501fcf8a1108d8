"""One node that holds all data: the central baseline, which decentralized learning is held against.

Source: McMahan et al. 2017 (arXiv 1602.05629), section 3, which compares with SGD on all data in one place; a choice of ours: it stands
outside of the fault plan. There is nobody to send to and nobody to be lost.
"""

from __future__ import annotations

from typing import ClassVar

from healmpi.overlay.static import Graph


class Single(Graph):
    """One node alone, with all data."""

    name: ClassVar[str] = "single"
    fixed_nodes: ClassVar[int] = 1
    spared: ClassVar[bool] = True

    def links(self, node: int) -> tuple[int, ...]:
        return ()

    @property
    def view_size(self) -> int:  # type: ignore[override]  # one place, which stays empty: tables have no rows without width
        return 1
