"""The overlay of a run at the end of one recorded cycle: who lived, who believed to be a hub, and the graph of their views.

Only cycles whose views were recorded have one (`results.views_every`); a topology that never changes has one altogether.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from healmpi_analysis.source import Source
from healmpi_analysis.topology import Overlay, overlay


@dataclass(frozen=True, slots=True)
class Moment:
    """The overlay at the end of one recorded cycle. alive, is_hub: bool [nodes]."""

    cycle: int
    alive: np.ndarray
    is_hub: np.ndarray
    graph: Overlay


def recorded(source: Source) -> np.ndarray:
    """int, places among the recorded views, of those whose cycle is among the run's."""
    return np.flatnonzero(np.isin(source.view_cycles(), source.cycles))


def moment_of(source: Source, place: int) -> Moment:
    """The overlay of one of the recorded cycles."""
    cycle = int(source.view_cycles()[place])
    row = int(np.searchsorted(source.cycles, cycle))
    alive = source.read("alive", row, row + 1)[0] != 0
    hub = alive & (source.read("is_hub", row, row + 1)[0] != 0)
    return Moment(cycle, alive, hub, overlay(source.views(place), alive))
