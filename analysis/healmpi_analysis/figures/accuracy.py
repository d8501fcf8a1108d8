"""Accuracy over cycles, seconds and bytes, and when a given accuracy was reached.

A line ends where the first of its seeds ends, since a mean over fewer seeds is another mean. Where there is a central
baseline of the same data, model and seeds, it is the dashed line above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from healmpi_analysis import metrics, statistics
from healmpi_analysis.baseline import baselines_of, is_central
from healmpi_analysis.figures.style import (
    COLOURS,
    FAULT,
    MARKERS,
    Palette,
    Picture,
    chunks,
    label_cycles,
    legend_below,
    name_rows,
    never_column,
    new_figure,
    numbered,
    stacked,
    wrapped,
)
from healmpi_analysis.groups import Group
from healmpi_analysis.records import Record
from healmpi_analysis.recovery import episodes

_BAND = "Lines: mean over live nodes, then over seeds. Bands: one standard deviation over seeds, where there are several."
_MARKS = "Dashed red: a crash, where it happened (values belong to the ends of cycles); shaded: churn or another lasting fault."
_UPPER_DASHES = ((0, (6, 3)), (0, (2, 2)), (0, (6, 2, 1, 2)))


def upper_look(index: int) -> dict[str, Any]:
    """The look of a central baseline; there are several where hyperparameters were varied."""
    return {"color": "#222222", "linestyle": _UPPER_DASHES[index % len(_UPPER_DASHES)], "linewidth": 1.3, "zorder": 1.8}


def learning(groups: Sequence[Group]) -> list[Group]:
    """Those with at least one accuracy."""
    return [group for group in groups if any(len(run.judged) for run in group.runs)]


def shown(groups: Sequence[Group]) -> list[Group]:
    """Those of `learning` that have lines of their own: the central baselines are lines above the others, if there are any."""
    found = learning(groups)
    return [group for group in found if not is_central(group)] or found


def by_scenario(groups: Sequence[Group]) -> list[tuple[str, Sequence[Group]]]:
    """(scenario, at most as many groups as a figure has room for); where there are several data sets, (data set: scenario), since
    accuracies on different ones say nothing of each other."""
    several = len({group.config.get("data.dataset") for group in groups}) > 1
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(f"{group.config.get('data.dataset')}: {group.scenario}" if several else group.scenario, []).append(group)
    return [(name, piece) for name, mine in found.items() for piece in chunks(mine)]


def over_cycles(groups: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario."""
    pieces = by_scenario(shown(groups))
    for index, (scenario, piece) in enumerate(pieces):
        figure = new_figure(3.1 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            mean, spread = over_seeds([run.judged for run in group.one_of_each_seed])
            line(axes, mean.index.to_numpy(), mean, spread, f"{group.variant} (n={len(group.one_of_each_seed)})", looks, group.variant)
        upper = upper_lines(axes, piece, groups)
        mark_faults(axes, [group.runs[0] for group in piece])
        label_cycles(axes)
        axes.set(ylabel="accuracy", title=wrapped(scenario))
        legend_below(figure, axes)
        name, title = numbered("accuracy_cycles", "Accuracy over cycles", index, len(pieces))
        yield Picture(name, title, f"{scenario}. {_BAND}{upper} {_MARKS}", figure)


def over_scenarios(groups: Sequence[Group]) -> Iterator[Picture]:
    """One picture a variant that was run in several scenarios."""
    found = shown(groups)
    variants = {name: [group for group in found if group.variant == name] for name in dict.fromkeys(group.variant for group in found)}
    pieces = [(name, piece) for name, mine in variants.items() if len(mine) > 1 for piece in chunks(mine)]
    looks = Palette(tuple(group.scenario for group in found))
    for index, (variant, piece) in enumerate(pieces):
        figure = new_figure(3.1 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            mean, spread = over_seeds([run.judged for run in group.one_of_each_seed])
            label = f"{group.scenario} (n={len(group.one_of_each_seed)})"
            line(axes, mean.index.to_numpy(), mean, spread, label, looks, group.scenario)
        upper = upper_lines(axes, piece, groups)
        mark_faults(axes, [group.runs[0] for group in piece])
        label_cycles(axes)
        axes.set(ylabel="accuracy", title=wrapped(variant))
        legend_below(figure, axes)
        name, title = numbered("accuracy_scenarios", "Accuracy over cycles, by scenario", index, len(pieces))
        yield Picture(name, title, f"{variant}. {_BAND}{upper} {_MARKS}", figure)


def over_seconds(timed: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario."""
    note = "Seconds without judging models and keeping records, mean over runs."
    yield from _over_cost(timed, looks, lambda group: group.runs, lambda run: run.series["elapsed"], "seconds", note)


def over_bytes(groups: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario of groups that sent anything."""
    talking = [group for group in groups if any(run.series["bytes"].any() for run in group.runs)]
    central = [group for group in groups if is_central(group)] if talking else []
    note = "All that nodes together had sent by the end of the cycle, headers included, mean over seeds."
    yield from _over_cost(
        [*talking, *central], looks, lambda group: group.one_of_each_seed, lambda run: metrics.sent_bytes(run) / 1e6, "bytes", note
    )


_AXES = {"seconds": ("accuracy_seconds", "Accuracy over seconds", "seconds of the algorithm"),
         "bytes": ("accuracy_bytes", "Accuracy over bytes sent", "MB sent by all nodes together")}  # fmt: skip


def _over_cost(
    groups: Sequence[Group],
    looks: Palette,
    runs_of: Callable[[Group], Sequence[Record]],
    cost_of: Callable[[Record], pd.Series],
    what: str,
    note: str,
) -> Iterator[Picture]:
    """One picture a scenario of accuracy over what it cost so far, cost_of: index `cycle`."""
    stem, heading, label = _AXES[what]
    pieces = by_scenario(shown(groups))
    for index, (scenario, piece) in enumerate(pieces):
        figure = new_figure(3.1 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            runs = runs_of(group)
            mean, spread = over_seeds([run.judged for run in runs])
            cost = pd.concat([cost_of(run) for run in runs], axis=1).mean(axis=1)
            line(axes, cost[mean.index].to_numpy(), mean, spread, f"{group.variant} (n={len(runs)})", looks, group.variant)
            _mark_on_line(axes, runs[0], cost, mean)
        upper = upper_lines(axes, piece, groups, level=True)
        axes.set(xlabel=label, ylabel="accuracy", title=wrapped(scenario))
        legend_below(figure, axes)
        name, title = numbered(stem, heading, index, len(pieces))
        yield Picture(name, title, f"{scenario}. {_BAND}{upper} {note} Red triangles: the beginning of a fault.", figure)


def over_seeds(series: Sequence[pd.Series]) -> tuple[pd.Series, pd.Series]:
    """Mean and standard deviation in the cycles that all have; nan spread for one."""
    table = pd.concat([one for one in series if len(one)], axis=1).dropna()
    return table.mean(axis=1), table.std(axis=1, ddof=1) if table.shape[1] > 1 else table.iloc[:, 0] * np.nan


def line(axes: Axes, x: np.ndarray, mean: pd.Series, spread: pd.Series, label: str, looks: Palette, name: str) -> None:
    """A mean with its band."""
    few: dict[str, Any] = {"marker": looks.marker(name), "markersize": 3.5} if len(x) <= 15 else {}
    axes.plot(x, mean.to_numpy(), label=label, **looks.line(name), **few)
    if spread.notna().any():
        low, high = (mean - spread).to_numpy(), (mean + spread).to_numpy()
        axes.fill_between(x, low, high, color=looks.colour(name), alpha=0.15, linewidth=0)


def upper_lines(axes: Axes, groups: Sequence[Group], everything: Sequence[Group], *, level: bool = False) -> str:
    """The central baselines beside these groups, and a sentence about them. level: a line at their final accuracy, where the axis is no
    measure of theirs: a single node sends nothing."""
    found = [one for one in baselines_of(groups, everything) if not all(is_central(group) for group in groups)]
    for index, one in enumerate(found):
        mean, _ = over_seeds([run.judged for run in one.runs])
        if level:
            axes.axhline(float(mean.iloc[-1]), label=one.label, **upper_look(index))
        else:
            # Not beyond the others: a baseline that was run for longer would squeeze them.
            last = max(run.cycles[-1] for group in groups for run in group.runs if len(run.cycles))
            mean = mean[mean.index <= last]
            axes.plot(mean.index, mean, label=one.label, **upper_look(index))
    return (" Dashed black: one node with all data" + (", at its end." if level else ".")) if found else ""


def mark_faults(axes: Axes, records: Sequence[Record]) -> None:
    """Each episode once, where it happened: c is the end of cycle c, so what happens in cycle 12 lies between 11 and 12."""
    marked = set()
    for record in records:
        for one in episodes(record):
            place = (one.begins, one.ends)
            if place in marked:
                continue
            marked.add(place)
            if one.lasts:
                axes.axvspan(one.begins, one.ends, color=FAULT, alpha=0.08, linewidth=0, zorder=0)
            else:
                axes.axvline(one.begins, color=FAULT, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)


def _mark_on_line(axes: Axes, record: Record, cost: pd.Series, mean: pd.Series) -> None:
    """cost: seconds or the like at the end of each cycle."""
    ends = np.concatenate([[cost.index[0] - 1.0], cost.index.to_numpy(np.float64)])
    spent = np.concatenate([[0.0], cost.to_numpy()])
    for one in episodes(record):
        if one.begins <= mean.index[-1]:
            x, y = np.interp(one.begins, ends, spent), np.interp(one.begins, mean.index.to_numpy(np.float64), mean.to_numpy())
            axes.plot(x, y, marker="v", markersize=6, color=FAULT, linestyle="none", zorder=4)


def time_to_accuracy(timed: Sequence[Group]) -> Iterator[Picture]:
    """Two panels, cycles and seconds; a row a group, a mark a target."""
    groups = learning(timed)
    targets = metrics.targets_reached([run for group in groups for run in group.runs])
    pieces = chunks(groups, 10) if targets else []
    for index, piece in enumerate(pieces):
        figure, panels = stacked(2, 0.75 + 0.34 * len(piece), share=False, legend_rows=1)
        for axes, measure, label in ((panels[0], metrics.cycles_to, "cycles"), (panels[1], metrics.seconds_to, "seconds of the algorithm")):
            values = [[[measure(run, target) for run in group.runs] for target in targets] for group in piece]
            for row, of_group in enumerate(values):
                _targets(axes, row, of_group)
            never = never_column(axes, label == "cycles")
            for row, of_group in enumerate(values):
                _never(axes, row, of_group, never)
            name_rows(axes, [group.label for group in piece])
            axes.set_xlabel(f"{label} until the accuracy")
        handles = [panels[0].plot([], [], marker=MARKERS[i], color=COLOURS[i], linestyle="none")[0] for i in range(len(targets))]
        figure.legend(handles, [f"accuracy {target:.2f}" for target in targets], loc="outside lower left", ncols=3)
        name, title = numbered("time_to_accuracy", "Time to an accuracy", index, len(pieces))
        caption = "Medians over the runs that reached it, with 95 % intervals; hollow: not all runs did; crosses: no run did."
        yield Picture(name, title, caption, figure)


def _targets(axes: Axes, row: int, values: Sequence[Sequence[float]]) -> None:
    for place, of_target in enumerate(values):
        centre = statistics.median(of_target)
        if np.isnan(centre):
            continue
        low, high = statistics.bootstrap(of_target, np.median)
        y = _height(row, place, len(values))
        axes.plot([low, high], [y, y], color=COLOURS[place], linewidth=1.4)
        face = COLOURS[place] if np.isfinite(of_target).all() else "white"
        axes.plot(centre, y, marker=MARKERS[place], color=COLOURS[place], markerfacecolor=face, markersize=5.5, linestyle="none", zorder=3)


def _never(axes: Axes, row: int, values: Sequence[Sequence[float]], x: float) -> None:
    """A cross where no run reached the accuracy, side by side for several."""
    step = 0.018 * axes.get_xlim()[1]
    for place, of_target in enumerate(values):
        if not np.isfinite(of_target).any():
            beside = x + step * (place - (len(values) - 1) / 2)
            axes.plot(beside, row, marker="x", color=COLOURS[place], markersize=5, linestyle="none")


def _height(row: int, place: int, of: int) -> float:
    return row + 0.08 * (place - (of - 1) / 2)
