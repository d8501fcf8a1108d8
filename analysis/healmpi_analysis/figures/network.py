"""The overlay: drawn before, during and after the death of hubs, and its measures over cycles.

Only cycles whose views were recorded can be drawn; the titles tell which. Nodes keep their places
from one graph to the next: whoever was hub in any of them stands on the inner circle.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.collections import LineCollection

from healmpi_analysis.figures.style import (
    COLOURS,
    FAULT,
    GREY,
    Palette,
    Picture,
    chunks,
    evenly,
    label_cycles,
    legend_below,
    logarithmic,
    new_figure,
    numbered,
    stacked,
    wrapped,
)
from healmpi_analysis.groups import Group
from healmpi_analysis.moments import Moment, moment_of, recorded
from healmpi_analysis.records import Record
from healmpi_analysis.recovery import episodes, recoveries
from healmpi_analysis.sources import open_source
from healmpi_analysis.topology import Measures
from healmpi_analysis.topology import measures as measures_of

MOST_SAMPLES = 24
"""Recorded cycles of a run whose measures are worked out."""

MOST_EDGES = 1500


# The graphs.


def graphs(groups: Sequence[Group]) -> Iterator[Picture]:
    """One picture a group with recorded views: three graphs where hubs died, else the first and the last recorded."""
    drawn = [(group, titled) for group in groups if (titled := _titled(group.one_of_each_seed[0]))]
    for index, (group, titled) in enumerate(drawn):
        record = group.one_of_each_seed[0]
        with open_source(record.path) as source:
            moments = [(title, moment_of(source, place)) for title, place in titled]
        figure = new_figure(2.85 if len(moments) > 1 else 3.1, width_in=2.5 * max(2, len(moments)))
        panels = figure.subplots(1, len(moments), squeeze=False)[0]
        central = np.array(list(dict.fromkeys(node for _, moment in moments for node in np.flatnonzero(moment.is_hub).tolist())), int)
        places = _places(record.facts.nodes, central)
        for axes, (title, moment) in zip(panels, moments, strict=True):
            _graph(axes, moment, places, central)
            axes.set_title(f"{title}, cycle {moment.cycle}", fontsize=9)
        figure.suptitle(wrapped(group.label, 34 * len(moments)), fontsize=9.5, x=0.01, ha="left")
        name, title = numbered("overlay", "The overlay as a graph", index, len(drawn))
        caption = (
            f"Seed {record.seed}. Orange diamonds: hubs, with their ids; crosses: dead. Blue: a node has the hub in its view; "
            f"grey: other entries of views{_of_many(moments)}."
        )
        yield Picture(name, title, caption, figure, wide=len(moments) > 2, dpi=140)


def _of_many(moments) -> str:
    return ", an even choice" if max(len(moment.graph.edges) for _, moment in moments) > MOST_EDGES else ""


def _titled(record: Record) -> list[tuple[str, int]]:
    """(title, index of a recorded cycle), in order of time, each recorded cycle once."""
    with open_source(record.path) as source:
        places = recorded(source)
        cycles = source.view_cycles()[places]
    if not len(places):
        return []
    hit = [one for one in recoveries(record) if one.episode.hubs and one.episode.kind != "churn"]
    wanted = [("start", cycles[0]), ("end", cycles[-1])]
    if hit:
        first = hit[0]
        back = first.episode.last + first.hub_cycles if np.isfinite(first.hub_cycles) else cycles[-1]
        wanted = [("before", first.episode.first - 1), ("during", first.episode.first), ("after", max(back, first.episode.last + 1))]
    found: dict[int, str] = {}
    for title, cycle in wanted:
        # Before a fault the latest recorded cycle counts, else the next one.
        later = np.searchsorted(cycles, cycle, side="right") - 1 if title == "before" else np.searchsorted(cycles, cycle)
        found.setdefault(int(places[np.clip(later, 0, len(places) - 1)]), title)
    return [(title if len(found) > 1 else "recorded", place) for place, title in sorted(found.items())]


def _places(nodes: int, central: np.ndarray) -> np.ndarray:
    """float [nodes, 2]: central ones on an inner circle, the others on one to four outer ones, in order of id."""
    places = np.zeros((nodes, 2))
    others = np.setdiff1d(np.arange(nodes), central)
    for ids, low in ((central, 0.36), (others, 1.0)):
        rings = 1 if len(ids) <= 160 else min(4, -(-len(ids) // 160))
        # By the golden ratio any run of neighbours in the list is spread around the circle: the hubs of one moment.
        turns = 0.618034 * np.arange(len(ids)) % 1.0 if low < 0.5 else np.arange(len(ids)) / max(1, len(ids)) + 0.3 / (2 * np.pi)
        angle = 2 * np.pi * turns
        radius = (low if len(ids) != 1 or low > 0.5 else 0.0) * (1 + 0.09 * (np.arange(len(ids)) % rings))
        places[ids] = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return places


def _graph(axes, moment: Moment, places: np.ndarray, central: np.ndarray) -> None:
    edges = moment.graph.live[moment.graph.edges] if len(moment.graph.edges) else np.empty((0, 2), int)
    to_hub = moment.is_hub[edges[:, 1]]
    for which, colour, width, alpha in ((~to_hub, GREY, 0.3, 0.35), (to_hub, COLOURS[0], 0.4, 0.5)):
        segments = places[evenly(edges[which], MOST_EDGES)]
        axes.add_collection(LineCollection(segments, colors=colour, linewidths=width, alpha=alpha, rasterized=True))
    ordinary, dead = moment.alive & ~moment.is_hub, ~moment.alive
    small = 12 if len(places) <= 160 else 4
    axes.scatter(*places[ordinary].T, s=small, color="#404040", zorder=2, linewidths=0)
    axes.scatter(*places[dead].T, s=3 * small, marker="x", color=FAULT, zorder=3, linewidths=1.2)
    axes.scatter(*places[moment.is_hub].T, s=46, marker="D", color=COLOURS[1], zorder=4, edgecolors="white", linewidths=0.6)
    if len(central) <= 24:
        for node in np.flatnonzero(moment.is_hub):
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
            axes.annotate(
                str(node), places[node], (0, 6), textcoords="offset points", ha="center", va="bottom", fontsize=7.5, zorder=5, bbox=box
            )
    limit = 1.12 * np.abs(places).max()
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.axis("off")


# Measures over cycles.


@functools.lru_cache(maxsize=64)
def _sampled(path: str, wanted: tuple[int, ...]) -> tuple[tuple[int, Measures], ...]:
    """(cycle, measures) of an even choice of recorded cycles, those of `wanted` among them."""
    with open_source(path) as source:
        places = recorded(source)
        chosen = np.union1d(evenly(places, MOST_SAMPLES), places[np.isin(source.view_cycles()[places], wanted)]).astype(int)
        moments = [moment_of(source, place) for place in chosen]
    return tuple((one.cycle, measures_of(one.graph)) for one in moments)


def _samples(record: Record) -> tuple[tuple[int, Measures], ...]:
    around = sorted({cycle for one in episodes(record)[:4] for cycle in (one.first - 1, one.first, one.last, one.last + 1, one.last + 3)})
    return _sampled(str(record.path), tuple(around))


def measures(groups: Sequence[Group]) -> Iterator[Picture]:
    """Panels of in-degree, clustering, path length and diameter; a line a group. A topology that stands still is a single mark."""
    lines = [(group, samples) for group in groups if (samples := _samples(group.one_of_each_seed[0]))]
    pieces = chunks(lines)
    for index, piece in enumerate(pieces):
        figure, panels = stacked(4, 1.25, legend_rows=len(piece) + 1)
        fields = (("in_degree_max", "largest\nin-degree"), ("clustering", "clustering"), ("path", "mean path"), ("diameter", "diameter"))
        palette = Palette(tuple(group.label for group, _ in lines))
        for axes, (field, label) in zip(panels, fields, strict=True):
            for group, samples in piece:
                values = [getattr(one, field) for _, one in samples]
                values = [value if np.isfinite(value) else np.nan for value in values]
                look = palette.line(group.label) | {"marker": palette.marker(group.label), "markersize": 3}
                axes.plot([cycle for cycle, _ in samples], values, label=group.label, **look)
            axes.set_ylabel(label)
            # Without a margin of its own the upper edge would cut the marks of the largest value.
            axes.set_ylim(0, 1.03 if field == "clustering" else 1.12 * axes.dataLim.ymax if np.isfinite(axes.dataLim.ymax) else 1)
        label_cycles(panels[-1])
        figure.align_ylabels(panels)
        legend_below(figure, panels[0])
        name, title = numbered("topology", "Measures of the overlay over cycles", index, len(pieces))
        caption = (
            "First seed of each group, live nodes, a choice of the recorded cycles. Distances and clustering take the graph as undirected. "
            "A gap in path and diameter: the graph had parts."
        )
        yield Picture(name, title, caption, figure)


def in_degrees(groups: Sequence[Group]) -> Iterator[Picture]:
    """How many nodes have at least an in-degree, in the last recorded cycle; a line a group."""
    lines = []
    for group in groups:
        with open_source(group.one_of_each_seed[0].path) as source:
            places = recorded(source)
            if len(places):
                lines.append((group, moment_of(source, int(places[-1])).graph.in_degree))
    palette = Palette(tuple(group.label for group, _ in lines))
    pieces = chunks(lines)
    for index, piece in enumerate(pieces):
        figure = new_figure(2.7 + 0.2 * len(piece))
        axes = figure.subplots()
        for group, degrees in piece:
            values = np.sort(degrees)
            axes.step(values, np.arange(len(values), 0, -1), where="pre", label=group.label, **palette.line(group.label))
        logarithmic(axes, y=True)
        axes.set(xlabel="in-degree", ylabel="nodes with at least that", ylim=(0.8, None))
        legend_below(figure, axes)
        name, title = numbered("in_degree", "In-degree distribution", index, len(pieces))
        yield Picture(name, title, "First seed of each group, last recorded cycle, live nodes; hubs stand out on the right.", figure)
