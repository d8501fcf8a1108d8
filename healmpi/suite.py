"""A suite: a matrix of experiments in one launch, one results file each.

A suite file is TOML: `base` holds what all experiments share, `axes` what they differ in, `exclude` what to leave out:

    title = "..."
    [base.run]                      # sections as in a configuration
    cycles = 100
    [axes]
    algorithm = ["heal", "gossip"]  # lists: algorithm, nodes, seed, or any "section.field"
    seed = [1, 2, 3]
    [axes.scenario.none]            # tables: a name, and the sections that it changes
    [axes.scenario.crash20.faults]
    crash_fraction = 0.2
    [[exclude]]
    algorithm = "gossip"
    scenario = ["crash20"]

An experiment is named after its place on each axis: heal-crash20-s1. The rule that surprises: seeds vary slowest, so that
a suite that is stopped half-way holds whole comparisons with fewer seeds, instead of some algorithms with all of them.
"""

from __future__ import annotations

import copy
import fnmatch
import itertools
import math
import re
import statistics
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from healmpi import progress
from healmpi.config import Config, ConfigError, override
from healmpi.presets import PRESETS
from healmpi.stopping import Limits, Stopped, why_stop

SHIPPED = resources.files("healmpi") / "suites"

SHORT = {"algorithm": ("run.algorithm", ""), "nodes": ("run.nodes", "n"), "seed": ("run.seed", "s")}
"""Axes that may be lists under their own name: the field, and what stands before its value in an experiment's name."""

LABEL = re.compile(r"[A-Za-z0-9._+]+(-[A-Za-z0-9._+]+)*")

KEYS = ("title", "base", "axes", "exclude")


@dataclass(frozen=True, slots=True)
class Experiment:
    """One place of the matrix. labels: axis -> its value's name. config: a resolved one."""

    name: str
    labels: dict[str, str]
    config: Config


@dataclass(frozen=True, slots=True)
class Suite:
    """All experiments in the order in which they are run."""

    title: str
    experiments: tuple[Experiment, ...]

    def only(self, patterns: Sequence[str]) -> Suite:
        """Those whose names match one of the patterns (`*` and `?` as in a shell). Raises ConfigError: one matches nothing."""
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(one.name, pattern) for one in self.experiments):
                names = ", ".join(one.name for one in self.experiments[:5])
                raise ConfigError("--only", pattern, f"a name or pattern of this suite's experiments: {names}, ...")
        kept = (one for one in self.experiments if not patterns or any(fnmatch.fnmatchcase(one.name, p) for p in patterns))
        return Suite(self.title, tuple(kept))


def shipped() -> list[str]:
    """Names of the suites that come with healmpi."""
    return sorted(path.name.removesuffix(".toml") for path in SHIPPED.iterdir() if path.name.endswith(".toml"))


def load(name: str, overrides: Sequence[str] = (), ranks: int = 1) -> Suite:
    """The suite of that name or in that file, all configurations checked for so many ranks.

    overrides: `section.field=value`, which win over the file in every experiment. Raises ConfigError.
    """
    table = _read(name)
    for key in table:
        if key not in KEYS:
            raise ConfigError(key, table[key], f"unknown in a suite; the known ones are {', '.join(KEYS)}")
    axes = [_axis(axis, values) for axis, values in _table(table, "axes").items()]
    axes.sort(key=lambda axis: axis.rank)
    # Seeds vary slowest, then sizes; the others in the order of the file, the last one fastest.
    slow_first = sorted(axes, key=lambda axis: -axis.rank)
    if not axes:
        raise ConfigError("axes", {}, "at least one axis: experiments are named after their places on the axes")
    base, exclusions = _table(table, "base"), _exclusions(table, axes)
    experiments = []
    for choice in itertools.product(*(axis.values for axis in slow_first)):
        labels = {axis.name: value.label for axis, value in zip(slow_first, choice, strict=True)}
        if not any(_excludes(rule, labels) for rule in exclusions):
            chosen = dict(zip((axis.name for axis in slow_first), choice, strict=True))
            experiments.append(_experiment(base, [chosen[axis.name] for axis in axes], labels, axes, overrides, ranks))
    if not experiments:
        raise ConfigError("exclude", table.get("exclude"), "something must be left to run")
    names = [one.name for one in experiments]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise ConfigError("axes", twice, "each experiment a name of its own: two places of the matrix have this one")
    return Suite(str(table.get("title", name)), tuple(experiments))


# Reading.


class _Value(NamedTuple):
    """A place on an axis: its name, and the sections of the configuration that it sets."""

    label: str
    sections: dict[str, dict[str, Any]]


class _Axis(NamedTuple):
    name: str
    values: tuple[_Value, ...]

    @property
    def rank(self) -> int:
        """Where it stands in names: seeds last, sizes before them."""
        return {"nodes": 1, "seed": 2}.get(self.name, 0)


def _read(name: str) -> dict[str, Any]:
    path = SHIPPED / f"{name}.toml" if name in shipped() else Path(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        allowed = f"a file ({error.strerror}), or one of the suites that are shipped: {', '.join(shipped())}"
        raise ConfigError("SUITE", name, allowed) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("SUITE", name, f"it is not valid TOML ({error})") from None


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(key, found, "a table")
    return found


def _axis(name: str, given: Any) -> _Axis:
    if isinstance(given, dict) and given:
        values = [_Value(_label(name, label), _sections(name, label, sections)) for label, sections in given.items()]
    elif isinstance(given, list) and given and (name in SHORT or "." in name):
        field, before = SHORT.get(name, (name, name.rpartition(".")[2]))
        section, _, item = field.partition(".")
        values = [_Value(_label(name, f"{before}{value}"), {section: {item: value}}) for value in given]
    else:
        allowed = f"a table of names with sections each; a list is possible for {', '.join(SHORT)} and, in quotes, 'section.field'"
        raise ConfigError(f"axes.{name}", given, allowed)
    labels = [value.label for value in values]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"axes.{name}", labels, "each value once")
    return _Axis(name, tuple(values))


def _label(axis: str, label: str) -> str:
    if not LABEL.fullmatch(label):
        raise ConfigError(f"axes.{axis}", label, "a name of letters, digits, '.', '_', '+' and single '-', since files are named after it")
    return label


def _sections(axis: str, label: str, sections: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        raise ConfigError(
            f"axes.{axis}.{label}",
            sections,
            "a table of sections, each a table of fields (a field as an axis stands in quotes, 'section.field')",
        )
    # A value of the axis `algorithm` that is named after a preset means it.
    if axis == "algorithm" and label in PRESETS and "algorithm" not in sections.get("run", {}):
        return {**sections, "run": {**sections.get("run", {}), "algorithm": label}}
    return sections


def _exclusions(table: dict[str, Any], axes: Sequence[_Axis]) -> list[dict[str, list[str]]]:
    given = table.get("exclude", [])
    if not isinstance(given, list):
        raise ConfigError("exclude", given, "[[exclude]], tables of axes with the names of values")
    labels = {axis.name: [value.label for value in axis.values] for axis in axes}
    rules = []
    for rule in given:
        if not isinstance(rule, dict):
            raise ConfigError("exclude", rule, "[[exclude]], tables of axes with the names of values")
        rules.append({axis: names if isinstance(names, list) else [names] for axis, names in rule.items()})
        for axis, names in rules[-1].items():
            for name in names:
                if name not in labels.get(axis, []):
                    known = f"one of {', '.join(labels[axis])}" if axis in labels else f"an axis; the axes are {', '.join(labels)}"
                    raise ConfigError(f"exclude.{axis}", name, known)
    return rules


def _excludes(rule: dict[str, list[str]], labels: dict[str, str]) -> bool:
    return all(labels[axis] in names for axis, names in rule.items())


def _experiment(base: Any, values: Sequence[_Value], labels: dict[str, str], axes: Sequence[_Axis], overrides: Sequence[str], ranks: int):
    name = "-".join(labels[axis.name] for axis in axes)
    table: dict[str, Any] = copy.deepcopy(base)
    for value in values:
        for section, fields in value.sections.items():
            inner = table.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"base.{section}", inner, "a table")
            inner.update(fields)
    for text in overrides:
        override(table, text)
    try:
        config = Config.from_table(table)
        if not config.run.nodes:
            raise ConfigError("run.nodes", 0, "a number: in a suite it must not depend on the number of ranks")
        return Experiment(name, labels, config.resolve(ranks))
    except ConfigError as error:
        field, value, allowed = error.args
        raise ConfigError(f"{name}: {field}", value, allowed) from None


# What is there already.

STOP_FILE = "STOP"
"""A file of this name in the folder of the results ends the suite."""


def stop_path(out: Path) -> Path:
    """A file of this name ends the run that writes OUT."""
    return out.with_name(out.name + ".stop")


OPEN, DONE, OTHER = "open", "done", "other"


def state(experiment: Experiment, folder: Path) -> str:
    """DONE: its results file is there, whole and of this configuration. OTHER: a file of its name that is not. Else OPEN."""
    from healmpi.results.info import identity
    from healmpi.results.schema import ResultsError

    path = result_path(experiment, folder)
    if not path.exists():
        return OPEN
    try:
        complete, config_hash = identity(path)
    except ResultsError:
        return OTHER
    if config_hash != experiment.config.hash():
        return OTHER
    # What was merged of a run before its end is not the end.
    return DONE if complete else OPEN


def result_path(experiment: Experiment, folder: Path) -> Path:
    """Where its results go."""
    return folder / f"{experiment.name}.h5"


# Running.


@dataclass(slots=True)
class Outcome:
    """What became of an experiment. failure: why there is no file."""

    experiment: Experiment
    failure: str | None = None


def run(suite: Suite, ranks, folder: Path, force: bool, limits: Limits) -> list[Outcome]:
    """Run what is not done. Returns an outcome for each experiment of the suite, on all ranks.

    force: replace files of other configurations. limits: when to stop and to save. Raises Refused (a file is in the way, the
    folder cannot be made), Stopped, StepTimeout.
    """
    states = ranks.share(ranks.refuse_together(lambda: _claim(suite, folder, force) if ranks.rank == 0 else None))[0]
    todo = [one for one, state in zip(suite.experiments, states, strict=True) if state != DONE]
    outcomes = {one.name: Outcome(one) for one in suite.experiments}
    with _Bar(suite, todo, ranks.rank == 0) as bar:
        for experiment in todo:
            own = limits.with_files(folder / STOP_FILE, stop_path(result_path(experiment, folder)))
            reason = ranks.share(why_stop(own))[0]
            if reason:
                raise Stopped(f"before {experiment.name}: {reason}")
            bar.begin(experiment)
            failure = _run_one(experiment, ranks, folder, bar, force, own)
            outcomes[experiment.name].failure = failure
            bar.end(experiment, failure)
    return list(outcomes.values())


def _claim(suite: Suite, folder: Path, force: bool) -> list[str]:
    """On rank 0: the folder, and the state of each experiment. Raises ConfigError."""
    from healmpi.results.merge import remove_part_files

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("-o", str(folder), f"a folder that is there or can be made ({error.strerror})") from None
    states = [state(one, folder) for one in suite.experiments]
    for one, found in zip(suite.experiments, states, strict=True):
        if found == DONE:
            # A suite that was killed between making the file and clearing up.
            remove_part_files(result_path(one, folder))
    others = [result_path(one, folder).name for one, state in zip(suite.experiments, states, strict=True) if state == OTHER]
    if others and not force:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        allowed = f"{', '.join(others[:3])}{more}: there already, with another configuration or not whole; --force replaces"
        raise ConfigError("-o", str(folder), allowed)
    return states


def _run_one(experiment: Experiment, ranks, folder: Path, bar: _Bar, force: bool, limits: Limits) -> str | None:
    """Why it failed, or None. Raises Stopped."""
    from healmpi import run as one_run

    try:
        prepared = one_run.prepare(experiment.config, ranks)
        # What a stopped suite left of this experiment goes on from its checkpoint; without one it starts again.
        manner = one_run.Manner(force, True, limits)
        one_run.execute(prepared, ranks, result_path(experiment, folder), bar.watch, manner, bar.go_on)
    except (one_run.Refused, one_run.RunFailed) as error:
        return str(error)
    return None


def cost(config: Config) -> float:
    """About how much work a run is, in arbitrary units: what the estimate of the time that is left rests on."""
    samples = {"mnist": 60_000, "fashion-mnist": 60_000, "mnist10k": 9_000, "spambase": 4_100}.get(config.data.dataset, config.data.samples)
    steps = config.run.nodes * config.learner.local_steps * config.learner.batch_size or samples * config.learner.local_epochs
    a_sample = {"logistic": 1.0, "mlp": 2.0}.get(config.model.name, 12.0)
    evaluations = 1 / config.evaluation.every if config.evaluation.every else 0.0
    judged = (config.evaluation.nodes or config.run.nodes) * samples / 6 * evaluations
    work = (steps + 0.05 * judged) * a_sample if config.learns else 0.0
    return (config.run.cycles + config.run.warmup_cycles) * (work + 40 * config.run.nodes)


class _Bar:
    """A progress bar over the whole matrix, on the rank that speaks."""

    def __init__(self, suite: Suite, todo: Sequence[Experiment], speaks: bool):
        self._suite, self._todo, self._speaks = suite, todo, speaks
        self._bar = None
        self._step = self._shown = 0.0
        self._number = 0

    def __enter__(self) -> _Bar:
        if self._speaks:
            skipped = len(self._suite.experiments) - len(self._todo)
            done = f", {skipped} of them done already" if skipped else ""
            print(f"{self._suite.title}\n{len(self._suite.experiments)} experiments{done}", flush=True)
            total = sum(cost(one.config) for one in self._todo)
            # The unit is arbitrary, so shares and times are shown and no rates.
            layout = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {desc}{postfix}"
            self._bar = progress.bar(total=total, bar_format=layout)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, experiment: Experiment) -> None:
        self._number += 1
        if self._bar is not None:
            config = experiment.config
            self._step, self._shown = cost(config) / (config.run.cycles + config.run.warmup_cycles), 0.0
            self._bar.set_description_str(f"{self._number}/{len(self._todo)} {experiment.name}", refresh=False)

    def go_on(self, cycles: int) -> None:
        """So many cycles are done already."""
        if self._bar is not None:
            self._advance(cycles * self._step)

    def watch(self, state) -> None:
        """After each cycle."""
        accuracy = "" if math.isnan(state.accuracy) else f", accuracy {state.accuracy:.3f}"
        self._bar.set_postfix_str(f"cycle {state.cycle}{accuracy}", refresh=False)
        self._advance(self._step)

    def _advance(self, amount: float) -> None:
        # Sums of floats may end a little above the total.
        self._bar.update(min(amount, self._bar.total - self._bar.n))
        self._shown += amount

    def end(self, experiment: Experiment, failure: str | None) -> None:
        if self._bar is None:
            return
        self._advance(cost(experiment.config) - self._shown)
        if failure is not None:
            self._bar.write(f"healmpi: {experiment.name} has failed: {failure}", file=sys.stderr)


# The end.


class Row(NamedTuple):
    """Runs that differ in nothing but the seed. figures: name -> one value a run that has it."""

    name: str
    runs: int
    invalid: int
    failed: int
    figures: dict[str, list[float]]


def summarise(outcomes: Sequence[Outcome], folder: Path) -> list[Row]:
    """A row for each set of experiments that differ in the seed alone, in the order of the suite; reads the results files."""
    from healmpi.results import info

    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(_without_seed(one.experiment), []).append(one)
    rows = []
    for name, members in groups.items():
        figures: dict[str, list[float]] = {}
        invalid = 0
        for one in members:
            if one.failure is None:
                reasons, found = info.conclusion(result_path(one.experiment, folder))
                invalid += bool(reasons)
                for figure in found:
                    figures.setdefault(figure.name, []).append(figure.value)
        rows.append(Row(name, len(members), invalid, sum(one.failure is not None for one in members), figures))
    return rows


def _without_seed(experiment: Experiment) -> str:
    seed = experiment.labels.get("seed")
    return experiment.name.removesuffix(f"-{seed}") if seed and len(experiment.labels) > 1 else "all" if seed else experiment.name


COLUMNS = {
    "cycles_to_0.85": "to .85", "cycles_to_0.90": "to .90", "cycles_to_0.95": "to .95", "model_messages_per_cycle": "models",
    "live_nodes": "live", "hubs": "hubs", "wall_s": "seconds",
}  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows as text: accuracy over seeds as mean +- standard deviation, of the others the median of the runs that have it.

    to .85: cycles until that mean accuracy. models: sent in a cycle. live, hubs: nodes at the end.
    """
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'runs':>4}  {'accuracy':>15}" + "".join(f"  {title:>8}" for title in COLUMNS.values())]
    for row in rows:
        cells = [f"{row.name:{width}}  {row.runs:>4}  {_spread(row.figures.get('accuracy_mean', [])):>15}"]
        for name in COLUMNS:
            values = row.figures.get(name, [])
            # Of five runs three may have come that far: say so.
            short = f" ({len(values)})" if 0 < len(values) < row.runs - row.failed and name.startswith("cycles_to") else ""
            cells.append(f"{f'{statistics.median(values):.4g}{short}' if values else '-':>8}")
        trouble = [f"{count} {what}" for count, what in ((row.failed, "FAILED"), (row.invalid, "INVALID")) if count]
        lines.append("  ".join(cells + trouble))
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    deviation = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def listing(suite: Suite, folder: Path | None) -> str:
    """A line for each experiment: its name and, with a folder, its state."""
    width = max(len(one.name) for one in suite.experiments)
    lines = []
    for one in suite.experiments:
        lines.append(f"{one.name:{width}}  {OPEN if folder is None else state(one, folder)}")
    return "\n".join(lines)
