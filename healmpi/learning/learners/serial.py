"""One node after another through one network, on the CPU or a GPU: healmpi/learning/learner.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from healmpi import cores
from healmpi.learning.data import Dataset
from healmpi.learning.learners.kind import LearnerKind
from healmpi.learning.models.kind import Model
from healmpi.settings import Section, option

if TYPE_CHECKING:
    from healmpi.learning.learner import Learner


class Serial(LearnerKind):
    """One node after another."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """How a node trains on its own shard."""

        title: ClassVar[str] = "learner"
        optimizer: str = option("adam", "'sgd' or 'adam'.", choices=("sgd", "adam"))
        learning_rate: float = option(0.001, "Step size.", above=0.0, high=1e3)
        momentum: float = option(0.0, "Momentum of 'sgd'.", low=0.0, high=0.9999)
        weight_decay: float = option(0.01, "L2 penalty, added to the gradient.", low=0.0, high=1e3)
        proximal: float = option(
            0.0,
            "FedProx's mu: mu / 2 times the squared distance to the model at the start of the job is added to the loss.",
            low=0.0,
            high=1e6,
        )
        batch_size: int = option(32, "Samples in a step.", low=1, high=10_000_000)
        local_epochs: int = option(1, "Passes over the shard in a cycle (when `local_steps` is 0).", low=1, high=10_000)
        local_steps: int = option(0, "Steps in a cycle instead of whole passes; 0: use `local_epochs`.", low=0, high=10_000_000)
        optimizer_state: str = option(
            "keep", "'keep': momentum and Adam's moments stay with the node; 'fresh': new in each cycle.", choices=("keep", "fresh")
        )
        device: str = option("cpu", "'cpu', or 'cuda': a GPU for each rank.", choices=("cpu", "cuda"))
        threads: int = option(
            1,
            "torch threads per rank; 0: as many as cores it may run on. More than one may change the last bits of a result.",
            low=0,
            high=1024,
        )

    name: ClassVar[str] = "serial"
    settings: Settings

    @classmethod
    def check(cls, settings: Any) -> None:
        if settings.momentum and settings.optimizer != "sgd":
            raise settings.refusal("momentum", "0 unless learner.optimizer is 'sgd'")

    def threads(self) -> int:
        """As configured, or the cores that this process may run on."""
        return self.settings.threads or len(cores.GIVEN)

    def plain_rate(self) -> float | None:
        settings = self.settings
        plain = settings.optimizer == "sgd" and not settings.momentum and not settings.proximal
        return settings.learning_rate if plain else None

    def trained_samples(self, samples: int, nodes: int) -> int:
        settings = self.settings
        return nodes * settings.local_steps * settings.batch_size or samples * settings.local_epochs

    def make(
        self,
        seed: int,
        initial: str,
        model: Model,
        dataset: Dataset,
        shards: Mapping[int, np.ndarray],
        sizes: Sequence[int] | None = None,
    ) -> Learner:
        from healmpi.learning.learner import Learner

        return Learner(self.settings, seed, initial, model, dataset, shards, sizes)
