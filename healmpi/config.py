"""The configuration of one run: plain frozen data, checked on creation.

A run is described by a TOML file with one table per section below, and by `--set section.field=value`, which wins over
the file. `Config.resolve` fills in what depends on the number of nodes, refuses impossible combinations and never changes a value
that was given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from healmpi.algorithms.averaging import Average
from healmpi.catalogue import (
    AUTO,
    AVERAGES,
    CUSTOM,
    DATASETS,
    LEARNERS,
    MODELS,
    PARTITIONS,
    PRESETS,
    RULES,
    TOPOLOGIES,
    Choice,
    Chosen,
    name_of,
    naming_options,
    no_options,
    own,
    own_model,
    settings_table,
)
from healmpi.faults import plan
from healmpi.learning.data import Data, path_of
from healmpi.messages import Kind
from healmpi.node import Rule
from healmpi.overlay.topology import Topology
from healmpi.sections import DEFAULT_DATASET, SECTIONS
from healmpi.settings import Section, UsageError, from_table, full_name, override, pick, put_back, read_toml, table_of, toml_lines

DEFAULT_NODES = 8

Value = TypeVar("Value")


def hash_of(text: str) -> str:
    """16 hexadecimal digits that name the configuration of which this is the canonical JSON, of any version."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Config:
    """A whole configuration. Each section is an attribute: `config.run.nodes`. `resolve` makes it definite for a number of ranks.

    chosen: of a resolved configuration, what its names mean.
    """

    sections: dict[str, Any] = field(default_factory=lambda: {title: kind() for title, kind in SECTIONS.items()})
    _chosen: Chosen | None = field(default=None, compare=False, repr=False)

    def __getattr__(self, title: str) -> Any:
        try:
            return self.__dict__["sections"][title]
        except KeyError:
            raise AttributeError(title) from None

    @property
    def chosen(self) -> Chosen:
        """What its names mean."""
        assert self._chosen is not None, "the configuration is not resolved"
        return self._chosen

    @staticmethod
    def from_table(table: Mapping[str, Any]) -> Config:
        """A configuration from nested tables, as TOML gives them. Raises UsageError."""
        sections = {title: kind() for title, kind in SECTIONS.items()}
        for key, value in table.items():
            if key not in SECTIONS:
                raise UsageError(key, value, f"unknown section; the known ones are {', '.join(SECTIONS)}")
            if not isinstance(value, dict):
                known = ", ".join(item.name for item in dataclasses.fields(SECTIONS[key]))
                raise UsageError(key, value, f"a table of {known}")
            sections[key] = from_table(SECTIONS[key], value, key)
        return Config(sections)

    @staticmethod
    def load(path: str | None, overrides: Sequence[str] = ()) -> Config:
        """The file's configuration with `section.field=value` overrides applied. Raises UsageError."""
        table = read_toml("FILE", path_of(path)) if path is not None else {}
        for text in overrides:
            override(table, text)
        return Config.from_table(table)

    def resolve(self, ranks: int = 1) -> Config:
        """The same configuration with every 0 that means "choose for me" replaced, and all combinations checked.

        ranks: number of MPI processes. Raises UsageError. Checks that need the data set are in `learning.partition`.
        """
        return _Resolution(self.sections, ranks).resolve()

    @property
    def fixed_nodes(self) -> int:
        """How many nodes its topology is made for; 0: any number. It need not be resolved. Raises UsageError."""
        return int(_Resolution(self.sections, 1).topology_choice().chosen.fixed_nodes)

    def fitted(self, nodes: int) -> Config:
        """The same for so many nodes, whatever was asked for: the base of a suite speaks to all its algorithms."""
        run, evaluation = self.run, self.evaluation
        evaluation = dataclasses.replace(evaluation, nodes=min(evaluation.nodes, nodes))
        return Config(self.sections | {"run": dataclasses.replace(run, nodes=nodes), "evaluation": evaluation})

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn, or the overlay runs alone."""
        return self.chosen.rule.learns

    @property
    def hubs_wanted(self) -> int:
        """Hubs or servers that there should be; 0 where all nodes are alike."""
        return self.chosen.topology.hubs_wanted

    @property
    def title(self) -> str:
        """The algorithm's name, or its topology and rule."""
        if self.run.algorithm != CUSTOM:
            return self.run.algorithm
        return name_of(*(self.chosen.choices[what].label for what in ("topology", "rule")))

    def fault_events(self) -> tuple[Any, ...]:
        """The entries of the fault plan."""
        return plan.events_of(self.faults)

    def to_table(self) -> dict[str, Any]:
        """Nested plain dictionaries, as JSON and TOML take them."""
        return table_of(self.sections)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no white space."""
        return json.dumps(self.to_table(), sort_keys=True, separators=(",", ":"))

    def hash(self) -> str:
        """16 hexadecimal digits that name this configuration."""
        return hash_of(self.to_json())

    def identity(self) -> tuple[str, dict[str, str]]:
        """What two runs of the same have in common: the hash, and the SHA-256 of the files of what is a user's own."""
        return self.hash(), self.chosen.source_digests()

    def to_toml(self) -> str:
        """A TOML file that `Config.load` reads back to the same value, each field explained."""
        lines = []
        for title, section in self.sections.items():
            lines += toml_lines(section, title, self._own_settings(title))
        return "\n".join(lines)

    def _own_settings(self, title: str) -> dict[str, Section]:
        """The settings of a user's own that stand in tables of this section."""
        if self._chosen is None:
            return {}
        places = {"average": ("rule", "average_options")}
        found = {}
        for what, choice in self._chosen.choices.items():
            section, name = places.get(what, (what, "options"))
            if choice.own and section == title and settings_table(choice.settings):
                found[name] = choice.settings
        return found


class _Resolution:
    """Makes a configuration definite, section by section. sections: a copy is changed."""

    def __init__(self, sections: Mapping[str, Any], ranks: int):
        self._sections, self._ranks = dict(sections), ranks
        self._choices: dict[str, Choice] = {}

    def resolve(self) -> Config:
        choice = self.topology_choice()
        nodes = self._nodes(choice)
        self._set("run", nodes=nodes)
        topology = self._topology(choice, nodes)
        rule, rule_settings = self._rule(topology)
        average = self._average()
        self._set_algorithm()
        data = self._data()
        model, partition, learner = self._model(data), self._partition(), self._learner()
        chosen = Chosen(topology, rule, rule_settings, average, data, partition, model, learner, self._choices)
        self._check(nodes, chosen)
        return Config(self._sections, chosen)

    def _set(self, title: str, **values: Any) -> None:
        self._sections[title] = dataclasses.replace(self._sections[title], **values)

    def _nodes(self, topology: Choice) -> int:
        given, fixed = self._sections["run"].nodes, topology.chosen.fixed_nodes
        if fixed and given not in (0, fixed):
            raise UsageError("run.nodes", given, f"{fixed}, or 0, which means it, with the topology {topology.label!r}")
        nodes = fixed or given or max(self._ranks, DEFAULT_NODES)
        if nodes < 2 and not fixed:
            raise UsageError("run.nodes", nodes, "at least 2 (0: one per rank, at least 8)")
        if self._ranks > nodes:
            raise UsageError("run.nodes", nodes, f"at least one node a rank; this job has {self._ranks} ranks")
        return nodes

    # A choice.

    def _choose(self, what: str, catalogue: Mapping[str, Any], base: type | None, name: str, field_name: str = "name") -> Choice:
        """What a section names: a user's own, else the shipped one of that name. what: the section."""
        section = self._sections[what]
        if section.factory:
            if getattr(section, field_name) not in (AUTO, CUSTOM):
                raise UsageError(f"{what}.factory", section.factory, f"empty unless {what}.{field_name} is 'auto' or 'custom'")
            choice = own(f"{what}.factory", section.factory, base, section.options, f"{what}.options")
            self._check_not_elsewhere(what, choice)
            return choice
        if name == CUSTOM:
            raise UsageError(f"{what}.factory", "", f"'module:Name' when {what}.{field_name} is 'custom'")
        no_options(f"{what}.options", section.options, f"{what}.factory")
        kind = catalogue[name]
        return Choice(name, kind, pick(kind.Settings, self._sections), False)

    def _check_not_elsewhere(self, what: str, choice: Choice) -> None:
        """Raise UsageError where an option of a user's own is given in the place of the shipped option of that name."""
        kind = type(choice.settings)
        for item in dataclasses.fields(kind):
            title = full_name(kind, item).rpartition(".")[0]
            value = getattr(self._sections.get(title), item.name, item.default)
            if value != item.default:
                allowed = f"{item.default!r}: {choice.label} is your own, its options stand in {what}.options"
                raise UsageError(f"{title}.{item.name}", value, allowed)

    def _asked(self, what: str, choice: Choice, call: str, work: Callable[[], Value]) -> Value:
        """What a choice says when it is asked; whatever goes wrong in a user's own is a UsageError. call: what is called, for that."""
        if not choice.own:
            return work()
        try:
            with naming_options(type(choice.settings), f"{what}.options"):
                return work()
        except UsageError:
            raise
        except Exception as error:
            allowed = f"its {call} must not fail ({type(error).__name__}: {error})"
            raise UsageError(f"{what}.factory", choice.label, allowed) from error

    def _resolved(self, what: str, choice: Choice, work: Callable[[], Any]) -> Any:
        """The settings that `resolve` gives."""
        settings = self._asked(what, choice, "resolve", work)
        if type(settings) is not type(choice.settings):
            allowed = f"its resolve must return its Settings, not {type(settings).__name__}"
            raise UsageError(f"{what}.factory", choice.label, allowed)
        return settings

    def _check_kinds(self, what: str, choice: Choice) -> None:
        kinds = choice.chosen.kinds
        if not (isinstance(kinds, tuple) and all(isinstance(kind, Kind) for kind in kinds)):
            raise UsageError(f"{what}.factory", choice.label, "its `kinds` must be a tuple of healmpi.messages.kind(...)")

    def _settle(self, what: str, choice: Choice, settings: Any, field_name: str = "name") -> None:
        """Put a resolved choice into its sections."""
        self._choices[what] = dataclasses.replace(choice, settings=settings)
        if choice.own:
            self._set(what, options=settings_table(settings))
        else:
            put_back(settings, self._sections)
        self._set(what, **{field_name: CUSTOM if choice.own else choice.label})

    def _meant(self, what: str, names: Sequence[str]) -> str:
        """The name of the topology or rule: what the algorithm says, or what the section says where the algorithm is 'custom'."""
        algorithm, section = self._sections["run"].algorithm, self._sections[what]
        if section.factory:
            return CUSTOM
        if algorithm == CUSTOM:
            if section.name == AUTO:
                raise UsageError(f"{what}.name", section.name, f"one of {', '.join(names)} with run.algorithm = {CUSTOM!r}")
            return section.name
        meant = getattr(PRESETS[algorithm], what)
        # With a user's own the algorithm is not the one of that name any more, and the other half can be anything.
        if self._sections["rule" if what == "topology" else "topology"].factory and section.name != AUTO:
            return section.name
        if section.name not in (AUTO, meant):
            other = f"for another combination set run.algorithm = {CUSTOM!r} and both names"
            raise UsageError(f"{what}.name", section.name, f"{meant!r} or 'auto' with run.algorithm = {algorithm!r}; {other}")
        return meant

    # What is chosen.

    def topology_choice(self) -> Choice:
        """Which topology is meant, before it is known for how many nodes."""
        choice = self._choose("topology", TOPOLOGIES, Topology, self._meant("topology", list(TOPOLOGIES)))
        self._check_kinds("topology", choice)
        fixed = choice.chosen.fixed_nodes
        if type(fixed) is not int or fixed < 0:
            raise UsageError("topology.factory", choice.label, f"its `fixed_nodes` must be a whole number from 0 on, not {fixed!r}")
        return choice

    def _topology(self, choice: Choice, nodes: int) -> Topology:
        settings = self._resolved("topology", choice, lambda: choice.chosen.resolve(choice.settings, nodes))
        self._settle("topology", choice, settings)
        seed = self._sections["run"].seed
        made = f"{choice.chosen.__name__}(settings, nodes, seed)"
        return self._asked("topology", choice, made, lambda: choice.chosen(settings, nodes, seed))

    def _rule(self, topology: Topology) -> tuple[type[Rule], Any]:
        choice = self._choose("rule", RULES, Rule, self._meant("rule", list(RULES)))
        rule, named = choice.chosen, self._choices["topology"].label
        if rule.needs not in topology.serves:
            allowed = ", ".join(name for name, one in TOPOLOGIES.items() if rule.needs in one.serves)
            fitting = ", ".join(name for name, one in RULES.items() if one.needs in topology.serves)
            field_name = "topology.factory" if self._choices["topology"].own else "topology.name"
            needed = f"one of {allowed} with rule.name = {choice.label!r}, which needs {rule.needs}"
            raise UsageError(field_name, named, f"{needed}; for this topology set rule.name to one of {fitting}")
        self._check_kinds("rule", choice)
        settings = self._resolved("rule", choice, lambda: rule.resolve(choice.settings, topology))
        self._asked("rule", choice, "check_learner", lambda: rule.check_learner(settings, self._learner().plain_rate()))
        self._asked("rule", choice, "round_ticks", lambda: rule.round_ticks(settings))
        self._settle("rule", choice, settings)
        return rule, settings

    def _average(self) -> Average:
        section = self._sections["rule"]
        if ":" in section.average:
            choice = own("rule.average", section.average, Average, section.average_options, "rule.average_options")
            self._set("rule", average_options=settings_table(choice.settings))
        elif section.average in AVERAGES:
            no_options("rule.average_options", section.average_options, "rule.average")
            kind = AVERAGES[section.average]
            choice = Choice(section.average, kind, pick(kind.Settings, self._sections), False)
        else:
            raise UsageError("rule.average", section.average, f"one of {', '.join(AVERAGES)}, or 'module:Class' of your own")
        self._choices["average"] = choice
        try:
            return choice.chosen(choice.settings)
        except Exception as error:
            allowed = f"{choice.chosen.__name__}(settings) must not fail ({type(error).__name__}: {error})"
            raise UsageError("rule.average", choice.label, allowed) from error

    def _set_algorithm(self) -> None:
        """An algorithm with a part that is a user's own is not the one of that name any more."""
        if self._choices["topology"].own or self._choices["rule"].own:
            self._set("run", algorithm=CUSTOM)

    def _data(self) -> Data:
        name = self._sections["data"].dataset
        choice = self._choose("data", DATASETS, Data, DEFAULT_DATASET if name == AUTO else name, "dataset")
        self._settle("data", choice, choice.settings, "dataset")
        return self._asked("data", choice, f"{choice.chosen.__name__}(settings)", lambda: choice.chosen(choice.settings))

    def _model(self, data: Data) -> Any:
        name = self._sections["model"].name
        if name == AUTO and data.model not in MODELS:
            allowed = f"a data set whose `model` is one of {', '.join(MODELS)}; its is {data.model!r}"
            raise UsageError("data.factory", self._choices["data"].label, allowed)
        choice = self._choose("model", MODELS, None, data.model if name == AUTO else name)
        self._settle("model", choice, choice.settings)
        if choice.own:
            return own_model(choice)
        # What samples a user's own data set has is seen when it is loaded.
        if choice.chosen.needs_images and not data.images and not self._choices["data"].own:
            others = ", ".join(repr(one) for one, kind in MODELS.items() if not kind.needs_images)
            dataset = self._choices["data"].label
            raise UsageError(
                "model.name", choice.label, f"{others} or 'custom' with data.dataset = {dataset!r}: {choice.label} needs 28 x 28 images"
            )
        return choice.chosen(choice.settings)

    def _partition(self) -> Any:
        kind = PARTITIONS[self._sections["data"].partition]
        return kind(pick(kind.Settings, self._sections))

    def _learner(self) -> Any:
        kind = LEARNERS[self._sections["learner"].kind]
        settings = pick(kind.Settings, self._sections)
        kind.check(settings)
        return kind(settings)

    # All of it together.

    def _check(self, nodes: int, chosen: Chosen) -> None:
        run, evaluation = self._sections["run"], self._sections["evaluation"]
        plan.check(self._sections["faults"], plan.ANY_NUMBER if chosen.topology.spared else nodes, run.cycles)
        ticks = chosen.overlay_ticks + 1 + chosen.round_ticks
        if (run.cycles + run.warmup_cycles) * ticks >= 2**31:
            raise UsageError("run.cycles", run.cycles, f"a run of less than 2^31 ticks; a cycle has up to {ticks}")
        if evaluation.nodes > nodes:
            raise UsageError("evaluation.nodes", evaluation.nodes, f"at most run.nodes, {nodes} (0: all)")
