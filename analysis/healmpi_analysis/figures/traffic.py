"""Messages and bytes per cycle, by kind, and what falls on hubs.

The rule that surprises: an exchange among hubs is never sent as messages; it counts as its point-to-point equivalent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from healmpi_analysis import metrics, statistics
from healmpi_analysis.figures.accuracy import by_scenario
from healmpi_analysis.figures.style import (
    COLOURS,
    Palette,
    Picture,
    chunks,
    label_cycles,
    legend_below,
    logarithmic,
    name_rows,
    numbered,
    stacked,
)
from healmpi_analysis.groups import Group
from healmpi_analysis.records import Record
from healmpi_analysis.text import size

FAMILIES = {
    "overlay": ("cache_request", "cache_reply", "backward_request", "backward_reply", "news_request", "news_reply"),
    "models": ("model",),
    "global models": ("global_model",),
    "agreement of hubs": ("group_propose", "group_promise", "group_commit"),
    "averaging among hubs": ("group_reduction",),
}
"""Kinds that are told together. Of one that is not here: with the models if it carries one, else as 'other'."""

OTHER = "other"
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")


def per_cycle(groups: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """Two panels; a line a group."""
    pieces = by_scenario(groups)
    for index, (scenario, piece) in enumerate(pieces):
        figure, panels = stacked(2, 1.7, legend_rows=len(piece) + 1)
        for axes, name, scale, label in ((panels[0], "messages", 1, "messages"), (panels[1], "bytes", 1e6, "MB")):
            for group in piece:
                runs = group.one_of_each_seed
                mean = pd.concat([run.series[name] for run in runs], axis=1).dropna().mean(axis=1) / scale
                axes.plot(mean.index, mean, label=f"{group.variant} (n={len(runs)})", **looks.line(group.variant))
            axes.set(ylabel=f"{label} per cycle", ylim=(0, None))
        panels[0].set_title(scenario)
        label_cycles(panels[1])
        legend_below(figure, panels[0])
        name, title = numbered("traffic_cycles", "Traffic over cycles", index, len(pieces))
        yield Picture(name, title, f"{scenario}. Sent by all nodes together, headers included; mean over seeds.", figure)


def by_kind(groups: Sequence[Group]) -> Iterator[Picture]:
    """A bar a group, cut by families of kinds."""
    pieces = chunks(groups, 10)
    for index, piece in enumerate(pieces):
        figure, panels = stacked(2, 0.75 + 0.36 * len(piece), share=False, legend_rows=2)
        for axes, what, scale, label in ((panels[0], "kind_messages", 1, "messages"), (panels[1], "kind_bytes", 1e6, "MB")):
            _bars(axes, [families(group, what) / scale for group in piece])
            name_rows(axes, [group.label for group in piece])
            axes.set(xlabel=f"{label} per cycle", xlim=(0, None))
        legend_below(figure, panels[0], columns=2)
        name, title = numbered("traffic_kinds", "Traffic by kind of message", index, len(pieces))
        yield Picture(name, title, "Sent by all nodes together; mean over cycles and seeds.", figure)


def _bars(axes, rows: Sequence[np.ndarray]) -> None:
    """rows: [families] each; a family that nobody used is left out."""
    table = np.array(rows)
    left = np.zeros(len(rows))
    for place, name in enumerate((*FAMILIES, OTHER)):
        if not table[:, place].any():
            continue
        bars = axes.barh(
            range(len(rows)), table[:, place], left=left, height=0.34, color=COLOURS[place], label=name, edgecolor="white", linewidth=0.4
        )
        for bar in bars:
            bar.set_hatch(HATCHES[place])
        left += table[:, place]


def families(group: Group, what: str) -> np.ndarray:
    """[families + other] per cycle."""
    found = []
    for run in group.one_of_each_seed:
        means = getattr(run, what).mean(axis=0) if len(run.series) else np.zeros(len(run.facts.kinds))
        sums = dict.fromkeys((*FAMILIES, OTHER), 0.0)
        for kind, mean in zip(run.facts.kinds, means, strict=True):
            sums[_family(kind, run)] += mean
        found.append(list(sums.values()))
    return np.mean(found, axis=0)


def _family(kind: str, run: Record) -> str:
    unknown = "models" if kind in run.facts.model_kinds else OTHER
    return next((name for name, kinds in FAMILIES.items() if kind in kinds), unknown)


def load(groups: Sequence[Group]) -> Iterator[Picture]:
    """Two panels; a row a group with hubs, joined marks for a hub and another node."""
    with_hubs = [group for group in groups if any(metrics.load(run, "messages")[0] > 0 for run in group.runs)]
    pieces = chunks(with_hubs, 10)
    for index, piece in enumerate(pieces):
        figure, panels = stacked(2, 0.75 + 0.34 * len(piece), share=False, legend_rows=1)
        for axes, what in zip(panels, ("messages", "bytes"), strict=True):
            for row, group in enumerate(piece):
                pairs = [metrics.load(run, what) for run in group.one_of_each_seed]
                hub, other = (statistics.mean(side) for side in zip(*pairs, strict=True))
                axes.plot([other, hub], [row, row], color="#b5b5b5", linewidth=1.5, zorder=1)
                axes.plot(hub, row, "D", color=COLOURS[1], markersize=6, label="a hub" if row == 0 else None)
                axes.plot(other, row, "o", color=COLOURS[0], markersize=6, label="another node" if row == 0 else None)
            name_rows(axes, [group.label for group in piece])
            logarithmic(axes, x=True)
            axes.set_xlabel(f"{what} per cycle, sent and accepted")
            low, high = axes.get_xlim()
            axes.set_xlim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high)))
        panels[1].xaxis.set_major_formatter(lambda value, _: size(value))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2)
        name, title = numbered("load", "Load of a hub against another node", index, len(pieces))
        yield Picture(name, title, "Mean over cycles, nodes and seeds; the scale is logarithmic.", figure)
