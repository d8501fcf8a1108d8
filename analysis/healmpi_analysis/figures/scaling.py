"""Strong and weak scaling with the ideal line.

The rule that surprises: the ideal line starts at the measured time of the fewest ranks, not at one rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from healmpi_analysis.figures.style import GREY, Palette, Picture, chunks, legend_below, logarithmic, numbered, stacked
from healmpi_analysis.groups import Group
from healmpi_analysis.scaling import Point, strong_scaling, weak_scaling

IDEAL = "ideal"


def scaling(timed: Sequence[Group]) -> Iterator[Picture]:
    """Strong, then weak; nothing where only one number of ranks was run."""
    for kind, points in (("strong", strong_scaling(timed)), ("weak", weak_scaling(timed))):
        names = list(dict.fromkeys(point.series for point in points))
        pieces = chunks(names)
        for index, piece in enumerate(pieces):
            figure = _figure(kind, [point for point in points if point.series in piece], Palette(tuple(names)))
            name, title = numbered(f"scaling_{kind}", f"{kind.capitalize()} scaling", index, len(pieces))
            what = "the same nodes on more ranks" if kind == "strong" else "as many nodes for each rank"
            caption = (
                f"{what.capitalize()}. Median seconds of the algorithm per cycle over runs, "
                f"bars: 95 % intervals; efficiency against the fewest ranks."
            )
            yield Picture(name, title, caption, figure)


def _figure(kind: str, points: Sequence[Point], looks: Palette):
    names = list(dict.fromkeys(point.series for point in points))
    figure, (top, bottom) = stacked(2, 1.8, legend_rows=len(names) + 1)
    for name in names:
        mine = [point for point in points if point.series == name]
        ranks, seconds = np.array([point.ranks for point in mine]), np.array([point.seconds for point in mine])
        ideal = seconds[0] * (ranks[0] / ranks if kind == "strong" else np.ones(len(ranks)))
        top.plot(ranks, ideal, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)), label=IDEAL)
        top.plot(ranks, seconds, marker=looks.marker(name), markersize=5, label=name, **looks.line(name))
        top.vlines(ranks, [point.low for point in mine], [point.high for point in mine], color=looks.colour(name), linewidth=1.3)
        bottom.plot(ranks, [point.efficiency for point in mine], marker=looks.marker(name), markersize=5, **looks.line(name))
    bottom.axhline(1.0, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)))
    ticks = sorted({point.ranks for point in points})
    logarithmic(top, x=True, y=True)
    top.set_ylabel("s per cycle")
    bottom.set(xlabel="ranks", ylabel="efficiency", ylim=(0, max(1.15, 1.1 * max(point.efficiency for point in points))))
    bottom.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    bottom.set_xticks([], minor=True)
    top.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    top.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    legend_below(figure, top)
    return figure
