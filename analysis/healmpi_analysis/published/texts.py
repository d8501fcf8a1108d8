"""Numbers as the page of published numbers shows them: .9012 +- .0034 (5), mean and deviation over so many runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from healmpi_analysis import metrics, statistics
from healmpi_analysis.records import Record
from healmpi_analysis.text import DASH


def spread(values: Iterable[float], digits: int = 4) -> str:
    """Mean, standard deviation, and number of the values that exist."""
    known = statistics.finite(list(values)).tolist()
    if not known:
        return DASH
    deviation = f" +- {statistics.spread(known):.{digits}f}" if len(known) > 1 else ""
    return _short(f"{statistics.mean(known):.{digits}f}{deviation} ({len(known)})")


def signed(values: Sequence[float]) -> str:
    """The same of differences, with their sign and the zero in front."""
    deviation = f" +- {statistics.spread(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.4f}{deviation} ({len(values)})"


def accuracy(value: float) -> str:
    """A published accuracy: .9087."""
    return _short(f"{value:.4f}")


def _short(text: str) -> str:
    return re.sub(r"\b0\.", ".", text)


def whole(value: float) -> str:
    """A published number of cycles; a dash for one that was not reached."""
    return f"{value:g}" if np.isfinite(value) else DASH


def reached(runs: Sequence[Record], target: float) -> str:
    """Median of the cycles to an accuracy; in brackets how many runs came so far, if not all."""
    found = statistics.finite([metrics.cycles_to(run, target) for run in runs]).tolist()
    if not found:
        return DASH
    short = f" ({len(found)} of {len(runs)})" if len(found) < len(runs) else ""
    return f"{statistics.median(found):g}{short}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, an empty one at the end."""
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]
