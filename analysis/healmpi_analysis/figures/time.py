"""Where the time of a cycle goes, rank by rank.

Each group has a scale of its own; of more than 32 ranks an even choice is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from healmpi_analysis.figures.style import COLOURS, Picture, chunks, evenly, new_figure, numbered, wrapped
from healmpi_analysis.figures.traffic import HATCHES
from healmpi_analysis.groups import Group

MOST_RANKS = 32


def per_rank(timed: Sequence[Group], detailed: int) -> Iterator[Picture]:
    """A panel a group, a bar a rank, cut by phases."""
    groups = [group for group in timed if len(group.runs[0].series)][: 2 * detailed]
    pieces = chunks(groups, 4)
    for index, piece in enumerate(pieces):
        shown = [_ranks(group) for group in piece]
        heights = [0.75 + 0.2 * len(ranks) + 0.16 * wrapped(group.label).count("\n") for group, ranks in zip(piece, shown, strict=True)]
        figure = new_figure(sum(heights) + 0.5)
        panels = figure.subplots(len(piece), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for axes, group, ranks in zip(panels, piece, shown, strict=True):
            _panel(axes, group, ranks)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
        name, title = numbered("time_ranks", "Where the time of a cycle goes, per rank", index, len(pieces))
        yield Picture(name, title, "First run of each group; mean over its cycles. wait: for other ranks inside a superstep.", figure)


def _ranks(group: Group) -> np.ndarray:
    """Those that left something, an even choice."""
    known = np.flatnonzero(np.isfinite(group.runs[0].rank_seconds).all(axis=1))
    return evenly(known, MOST_RANKS)


def _panel(axes, group: Group, ranks: np.ndarray) -> None:
    run = group.runs[0]
    milliseconds = 1000 * run.rank_seconds[ranks] / len(run.series)
    left = np.zeros(len(ranks))
    for place, phase in enumerate(run.facts.phases):
        colour, hatch = COLOURS[place % len(COLOURS)], HATCHES[place % len(HATCHES)]
        bars = axes.barh(
            range(len(ranks)), milliseconds[:, place], left=left, height=0.7, color=colour, label=phase, edgecolor="white", linewidth=0.4
        )
        for bar in bars:
            bar.set_hatch(hatch)
        left += milliseconds[:, place]
    axes.set(xlabel="ms per cycle", xlim=(0, None), title=wrapped(group.label), ylim=(len(ranks) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(ranks)), [f"rank {rank}" for rank in ranks], fontsize=8)
