"""The global generators of torch, numpy and Python, of which a user's network may draw wherever it likes.

Whoever calls such a network seeds them before, from a stream that knows no rank, and gives back what others had in them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def isolated() -> Iterator[None]:
    """Inside, the three generators may be seeded and drawn from; afterwards they are as they were. Those of GPUs are not kept."""
    import torch

    kept = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def seed_all(seed: int, on_gpu: bool = False, outside_torch: bool = True) -> None:
    """seed: from 0 to 2^63 - 1. outside_torch: numpy's and Python's generators, too, which no shipped network asks."""
    import torch

    # Not torch.manual_seed, which takes 0.1 ms to look for accelerators.
    torch.default_generator.manual_seed(seed)
    if on_gpu:
        torch.cuda.manual_seed(seed)
    if outside_torch:
        np.random.seed(seed % 2**32)
        random.seed(seed)
