"""`healmpi-report compare A B`: what changed from A to B in configuration, accuracy, time and traffic, and a verdict.

    A, B -> groups of each -> pairs of groups that agree in whatever varies inside A or inside B -> changes with intervals

The rule that surprises: a difference is *seen* only if its 95 % interval leaves no change out and it is larger than the
tolerance. Cycles of one run stand in where there is one run on each side; they say nothing of how runs differ, and the
text says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from healmpi_analysis import metrics, statistics
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.groups import Group, differences, group_records
from healmpi_analysis.records import Record, read_records
from healmpi_analysis.sources import find_sources
from healmpi_analysis.text import number

TIME_TOLERANCE = 0.05
"""Relative: a change of the time of a cycle below this is no difference, however narrow its interval."""

ACCURACY_TOLERANCE = 0.005
"""Absolute."""

FASTER, SLOWER, SAME, UNKNOWN = "faster", "slower", "no difference seen", "not judged"
BETTER, WORSE = "more accurate", "less accurate"


@dataclass(frozen=True, slots=True)
class Change:
    """One number in A and in B. change: B / A - 1, or B - A where absolute; low, high: its 95 % interval, nan: none."""

    name: str
    unit: str
    a: float
    b: float
    change: float
    low: float
    high: float
    absolute: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two groups that are compared. label: what varies inside A or B. changes: accuracy, time, traffic. notes: cautions."""

    label: str
    n_a: int
    n_b: int
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def verdicts(self) -> set[str]:
        return {change.verdict for change in self.changes}


@dataclass(frozen=True, slots=True)
class Comparison:
    """differences: (field, in A, in B). only_a, only_b: groups without a counterpart. skipped: runs that are not VALID."""

    a: str
    b: str
    differences: tuple[tuple[str, str, str], ...]
    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Of time and accuracy, over all pairs: the worst of each."""
        found = set().union(*(pair.verdicts for pair in self.pairs))
        time = SLOWER if SLOWER in found else FASTER if FASTER in found else SAME
        accuracy = WORSE if WORSE in found else BETTER if BETTER in found else ""
        return f"{time}, {accuracy}" if accuracy else time

    @property
    def regressed(self) -> bool:
        return any(pair.verdicts & {SLOWER, WORSE} for pair in self.pairs)

    def as_dict(self) -> dict:
        """Plain data, for JSON; a number that does not exist is None."""
        return _without_nan(asdict(self) | {"verdict": self.verdict, "regressed": self.regressed})


def compare(a: Path, b: Path, *, tolerance: float = TIME_TOLERANCE, include_invalid: bool = False, quiet: bool = True) -> Comparison:
    """Two files or two folders. Raises AnalysisError: unreadable, or no VALID run on a side, or nothing in common."""
    (runs_a, skipped_a), (runs_b, skipped_b) = (_runs(place, include_invalid, quiet) for place in (a, b))
    groups_a, groups_b = group_records(runs_a), group_records(runs_b)
    fields = differences([group.config for group in [*groups_a, *groups_b]])
    inner = [name for name in fields if _varies(name, groups_a) or _varies(name, groups_b)]
    keyed_a, keyed_b = ({_key(group, inner): group for group in groups} for groups in (groups_a, groups_b))
    common = [key for key in keyed_a if key in keyed_b]
    if not common:
        raise AnalysisError(
            f"{a} and {b} have no group of runs in common: {_first(groups_a)} against {_first(groups_b)}; "
            "compare two files, or two folders with the same set of runs"
        )
    outer = [name for name in fields if name not in inner]
    changed = tuple((name, _text(groups_a[0].config.get(name)), _text(groups_b[0].config.get(name))) for name in outer)
    ranks = [sorted({run.facts.ranks for run in runs}) for runs in (runs_a, runs_b)]
    if ranks[0] != ranks[1]:
        changed += (("ranks", _text(ranks[0]), _text(ranks[1])),)
    pairs = tuple(_pair(keyed_a[key], keyed_b[key], inner, tolerance) for key in common)
    return Comparison(
        str(a),
        str(b),
        changed,
        pairs,
        tuple(keyed_a[key].label for key in keyed_a if key not in keyed_b),
        tuple(keyed_b[key].label for key in keyed_b if key not in keyed_a),
        tuple(skipped_a + skipped_b),
    )


def _runs(place: Path, include_invalid: bool, quiet: bool) -> tuple[list[Record], list[str]]:
    records, refused = read_records(find_sources([place]), quiet=quiet)
    if refused:
        raise AnalysisError(refused[0][1])
    kept = [record for record in records if len(record.series) and (record.valid or include_invalid)]
    if not kept:
        reason = "; ".join(records[0].facts.reasons) or "no cycle was recorded"
        raise AnalysisError(f"{place} has no VALID run ({records[0].path.name}: {reason}); --include-invalid compares it all the same")
    return kept, [f"{record.path} is {record.facts.verdict}" for record in records if record not in kept]


def _varies(name: str, groups: Sequence[Group]) -> bool:
    return len({repr(group.config.get(name)) for group in groups}) > 1


def _key(group: Group, fields: Sequence[str]) -> tuple:
    return tuple(repr(group.config.get(name)) for name in fields)


def _first(groups: Sequence[Group]) -> str:
    return f"{groups[0].label!r}" + (f" and {len(groups) - 1} more" if len(groups) > 1 else "")


def _text(value: object) -> str:
    return "-" if value is None else str(value)


# One pair.


def _pair(a: Group, b: Group, inner: Sequence[str], tolerance: float) -> Pair:
    notes = []
    if len(a.runs) == 1 or len(b.runs) == 1:
        notes.append(
            "one run on a side: the interval of time is that of cycles inside the run, and other numbers have none; more seeds tell more"
        )
    if not _same_sources(a, b):
        notes.append("the same configuration and seed gave different accuracies")
    changes = [
        _accuracy(a, b),
        _time(a, b, tolerance),
        *_seconds_to(a, b),
        *(_traffic(a, b, name, unit) for name, unit in (("messages", "message"), ("bytes", "B"))),
    ]
    return Pair(
        a.label if inner else "all runs", len(a.runs), len(b.runs), tuple(change for change in changes if change is not None), tuple(notes)
    )


def _same_sources(a: Group, b: Group) -> bool:
    """Whether runs of one configuration and seed agree, as they must."""
    if a.config != b.config:
        return True
    by_seed = {run.seed: metrics.final_accuracy(run) for run in a.runs}
    pairs = [(by_seed[run.seed], metrics.final_accuracy(run)) for run in b.runs if run.seed in by_seed]
    return all(left == right or (np.isnan(left) and np.isnan(right)) for left, right in pairs)


def _accuracy(a: Group, b: Group) -> Change | None:
    sides = [{run.seed: metrics.final_accuracy(run) for run in group.one_of_each_seed} for group in (a, b)]
    left, right = (statistics.finite(list(side.values())) for side in sides)
    if not left.size or not right.size:
        return None
    change = float(right.mean() - left.mean())
    low, high = _difference(sides, left, right)
    if np.isnan(low):
        verdict = SAME if change == 0 else UNKNOWN
    else:
        verdict = BETTER if low > 0 and change > ACCURACY_TOLERANCE else WORSE if high < 0 and change < -ACCURACY_TOLERANCE else SAME
    return Change("final accuracy", "1", float(left.mean()), float(right.mean()), change, low, high, True, verdict)


def _difference(sides: Sequence[dict[int, float]], left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Interval of the difference of means: seed by seed where both sides have the same seeds, else side by side."""
    if sides[0].keys() == sides[1].keys():
        return statistics.bootstrap([sides[1][seed] - sides[0][seed] for seed in sides[0]])
    if min(left.size, right.size) < 2:
        return np.nan, np.nan
    generator = np.random.default_rng(1)
    means = [side[generator.integers(0, side.size, (statistics.RESAMPLES, side.size))].mean(axis=1) for side in (left, right)]
    return statistics.interval(means[1] - means[0])


def _time(a: Group, b: Group, tolerance: float) -> Change:
    change = _ratio(
        "seconds per cycle", "s", [run.series["seconds"].to_numpy() for run in a.runs], [run.series["seconds"].to_numpy() for run in b.runs]
    )
    return _judged(change, tolerance)


def _judged(change: Change, tolerance: float) -> Change:
    seen = SLOWER if change.low > 0 and change.change > tolerance else FASTER if change.high < 0 and change.change < -tolerance else SAME
    return replace(change, verdict=seen if np.isfinite(change.low) else UNKNOWN)


def _traffic(a: Group, b: Group, name: str, unit: str) -> Change:
    """Traffic is a function of configuration and seed: runs are paired by seed where they can be, and cycles are no sample."""
    sides = [{run.seed: run.series[name].to_numpy() for run in group.one_of_each_seed} for group in (a, b)]
    values = [[np.array([series.mean()]) for series in side.values()] for side in sides]
    change = _ratio(f"{name} per cycle", unit, *values)
    if sides[0].keys() == sides[1].keys() and len(sides[0]) > 1 and change.a:
        ratios = statistics.bootstrap([float(right[0] / left[0]) - 1 for left, right in zip(*values, strict=True)])
        return replace(change, low=ratios[0], high=ratios[1])
    return change


def _seconds_to(a: Group, b: Group) -> list[Change]:
    """The highest target that all runs of both sides reached; runs alone are resampled."""
    runs = [*a.runs, *b.runs]
    for target in reversed(metrics.targets_reached(runs)):
        sides = [np.array([metrics.seconds_to(run, target) for run in group.runs]) for group in (a, b)]
        if all(np.isfinite(side).all() and (side > 0).all() for side in sides):
            return [_ratio(f"seconds to accuracy {target:.2f}", "s", *([np.array([value]) for value in side] for side in sides))]
    return []


def _ratio(name: str, unit: str, a: list[np.ndarray], b: list[np.ndarray]) -> Change:
    """Relative change of the mean over runs of the mean over cycles, no verdict."""
    generator = np.random.default_rng(1)
    means = [float(np.mean([series.mean() for series in side])) for side in (a, b)]
    change = means[1] / means[0] - 1 if means[0] else np.nan
    low, high = np.nan, np.nan
    # A single number on a side has no spread.
    if means[0] and all(len(side) > 1 or side[0].size > 1 for side in (a, b)):
        drawn = [_resampled(side, generator) for side in (a, b)]
        low, high = statistics.interval(drawn[1] / drawn[0] - 1)
    return Change(name, unit, means[0], means[1], change, low, high, False, "")


def _resampled(runs: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """[resamples] means: runs are drawn, and in each run blocks of cycles."""
    means = np.stack([statistics.block_means(series, generator, statistics.RESAMPLES) for series in runs])
    chosen = generator.integers(0, len(runs), (len(runs), statistics.RESAMPLES))
    return np.take_along_axis(means, chosen, axis=0).mean(axis=0)


# What is printed.


def describe(result: Comparison) -> str:
    """The comparison as text, the verdict last."""
    lines = [f"A: {result.a}", f"B: {result.b}", ""]
    lines += ["configuration:"] if result.differences else ["configuration: no difference but seeds"]
    lines += [f"  {name}: {left} -> {right}" for name, left, right in result.differences]
    for pair in result.pairs:
        lines += ["", f"{pair.label} ({pair.n_a} runs against {pair.n_b}):"]
        lines += [_line(change) for change in pair.changes]
        lines += [f"  note: {note}" for note in pair.notes]
    for side, labels in (("A", result.only_a), ("B", result.only_b)):
        lines += [f"only in {side}: {label}" for label in labels]
    lines += [f"left out: {text}" for text in result.skipped]
    return "\n".join([*lines, "", f"verdict: B is {result.verdict}" if result.verdict != SAME else f"verdict: {SAME}"])


def _line(change: Change) -> str:
    show: Callable[[float], str] = (lambda value: f"{value:+.4f}") if change.absolute else (lambda value: f"{100 * value:+.1f} %")
    digits = 4 if max(abs(change.a), abs(change.b)) < 100 else 1
    interval = f"  [{show(change.low)}, {show(change.high)}]" if np.isfinite(change.low) else "  [no interval]"
    moved = show(change.change) if np.isfinite(change.change) else "-"
    unit = "" if change.unit == "1" else f" {change.unit}"
    verdict = f"  {change.verdict}" if change.verdict else ""
    return f"  {change.name:24s} {number(change.a, digits)} -> {number(change.b, digits)}{unit}  {moved}{interval}{verdict}"


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
