"""What a run went through, fault by fault, and how long it took to come back.

    faults of neighbouring cycles and of one kind are one episode; each episode is watched until the next one begins

The rule that surprises: accuracy is *back* when it has reached its last value before the episode again, to within half a
percentage point, after having lost more than that; an episode in which it never lost so much is back after 0 cycles. Hubs
*stand* when as many as wanted are there and are the same in the next cycle: right after a crash beliefs change from cycle
to cycle, and their number may be right by accident.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from healmpi_analysis.records import Record

TOLERANCE = 0.005
"""Of the accuracy: what counts as lost, and as back."""

HIT_NOBODY = "none"


@dataclass(frozen=True, slots=True)
class Episode:
    """kind: of the faults. first, last: cycles. nodes: different nodes that were hit. hubs: how many faults hit a hub."""

    kind: str
    first: int
    last: int
    nodes: int
    hubs: int

    @property
    def title(self) -> str:
        when = f"cycle {self.first}" if self.first == self.last else f"cycles {self.first}-{self.last}"
        return f"{self.kind}, {when}"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One episode of one run. Times count from the last cycle of the episode; nan: it did not come to it, or was not measured.

    hub_cycles, hub_seconds: until as many live nodes as wanted (h, or all live ones if fewer) believe to be hubs, and the same
    ones a cycle later; 0 cycles: at the end of the episode's last cycle already; nan where there are no hubs.
    accuracy_before, accuracy_lowest: mean over live nodes, in the last evaluated cycle before, and the least until it was back.
    settled_lowest: the same least without nodes that were replaced in that very cycle, who have not learnt anything yet.
    accuracy_cycles, accuracy_seconds: until it was back.
    """

    episode: Episode
    hub_cycles: float
    hub_seconds: float
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


def episodes(record: Record) -> list[Episode]:
    """In order of time; entries of the plan that hit nobody are none."""
    found = []
    for kind, faults in record.faults[record.faults["kind"] != HIT_NOBODY].groupby("kind", sort=True):
        cycles = np.unique(faults["cycle"])
        for run in np.split(cycles, np.flatnonzero(np.diff(cycles) > 1) + 1):
            within = faults[faults["cycle"].isin(run)]
            nodes = within["node"][within["node"] >= 0].nunique()
            found.append(Episode(str(kind), int(run[0]), int(run[-1]), nodes, int(within["was_hub"].sum())))
    return sorted(found, key=lambda episode: (episode.first, episode.kind))


def recoveries(record: Record) -> list[Recovery]:
    """What followed on each episode, until the next one that begins after its end."""
    found = episodes(record)
    ends = [min([later.first for later in found if later.first > one.last], default=np.inf) for one in found]
    return [_recovery(record, episode, end) for episode, end in zip(found, ends, strict=True)]


def _recovery(record: Record, episode: Episode, end: float) -> Recovery:
    series = record.series[record.series.index < end]
    hubs = _hubs_stand(record, series[series.index >= episode.last])
    before, lowest, back = _accuracy_back(series["accuracy"].dropna(), episode)
    watched = series["accuracy_settled"][(series.index >= episode.first) & (series.index <= (np.inf if np.isnan(back) else back))]
    return Recovery(episode, *_since(record, episode, hubs), before, lowest, float(watched.min()), *_since(record, episode, back))


def _since(record: Record, episode: Episode, cycle: float) -> tuple[float, float]:
    """Cycles and seconds from the episode's last cycle to the end of this one."""
    if np.isnan(cycle):
        return np.nan, np.nan
    if cycle <= episode.last:
        return 0.0, 0.0
    elapsed = record.series["elapsed"]
    return cycle - episode.last, float(elapsed[cycle] - elapsed[episode.last])


def _hubs_stand(record: Record, after) -> float:
    """First cycle with the wanted number of hubs that are the same in the next cycle."""
    if record.facts.hub_count == 0:
        return np.nan
    enough = after["hubs"] == np.minimum(record.facts.hub_count, after["live"])
    stand = after.index[enough & (after["hub_set"] == after["hub_set"].shift(-1))]
    return float(stand[0]) if len(stand) else np.nan


def _accuracy_back(accuracy, episode: Episode) -> tuple[float, float, float]:
    """(before, lowest, cycle in which it was back); nan where it is not known."""
    earlier, later = accuracy[accuracy.index < episode.first], accuracy[accuracy.index >= episode.first]
    if earlier.empty or later.empty:
        return np.nan, np.nan, np.nan
    before = float(earlier.iloc[-1])
    low = later.index[later < before - TOLERANCE]
    if not len(low):
        return before, float(later.min()), float(episode.last)
    # During churn accuracy may come and go: back counts from the end of the episode.
    since = later[later.index >= max(low[0], episode.last)]
    back = since.index[since >= before - TOLERANCE]
    cycle = float(back[0]) if len(back) else np.nan
    return before, float(later[later.index <= (cycle if len(back) else np.inf)].min()), cycle
