"""How long it took after faults until the hubs stood and the accuracy was back, in cycles and in seconds.

What did not come back has its mark in a column of its own, *never*; a hollow mark says that some runs did and others did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes

from healmpi_analysis import statistics
from healmpi_analysis.figures.style import COLOURS, Picture, chunks, name_rows, never_column, numbered, stacked
from healmpi_analysis.groups import Group
from healmpi_analysis.recovery import BEFORE, NEVER, Recovery, recoveries, undisturbed_runs

_HUBS = ("the wanted number of hubs", "D", COLOURS[1])
_ACCURACY = {
    "undisturbed": ("accuracy of the undisturbed run", "o", COLOURS[0]),
    "before": ("accuracy above its last value before\n(there is no undisturbed run)", "^", COLOURS[3]),
}


def recovery(timed: Sequence[Group]) -> Iterator[Picture]:
    """Two panels; a row a group and episode."""
    pieces = chunks(_rows(timed), 10)
    for index, piece in enumerate(pieces):
        figure, panels = stacked(2, 0.75 + 0.36 * len(piece), share=False, legend_rows=2)
        for axes, unit in zip(panels, ("cycles", "seconds"), strict=True):
            for row, (_, found) in enumerate(piece):
                _marks(axes, row, found, unit)
            never = never_column(axes, unit == "cycles")
            for row, (_, found) in enumerate(piece):
                _never(axes, row, found, never)
            name_rows(axes, [label for label, _ in piece])
            axes.set_xlabel(f"{unit} until it was back")
        looks = dict.fromkeys([_HUBS, *(_look(found) for _, found in piece)])
        handles = [panels[0].plot([], [], marker=marker, color=colour, linestyle="none")[0] for _, marker, colour in looks]
        figure.legend(handles, [text for text, _, _ in looks], loc="outside lower left", ncols=2)
        name, title = numbered("recovery", "Recovery after faults", index, len(pieces))
        caption = (
            "Medians over the runs that came back, with 95 % intervals, from the last cycle of the fault on; hollow: not all did. never: "
            "not before the next fault or the end, beside it in how many of n runs, where others did; no mark: could not be seen. Accuracy "
            "is back when it is within 0.005 of the undisturbed run's in the same cycle; it may fall again, see the table."
        )
        yield Picture(name, title, caption, figure)


def _rows(timed: Sequence[Group]) -> list[tuple[str, list[Recovery]]]:
    quiet = undisturbed_runs([run for group in timed for run in group.runs])
    rows: dict[tuple[str, str, str], list[Recovery]] = {}
    for group in timed:
        for run in group.runs:
            for one in recoveries(run, quiet.get(run.path)):
                rows.setdefault((group.label, one.episode.title, one.against), []).append(one)
    # Where a group has one episode its name says already what happened.
    episodes = {label: {title for other, title, _ in rows if other == label} for label, _, _ in rows}
    return [(label if len(episodes[label]) == 1 else f"{title}: {label}", found) for (label, title, _), found in rows.items()]


def _look(found: Sequence[Recovery]) -> tuple[str, str, str]:
    return _ACCURACY["before" if found[0].against == BEFORE else "undisturbed"]


def _both(row: int, found: Sequence[Recovery], unit: str) -> Iterator[tuple[float, list[float], str, str]]:
    """(height, values, marker, colour) of hubs and accuracy."""
    for place, (what, look) in enumerate((("hub", _HUBS), ("accuracy", _look(found)))):
        yield row + 0.16 * (place - 0.5), [getattr(one, f"{what}_{unit}") for one in found], look[1], look[2]


def _marks(axes: Axes, row: int, found: Sequence[Recovery], unit: str) -> None:
    for y, values, marker, colour in _both(row, found, unit):
        centre = statistics.median(values)
        if np.isnan(centre):
            continue
        axes.plot(statistics.bootstrap(values, np.median), [y, y], color=colour, linewidth=1.4)
        face = "white" if NEVER in values else colour
        axes.plot(centre, y, marker=marker, color=colour, markerfacecolor=face, markersize=5.5, linestyle="none", clip_on=False, zorder=3)


def _never(axes: Axes, row: int, found: Sequence[Recovery], x: float) -> None:
    for y, values, marker, colour in _both(row, found, "cycles"):
        never, watched = values.count(NEVER), int((~np.isnan(values)).sum())
        if not never:
            continue
        face = colour if never == watched else "white"
        axes.plot(x, y, marker=marker, color=colour, markerfacecolor=face, markersize=5.5, linestyle="none", zorder=3)
        if never < watched:
            axes.annotate(f"{never} of {watched}", (x, y), (6, 0), textcoords="offset points", va="center", fontsize=7)
