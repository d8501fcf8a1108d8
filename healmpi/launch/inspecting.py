"""What is a user's own is looked at before any rank starts work: whether it keeps to what it declares, and is the same on all ranks."""

from __future__ import annotations

import zlib
from typing import Any

from healmpi import streams
from healmpi.catalogue import Chosen, naming_options
from healmpi.config import Config
from healmpi.learning.data import Dataset
from healmpi.messages import Kind
from healmpi.node import Overlay
from healmpi.overlay.static import Graph
from healmpi.overlay.topology import Start
from healmpi.settings import UsageError


def marks(config: Config) -> dict[str, Any]:
    """What must be the same on all ranks, by what an error calls it. Raises UsageError: something contradicts what it declares."""
    chosen = config.chosen
    found: dict[str, Any] = {}
    for name, value in chosen.sources().items():
        # Where the file lies may differ: each machine can have one of its own.
        if not name.endswith("_file"):
            found[name] = value
    shared = set(chosen.topology.kinds) & set(chosen.rule.kinds)
    if shared:
        whose, other = ("rule", "topology") if chosen.choices["rule"].own else ("topology", "rule")
        allowed = f"its `kinds` must be others than those of the {other}; both have {_listed(shared)}"
        raise UsageError(f"{whose}.factory", chosen.choices[whose].label, allowed)
    if chosen.choices["topology"].own:
        try:
            found["topology.factory: links"] = _topology_mark(chosen, config.run.nodes, config.run.seed, 1 - config.run.warmup_cycles)
        except UsageError:
            raise
        except Exception as error:
            raise _refused(chosen, f"its overlay(start) and links(node) must not fail ({type(error).__name__}: {error})") from error
    return found | {"kinds of messages, in the order of their declaration": [f"{kind.name} {int(kind)}" for kind in chosen.kinds]}


def check_same(rank: int, mine: dict[str, Any], first: dict[str, Any]) -> None:
    """Raise UsageError where something is not as on rank 0. mine, first: of `marks`."""
    for name, value in mine.items():
        if first.get(name) != value:
            raise UsageError(name, value, f"the same on every rank: rank {rank} has {value}, rank 0 {first.get(name)}")


def _topology_mark(chosen: Chosen, nodes: int, seed: int, cycle: int) -> int:
    """A checksum of all links; 0 where they are not fixed."""
    topology = chosen.topology
    overlay = topology.overlay(Start(0, range(nodes), cycle, streams.picker(seed, "overlay", 0, 0)))
    if not isinstance(overlay, Overlay):
        raise _refused(chosen, f"its overlay(start) must return a healmpi.node.Overlay, not {type(overlay).__name__}")
    if overlay.ticks != topology.ticks:
        raise _refused(chosen, f"its `ticks` and those of its overlay must be the same; they are {topology.ticks} and {overlay.ticks}")
    if set(overlay.kinds) != set(topology.kinds):
        listed = [_listed(kinds) for kinds in (topology.kinds, overlay.kinds)]
        raise _refused(chosen, f"its `kinds` and those of its overlay must be the same; they are {listed[0]} and {listed[1]}")
    offsets = list(overlay.offsets)
    if offsets != sorted({*offsets}) or any(not 0 <= offset <= overlay.ticks for offset in offsets):
        raise _refused(chosen, f"the `offsets` of its overlay must ascend, from 0 to its `ticks`, {overlay.ticks}; they are {offsets}")
    return _links_mark(chosen, topology, nodes) if isinstance(topology, Graph) else 0


def _links_mark(chosen: Chosen, topology: Graph, nodes: int) -> int:
    mark = 0
    for node in range(nodes):
        links = topology.links(node)
        if node in links or len(set(links)) < len(links) or any(not 0 <= peer < nodes for peer in links):
            raise _refused(chosen, f"links({node}) must be distinct other nodes, 0 to {nodes - 1}; they are {list(links)}")
        mark = zlib.crc32(repr(tuple(links)).encode(), mark)
    return mark


def _listed(kinds: Any) -> str:
    names = sorted(kind.name if isinstance(kind, Kind) else str(kind) for kind in kinds)
    return ", ".join(names) or "none"


def _refused(chosen: Chosen, allowed: str) -> UsageError:
    return UsageError("topology.factory", chosen.choices["topology"].label, allowed)


# Data.


def load(chosen: Chosen, seed: int) -> Dataset:
    """The data set. Whatever is wrong with a user's own is a UsageError."""
    choice = chosen.choices["data"]
    if not choice.own:
        return chosen.data.load(seed)
    try:
        with naming_options(type(choice.settings), "data.options"):
            data = chosen.data.load(seed)
    except (UsageError, OSError, MemoryError):
        raise
    except Exception as error:
        raise UsageError("data.factory", choice.label, f"its load({seed}) must not fail ({type(error).__name__}: {error})") from error
    if not isinstance(data, Dataset):
        allowed = f"its load(seed) must return a healmpi.learning.data.Dataset, not {type(data).__name__}"
        raise UsageError("data.factory", choice.label, allowed)
    return data


def data_mark(data: Dataset) -> int:
    """A checksum of what tells one data set from another, without looking at all samples."""
    mark = 0
    for array in (data.train_y, data.test_y, data.mean, data.std):
        mark = zlib.crc32(array.tobytes(), mark)
    return mark
