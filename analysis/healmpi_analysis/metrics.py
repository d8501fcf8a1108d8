"""Numbers of one run, worked out of its record; each is nan where the run does not have it.

The rule that surprises: the first cycle with an accuracy is the first *evaluated* one, so with `evaluation.every` = 10 it may
be up to 9 cycles late.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from healmpi_analysis import contract
from healmpi_analysis.records import Record

_ROUNDING = 1e-7
"""Accuracies are float32 in the file, where 0.9 is a little less than it is."""


def final_accuracy(record: Record) -> float:
    """Mean over live nodes in the last evaluated cycle."""
    judged = record.judged
    return float(judged.iloc[-1]) if len(judged) else np.nan


def own_accuracy(record: Record) -> float:
    """On the labels of each node's own shard, mean over live nodes in the last evaluated cycle."""
    known = record.series["own_accuracy"].dropna()
    return float(known.iloc[-1]) if len(known) else np.nan


def class_accuracy(record: Record) -> np.ndarray:
    """[classes] in the last evaluated cycle; empty where no class was told apart."""
    known = record.class_accuracy[~np.isnan(record.class_accuracy).all(axis=1)]
    return known[-1] if len(known) else np.empty(0)


def group_class_accuracy(records: Sequence[Record]) -> np.ndarray:
    """[classes], mean over runs; empty unless all of them tell equally many classes apart."""
    found = [class_accuracy(record) for record in records]
    if not found or len({len(values) for values in found}) != 1 or not found[0].size:
        return np.empty(0)
    table = np.array(found)
    known = ~np.isnan(table)
    return np.where(known, table, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)


def cycles_to(record: Record, target: float) -> float:
    """First evaluated cycle with at least this mean accuracy."""
    reached = record.judged.index[record.judged >= target - _ROUNDING]
    return float(reached[0]) if len(reached) else np.nan


def seconds_to(record: Record, target: float) -> float:
    """Seconds of the algorithm until the end of that cycle."""
    cycle = cycles_to(record, target)
    return float(record.series["elapsed"][cycle]) if np.isfinite(cycle) else np.nan


def bytes_to(record: Record, target: float) -> float:
    """Bytes that all nodes had sent by the end of that cycle, since the first recorded one."""
    cycle = cycles_to(record, target)
    return float(sent_bytes(record)[cycle]) if np.isfinite(cycle) else np.nan


def sent_bytes(record: Record) -> pd.Series:
    """Bytes that all nodes have sent since the first recorded cycle, at the end of each; index `cycle`."""
    return record.series["bytes"].cumsum()


def seconds(record: Record) -> float:
    """Seconds of the algorithm, all cycles."""
    return _last(record, "elapsed")


def wall_seconds(record: Record) -> float:
    """Wall time, judging and records included: the longest of a rank where the file says it, else the sum of the cycles."""
    if "wall_s" in record.rank_table and record.rank_table["wall_s"].max() > 0:
        return float(record.rank_table["wall_s"].max())
    return _last(record, "wall_elapsed")


def _last(record: Record, name: str) -> float:
    return float(record.series[name].iloc[-1]) if len(record.series) else np.nan


def seconds_per_cycle(record: Record) -> float:
    return seconds(record) / len(record.series) if len(record.series) else np.nan


def cycles_per_second(record: Record) -> float:
    return len(record.series) / seconds(record) if len(record.series) and seconds(record) > 0 else np.nan


def messages_per_cycle(record: Record) -> float:
    return _mean(record, "messages")


def bytes_per_cycle(record: Record) -> float:
    return _mean(record, "bytes")


def share_alone(record: Record) -> float:
    """Share of the live nodes that took in nobody's model in the last cycle; 1 when nobody lives."""
    if not len(record.series):
        return np.nan
    live, stale = record.series[["live", "stale"]].iloc[-1]
    return float(stale / live) if live else 1.0


def model_messages_per_cycle(record: Record) -> float:
    """Over learning cycles, those from 1 on."""
    learning = record.series[record.series.index >= 1]
    return float(learning["model_messages"].mean()) if len(learning) else np.nan


def _mean(record: Record, name: str) -> float:
    return float(record.series[name].mean()) if len(record.series) else np.nan


def load(record: Record, what: str) -> tuple[float, float]:
    """(of a hub, of another live node) per cycle, sent and accepted. what: 'messages' or 'bytes'. nan without hubs, or without others."""
    series = record.series
    hubs, others = series["hubs"].sum(), (series["live"] - series["hubs"]).sum()
    of_hub = float(series[f"hub_{what}"].sum() / hubs) if hubs else np.nan
    return of_hub, float(series[f"other_{what}"].sum() / others) if others else np.nan


def phase_shares(record: Record) -> dict[str, float]:
    """Share of all phases but evaluation, over all ranks and cycles."""
    totals = np.nansum(record.rank_seconds, axis=0)
    counted = {name: value for name, value in zip(record.facts.phases, totals, strict=True) if name != "evaluation"}
    whole = sum(counted.values())
    return {name: float(value / whole) if whole > 0 else np.nan for name, value in counted.items()}


def targets_reached(records: list[Record]) -> list[float]:
    """Those of contract.TARGETS that at least one run reached."""
    return [target for target in contract.TARGETS if any(np.isfinite(cycles_to(record, target)) for record in records)]
