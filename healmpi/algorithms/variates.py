"""SCAFFOLD's control variates: what a client adds to its gradients so that skewed data do not draw it away from the others.

Source: Karimireddy et al. 2020 (arXiv 1910.06378), algorithm 1, option II, with a global step of 1:

    a local step      y <- y - rate * (g(y) - c_i + c)
    after K of them   c_i <- c_i - c + (x - y) / (K * rate), which is the mean of g over the job
    server            x <- mean of y, c <- mean of c_i

The publication sends differences and a server adds them up. Here a client sends y and c_i themselves, one behind the other in one
vector, and hubs average that as they average models; where all clients take part the two are the same (docs/algorithms.md).
"""

from __future__ import annotations

import numpy as np

from healmpi.state import Stateful


class ControlVariates(Stateful):
    """One node's. own: c_i; common: c, as the last round's answers had it: float32 [size], both 0 at first. size: floats in a model.

    Who heard nobody has no c and trains plainly: with an old one all that its gradients say would be taken out of them again, and it
    would walk straight on.
    """

    def __init__(self, size: int):
        self.own = self.common = np.zeros(size, np.float32)

    def correction(self) -> np.ndarray | None:
        """What is added to each gradient of the next job: float32 [size]; None: nothing."""
        return None if self.common is self.own else self.common - self.own

    def close(self, start: np.ndarray, model: np.ndarray, steps: int, rate: float) -> np.ndarray:
        """A job is done: the new own one. Returns what is sent: float32 [2 * size], the model and that."""
        mean, correction = (start - model) / np.float32(steps * rate), self.correction()
        self.own = mean if correction is None else mean - correction
        vector = np.concatenate([model, self.own])
        vector.flags.writeable = False
        return vector

    def miss(self) -> None:
        """No answer came."""
        self.common = self.own

    def take(self, vector: np.ndarray) -> np.ndarray:
        """The model out of an average of such vectors, float32 [size]; the common control variate is kept."""
        size = len(vector) // 2
        self.common = vector[size:]
        return vector[:size]
