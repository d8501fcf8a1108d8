"""Accuracy over cycles and seconds, and when a given accuracy was reached.

The rule that surprises: a line ends where the first of its seeds ends, since a mean over fewer seeds is another mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from healmpi_analysis import metrics, statistics
from healmpi_analysis.figures.style import (
    COLOURS,
    FAULT,
    MARKERS,
    Palette,
    Picture,
    chunks,
    legend_below,
    name_rows,
    new_figure,
    numbered,
    stacked,
    wrapped,
)
from healmpi_analysis.groups import Group
from healmpi_analysis.records import Record
from healmpi_analysis.recovery import episodes

_BAND = "Lines: mean over live nodes, then over seeds. Bands: one standard deviation over seeds, where there are several."


def learning(groups: Sequence[Group]) -> list[Group]:
    """Those with at least one accuracy."""
    return [group for group in groups if any(len(run.judged) for run in group.runs)]


def by_scenario(groups: Sequence[Group]) -> list[tuple[str, Sequence[Group]]]:
    """(scenario, at most as many groups as a figure has room for)."""
    names = dict.fromkeys(group.scenario for group in groups)
    return [(name, piece) for name in names for piece in chunks([group for group in groups if group.scenario == name])]


def over_cycles(groups: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario."""
    pieces = by_scenario(learning(groups))
    for index, (scenario, piece) in enumerate(pieces):
        figure = new_figure(2.9 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            mean, spread = _over_seeds([run.judged for run in group.one_of_each_seed])
            _line(axes, mean.index.to_numpy(), mean, spread, f"{group.variant} (n={len(group.one_of_each_seed)})", looks, group.variant)
        _mark_faults(axes, [group.runs[0] for group in piece])
        axes.set(xlabel="cycle", ylabel="accuracy", title=scenario)
        legend_below(figure, axes)
        name, title = numbered("accuracy_cycles", "Accuracy over cycles", index, len(pieces))
        yield Picture(name, title, f"{scenario}. {_BAND} Dashed red: a crash; shaded: churn or another lasting fault.", figure)


def over_scenarios(groups: Sequence[Group]) -> Iterator[Picture]:
    """One picture a variant that was run in several scenarios."""
    found = learning(groups)
    variants = {name: [group for group in found if group.variant == name] for name in dict.fromkeys(group.variant for group in found)}
    pieces = [(name, piece) for name, mine in variants.items() if len(mine) > 1 for piece in chunks(mine)]
    looks = Palette(tuple(group.scenario for group in found))
    for index, (variant, piece) in enumerate(pieces):
        figure = new_figure(2.9 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            mean, spread = _over_seeds([run.judged for run in group.one_of_each_seed])
            label = f"{group.scenario} (n={len(group.one_of_each_seed)})"
            _line(axes, mean.index.to_numpy(), mean, spread, label, looks, group.scenario)
        _mark_faults(axes, [group.runs[0] for group in piece])
        axes.set(xlabel="cycle", ylabel="accuracy", title=wrapped(variant))
        legend_below(figure, axes)
        name, title = numbered("accuracy_scenarios", "Accuracy over cycles, by scenario", index, len(pieces))
        yield Picture(name, title, f"{variant}. {_BAND} Dashed red: a crash; shaded: churn or another lasting fault.", figure)


def over_seconds(timed: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario."""
    pieces = by_scenario(learning(timed))
    for index, (scenario, piece) in enumerate(pieces):
        figure = new_figure(2.9 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            mean, spread = _over_seeds([run.judged for run in group.runs])
            seconds = pd.concat([run.series["elapsed"] for run in group.runs], axis=1).mean(axis=1)
            _line(axes, seconds[mean.index].to_numpy(), mean, spread, f"{group.variant} (n={len(group.runs)})", looks, group.variant)
            _mark_on_line(axes, group.runs[0], seconds, mean)
        axes.set(xlabel="seconds of the algorithm", ylabel="accuracy", title=scenario)
        legend_below(figure, axes)
        name, title = numbered("accuracy_seconds", "Accuracy over seconds", index, len(pieces))
        note = "Seconds without judging models and keeping records, mean over runs. Red triangles: the first cycle of a fault."
        yield Picture(name, title, f"{scenario}. {_BAND} {note}", figure)


def _over_seeds(series: Sequence[pd.Series]) -> tuple[pd.Series, pd.Series]:
    """Mean and standard deviation in the cycles that all have; nan spread for one."""
    table = pd.concat([one for one in series if len(one)], axis=1).dropna()
    return table.mean(axis=1), table.std(axis=1, ddof=1) if table.shape[1] > 1 else table.iloc[:, 0] * np.nan


def _line(axes: Axes, x: np.ndarray, mean: pd.Series, spread: pd.Series, label: str, looks: Palette, name: str) -> None:
    few: dict[str, Any] = {"marker": looks.marker(name), "markersize": 3.5} if len(x) <= 15 else {}
    axes.plot(x, mean.to_numpy(), label=label, **looks.line(name), **few)
    if spread.notna().any():
        low, high = (mean - spread).to_numpy(), (mean + spread).to_numpy()
        axes.fill_between(x, low, high, color=looks.colour(name), alpha=0.15, linewidth=0)


def _mark_faults(axes: Axes, records: Sequence[Record]) -> None:
    marked = set()
    for record in records:
        for one in episodes(record):
            place = (one.first, one.last)
            if place in marked:
                continue
            marked.add(place)
            if one.first == one.last:
                axes.axvline(one.first, color=FAULT, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
            else:
                axes.axvspan(one.first, one.last, color=FAULT, alpha=0.08, linewidth=0, zorder=0)


def _mark_on_line(axes: Axes, record: Record, seconds: pd.Series, mean: pd.Series) -> None:
    for one in episodes(record):
        later = mean.index[mean.index >= one.first]
        if len(later):
            axes.plot(seconds[later[0]], mean[later[0]], marker="v", markersize=6, color=FAULT, linestyle="none", zorder=4)


def time_to_accuracy(timed: Sequence[Group]) -> Iterator[Picture]:
    """Two panels, cycles and seconds; a row a group, a mark a target."""
    groups = learning(timed)
    targets = metrics.targets_reached([run for group in groups for run in group.runs])
    pieces = chunks(groups, 10) if targets else []
    for index, piece in enumerate(pieces):
        figure, panels = stacked(2, 0.75 + 0.34 * len(piece), share=False, legend_rows=1)
        for axes, measure, label in ((panels[0], metrics.cycles_to, "cycles"), (panels[1], metrics.seconds_to, "seconds of the algorithm")):
            for row, group in enumerate(piece):
                _targets(axes, row, [[measure(run, target) for run in group.runs] for target in targets])
            name_rows(axes, [group.label for group in piece])
            axes.set(xlabel=f"{label} until the accuracy", xlim=(0, None))
        handles = [panels[0].plot([], [], marker=MARKERS[i], color=COLOURS[i], linestyle="none")[0] for i in range(len(targets))]
        figure.legend(handles, [f"accuracy {target:.2f}" for target in targets], loc="outside lower left", ncols=3)
        name, title = numbered("time_to_accuracy", "Time to an accuracy", index, len(pieces))
        caption = "Medians over the runs that reached it, with 95 % intervals; hollow: not all runs did; no mark: none did."
        yield Picture(name, title, caption, figure)


def _targets(axes: Axes, row: int, values: Sequence[Sequence[float]]) -> None:
    for place, of_target in enumerate(values):
        centre = statistics.median(of_target)
        if np.isnan(centre):
            continue
        low, high = statistics.bootstrap(of_target, np.median)
        y = row + 0.08 * (place - (len(values) - 1) / 2)
        axes.plot([low, high], [y, y], color=COLOURS[place], linewidth=1.4)
        face = COLOURS[place] if np.isfinite(of_target).all() else "white"
        axes.plot(centre, y, marker=MARKERS[place], color=COLOURS[place], markerfacecolor=face, markersize=5.5, linestyle="none", zorder=3)
