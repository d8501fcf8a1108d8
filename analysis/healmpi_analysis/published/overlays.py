"""Tables of runs of the overlay alone: how soon the hubs stand, and the graph in the end, with faults and without.

The rule that surprises: a hub is a node that stands in every live view, whatever it believes itself.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from healmpi_analysis.moments import moment_of, recorded
from healmpi_analysis.published.library import agrees
from healmpi_analysis.published.texts import table, whole
from healmpi_analysis.records import Record
from healmpi_analysis.recovery import episodes
from healmpi_analysis.scenario import FAULT_FREE
from healmpi_analysis.sources import open_source
from healmpi_analysis.topology import Measures, Overlay, measures


@dataclass(frozen=True, slots=True)
class Graph:
    """The overlay in one cycle. rest: in-degrees of those that do not stand in every view."""

    measures: Measures
    rest: np.ndarray


@dataclass(frozen=True, slots=True)
class Course:
    """A run of the overlay. cycles: int [C], those with views. hubs: int [C]. graphs: by cycle, the watched ones and the last."""

    record: Record
    cycles: np.ndarray
    hubs: np.ndarray
    graphs: dict[int, Graph]

    def hubs_after(self, cycle: int) -> int | None:
        """Recorded cycles from this one on until as many hubs as wanted stand."""
        later = self.hubs[self.cycles >= cycle]
        enough = np.flatnonzero(later >= self.record.facts.hub_count)
        return int(enough[0]) + 1 if enough.size else None


def is_overlay(record: Record, data: dict) -> bool:
    """Whether the run is one of the overlay alone, with views."""
    if not agrees(record, data["elevator"]["fields"]):
        return False
    with open_source(record.path) as source:
        return len(recorded(source)) > 0


def elevator(records: Sequence[Record], data: dict) -> list[str]:
    """Cycles until the hubs stand; the graph in the last cycle."""
    section = data["elevator"]
    courses = [_course(record, section["faults"]["watched_cycles"]) for record in records]
    lines = [*_settling(courses, section), *_last_cycle(courses, section["faults"])]
    return ["## Elevator", "", *lines] if lines else []


def _course(record: Record, watched: Container[int]) -> Course:
    hubs, cycles, graphs = [], [], {}
    with open_source(record.path) as source:
        places = recorded(source)
        for place in places:
            moment = moment_of(source, int(place))
            cycles.append(moment.cycle)
            hubs.append(int(_everywhere(moment.graph).sum()))
            if moment.cycle in watched or place == places[-1]:
                graphs[moment.cycle] = Graph(measures(moment.graph), moment.graph.in_degree[~_everywhere(moment.graph)])
    return Course(record, np.array(cycles), np.array(hubs), graphs)


def _everywhere(graph: Overlay) -> np.ndarray:
    return graph.in_degree == len(graph.live)


# How soon.


def _settling(courses: Sequence[Course], section: dict) -> list[str]:
    rows = []
    for published in section["settling"]:
        sizes = published["nodes"], published["view_size"], published["hub_count"]
        found = [one for one in courses if one.record.scenario == FAULT_FREE and _sizes(one.record) == sizes]
        if found:
            rows.append([", ".join(map(str, sizes)), whole(published["cycles"]), ", ".join(map(_settled, found))])
    return [section["text"], "", *table(["n, c, h", "published", "measured"], rows)] if rows else []


def _sizes(record: Record) -> tuple[int, int, int]:
    return record.facts.nodes, record.facts.view_size, record.facts.hub_count


def _settled(one: Course) -> str:
    cycles = one.hubs_after(int(one.cycles[0]))
    return f"more than {len(one.hubs)}" if cycles is None else str(cycles)


# In the end.


def _last_cycle(courses: Sequence[Course], section: dict) -> list[str]:
    large = [one for one in courses if (one.record.facts.nodes, one.record.facts.hub_count) == (section["nodes"], section["hub_count"])]
    planned = [FAULT_FREE, *section["scenarios"]]
    names = planned + sorted({one.record.scenario for one in large} - set(planned))
    rows = [_last_row(one) for name in names for one in large if one.record.scenario == name]
    head = ["faults", "seed", "live", "hubs", "h hubs again after", "in-degree of the others"]
    return [section["text"].strip(), "", *table([*head, "diameter (largest seen)", "path", "clustering"], rows)] if rows else []


def _last_row(one: Course) -> list[str]:
    record, last = one.record, one.graphs[int(one.cycles[-1])]
    widest = max(graph.measures.diameter for graph in one.graphs.values())
    return [
        record.scenario,
        str(record.seed),
        str(int(record.series["live"].iloc[-1])),
        str(one.hubs[-1]),
        _again(one),
        f"{last.rest.mean():.1f} +- {last.rest.std():.1f}" if last.rest.size else "-",
        f"{last.measures.diameter:g} ({widest:g})",
        f"{last.measures.path:.2f}",
        f"{last.measures.clustering:.2f}",
    ]


def _again(one: Course) -> str:
    """Cycles from a crash on until as many hubs as wanted stand again; nothing where nobody crashed."""
    crashed = [episode.first for episode in episodes(one.record) if episode.kind == "crash"]
    if not crashed:
        return ""
    cycles = one.hubs_after(crashed[0])
    return f"not within {(one.cycles >= crashed[0]).sum()}" if cycles is None else f"{cycles} cycles"
