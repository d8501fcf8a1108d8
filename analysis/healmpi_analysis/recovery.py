"""What a run went through, fault by fault, and how long it took to come back.

    faults of neighbouring cycles and of one kind are one episode; each episode is watched until the next one begins

Accuracy is measured against the *undisturbed* run: the same seed and configuration without the faults. It is back when it has come
within half a percentage point of what the undisturbed run has in that same cycle, after having been further below it; an episode in
which it never was is back after 0 cycles. Lone nodes whose server is dead go on improving on data that are alike, so the last value
before a fault says little of recovery; it stands in only where the undisturbed run was not made, and figures and tables then say so.

Hubs *stand* when as many as wanted are there and are the same in the next cycle: right after a crash beliefs change from cycle
to cycle, and their number may be right by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from healmpi_analysis.records import Record
from healmpi_analysis.scenario import FAULT_FREE

TOLERANCE = 0.005
"""Of the accuracy: what counts as lost, and as back."""

HIT_NOBODY = "none"
"""Kind of the entries of the plan that found nobody."""

NEVER = np.inf
"""The time until something that did not happen while it was watched; nan is what was not measured."""

UNDISTURBED, BEFORE = "the undisturbed run", "its last value before"
"""What accuracy is measured against."""

_AT_START = "start"
"""The detail of a crash at the beginning of its cycle."""

_JUST_AFTER, _INSIDE = 0.08, 0.5
"""Shares of a cycle: where a fault at its start is drawn, clear of the values at the end of the cycle before, and one inside it."""


@dataclass(frozen=True, slots=True)
class Episode:
    """kind: of the faults. first, last: cycles. nodes: different nodes that were hit. hubs: how many faults hit a hub.

    begins, ends: when, on an axis on which c is the end of cycle c: a fault at the start of cycle 12 lies just after 11.
    """

    kind: str
    first: int
    last: int
    nodes: int
    hubs: int
    begins: float
    ends: float

    @property
    def title(self) -> str:
        when = f"cycle {self.first}" if self.first == self.last else f"cycles {self.first}-{self.last}"
        return f"{self.kind}, {when}"

    @property
    def lasts(self) -> bool:
        """Whether it is a stretch of time and not a moment."""
        return self.ends - self.begins > _INSIDE


@dataclass(frozen=True, slots=True)
class Recovery:
    """One episode of one run. Times count from the last cycle of the episode; NEVER (infinite): it did not come to it before the next
    episode or the end of the run; nan: it was not measured, for there are no hubs, no accuracies, or no cycle to see it in.

    hub_cycles, hub_seconds: until as many live nodes as wanted (h, or all live ones if fewer) believe to be hubs, and the same
    ones a cycle later; 0 cycles: at the end of the episode's last cycle already; nan where there are no hubs.
    against: UNDISTURBED or BEFORE, what accuracy_gap, accuracy_cycles and accuracy_seconds are measured against.
    accuracy_gap: how far it was below that at most until it was back; 0: never below. accuracy_cycles, accuracy_seconds: until it was back.
    final_gap: how far it was below that in the last evaluated cycle before the next episode or the end; negative: above.
    accuracy_before, accuracy_lowest: mean over live nodes, in the last evaluated cycle before, and the least until it was back.
    settled_lowest: the same least without nodes that were replaced in that very cycle, who have not learnt anything yet.
    """

    episode: Episode
    hub_cycles: float
    hub_seconds: float
    against: str
    accuracy_gap: float
    final_gap: float
    accuracy_before: float
    accuracy_lowest: float
    settled_lowest: float
    accuracy_cycles: float
    accuracy_seconds: float

    @property
    def accuracy_drop(self) -> float:
        return self.accuracy_before - self.accuracy_lowest

    @property
    def settled_drop(self) -> float:
        return self.accuracy_before - self.settled_lowest


# The undisturbed run.


def undisturbed_runs(records: Sequence[Record]) -> dict[Path, Record]:
    """For each run with faults, by path, one among `records` with its seed and its configuration but the faults, in which nothing went
    wrong: the one with the most evaluated cycles. How a run is written and limited does not count; how it is judged does."""
    quiet: dict[tuple, Record] = {}
    for record in records:
        key = _but_faults(record)
        if record.scenario == FAULT_FREE and (key not in quiet or len(record.judged) > len(quiet[key].judged)):
            quiet[key] = record
    others = [record for record in records if record.scenario != FAULT_FREE]
    return {record.path: quiet[key] for record in others if (key := _but_faults(record)) in quiet}


def _but_faults(record: Record) -> tuple:
    passed_over = ("faults.", "results.", "limits.")
    return (record.algorithm, *sorted((name, repr(value)) for name, value in record.config.items() if not name.startswith(passed_over)))


# Episodes.


def episodes(record: Record) -> list[Episode]:
    """In order of time; entries of the plan that hit nobody are none."""
    found = []
    for kind, faults in record.faults[record.faults["kind"] != HIT_NOBODY].groupby("kind", sort=True):
        cycles = np.unique(faults["cycle"])
        for run in np.split(cycles, np.flatnonzero(np.diff(cycles) > 1) + 1):
            found.append(_episode(record, str(kind), faults[faults["cycle"].isin(run)]))
    return sorted(found, key=lambda episode: (episode.first, episode.kind))


def _episode(record: Record, kind: str, faults: pd.DataFrame) -> Episode:
    first, last = int(faults["cycle"].min()), int(faults["cycle"].max())
    hit = faults["node"] >= 0
    moments = [_moment(*row) for row in zip(faults["cycle"], faults["tick"], faults["kind"], faults["detail"], strict=True)]
    begins, ends = min(moments), max(moments)
    if not hit.all():
        # What hits no node is recorded when it begins, and lasts to the end of its window.
        last = max(last, *(_end_of_window(record, kind, int(cycle)) for cycle in faults["cycle"][~hit]))
        begins, ends = first - 1.0, float(last)
    elif last > first:
        ends = float(last)
    return Episode(kind, first, last, faults["node"][hit].nunique(), int(faults["was_hub"].sum()), begins, ends)


def _moment(cycle: int, tick: int, kind: str, detail: str) -> float:
    if tick < 0:
        return float(cycle)
    # Churn and loss come at the start of a cycle; of crashes the detail is the point.
    inside = kind == "crash" and detail != _AT_START
    return cycle - 1 + (_INSIDE if inside else _JUST_AFTER)


def _end_of_window(record: Record, kind: str, first: int) -> int:
    """Last cycle of the entries of the fault section of this kind that begin in this cycle; not beyond the run."""
    faults = record.facts.config.get("faults", {})
    mine = [event for event in faults.get("plan", []) if (event.get("kind"), event.get("cycle")) == (kind, first)]
    lasts = [event.get("last_cycle", 0) or first for event in mine]
    if faults.get(f"{kind}_fraction", 0) > 0 and faults.get(f"{kind}_first_cycle") == first:
        lasts.append(faults.get(f"{kind}_last_cycle", first) or np.inf)
    end = int(record.cycles[-1]) if len(record.cycles) else first
    return int(max(first, min(end, max(lasts, default=first))))


# Recovery.


def recoveries(record: Record, undisturbed: Record | None = None) -> list[Recovery]:
    """What followed on each episode, until the next one that begins after its end. undisturbed: see undisturbed_runs."""
    found = episodes(record)
    ends = [min([later.first for later in found if later.first > one.last], default=np.inf) for one in found]
    return [_recovery(record, undisturbed, episode, end) for episode, end in zip(found, ends, strict=True)]


def _recovery(record: Record, undisturbed: Record | None, episode: Episode, end: float) -> Recovery:
    series = record.series[record.series.index < end]
    hubs = _hubs_stand(record, series[series.index >= episode.last])
    accuracy = series["accuracy"].dropna()
    earlier, later = accuracy[accuracy.index < episode.first], accuracy[accuracy.index >= episode.first]
    before = float(earlier.iloc[-1]) if len(earlier) else np.nan
    expected = later * 0 + before if undisturbed is None else undisturbed.judged.reindex(later.index)
    below = (expected - later).dropna()
    gap, back = _back(below, episode)
    final = float(below.iloc[-1]) if len(below) else np.nan
    watched = back if gap > TOLERANCE and np.isfinite(back) else np.inf
    lowest, settled = (
        float(series[name][(series.index >= episode.first) & (series.index <= watched)].min()) for name in ("accuracy", "accuracy_settled")
    )
    against = BEFORE if undisturbed is None else UNDISTURBED
    return Recovery(episode, *_since(record, episode, hubs), against, gap, final, before, lowest, settled, *_since(record, episode, back))


def _since(record: Record, episode: Episode, cycle: float) -> tuple[float, float]:
    """Cycles and seconds from the episode's last cycle to the end of this one."""
    if not np.isfinite(cycle):
        return cycle, cycle
    if cycle <= episode.last:
        return 0.0, 0.0
    elapsed = record.series["elapsed"]
    return cycle - episode.last, float(elapsed[cycle] - elapsed[episode.last])


def _hubs_stand(record: Record, after: pd.DataFrame) -> float:
    """First cycle with the wanted number of hubs that are the same in the next cycle; nan where two cycles cannot be compared."""
    if record.facts.hub_count == 0 or len(after) < 2:
        return np.nan
    enough = after["hubs"] == np.minimum(record.facts.hub_count, after["live"])
    stand = after.index[enough & (after["hub_set"] == after["hub_set"].shift(-1))]
    return float(stand[0]) if len(stand) else NEVER


def _back(below: pd.Series, episode: Episode) -> tuple[float, float]:
    """(largest gap until it was back, cycle in which it was back). below: how far accuracy is below what it is measured against."""
    if below.empty:
        return np.nan, np.nan
    low = below.index[below > TOLERANCE]
    if not len(low):
        return max(0.0, float(below.max())), float(episode.last)
    # During churn accuracy may come and go: back counts from the end of the episode.
    since = below[below.index >= max(low[0], episode.last)]
    back = since.index[since <= TOLERANCE]
    if len(back):
        return float(below[below.index <= back[0]].max()), float(back[0])
    # Only a cycle after the episode can tell that it did not come back.
    return float(below.max()), NEVER if below.index[-1] > episode.last else np.nan
