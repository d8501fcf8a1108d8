"""Streams of random numbers: one for each purpose, node and incarnation, all from the run's seed.

There is no global generator. Two streams with different keys are independent, and a stream does not depend on where
its node is hosted, so a run gives the same bits on any number of ranks.
"""

from __future__ import annotations

import random
import zlib

import numpy as np


def _key(seed: int, purpose: str, numbers: tuple[int, ...]) -> np.random.SeedSequence:
    # crc32 gives each purpose a stable number: Python's own hash of a text differs between processes.
    # The count is part of the key: SeedSequence takes trailing zeros for nothing, so (1,) and (1, 0) would be one stream.
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), len(numbers), *numbers])


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A numpy generator for arrays of random numbers. numbers: node, incarnation, cycle ..., all >= 0."""
    return np.random.Generator(np.random.PCG64(_key(seed, purpose, numbers)))


def picker(seed: int, purpose: str, *numbers: int) -> random.Random:
    """A Python generator, the faster one for drawing a few ids out of a list."""
    return random.Random(whole(seed, purpose, *numbers))


def whole(seed: int, purpose: str, *numbers: int) -> int:
    """One 63-bit number of the stream, to seed a foreign generator with."""
    return int(_key(seed, purpose, numbers).generate_state(1, np.uint64)[0]) >> 1
