"""`healmpi-report compare A B`: whether B is whole, has the bits of A, is as accurate and as fast; and what differs.

    A, B -> groups of each -> pairs of groups that agree in whatever varies inside A or inside B -> changes with intervals

The rules that surprise: what of A is missing, failed or INVALID in B is a regression, whatever the others came to. A difference is *seen*
only if its 95 % interval leaves no change out and it is larger than the tolerance; of a single run, if it is larger than the tolerance.
Time is judged only where runs of A and B were started in turns: a machine that is busier today is no change of the program.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from healmpi_analysis import bits, metrics, statistics
from healmpi_analysis.errors import AnalysisError, Damage
from healmpi_analysis.groups import Group, differences, group_records
from healmpi_analysis.records import Reading, Record, read_all
from healmpi_analysis.text import number

TIME_TOLERANCE = 0.05
"""Relative: a change of the time of a cycle below this is no difference, however narrow its interval."""

ACCURACY_TOLERANCE = 0.005
"""Absolute."""

FEWEST_REPEATS = 3
"""Runs a side from which on time is judged."""

FASTER, SLOWER, SAME, UNKNOWN = "faster", "slower", "no difference seen", "not judged"
BETTER, WORSE = "more accurate", "less accurate"
BROKEN, OTHER_BITS = "not whole", "other bits"

WIDTH = 80


@dataclass(frozen=True, slots=True)
class Rules:
    """How it is judged. time_tolerance: relative; None: time is not judged, and nobody minds. accuracy_tolerance: absolute."""

    time_tolerance: float | None = TIME_TOLERANCE
    accuracy_tolerance: float = ACCURACY_TOLERANCE
    include_invalid: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One number in A and in B. change: B / A - 1, or B - A where absolute; low, high: its 95 % interval, nan: none. needed: what
    there would have to be so that it could be judged."""

    name: str
    unit: str
    a: float
    b: float
    change: float
    low: float
    high: float
    absolute: bool
    verdict: str
    needed: str = ""


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
    """broken: what of A is missing, failed or INVALID in B. other_bits: runs that must agree bit by bit and do not. agreed: pairs of runs
    that do. differences: (field, in A, in B). only_b: groups without a counterpart. left_out: files of either side that do not count."""

    a: str
    b: str
    broken: tuple[str, ...]
    other_bits: tuple[str, ...]
    agreed: int
    differences: tuple[tuple[str, str, str], ...]
    pairs: tuple[Pair, ...]
    only_b: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The worst first; over all pairs."""
        found = set().union(*(pair.verdicts for pair in self.pairs))
        words = [BROKEN] * bool(self.broken) + [OTHER_BITS] * bool(self.other_bits)
        words += [WORSE if WORSE in found else BETTER] if found & {WORSE, BETTER} else []
        words += [SLOWER if SLOWER in found else FASTER] if found & {SLOWER, FASTER} else []
        if not words and (SAME in found or self.agreed):
            words = [SAME]
        missing = sorted({change.name for pair in self.pairs for change in pair.changes if change.verdict == UNKNOWN})
        return ", ".join(words + [f"{name} {UNKNOWN}" for name in missing]) or UNKNOWN

    @property
    def regressed(self) -> bool:
        return bool(self.broken or self.other_bits) or any(pair.verdicts & {SLOWER, WORSE} for pair in self.pairs)

    @property
    def judged(self) -> bool:
        """Whether everything that is asked for could be."""
        return bool(self.pairs) and not any(UNKNOWN in pair.verdicts for pair in self.pairs)

    def as_dict(self) -> dict:
        """Plain data, for JSON; a number that does not exist is None."""
        return _without_nan(asdict(self) | {"verdict": self.verdict, "regressed": self.regressed, "judged": self.judged})


def compare(a: Path, b: Path, rules: Rules | None = None, *, quiet: bool = True) -> Comparison:
    """Two files or two folders. Raises AnalysisError: A is unreadable or has no VALID run, or B is not there, or nothing in common."""
    rules = rules or Rules()
    base, other = (read_all([place], quiet=quiet) for place in (a, b))
    if base.refused:
        raise AnalysisError(base.refused[0][1])
    runs_a, runs_b = (_usable(reading, rules.include_invalid) for reading in (base, other))
    if not runs_a:
        reason = "; ".join(base.records[0].facts.reasons) or "no cycle was recorded"
        raise AnalysisError(f"{a} has no VALID run ({base.records[0].path.name}: {reason}); --include-invalid compares it all the same")
    broken = [reason for _, reason in other.refused]
    broken += [f"{one.path} is {one.facts.verdict}{_why(one)}" for one in other.records if not one.valid and not rules.include_invalid]
    groups_a, groups_b = group_records(runs_a), group_records(runs_b)
    fields = differences([group.config for group in [*groups_a, *groups_b]])
    inner = [name for name in fields if _varies(name, groups_a) or _varies(name, groups_b)]
    keyed_a, keyed_b = ({_key(group, inner): group for group in groups} for groups in (groups_a, groups_b))
    common = [key for key in keyed_a if key in keyed_b]
    if not common and not broken:
        raise AnalysisError(
            f"{a} and {b} have no group of runs in common: {_first(groups_a)} against {_first(groups_b)}; "
            "compare two files, or two folders with the same set of runs"
        )
    broken += _missing(keyed_a, keyed_b)
    differing, agreed, damaged = _bits(keyed_a, keyed_b)
    broken += damaged
    return Comparison(
        a=str(a),
        b=str(b),
        broken=tuple(broken),
        other_bits=tuple(differing),
        agreed=agreed,
        differences=_changed([name for name in fields if name not in inner], groups_a, groups_b) if groups_b else (),
        pairs=tuple(_pair(keyed_a[key], keyed_b[key], inner, rules) for key in common),
        only_b=tuple(keyed_b[key].label for key in keyed_b if key not in keyed_a),
        left_out=tuple(_left_out(base, runs_a) + [text for text in _left_out(other, runs_b) if text not in broken]),
    )


def _usable(reading: Reading, include_invalid: bool) -> list[Record]:
    return [record for record in reading.records if len(record.series) and (record.valid or include_invalid)]


def _left_out(reading: Reading, used: Sequence[Record]) -> list[str]:
    ids = {id(record) for record in used}
    return reading.left_out() + [f"{one.path} is {one.facts.verdict}{_why(one)}" for one in reading.records if id(one) not in ids]


def _why(record: Record) -> str:
    return f" ({'; '.join(record.facts.reasons)})" if record.facts.reasons else ""


def _missing(keyed_a: dict[tuple, Group], keyed_b: dict[tuple, Group]) -> list[str]:
    """Groups of A, and seeds of groups, without a run in B that counts."""
    found = []
    for key, group in keyed_a.items():
        seeds = {run.seed for run in group.runs}
        there = {run.seed for run in keyed_b[key].runs} if key in keyed_b else set()
        if not there:
            found.append(f"{group.label}: {len(group.runs)} in A, none in B")
        elif len(seeds) > 1 and seeds - there:
            found.append(f"{group.label}: seed {', '.join(map(str, sorted(seeds - there)))} is in A and not in B")
    return found


def _bits(keyed_a: dict[tuple, Group], keyed_b: dict[tuple, Group]) -> tuple[list[str], int, list[str]]:
    """Pairs of runs that must agree and do not, a sentence each; how many do; and files of B that turn out to be damaged."""
    differing, agreed, damaged = [], 0, []
    for key, group in keyed_a.items():
        for one in group.runs:
            for other in keyed_b[key].runs if key in keyed_b else ():
                if one.path.is_dir() or other.path.is_dir() or not bits.must_agree(one, other):
                    continue
                try:
                    found = bits.first_difference(one, other)
                except Damage as error:
                    if error.path != other.path:
                        raise
                    damaged.append(str(error))
                    continue
                if found is None:
                    agreed += 1
                else:
                    differing.append(str(found))
    return differing, agreed, damaged


def _changed(outer: Sequence[str], groups_a: Sequence[Group], groups_b: Sequence[Group]) -> tuple[tuple[str, str, str], ...]:
    """What differs between the sides everywhere: fields, ranks, and what decides over bits."""
    found = [(name, _text(groups_a[0].config.get(name)), _text(groups_b[0].config.get(name))) for name in outer]
    sides = [[run for group in groups for run in group.runs] for groups in (groups_a, groups_b)]
    known = [[_outside(run) for run in side] for side in sides]
    for name in known[0][0]:
        left, right = (", ".join(sorted({run[name] for run in side})) for side in known)
        if left != right:
            found.append((name, left, right))
    return tuple(found)


def _outside(run: Record) -> dict[str, str]:
    """What is not configured and worth telling."""
    versions = {name: _text(run.facts.provenance.get(name)) for name in bits.VERSIONS}
    return {"ranks": str(run.facts.ranks)} | versions | {"CPU capability": " ".join(sorted(bits.capabilities(run))) or "-"}


def _varies(name: str, groups: Sequence[Group]) -> bool:
    return len({repr(group.config.get(name)) for group in groups}) > 1


def _key(group: Group, fields: Sequence[str]) -> tuple:
    return tuple(repr(group.config.get(name)) for name in fields)


def _first(groups: Sequence[Group]) -> str:
    return f"{groups[0].label!r}" + (f" and {len(groups) - 1} more" if len(groups) > 1 else "")


def _text(value: object) -> str:
    return "-" if value is None else str(value)


# One pair.


def _pair(a: Group, b: Group, inner: Sequence[str], rules: Rules) -> Pair:
    notes = []
    if len(a.runs) == 1 or len(b.runs) == 1:
        notes.append("one run on a side: nothing is known of how runs differ; more seeds tell more")
    traffic = (("messages", "message"), ("bytes", "B"))
    changes = [
        _accuracy(a, b, rules.accuracy_tolerance),
        _time(a, b, rules.time_tolerance),
        *_seconds_to(a, b),
        *(_traffic(a, b, name, unit) for name, unit in traffic),
    ]
    kept = tuple(change for change in changes if change is not None)
    return Pair(a.label if inner else "all runs", len(a.runs), len(b.runs), kept, tuple(notes))


def _accuracy(a: Group, b: Group, tolerance: float) -> Change | None:
    """By the interval where runs tell one, else by the tolerance alone."""
    sides = [{run.seed: metrics.final_accuracy(run) for run in group.one_of_each_seed} for group in (a, b)]
    left, right = (statistics.finite(list(side.values())) for side in sides)
    if not left.size and not right.size:
        return None
    mean_a, mean_b = (float(side.mean()) if side.size else np.nan for side in (left, right))
    if not left.size or not right.size:
        needed = "an evaluated cycle on both sides"
        return Change("accuracy", "1", mean_a, mean_b, np.nan, np.nan, np.nan, True, UNKNOWN, needed)
    change = mean_b - mean_a
    low, high = _difference(sides, left, right)
    alone = np.isnan(low)
    better, worse = (alone or low > 0) and change > tolerance, (alone or high < 0) and change < -tolerance
    return Change("accuracy", "1", mean_a, mean_b, change, low, high, True, BETTER if better else WORSE if worse else SAME)


def _difference(sides: Sequence[dict[int, float]], left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Interval of the difference of means: seed by seed where both sides have the same seeds, else side by side."""
    if sides[0].keys() == sides[1].keys():
        return statistics.bootstrap([sides[1][seed] - sides[0][seed] for seed in sides[0]])
    if min(left.size, right.size) < 2:
        return np.nan, np.nan
    generator = np.random.default_rng(1)
    means = [side[generator.integers(0, side.size, (statistics.RESAMPLES, side.size))].mean(axis=1) for side in (left, right)]
    return statistics.interval(means[1] - means[0])


def _time(a: Group, b: Group, tolerance: float | None) -> Change:
    sides = [[run.series["seconds"].to_numpy() for run in group.runs] for group in (a, b)]
    change = _ratio("seconds per cycle", "s", *sides)
    if tolerance is None:
        return change
    if not _in_turns(a.runs, b.runs):
        needed = f"at least {FEWEST_REPEATS} runs a side, started in turns (A, B, A, B ...); there are {len(a.runs)} and {len(b.runs)}"
        return replace(change, verdict=UNKNOWN, needed=needed)
    seen = SLOWER if change.low > 0 and change.change > tolerance else FASTER if change.high < 0 and change.change < -tolerance else SAME
    return replace(change, verdict=seen)


def _in_turns(a: Sequence[Record], b: Sequence[Record]) -> bool:
    """Whether there are enough runs, and sides alternate at least as often as the smaller one has runs."""
    starts = [(str(run.facts.provenance.get("started", "")), side) for side, runs in enumerate((a, b)) for run in runs]
    if min(len(a), len(b)) < FEWEST_REPEATS or not all(start for start, _ in starts):
        return False
    order = [side for _, side in sorted(starts)]
    return sum(one != other for one, other in itertools.pairwise(order)) >= min(len(a), len(b))


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
    # Cycles of a single run say nothing of how runs differ.
    if all(len(side) > 1 for side in (a, b)):
        drawn = [_resampled(side, generator) for side in (a, b)]
        if drawn[0].all():
            low, high = statistics.interval(drawn[1] / drawn[0] - 1)
    return Change(name, unit, means[0], means[1], change, low, high, False, "")


def _resampled(runs: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """[resamples] means: runs are drawn, and in each run blocks of cycles."""
    means = np.stack([statistics.block_means(series, generator, statistics.RESAMPLES) for series in runs])
    chosen = generator.integers(0, len(runs), (len(runs), statistics.RESAMPLES))
    return np.take_along_axis(means, chosen, axis=0).mean(axis=0)


# What is printed.


def describe(result: Comparison) -> str:
    """The comparison as text, what is wrong first, the verdict last."""
    lines = [f"A: {result.a}", f"B: {result.b}", ""]
    lines += [f"NOT WHOLE: {text}" for text in result.broken]
    lines += [f"OTHER BITS: {text}" for text in result.other_bits]
    if result.agreed:
        lines.append(f"bits: {_counted(result.agreed, 'pair')} of runs of one configuration, seed and versions agree in all tables")
    lines += ["configuration:"] if result.differences else ["configuration: no difference but seeds"]
    lines += [f"  {name}: {left} -> {right}" for name, left, right in result.differences]
    for pair in result.pairs:
        lines += ["", f"{pair.label} ({_counted(pair.n_a, 'run')} against {pair.n_b}):"]
        lines += [line for change in pair.changes for line in _lines(change)]
        lines += [f"  note: {note}" for note in pair.notes]
    lines += [f"only in B: {label}" for label in result.only_b]
    lines += [f"left out: {text}" for text in result.left_out]
    lines += ["", f"verdict: {result.verdict}"]
    return "\n".join(_wrapped(line) for line in lines)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _wrapped(line: str) -> str:
    """Within 80 columns, words and paths kept whole."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return (
        textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) if len(line) > WIDTH else line
    )


def _lines(change: Change) -> list[str]:
    show: Callable[[float], str] = (lambda value: f"{value:+.4f}") if change.absolute else (lambda value: f"{100 * value:+.1f} %")
    digits = 4 if max(abs(change.a), abs(change.b)) < 100 else 1
    interval = f" [{show(change.low)}, {show(change.high)}]" if np.isfinite(change.low) else ""
    moved = show(change.change) if np.isfinite(change.change) else "-"
    unit = "" if change.unit == "1" else f" {change.unit}"
    lines = [f"  {change.name}: {number(change.a, digits)} -> {number(change.b, digits)}{unit}, {moved}{interval}"]
    if change.verdict:
        lines.append(f"    {change.verdict}" + (f": it takes {change.needed}" if change.needed else ""))
    return lines


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
