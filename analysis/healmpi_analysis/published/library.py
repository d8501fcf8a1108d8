"""The runs that stand beside published ones, and choices of them.

The rule that surprises: runs that differ in nothing but how often they were judged are one, the one that was judged most
often; and of fault-free runs the fields of the fault section do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from healmpi_analysis.groups import HOW_IT_IS_RECORDED, IGNORED
from healmpi_analysis.records import Record
from healmpi_analysis.scenario import FAULT_FREE, scenario_labels


class Library:
    """All runs of a page, each cell and seed once. data: published.toml."""

    def __init__(self, records: Sequence[Record], data: dict):
        self.data = data
        cells: dict[tuple, dict[int, Record]] = {}
        for record in records:
            cell = cells.setdefault(_cell(record), {})
            if record.seed not in cell or len(record.judged) > len(cell[record.seed].judged):
                cell[record.seed] = record
        self.records = [record for cell in cells.values() for record in cell.values()]
        said = [(record.scenario, record.facts.config.get("faults", {})) for record in self.records]
        self._labels = {record.path: label for record, label in zip(self.records, scenario_labels(said), strict=True)}

    def scenario(self, record: Record) -> str:
        """Its words, if they are of a published scenario; else a label that no other scenario of the page has."""
        published = {
            FAULT_FREE,
            *self.data["churn"]["scenarios"],
            *(name for one in self.data["crashes"]["tables"] for name in one["scenarios"]),
        }
        return record.scenario if record.scenario in published else self._labels[record.path]

    @property
    def algorithms(self) -> list[str]:
        """Those of published.toml, in its order."""
        return self.data["algorithms"]

    @property
    def start(self) -> dict:
        """The field that says how models begin in the tables with faults."""
        return {"model.initial": self.data["starts"][0]}

    def where(self, fields: dict, *, algorithm: str = "", scenario: str = "", usual: bool = False) -> list[Record]:
        """Runs with these values of fields. usual: only those with the published setting."""
        return [
            record
            for record in self.records
            if (not algorithm or record.algorithm == algorithm)
            and (not scenario or record.scenario == scenario)
            and agrees(record, fields)
            and (not usual or self._is_usual(record))
        ]

    def _is_usual(self, record: Record) -> bool:
        return agrees(record, self.data["setting"] | self.data["setting_of"].get(record.algorithm, {}))


def agrees(record: Record, fields: dict) -> bool:
    """Whether the run has these values; a field that its configuration lacks does not count."""
    return all(record.config.get(name, value) == value for name, value in fields.items())


def _cell(record: Record) -> tuple:
    """What tells runs apart that are more than seeds of each other."""
    unimportant = HOW_IT_IS_RECORDED + (("faults.",) if record.scenario == FAULT_FREE else ())
    fields = {name: value for name, value in record.config.items() if name not in IGNORED and not name.startswith(unimportant)}
    return (record.algorithm, record.scenario, *sorted((name, repr(value)) for name, value in fields.items()))


def longest(runs: Sequence[Record]) -> list[Record]:
    """Of runs of different length those of the longest."""
    most = max((length(run) for run in runs), default=0)
    return [run for run in runs if length(run) == most]


def length(run: Record) -> int:
    """Cycles that were asked for."""
    return int(run.config.get("run.cycles", 0))


def accuracy_at(run: Record, cycle: int) -> float:
    """In the last evaluated cycle up to this one; nan: there is none."""
    earlier = run.judged[run.judged.index <= cycle]
    return float(earlier.iloc[-1]) if len(earlier) else np.nan


def by(runs: Sequence[Record], key: Callable[[Record], object]) -> dict:
    """Runs by what key says of them."""
    found: dict = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found
