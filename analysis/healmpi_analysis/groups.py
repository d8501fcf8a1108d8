"""Runs that differ only in their seed and their number of ranks are one group, named by what sets it apart from the others.

    group_records(records) -> groups        by_ranks(group) -> the same, apart by number of ranks, for whatever takes time

The rule that surprises: a difference is in the name only if the rest of the name does not tell it already. So `ring` is
called 'ring' and not 'ring topology.name=ring', although both fields differ. A partition that skews is said all the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from healmpi_analysis.records import Record
from healmpi_analysis.scenario import FAULT_FREE, scenario_labels

IGNORED = ("run.seed",)
"""Fields of the configuration that do not set groups apart."""

HOW_IT_IS_RECORDED = ("evaluation.", "results.", "limits.")
"""Beginnings of fields that say how a run is recorded or limited, and nothing of what is run."""

PARTITION, PLAIN_PARTITION = "data.partition", "iid"
"""Where partitions differ, one that is not plain is in the name, though another field may tell: a reader asks for it first."""


@dataclass(frozen=True)
class Group:
    """label: unique among its groups. variant: the same without the scenario. runs: at least one, by seed and ranks."""

    label: str
    variant: str
    scenario: str
    config: dict
    runs: tuple[Record, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({run.facts.ranks for run in self.runs}))

    @property
    def one_of_each_seed(self) -> tuple[Record, ...]:
        """The results do not depend on the number of ranks, so a seed counts once: the run with the most cycles."""
        best: dict[int, Record] = {}
        for run in self.runs:
            if run.seed not in best or len(run.cycles) > len(best[run.seed].cycles):
                best[run.seed] = run
        return tuple(best[seed] for seed in sorted(best))


def group_key(record: Record) -> tuple:
    """What all runs of a group have in common; of runs without faults the fault section does not count."""
    unimportant = ("faults.",) if record.scenario == FAULT_FREE else ()
    return tuple(
        sorted((name, repr(value)) for name, value in record.config.items() if name not in IGNORED and not name.startswith(unimportant))
    )


def group_records(records: Sequence[Record]) -> list[Group]:
    """All groups, by algorithm, scenario and name."""
    found: dict[tuple, list[Record]] = {}
    for record in records:
        found.setdefault(group_key(record), []).append(record)
    members = [tuple(sorted(runs, key=lambda run: (run.seed, run.facts.ranks, str(run.path)))) for runs in found.values()]
    firsts = [runs[0] for runs in members]
    scenarios = scenario_labels([(run.scenario, run.facts.config.get("faults", {})) for run in firsts])
    names = _names(firsts, dict(zip((run.path for run in firsts), scenarios, strict=True)))
    groups = [
        Group(label, variant, scenario, {n: v for n, v in runs[0].config.items() if n not in IGNORED}, runs)
        for (label, variant), scenario, runs in zip(names, scenarios, members, strict=True)
    ]
    return sorted(groups, key=lambda group: (group.variant, group.scenario != FAULT_FREE, group.scenario, group.label))


def by_ranks(groups: Sequence[Group]) -> list[Group]:
    """Groups whose runs have the same number of ranks, the number in the name where there are several of them.

    A single node, as the central baseline has it, is on one rank however many there are: that is no difference.
    """
    several = len({ranks for group in groups if _has_peers(group) for ranks in group.ranks}) > 1
    found = []
    for group in groups:
        for ranks in group.ranks:
            runs = tuple(run for run in group.runs if run.facts.ranks == ranks)
            suffix = f", {ranks} rank{'s' if ranks > 1 else ''}" if several and _has_peers(group) else ""
            found.append(dataclasses.replace(group, label=group.label + suffix, variant=group.variant + suffix, runs=runs))
    return found


def _has_peers(group: Group) -> bool:
    return group.runs[0].facts.nodes > 1


def differences(configs: Sequence[dict]) -> list[str]:
    """Names of fields that are not the same in all (a field may be absent), in the order of the configuration."""
    names = dict.fromkeys(name for config in configs for name in config if name not in IGNORED)
    return [name for name in names if len({repr(config.get(name)) for config in configs}) > 1]


def _names(records: Sequence[Record], scenarios: dict) -> list[tuple[str, str]]:
    """(label, variant) of each: algorithm, then as few differing fields as make it unique; the scenario is in the label only.

    scenarios: by path.
    """
    kept = _telling_fields(records, scenarios)
    several = len(set(scenarios.values())) > 1
    partitions = len({record.config.get(PARTITION) for record in records}) > 1
    found = []
    for record in records:
        alike = [one for one in records if one.algorithm == record.algorithm]
        telling = [name for name in kept if len({repr(one.config.get(name)) for one in alike}) > 1 and _counts(name, record)]
        # A single node gets everything, however data are dealt.
        skewed = record.config.get(PARTITION) != PLAIN_PARTITION and record.facts.nodes > 1
        if partitions and skewed and PARTITION not in telling:
            telling.append(PARTITION)
        fields = [f"{_short(name)}={record.config.get(name)}" for name in telling]
        variant = " ".join([record.algorithm, *fields])
        found.append((f"{variant}, {scenarios[record.path]}" if several else variant, variant))
    return found


def _telling_fields(records: Sequence[Record], scenarios: dict) -> list[str]:
    """Fields that split runs of one algorithm (of one algorithm and scenario, for those of the fault section)."""
    kept: list[str] = []
    fields = differences([record.config for record in records])
    # What is run says more than how it is recorded or limited.
    for name in sorted(fields, key=lambda field: (field.startswith("faults."), field.startswith(HOW_IT_IS_RECORDED), fields.index(field))):
        telling = [record for record in records if _counts(name, record)]
        of_faults = name.startswith("faults.")
        told = [
            (record.algorithm, scenarios[record.path] if of_faults else "", *(repr(record.config.get(one)) for one in kept))
            for record in telling
        ]
        if len({(*key, repr(record.config.get(name))) for key, record in zip(told, telling, strict=True)}) > len(set(told)):
            kept.append(name)
    return kept


def _counts(name: str, record: Record) -> bool:
    return record.scenario != FAULT_FREE or not name.startswith("faults.")


def _short(name: str) -> str:
    return name.removeprefix("run.").rpartition(".")[2]
