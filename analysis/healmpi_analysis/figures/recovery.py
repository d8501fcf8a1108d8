"""How long it took after faults until the hubs stood and the accuracy was back, in cycles and in seconds.

A run in which it did not come to that has no time; a hollow mark says that there are such runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from healmpi_analysis import statistics
from healmpi_analysis.figures.style import COLOURS, Picture, chunks, name_rows, numbered, stacked
from healmpi_analysis.groups import Group
from healmpi_analysis.recovery import Recovery, recoveries

_LOOKS = (("hub", "the wanted number of hubs", "D", COLOURS[1]), ("accuracy", "accuracy as before", "o", COLOURS[0]))


def recovery(timed: Sequence[Group]) -> Iterator[Picture]:
    """Two panels; a row a group and episode."""
    pieces = chunks(_rows(timed), 10)
    for index, piece in enumerate(pieces):
        figure, panels = stacked(2, 0.75 + 0.36 * len(piece), share=False, legend_rows=1)
        for axes, unit in zip(panels, ("cycles", "seconds"), strict=True):
            for row, (_, found) in enumerate(piece):
                _marks(axes, row, found, unit)
            name_rows(axes, [label for label, _ in piece])
            axes.set(xlabel=f"{unit} until it was back")
            if unit == "cycles":
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlim(-0.03 * max(axes.get_xlim()[1], 1e-9), None)
        handles = [panels[0].plot([], [], marker=marker, color=colour, linestyle="none")[0] for _, _, marker, colour in _LOOKS]
        figure.legend(handles, [text for _, text, _, _ in _LOOKS], loc="outside lower left", ncols=2)
        name, title = numbered("recovery", "Recovery after faults", index, len(pieces))
        caption = "Medians over runs with 95 % intervals, from the last cycle of the fault on; hollow: not in all runs; no mark: in none."
        yield Picture(name, title, caption, figure)


def _rows(timed: Sequence[Group]) -> list[tuple[str, list[Recovery]]]:
    rows: dict[tuple[str, str], list[Recovery]] = {}
    for group in timed:
        for run in group.runs:
            for one in recoveries(run):
                rows.setdefault((group.label, one.episode.title), []).append(one)
    # Where a group has one episode its name says already what happened.
    episodes = {label: [key for key in rows if key[0] == label] for label, _ in rows}
    return [(label if len(episodes[label]) == 1 else f"{title}: {label}", found) for (label, title), found in rows.items()]


def _marks(axes, row: int, found: Sequence[Recovery], unit: str) -> None:
    for place, (what, _, marker, colour) in enumerate(_LOOKS):
        values = [getattr(one, f"{what}_{unit}") for one in found]
        centre = statistics.median(values)
        if np.isnan(centre):
            continue
        y = row + 0.16 * (place - 0.5)
        axes.plot(statistics.bootstrap(values, np.median), [y, y], color=colour, linewidth=1.4)
        face = colour if np.isfinite(values).all() else "white"
        axes.plot(centre, y, marker=marker, color=colour, markerfacecolor=face, markersize=5.5, linestyle="none", clip_on=False, zorder=3)
