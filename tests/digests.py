"""Digests of whole runs, to hold a refactor against: the tables of a results file, a hash each.

    python tests/digests.py make tests/digests.json      draws 40 configurations, runs them, stores configuration and digests

The stored file was made before the house was rebuilt. What a protocol decides does not depend on the machine; what torch computes
does, so those tables are compared only where torch gives the bits of the machine that made the file: `probe` tells.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from healmpi.results import integrity
from healmpi.results.schema import column

LEARNT = ("cycles/accuracy", "cycles/loss", "cycles/train_loss", "cycles/model_crc32", "models/sha256")
"""Tables that depend on torch's last bits."""

LEFT_OUT = ("cycles/kind", "cycles/carries_model", "cycles/phase", "cycles/seconds", "groups/seconds")
"""Names, and times."""

YOUNGER = ("cycles/own_accuracy", "cycles/class_accuracy", "cycles/label", "partition/test_counts")
"""Tables that were added after the file was made."""

BY_KIND = ("messages_out", "messages_in", "messages_dropped", "bytes_out", "bytes_in")


def digests(path: Path) -> dict[str, str]:
    """Table -> hash, of all that must be the same however the run was carried out. Traffic is taken apart by name of kind, kinds
    of which nothing was sent left out: which of those a file lists is not the run's affair."""
    found = {}
    with h5py.File(path) as file:
        kinds = [kind.decode() for kind in file["cycles/kind"][:]]
        for group in ("cycles", "overlay", "groups", "faults", "partition", "models"):
            for name, table in file[group].items():
                if f"{group}/{name}" in LEFT_OUT + YOUNGER or not table.size:
                    continue
                if name in BY_KIND:
                    used = sorted((kind, column) for column, kind in enumerate(kinds) if table[:, :, column].any())
                    found |= {f"{group}/{name}/{kind}": _hash(table[:, :, column]) for kind, column in used}
                else:
                    found[f"{group}/{name}"] = _hash(_details(file) if f"{group}/{name}" == "faults/detail" else fixed_length(table))
    return found


def unseal(file: h5py.File, version: str = "1.4") -> None:
    """Make it a file of an earlier version, which has no digests."""
    for _, one in integrity.objects(file):
        for name in {integrity.DIGEST, integrity.ROOT_DIGEST} & set(one.attrs):
            del one.attrs[name]
    file.attrs["schema_version"] = version


def fixed_length(table: h5py.Dataset) -> np.ndarray:
    """A table's values; texts as the schema declares them, of one length, so that they have bytes to compare."""
    values = table[...]
    return values.astype(column(table.name.lstrip("/")).dtype) if values.dtype.hasobject else values


def _details(file: h5py.File) -> np.ndarray:
    """What befell nodes; remarks on the plan are words."""
    kinds, details = fixed_length(file["faults/kind"]), fixed_length(file["faults/detail"])
    return np.where((kinds == b"none") | (kinds == b"loss"), b"", details)


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def probe() -> str:
    """The bits that torch gives here, in a training that has nothing to do with healmpi."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    state = hashlib.sha256()
    for widths in ((3, 2), (57, 2), (20, 30, 2)):
        layers = [part for one in itertools.pairwise(widths) for part in (torch.nn.Linear(*one), torch.nn.ReLU())][:-1]
        for optimizer in (torch.optim.Adam, torch.optim.SGD):
            module = torch.nn.Sequential(*layers)
            steps = optimizer(module.parameters(), lr=0.1)
            for size in (32, 7, 1):
                steps.zero_grad()
                torch.nn.functional.cross_entropy(module(torch.randn(size, widths[0])), torch.arange(size) % 2).backward()
                steps.step()
            for parameter in module.parameters():
                state.update(parameter.detach().numpy().tobytes())
    return state.hexdigest()[:16]


def run_all(jobs: list[list[str]], folder: Path) -> list[dict[str, str]]:
    """The digests of these configurations, run in this process."""
    from simulate import execute

    return [digests(execute(overrides, folder / f"{number}.h5")) for number, overrides in enumerate(jobs)]


def _make(path: Path) -> None:
    from drawn import PRESET_NAMES, overrides, pair, preset

    jobs = [overrides(100 + number) for number in range(12)] + [pair(100 + number) for number in range(16)]
    jobs += [preset(7, name) for name in PRESET_NAMES]
    jobs += [
        ["run.algorithm=elevator", "run.nodes=40", "run.cycles=10", "faults.crash_fraction=0.5", "faults.crash_cycle=5"],
        ["data.dataset=spambase", "run.nodes=10", "run.cycles=5", "learner.optimizer=sgd", "faults.crash_hubs=all", "faults.crash_cycle=3"],
        ["data.dataset=synthetic", "data.partition=shards", "run.nodes=12", "run.cycles=6", "learner.local_steps=3", "evaluation.nodes=4"],
        ["data.dataset=synthetic", "model.hidden=[8]", "run.nodes=9", "run.cycles=6", "faults.loss_fraction=0.2", "results.views_every=2"],
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = run_all(jobs, Path(folder))
    rows = [{"set": job, "tables": tables} for job, tables in zip(jobs, found, strict=True)]
    path.write_text(json.dumps({"probe": probe(), "runs": rows}, indent=0) + "\n")


if __name__ == "__main__":
    _make(Path(sys.argv[2]))
