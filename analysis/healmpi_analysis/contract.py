"""What this package knows of the results contract (docs/results-format.md); nothing of healmpi is imported.

Files say the names of their message kinds and phases themselves, and only those count. The lists below are for what files of
schema 1.0 and 1.1 do not say: which kinds carry a model, and the names in the parts of a killed run.
"""

from __future__ import annotations

import numpy as np

SCHEMA = "healmpi-results"
PART_SCHEMA = "healmpi-results-part"
MAJOR = "1"
"""Files of schema version 1.x are read; another first number is refused."""

MODEL_KINDS = ("model", "global_model", "group_reduction")
"""Message kinds that carry a model, where the file does not say it (before schema 1.2)."""

REQUIRED = ("alive", "is_hub", "seconds", "messages_out", "messages_in", "bytes_out", "bytes_in")
"""Tables of /cycles without which a file is not read; what others say is left out where they are absent."""

PART_KINDS = (
    "cache_request",
    "cache_reply",
    "backward_request",
    "backward_reply",
    "model",
    "global_model",
    "group_propose",
    "group_promise",
    "group_commit",
    "group_reduction",
    "news_request",
    "news_reply",
)
"""Message kinds in the order of a part's last axis, where the part does not name them (before schema 1.2)."""

PART_PHASES = ("train", "messaging", "wait", "group", "harness", "evaluation")
PART_COMMITTED = ("cycles", "views", "groups", "members", "faults")
"""What the entries of a part's dataset `committed` count."""

NOT_THE_ALGORITHM = ("harness", "evaluation")
"""Phases that belong to the benchmark and not to what it measures."""

OF_CLASSES = "class_accuracy"
"""The table of /cycles whose last axis is the classes of the data, and not the nodes."""

MISSING = {"accuracy": np.nan, "own_accuracy": np.nan, "loss": np.nan, "train_loss": np.nan, "staleness": -1}
"""What stands in a cycle table where a rank left nothing; 0 in all others."""

TARGETS = (0.85, 0.90, 0.95)
"""Accuracies whose first cycle and second are told."""


def carrying_models(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Those of MODEL_KINDS."""
    return tuple(kind for kind in kinds if kind in MODEL_KINDS)


def part_names(known: tuple[str, ...], width: int, what: str) -> tuple[str, ...]:
    """Names for the last axis of a part's table: the known ones, then `what_12` and so on for those that have none."""
    return tuple(known[index] if index < len(known) else f"{what}_{index}" for index in range(width))


def text(value) -> str:
    """A text of the file as str, whether HDF5 gave bytes or str, without its padding."""
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("utf-8", "replace")
    return str(value)
