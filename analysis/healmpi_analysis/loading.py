"""Any number of runs in one xarray Dataset or pandas frame, with the configuration as coordinates.

What is loaded is per cycle, summed or averaged over nodes, so that a thousand runs fit into
memory. `nodes` gives one run node by node, without the tables by kind of message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray

from healmpi_analysis import metrics
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.groups import group_records
from healmpi_analysis.hdf5 import verification
from healmpi_analysis.records import Record, read_all
from healmpi_analysis.sources import open_source

Places = str | Path | Iterable[str | Path]

_UNITS = {
    "accuracy": "1",
    "accuracy_std": "1",
    "accuracy_min": "1",
    "accuracy_settled": "1",
    "own_accuracy": "1",
    "evaluated": "node",
    "live": "node",
    "hubs": "node",
    "stale": "node",
    "messages": "message",
    "model_messages": "message",
    "hub_messages": "message",
    "other_messages": "message",
    "bytes": "B",
    "hub_bytes": "B",
    "other_bytes": "B",
    "seconds": "s",
    "wall_seconds": "s",
    "elapsed": "s",
    "wall_elapsed": "s",
    "distinct_models": "1",
    "models_seen": "node",
    "hub_set": "1",
}
_NODE_TABLES = ("accuracy", "own_accuracy", "loss", "train_loss", "trained", "alive", "is_hub", "incarnation", "staleness", "model_crc32")


def load(places: Places, *, quiet: bool = True, verify: bool = True) -> xarray.Dataset:
    """All runs in these files and folders. Dimensions: run, cycle (of any run), kind, phase.

    Variables: the columns of records.Record.series [run, cycle], float64, nan where a run has no such cycle, with the
    attribute `unit`; kind_messages, kind_bytes [run, cycle, kind], sent; phase_seconds [run, cycle, phase], mean over ranks.
    Coordinates along run: path, label, algorithm, scenario, seed, nodes, ranks, hub_count, verdict, complete, and every field of the
    configuration by its name, 'learner.optimizer'; a list is its JSON text, a field that a run lacks is None.
    quiet: no progress bar. verify: whether the digests of each file are computed and compared.
    Raises AnalysisError for the first file that cannot be read.
    """
    records = _records(places, quiet, verify)
    cycles = np.unique(np.concatenate([record.cycles for record in records]))
    kinds, phases = (
        list(dict.fromkeys(name for record in records for name in getattr(record.facts, what))) for what in ("kinds", "phases")
    )
    rows = [np.searchsorted(cycles, record.cycles) for record in records]
    variables = {}
    for name, unit in _UNITS.items():
        table = np.full((len(records), len(cycles)), np.nan)
        for index, record in enumerate(records):
            table[index, rows[index]] = record.series[name]
        variables[name] = xarray.Variable(("run", "cycle"), table, {"unit": unit})
    for name, dim, unit in (("kind_messages", "kind", "message"), ("kind_bytes", "kind", "B"), ("phase_seconds", "phase", "s")):
        names = kinds if dim == "kind" else phases
        table = np.full((len(records), len(cycles), len(names)), np.nan)
        for index, record in enumerate(records):
            own = [names.index(one) for one in (record.facts.kinds if dim == "kind" else record.facts.phases)]
            table[index][np.ix_(rows[index], np.array(own, int))] = getattr(record, name)
        variables[name] = xarray.Variable(("run", "cycle", dim), table, {"unit": unit})
    coordinates = {"run": np.arange(len(records)), "cycle": cycles, "kind": kinds, "phase": phases}
    return xarray.Dataset(variables, coordinates | {name: ("run", values) for name, values in _run_columns(records).items()})


def frame(places: Places, *, quiet: bool = True, verify: bool = True) -> pd.DataFrame:
    """The same as rows, one for each run and cycle: run, cycle, the columns of the series, what is known of the run, its configuration."""
    records = _records(places, quiet, verify)
    known = pd.DataFrame(_run_columns(records)).rename_axis("run").reset_index()
    series = [record.series.reset_index().assign(run=index) for index, record in enumerate(records)]
    return pd.concat(series, ignore_index=True).merge(known, on="run")


def runs(places: Places, *, quiet: bool = True, verify: bool = True) -> pd.DataFrame:
    """One row a run: figures of the run, what is known of it, its configuration."""
    records = _records(places, quiet, verify)
    figures = {
        "accuracy": metrics.final_accuracy,
        "cycles_to_0.85": lambda run: metrics.cycles_to(run, 0.85),
        "cycles_to_0.90": lambda run: metrics.cycles_to(run, 0.90),
        "cycles_to_0.95": lambda run: metrics.cycles_to(run, 0.95),
        "seconds": metrics.seconds,
        "wall_s": metrics.wall_seconds,
        "cycles_per_s": metrics.cycles_per_second,
        "messages_per_cycle": metrics.messages_per_cycle,
        "model_messages_per_cycle": metrics.model_messages_per_cycle,
        "bytes_per_cycle": metrics.bytes_per_cycle,
    }
    columns = {name: [figure(record) for record in records] for name, figure in figures.items()}
    return pd.DataFrame(columns | _run_columns(records)).rename_axis("run")


def nodes(path: str | Path, *, verify: bool = True) -> xarray.Dataset:
    """One run, node by node: [cycle, node] accuracy, loss, alive, is_hub and so on (docs/results-format.md, /cycles).

    Truth values are bool. Attributes: what is known of the run, and its configuration. A 1000 x 1000 run takes 30 MB.
    Raises AnalysisError.
    """
    records = _records(path, True, verify)
    if len(records) > 1:
        raise AnalysisError(f"{path} holds {len(records)} runs; name one file, or one folder OUT.h5.parts")
    variables = {}
    with verification(verify), open_source(records[0].path) as source:
        for name in _NODE_TABLES:
            if source.has(name):
                table = source.read(name, 0, len(source.cycles))
                variables[name] = (("cycle", "node"), table != 0 if name in ("trained", "alive", "is_hub") else table)
        size, cycles = source.facts.nodes, source.cycles
    about = {name: values[0] for name, values in _run_columns(records).items()}
    return xarray.Dataset(variables, {"cycle": cycles, "node": np.arange(size)}, {name: _attribute(value) for name, value in about.items()})


def _attribute(value):
    return int(value) if isinstance(value, bool) else "" if value is None else value


def _records(places: Places, quiet: bool, verify: bool) -> list[Record]:
    given = [places] if isinstance(places, (str, Path)) else list(places)
    with verification(verify):
        reading = read_all([Path(place) for place in given], quiet=quiet)
    records, refused = reading.records, reading.refused
    if refused:
        more = f" (and {len(refused) - 1} more cannot be read)" if len(refused) > 1 else ""
        raise AnalysisError(refused[0][1] + more)
    return records


def _run_columns(records: Sequence[Record]) -> dict[str, list]:
    """What is known of each run, and every field of its configuration."""
    labels = {run.path: group.label for group in group_records(records) for run in group.runs}
    columns: dict[str, list] = {
        "path": [str(record.path) for record in records],
        "label": [labels[record.path] for record in records],
        "algorithm": [record.algorithm for record in records],
        "scenario": [record.scenario for record in records],
        "seed": [record.seed for record in records],
        "nodes": [record.facts.nodes for record in records],
        "ranks": [record.facts.ranks for record in records],
        "hub_count": [record.facts.hub_count for record in records],
        "verdict": [record.facts.verdict for record in records],
        "complete": [record.facts.complete for record in records],
    }
    for name in dict.fromkeys(name for record in records for name in record.config):
        columns[name] = [record.config.get(name) for record in records]
    return columns
