"""Holds results files against each other: all that must not depend on where a run was carried out, and in how many pieces."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from digests import fixed_length

GROUPS = ("cycles", "overlay", "groups", "faults", "partition", "models")


def tables(path: Path) -> dict[str, np.ndarray]:
    """Everything in a file but times and facts about ranks."""
    found = {}
    with h5py.File(path) as file:
        for group in GROUPS:
            if group in file:
                for name, item in file[group].items():
                    found[f"{group}/{name}"] = fixed_length(item)
    return {name: value for name, value in found.items() if "seconds" not in name and "phase" not in name}


def assert_same(one: dict, other: dict, what: str) -> None:
    """what: named when a table differs."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), f"{what}: {name} differs"
