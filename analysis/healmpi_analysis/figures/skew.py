"""What a single accuracy hides where labels are dealt unevenly: accuracy on a node's own labels, and class by class.

Only files that hold them have these figures (own_accuracy and class_accuracy of /cycles).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from healmpi_analysis import metrics
from healmpi_analysis.baseline import baselines_of
from healmpi_analysis.figures.accuracy import by_scenario, line, mark_faults, over_seeds, shown, upper_look
from healmpi_analysis.figures.style import GREY, Palette, Picture, label_cycles, legend_below, new_figure, numbered, wrapped
from healmpi_analysis.groups import Group

MOST_TICKS = 26
"""Classes whose numbers all stand below the axis."""


def own_labels(groups: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario: accuracy on own labels, and thin the one on all of them."""
    pieces = by_scenario([group for group in shown(groups) if any(run.series["own_accuracy"].notna().any() for run in group.runs)])
    for index, (scenario, piece) in enumerate(pieces):
        figure = new_figure(3.1 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            runs = group.one_of_each_seed
            mean, spread = over_seeds([run.series["own_accuracy"].dropna() for run in runs])
            line(axes, mean.index.to_numpy(), mean, spread, f"{group.variant} (n={len(runs)})", looks, group.variant)
            everywhere, _ = over_seeds([run.judged for run in runs])
            axes.plot(everywhere.index, everywhere, color=looks.colour(group.variant), linewidth=1.0, linestyle=(0, (1, 1.2)))
        axes.plot([], [], color=GREY, linewidth=1.0, linestyle=(0, (1, 1.2)), label="thin, dotted: the same models on all labels")
        mark_faults(axes, [group.runs[0] for group in piece])
        label_cycles(axes)
        axes.set(ylabel="accuracy on own labels", title=wrapped(scenario))
        legend_below(figure, axes)
        name, title = numbered("accuracy_own", "Accuracy on a node's own labels", index, len(pieces))
        caption = (
            f"{scenario}. The test set weighted by the labels that each node's shard has; mean over judged live nodes, then over seeds. "
            f"A model that knows its own labels alone is high here and low on all."
        )
        yield Picture(name, title, caption, figure)


def classes(groups: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario: final accuracy, class by class."""
    pieces = by_scenario([group for group in shown(groups) if metrics.group_class_accuracy(group.one_of_each_seed).size])
    for index, (scenario, piece) in enumerate(pieces):
        figure = new_figure(2.9 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            values = metrics.group_class_accuracy(group.one_of_each_seed)
            look = looks.line(group.variant) | {"marker": looks.marker(group.variant), "markersize": 4.5, "linewidth": 0.7}
            axes.plot(range(len(values)), values, label=f"{group.variant} (n={len(group.one_of_each_seed)})", **look)
        for place, one in enumerate(baselines_of(piece, groups)):
            values = metrics.group_class_accuracy(one.runs)
            axes.plot(range(len(values)), values, label=one.label, **upper_look(place))
        most = max(len(metrics.group_class_accuracy(group.one_of_each_seed)) for group in piece)
        if most <= MOST_TICKS:
            axes.set_xticks(range(most))
        axes.set(xlabel="class", ylabel="accuracy", ylim=(-0.03, 1.03), title=wrapped(scenario))
        legend_below(figure, axes)
        name, title = numbered("accuracy_classes", "Accuracy by class", index, len(pieces))
        caption = f"{scenario}. On the test samples of each class, last evaluated cycle; mean over judged nodes, then over seeds."
        yield Picture(name, title, caption, figure)
