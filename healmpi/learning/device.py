"""Where a rank trains: on the CPU, or on a GPU with models staged through pinned host memory.

Models travel in host memory, whatever the MPI can do: they are small, and every protocol decision looks at them there.
A GPU gives other last bits than a CPU, so results are the same only among runs on the same kind.
"""

from __future__ import annotations

import os

import numpy as np
import torch

from healmpi.learning.learners.serial import Serial

LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID")
"""Environment variables that say the how-manieth rank of its machine this is."""


def find(settings: Serial.Settings) -> torch.device:
    """The device that the configuration names; of several GPUs in sight each rank of a machine takes one, in turn.

    Raises UsageError: there is none.
    """
    if settings.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        allowed = f"'cpu': torch {torch.__version__} sees no GPU here (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')!r})"
        raise settings.refusal("device", allowed)
    # The same bits in every run on the same GPU: no choosing of algorithms by the clock.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    local = next((int(os.environ[name]) for name in LOCAL_RANKS if os.environ.get(name, "").isdigit()), 0)
    return torch.device("cuda", local % torch.cuda.device_count())


class Staging:
    """The way of models into the work vector and out of it. apart: through a vector in host memory, pinned for a GPU."""

    def __init__(self, vector: torch.Tensor, apart: bool):
        self._vector = vector
        self._host = torch.empty(vector.shape, pin_memory=vector.is_cuda) if apart else vector
        self._array = self._host.numpy()

    def put(self, model: np.ndarray) -> None:
        """model: float32 [size]."""
        assert model.shape == self._array.shape, f"a model of shape {self._array.shape}, not {model.shape}"
        np.copyto(self._array, model, casting="no")
        if self._host is not self._vector:
            self._vector.copy_(self._host)

    def take(self) -> np.ndarray:
        """A copy of the work vector: float32 [size], not writeable."""
        if self._host is not self._vector:
            self._host.copy_(self._vector)
        copy = self._array.copy()
        copy.flags.writeable = False
        return copy
