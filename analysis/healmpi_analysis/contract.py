"""What this package knows of the results contract (docs/results-format.md); nothing of healmpi is imported.

Files say the names of their message kinds and phases themselves, and only those count. The lists below are for what files of
schema 1.0 and 1.1 do not say: which kinds carry a model, and the names in the parts of a killed run.
"""

from __future__ import annotations

import unicodedata

import numpy as np

SCHEMA = "healmpi-results"
PART_SCHEMA = "healmpi-results-part"
MAJOR = "1"
"""Files of schema version 1.x are read; another first number is refused."""

MODEL_KINDS = ("model", "global_model", "group_reduction")
"""Message kinds that carry a model, where the file does not say it (before schema 1.2)."""

BY_KIND = ("messages_out", "messages_in", "messages_dropped", "bytes_out", "bytes_in")
"""Tables of /cycles whose last axis is the kinds of messages."""

TYPES = {
    **dict.fromkeys(("accuracy", "own_accuracy", "loss", "train_loss", "seconds"), "f"),
    **dict.fromkeys(("trained", "alive", "is_hub", "incarnation", "staleness", "model_crc32", *BY_KIND), "iu"),
}
"""What kinds of numbers the tables of /cycles hold that are read, as numpy calls them."""

NO_NODE = -1
ROUNDING = 1e-3
"""A weighted mean of accuracies may come to a little more than 1."""

RANGES = {
    **dict.fromkeys(("accuracy", "own_accuracy", "class_accuracy"), (0.0, 1.0 + ROUNDING)),
    **dict.fromkeys(("trained", "alive", "is_hub"), (0, 1)),
    **dict.fromkeys(("incarnation", *BY_KIND), (0, None)),
    "staleness": (-1, None),
    "seconds": (-1e12, 1e12),
}
"""The least and the largest number of a table, None: any; where it may be nan, that stands in MISSING."""

MOST_NODES = 2**24
"""Of a run, and of ranks; a file that claims more is damaged."""

WIDEST_VIEW = 2**16
"""A user's own topology may have wider views, and more hubs, than there are nodes."""

MOST_HOSTED = 10_000
"""A part is read alone only if it hosts at least one node of so many."""

VERDICTS = ("VALID", "INVALID")

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

GROWING = {
    **dict.fromkeys(
        (
            *("cycles/cycle", "cycles/ticks", "cycles/accuracy", "cycles/loss", "cycles/own_accuracy", "cycles/train_loss"),
            *("cycles/trained", "cycles/alive", "cycles/is_hub", "cycles/incarnation", "cycles/staleness", "cycles/model_crc32"),
            *("cycles/seconds", *(f"cycles/{name}" for name in BY_KIND), "cycles/class_hits"),
        ),
        "cycles",
    ),
    **dict.fromkeys(("overlay/cycle", "overlay/views"), "views"),
    **dict.fromkeys(
        (
            *("groups/cycle", "groups/attempt", "groups/epoch", "groups/node", "groups/coordinator", "groups/outcome"),
            *("groups/reused", "groups/weight", "groups/seconds", "groups/size"),
        ),
        "groups",
    ),
    "groups/members": "members",
    **dict.fromkeys(("faults/cycle", "faults/tick", "faults/node", "faults/kind", "faults/detail"), "faults"),
}
"""The growing tables of a part in the order of their digests, and what of `committed` counts their rows."""

PART_ONCE = (
    *("partition/node_offsets", "partition/sample_indices", "partition/label_counts", "partition/test_counts"),
    *("models/sha256", "models/parameters"),
)
"""The tables of a part that are written in one piece, in the order of their digests."""

NOT_THE_ALGORITHM = ("harness", "evaluation")
"""Phases that belong to the benchmark and not to what it measures."""

OF_CLASSES = "class_accuracy"
"""The table of /cycles whose last axis is the classes of the data, and not the nodes."""

MISSING = {"accuracy": np.nan, "own_accuracy": np.nan, "class_accuracy": np.nan, "loss": np.nan, "train_loss": np.nan, "staleness": -1}
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
    """A text of the file as str on one line, whether HDF5 gave bytes or str, without its padding. What is no UTF-8 and what a terminal
    would obey, ends of lines and marks of direction among it, is escaped."""
    found = value.rstrip(b"\0").decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return found if found.isprintable() else "".join(map(_shown, found))


def _shown(character: str) -> str:
    """Half a pair of UTF-16 is what h5py and JSON make of what is no UTF-8: no stream and no file takes it."""
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape").decode() if hidden else character
