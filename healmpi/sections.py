"""The sections of the configuration, put together from what is declared where it is implemented (catalogue.py).

0 means "choose for me" in `nodes`, `view_size`, `hub_count` and others that say so, because TOML has no null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from healmpi.catalogue import AUTO, AVERAGES, DATASETS, LEARNERS, MODELS, PARTITIONS, PRESETS, RULES, TOPOLOGIES
from healmpi.faults import plan
from healmpi.settings import Section, assemble, option

DEFAULT_DATASET = "mnist10k"


OWN = "a user's own, which `factory` names"


def _choices(catalogue: Mapping[str, Any], **more: str) -> dict[str, Any]:
    """What can be chosen, each in a few words. more: besides what is in the catalogue."""
    meanings = {name: getattr(one, "doc", None) or (one.__doc__ or "").splitlines()[0].rstrip(".") for name, one in catalogue.items()}
    return {"choices": (*meanings, *more), "meanings": meanings | more}


@dataclass(frozen=True, slots=True)
class RunSection(Section):
    """What is run, on how many nodes, for how long."""

    title: ClassVar[str] = "run"
    algorithm: str = option(
        "heal",
        "An algorithm: a topology with a rule.",
        **_choices(PRESETS, custom="topology.name and rule.name say which"),
    )
    nodes: int = option(0, "Participants. 0: one per MPI rank, but at least 8.", low=0, high=1_000_000)
    cycles: int = option(30, "Learning cycles, numbered from 1.", low=1, high=10_000_000)
    warmup_cycles: int = option(0, "Cycles in which only the overlay runs, before cycle 1 (numbered up to 0).", low=0, high=1_000_000)
    seed: int = option(1, "Seed of every random stream of the run.", low=0, high=2**63 - 1)


@dataclass(frozen=True, slots=True)
class DataOwn(Section):
    """Which data, and who holds which part of it."""

    title: ClassVar[str] = "data"
    dataset: str = option(
        AUTO,
        "The data set.",
        **_choices(DATASETS, custom=OWN, auto=f"{DEFAULT_DATASET}, or what `factory` names"),
    )
    factory: str = option("", "'module:Class' of a user's own data set, see docs/extending.md.")
    options: dict[str, Any] = option({}, "Options of a user's own data set.")
    partition: str = option(
        "iid",
        "How training samples are dealt to nodes.",
        **_choices(PARTITIONS),
    )


@dataclass(frozen=True, slots=True)
class ModelOwn(Section):
    """The network that is learnt."""

    title: ClassVar[str] = "model"
    name: str = option(
        AUTO,
        "The network.",
        **_choices(MODELS, custom=OWN, auto="what the data set usually goes with, or what `factory` names"),
    )
    factory: str = option(
        "", "'module:function' of a user's own model: called as function(input_shape, classes), it returns a torch.nn.Module."
    )
    options: dict[str, Any] = option({}, "Options of a user's own model: see docs/extending.md.")
    initial: str = option(
        "common", "'common': all nodes start from the same model; 'independent': each draws its own.", choices=("common", "independent")
    )


@dataclass(frozen=True, slots=True)
class LearnerOwn(Section):
    """How a node trains on its own shard."""

    title: ClassVar[str] = "learner"
    kind: str = option("serial", "How the nodes of a rank are trained.", **_choices(LEARNERS))


@dataclass(frozen=True, slots=True)
class TopologyOwn(Section):
    """Who knows whom (heal.md section 4)."""

    title: ClassVar[str] = "topology"
    name: str = option(
        AUTO,
        "The topology.",
        **_choices(TOPOLOGIES, custom=OWN, auto="what run.algorithm means, or what `factory` names"),
    )
    factory: str = option("", "'module:Class' of a user's own topology, see docs/extending.md.")
    options: dict[str, Any] = option({}, "Options of a user's own topology.")


@dataclass(frozen=True, slots=True)
class RuleOwn(Section):
    """The learning round: who trains, who averages what (heal.md sections 3 and 4)."""

    title: ClassVar[str] = "rule"
    name: str = option(
        AUTO,
        "The rule.",
        **_choices(RULES, custom=OWN, auto="what run.algorithm means, or what `factory` names"),
    )
    factory: str = option("", "'module:Class' of a user's own rule, see docs/extending.md.")
    options: dict[str, Any] = option({}, "Options of a user's own rule.")
    average: str = option("mean", f"How models are averaged: {', '.join(map(repr, AVERAGES))}, or 'module:Class' of a user's own.")
    average_options: dict[str, Any] = option({}, "Options of a user's own averaging rule.")


@dataclass(frozen=True, slots=True)
class EvaluationSection(Section):
    """When models are judged on the common test set."""

    title: ClassVar[str] = "evaluation"
    every: int = option(1, "Cycles between evaluations; the last cycle is always one. 0: never.", low=0)
    nodes: int = option(0, "Live nodes that are judged, drawn anew each time. 0: all of them.", low=0)


@dataclass(frozen=True, slots=True)
class ResultsSection(Section):
    """What is written, and how often."""

    title: ClassVar[str] = "results"
    views_every: int = option(1, "Cycles between recorded overlay views. 0: none.", low=0)
    flush_every: int = option(5, "Cycles between flushes of the part files: what a killed job loses at most.", low=1)
    save_models: bool = option(False, "Write every node's final model into the file.")
    audit: str = option("auto", "Serial recomputation of all averages: 'auto', on small runs; 'on'; 'off'.", choices=("auto", "on", "off"))
    wire_checks: bool = option(False, "A CRC-32 behind all that goes over MPI; what arrives otherwise makes the run INVALID.")


@dataclass(frozen=True, slots=True)
class LimitsSection(Section):
    """Wall-clock deadlines. They end a run that would hang; they never change its results."""

    title: ClassVar[str] = "limits"
    step_timeout_s: float = option(600.0, "Longest time a rank waits for the others to close a step, training included.", above=0.0)


def _settings(*catalogues: Mapping[str, Any]) -> list[type[Section]]:
    return [kind.Settings for catalogue in catalogues for kind in catalogue.values()]


def _sections() -> dict[str, type[Section]]:
    """The sections by title, in the order in which they are written: those above, with all that is declared for them."""
    declared = _settings(DATASETS, PARTITIONS, MODELS, LEARNERS, TOPOLOGIES, RULES, AVERAGES)
    owned: list[type[Section]] = [RunSection, DataOwn, ModelOwn, LearnerOwn, TopologyOwn, RuleOwn]
    found: dict[str, Any] = {kind.title: assemble(kind.title, kind.__doc__ or "", kind, declared) for kind in owned}
    # A topology may put options into a section of its own name.
    for name, topology in TOPOLOGIES.items():
        if topology.Settings.title == name:
            found[name] = assemble(name, topology.Settings.__doc__ or "", None, [topology.Settings])
    found["faults"] = plan.FaultsSection
    plain: tuple[type[Section], ...] = (EvaluationSection, ResultsSection, LimitsSection)
    return found | {kind.title: kind for kind in plain}


SECTIONS = _sections()
