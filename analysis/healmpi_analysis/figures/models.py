"""How many different models there are: a stand-in for the distance between them, which a file does not hold.

The rule that surprises: models that differ in one bit count as different. The figure tells when nodes agree, not how far
apart they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from healmpi_analysis.figures.accuracy import by_scenario
from healmpi_analysis.figures.style import Palette, Picture, label_cycles, legend_below, new_figure, numbered
from healmpi_analysis.groups import Group


def different(groups: Sequence[Group], looks: Palette) -> Iterator[Picture]:
    """One picture a scenario of groups whose files carry checksums of models."""
    pieces = by_scenario([group for group in groups if group.runs[0].series["distinct_models"].notna().any()])
    for index, (scenario, piece) in enumerate(pieces):
        figure = new_figure(2.6 + 0.2 * len(piece))
        axes = figure.subplots()
        for group in piece:
            # Where a sample was judged only its models have a checksum: they are what the different ones are out of.
            shares = [run.series["distinct_models"] / run.series["models_seen"].replace(0, np.nan) for run in group.one_of_each_seed]
            mean = 100 * pd.concat(shares, axis=1).dropna().mean(axis=1)
            axes.plot(mean.index, mean, label=f"{group.variant} (n={len(shares)})", **looks.line(group.variant))
        label_cycles(axes)
        axes.set(ylabel="different models,\n% of those looked at", ylim=(0, 105), title=scenario)
        legend_below(figure, axes)
        name, title = numbered("distinct_models", "Different models (a proxy of consensus)", index, len(pieces))
        caption = (
            f"{scenario}. Different checksums among the models of live nodes at the end of the cycle, of those that were "
            f"judged: whether they agree, not how far apart they are.{_sampled(piece)}"
        )
        yield Picture(name, title, caption, figure)


def _sampled(groups: Sequence[Group]) -> str:
    """A sentence where fewer models were looked at than there were live nodes."""
    runs = [run for group in groups for run in group.one_of_each_seed]
    fewer = any((run.series["models_seen"] < run.series["live"])[run.series["models_seen"] > 0].any() for run in runs)
    return " Of some runs only a sample of the nodes was judged (evaluation.nodes)." if fewer else ""
