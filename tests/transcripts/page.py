"""Writes a watched run down, cycle by cycle."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transcripts.watching import Names, Notes
from transcripts.wording import OWN, Wording, ids

from healmpi.config import Config
from healmpi.messages import Message, numbered
from healmpi.results.rows import FaultRow

WIDTH = 112


@dataclass(frozen=True)
class Scene:
    """A run to be written down.

    about: what to look at. set: the configuration. overlay: cycles in which the overlay's messages are shown one by one.
    """

    name: str
    title: str
    about: str
    set: tuple[str, ...]
    overlay: tuple[int, ...] = ()


class Page:
    """Writes the lines of a run, cycle by cycle."""

    def __init__(self, scene: Scene, config: Config):
        self._scene, self._config = scene, config
        self._overlay_kinds = frozenset(kind.name for kind in config.chosen.topology.kinds)
        self.lines: list[str] = []
        self._dead: set[int] = set()

    def head(self) -> None:
        """What is run, and how to read it."""
        scene = self._scene
        title = f"{scene.name}: {scene.title}"
        self.lines += [title, "=" * len(title), "", *_filled(scene.about), ""]
        self.lines += _wrapped("set      ", scene.set, " ")
        self.lines += ["reading  " + line if not number else " " * 9 + line for number, line in enumerate(self._reading())]
        self.lines.append("")

    def _reading(self) -> Iterator[str]:
        yield "tick of the cycle, node; what arrived (<-), what it averaged, what it does (->); at the end of a cycle,"
        yield "where it stands. What leaves in a tick arrives in the next one."
        if self._config.learns:
            yield "m3.2: node 3's model after training in cycle 2; a3.2: an average that node 3 made in cycle 2; g2: one"
            yield "that a group of hubs made; m*.2: each its own."
        if self._config.hubs_wanted and not self._config.chosen.topology.static:
            yield "view 2 5 | 3: believes in the hubs 2 and 5, and knows 3."
        if self._scene.overlay and self._config.hubs_wanted:
            yield "0x2 1x1: in the views that came id 0 occurs twice and id 1 once; the most frequent ones are preferred."
        if self._config.topology.name == "newscast":
            yield "3@1: node 3, known to have lived in cycle 1."

    def start(self, nodes: dict[int, Any], names: Names) -> None:
        """Where the nodes stand before the first cycle that is shown."""
        self.lines.append("start")
        self._stand(nodes, names, None)

    def cycle(self, notes: Notes, nodes: dict[int, Any], faults: Sequence[FaultRow]) -> None:
        """What happened in a cycle. notes: of it alone."""
        cycle = notes.cycle
        self._dead |= {row.node for row in faults if row.kind == "crash"}
        if cycle < 1:
            self.lines += _wrapped(f"warm-up {cycle:>2}  ", _beliefs(nodes, self._dead), ", ")
            if cycle == 0:
                self.start(nodes, notes.names)
            return
        self.lines += ["", f"cycle {cycle}"]
        self.lines += [f"  the plan: {row.detail}" for row in faults if row.node < 0]
        quiet = frozenset() if cycle in self._scene.overlay else self._overlay_kinds
        if quiet:
            self._count_overlay(notes)
        asked = _asked(notes)
        number = "that counts" if hasattr(self._config.chosen.rule_settings, "weighting") else "of age"
        wordings = {node: Wording(node, notes.names, quiet, notes.views.get(node, ()), asked.get(node, ()), number) for node in nodes}
        struck = [row for row in faults if row.node >= 0]
        for tick in sorted({tick for tick, _ in notes.moments} | set(notes.groups) | {row.tick for row in struck if row.tick >= 0}):
            self._tick(tick, notes, wordings, [row for row in struck if row.tick == tick])
        self._rows("", _struck(row for row in struck if row.tick < 0))
        self._stand(nodes, notes.names, cycle)

    def _tick(self, tick: int, notes: Notes, wordings: dict[int, Wording], struck: Sequence[FaultRow]) -> None:
        """What happened in a tick. Nodes of which the same is to be said share a line."""
        in_round = tick - notes.start >= self._config.chosen.overlay_ticks
        said: dict[tuple[bool, tuple[str, ...]], list[int]] = {}
        for node in sorted(node for at, node in notes.moments if at == tick):
            moment = notes.moments[tick, node]
            phrases = tuple(wordings[node].phrases(moment))
            if phrases:
                hub = in_round and moment.hub and (bool(moment.told) or node not in self._dead)
                said.setdefault((hub, phrases), []).append(node)
        rows = _struck(row for row in struck if row.detail == "start")
        rows += [("", [f"{name} = {how}"]) for name, how in notes.groups.get(tick, [])]
        rows += [(("hub " if hub else "") + ids(found), _owned(phrases, found)) for (hub, phrases), found in said.items()]
        rows += _struck(row for row in struck if row.detail != "start")
        self._rows(str(tick - notes.start), rows)

    def _rows(self, when: str, rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        for who, phrases in rows:
            self.lines += _wrapped(f"  {when:>4}  {who:<11} ", phrases, "; ")
            when = ""

    def _count_overlay(self, notes: Notes) -> None:
        sent: Counter[str] = Counter()
        missed: Counter[str] = Counter()
        for moment in notes.moments.values():
            sent.update(numbered(one.kind).name for one in moment.left if isinstance(one, Message))
            missed.update(numbered(one.kind).name for one in moment.missing)
        counts = [
            f"{sent[kind]} {kind}" + (f" ({missed[kind]} not heard)" if missed[kind] else "")
            for kind in (one.name for one in self._config.chosen.topology.kinds)
        ]
        if counts:
            self._rows(f"0-{self._config.chosen.overlay_ticks}", [("overlay", counts)])

    def _stand(self, nodes: dict[int, Any], names: Names, cycle: int | None) -> None:
        """Where all nodes stand. cycle: that has ended; None: before the first."""
        said: dict[tuple[str, ...], list[int]] = {}
        for node, one in nodes.items():
            wording = Wording(node, names, frozenset(), (), ())
            phrases = ["silent"] if node in self._dead else _standing(one, wording, cycle)
            said.setdefault(tuple(phrases), []).append(node)
        self._rows("end" if cycle else "", [(ids(found), _owned(phrases, found)) for phrases, found in said.items()])


def _struck(faults: Iterable[FaultRow]) -> list[tuple[str, list[str]]]:
    return [(str(row.node), [f"FALLS SILENT: {row.kind}, {row.detail.replace('_', ' ')}"]) for row in faults]


def _asked(notes: Notes) -> dict[int, list[int]]:
    """Whom each node has asked for its view."""
    found: dict[int, list[int]] = {}
    for (_, node), moment in notes.moments.items():
        targets = [one.target for one in moment.left if isinstance(one, Message) and numbered(one.kind).name == "cache_request"]
        found.setdefault(node, []).extend(targets)
    return found


def _standing(node: Any, wording: Wording, cycle: int | None) -> list[str]:
    view, hubs, stamps = node.view, node.overlay.hubs(), getattr(node.overlay, "entries", None)
    first = hubs and view[: len(hubs)] == hubs
    if first:
        phrases = [f"view {ids(hubs)} | {ids(view[len(hubs) :])}" if hubs != view else f"view {ids(view)}"]
    else:
        phrases = [f"view {' '.join(f'{peer}@{stamps[peer]}' for peer in view) if stamps else ids(view)}"]
    if hubs and not first:
        phrases.append(f"hubs {ids(hubs)}")
    if node.is_hub:
        phrases.append("hub")
    if node.rule is not None:
        updated = "" if cycle is None else ", updated" if node.updated_in == cycle else ", NOT updated"
        phrases.append(f"holds {wording.model(node.model)}{updated}")
    return phrases


def _beliefs(nodes: dict[int, Any], dead: set[int]) -> list[str]:
    """Which hubs are believed in, and by how many."""
    counts = Counter(tuple(sorted(one.overlay.hubs())) for node, one in nodes.items() if node not in dead)
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"hubs {ids(hubs)} for {count}" if not number else f"{ids(hubs)} for {count}" for number, (hubs, count) in enumerate(found)]


def _owned(phrases: Sequence[str], nodes: Sequence[int]) -> list[str]:
    """The own id put in, or a star for several nodes."""
    return [phrase.replace(OWN, str(nodes[0]) if len(nodes) == 1 else "*") for phrase in phrases]


def _filled(text: str) -> list[str]:
    """Paragraphs filled to the width; what is indented stays as it is."""
    filled = [part.splitlines() if part.startswith(" ") else textwrap.wrap(part, WIDTH) for part in text.split("\n\n")]
    return [line for number, lines in enumerate(filled) for line in ([""] if number else []) + lines]


def _wrapped(lead: str, phrases: Sequence[str], between: str) -> list[str]:
    """Phrases one after another, broken between them where the line is full."""
    lines = [lead]
    for number, phrase in enumerate(phrases):
        if number and len(lines[-1]) + len(between) + len(phrase) > WIDTH:
            lines.append(" " * len(lead) + phrase)
        else:
            lines[-1] += (between if number else "") + phrase
    return [line.rstrip() for line in lines]
