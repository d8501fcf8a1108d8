"""A suite file: a matrix of experiments in one launch, one results file each.

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

An algorithm made for a fixed number of nodes, as the central baseline is, has that number whatever base and axes say.

An experiment is named after its place on each axis: heal-crash20-s1. Seeds vary slowest, so that a suite that is stopped half-way
holds whole comparisons with fewer seeds, instead of some algorithms with all of them.
"""

from __future__ import annotations

import copy
import fnmatch
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from healmpi.catalogue import PRESETS
from healmpi.config import Config
from healmpi.learning.data import path_of
from healmpi.settings import UsageError, override, read_toml

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
        """Those whose names match one of the patterns (`*` and `?` as in a shell). Raises UsageError: one matches nothing."""
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(one.name, pattern) for one in self.experiments):
                names = ", ".join(one.name for one in self.experiments[:5])
                raise UsageError("--only", pattern, f"a name or pattern of this suite's experiments: {names}, ...")
        kept = (one for one in self.experiments if not patterns or any(fnmatch.fnmatchcase(one.name, p) for p in patterns))
        return Suite(self.title, tuple(kept))


def shipped() -> list[str]:
    """Names of the suites that come with healmpi."""
    return sorted(path.name.removesuffix(".toml") for path in SHIPPED.iterdir() if path.name.endswith(".toml"))


def load(name: str, overrides: Sequence[str] = (), ranks: int = 1) -> Suite:
    """The suite of that name or in that file, all configurations checked for so many ranks.

    overrides: `section.field=value`, which win over the file in every experiment. Raises UsageError.
    """
    table = _read(name)
    for key in table:
        if key not in KEYS:
            raise UsageError(key, table[key], f"unknown in a suite; the known ones are {', '.join(KEYS)}")
    axes = [_axis(axis, values) for axis, values in _table(table, "axes").items()]
    axes.sort(key=lambda axis: axis.rank)
    # Seeds vary slowest, then sizes; the others in the order of the file, the last one fastest.
    slow_first = sorted(axes, key=lambda axis: -axis.rank)
    if not axes:
        raise UsageError("axes", {}, "at least one axis: experiments are named after their places on the axes")
    base, exclusions = _table(table, "base"), _exclusions(table, axes)
    experiments = []
    for choice in itertools.product(*(axis.values for axis in slow_first)):
        labels = {axis.name: value.label for axis, value in zip(slow_first, choice, strict=True)}
        if not any(_excludes(rule, labels) for rule in exclusions):
            chosen = dict(zip((axis.name for axis in slow_first), choice, strict=True))
            experiments.append(_experiment(base, [chosen[axis.name] for axis in axes], labels, axes, overrides, ranks))
    if not experiments:
        raise UsageError("exclude", table.get("exclude"), "something must be left to run")
    names = [one.name for one in experiments]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise UsageError("axes", twice, "each experiment a name of its own: two places of the matrix have this one")
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
    path = SHIPPED / f"{name}.toml" if name in shipped() else path_of(name)
    allowed = f"a file ({{}}), or one of the suites that are shipped: {', '.join(shipped())}"
    return read_toml("SUITE", path, missing=allowed)


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise UsageError(key, found, "a table")
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
        raise UsageError(f"axes.{name}", given, allowed)
    labels = [value.label for value in values]
    if len(set(labels)) < len(labels):
        raise UsageError(f"axes.{name}", labels, "each value once")
    return _Axis(name, tuple(values))


def _label(axis: str, label: str) -> str:
    if not LABEL.fullmatch(label):
        raise UsageError(f"axes.{axis}", label, "a name of letters, digits, '.', '_', '+' and single '-', since files are named after it")
    return label


def _sections(axis: str, label: str, sections: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        raise UsageError(
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
        raise UsageError("exclude", given, "[[exclude]], tables of axes with the names of values")
    labels = {axis.name: [value.label for value in axis.values] for axis in axes}
    rules = []
    for rule in given:
        if not isinstance(rule, dict):
            raise UsageError("exclude", rule, "[[exclude]], tables of axes with the names of values")
        rules.append({axis: names if isinstance(names, list) else [names] for axis, names in rule.items()})
        for axis, names in rules[-1].items():
            for name in names:
                if name not in labels.get(axis, []):
                    known = f"one of {', '.join(labels[axis])}" if axis in labels else f"an axis; the axes are {', '.join(labels)}"
                    raise UsageError(f"exclude.{axis}", name, known)
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
                raise UsageError(f"base.{section}", inner, "a table")
            inner.update(fields)
    for text in overrides:
        override(table, text)
    try:
        config = Config.from_table(table)
        if fixed := config.fixed_nodes:
            # What the base says of nodes is for the others; with fewer nodes than ranks the first rank runs it alone.
            config, ranks = config.fitted(fixed), min(ranks, fixed)
        if not config.run.nodes:
            raise UsageError("run.nodes", 0, "a number: in a suite it must not depend on the number of ranks")
        return Experiment(name, labels, config.resolve(ranks))
    except UsageError as error:
        field, value, allowed = error.args
        raise UsageError(f"{name}: {field}", value, allowed) from None
