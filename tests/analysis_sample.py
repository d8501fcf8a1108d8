"""Hand-made results files, written with h5py alone after docs/results-format.md, small enough to work out by hand.

They are of schema 1.1, unless `scenario` gives the words that a file of schema 1.2 has for its faults.

Four nodes on two ranks (0 and 1; 2 and 3), six cycles. Node 0 is the hub of cycles 1 and 2 and crashes in cycle 3; for a
cycle nobody is hub; node 1 is from cycle 4 on. Every live node sends 10 cache_request and 2 model a cycle, a hub 5
global_model besides; a message has 100 B; all is accepted in equal number by node 3. A node's cycle takes 0.1 s of train, 0.05 s of
messaging, 0.2 s of harness and 0.3 s of evaluation, and on the second rank 0.01 s of wait.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np

NODES, CYCLES, CRASH = 4, 6, 3
MEANS = (0.5, 0.9, 0.7, 0.8, 0.9, 0.96)
KINDS = ("cache_request", "cache_reply", "model", "global_model", "news_request")
CARRIES_MODEL = (0, 0, 1, 1, 0)
PHASES = ("train", "messaging", "wait", "group", "harness", "evaluation")
_NUMBERS = np.arange(1, CYCLES + 1, dtype=np.int32)
SECONDS = (0.1, 0.05, 0.0, 0.0, 0.2, 0.3)
CONFIG = {
    "run": {"algorithm": "heal", "nodes": NODES, "cycles": CYCLES, "seed": 1, "warmup_cycles": 0},
    "data": {"dataset": "spambase"},
    "topology": {"name": "elevator", "view_size": 3, "hub_count": 1},
    "rule": {"name": "central", "fanout": 1},
    "model": {"hidden": [200, 200]},
    "faults": {
        "crash_cycle": CRASH, "crash_fraction": 0.0, "crash_nodes": [], "crash_hubs": "all", "crash_point": "start",
        "churn_fraction": 0.0, "churn_first_cycle": 10, "churn_last_cycle": 20, "newcomer_model": "random", "plan": [],
    },
    "evaluation": {"every": 1},
    "results": {"save_models": False},
}  # fmt: skip


def config(**changes) -> dict:
    """CONFIG with fields changed: run__seed=2."""
    made = json.loads(json.dumps(CONFIG))
    for name, value in changes.items():
        section, field = name.split("__")
        made.setdefault(section, {})[field] = value
    return made


def hash_of(settings: dict) -> str:
    """What names a configuration in its file."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def tables(scale: float = 1.0, lift: float = 0.0, hubs: bool = True) -> dict[str, np.ndarray]:
    """The tables of /cycles. scale: of all seconds. lift: added to all accuracies. hubs: whether there are any."""
    cycles, shape = np.arange(1, CYCLES + 1), (CYCLES, NODES)
    alive = np.ones(shape, np.int8)
    alive[CRASH - 1 :, 0] = 0
    hub = np.zeros(shape, np.int8)
    if hubs:
        hub[: CRASH - 1, 0], hub[CRASH:, 1] = 1, 1
    # Two nodes above the mean and two below; of three the last is on it.
    offsets = np.where(alive.sum(axis=1)[:, None] == NODES, [0.02, -0.02, 0.02, -0.02], [0.0, 0.02, -0.02, 0.0])
    accuracy = np.minimum(np.array(MEANS)[:, None] + offsets + lift, 1.0).astype(np.float32)
    accuracy[alive == 0] = np.nan
    messages = np.zeros((*shape, len(KINDS)), np.int32)
    messages[:, :, KINDS.index("cache_request")] = 10 * alive
    messages[:, :, KINDS.index("model")] = 2 * alive
    messages[:, :, KINDS.index("global_model")] = 5 * hub
    accepted = np.zeros_like(messages)
    accepted[:, 3] = messages.sum(axis=1)
    seconds = np.broadcast_to(np.array(SECONDS), (*shape, len(PHASES))).copy()
    seconds[:, 2:, PHASES.index("wait")] = 0.01
    crc = np.where(cycles[:, None] < 5, np.arange(1, NODES + 1), 7).astype(np.uint32)
    return {
        "accuracy": accuracy, "loss": accuracy, "train_loss": accuracy, "trained": alive, "alive": alive, "is_hub": hub,
        "incarnation": np.zeros(shape, np.int32), "staleness": np.zeros(shape, np.int32), "model_crc32": crc, "seconds": scale * seconds,
        "messages_out": messages, "messages_in": accepted, "messages_dropped": 0 * messages, "bytes_out": 100 * messages.astype(np.int64),
        "bytes_in": 100 * accepted.astype(np.int64),
    }  # fmt: skip


def views() -> np.ndarray:
    """[cycles, nodes, 3]: everybody knows the hub, node 2 and the own id; without a hub, 1, 2 and 3 know each other."""
    found = np.full((CYCLES, NODES, 3), -1, np.int32)
    for row in range(CYCLES):
        first = 0 if row < CRASH - 1 else 1
        found[row] = [[first, 2, node] if node not in (first, 2) else [first, 2, 3] for node in range(NODES)]
    return found


def write(
    path: Path,
    settings: dict | None = None,
    *,
    version: str = "1.1",
    ranks: int = 2,
    verdict: str = "VALID",
    recorded=None,
    models: np.ndarray | None = None,
    hub_count: int = 1,
    scenario: str = "",
    title: str = "",
    kinds: tuple[str, ...] = KINDS,
    run_id: str = "",
    facts: dict | None = None,
    **changes,
) -> Path:
    """A merged file. run_id: by default the path. facts: more of the provenance.

    recorded: rows of /overlay, all by default. scenario, title: the file is of schema 1.2 and says them; title: by
    default the algorithm. changes: tables, or what `tables` takes."""
    options = {name: changes.pop(name) for name in ("scale", "lift", "hubs") if name in changes}
    settings = settings or config()
    with h5py.File(path, "w") as file:
        sizes = {"nodes": NODES, "ranks": ranks, "view_size": 3, "hub_count": hub_count}
        file.attrs.update({"schema": "healmpi-results", "schema_version": version, "complete": int(verdict == "VALID"), **sizes})
        file.attrs.update({"run_id": run_id or str(path), "audited": 0})
        file.create_group("config").attrs.update({"json": json.dumps(settings), "toml": "", "hash": hash_of(settings)})
        file.create_group("provenance").attrs.update({"healmpi": "1", "python": "3", "seed": settings["run"]["seed"]} | (facts or {}))
        _summary(file.create_group("summary"), verdict)
        _cycles(file.create_group("cycles"), tables(**options) | changes, kinds)
        _overlay(file.create_group("overlay"), list(range(CYCLES) if recorded is None else recorded))
        _faults(file.create_group("faults"), settings)
        _ranks(file.create_group("ranks"), ranks)
        if models is not None:
            file["models/parameters"] = models
        if scenario:
            file.attrs.update({"schema_version": "1.2", "title": title or settings["run"]["algorithm"]})
            file["faults"].attrs["scenario"] = scenario
            file["cycles/carries_model"] = np.array(CARRIES_MODEL, np.int8)
    return path


def _summary(group: h5py.Group, verdict: str) -> None:
    group.attrs["verdict"] = verdict
    reasons = [] if verdict == "VALID" else ["rank 1 left no part file <&>"]
    group.attrs["reasons"] = np.array(reasons, dtype=h5py.string_dtype())


def _cycles(group: h5py.Group, filled: dict[str, np.ndarray], kinds: tuple[str, ...]) -> None:
    _scaled(group, {"cycle": _NUMBERS, "node": np.arange(NODES, dtype=np.int32), "kind": _bytes(kinds), "phase": _bytes(PHASES)})
    group["ticks"] = np.full(CYCLES, 9, np.int32)
    for name, table in filled.items():
        group[name] = table


def _overlay(group: h5py.Group, rows: list[int]) -> None:
    _scaled(group, {"cycle": _NUMBERS[rows], "node": np.arange(NODES, dtype=np.int32), "slot": np.arange(3)})
    group["views"] = views()[rows]


def _scaled(group: h5py.Group, scales: dict) -> None:
    for name, values in scales.items():
        group[name] = values
        group[name].make_scale(name)


def _bytes(names) -> np.ndarray:
    return np.array([name.encode() for name in names])


def _faults(group: h5py.Group, settings: dict) -> None:
    crashed = settings["faults"]["crash_hubs"] == "all"
    group["cycle"], group["tick"], group["node"] = (np.array([value], np.int32)[: int(crashed)] for value in (CRASH, 20, 0))
    group["kind"], group["detail"] = (np.array([value])[: int(crashed)] for value in (b"crash", b"start"))


def set_faults(path: Path, *rows: tuple[int, int, int, str, str]) -> Path:
    """Puts other faults into a file: cycle, tick, node, kind, detail."""
    with h5py.File(path, "a") as file:
        for place, name in enumerate(("cycle", "tick", "node", "kind", "detail")):
            del file[f"faults/{name}"]
            values = [row[place] for row in rows]
            file[f"faults/{name}"] = np.array([value.encode() if isinstance(value, str) else value for value in values])
    return path


def _ranks(group: h5py.Group, ranks: int) -> None:
    group.attrs["states"] = ["finished", "unfinished", "missing", "unreadable"]
    share = NODES // ranks
    group["state"] = np.zeros(ranks, np.int8)
    group["first_node"], group["node_count"] = np.arange(ranks, dtype=np.int32) * share, np.full(ranks, share, np.int32)
    group["host"] = np.array([f"machine {rank}".encode() for rank in range(ranks)])
    group["wall_s"] = np.full(ranks, 10.0)


def write_parts(out: Path, committed: tuple[int, ...] = (6, 4), extra_kinds: int = 9, ranks: int = 2, scenario: str = "") -> Path:
    """OUT.h5.parts as a killed run leaves it: tables longer than what counts, kinds without names. Returns the folder.

    scenario: the parts are of schema 1.2, say it, and name their kinds, on the first rank in the group of faults, on others at the root.
    """
    folder = out.parent / f"{out.name}.parts"
    folder.mkdir()
    for rank, cycles in enumerate(committed):
        nodes = slice(2 * rank, 2 * rank + 2)
        with h5py.File(folder / f"rank-{rank:05d}.h5", "w") as file:
            sizes = {"rank": rank, "ranks": ranks, "first_node": nodes.start, "node_count": 2, "total_nodes": NODES}
            file.attrs.update({"schema": "healmpi-results-part", "schema_version": "1.1", **sizes})
            file.attrs.update({"view_size": 3, "hub_count": 1, "config_hash": hash_of(config()), "run_id": "a"})
            file.create_group("config").attrs.update({"json": json.dumps(config()), "toml": ""})
            file.create_group("provenance").attrs.update({"healmpi": "1"})
            for name, table in tables().items():
                mine = table[:, nodes]
                if name.startswith(("messages_", "bytes_")):
                    mine = np.concatenate([mine, np.zeros((CYCLES, 2, extra_kinds), mine.dtype)], axis=2)
                file[f"cycles/{name}"] = np.concatenate([mine, np.zeros_like(mine)])
            file["cycles/cycle"] = np.arange(1, 2 * CYCLES + 1, dtype=np.int32)
            file["overlay/cycle"] = np.arange(1, 2 * CYCLES + 1, dtype=np.int32)
            file["overlay/views"] = np.concatenate([views()[:, nodes], views()[:, nodes]])
            file["committed"] = np.array([cycles, cycles, 0, 0, 1 - rank])
            for name, value in (("cycle", CRASH), ("tick", 20), ("node", 0), ("kind", b"crash"), ("detail", b"start")):
                file[f"faults/{name}"] = np.array([value, value])
            if scenario:
                carrying = [kind for kind, carries in zip(KINDS, CARRIES_MODEL, strict=True) if carries]
                texts = {"kinds": KINDS, "kinds_carrying_models": carrying}
                file.attrs.update({"schema_version": "1.2", "title": "heal"})
                file.attrs.update({name: np.array(values, dtype=h5py.string_dtype()) for name, values in texts.items()})
                (file if rank else file["faults"]).attrs["scenario"] = scenario
    return folder
