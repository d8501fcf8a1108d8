"""`healmpi-report export RUN... -o FOLDER`: the series of runs for other tools, as CSV or as TensorBoard's event files.

CSV needs nothing else: one file a run, one row a cycle. TensorBoard's files need the package `tensorboard` or `tensorboardX`: one
folder a run, which `tensorboard --logdir FOLDER` shows side by side; a step is a cycle, and time is the run's own wall time.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from healmpi_analysis import metrics
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.folder import Folder
from healmpi_analysis.records import Record, read_all

FORMATS = ("csv", "tensorboard")
MANIFEST = ".healmpi-export"
INTERNAL = ("hub_set",)
"""Columns of a series that are no quantity."""

_FAMILY = {"accuracy": "accuracy", "own": "accuracy", "class": "accuracy", "messages": "traffic", "bytes": "traffic", "kind": "traffic"}
_FAMILY |= {
    "model": "traffic",
    "sent": "traffic",
    "hub": "traffic",
    "other": "traffic",
    "seconds": "time",
    "elapsed": "time",
    "wall": "time",
}
_FAMILY |= {"phase": "time"}
"""Where TensorBoard shows a column, by its first word; else under 'nodes'."""

Writer = Callable[[Path, pd.DataFrame, float], None]
"""Writes a series into a new folder. Arguments: the folder, the series, the second since 1970 in which the run began."""


def export(places: Sequence[Path], out: Path, *, kind: str = "csv", quiet: bool = True) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Write every run in `places` into the folder `out`. Returns (what was written, a file or folder a run; what cannot be read).

    Runs that are not VALID are in. Raises AnalysisError: nothing to read, `out` cannot be written, or no package writes the format.
    """
    write = _event_writer() if kind == "tensorboard" else None
    folder = Folder(out, MANIFEST)
    reading = read_all(places, quiet=quiet)
    records, refused = reading.records, reading.refused
    if not records:
        raise AnalysisError(refused[0][1] + (f" (and {len(refused) - 1} more cannot be read)" if len(refused) > 1 else ""))
    written = []
    with folder:
        for name, record in zip(names(records), records, strict=True):
            written.append(_save(folder, name, record, write))
        folder.swap()
    return written, refused


def _save(folder: Folder, name: str, record: Record, write: Writer | None) -> Path:
    table = series(record)
    if write is None:
        folder.save(f"{name}.csv", table.to_csv(lineterminator="\n").encode())
        return folder.out / f"{name}.csv"
    with folder.scratch() as place:
        write(place, table, started(record))
        for path in sorted(place.iterdir()):
            folder.save(f"{name}/{path.name}", path.read_bytes())
    return folder.out / name


def names(records: Sequence[Record]) -> list[str]:
    """A name for each run, after its file; where files are called alike, after their folders too."""
    depth, found = 1, [_name(record.path, 1) for record in records]
    while len(set(found)) < len(found) and depth < 64:
        depth += 1
        found = [_name(record.path, depth) for record in records]
    return found if len(set(found)) == len(found) else [f"{index + 1}-{name}" for index, name in enumerate(found)]


def _name(path: Path, depth: int) -> str:
    stem = path.name.removesuffix(".parts").removesuffix(".h5").removesuffix(".hdf5")
    folders = list(path.absolute().parts[1:-1])
    return "-".join([*folders[len(folders) - min(len(folders), depth - 1) :], stem])


def series(record: Record) -> pd.DataFrame:
    """Index `cycle`; the columns of Record.series that are quantities, then sent_bytes (all so far), kind_messages_NAME,
    kind_bytes_NAME, phase_seconds_NAME and, where they were recorded, class_accuracy_N."""
    columns = {"sent_bytes": metrics.sent_bytes(record).to_numpy()}
    for what, all_names in (
        ("kind_messages", record.facts.kinds),
        ("kind_bytes", record.facts.kinds),
        ("phase_seconds", record.facts.phases),
    ):
        columns |= {f"{what}_{name}": getattr(record, what)[:, place] for place, name in enumerate(all_names)}
    columns |= {f"class_accuracy_{place}": record.class_accuracy[:, place] for place in range(record.class_accuracy.shape[1])}
    kept = record.series.drop(columns=list(INTERNAL))
    return pd.concat([kept.loc[:, kept.notna().any()], pd.DataFrame(columns, index=record.series.index)], axis=1)


def started(record: Record) -> float:
    """Seconds since 1970 when the run began, as its file says; 0: it does not."""
    try:
        return datetime.datetime.fromisoformat(str(record.facts.provenance.get("started", ""))).timestamp()
    except ValueError:
        return 0.0


# TensorBoard.


def _event_writer() -> Writer:
    """Of whichever package is installed. Raises AnalysisError."""
    for module, writer in (("tensorboard.summary.writer.event_file_writer", _with_tensorboard), ("tensorboardX", _with_tensorboardx)):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        return writer
    raise AnalysisError(
        "the format tensorboard needs the package tensorboard or tensorboardX, and neither is installed; --format csv needs none"
    )


def scalars(table: pd.DataFrame) -> Iterator[tuple[str, int, float, float]]:
    """(tag, cycle, wall seconds since the start, value) of all that is a number, cycle by cycle."""
    tags = [f"{_FAMILY.get(name.partition('_')[0], 'nodes')}/{name}" for name in table.columns]
    for cycle, row in zip(table.index, table.to_numpy(np.float64), strict=True):
        for tag, value in zip(tags, row, strict=True):
            if np.isfinite(value):
                yield tag, int(cycle), float(table["wall_elapsed"][cycle]), float(value)


def _with_tensorboard(place: Path, table: pd.DataFrame, start: float) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(place))
    try:
        for tag, cycle, wall_s, value in scalars(table):
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(Event(wall_time=start + wall_s, step=cycle, summary=summary))
    finally:
        writer.close()


def _with_tensorboardx(place: Path, table: pd.DataFrame, start: float) -> None:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(place))
    try:
        for tag, cycle, wall_s, value in scalars(table):
            writer.add_scalar(tag, value, cycle, walltime=start + wall_s)
    finally:
        writer.close()
