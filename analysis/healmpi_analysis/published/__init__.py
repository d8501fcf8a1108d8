"""`healmpi-report published DIR...`: the page docs/reproduction.md, published numbers beside measured ones.

    results files -> records -> Library (the VALID ones, each cell and seed once) -> tables, one function each -> Markdown

What was published, and which runs stand beside it, is in published.toml. The remarks under the tables, published-comments.md,
are about the runs of docs/reproduction.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.published.claims import claims
from healmpi_analysis.published.faults import churn, crashes
from healmpi_analysis.published.learning import fault_free, hub_sweep, models_sent, skewed
from healmpi_analysis.published.library import Library
from healmpi_analysis.published.overlays import elevator, is_overlay
from healmpi_analysis.records import Reading, read_all, without_damaged


@dataclass(frozen=True, slots=True)
class Page:
    """text: Markdown. used: runs in it. left_out: what of each other run, or file, in a sentence."""

    text: str
    used: int
    left_out: list[str]


def make_page(places: Sequence[Path], *, quiet: bool = True) -> Page:
    """Read everything in `places`. Raises AnalysisError: nothing to read, or no VALID run."""
    return without_damaged(read_all(places, quiet=quiet), lambda reading: _page(reading, places))


def _page(reading: Reading, places: Sequence[Path]) -> Page:
    records = reading.records
    valid = [record for record in records if record.valid]
    left_out = reading.left_out() + [f"{one.path} is {one.facts.verdict}" for one in records if not one.valid]
    if not valid:
        raise AnalysisError(f"there is no VALID run in {', '.join(map(str, places))} ({left_out[0] if left_out else 'nothing was read'})")
    data = tomllib.loads(_shipped("published.toml"))
    overlays = [record for record in valid if is_overlay(record, data)]
    library = Library([record for record in valid if record not in overlays], data)
    sections = (fault_free, models_sent, crashes, churn, skewed, hub_sweep)
    lines = ["# Published and measured", "", data["introduction"].format(runs=len(valid)).strip(), ""]
    lines += [line for section in sections for line in section(library)]
    lines += [*elevator(overlays, data), *claims(library), _shipped("published-comments.md").rstrip()]
    return Page("\n".join(lines) + "\n", len(valid), left_out)


def _shipped(name: str) -> str:
    return resources.files("healmpi_analysis").joinpath(name).read_text(encoding="utf-8")
