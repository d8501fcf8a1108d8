"""The results contract: names, types, units and versions of everything in a results file (docs/results-format.md).

Every dataset of a merged file is declared in `TABLES`, and part files and merged files are both made from it; so is what stands in
place of a rank that left nothing. Truth values are stored as int8 with the attribute dtype="bool": HDF5 has no booleans, netCDF
readers refuse h5py's substitute, and xarray turns these back into booleans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from healmpi.messages import LONGEST_NAME

SCHEMA = "healmpi-results"
PART_SCHEMA = "healmpi-results-part"
SCHEMA_VERSION = "1.5"
"""Major: readers of an older one must refuse. Minor: something was added, older readers go on."""

PHASES = ("train", "messaging", "wait", "group", "harness", "evaluation")
"""What a node's wall time is split into, in seconds."""

GROUP_OUTCOMES = ("averaged", "abandoned", "solo", "empty", "alone")
"""What became of an attempt to average among hubs; stored as the index."""

RANK_STATES = ("finished", "unfinished", "missing", "unreadable")
"""What a rank left behind: a finished part, one that ends early, none, or one that HDF5 cannot open; stored as the index."""

ACCURACY_TARGETS = ("0.85", "0.90", "0.95")

KIND_BYTES, DETAIL_BYTES, FACT_BYTES, DIGEST_BYTES = LONGEST_NAME, 128, 128, 64
"""Longest texts in datasets, in bytes of UTF-8; what is longer is cut."""

REASON_CHARACTERS, MOST_REASONS = 500, 100


class ResultsError(Exception):
    """A file that is no results file, or not one that this version can read; one sentence for the user."""


@dataclass(frozen=True, slots=True)
class FigureOfMerit:
    """One number that sums up a run."""

    name: str
    value: float
    unit: str


COMMITTED = ("cycles", "views", "groups", "members", "faults")
"""What the entries of a part's dataset `committed` count: rows of its growing tables."""

ONCE = "once"


@dataclass(frozen=True, slots=True)
class Column:
    """A dataset: its type on disk, its dimensions, its unit, what stands where a rank left nothing, one sentence.

    in_parts: how parts have it under the same name. An entry of COMMITTED: it grows, and the entry counts its rows; ONCE: it is
    written in one piece; '': they do not have it.
    """

    name: str
    dtype: str
    dims: tuple[str, ...]
    unit: str
    missing: float | int | bytes
    doc: str
    in_parts: str = ""

    @property
    def is_scale(self) -> bool:
        """Whether it is a dimension of its group, as netCDF's coordinates are."""
        return self.dims == (self.name,)


def _in_parts(how: str, *columns: Column) -> tuple[Column, ...]:
    return tuple(replace(column, in_parts=how) for column in columns)


SCALES = {
    "cycle": ("i4", "cycle", "number of the cycle; learning cycles count from 1, warm-up cycles up to 0"),
    "node": ("i4", "node", "id of the node"),
    "kind": (f"S{KIND_BYTES}", "text", "kind of message"),
    "phase": (f"S{max(map(len, PHASES))}", "text", "what the time was spent on"),
    "slot": ("i4", "1", "place in the view"),
    "report": ("i4", "1", "number of the report"),
    "member": ("i4", "1", "place in the list of members"),
    "fault": ("i4", "1", "number of the fault"),
    "label": ("i4", "1", "label of a class"),
    "boundary": ("i4", "1", "node whose samples start here; one more at the end"),
    "sample": ("i4", "1", "place in sample_indices; int64 where there are 2^31 or more"),
    "parameter": ("i4", "1", "place in the model's vector of parameters"),
    "rank": ("i4", "1", "rank of the process"),
}
"""Type, unit and meaning of each dimension."""


def _scales(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, dtype, (name,), unit, 0, doc) for name in names for dtype, unit, doc in [SCALES[name]])


# Cycles and views.

_NODE = ("cycle", "node")
_KIND = ("cycle", "node", "kind")

CYCLE_COLUMNS = _in_parts(
    "cycles",
    Column("accuracy", "f4", _NODE, "1", np.nan, "share of the common test set that the node's model gets right; nan: not evaluated"),
    Column("loss", "f4", _NODE, "nat", np.nan, "mean loss on the common test set; nan with a finite accuracy: the model diverged"),
    Column(
        "own_accuracy",
        "f4",
        _NODE,
        "1",
        np.nan,
        "accuracy on the common test set, its classes weighted by the labels of the node's own training shard; nan: not evaluated",
    ),
    Column("train_loss", "f4", _NODE, "nat", np.nan, "mean loss over the local steps of the cycle; look at `trained` first"),
    Column("trained", "i1", _NODE, "bool", 0, "whether the node trained in the cycle"),
    Column("alive", "i1", _NODE, "bool", 0, "whether the node took part at the end of the cycle"),
    Column("is_hub", "i1", _NODE, "bool", 0, "whether the node believed itself a hub at the end of the cycle"),
    Column("incarnation", "i4", _NODE, "1", 0, "how often the node in this slot has been replaced"),
    Column("staleness", "i4", _NODE, "cycle", -1, "cycles since the node last took in a global model or others' models; -1: never"),
    Column("model_crc32", "u4", _NODE, "1", 0, "CRC-32 of the model's float32 bytes at the end of the cycle; 0: not computed"),
    Column("seconds", "f8", ("cycle", "node", "phase"), "s", 0.0, "wall time of the node's cycle by phase"),
    Column("messages_out", "i4", _KIND, "message", 0, "messages the node sent, counted at the source"),
    Column("messages_in", "i4", _KIND, "message", 0, "messages the node accepted"),
    Column(
        "messages_dropped",
        "i4",
        _KIND,
        "message",
        0,
        "messages to the node that the fault boundary shut out or that were under way at the end",
    ),
    Column("bytes_out", "i8", _KIND, "B", 0, "bytes on the wire of messages_out, headers included"),
    Column("bytes_in", "i8", _KIND, "B", 0, "bytes on the wire of messages_in, headers included"),
)
"""What is known of every node in every cycle: the fields of rows.CycleRows that are arrays of all cycles."""

CLASS_ACCURACY = Column(
    "class_accuracy",
    "f4",
    ("cycle", "label"),
    "1",
    np.nan,
    "share of a class's test samples that models get right, mean over evaluated live nodes; nan: not evaluated, or no such samples",
)
"""A quotient of sums over all ranks: parts have whole numbers, so that its bits do not depend on how many they are."""

CLASS_HITS = Column("class_hits", "i8", ("cycle", "label"), "sample", 0, "test samples got right, summed over evaluated nodes", "cycles")

_CYCLES = (
    *_in_parts("cycles", *_scales("cycle"), Column("ticks", "i4", ("cycle",), "tick", 0, "supersteps of the cycle")),
    *_scales("node", "kind", "phase", "label"),
    Column("carries_model", "i1", ("kind",), "bool", 0, "whether messages of this kind carry a model"),
    *CYCLE_COLUMNS,
    CLASS_ACCURACY,
)

VIEWS = Column("views", "i4", ("cycle", "node", "slot"), "node", -1, "the node's view, preferred ids first; -1: empty", "views")

_OVERLAY = (*_in_parts("views", *_scales("cycle")), *_scales("node", "slot"), VIEWS)

# Hub groups and faults.

_REPORT, _FAULT = ("report",), ("fault",)

GROUP_COLUMNS = _in_parts(
    "groups",
    Column("cycle", "i4", _REPORT, "cycle", 0, "cycle of the attempt"),
    Column("attempt", "i4", _REPORT, "1", 0, "number of the attempt inside the cycle"),
    Column("epoch", "i8", _REPORT, "1", 0, "name of the group; one epoch has one member list for ever"),
    Column("node", "i4", _REPORT, "node", 0, "the member that reports"),
    Column("coordinator", "i4", _REPORT, "node", 0, "the member that made the group"),
    Column("outcome", "i1", _REPORT, "index", 0, "index into the attribute `outcomes`"),
    Column("reused", "i1", _REPORT, "bool", 0, "whether the group of the cycle before was used again"),
    Column("weight", "i4", _REPORT, "1", 0, "what the reporting member's average counted"),
    Column("seconds", "f8", _REPORT, "s", 0.0, "wall time the reporting member spent on the attempt"),
    Column("size", "i4", _REPORT, "node", 0, "number of members"),
)
"""The fields of rows.GroupRow of which each report has one."""

MEMBERS = Column("members", "i4", ("report", "member"), "node", -1, "the group's members in ascending order; -1: none", "members")
"""In parts the lists are laid end to end: how wide they get is known at the end only."""

FAULT_COLUMNS = _in_parts(
    "faults",
    Column("cycle", "i4", _FAULT, "cycle", 0, "cycle of the fault"),
    Column("tick", "i8", _FAULT, "tick", 0, "tick of the fault, counted from the start of the run; -1: at the end of the cycle"),
    Column("node", "i4", _FAULT, "node", 0, "the node that was hit; -1: none"),
    Column(
        "kind",
        f"S{KIND_BYTES}",
        _FAULT,
        "text",
        b"",
        "'crash', 'churn', 'loss' (of messages); 'none': an event of the plan that found nobody to hit",
    ),
    Column(
        "detail",
        f"S{DETAIL_BYTES}",
        _FAULT,
        "text",
        b"",
        "where inside the cycle a crash happened, or the incarnation that came, or which event hit nobody, or what is lost",
    ),
)
"""The fields of rows.FaultRow."""

# What each node holds.

_PARTITION = (
    *_scales("node", "label", "boundary", "sample"),
    # In a part counted from its own first sample.
    Column("node_offsets", "i8", ("boundary",), "sample", 0, "node n holds sample_indices[offsets[n]:offsets[n+1]]", ONCE),
    Column("sample_indices", "i8", ("sample",), "1", 0, "rows of the training set", ONCE),
    Column("label_counts", "i8", ("node", "label"), "sample", 0, "training samples by node and label", ONCE),
    Column("test_counts", "i8", ("label",), "sample", 0, "samples of the common test set by label", ONCE),
)

_MODELS = (
    *_scales("node", "parameter"),
    Column("sha256", f"S{DIGEST_BYTES}", ("node",), "text", b"", "SHA-256 of the final model's float32 bytes; empty: no model", ONCE),
    Column("parameters", "f4", ("node", "parameter"), "1", np.nan, "final models; nan: no model", ONCE),
)

# What is known of each rank.

_RANK = ("rank",)

_TEXT = f"S{FACT_BYTES}"

_RANKS = (
    *_scales("rank"),
    Column("state", "i1", _RANK, "index", 0, "what the rank left behind: index into the attribute `states`"),
    Column("survivors_finished", "i1", _RANK, "bool", 0, "whether all nodes of the rank that were not crashed came to the end"),
    Column("first_node", "i4", _RANK, "node", -1, "the first of the hosted nodes, which are a block; -1: no readable part"),
    Column("node_count", "i4", _RANK, "node", 0, "how many nodes are hosted; 0: no readable part"),
    Column("cycles", "i4", _RANK, "cycle", 0, "cycles the rank had written"),
    Column("host", _TEXT, _RANK, "text", b"", "name of the machine"),
    Column("wall_s", "f8", _RANK, "s", np.nan, "wall time of the run"),
    Column("startup_s", "f8", _RANK, "s", np.nan, "wall time of what came before the run"),
    Column("checkpoint_s", "f8", _RANK, "s", np.nan, "wall time of saving checkpoints"),
    Column("tail_s", "f8", _RANK, "s", np.nan, "harness time after the last cycle's rows were made"),
    Column("damage", _TEXT, _RANK, "text", b"", "what is wrong with the part that the rank left; empty: nothing"),
)


def fact_column(name: str, values: Sequence[str | int | float | None]) -> Column:
    """The declaration of a fact about ranks, or one that follows from its values: what facts there are is the world's affair.

    values: by rank, None where a rank does not have it. Whole numbers are counts: what was never counted is 0.
    """
    declared = next((column for column in _RANKS if column.name == name), None)
    if declared is not None:
        return declared
    dtype, missing = _fact_type([value for value in values if value is not None])
    unit = "text" if dtype == _TEXT else "s" if name.endswith("_s") else "1"
    return Column(name, dtype, _RANK, unit, missing, name.replace("_", " "))


def _fact_type(known: Sequence[str | int | float]) -> tuple[str, float | int | bytes]:
    if any(isinstance(value, str) for value in known):
        return _TEXT, b""
    return ("i8", 0) if all(isinstance(value, int) for value in known) else ("f8", np.nan)


# What sums it up.

FIGURES = {
    "accuracy_mean": ("1", "mean accuracy over live nodes in the last evaluated cycle"),
    "accuracy_std": ("1", "standard deviation of the same (over the nodes, not of the mean)"),
    "accuracy_min": ("1", "least of the same"),
    "own_accuracy_mean": (
        "1",
        "mean accuracy of the same nodes on data like their own: the test set's classes as frequent as in their shards",
    ),
    "loss_mean": ("nat", "mean test loss of the same nodes"),
    **{f"cycles_to_{target}": ("cycle", f"first evaluated cycle with a mean accuracy of at least {target}") for target in ACCURACY_TARGETS},
    "live_nodes": ("node", "live nodes in the last cycle"),
    "hubs": ("node", "live nodes that believed themselves hubs in the last cycle"),
    "wall_s": ("s", "longest wall time of a rank, start-up excluded"),
    "cycles_per_s": ("1/s", "recorded cycles, warm-up included, over wall_s"),
    "train_share": ("1", "training seconds over those of all phases but evaluation, all nodes and cycles"),
    "messaging_share": ("1", "the same for messaging"),
    "wait_share": ("1", "the same for waiting"),
    "group_share": ("1", "the same for hub groups"),
    "harness_share": ("1", "the same for the harness"),
    "messages_per_cycle": ("message", "messages sent, all kinds, over recorded cycles"),
    "model_messages_per_cycle": ("message", "messages sent that carry a model, over learning cycles"),
    "bytes_per_cycle": ("B", "bytes sent, all kinds, over recorded cycles"),
    "groups_created": ("group", "hub groups that averaged or found nothing to average, newly made"),
    "groups_reused": ("group", "the same, with the group of the cycle before"),
    "groups_abandoned": ("group", "hub groups that at least one member abandoned"),
}
"""Figures of merit in their order: unit and meaning. One that does not exist in a run is left out of its file."""

# All of it.

TABLES: dict[str, tuple[Column, ...]] = {
    "cycles": _CYCLES,
    "overlay": _OVERLAY,
    "groups": (*_scales("report", "member"), *GROUP_COLUMNS, MEMBERS),
    "faults": (*_scales("fault"), *FAULT_COLUMNS),
    "partition": _PARTITION,
    "models": _MODELS,
    "ranks": _RANKS,
    "summary": tuple(Column(name, "f8", (), unit, np.nan, doc) for name, (unit, doc) in FIGURES.items()),
}
"""Every dataset of a merged file by its group; further facts about ranks are declared by `fact_column`.

What a run does not have is left out: figures of merit, facts about ranks, and `models/parameters` with its dimension.
"""


PART_TABLES: dict[str, tuple[Column, ...]] = {
    group: (*(one for one in columns if one.in_parts), *((CLASS_HITS,) if CLASS_ACCURACY in columns else ()))
    for group, columns in TABLES.items()
}
"""Every dataset of a part by its group, `committed` aside."""


def column(path: str) -> Column:
    """The declaration of a dataset, named 'group/name'."""
    group, _, name = path.partition("/")
    return next(one for one in TABLES[group] if one.name == name)


def fixed(text: str, most: int) -> bytes:
    """The text as UTF-8 of at most `most` bytes, cut between characters."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore").encode("utf-8")


def bounded(texts: Sequence[str]) -> list[str]:
    """At most MOST_REASONS texts, the last of which says how many were left out, each cut to REASON_CHARACTERS."""
    kept = [str(text)[:REASON_CHARACTERS] for text in texts[:MOST_REASONS]]
    if len(texts) > MOST_REASONS:
        kept[-1] = f"and {len(texts) - MOST_REASONS + 1} more"
    return kept
