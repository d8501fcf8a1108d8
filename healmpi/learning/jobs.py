"""What is handed to the learner and what comes back; apart from it, since importing torch takes seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class TrainJob(NamedTuple):
    """One node's work in one cycle. model: float32 [size], never changed here. correction: the same, added to each gradient, or None."""

    node: int
    incarnation: int
    cycle: int
    model: np.ndarray
    correction: np.ndarray | None = None


class Judgement(NamedTuple):
    """How a model does on the test set. accuracy: share. loss: mean, nat. hits: int64 [classes], samples of each that it gets right."""

    accuracy: float
    loss: float
    hits: np.ndarray


class TrainResult(NamedTuple):
    """What came of a job.

    model: a new float32 [size], not writeable. loss: mean over the steps' batch means, before each step; may be nan or inf.
    samples: how many samples the steps took, repetitions included. seconds: wall time of the job. steps: how many there were.
    """

    node: int
    model: np.ndarray
    loss: float
    samples: int
    seconds: float
    steps: int = 0
