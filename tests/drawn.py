"""Draws small configurations with fault plans; the same number gives the same configuration."""

from __future__ import annotations

import random

from healmpi.catalogue import PRESETS, RULES, TOPOLOGIES
from healmpi.faults.kinds.crash import POINTS

TINY = ["data.dataset=synthetic", "data.samples=60", "data.features=3", "model.name=logistic", "results.audit=on"]

SCAFFOLD = ["rule.control_variates=true", "learner.optimizer=sgd"]

LEARNING = {name: rule for name, rule in RULES.items() if rule.learns}

SIZABLE = {name: one for name, one in TOPOLOGIES.items() if not one.fixed_nodes}
"""Those of any number of nodes."""

PAIRS = [(topology, name) for name, rule in LEARNING.items() for topology, one in SIZABLE.items() if rule.needs in one.serves]


def overrides(number: int) -> list[str]:
    """A configuration of HEAL: 3 to 16 nodes, 8 cycles, up to three fault events."""
    rng = random.Random(number)
    nodes = rng.randint(3, 16)
    view = rng.randint(1, nodes - 1)
    hubs = rng.randint(1, min(view, 5))
    return [
        *_common(rng, nodes), f"topology.view_size={view}", f"elevator.hub_count={hubs}", f"rule.fanout={rng.randint(1, hubs)}",
        f"rule.group_attempts={rng.randint(1, 4)}", f"rule.delta_ticks={rng.randint(1, 3)}",
        f"rule.weighting={rng.choice(['hubs', 'models', 'samples'])}", *rng.choice([[], ["learner.proximal=0.1"], SCAFFOLD]),
    ]  # fmt: skip


def preset(number: int, name: str) -> list[str]:
    """A configuration of this preset: 6 to 16 nodes, 8 cycles, up to three fault events."""
    rng = random.Random(f"{name} {number}")
    return [*_common(rng, rng.randint(6, 16)), f"run.algorithm={name}"]


def pair(number: int) -> list[str]:
    """A configuration of any topology with any rule that makes sense on it."""
    rng = random.Random(number)
    topology, rule = rng.choice(PAIRS)
    return [
        *_common(rng, 2 * rng.randint(3, 8)), "run.algorithm=custom", f"topology.name={topology}", f"rule.name={rule}",
        f"topology.view_size={rng.randint(2, 5)}", "elevator.hub_count=2", f"topology.sampling={rng.choice(['local', 'oracle'])}",
        f"topology.degree={rng.randint(2, 5)}", f"topology.both_ways={rng.choice(['true', 'false'])}",
        f"topology.rings={rng.randint(1, 3)}", f"rule.fanout={rng.randint(0, 1)}", f"rule.merge={rng.choice(['plain', 'age'])}",
    ]  # fmt: skip


PRESET_NAMES = [name for name, one in PRESETS.items() if one.rule in LEARNING and one.topology in SIZABLE]


def _common(rng: random.Random, nodes: int) -> list[str]:
    events = [_event(rng) for _ in range(rng.randint(0, 3))]
    return [
        *TINY, f"run.nodes={nodes}", "run.cycles=8", f"run.seed={rng.randint(0, 10**6)}", f"run.warmup_cycles={rng.randint(0, 2)}",
        f"model.initial={rng.choice(['common', 'independent'])}", f"learner.optimizer={rng.choice(['sgd', 'adam'])}",
        f"data.partition={rng.choice(['iid', 'dirichlet'])}", f"faults.plan={toml_list(events)}",
    ]  # fmt: skip


def _event(rng: random.Random) -> dict:
    cycle = rng.randint(1, 8)
    kind = rng.choice(["fraction", "hubs", "churn", "loss", "best"])
    if kind in ("churn", "loss"):
        return {"kind": kind, "cycle": cycle, "last_cycle": cycle + rng.randint(0, 4), "fraction": rng.choice([0.1, 0.3])}
    point = rng.choice(POINTS)
    if kind == "hubs":
        return {"kind": "crash", "cycle": cycle, "hubs": rng.choice(["one", "all"]), "dose": rng.choice([0, 3]), "point": point}
    if kind == "best":
        return {"kind": "crash", "cycle": cycle, "best_connected": rng.randint(1, 3), "point": point}
    return {"kind": "crash", "cycle": cycle, "fraction": rng.choice([0.05, 0.2, 0.5]), "point": point}


def toml_list(events: list[dict]) -> str:
    """The events as TOML, for `--set faults.plan=`."""
    tables = ["{" + ", ".join(f"{key} = {value!r}" for key, value in event.items()) + "}" for event in events]
    return "[" + ", ".join(tables) + "]"
