"""What a results file says, for somebody who has never seen the run.

Nothing is worked out again: the verdict and the figures of merit are those that were stored when the file was made; `verdict.judge`
and `verdict.summarise` recompute them. Files of all versions 1.x are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from healmpi.config import Config
from healmpi.results.files import open_results
from healmpi.results.integrity import FAULTS, first_line, printable
from healmpi.results.schema import FIGURES, GROUP_OUTCOMES, FigureOfMerit, ResultsError
from healmpi.settings import UsageError, wrapped

SHOWN_CYCLES = 10
SHOWN_FAULTS = 8
SHOWN_REASONS = 10

LONGEST_LINE = 4000
"""Characters of one that is shown."""

Value = TypeVar("Value")


def describe(path: Path, *, figures: bool = True, verify: bool = True) -> str:
    """A summary in some forty lines of text. figures: with the verdict and the figures of merit. verify: as `open_results` has it.

    Raises ResultsError: no such file, or not one that can be read.
    """
    return _read(path, lambda file: _describe(file, figures), verify)


def conclusion(path: Path, *, verify: bool = True) -> tuple[list[str], list[FigureOfMerit]]:
    """The stored reasons for INVALID (none: VALID) and figures of merit. verify: as `open_results` has it. Raises ResultsError."""
    return _read(path, lambda file: (_stored_reasons(file), _stored_figures(file)), verify)


def identity(path: Path, *, verify: bool = True) -> tuple[bool, tuple[str, dict[str, str]]]:
    """Whether the run is complete, and which it is, as Config.identity has it. Raises ResultsError."""
    return _read(path, lambda file: (bool(file.attrs["complete"]), (str(file["config"].attrs["hash"]), _source_digests(file))), verify)


def _source_digests(file: h5py.File) -> dict[str, str]:
    return {name: str(one) for name, one in file["provenance"].attrs.items() if name.endswith("_sha256")}


def is_rest_of(path: Path, config_hash: str) -> bool:
    """Whether it is what `healmpi merge` has made of a run of this configuration before its end."""
    try:
        complete, (found, _) = identity(path)
        return not complete and found == config_hash
    except ResultsError:
        return False


def _read(path: Path, work: Callable[[h5py.File], Value], verify: bool = True) -> Value:
    path = Path(path)
    with open_results(path, verify) as file:
        try:
            return work(file)
        except FAULTS as error:
            raise ResultsError(f"{path} is damaged, or not a whole results file ({first_line(error)})") from None


def _describe(file: h5py.File, figures: bool) -> str:
    conclusions = (_verdict_lines, _figure_lines) if figures else ()
    parts = (_heading, _differences, _origin, *conclusions, _accuracy_lines, _fault_lines, _group_lines)
    return "\n".join(_shown(line) for part in parts for line in part(file))


def _shown(line: str) -> str:
    """Texts in a file can be anything: what would move a cursor is left out, and what nobody would read."""
    rest = f" ... ({len(line)} characters)" if len(line) > LONGEST_LINE else ""
    return wrapped(printable(line, LONGEST_LINE) + rest)


def _stored_reasons(file: h5py.File) -> list[str]:
    return [str(reason) for reason in file["summary"].attrs["reasons"]]


def _stored_figures(file: h5py.File) -> list[FigureOfMerit]:
    group = file["summary"]
    return [FigureOfMerit(name, float(group[name][()]), str(group[name].attrs["unit"])) for name in FIGURES if name in group]


# What was run.


def _heading(file: h5py.File) -> list[str]:
    table = json.loads(file["config"].attrs["json"])
    run, data = (table.get(name, {}) for name in ("run", "data"))
    size = f"{_count(int(file.attrs['nodes']), 'node')} on {_count(int(file.attrs['ranks']), 'rank')}"
    what = f"{file.attrs.get('title') or _algorithm(table)}: {size}, {_count(len(file['cycles/cycle']), 'cycle')}"
    if run.get("warmup_cycles"):
        what += f" ({run['warmup_cycles']} of warm-up)"
    if file["partition/sample_indices"].shape[0]:
        what += f", {_chosen(table, 'model')} on {_chosen(table, 'data', 'dataset')} ({data.get('partition')})"
    overlay = f"{_chosen(table, 'topology')} with views of {file.attrs['view_size']} at most"
    if file.attrs["hub_count"]:
        overlay += f", hubs wanted {file.attrs['hub_count']}"
    return [what, f"{overlay}, seed {run.get('seed')}, configuration {file['config'].attrs['hash']}"]


def _algorithm(table: dict[str, Any]) -> str:
    """What the run was called, of a file that does not say it."""
    name = table.get("run", {}).get("algorithm", "a run")
    return f"{_chosen(table, 'topology')}+{_chosen(table, 'rule')}" if name == "custom" else name


def _chosen(table: dict[str, Any], section: str, name: str = "name") -> str:
    """What was chosen in a section of the configuration: a user's own, else something by its name."""
    values = table.get(section, {})
    return values.get("factory") or values.get(name, "?")


_TOLD = (("run", "nodes"), ("data", "dataset"), ("run", "algorithm"), ("topology", "name"), ("rule", "name"))
"""What the heading tells, so that it is no difference."""


def _differences(file: h5py.File) -> list[str]:
    """The configuration's values that are neither defaults nor follow from what the heading tells."""
    table = json.loads(file["config"].attrs["json"])
    defaults = _defaults(table, int(file.attrs["ranks"]))
    found = [
        f"  {section}.{name} = {json.dumps(value)}"
        for section, values in table.items()
        for name, value in values.items()
        if (section, name) not in _TOLD and defaults.get(section, {}).get(name) != value
    ]
    return ["not as by default:", *found] if found else ["all else as by default"]


def _defaults(table: dict[str, Any], ranks: int) -> dict[str, Any]:
    # A file may hold values that this version does not know, or name a user's own topology or rule, which is not here.
    for told in (_TOLD, _TOLD[:2]):
        known: dict[str, dict[str, Any]] = {}
        for section, name in told:
            if name in table.get(section, {}):
                known.setdefault(section, {})[name] = table[section][name]
        try:
            return Config.from_table(known).resolve(ranks).to_table()
        except UsageError:
            continue
    return Config().to_table()


def _origin(file: h5py.File) -> list[str]:
    facts = file["provenance"].attrs
    known = [f"{name} {facts[name]}" for name in ("healmpi", "python", "torch", "world", "mpi_library") if name in facts]
    hosts = sorted({host.decode() for host in file["ranks/host"][:].tolist() if host}) if "host" in file["ranks"] else []
    lines = [f"started {facts['started']}, {', '.join(known)}"] if "started" in facts else []
    return lines + ([f"on {', '.join(hosts[:5])}{f' and {len(hosts) - 5} more hosts' if len(hosts) > 5 else ''}"] if hosts else [])


# How it went.


def _verdict_lines(file: h5py.File) -> list[str]:
    reasons = _stored_reasons(file)
    audit = "averages audited" if file.attrs["audited"] else "averages not audited"
    whole = "complete" if file.attrs["complete"] else "NOT complete"
    more = [f"  - and {len(reasons) - SHOWN_REASONS} more"] if len(reasons) > SHOWN_REASONS else []
    return [
        "",
        f"verdict: {file['summary'].attrs['verdict']} ({whole}, {audit})",
        *(f"  - {reason}" for reason in reasons[:SHOWN_REASONS]),
        *more,
    ]


def _figure_lines(file: h5py.File) -> list[str]:
    figures = _stored_figures(file)
    table = [(figure, "" if figure.unit == "1" else figure.unit) for figure in figures]
    lines = [f"  {figure.name:<26}{figure.value:>14.6g} {unit}".rstrip() for figure, unit in table]
    return ["", "figures of merit:", *lines]


def _accuracy_lines(file: h5py.File) -> list[str]:
    """Accuracy over live nodes, live nodes and hubs, at evenly spread evaluated cycles (all cycles, if none was)."""
    group = file["cycles"]
    count = group["cycle"].shape[0]
    rows = _evaluated_rows(group)
    judged = rows.size > 0
    rows = rows if judged else np.arange(count)
    shown = np.unique(rows[np.linspace(0, len(rows) - 1, min(SHOWN_CYCLES, len(rows))).round().astype(int)])
    lines = [f"  {'cycle':>8}{'accuracy':>10}{'spread':>9}{'live':>8}{'hubs*':>7}" if judged else f"  {'cycle':>8}{'live':>8}{'hubs*':>7}"]
    for row in shown:
        alive, hubs = group["alive"][row] != 0, group["is_hub"][row] != 0
        numbers = f"{int(alive.sum()):>8}{int((alive & hubs).sum()):>7}"
        accuracy = group["accuracy"][row][alive].astype(np.float64)
        accuracy = accuracy[~np.isnan(accuracy)]
        middle = f"{accuracy.mean():>10.4f}{accuracy.std():>9.4f}" if judged and accuracy.size else ""
        lines.append(f"  {int(group['cycle'][row]):>8}{middle}{numbers}")
    return ["", *lines, "  * nodes that count themselves hubs; 'hubs wanted' is h"]


def _evaluated_rows(group: h5py.Group) -> np.ndarray:
    table, found = group["accuracy"], []
    step = max(1, 16 * 1024 * 1024 // (4 * table.shape[1]))
    for start in range(0, table.shape[0], step):
        judged = ~np.isnan(table[start : start + step]) & (group["alive"][start : start + step] != 0)
        found.append(start + np.flatnonzero(judged.any(axis=1)))
    return np.concatenate(found) if found else np.array([], int)


def _fault_lines(file: h5py.File) -> list[str]:
    group = file["faults"]
    columns = [group[name][:].tolist() for name in ("cycle", "node", "kind", "detail")]
    if not columns[0]:
        return ["", "faults: none"]
    events: Counter[tuple[int, bool, str, str]] = Counter()
    for cycle, node, kind, detail in zip(*columns, strict=True):
        # What ends in a number, as that of an incarnation does, differs from node to node and says nothing here.
        said = detail.decode()
        events[cycle, node >= 0, kind.decode(), "" if node >= 0 and said[-1:].isdigit() else said] += 1
    lines = [_fault_line(*event, number) for event, number in sorted(events.items())]
    more = [f"  ... and in {len(lines) - SHOWN_FAULTS} more places"] if len(lines) > SHOWN_FAULTS else []
    hit = sum(node >= 0 for node in columns[1])
    # Files of schema 1.1 and before do not say what was planned.
    planned = f" ({file['faults'].attrs['scenario']})" if "scenario" in file["faults"].attrs else ""
    return ["", f"faults: {_count(hit, 'node')} hit{planned}", *lines[:SHOWN_FAULTS], *more]


def _fault_line(cycle: int, hits: bool, kind: str, detail: str, number: int) -> str:
    """hits: whether nodes were hit; else it is a remark on the plan."""
    if hits:
        return f"  cycle {cycle}: {kind} of {_count(number, 'node')}{f' ({detail})' if detail else ''}"
    return f"  cycle {cycle}: {detail}" if kind == "none" or kind in detail else f"  cycle {cycle}: {kind} of {detail}"


def _group_lines(file: h5py.File) -> list[str]:
    group = file["groups"]
    sizes, outcomes = group["size"][:], group["outcome"][:]
    if not len(sizes):
        return ["hub groups: none"]
    by_outcome = ", ".join(
        f"{name} {int((outcomes == index).sum())}" for index, name in enumerate(GROUP_OUTCOMES) if (outcomes == index).any()
    )
    return [f"hub groups: {_count(len(sizes), 'report')} of members ({by_outcome}), {sizes.min()} to {sizes.max()} members"]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
