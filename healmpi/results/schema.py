"""The results contract: names, types, units and versions of everything in a results file (docs/results-format.md).

Part files and merged files are both made from the column tables below, and so is what `merge` fills in for a rank that
left nothing. The rule that surprises: truth values are stored as int8 with the attribute dtype="bool", because HDF5 has
no booleans and netCDF readers refuse h5py's substitute; xarray turns them back into booleans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SCHEMA = "healmpi-results"
PART_SCHEMA = "healmpi-results-part"
SCHEMA_VERSION = "1.1"
"""Major: readers of an older one must refuse. Minor: something was added, older readers go on."""

PHASES = ("train", "messaging", "wait", "group", "harness", "evaluation")
"""What a node's wall time is split into, in seconds."""

GROUP_OUTCOMES = ("averaged", "abandoned", "solo", "empty", "alone")
"""What became of an attempt to average among hubs; stored as the index."""

RANK_STATES = ("finished", "unfinished", "missing", "unreadable")
"""What a rank left behind: a finished part, one that ends early, none, or one that HDF5 cannot open; stored as the index."""

MODEL_KINDS = ("model", "global_model", "group_reduction")
"""Message kinds that carry a model."""

ACCURACY_TARGETS = ("0.85", "0.90", "0.95")

KIND_BYTES, DETAIL_BYTES, FACT_BYTES, REASON_CHARACTERS, MOST_REASONS = 16, 128, 128, 500, 100
"""Longest texts, in bytes of UTF-8 (reasons: in characters); what is longer is cut."""


class ResultsError(Exception):
    """A file that is no results file, or not one that this version can read; one sentence for the user."""


@dataclass(slots=True)
class CycleRows:
    """One cycle of the L nodes hosted by one rank; K = len(messages.KINDS), c = view size.

    cycle: its number (warm-up cycles end at 0). ticks: supersteps it took.
    accuracy, loss: float32 [L], on the common test set; nan where not evaluated. train_loss: float32 [L], mean over the
    local steps; nan where the node did not train, which `trained`, bool [L], tells. alive, is_hub: bool [L].
    incarnation: int32 [L], how often the slot was replaced. staleness: int32 [L], cycles since the node last took in a
    global model, or other nodes' models; -1: never. model_crc32: uint32 [L], of the model's bytes at the end of the cycle; 0: not computed.
    seconds: float64 [L, phases]. messages_out, bytes_out: int64 [L, K], counted at the source. messages_in, bytes_in:
    accepted by the target. messages_dropped: shut out by the fault boundary at the target, or under way at the end.
    views: int32 [L, c], padded with -1; None: not recorded in this cycle.
    """

    cycle: int
    ticks: int
    accuracy: np.ndarray
    loss: np.ndarray
    train_loss: np.ndarray
    trained: np.ndarray
    alive: np.ndarray
    is_hub: np.ndarray
    incarnation: np.ndarray
    staleness: np.ndarray
    model_crc32: np.ndarray
    seconds: np.ndarray
    messages_out: np.ndarray
    messages_in: np.ndarray
    messages_dropped: np.ndarray
    bytes_out: np.ndarray
    bytes_in: np.ndarray
    views: np.ndarray | None


@dataclass(slots=True)
class GroupRow:
    """What one member reports of one attempt to average. outcome: index into GROUP_OUTCOMES. seconds: wall time."""

    cycle: int
    attempt: int
    epoch: int
    node: int
    coordinator: int
    outcome: int
    reused: bool
    weight: int
    seconds: float
    members: tuple[int, ...]


@dataclass(slots=True)
class FaultRow:
    """One fault that happened. tick: -1 at the end of a cycle.

    Node -1: an event of the plan that hit nobody (kind 'none'), or loss of messages that begins.

    kind: 16 bytes at most, detail: 128.
    """

    cycle: int
    tick: int
    node: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class FigureOfMerit:
    """One number that sums up a run."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Column:
    """A dataset: its type on disk, its dimensions, its unit, what stands where a rank left nothing, one sentence."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    unit: str
    missing: float | int | bytes
    doc: str


_NODE = ("cycle", "node")
_KIND = ("cycle", "node", "kind")

CYCLE_COLUMNS = (
    Column("accuracy", "f4", _NODE, "1", np.nan, "share of the common test set that the node's model gets right; nan: not evaluated"),
    Column("loss", "f4", _NODE, "nat", np.nan, "mean loss on the common test set; nan with a finite accuracy: the model diverged"),
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

RANK_COLUMNS = {
    "state": ("index", "what the rank left behind: index into the attribute `states`"),
    "survivors_finished": ("bool", "whether all nodes of the rank that were not crashed came to the end"),
    "first_node": ("node", "the first of the hosted nodes, which are a block; -1: no readable part"),
    "node_count": ("node", "how many nodes are hosted; 0: no readable part"),
    "cycles": ("cycle", "cycles the rank had written"),
    "host": ("text", "name of the machine"),
    "wall_s": ("s", "wall time of the run"),
    "startup_s": ("s", "wall time of what came before the run"),
    "checkpoint_s": ("s", "wall time of saving checkpoints"),
    "tail_s": ("s", "harness time after the last cycle's rows were made"),
}
"""Unit and meaning of what is known of a rank. Facts that are not listed are those of the world: counts."""

SCALES = {
    "cycle": ("cycle", "number of the cycle; learning cycles count from 1, warm-up cycles up to 0"),
    "node": ("node", "id of the node"),
    "kind": ("text", "kind of message"),
    "phase": ("text", "what the time was spent on"),
    "slot": ("1", "place in the view"),
    "report": ("1", "number of the report"),
    "member": ("1", "place in the list of members"),
    "fault": ("1", "number of the fault"),
    "label": ("1", "label of a class"),
    "boundary": ("1", "node whose samples start here; one more at the end"),
    "sample": ("1", "place in sample_indices"),
    "parameter": ("1", "place in the model's vector of parameters"),
    "rank": ("1", "number of the process"),
}
"""Unit and meaning of each dimension."""

_REPORT, _FAULT = ("report",), ("fault",)

GROUP_COLUMNS = (
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

FAULT_COLUMNS = (
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

FIGURES = {
    "accuracy_mean": ("1", "mean accuracy over live nodes in the last evaluated cycle"),
    "accuracy_std": ("1", "standard deviation of the same (over the nodes, not of the mean)"),
    "accuracy_min": ("1", "least of the same"),
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


def parts_folder(out: Path) -> Path:
    """Where the ranks write: OUT.h5.parts beside OUT.h5."""
    return out.parent / f"{out.name}.parts"


LOCK_NAME = "lock"
"""In the folder of the parts: locked by the run that writes them, holds its process and host."""


def part_path(out: Path, rank: int) -> Path:
    """The part file of one rank."""
    return parts_folder(out) / f"rank-{rank:05d}.h5"


def fixed(text: str, most: int) -> bytes:
    """The text as UTF-8 of at most `most` bytes, cut between characters."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore").encode("utf-8")


def bounded(texts: Sequence[str]) -> list[str]:
    """At most MOST_REASONS texts, the last of which says how many were left out, each cut to REASON_CHARACTERS."""
    kept = [str(text)[:REASON_CHARACTERS] for text in texts[:MOST_REASONS]]
    if len(texts) > MOST_REASONS:
        kept[-1] = f"and {len(texts) - MOST_REASONS + 1} more"
    return kept
