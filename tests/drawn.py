"""Draws small configurations with fault plans; the same number gives the same configuration."""

from __future__ import annotations

import random

from healmpi.config import CRASH_POINTS

TINY = ["data.dataset=synthetic", "data.samples=60", "data.features=3", "model.name=logistic", "results.audit=on"]


def overrides(number: int) -> list[str]:
    """A configuration of 3 to 16 nodes and 8 cycles, with up to three fault events."""
    rng = random.Random(number)
    nodes = rng.randint(3, 16)
    view = rng.randint(1, nodes - 1)
    hubs = rng.randint(1, min(view, 5))
    events = [_event(rng) for _ in range(rng.randint(0, 3))]
    return [
        *TINY, f"run.nodes={nodes}", "run.cycles=8", f"run.seed={rng.randint(0, 10**6)}", f"run.warmup_cycles={rng.randint(0, 2)}",
        f"elevator.view_size={view}", f"elevator.hub_count={hubs}", f"heal.fanout={rng.randint(1, hubs)}",
        f"heal.group_attempts={rng.randint(1, 4)}", f"heal.delta_ticks={rng.randint(1, 3)}",
        f"heal.weighting={rng.choice(['hubs', 'models'])}", f"model.initial={rng.choice(['common', 'independent'])}",
        f"learner.optimizer={rng.choice(['sgd', 'adam'])}", f"data.partition={rng.choice(['iid', 'dirichlet'])}",
        f"faults.plan={toml_list(events)}",
    ]  # fmt: skip


def _event(rng: random.Random) -> dict:
    cycle = rng.randint(1, 8)
    kind = rng.choice(["fraction", "hubs", "churn"])
    if kind == "churn":
        return {"kind": "churn", "cycle": cycle, "last_cycle": cycle + rng.randint(0, 4), "fraction": rng.choice([0.1, 0.3])}
    point = rng.choice(CRASH_POINTS)
    if kind == "hubs":
        return {"kind": "crash", "cycle": cycle, "hubs": rng.choice(["one", "all"]), "point": point}
    return {"kind": "crash", "cycle": cycle, "fraction": rng.choice([0.05, 0.2, 0.5]), "point": point}


def toml_list(events: list[dict]) -> str:
    """The events as TOML, for `--set faults.plan=`."""
    tables = ["{" + ", ".join(f"{key} = {value!r}" for key, value in event.items()) + "}" for event in events]
    return "[" + ", ".join(tables) + "]"
