"""The fault plan of a run: its entries, whom each hits in a cycle, and how it is put into words.

The plan is data and the same on all ranks: `Plan.due` names the victims of a cycle from the seed, the live nodes and, where they
matter, the hubs that the nodes themselves report and the views that name a node. It knows no algorithm: a server is a node that says
it is a hub. What a fault does is the business of its kind (kinds/).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from healmpi import streams
from healmpi.extension import discover
from healmpi.faults import kinds
from healmpi.faults.kind import ALL, ANY, NO_END, Common, FaultKind, Ground, described
from healmpi.settings import Section, UsageError, assemble, field_names, option

FAULTS: dict[str, type[FaultKind]] = dict(sorted(discover(kinds, FaultKind).items(), key=lambda item: item[1].turn))
"""The kinds of faults by name, in the order in which they act."""

ANY_NUMBER = 2**31
"""Of nodes, to `check`: the plan hits none of them, whomever it names."""

FAULT_FREE = "no faults"
"""The wording of an empty plan."""


def _check_event(event: Any) -> None:
    Section.__post_init__(event)
    if event.kind not in FAULTS:
        raise UsageError("faults.plan.kind", event.kind, "one of " + ", ".join(map(repr, FAULTS)))
    kind = FAULTS[event.kind]
    # What is said must be of this kind, else it would be passed over in silence.
    own = {*field_names(Common), *field_names(kind.Event)}
    for name, value in described(event).items():
        if name not in own:
            others = ", ".join(other for other, one in FAULTS.items() if name in field_names(one.Event))
            raise UsageError(f"faults.plan.{name}", value, f"nothing with kind = {event.kind!r}: it is of {others}")
    kind.check(event)


FaultEvent: Any = assemble(
    "faults.plan", "One entry of the fault plan.", Common, [one.Event for one in FAULTS.values()], checked_by=_check_event
)


@dataclass(frozen=True, slots=True)
class Ways(Section):
    """What goes wrong, and when. The short fields make an entry of each kind; `plan` holds any number of them."""

    title: ClassVar[str] = "faults"
    spare_hubs: bool = option(False, "Whether crash_fraction, crash_nodes and churn_fraction pass over the current hubs or servers.")
    plan: tuple[FaultEvent, ...] = option((), "Further events: a list of tables, see FaultEvent.")


FaultsSection: Any = assemble("faults", Ways.__doc__ or "", None, [*(one.Short for one in FAULTS.values()), Ways])


def events_of(section: Any) -> tuple[Any, ...]:
    """The whole plan: the short fields' entries first, then `plan`. Raises UsageError."""
    short = [FaultEvent(kind=name, **values) for name, kind in FAULTS.items() for values in kind.short(section)]
    return (*short, *section.plan)


def check(section: Any, nodes: int, cycles: int) -> None:
    """Raise UsageError for an entry that cannot come true in such a run."""
    events = events_of(section)
    short = len(events) - len(section.plan)
    for index, event in enumerate(events):
        # A name that the user has written leads to the place.
        where = f"faults.plan[{index - short}]." if index >= short else f"faults.{event.kind}_"
        for node in event.nodes:
            if node >= nodes:
                raise UsageError(f"{where}nodes", node, f"a node id: 0 to {nodes - 1}")
        for name in ("best_connected", "dose"):
            if getattr(event, name) > nodes:
                raise UsageError(f"{where}{name}", getattr(event, name), f"at most run.nodes, {nodes}")
        if event.cycle > cycles:
            first = "cycle" if index >= short else FAULTS[event.kind].first_field
            raise UsageError(f"{where}{first}", event.cycle, f"at most run.cycles, {cycles}")


# The wording.


def whom(event: Any) -> str:
    """Who, or what share, is hit."""
    if event.nodes:
        return f"node {event.nodes[0]}" if len(event.nodes) == 1 else _nodes(len(event.nodes))
    if event.best_connected:
        return "best connected" if event.best_connected == 1 else f"{event.best_connected} best connected"
    if event.hubs != ANY:
        hubs = "all hubs" if event.hubs == ALL else "one hub"
        return f"{_nodes(event.dose)} with {hubs}" if event.dose else hubs
    return f"{100 * event.fraction:.3g}%"


def _nodes(count: int) -> str:
    return f"{count} node{'s' if count > 1 else ''}"


def when(event: Any) -> str:
    """The cycles of an entry."""
    last = max(event.cycle, event.last_cycle)
    return f"at {event.cycle}" if last == event.cycle else f"{event.cycle}-{'end' if last == NO_END else last}"


def wording(event: Any) -> str:
    """An entry in a few words, for example '20% crash at 10, hubs spared'."""
    spared = ", hubs spared" if event.spare_hubs else ""
    return f"{whom(event)} {event.kind} {when(event)}{FAULTS[event.kind].where(event)}{spared}"


def scenario(events: Sequence[Any]) -> str:
    """The whole plan in a few words."""
    return ", ".join(wording(event) for event in events) or FAULT_FREE


# The plan.


class Surroundings(NamedTuple):
    """What a plan may look at: the live nodes, those that count themselves hubs, both ascending; how many views name each node."""

    live: Sequence[int]
    hubs: Sequence[int] = ()
    degrees: Mapping[int, int] = {}


class Plan:
    """The entries of a run, and whom they hit. spared: whether they hit nobody."""

    def __init__(self, events: Sequence[Any], seed: int, spared: bool = False):
        self._events, self._seed, self._spared = tuple(events), seed, spared

    def needs_hubs(self, cycle: int) -> bool:
        """Whether the victims of this cycle depend on who is a hub."""
        return any((event.hubs != ANY or event.spare_hubs) and _is_due(event, cycle) for event in self._events)

    def needs_degrees(self, cycle: int) -> bool:
        """Whether the victims of this cycle depend on who stands in how many views."""
        return any(event.best_connected and _is_due(event, cycle) for event in self._events)

    def due(self, cycle: int, surroundings: Surroundings) -> list[tuple[Any, list[int]]]:
        """The entries that are due in a cycle, each with its victims. Nobody is hit twice: later ones find what earlier ones left."""
        return list(self._due(cycle, surroundings))

    def _due(self, cycle: int, surroundings: Surroundings) -> Iterator[tuple[Any, list[int]]]:
        hit: set[int] = set()
        if self._spared:
            surroundings = Surroundings(())
        for index, event in enumerate(self._events):
            if not _is_due(event, cycle):
                continue
            if not FAULTS[event.kind].hits_nodes:
                yield event, []
                continue
            rng = streams.picker(self._seed, "faults", cycle + 2**32, index)
            spared = hit.union(surroundings.hubs) if event.spare_hubs else hit
            victims = _pick(event, [node for node in surroundings.live if node not in spared], surroundings, hit, rng)
            hit.update(victims)
            yield event, victims


def remarks(cycle: int, due: Sequence[tuple[Any, list[int]]]) -> list[tuple[str, str]]:
    """Kind and sentence for what is to be said of the entries of a cycle besides their victims.

    Of each that hits nobody who is not hit by another one, or not as many as its dose, and of each without victims that begins.
    """
    aimed = [(event, len(victims)) for event, victims in due if FAULTS[event.kind].hits_nodes]
    missed = [(event, count) for event, count in aimed if not count or event.dose not in (0, count)]
    told = [("none", f"{wording(event)}: hit {_nodes(count) if count else 'nobody'}") for event, count in missed]
    begun = [event for event, _ in due if not FAULTS[event.kind].hits_nodes and event.cycle == cycle]
    return told + [(event.kind, wording(event)) for event in begun]


def carry_out(due: Sequence[tuple[Any, list[int]]], ground: Ground) -> None:
    """Do to the run what is due in a cycle: kind by kind, victims by ascending id."""
    for name, kind in FAULTS.items():
        mine = [(event, victims) for event, victims in due if event.kind == name]
        for event, _ in mine:
            kind.begin(event, ground)
        for node, event in sorted(((node, event) for event, victims in mine for node in victims), key=lambda pair: pair[0]):
            kind.strike(node, event, ground)


def _is_due(event: Any, cycle: int) -> bool:
    return event.cycle <= cycle <= max(event.cycle, event.last_cycle)


def _pick(event: Any, free: list[int], surroundings: Surroundings, hit: set[int], rng: random.Random) -> list[int]:
    """The entry's victims. free: those it may hit; hit: those that others have hit."""
    if event.nodes:
        return [node for node in dict.fromkeys(event.nodes) if node in free]
    if event.best_connected:
        return sorted(free, key=lambda node: (-surroundings.degrees.get(node, 0), node))[: event.best_connected]
    if event.hubs != ANY:
        return _pick_hubs(event, free, surroundings.hubs, rng)
    # A fraction of the live, spared ones included: 20 % are 20 nodes of 100, whoever is not among them.
    unhit = sum(node not in hit for node in surroundings.live)
    return rng.sample(free, min(len(free), round(event.fraction * unhit)))


def _pick_hubs(event: Any, free: list[int], hubs: Sequence[int], rng: random.Random) -> list[int]:
    """One or all of the hubs that may be hit, and as many others as are missing to the dose; no further hub is among these."""
    standing = [hub for hub in hubs if hub in free]
    chosen = standing if event.hubs == ALL or not standing else [rng.choice(standing)]
    others = [node for node in free if node not in hubs]
    return chosen + rng.sample(others, min(len(others), max(0, event.dose - len(chosen))))
