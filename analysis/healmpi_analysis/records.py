"""A run reduced to what is known per cycle and per rank, in one pass over the file, a block of cycles at a time.

There are two clocks. *Seconds* are those of the algorithm (train, messaging, wait, group) on the
slowest rank so far; *wall seconds* also count judging models and keeping records. Both count from the first recorded
cycle on, warm-up included.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from healmpi_analysis import contract, progress
from healmpi_analysis.errors import AnalysisError, Damage, TooManyOpen, Unreachable
from healmpi_analysis.scenario import flatten, mechanical_scenario
from healmpi_analysis.source import Facts, Source
from healmpi_analysis.sources import find, open_source

_OF_NODES = ("accuracy", "alive", "is_hub", "incarnation", "staleness", "model_crc32", "own_accuracy")
_OF_MESSAGES = ("messages_out", "messages_in", "bytes_out", "bytes_in")
TABLES = (*_OF_NODES, "seconds", *_OF_MESSAGES)
"""What the pass reads of /cycles; one that a file lacks leaves its columns nan."""


@dataclass(frozen=True)
class Record:
    """One run, small enough to keep a thousand of them.

    series: one row a cycle, index `cycle`, float64 columns:
      accuracy, accuracy_std, accuracy_min: over live nodes that were evaluated, nan where none was;
      accuracy_settled: the same mean without nodes that were replaced in this cycle;
      own_accuracy: mean over the same nodes of the accuracy reweighted by the labels of the node's own shard, nan where not recorded;
      evaluated, live, hubs (live nodes that believe to be hubs): nodes;
      stale: live nodes that took in nobody's model in this cycle;
      messages, model_messages [message], bytes [B]: sent in the cycle, all nodes;
      hub_messages, other_messages, hub_bytes, other_bytes: sent and accepted, by hubs and by other live nodes, all together;
      seconds, wall_seconds [s]: of the cycle; elapsed, wall_elapsed [s]: since the start, at the end of the cycle;
      hub_set: a number that names the set of hubs, the same for the same set;
      distinct_models: different model CRCs among live nodes, nan where none was computed;
      models_seen: live nodes whose CRC was computed, those that distinct_models is out of.
    class_accuracy: float64 [cycles, classes], mean over judged nodes on test samples of a class, nan in cycles without an evaluation;
    no classes where it was not recorded.
    kind_messages, kind_bytes: float64 [cycles, kinds], sent. phase_seconds: float64 [cycles, phases], mean over ranks.
    rank_seconds: float64 [ranks, phases], all cycles; nan for a rank that left nothing.
    faults: columns cycle, tick, node, kind, detail, was_hub (whether the node was a live hub a cycle before).
    rank_table: one row a rank. config: 'section.field' -> value.
    """

    facts: Facts
    config: dict
    series: pd.DataFrame
    kind_messages: np.ndarray
    kind_bytes: np.ndarray
    phase_seconds: np.ndarray
    rank_seconds: np.ndarray
    class_accuracy: np.ndarray
    faults: pd.DataFrame
    rank_table: pd.DataFrame

    @property
    def path(self) -> Path:
        return self.facts.path

    @property
    def cycles(self) -> np.ndarray:
        return self.series.index.to_numpy()

    @property
    def seed(self) -> int:
        return int(self.config.get("run.seed", 0))

    @property
    def algorithm(self) -> str:
        """What the file calls the run, else its preset."""
        return self.facts.title or str(self.config.get("run.algorithm", "?"))

    @functools.cached_property
    def scenario(self) -> str:
        """The faults in short words: the file's own, else a mechanical label (healmpi_analysis.scenario)."""
        return self.facts.scenario or mechanical_scenario(self.facts.config.get("faults", {}))

    @property
    def valid(self) -> bool:
        return self.facts.verdict == "VALID"

    @property
    def judged(self) -> pd.Series:
        """Mean accuracy in the cycles with an evaluation, index `cycle`."""
        return self.series["accuracy"].dropna()


def read_record(path: Path | str) -> Record:
    """The run at this path, reduced. Raises AnalysisError."""
    with open_source(path, TABLES) as source:
        record = reduce_source(source)
        source.check_passed()
        return record


def reduce_source(source: Source) -> Record:
    """One pass over an open run. Memory: a block of cycles, and what is kept per cycle. Raises AnalysisError."""
    faults, ranks = source.faults(), source.rank_table()
    hosts = _hosts(ranks)
    tables = [name for name in TABLES if source.has(name)]
    rank_seconds = np.full((source.facts.ranks, len(source.facts.phases)), np.nan)
    rank_seconds[hosts.ranks] = 0.0
    clock = np.zeros((2, len(hosts.ranks)))
    pieces: list[dict[str, np.ndarray]] = []
    hubs_then: dict[int, np.ndarray] = {}
    before_faults = set(faults["cycle"] - 1)
    incarnation = np.zeros(source.facts.nodes, np.int64)
    for start, stop in source.blocks(tables):
        block = {name: source.read(name, start, stop) for name in tables}
        alive = block["alive"] != 0
        hub = alive & (block["is_hub"] != 0)
        hubs_then |= {
            int(source.cycles[start + row]): hub[row] for row in range(stop - start) if source.cycles[start + row] in before_faults
        }
        piece = {"live": alive.sum(axis=1), "hubs": hub.sum(axis=1), "hub_set": _set_names(hub)}
        piece |= _accuracy(block, alive, incarnation) | _stale(block, alive) | _distinct(block, alive)
        piece |= _traffic(block, alive, hub, source.facts)
        piece |= _times(block, hosts, source.facts.phases, rank_seconds, clock)
        incarnation = block["incarnation"][-1] if "incarnation" in block else incarnation
        pieces.append(piece)
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]} if pieces else _no_cycles(source.facts)
    faults = faults.assign(was_hub=[_was_hub(hubs_then, *row) for row in zip(faults["cycle"], faults["node"], strict=True)])
    arrays = {name: columns.pop(name) for name in ("kind_messages", "kind_bytes", "phase_seconds")}
    series = pd.DataFrame(
        {name: values.astype(np.float64) for name, values in columns.items()}, index=pd.Index(source.cycles, name="cycle")
    )
    for clock_name, of_cycle in (("elapsed", "seconds"), ("wall_elapsed", "wall_seconds")):
        series[of_cycle] = np.diff(series[clock_name].to_numpy(), prepend=0.0)
    return Record(
        facts=source.facts,
        config=flatten(source.facts.config),
        series=series,
        rank_seconds=rank_seconds,
        class_accuracy=_class_accuracy(source),
        faults=faults,
        rank_table=ranks,
        **arrays,
    )


def _set_names(hub: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(row.tobytes()) for row in np.packbits(hub, axis=1)], np.int64)


def _was_hub(hubs_then: dict[int, np.ndarray], cycle: int, node: int) -> bool:
    row = hubs_then.get(cycle - 1)
    return bool(row is not None and 0 <= node < len(row) and row[node])


def _class_accuracy(source: Source) -> np.ndarray:
    found = source.class_accuracy()
    return np.empty((len(source.cycles), 0)) if found is None else found.astype(np.float64)


def _no_cycles(facts: Facts) -> dict[str, np.ndarray]:
    names = ("live", "hubs", "hub_set", *_ACCURACY, "stale", "distinct_models", "models_seen", *_TRAFFIC, "elapsed", "wall_elapsed")
    kinds, phases = np.empty((0, len(facts.kinds))), np.empty((0, len(facts.phases)))
    return dict.fromkeys(names, np.empty(0)) | {"kind_messages": kinds, "kind_bytes": kinds, "phase_seconds": phases}


# Accuracy.

_ACCURACY = ("accuracy", "accuracy_std", "accuracy_min", "accuracy_settled", "own_accuracy", "evaluated")


def _accuracy(block: dict[str, np.ndarray], alive: np.ndarray, incarnation: np.ndarray) -> dict[str, np.ndarray]:
    """incarnation: [nodes], before the first cycle of the block."""
    if "accuracy" not in block:
        return dict.fromkeys(_ACCURACY, np.full(len(alive), np.nan))
    accuracy = block["accuracy"].astype(np.float64)
    judged = alive & ~np.isnan(accuracy)
    mean, spread = _mean_and_std(accuracy, judged)
    least = np.where(judged, accuracy, np.inf).min(axis=1, initial=np.inf)
    settled = judged
    own = block["own_accuracy"].astype(np.float64) if "own_accuracy" in block else np.full_like(accuracy, np.nan)
    if "incarnation" in block:
        settled = judged & (np.diff(block["incarnation"], axis=0, prepend=incarnation[None]) == 0)
    return {
        "accuracy": mean,
        "accuracy_std": spread,
        "accuracy_min": np.where(np.isinf(least), np.nan, least),
        "accuracy_settled": _mean_and_std(accuracy, settled)[0],
        "own_accuracy": _mean_and_std(own, alive & ~np.isnan(own))[0],
        "evaluated": judged.sum(axis=1),
    }


def _mean_and_std(values: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the last axis, of those that count; nan where none does."""
    counts = which.sum(axis=1).astype(np.float64)
    counts[counts == 0] = np.nan
    mean = np.where(which, values, 0.0).sum(axis=1) / counts
    square = np.where(which, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / counts
    return mean, np.sqrt(square)


def _stale(block: dict[str, np.ndarray], alive: np.ndarray) -> dict[str, np.ndarray]:
    if "staleness" not in block:
        return {"stale": np.full(len(alive), np.nan)}
    return {"stale": (alive & (block["staleness"] != 0)).sum(axis=1)}


def _distinct(block: dict[str, np.ndarray], alive: np.ndarray) -> dict[str, np.ndarray]:
    if "model_crc32" not in block:
        return dict.fromkeys(("distinct_models", "models_seen"), np.full(len(alive), np.nan))
    found = [np.unique(crcs[live & (crcs != 0)]).size for crcs, live in zip(block["model_crc32"], alive, strict=True)]
    seen = (alive & (block["model_crc32"] != 0)).sum(axis=1)
    return {"distinct_models": np.array([count or np.nan for count in found]), "models_seen": seen}


# Traffic.

_TRAFFIC = ("messages", "model_messages", "bytes", "hub_messages", "other_messages", "hub_bytes", "other_bytes")


def _traffic(block: dict[str, np.ndarray], alive: np.ndarray, hub: np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
    messages, size = (block[name].sum(axis=1, dtype=np.int64) for name in ("messages_out", "bytes_out"))
    models = [index for index, kind in enumerate(facts.kinds) if kind in facts.model_kinds]
    found = {"messages": messages.sum(axis=1), "model_messages": messages[:, models].sum(axis=1), "bytes": size.sum(axis=1)}
    for what in ("messages", "bytes"):
        load = block[f"{what}_out"].sum(axis=2, dtype=np.int64) + block[f"{what}_in"].sum(axis=2, dtype=np.int64)
        found |= {f"hub_{what}": (load * hub).sum(axis=1), f"other_{what}": (load * (alive & ~hub)).sum(axis=1)}
    return found | {"kind_messages": messages, "kind_bytes": size}


# Time.


@dataclass(frozen=True, slots=True)
class _Hosts:
    """Which rank hosts which block of nodes. ranks: of those that host any, in order of their nodes. starts: their first nodes."""

    ranks: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def _hosts(table: pd.DataFrame) -> _Hosts:
    hosting = table[table["node_count"] > 0].sort_values("first_node")
    starts = hosting["first_node"].to_numpy(np.int64)
    return _Hosts(hosting.index.to_numpy(np.int64), starts, starts + hosting["node_count"].to_numpy(np.int64))


def _times(block: dict[str, np.ndarray], hosts: _Hosts, phases: tuple[str, ...], totals: np.ndarray, clock: np.ndarray) -> dict:
    """Adds to totals [ranks, phases] and goes on with clock [2, hosting ranks], the seconds and wall seconds so far."""
    seconds = block["seconds"]
    by_rank = np.stack([seconds[:, start:stop].sum(axis=1) for start, stop in zip(hosts.starts, hosts.stops, strict=True)], axis=1)
    totals[hosts.ranks] += by_rank.sum(axis=0)
    everything = list(range(len(phases)))
    counted = [index for index in everything if phases[index] not in contract.NOT_THE_ALGORITHM]
    found = {"phase_seconds": by_rank.mean(axis=1)}
    for row, (name, which) in enumerate((("elapsed", counted), ("wall_elapsed", everything))):
        running = clock[row] + np.cumsum(by_rank[:, :, which].sum(axis=2), axis=0)
        clock[row] = running[-1]
        found[name] = running.max(axis=1)
    return found


# Many runs.


@dataclass(frozen=True, slots=True)
class Reading:
    """records: each run once. refused: (path, reason) of what cannot be read. copies: (path, the path that stands for the same run).
    foreign: HDF5 files of something else that lay in the folders."""

    records: list[Record]
    refused: list[tuple[Path, str]]
    copies: list[tuple[Path, Path]]
    foreign: list[Path]

    def left_out(self) -> list[str]:
        """In a sentence each, what is not among the records though it was there."""
        copies = [f"{path} is the same run as {other}" for path, other in self.copies]
        return [reason for _, reason in self.refused] + copies + [f"{path} is an HDF5 file of something else" for path in self.foreign]


def read_all(places: Sequence[Path], *, quiet: bool = True) -> Reading:
    """Every run in files and folders. quiet: no progress on stderr.

    Raises AnalysisError: a place does not exist, holds nothing, or is itself a file that cannot be looked at; the limit of open files.
    """
    found = find(places)
    records, refused = read_records(found.paths, quiet=quiet, named={Path(place) for place in places})
    kept, copies = _each_once(records)
    return Reading(kept, refused, copies, found.foreign)


Made = TypeVar("Made")


def without_damaged(reading: Reading, work: Callable[[Reading], Made]) -> Made:
    """What `work` makes of the reading. It reads on in files, what the records do not hold: one that turns out to be damaged there is
    refused like any other, and the work begins anew without it. Raises AnalysisError: nothing is left."""
    while True:
        try:
            return work(reading)
        except Damage as error:
            # A part stands for the folder of its run.
            gone = {error.path, error.path.parent} & {record.path for record in reading.records}
            left = [record for record in reading.records if record.path not in gone]
            if not gone or not left:
                raise
            reading = replace(reading, records=left, refused=[*reading.refused, *((path, str(error)) for path in gone)])


def _each_once(records: list[Record]) -> tuple[list[Record], list[tuple[Path, Path]]]:
    """A run counts once: a merged file before parts, then the first. Without a run_id nobody can tell."""
    best: dict[str, Record] = {}
    for record in records:
        known = best.setdefault(_name(record), record)
        if known.path.is_dir() and not record.path.is_dir():
            best[_name(record)] = record
    kept = [record for record in records if best[_name(record)] is record]
    return kept, [(record.path, best[_name(record)].path) for record in records if best[_name(record)] is not record]


def _name(record: Record) -> str:
    return record.facts.run_id or str(record.path)


def read_records(paths: list[Path], *, quiet: bool = True, named: Collection[Path] = ()) -> tuple[list[Record], list[tuple[Path, str]]]:
    """Every run at these paths that can be read, and (path, reason) of every one that cannot.

    named: paths that the user gave. Raises Unreachable: one of these cannot be looked at; TooManyOpen: no further one can.
    """
    records, refused = [], []
    for path in progress.each(paths, "reading", "run", quiet):
        try:
            records.append(read_record(path))
        except AnalysisError as error:
            if isinstance(error, TooManyOpen) or (isinstance(error, Unreachable) and path in named):
                raise
            refused.append((path, str(error)))
    return records, refused
