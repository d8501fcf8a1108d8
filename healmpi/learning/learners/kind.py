"""What a way to train declares, and what it makes. Declarations are read without torch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from healmpi.learning.data import Dataset
from healmpi.learning.jobs import Judgement, TrainJob, TrainResult
from healmpi.learning.models.kind import Model
from healmpi.settings import NoSettings, Section


class LearnerKind:
    """A way to train that can be chosen. name: of one that is shipped. Settings: its options."""

    name: ClassVar[str] = ""
    Settings: ClassVar[type[Section]] = NoSettings

    settings: Any

    def __init__(self, settings: Any):
        self.settings = settings

    @classmethod
    def check(cls, settings: Any) -> None:
        """Raises UsageError: options do not go together."""

    def threads(self) -> int:
        """Threads that training takes in this process."""
        return 1

    def plain_rate(self) -> float | None:
        """The step size where a step is -rate * gradient and nothing else; None: steps are of another kind."""
        return None

    def trained_samples(self, samples: int, nodes: int) -> int:
        """About how many samples all nodes together take in a cycle; for estimates of cost. samples: of the training part."""
        return samples

    def make(
        self,
        seed: int,
        initial: str,
        model: Model,
        dataset: Dataset,
        shards: Mapping[int, np.ndarray],
        sizes: Sequence[int] | None = None,
    ) -> Trainer:
        """The learner of one rank.

        seed: the run's. initial: 'common' or 'independent', as model.initial. shards: indices into the training part, int64 and
        not empty, for each hosted node. sizes: samples of each node of the run, hosted or not, so that all ranks refuse the same;
        None: there are only the hosted ones. Raises UsageError: the model does not fit the data, or the machine lacks what is needed.
        """
        raise NotImplementedError


class Trainer(Protocol):
    """Training and evaluation on one rank. size: length of a model vector. tested: int64 [classes], samples of the test set by label.
    marks: what must be the same on every rank, as hashes, by what an error calls it.

    Whatever decides over a result's bits must belong to the node, its incarnation and the cycle, never to the rank.
    """

    size: int
    tested: np.ndarray
    marks: Mapping[str, str]

    def initial(self, node: int) -> np.ndarray:
        """The model that `node` starts with: float32 [size], not writeable."""

    def newcomer(self, node: int, incarnation: int) -> np.ndarray:
        """A random model of that incarnation's own: float32 [size], not writeable."""

    def labels(self, node: int) -> np.ndarray:
        """Training samples of the node's shard by label: int64 [classes]."""

    def forget(self, node: int) -> None:
        """Drop what lasts from cycle to cycle of the node, if anything."""

    def state(self) -> dict[int, Any]:
        """All that lasts from cycle to cycle, by node, as plain data (state.py)."""

    def restore(self, states: Mapping[int, Any]) -> None:
        """What `state` gave."""

    def train(self, jobs: Sequence[TrainJob]) -> list[TrainResult]:
        """Train each job's model on its node's shard; results in the order of the jobs."""

    def judge(self, vectors: Sequence[np.ndarray]) -> list[Judgement]:
        """Each model on the whole test set. vectors: float32 [size] each."""
