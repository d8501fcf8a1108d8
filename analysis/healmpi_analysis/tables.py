"""The tables of a report, each a frame of plain numbers that is written as CSV, Markdown, LaTeX and HTML.

CSV has all numbers in full and a column for each; the texts for people join a value with its
interval and round it. A dash is a number that does not exist: not measured, or no interval of a single run. What did not happen
in any run, though it was watched, happened *never*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from healmpi_analysis import metrics, statistics
from healmpi_analysis.groups import Group, by_ranks
from healmpi_analysis.records import Record
from healmpi_analysis.recovery import NEVER, Recovery, recoveries, undisturbed_runs
from healmpi_analysis.scaling import Point, strong_scaling, weak_scaling
from healmpi_analysis.text import DASH, number, size, span, time_until

MOST_CLASSES = 12
"""Classes that have a column for people."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One column as people read it. show: from a row (a dict of the frame's columns) to text. numeric: set to the right."""

    header: str
    show: Callable[[dict], str]
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """name: of its files. title, note: for people. frame: the numbers. cells: how people see them."""

    name: str
    title: str
    note: str
    frame: pd.DataFrame
    cells: tuple[Cell, ...]

    def rows(self) -> list[list[str]]:
        """Texts, row by row."""
        return [[cell.show(row) for cell in self.cells] for row in self.frame.to_dict("records")]


def all_tables(groups: Sequence[Group], consensus: dict | None = None) -> list[Table]:
    """Every table that has at least one row. consensus: final distance by path of the run."""
    timed = by_ranks(groups)
    made = [
        accuracy_table(groups),
        class_table(groups),
        target_table(timed),
        traffic_table(groups),
        load_table(groups),
        time_table(timed),
        recovery_table(timed),
        scaling_table("strong", strong_scaling(timed)),
        scaling_table("weak", weak_scaling(timed)),
        consensus_table(groups, consensus or {}),
    ]
    return [table for table in made if len(table.frame)]


# How cells are shown.


def _text(header: str, key: str) -> Cell:
    return Cell(header, lambda row: str(row[key]), numeric=False)


def _number(header: str, key: str, digits: int) -> Cell:
    return Cell(header, lambda row: number(row[key], digits))


def _interval(header: str, key: str, digits: int) -> Cell:
    return Cell(header, lambda row: f"{number(row[key], digits)}{span(row[key + '_low'], row[key + '_high'], digits)}")


def _until(header: str, key: str, digits: int) -> Cell:
    return Cell(header, lambda row: f"{time_until(row[key], digits)}{span(row[key + '_low'], row[key + '_high'], digits)}")


def _in_how_many(header: str, key: str, of: str) -> Cell:
    return Cell(header, lambda row: f"{row[key]} of {row[of]}" if row[of] else DASH)


def _size(header: str, key: str) -> Cell:
    return Cell(header, lambda row: size(row[key]))


def _count(header: str, key: str) -> Cell:
    return Cell(header, lambda row: DASH if pd.isna(row[key]) else str(int(row[key])))


_GROUP = _text("group", "group")
_N = _count("n", "n")


def _with_interval(name: str, values: Sequence[float], statistic: Callable = np.mean, centre: Callable = statistics.mean) -> dict:
    low, high = statistics.bootstrap(values, statistic)
    return {name: centre(values), f"{name}_low": low, f"{name}_high": high}


def _median(name: str, values: Sequence[float]) -> dict:
    return _with_interval(name, values, np.median, statistics.median)


def _time_until(name: str, values: Sequence[float]) -> dict:
    """The median over those in which it happened; NEVER, where it happened in none of those that were watched."""
    if len(statistics.finite(values)) or NEVER not in values:
        return _median(name, values)
    return {name: NEVER, f"{name}_low": np.nan, f"{name}_high": np.nan}


# Learning.


def accuracy_table(groups: Sequence[Group]) -> Table:
    rows = []
    for group in groups:
        values = statistics.finite([metrics.final_accuracy(run) for run in group.one_of_each_seed]).tolist()
        if values:
            known = {"group": group.label, "n": len(values)}
            nodes_std = statistics.mean([_node_spread(run) for run in group.one_of_each_seed])
            rows.append(
                {**known, **_with_interval("mean", values), **_sample(values), "nodes_std": nodes_std, **_skew(group), **_sent(group)}
            )
    note = (
        "Mean over live nodes in the last evaluated cycle, then over n seeds; in brackets the 95 % interval of the mean by resampling the "
        "seeds. std: standard deviation over seeds. Over nodes: the mean standard deviation over the nodes of a run. "
        "Sent: by all nodes together in the whole run."
    )
    own = any(np.isfinite(row["own"]) for row in rows)
    if own:
        note += " On own labels: the test set weighted by the labels that each node's shard has."
    cells = (
        _GROUP,
        _N,
        _interval("accuracy", "mean", 4),
        _number("std", "std", 4),
        _number("median", "median", 4),
        _number("10 %", "p10", 4),
        _number("90 %", "p90", 4),
        _number("std over nodes", "nodes_std", 4),
        *([_number("on own labels", "own", 4)] if own else []),
        _size("sent", "sent_bytes"),
    )
    return Table("accuracy", "Final accuracy", note, pd.DataFrame(rows), cells)


def _skew(group: Group) -> dict:
    return {"own": statistics.mean([metrics.own_accuracy(run) for run in group.one_of_each_seed])}


def _sent(group: Group) -> dict:
    return {"sent_bytes": statistics.mean([float(run.series["bytes"].sum()) for run in group.one_of_each_seed])}


def class_table(groups: Sequence[Group]) -> Table:
    """A row a group and a column a class, of groups whose files have accuracies of classes."""
    found = [(group, metrics.group_class_accuracy(group.one_of_each_seed)) for group in groups]
    found = [(group, values) for group, values in found if len(values)]
    most = max((len(values) for _, values in found), default=0)
    rows = [
        {
            "group": group.label,
            "n": len(group.one_of_each_seed),
            "worst": float(np.nanmin(values)),
            "worst_class": int(np.nanargmin(values)),
            **{f"class_{index}": float(values[index]) if index < len(values) else np.nan for index in range(most)},
        }
        for group, values in found
    ]
    note = "On the test samples of each class, in the last evaluated cycle; mean over judged nodes, then over n seeds."
    if most > MOST_CLASSES:
        note += f" Of {most} classes the first {MOST_CLASSES}; the CSV has all."
    cells = (
        _GROUP,
        _N,
        Cell("worst class", lambda row: f"{number(row['worst'], 3)} (class {row['worst_class']})"),
        *(_number(str(index), f"class_{index}", 3) for index in range(min(most, MOST_CLASSES))),
    )
    return Table("class_accuracy", "Final accuracy by class", note, pd.DataFrame(rows), cells)


def _sample(values: Sequence[float]) -> dict:
    return {
        "std": statistics.spread(values),
        "median": statistics.median(values),
        "p10": statistics.percentile(values, 10),
        "p90": statistics.percentile(values, 90),
    }


def _node_spread(run: Record) -> float:
    spread = run.series["accuracy_std"].dropna()
    return float(spread.iloc[-1]) if len(spread) else np.nan


def target_table(timed: Sequence[Group]) -> Table:
    targets = metrics.targets_reached([run for group in timed for run in group.runs])
    rows = []
    for group in timed:
        if not any(len(run.judged) for run in group.runs):
            continue
        for target in targets:
            found = {
                name: [_or_never(measure(run, target)) for run in group.runs]
                for name, measure in (("cycles", metrics.cycles_to), ("seconds", metrics.seconds_to), ("bytes", metrics.bytes_to))
            }
            known = {"group": group.label, "target": target, "n": len(group.runs), "reached": statistics.finite(found["cycles"]).size}
            rows.append(known | {key: value for name, values in found.items() for key, value in _time_until(name, values).items()})
    note = (
        "Median over the runs that reached it, with its 95 % interval; the first evaluated cycle at that mean accuracy, the "
        "algorithm's seconds (no judging, no record keeping) to its end, and what all nodes together had sent by then. Where some runs did "
        "not reach it, the median flatters; never: no run did."
    )
    cells = (
        _GROUP,
        _number("accuracy", "target", 2),
        Cell("reached", lambda row: f"{row['reached']} of {row['n']}"),
        _until("cycles", "cycles", 1),
        _until("seconds", "seconds", 2),
        _size("sent", "bytes"),
    )
    return Table("time_to_accuracy", "Cycles, seconds and bytes to an accuracy", note, pd.DataFrame(rows), cells)


def _or_never(value: float) -> float:
    return NEVER if np.isnan(value) else value


def recovery_table(timed: Sequence[Group]) -> Table:
    quiet = undisturbed_runs([run for group in timed for run in group.runs])
    rows = []
    for group in timed:
        by_episode: dict[tuple, list] = {}
        for run in group.runs:
            for one in recoveries(run, quiet.get(run.path)):
                by_episode.setdefault((one.episode.title, one.episode.first, one.episode.last, one.against), []).append(one)
        for (title, first, last, against), found in by_episode.items():
            known = {"group": group.label, "episode": title, "first_cycle": first, "last_cycle": last, "n": len(found)}
            rows.append(known | _episode_numbers(found) | {"against": against})
    note = (
        "Counted from the last cycle of the episode until the wanted number of live nodes believe to be hubs and are the same a cycle "
        "later, and until the mean accuracy is back: within half a percentage point of what it is held against, in that same cycle. "
        "That is the undisturbed run, of the same seed and configuration without faults, where the report has it; else the last value "
        "before, which nodes that go on learning alone pass, too. below: the most that accuracy was below it until it was back, and what "
        "it is below it before the next episode or at the end; means over runs. Medians are over the runs in which it came back, with "
        "95 % intervals; back: in how many of those in which it could be seen; never: in none of them. drop: from the last value before, "
        "mean over runs; settled: without nodes replaced in that cycle."
    )
    cells = (
        _GROUP,
        _text("episode", "episode"),
        _N,
        _number("nodes hit", "nodes_hit", 1),
        _number("hits on hubs", "hub_hits", 1),
        _in_how_many("hubs back", "hubs_back", "hubs_watched"),
        _until("cycles", "hub_cycles", 1),
        _until("seconds", "hub_seconds", 3),
        _text("accuracy against", "against"),
        _interval("below", "accuracy_gap", 3),
        _in_how_many("accuracy back", "accuracy_back", "accuracy_watched"),
        _until("cycles", "accuracy_cycles", 1),
        _until("seconds", "accuracy_seconds", 3),
        _number("below at the end", "final_gap", 3),
        _interval("drop", "accuracy_drop", 3),
        _number("settled", "settled_drop", 3),
    )
    return Table("recovery", "Recovery after faults", note, pd.DataFrame(rows), cells)


def _episode_numbers(found: Sequence[Recovery]) -> dict:
    hubs, accuracy = ([getattr(one, f"{what}_cycles") for one in found] for what in ("hub", "accuracy"))
    return {
        "nodes_hit": statistics.mean([one.episode.nodes for one in found]),
        "hub_hits": statistics.mean([one.episode.hubs for one in found]),
        "hubs_back": int(np.isfinite(hubs).sum()),
        "hubs_watched": int((~np.isnan(hubs)).sum()),
        **_time_until("hub_cycles", hubs),
        **_time_until("hub_seconds", [one.hub_seconds for one in found]),
        **_with_interval("accuracy_drop", [one.accuracy_drop for one in found]),
        "settled_drop": statistics.mean([one.settled_drop for one in found]),
        **_with_interval("accuracy_gap", [one.accuracy_gap for one in found]),
        "final_gap": statistics.mean([one.final_gap for one in found]),
        "accuracy_back": int(np.isfinite(accuracy).sum()),
        "accuracy_watched": int((~np.isnan(accuracy)).sum()),
        **_time_until("accuracy_cycles", accuracy),
        **_time_until("accuracy_seconds", [one.accuracy_seconds for one in found]),
    }


def consensus_table(groups: Sequence[Group], distances: dict) -> Table:
    rows = []
    for group in groups:
        values = statistics.finite([distances.get(run.path, np.nan) for run in group.one_of_each_seed]).tolist()
        if values:
            rows.append({"group": group.label, "n": len(values), **_with_interval("distance", values)})
    note = (
        "Of runs that saved their models: root mean square over live nodes of the L2 distance of the final model from the mean of all; "
        "mean over n seeds."
    )
    return Table("consensus", "Consensus distance at the end", note, pd.DataFrame(rows), (_GROUP, _N, _interval("distance", "distance", 4)))


# Traffic.


def traffic_table(groups: Sequence[Group]) -> Table:
    rows = []
    for group in groups:
        runs = group.one_of_each_seed
        rows.append(
            {
                "group": group.label,
                "n": len(runs),
                **_with_interval("messages", [metrics.messages_per_cycle(run) for run in runs]),
                "model_messages": statistics.mean([metrics.model_messages_per_cycle(run) for run in runs]),
                **_with_interval("bytes", [metrics.bytes_per_cycle(run) for run in runs]),
            }
        )
    note = (
        "Sent per cycle by all nodes together, headers included; mean over n seeds with its 95 % interval. "
        "An exchange among hubs counts as its point-to-point equivalent."
    )
    cells = (
        _GROUP,
        _N,
        _interval("messages", "messages", 1),
        _number("with a model", "model_messages", 1),
        _size("bytes", "bytes"),
        Cell("95 %", lambda row: f"{size(row['bytes_low'])} to {size(row['bytes_high'])}" if np.isfinite(row["bytes_low"]) else DASH),
    )
    return Table("traffic", "Traffic", note, pd.DataFrame(rows), cells)


def load_table(groups: Sequence[Group]) -> Table:
    rows = []
    for group in groups:
        pairs = {what: [metrics.load(run, what) for run in group.one_of_each_seed] for what in ("messages", "bytes")}
        if statistics.finite([hub for hub, _ in pairs["messages"]]).size:
            row = {"group": group.label, "n": len(group.one_of_each_seed)}
            for what, found in pairs.items():
                row |= {
                    f"hub_{what}": statistics.mean([hub for hub, _ in found]),
                    f"other_{what}": statistics.mean([other for _, other in found]),
                }
            rows.append(row)
    note = (
        "Sent and accepted per cycle by one hub and by one other live node; mean over n seeds. "
        "A hub is who believes to be one at the end of the cycle."
    )
    cells = (
        _GROUP,
        _N,
        _number("messages, hub", "hub_messages", 1),
        _number("messages, other", "other_messages", 1),
        Cell("ratio", lambda row: number(row["hub_messages"] / row["other_messages"], 1)),
        _size("bytes, hub", "hub_bytes"),
        _size("bytes, other", "other_bytes"),
        Cell("ratio", lambda row: number(row["hub_bytes"] / row["other_bytes"], 1)),
    )
    return Table("load", "Load of hubs and of others", note, pd.DataFrame(rows), cells)


# Time.


def time_table(timed: Sequence[Group]) -> Table:
    frame = pd.DataFrame([_time_row(group) for group in timed])
    note = (
        "Cycles per second of the algorithm (no judging, no record keeping): harmonic mean over n runs with its 95 % interval. Wall time: "
        "median, 10th and 90th percentile, all included but start-up. Shares: of all time but judging, over all ranks."
    )
    cells = (
        _GROUP,
        _count("ranks", "ranks"),
        _count("nodes", "nodes"),
        _N,
        _interval("cycles/s", "rate", 2),
        _number("wall s", "wall_s", 2),
        _number("10 %", "wall_s_p10", 2),
        _number("90 %", "wall_s_p90", 2),
        *(_percent(name) for name in frame.columns if name.endswith("_share")),
    )
    return Table("time", "Time", note, frame, cells)


def _time_row(group: Group) -> dict:
    rates = [metrics.cycles_per_second(run) for run in group.runs]
    walls = [metrics.wall_seconds(run) for run in group.runs]
    shares = [metrics.phase_shares(run) for run in group.runs]
    names = dict.fromkeys(name for one in shares for name in one)
    return {
        "group": group.label,
        "ranks": group.ranks[0],
        "nodes": group.runs[0].facts.nodes,
        "n": len(group.runs),
        **_with_interval("rate", rates, _harmonic, statistics.harmonic_mean),
        **_median("wall_s", walls),
        "wall_s_p10": statistics.percentile(walls, 10),
        "wall_s_p90": statistics.percentile(walls, 90),
        **{f"{name}_share": statistics.mean([one.get(name, np.nan) for one in shares]) for name in names},
    }


def _percent(share: str) -> Cell:
    return Cell(f"{share.removesuffix('_share')} %", lambda row: number(100 * row[share], 1))


def _harmonic(rates: np.ndarray, axis: int) -> np.ndarray:
    return rates.shape[axis] / (1 / rates).sum(axis=axis)


def scaling_table(kind: str, points: Sequence[Point]) -> Table:
    names = {"seconds": "seconds_per_cycle", "low": "seconds_per_cycle_low", "high": "seconds_per_cycle_high"}
    frame = pd.DataFrame([asdict(point) for point in points]).rename(columns=names | {"base_seconds": "base_seconds_per_cycle"})
    what = "the same nodes on more ranks" if kind == "strong" else "as many nodes for each rank"
    gain = "base time / time" if kind == "strong" else "base time / time times ranks / base ranks"
    note = (
        f"{kind.capitalize()} scaling: {what}. Median seconds of the algorithm per cycle over n runs "
        f"with its 95 % interval; base: fewest ranks; "
        f"speed-up: {gain}; efficiency: speed-up / (ranks / base ranks)."
    )
    cells = (
        _text("series", "series"),
        _count("ranks", "ranks"),
        _count("nodes", "nodes"),
        _N,
        _interval("s/cycle", "seconds_per_cycle", 4),
        Cell("base s/cycle", lambda row: f"{number(row['base_seconds_per_cycle'], 4)} ({row['base_ranks']} ranks)"),
        _number("speed-up", "speed_up", 2),
        _number("efficiency", "efficiency", 2),
    )
    return Table(f"{kind}_scaling", f"{kind.capitalize()} scaling", note, frame, cells)


# What was run.


def run_table(records: Sequence[Record], labels: dict) -> Table:
    """One row a run: verdict, seed, size, cycles. labels: group by path."""
    rows = [
        {
            "file": record.path.name,
            "group": labels.get(record.path, "-"),
            "seed": record.seed,
            "nodes": record.facts.nodes,
            "ranks": record.facts.ranks,
            "cycles": len(record.series),
            "complete": int(record.facts.complete),
            "verdict": record.facts.verdict,
            "reasons": "; ".join(record.facts.reasons),
            "accuracy": metrics.final_accuracy(record),
            "wall_s": metrics.wall_seconds(record),
            "config_hash": record.facts.config_hash,
            "path": str(record.path),
        }
        for record in records
    ]
    cells = (
        _text("file", "file"),
        _text("group", "group"),
        _count("seed", "seed"),
        _count("nodes", "nodes"),
        _count("ranks", "ranks"),
        _count("cycles", "cycles"),
        Cell("complete", lambda row: "yes" if row["complete"] else "no", numeric=False),
        _text("verdict", "verdict"),
        _number("accuracy", "accuracy", 4),
        _number("wall s", "wall_s", 2),
    )
    note = "VALID says that a run is sound, not that it learnt well."
    return Table("runs", "Runs", note, pd.DataFrame(rows), cells)
