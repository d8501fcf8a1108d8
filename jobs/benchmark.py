"""What healmpi costs, as ratios against a bound or a peer in the same run: training, messaging, scaling.

Takes about five minutes on 2 cores; leave them idle meanwhile.

    bash jobs/setup.sh && . jobs/mpi-env.sh && .venv/bin/python jobs/benchmark.py [--rounds 3] [--json FILE]

floor       100 hosted nodes in one process, evaluation off, against a bare torch loop over the same shards (a module and an
            optimizer a node, nothing sent). In turns, one thread; trainings a second.
scaling     the same run on one rank and on two, in turns; and where the time of a cycle goes.
presets     each algorithm with one node a core: what a cycle takes over what the rank that trains longest spends on training.
            Spambase is reported only: its training takes a millisecond.
messaging   a model from one rank to another and back through healmpi's world, a tick each way, against raw mpi4py Send and
            Recv of the same bytes; in bursts, several models in a tick; and a tick each way with results.wire_checks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MODELS = {  # name: (overrides, cycles of one measurement)
    "lenet5": (["model.name=lenet5", "data.dataset=mnist10k", "learner.optimizer=adam"], 3),
    "mlp": (["model.name=mlp", "data.dataset=mnist10k", "learner.optimizer=sgd", "learner.learning_rate=0.05"], 10),
    "logistic": (["model.name=logistic", "data.dataset=spambase", "learner.optimizer=sgd", "learner.learning_rate=0.1"], 20),
}
COMMON = [
    "run.nodes=100",
    "evaluation.every=0",
    "results.audit=off",
    "results.views_every=0",
    "run.warmup_cycles=8",
    "learner.weight_decay=0.0",
]
PRESETS = dict.fromkeys(("federated", "gossip", "epidemic", "ring", "chord", "fedlay"), 2) | {"gaia": 4, "heal": 4}
"""Nodes on two ranks: gaia's two servers have a worker each, and of two nodes Elevator makes two hubs."""

SIZES = [0, 25_000, 61_706, 199_210, 1_048_576]  # floats in a model; 61 706 is LeNet5
BURST = 16


def main() -> None:
    options = _options()
    if options.messaging_rank:
        _messaging_rank(options.rounds)
        return
    report = {"machine": _machine(), "floor": {}, "scaling": {}, "presets": {}, "messaging": {}}
    for name in MODELS:
        report["floor"][name] = _floor(name, options.rounds)
        report["scaling"][name] = _scaling(name, options.rounds)
    for name in PRESETS:
        report["presets"][name] = {data: _overhead(name, data, options.rounds) for data in ("lenet5", "logistic")}
    report["messaging"] = _messaging(options.rounds)
    print(_table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind, in turns")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--messaging-rank", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _machine() -> str:
    return f"{platform.platform()}, {len(os.sched_getaffinity(0))} cores"


# Floor: healmpi in one process against a bare loop.


def _floor(name: str, rounds: int) -> dict:
    from healmpi.config import Config
    from healmpi.launch import run

    overrides, cycles = MODELS[name]
    config = Config.load(None, [*COMMON, *overrides, f"run.cycles={cycles}"]).resolve()
    prepared = run.prepare(config, run.Ranks())
    bare = _BareLoop(config, prepared)
    ours, floor = [], []
    _host_rate(config, prepared)
    bare.rate(1)
    for _ in range(rounds):
        ours.append(_host_rate(config, prepared))
        floor.append(bare.rate(cycles))
    ratios = [one / other for one, other in zip(ours, floor, strict=True)]
    return {"trainings_per_s": ours, "floor_trainings_per_s": floor, "ratios": ratios}


def _host_rate(config, prepared) -> float:
    """Trainings a second of a whole run, warm-up cycles of the overlay aside."""
    from healmpi.hosting.host import Host
    from healmpi.launch import run

    trained, begun = [], []

    def sink(rows, groups, faults) -> None:
        if rows.cycle == 0:
            begun.append(time.perf_counter())
        if rows.cycle >= 1:
            trained.append(int(rows.trained.sum()))

    world = run.Ranks().world(config.run.nodes, prepared.vector_size, config.chosen.average, 60.0)
    Host(config, world, prepared.nodes, prepared.learner, sink, lambda progress: None).run()
    return sum(trained) / (time.perf_counter() - begun[0])


class _BareLoop:
    """What anyone would write first: a module and an optimizer for each node, its shard in memory, no messages."""

    def __init__(self, config, prepared):
        import torch

        data = config.chosen.data.load(config.run.seed)
        self._batch = config.learner.batch_size
        self._nodes = []
        for part in prepared.parts:
            module = config.chosen.model.build(data.input_shape, data.classes)
            kind = torch.optim.SGD if config.learner.optimizer == "sgd" else torch.optim.Adam
            optimizer = kind(module.parameters(), lr=config.learner.learning_rate)
            x, y = torch.from_numpy(data.scaled(data.train_x[part])), torch.from_numpy(data.train_y[part])
            self._nodes.append((module, optimizer, x, y))

    def rate(self, cycles: int) -> float:
        """Trainings a second."""
        import torch
        from torch.nn.functional import cross_entropy

        started = time.perf_counter()
        for _ in range(cycles):
            for module, optimizer, x, y in self._nodes:
                for rows in torch.randperm(len(y)).split(self._batch):
                    optimizer.zero_grad()
                    cross_entropy(module(x[rows]), y[rows]).backward()
                    optimizer.step()
        return cycles * len(self._nodes) / (time.perf_counter() - started)


# Scaling: one rank against two.


def _scaling(name: str, rounds: int) -> dict:
    overrides, cycles = MODELS[name]
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for ranks, figures in found.items():
                out = Path(folder) / f"{number}-{ranks}.h5"
                figures.append(_figures(ranks, [*COMMON, *overrides, f"run.cycles={4 * cycles}", "run.warmup_cycles=0"], out))
    speedups = [two["cycles_per_s"] / one["cycles_per_s"] for one, two in zip(found[1], found[2], strict=True)]
    shares = {str(ranks): {key: statistics.median(one[key] for one in figures) for key in figures[0]} for ranks, figures in found.items()}
    return {"speedups": speedups, "medians": shares}


def _figures(ranks: int, overrides: list[str], out: Path) -> dict[str, float]:
    command = [*_mpirun(ranks), "-m", "mpi4py", "-m", "healmpi", "run", "-o", str(out)]
    command += [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return {name: float(value) for name, value in re.findall(r"^FOM (\S+) (\S+)", done.stdout, re.MULTILINE)}


def _mpirun(ranks: int) -> list[str]:
    return [str(Path(sys.prefix) / "bin" / "mpirun"), "-n", str(ranks), sys.executable]


# Presets: a cycle against its training.


def _overhead(name: str, model: str, rounds: int) -> list[float]:
    """Seconds of a cycle, evaluation aside, over the training seconds of the rank that trains longest, summed over cycles."""
    import h5py

    overrides, cycles = MODELS[model]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            out = Path(folder) / f"{number}.h5"
            own = [f"run.algorithm={name}", f"run.nodes={PRESETS[name]}", f"run.cycles={6 * cycles}"]
            _figures(2, [*COMMON, *overrides, *own, "run.warmup_cycles=0"], out)
            with h5py.File(out) as file:
                phases = [phase.decode() for phase in file["cycles/phase"][:]]
                by_rank = file["cycles/seconds"][2:].reshape(-1, 2, PRESETS[name] // 2, len(phases)).sum(axis=2)
            train = by_rank[:, :, phases.index("train")].max(axis=1)
            whole = (by_rank.sum(axis=2) - by_rank[:, :, phases.index("evaluation")]).max(axis=1)
            ratios.append(float(whole.sum() / train.sum()))
    return ratios


# Messaging: healmpi's world against raw mpi4py.


def _messaging(rounds: int) -> dict:
    command = [*_mpirun(2), "-m", "mpi4py", __file__, "--messaging-rank", "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return json.loads(done.stdout)


def _messaging_rank(rounds: int) -> None:
    from healmpi.algorithms.averages.mean import Mean
    from healmpi.hosting import allocator
    from healmpi.worlds.mpi import MPI, MpiWorld

    allocator.keep_freed_memory()
    found = {}
    for size in SIZES:
        world = MpiWorld(2, size, Mean(), 60.0)
        checked = MpiWorld(2, size, Mean(), 60.0, wire_checks=True)
        ticks, checked_ticks = _Ticks(world, size), _Ticks(checked, size)
        repeats = 400 if size < 100_000 else 100
        raw, ours, burst, with_sums = [], [], [], []
        for _ in range(rounds + 1):  # the first round warms up
            raw.append(_raw_ping_pong_s(MPI, 32 + 4 * size, repeats))
            ours.append(ticks.ping_pong_s(repeats))
            burst.append(ticks.burst_s(repeats))
            with_sums.append(checked_ticks.ping_pong_s(repeats))
        world.finish()
        checked.finish()
        found[32 + 4 * size] = {"raw_s": raw[1:], "healmpi_s": ours[1:], "burst_s": burst[1:], "checked_s": with_sums[1:]}
    if MPI.COMM_WORLD.Get_rank() == 0:
        print(json.dumps(found))


def _raw_ping_pong_s(MPI, count: int, repeats: int) -> float:
    """Half a round trip."""
    comm = MPI.COMM_WORLD
    other, out, into = 1 - comm.Get_rank(), np.ones(count, np.uint8), np.empty(count, np.uint8)
    comm.Barrier()
    started = time.perf_counter()
    for _ in range(repeats):
        if other == 1:
            comm.Send([out, MPI.BYTE], 1)
            comm.Recv([into, MPI.BYTE], 1)
        else:
            comm.Recv([into, MPI.BYTE], 0)
            comm.Send([out, MPI.BYTE], 0)
    return (time.perf_counter() - started) / repeats / 2


class _Ticks:
    """Models sent through a world of two nodes on two ranks."""

    def __init__(self, world, size: int):
        self._world, self._tick, self._model = world, 0, np.ones(size, np.float32)

    def ping_pong_s(self, repeats: int) -> float:
        """A tick in which one rank sends a model to the other; the ranks take turns."""
        return self._measure(2 * repeats, lambda turn: turn % 2 == self._world.rank, 1)

    def burst_s(self, repeats: int) -> float:
        """A tick in which one rank sends BURST models, for each model."""
        return self._measure(repeats, lambda turn: turn % 2 == self._world.rank, BURST) / BURST

    def _measure(self, ticks: int, sends, models: int) -> float:
        from healmpi.messages import MODEL, Message

        world, me = self._world, self._world.rank
        world.allreduce()
        started = time.perf_counter()
        for turn in range(ticks):
            if sends(turn):
                world.act(me, self._tick, [Message(MODEL, me, 1 - me, 1, self._tick, self._model) for _ in range(models)])
            closed = world.close(self._tick, self._tick + 1)
            for node in list(closed.targets):
                world.deliver(node)
            self._tick = closed.tick
        return (time.perf_counter() - started) / ticks


# The report.


def _table(report: dict) -> str:
    lines = [f"Machine: {report['machine']}. Medians, in brackets the range of the pairwise ratios.", ""]
    lines += ["| model | trainings/s | floor | ratio | 2 ranks / 1 rank |", "|---|---|---|---|---|"]
    for name, floor in report["floor"].items():
        ours, bare = statistics.median(floor["trainings_per_s"]), statistics.median(floor["floor_trainings_per_s"])
        lines.append(f"| {name} | {ours:.0f} | {bare:.0f} | {_spread(floor['ratios'])} | {_spread(report['scaling'][name]['speedups'])} |")
    lines += ["", "| model | ranks | train | messaging | wait | group | harness |", "|---|---|---|---|---|---|---|"]
    for name, scaling in report["scaling"].items():
        for ranks, figures in scaling["medians"].items():
            shares = " | ".join(f"{100 * figures[phase + '_share']:.1f} %" for phase in ("train", "messaging", "wait", "group", "harness"))
            lines.append(f"| {name} | {ranks} | {shares} |")
    lines += ["", "| algorithm | LeNet5: cycle / training | Spambase |", "|---|---|---|"]
    lines += [f"| {name} | {_spread(one['lenet5'])} | {_spread(one['logistic'])} |" for name, one in report["presets"].items()]
    lines += ["", f"| bytes | raw Send/Recv | a tick each way | ratio | {BURST} in a tick, each | ratio | with wire checks | ratio |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for count, one in report["messaging"].items():
        raw = statistics.median(one["raw_s"])
        cells = []
        for key in ("healmpi_s", "burst_s", "checked_s"):
            ratios = [ours / base for ours, base in zip(one[key], one["raw_s"], strict=True)]
            cells.append(f"{1e6 * statistics.median(one[key]):.1f} us | {_spread(ratios)}")
        lines.append(f"| {count} | {1e6 * raw:.1f} us | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


if __name__ == "__main__":
    main()
