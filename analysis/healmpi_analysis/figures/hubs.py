"""Who was hub when, and who was dead: a raster of the nodes that ever were hubs, and the numbers of hubs and live nodes.

Of long runs several cycles share a column; a node that was hub in any of them is shown as hub,
and one that was replaced in any of them as replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from healmpi_analysis.figures.style import COLOURS, GREY, PALE, Picture, label_cycles, new_figure, numbered, wrapped
from healmpi_analysis.groups import Group
from healmpi_analysis.records import Record
from healmpi_analysis.source import Source
from healmpi_analysis.sources import open_source

MOST_ROWS, MOST_COLUMNS = 48, 1000
LIVE, DEAD, HUB, REPLACED = 0, 1, 2, 3


def membership(groups: Sequence[Group]) -> Iterator[Picture]:
    """One picture a group whose nodes ever were hubs."""
    with_hubs = [group for group in groups if group.runs[0].series["hubs"].sum() > 0]
    for index, group in enumerate(with_hubs):
        record = group.one_of_each_seed[0]
        nodes, states, more = raster(record)
        figure = new_figure(1.9 + 0.105 * len(nodes) + 0.15 * wrapped(group.label).count("\n"))
        heights = [0.105 * len(nodes) + 0.2, 1.0]
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": heights})
        _draw(top, record, nodes, states)
        top.set_title(wrapped(group.label))
        bottom.plot(record.cycles, record.series["hubs"], color=COLOURS[0], label="hubs")
        bottom.axhline(record.facts.hub_count, color=COLOURS[1], linestyle=(0, (4, 2)), linewidth=1.1, label="hubs wanted")
        label_cycles(bottom)
        bottom.set(ylabel="hubs", ylim=(0, _highest(record)))
        patches = [Patch(color=COLOURS[0], label="hub"), Patch(facecolor=PALE, label="live"), Patch(color=GREY, label="dead")]
        if (states == REPLACED).any():
            patches.append(Patch(color=COLOURS[4], label="replaced"))
        figure.legend(
            handles=[*patches, *bottom.get_legend_handles_labels()[0][1:]],
            loc="outside lower left",
            ncols=5,
            columnspacing=1.2,
            handlelength=1.6,
        )
        name, title = numbered("hub_membership", "Who was hub, and who was dead", index, len(with_hubs))
        left_out = f"; {more} that were hubs for fewer cycles are left out" if more else ""
        caption = (
            f"Seed {record.seed}. Rows: nodes that ever believed to be hubs, by the first time{left_out}. Below: how many believed so."
        )
        yield Picture(name, title, caption, figure)


def _highest(record: Record) -> float:
    """Room for the peaks, but when everybody believes to be a hub the rest would be a flat line."""
    most = max(float(record.series["hubs"].max()), record.facts.hub_count, 1)
    return 1.15 * (min(most, 3 * record.facts.hub_count) if record.facts.hub_count else most)


def raster(record: Record) -> tuple[np.ndarray, np.ndarray, int]:
    """(node ids [rows], states [rows, columns] of LIVE, DEAD, HUB, REPLACED, how many nodes are left out)."""
    per_column = max(1, -(-len(record.cycles) // MOST_COLUMNS))
    with open_source(record.path) as source:
        # Twice through the file, so that no table of all nodes and cycles is ever in memory.
        cycles_as_hub = sum(hub.sum(axis=0) for hub, *_ in _blocks(source))
        ever = np.flatnonzero(cycles_as_hub)
        kept = ever[np.argsort(-cycles_as_hub[ever], kind="stable")[:MOST_ROWS]]
        pieces = [[table[:, kept] for table in tables] for tables in _blocks(source)]
    hubs, dead, replaced = (np.concatenate(tables) for tables in zip(*pieces, strict=True))
    order = np.lexsort([kept, hubs.argmax(axis=0)])
    kept, (hubs, dead, replaced) = kept[order], (_any_of(table[:, order], per_column) for table in (hubs, dead, replaced))
    states = np.select([replaced, hubs, dead], [REPLACED, HUB, DEAD], LIVE)
    return kept, states.T, len(ever) - len(kept)


def _blocks(source: Source) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(live hubs, dead nodes, nodes replaced in that cycle), bool [cycles, nodes], a block of cycles at a time."""
    last = np.zeros((1, source.facts.nodes), np.int32)
    for start, stop in source.blocks(("alive", "is_hub", "incarnation")):
        alive, hub = (source.read(name, start, stop) != 0 for name in ("alive", "is_hub"))
        incarnation = source.read("incarnation", start, stop) if source.has("incarnation") else np.zeros(alive.shape, np.int32)
        replaced = np.diff(incarnation, axis=0, prepend=last) != 0
        last = incarnation[-1:]
        yield hub & alive, ~alive, replaced


def _any_of(table: np.ndarray, per_column: int) -> np.ndarray:
    starts = np.arange(0, len(table), per_column)
    return np.logical_or.reduceat(table, starts, axis=0)


def _draw(axes, record: Record, nodes: np.ndarray, states: np.ndarray) -> None:
    colours = ListedColormap([PALE, GREY, COLOURS[0], COLOURS[4]])
    extent = (record.cycles[0] - 0.5, record.cycles[-1] + 0.5, len(nodes) - 0.5, -0.5)
    axes.imshow(states, cmap=colours, vmin=0, vmax=3, aspect="auto", extent=extent)
    axes.grid(visible=False)
    for row in range(1, len(nodes)):
        axes.axhline(row - 0.5, color="white", linewidth=0.8)
    axes.set_ylabel("node")
    axes.set_yticks(range(len(nodes)), [str(node) for node in nodes], fontsize=7)
    axes.tick_params(length=0)
