"""The configuration of one run: plain frozen data, checked on creation.

A run is described by a TOML file with one table per section below, and by `--set section.field=value`, which wins over
the file. `Config.resolve` fills in what depends on the number of nodes, refuses impossible combinations and never
changes a value that was given. The rule that surprises: 0 means "choose for me" in `nodes`, `view_size`, `hub_count` and
others that say so, because TOML has no null.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from healmpi.presets import COMBINATIONS, CUSTOM, OVERLAYS, PRESETS, RULES, TOPOLOGIES, name_of

DEFAULT_NODES = 8
DEFAULT_VIEW_SIZE = 20
DEFAULT_HUB_COUNT = 5
DEFAULT_SERVERS = 5
DEFAULT_PEERS = 10
"""Peers that a node sends to in a cycle with the epidemic rule where its topology offers more than it can use."""
DEFAULT_ATTEMPTS = 3

NO_END = 2**31 - 1
"""Last cycle of a fault that goes on to the end of the run."""

CRASH_POINTS = ("start", "before_send", "after_send", "after_promise", "after_commit", "in_reduction")


class ConfigError(ValueError):
    """A bad configuration: names the field, the value and what is allowed."""

    def __init__(self, name: str, value: Any, allowed: str):
        super().__init__(name, value, allowed)

    def __str__(self) -> str:
        name, value, allowed = self.args
        return f"{name} = {value!r} is not allowed: {allowed}"


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A configuration field: its default, one sentence about it, and its limits (low, high, above, choices)."""
    metadata = {"doc": doc, **limits}
    if isinstance(default, (list, dict)):
        raise TypeError("defaults must be immutable")
    return field(default=default, metadata=metadata)


class _Section:
    """Checks every field of a frozen dataclass against its annotation and limits."""

    __slots__ = ()
    title: typing.ClassVar[str] = ""

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for item in fields(self):  # type: ignore[arg-type]
            name = f"{self.title}.{item.name}"
            value = _coerced(name, getattr(self, item.name), hints[item.name])
            _within(name, value, item.metadata)
            object.__setattr__(self, item.name, value)


def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _coerced(name: str, value: Any, hint: Any) -> Any:
    """The value as the annotated type; an int serves as a float, a list as a tuple, nothing else is converted."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise ConfigError(name, value, f"a list of {_type_name(inner)}")
        return tuple(_coerced(f"{name}[{i}]", one, inner) for i, one in enumerate(value))
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, dict):
            raise ConfigError(name, value, f"a table of {', '.join(_names(hint))}")
        return _from_table(hint, value, name)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(name, value, "a number of a size that a float can hold") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(name, value, f"{_type_name(hint)} is needed, this is {_type_name(type(value))}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(name, value, "a finite number is needed")
    return value


def _type_name(kind: Any) -> str:
    plain = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false (in small letters)",
        list: "a list",
        dict: "a table",
    }
    return plain.get(kind, getattr(kind, "__name__", str(kind)))


def _within(name: str, value: Any, limits: types.MappingProxyType) -> None:
    for one in value if isinstance(value, tuple) else (value,):
        if "choices" in limits and one not in limits["choices"]:
            raise ConfigError(name, one, "one of " + ", ".join(repr(c) for c in limits["choices"]))
        low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
        if (low is not None and one < low) or (high is not None and one > high) or (above is not None and one <= above):
            raise ConfigError(name, one, _range_text(low, high, above))


def _range_text(low: Any, high: Any, above: Any) -> str:
    parts = [
        f"at least {low}" if low is not None else "",
        f"more than {above}" if above is not None else "",
        f"at most {high}" if high is not None else "",
    ]
    return " and ".join(part for part in parts if part)


def _names(kind: type) -> list[str]:
    return [item.name for item in fields(kind)]  # type: ignore[arg-type]


def _from_table(kind: type, table: dict[str, Any], title: str) -> Any:
    for key in table:
        if key not in _names(kind):
            raise ConfigError(f"{title}.{key}" if title else key, table[key], f"unknown key; the known ones are {', '.join(_names(kind))}")
    return kind(**table)


@dataclass(frozen=True, slots=True)
class RunSection(_Section):
    """What is run, on how many nodes, for how long."""

    title: typing.ClassVar[str] = "run"
    algorithm: str = option(
        "heal",
        "A topology and a rule by name; 'elevator' is the overlay alone; 'custom': topology.name and rule.name say which.",
        choices=(*PRESETS, CUSTOM),
    )
    nodes: int = option(0, "Participants. 0: one per MPI rank, but at least 8.", low=0, high=1_000_000)
    cycles: int = option(30, "Learning cycles, numbered from 1.", low=1, high=10_000_000)
    warmup_cycles: int = option(0, "Cycles in which only the overlay runs, before cycle 1 (numbered up to 0).", low=0, high=1_000_000)
    seed: int = option(1, "Seed of every random stream of the run.", low=0, high=2**63 - 1)


@dataclass(frozen=True, slots=True)
class DataSection(_Section):
    """Which data, and who holds which part of it."""

    title: typing.ClassVar[str] = "data"
    dataset: str = option(
        "mnist10k",
        "'mnist10k' and 'spambase' are embedded; 'mnist' and 'fashion-mnist' are read from `folder`; 'synthetic' is drawn.",
        choices=("mnist10k", "spambase", "mnist", "fashion-mnist", "synthetic"),
    )
    folder: str = option(
        "", "Folder with the four idx or idx.gz files of 'mnist' or 'fashion-mnist'. Empty: the places where Debian puts them."
    )
    test_fraction: float = option(
        0.1, "Share of the samples held back as the common test set, where the data set has no test part of its own.", above=0.0, high=0.9
    )
    partition: str = option(
        "iid",
        "How training samples are dealt to nodes: 'iid', 'dirichlet' (label skew by `alpha`), "
        "'shards' (`shards_per_node` runs of sorted labels each).",
        choices=("iid", "dirichlet", "shards"),
    )
    alpha: float = option(0.5, "Concentration of the Dirichlet partition: small is skewed, large is even.", above=0.0, high=1e6)
    shards_per_node: int = option(2, "Label shards a node gets in the 'shards' partition.", low=1, high=1000)
    samples: int = option(2000, "Samples of the 'synthetic' data set, test part included.", low=4, high=100_000_000)
    features: int = option(20, "Features of a 'synthetic' sample.", low=1, high=1_000_000)
    classes: int = option(2, "Classes of the 'synthetic' data set.", low=2, high=10_000)
    noise: float = option(
        1.0,
        "Standard deviation of a 'synthetic' sample around the centre of its class; centres are drawn with deviation 1.",
        low=0.0,
        high=1e6,
    )


@dataclass(frozen=True, slots=True)
class ModelSection(_Section):
    """The network that is learnt."""

    title: typing.ClassVar[str] = "model"
    name: str = option(
        "auto",
        "'logistic', 'mlp', 'lenet5' (28 x 28 images), 'custom' with `factory`, "
        "or 'auto': lenet5 for images, logistic for spambase, mlp for synthetic.",
        choices=("auto", "logistic", "mlp", "lenet5", "custom"),
    )
    hidden: tuple[int, ...] = option((200, 200), "Widths of the hidden layers of 'mlp'.", low=1, high=1_000_000)
    factory: str = option(
        "", "'module:function' of a user's own model: called as function(input_shape, classes), it returns a torch.nn.Module."
    )
    initial: str = option(
        "common", "'common': all nodes start from the same model; 'independent': each draws its own.", choices=("common", "independent")
    )


@dataclass(frozen=True, slots=True)
class LearnerSection(_Section):
    """How a node trains on its own shard."""

    title: typing.ClassVar[str] = "learner"
    optimizer: str = option("adam", "'sgd' or 'adam'.", choices=("sgd", "adam"))
    learning_rate: float = option(0.001, "Step size.", above=0.0, high=1e3)
    momentum: float = option(0.0, "Momentum of 'sgd'.", low=0.0, high=0.9999)
    weight_decay: float = option(0.01, "L2 penalty, added to the gradient.", low=0.0, high=1e3)
    batch_size: int = option(32, "Samples in a step.", low=1, high=10_000_000)
    local_epochs: int = option(1, "Passes over the shard in a cycle (when `local_steps` is 0).", low=1, high=10_000)
    local_steps: int = option(0, "Steps in a cycle instead of whole passes; 0: use `local_epochs`.", low=0, high=10_000_000)
    optimizer_state: str = option(
        "keep", "'keep': momentum and Adam's moments stay with the node; 'fresh': new in each cycle.", choices=("keep", "fresh")
    )
    device: str = option("cpu", "'cpu', or 'cuda': a GPU for each rank.", choices=("cpu", "cuda"))
    threads: int = option(
        1,
        "torch threads per rank; 0: as many as cores it may run on. More than one may change the last bits of a result.",
        low=0,
        high=1024,
    )


@dataclass(frozen=True, slots=True)
class TopologySection(_Section):
    """Who knows whom (heal.md section 4)."""

    title: typing.ClassVar[str] = "topology"
    name: str = option("auto", "A topology; 'auto': what run.algorithm means.", choices=("auto", *TOPOLOGIES))
    view_size: int = option(
        0,
        "c: ids a node keeps in 'elevator' and 'newscast', or draws in a cycle in 'uniform'. 0: 20 (uniform: 10), or nodes - 1.",
        low=0,
        high=1_000_000,
    )
    degree: int = option(0, "Links of a node in 'random-regular'. 0: 10, or what the number of nodes allows.", low=0, high=100_000)
    rings: int = option(5, "L: virtual rings of 'fedlay'.", low=1, high=1000)
    servers: int = option(0, "Servers of 'multi-star'. 0: 5, or a quarter of the nodes where that is less.", low=0, high=100_000)
    fingers: int = option(0, "Fingers of a node in 'chord', at distances 1, 2, 4 ... 0: all below the number of nodes.", low=0, high=64)
    both_ways: bool = option(False, "'chord': whether a finger is a link for the node it points to as well.")
    sampling: str = option(
        "local",
        "'uniform': 'local', each node draws its peers (EL-Local); 'oracle', a draw in which all send and get equally much (EL-Oracle).",
        choices=("local", "oracle"),
    )


@dataclass(frozen=True, slots=True)
class ElevatorSection(_Section):
    """The overlay (heal.md section 2)."""

    title: typing.ClassVar[str] = "elevator"
    hub_count: int = option(0, "h: hubs wanted. 0: 5, or a quarter of the nodes where that is less.", low=0, high=1_000_000)
    backward_limit: int = option(100, "Ids in an answer to a backward request at most.", low=1, high=1_000_000)
    backward_age: int = option(
        5, "Cycles after which a peer that has not asked again is dropped from the backward list.", low=1, high=1_000_000
    )
    backward_contacts: str = option(
        "hubs", "Who is asked for backward lists: 'hubs', the h most frequent ids; 'view', the c most frequent.", choices=("hubs", "view")
    )


@dataclass(frozen=True, slots=True)
class RuleSection(_Section):
    """The learning round: who trains, who averages what (heal.md sections 3 and 4)."""

    title: typing.ClassVar[str] = "rule"
    name: str = option(
        "auto",
        "'central': hubs or servers average; 'gossip': merge, then train; 'epidemic': train, then average with peers; "
        "'none': nothing is learnt; 'auto': what run.algorithm means.",
        choices=("auto", *RULES),
    )
    fanout: int = option(
        0,
        "s: hubs or peers a node sends its model to. 0: 1 for 'central' and 'gossip'; for 'epidemic' 10 on newscast and elevator, "
        "else all peers, which stays 0.",
        low=0,
        high=1_000_000,
    )
    weighting: str = option(
        "hubs", "'hubs': each hub average counts once, as published; 'models': by the models behind it.", choices=("hubs", "models")
    )
    delta_ticks: int = option(1, "delta: ticks a hub waits for models after the overlay step.", low=1, high=10_000)
    group_attempts: int = option(
        0, "Attempts in a cycle to agree on a hub group and to average in it. 0: 3, or one a server where there are more.", low=0, high=100
    )
    merge: str = option(
        "plain",
        "'gossip': 'plain', all models count alike; 'age': by the number of trainings behind them, as in Gossip Learning.",
        choices=("plain", "age"),
    )


@dataclass(frozen=True, slots=True)
class FaultEvent(_Section):
    """One entry of the fault plan."""

    title: typing.ClassVar[str] = "faults.plan"
    kind: str = option(
        "crash",
        "'crash': fall silent for good; 'churn': leave and be replaced by a newcomer; 'loss': messages do not arrive.",
        choices=("crash", "churn", "loss"),
    )
    cycle: int = option(1, "Cycle of a crash, or the first cycle of churn or loss.", low=1)
    last_cycle: int = option(0, "Last cycle of churn or loss; 0: only `cycle`.", low=0)
    fraction: float = option(
        0.0, "Share of the live nodes that are hit (in each cycle, for churn), or of the messages that are lost.", low=0.0, high=1.0
    )
    nodes: tuple[int, ...] = option((), "Ids that are hit.", low=0)
    hubs: str = option("none", "Which of the current hubs or servers are hit: 'none', 'one', 'all'.", choices=("none", "one", "all"))
    best_connected: int = option(0, "How many of the live nodes that stand in most views are hit; ties go to the smaller id.", low=0)
    spare_hubs: bool = option(False, "Whether those that are hubs or servers at that time are not hit.")
    point: str = option("start", "Where inside the cycle a crash happens.", choices=CRASH_POINTS)

    def __post_init__(self) -> None:
        # Zero-argument super() does not work in a slotted dataclass: the decorator makes a second class.
        _Section.__post_init__(self)
        targets = [self.fraction > 0, bool(self.nodes), self.hubs != "none", self.best_connected > 0]
        if self.kind == "loss" and (self.fraction <= 0 or sum(targets) != 1 or self.spare_hubs):
            raise ConfigError("faults.plan", self.describe(), "loss hits a fraction of all messages, and nothing else")
        if sum(targets) != 1:
            raise ConfigError("faults.plan", self.describe(), "exactly one of fraction, nodes, hubs, best_connected says who is hit")
        if self.spare_hubs and self.hubs != "none":
            raise ConfigError("faults.plan.spare_hubs", True, "false where hubs says who is hit")
        if self.kind != "crash" and self.point != "start":
            raise ConfigError("faults.plan.point", self.point, f"{self.kind} happens from the start of a cycle on")
        if self.kind == "crash" and self.last_cycle:
            raise ConfigError("faults.plan.last_cycle", self.last_cycle, "only churn and loss have a last cycle")
        if self.last_cycle and self.last_cycle < self.cycle:
            raise ConfigError("faults.plan.last_cycle", self.last_cycle, f"at least the first cycle, {self.cycle}")

    def describe(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        return {item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) != item.default}


@dataclass(frozen=True, slots=True)
class FaultsSection(_Section):
    """What goes wrong, and when. The short fields make a crash, a churn and a loss; `plan` holds any number of each."""

    title: typing.ClassVar[str] = "faults"
    crash_cycle: int = option(10, "Cycle of the crash given by the three fields below.", low=1)
    crash_fraction: float = option(0.0, "Share of the live nodes that crash.", low=0.0, high=1.0)
    crash_nodes: tuple[int, ...] = option((), "Ids that crash.", low=0)
    crash_hubs: str = option("none", "Which of the current hubs or servers crash: 'none', 'one', 'all'.", choices=("none", "one", "all"))
    crash_best_connected: int = option(0, "How many of the nodes that stand in most views crash.", low=0)
    crash_point: str = option("start", "Where inside the cycle that crash happens.", choices=CRASH_POINTS)
    churn_fraction: float = option(0.0, "Share of the live nodes replaced in each cycle of the interval below.", low=0.0, high=1.0)
    churn_first_cycle: int = option(10, "First cycle of churn.", low=1)
    churn_last_cycle: int = option(20, "Last cycle of churn.", low=1)
    loss_fraction: float = option(0.0, "Share of the messages between nodes that do not arrive.", low=0.0, high=1.0)
    loss_first_cycle: int = option(1, "First cycle of loss.", low=1)
    loss_last_cycle: int = option(0, "Last cycle of loss; 0: to the end.", low=0)
    spare_hubs: bool = option(False, "Whether crash_fraction, crash_nodes and churn_fraction pass over the current hubs or servers.")
    newcomer_model: str = option(
        "random", "Model of a newcomer: 'random', a draw of its own; 'initial', what its slot started with.", choices=("random", "initial")
    )
    plan: tuple[FaultEvent, ...] = option((), "Further events: a list of tables, see FaultEvent.")

    def events(self) -> tuple[FaultEvent, ...]:
        """The whole plan: the short fields' events first, then `plan`."""
        crash = {"kind": "crash", "cycle": self.crash_cycle, "point": self.crash_point}
        found = []
        if self.crash_fraction > 0:
            found.append(FaultEvent(**crash, fraction=self.crash_fraction, spare_hubs=self.spare_hubs))
        if self.crash_nodes:
            found.append(FaultEvent(**crash, nodes=self.crash_nodes, spare_hubs=self.spare_hubs))
        if self.crash_hubs != "none":
            found.append(FaultEvent(**crash, hubs=self.crash_hubs))
        if self.crash_best_connected:
            found.append(FaultEvent(**crash, best_connected=self.crash_best_connected))
        if self.churn_fraction > 0:
            churn = {"kind": "churn", "cycle": self.churn_first_cycle, "last_cycle": self.churn_last_cycle}
            found.append(FaultEvent(**churn, fraction=self.churn_fraction, spare_hubs=self.spare_hubs))
        if self.loss_fraction > 0:
            loss = {"kind": "loss", "cycle": self.loss_first_cycle, "last_cycle": self.loss_last_cycle or NO_END}
            found.append(FaultEvent(**loss, fraction=self.loss_fraction))
        return tuple(found) + self.plan


@dataclass(frozen=True, slots=True)
class EvaluationSection(_Section):
    """When models are judged on the common test set."""

    title: typing.ClassVar[str] = "evaluation"
    every: int = option(1, "Cycles between evaluations; the last cycle is always one. 0: never.", low=0)
    nodes: int = option(0, "Live nodes that are judged, drawn anew each time. 0: all of them.", low=0)


@dataclass(frozen=True, slots=True)
class ResultsSection(_Section):
    """What is written, and how often."""

    title: typing.ClassVar[str] = "results"
    views_every: int = option(1, "Cycles between recorded overlay views. 0: none.", low=0)
    flush_every: int = option(5, "Cycles between flushes of the part files: what a killed job loses at most.", low=1)
    save_models: bool = option(False, "Write every node's final model into the file.")
    audit: str = option("auto", "Serial recomputation of all averages: 'auto', on small runs; 'on'; 'off'.", choices=("auto", "on", "off"))


@dataclass(frozen=True, slots=True)
class LimitsSection(_Section):
    """Wall-clock deadlines. They end a run that would hang; they never change its results."""

    title: typing.ClassVar[str] = "limits"
    step_timeout_s: float = option(600.0, "Longest time a rank waits for the others to close a step, training included.", above=0.0)


AUTO_MODELS = {"mnist10k": "lenet5", "mnist": "lenet5", "fashion-mnist": "lenet5", "spambase": "logistic", "synthetic": "mlp"}

_SECTIONS: dict[str, type] = {
    "run": RunSection, "data": DataSection, "model": ModelSection, "learner": LearnerSection, "topology": TopologySection,
    "rule": RuleSection, "elevator": ElevatorSection, "faults": FaultsSection, "evaluation": EvaluationSection,
    "results": ResultsSection, "limits": LimitsSection,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `resolve` makes it definite for a number of ranks."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    learner: LearnerSection = LearnerSection()
    topology: TopologySection = TopologySection()
    rule: RuleSection = RuleSection()
    elevator: ElevatorSection = ElevatorSection()
    faults: FaultsSection = FaultsSection()
    evaluation: EvaluationSection = EvaluationSection()
    results: ResultsSection = ResultsSection()
    limits: LimitsSection = LimitsSection()

    @staticmethod
    def from_table(table: dict[str, Any]) -> Config:
        """A configuration from nested tables, as TOML gives them. Raises ConfigError."""
        sections = {}
        for key, value in table.items():
            if key not in _SECTIONS:
                raise ConfigError(key, value, f"unknown section; the known ones are {', '.join(_SECTIONS)}")
            if not isinstance(value, dict):
                raise ConfigError(key, value, f"a table of {', '.join(_names(_SECTIONS[key]))}")
            sections[key] = _from_table(_SECTIONS[key], value, key)
        return Config(**sections)

    @staticmethod
    def load(path: str | None, overrides: typing.Sequence[str] = ()) -> Config:
        """The file's configuration with `section.field=value` overrides applied. Raises ConfigError."""
        table: dict[str, Any] = {}
        if path is not None:
            try:
                table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            except OSError as error:
                raise ConfigError("FILE", path, f"it cannot be read ({error.strerror})") from None
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigError("FILE", path, f"it is not valid TOML ({error})") from None
        for text in overrides:
            override(table, text)
        return Config.from_table(table)

    def resolve(self, ranks: int = 1) -> Config:
        """The same configuration with every 0 that means "choose for me" replaced, and all combinations checked.

        ranks: number of MPI processes. Raises ConfigError. Checks that need the data set are in `learning.partition`.
        """
        nodes = self.run.nodes or max(ranks, DEFAULT_NODES)
        if nodes < 2:
            raise ConfigError("run.nodes", nodes, "at least 2 (0: one per rank, at least 8)")
        if ranks > nodes:
            raise ConfigError("run.nodes", nodes, f"at least one node a rank; this job has {ranks} ranks")
        name = AUTO_MODELS[self.data.dataset] if self.model.name == "auto" else self.model.name
        topology = self._topology(nodes)
        most = topology.view_size if topology.name == "elevator" else nodes - 1
        hub_count = self.elevator.hub_count or min(DEFAULT_HUB_COUNT, max(1, nodes // 4), most)
        resolved = dataclasses.replace(
            self,
            model=dataclasses.replace(self.model, name=name),
            run=dataclasses.replace(self.run, nodes=nodes),
            topology=topology,
            rule=self._rule(topology),
            elevator=dataclasses.replace(self.elevator, hub_count=hub_count),
        )
        resolved._check_combinations()
        return resolved

    def _topology(self, nodes: int) -> TopologySection:
        """The topology that is meant, with the sizes it needs."""
        section = self.topology
        name = self._meant("topology", section.name)
        usual = DEFAULT_PEERS if name == "uniform" else DEFAULT_VIEW_SIZE
        view_size = section.view_size or min(usual, nodes - 1)
        degree = section.degree or _even_product(min(DEFAULT_PEERS, nodes - 1), nodes)
        servers = section.servers or min(DEFAULT_SERVERS, max(2, nodes // 4))
        return dataclasses.replace(section, name=name, view_size=view_size, degree=degree, servers=servers)

    def _rule(self, topology: TopologySection) -> RuleSection:
        """The rule that is meant, with the numbers that follow from the topology."""
        section = self.rule
        name = self._meant("rule", section.name)
        allowed = COMBINATIONS[name]
        if topology.name not in allowed:
            raise ConfigError("topology.name", topology.name, f"one of {', '.join(allowed)} with rule.name = {name!r}")
        fanout = section.fanout
        if not fanout and name != "epidemic":
            fanout = 1
        elif not fanout and topology.name in OVERLAYS:
            fanout = min(DEFAULT_PEERS, topology.view_size)
        servers = topology.servers if topology.name == "multi-star" else 0
        attempts = section.group_attempts or min(100, max(DEFAULT_ATTEMPTS, servers))
        return dataclasses.replace(section, name=name, fanout=fanout, group_attempts=attempts)

    def _meant(self, section: str, given: str) -> str:
        """The name of the topology or rule: what the algorithm says, or what the section says where the algorithm is 'custom'."""
        algorithm = self.run.algorithm
        if algorithm == CUSTOM:
            if given == "auto":
                names = TOPOLOGIES if section == "topology" else RULES
                raise ConfigError(f"{section}.name", given, f"one of {', '.join(names)} with run.algorithm = {CUSTOM!r}")
            return given
        meant = getattr(PRESETS[algorithm], section)
        if given not in ("auto", meant):
            other = f"for another combination set run.algorithm = {CUSTOM!r} and both names"
            raise ConfigError(f"{section}.name", given, f"{meant!r} or 'auto' with run.algorithm = {algorithm!r}; {other}")
        return meant

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn, or the overlay runs alone."""
        return self.rule.name != "none"

    @property
    def hubs_wanted(self) -> int:
        """Hubs or servers that there should be; 0 where all nodes are alike."""
        return {"star": 1, "multi-star": self.topology.servers, "elevator": self.elevator.hub_count}.get(self.topology.name, 0)

    @property
    def title(self) -> str:
        """The algorithm's name, or its topology and rule."""
        return self.run.algorithm if self.run.algorithm != CUSTOM else name_of(self.topology.name, self.rule.name)

    def _check_combinations(self) -> None:
        nodes, topology, elevator = self.run.nodes, self.topology, self.elevator
        if topology.view_size >= nodes:
            raise ConfigError("topology.view_size", topology.view_size, f"less than run.nodes, {nodes}")
        if topology.name == "elevator":
            if nodes < 3:
                raise ConfigError("run.nodes", nodes, "at least 3 with Elevator: of two nodes each sees itself a hub, and none is a client")
            if elevator.hub_count > nodes - 1:
                raise ConfigError("elevator.hub_count", elevator.hub_count, f"at most run.nodes - 1, {nodes - 1}")
            if elevator.hub_count > topology.view_size:
                raise ConfigError("elevator.hub_count", elevator.hub_count, f"at most topology.view_size, {topology.view_size}")
        self._check_topology()
        self._check_fanout()
        self._check_model()
        self._check_faults()
        if self.evaluation.nodes > nodes:
            raise ConfigError("evaluation.nodes", self.evaluation.nodes, f"at most run.nodes, {nodes} (0: all)")

    def _check_topology(self) -> None:
        nodes, topology = self.run.nodes, self.topology
        if topology.name == "multi-star" and not 2 <= topology.servers <= nodes // 2:
            if nodes < 4:
                raise ConfigError("run.nodes", nodes, "at least 4 with several servers: a worker for each")
            raise ConfigError("topology.servers", topology.servers, f"2 to {nodes // 2}: a worker for each server, with {nodes} nodes")
        if topology.name == "random-regular" and (topology.degree >= nodes or topology.degree * nodes % 2):
            allowed = f"less than run.nodes, {nodes}, and an even number of link ends, degree * nodes"
            raise ConfigError("topology.degree", topology.degree, allowed)
        if topology.name == "chord" and 2 ** (topology.fingers - 1) >= nodes:
            raise ConfigError(
                "topology.fingers", topology.fingers, f"at most {(nodes - 1).bit_length()}: the last one is within {nodes} nodes"
            )

    def _check_fanout(self) -> None:
        fanout, topology = self.rule.fanout, self.topology
        most = {
            "star": (1, "1: there is one server"), "multi-star": (1, "1: a worker has one server"),
            "newscast": (topology.view_size, f"at most topology.view_size, {topology.view_size}"),
            "uniform": (topology.view_size, f"at most topology.view_size, {topology.view_size}"),
        }  # fmt: skip
        if topology.name == "elevator":
            hubs = self.elevator.hub_count
            most["elevator"] = (
                (hubs, f"at most elevator.hub_count, {hubs}") if self.rule.name == "central" else (topology.view_size, "at most c")
            )
        if topology.name in most and fanout > most[topology.name][0]:
            raise ConfigError("rule.fanout", fanout, most[topology.name][1])

    def _check_model(self) -> None:
        if self.model.name == "custom" and ":" not in self.model.factory:
            raise ConfigError("model.factory", self.model.factory, "'module:function' when model.name is 'custom'")
        if self.model.name != "custom" and self.model.factory:
            raise ConfigError("model.factory", self.model.factory, "empty unless model.name is 'custom'")
        if self.model.name == "lenet5" and self.data.dataset in ("spambase", "synthetic"):
            raise ConfigError(
                "model.name",
                "lenet5",
                f"'logistic', 'mlp' or 'custom' with data.dataset = {self.data.dataset!r}: lenet5 needs 28 x 28 images",
            )
        if self.learner.momentum and self.learner.optimizer != "sgd":
            raise ConfigError("learner.momentum", self.learner.momentum, "0 unless learner.optimizer is 'sgd'")

    def _check_faults(self) -> None:
        if self.faults.loss_last_cycle and self.faults.loss_last_cycle < self.faults.loss_first_cycle:
            allowed = f"0 or at least faults.loss_first_cycle, {self.faults.loss_first_cycle}"
            raise ConfigError("faults.loss_last_cycle", self.faults.loss_last_cycle, allowed)
        if self.faults.churn_fraction > 0 and self.faults.churn_last_cycle < self.faults.churn_first_cycle:
            raise ConfigError(
                "faults.churn_last_cycle",
                self.faults.churn_last_cycle,
                f"at least faults.churn_first_cycle, {self.faults.churn_first_cycle}",
            )
        short = len(self.faults.events()) - len(self.faults.plan)
        for index, event in enumerate(self.faults.events()):
            # The short fields come first; a name that the user has written leads him to the place.
            where = f"faults.plan[{index - short}]." if index >= short else f"faults.{event.kind}_"
            for node in event.nodes:
                if node >= self.run.nodes:
                    raise ConfigError(f"{where}nodes", node, f"a node id: 0 to {self.run.nodes - 1}")
            if event.best_connected > self.run.nodes:
                raise ConfigError(f"{where}best_connected", event.best_connected, f"at most run.nodes, {self.run.nodes}")
            if event.cycle > self.run.cycles:
                first = "first_cycle" if event.kind != "crash" and index < short else "cycle"
                raise ConfigError(f"{where}{first}", event.cycle, f"at most run.cycles, {self.run.cycles}")
        ticks_in_a_cycle = 8 + self.rule.delta_ticks + 5 * self.rule.group_attempts
        if (self.run.cycles + self.run.warmup_cycles) * ticks_in_a_cycle >= 2**31:
            raise ConfigError("run.cycles", self.run.cycles, f"a run of less than 2^31 ticks; a cycle has up to {ticks_in_a_cycle}")

    def to_table(self) -> dict[str, Any]:
        """Nested plain dictionaries, as JSON and TOML take them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no white space."""
        return json.dumps(self.to_table(), sort_keys=True, separators=(",", ":"))

    def hash(self) -> str:
        """16 hexadecimal digits that name this configuration."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def _even_product(degree: int, nodes: int) -> int:
    """The degree, or one less where a graph of so many nodes of that degree does not exist."""
    return degree - 1 if degree * nodes % 2 else degree


def override(table: dict[str, Any], text: str) -> None:
    """Put `section.field=value` into the table; the value is TOML, or a bare word, which is a text. Raises ConfigError."""
    path, equals, raw = text.partition("=")
    section, dot, name = path.strip().partition(".")
    if not equals or not dot or not name:
        raise ConfigError("--set", text, "section.field=value, for example faults.crash_fraction=0.2")
    try:
        read = tomllib.loads(f"value = {raw}")
        if list(read) != ["value"]:
            raise ConfigError("--set", text, "one field in each --set")
        value = read["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    inner = table.setdefault(section, {})
    if not isinstance(inner, dict):
        raise ConfigError(section, inner, "a table")
    inner[name] = value


def to_toml(config: Config) -> str:
    """The configuration as a TOML file that `Config.load` reads back to the same value, each field explained."""
    lines = []
    for title, kind in _SECTIONS.items():
        section = getattr(config, title)
        lines += [f"# {(kind.__doc__ or '').strip().splitlines()[0]}", f"[{title}]"]
        for item in fields(kind):
            lines.append(f"{item.name} = {_toml_value(getattr(section, item.name))}  # {item.metadata['doc']}")
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, FaultEvent):
        return "{" + ", ".join(f"{name} = {_toml_value(one)}" for name, one in value.describe().items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)
