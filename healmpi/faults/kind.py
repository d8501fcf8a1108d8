"""What a kind of fault is, and what an entry of the fault plan has in common with all others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from healmpi.node import Action
from healmpi.settings import Section, UsageError, option

NO_END = 2**31 - 1
"""Last cycle of a fault that goes on to the end of the run."""

ANY, ONE, ALL = "none", "one", "all"

DOSE = "How many nodes are hit in all where hubs are: others of the live, drawn, make up the number. 0: hubs alone."
"""Where one algorithm has five hubs and another one server, equal doses make their losses of nodes comparable."""


class Arm(Protocol):
    """What becomes of a node's actions when it is to fall silent at some point among them: those that still get out."""

    def __call__(self, doors: Any, node: int, tick: int, actions: list[Action]) -> list[Action]: ...


class Ground(Protocol):
    """What a fault can do to a run. All of it is called on all ranks, and has an effect where the node lives."""

    def silence(self, node: int, kind: str, detail: str) -> None:
        """The node falls silent at once, for good. kind, detail: for the record."""

    def arm(self, node: int, kind: str, point: str, arm: Arm) -> None:
        """The node falls silent inside this cycle, at this point."""

    def replace(self, node: int, kind: str) -> None:
        """The node leaves, and a newcomer takes its place."""

    def lose(self, share: float) -> None:
        """This share of the messages of this cycle does not arrive."""


@dataclass(frozen=True, slots=True)
class Common(Section):
    """What every entry of the plan says: what happens, from when on, and to whom."""

    title: ClassVar[str] = "faults.plan"
    kind: str = option("crash", "What happens: see the kinds.")
    cycle: int = option(1, "Cycle of a crash, or the first cycle of churn or loss.", low=1)
    fraction: float = option(
        0.0, "Share of the live nodes that are hit (in each cycle, for churn), or of the messages that are lost.", low=0.0, high=1.0
    )
    nodes: tuple[int, ...] = option((), "Ids that are hit.", low=0)
    hubs: str = option(ANY, "Which of the current hubs or servers are hit: 'none', 'one', 'all'.", choices=(ANY, ONE, ALL))
    dose: int = option(0, DOSE, low=0)
    best_connected: int = option(0, "How many of the live nodes that stand in most views are hit; ties go to the smaller id.", low=0)
    spare_hubs: bool = option(False, "Whether those that are hubs or servers at that time are not hit.")


@dataclass(frozen=True, slots=True)
class Lasting(Section):
    """What an entry says that goes on for some cycles."""

    title: ClassVar[str] = "faults.plan"
    last_cycle: int = option(0, "Last cycle of churn or loss; 0: only `cycle`.", low=0)


class FaultKind:
    """A kind of fault.

    turn: the order in which kinds act at the start of a cycle. hits_nodes: whether it has victims. Event: what an entry of the plan says
    beyond what all say. Short: fields of the section `faults` that make an entry from the command line. first_field: which of them is
    the first cycle.
    """

    name: ClassVar[str] = ""
    turn: ClassVar[int] = 0
    hits_nodes: ClassVar[bool] = True
    Event: ClassVar[type[Section]]
    Short: ClassVar[type[Section]]
    first_field: ClassVar[str] = "first_cycle"

    @staticmethod
    def check(event: Any) -> None:
        """Raise UsageError: an entry of this kind makes no sense."""

    @staticmethod
    def short(section: Any) -> list[dict[str, Any]]:
        """The entries that the short fields make, as values of the fields of an entry. Raises UsageError."""
        return []

    @staticmethod
    def begin(event: Any, ground: Ground) -> None:
        """A cycle begins in which the event is due; of a kind without victims."""

    @staticmethod
    def strike(node: int, event: Any, ground: Ground) -> None:
        """A victim is hit at the start of a cycle."""

    @staticmethod
    def where(event: Any) -> str:
        """What is to be said of an event beyond whom it hits and when; '' or ' (...)'."""
        return ""


def described(event: Section) -> dict[str, Any]:
    """The fields of an entry that differ from their defaults."""
    return {item.name: getattr(event, item.name) for item in fields(event) if getattr(event, item.name) != item.default}


def check_victims(event: Any) -> None:
    """Raise UsageError unless an entry says in one way who is hit."""
    if target_count(event) != 1:
        raise UsageError("faults.plan", described(event), "exactly one of fraction, nodes, hubs, best_connected says who is hit")
    if event.spare_hubs and event.hubs != ANY:
        raise UsageError("faults.plan.spare_hubs", True, "false where hubs says who is hit")
    if event.dose and event.hubs == ANY:
        raise UsageError("faults.plan.dose", event.dose, "0 where hubs does not say who is hit: it is for hubs 'one' and 'all'")


def target_count(event: Any) -> int:
    """In how many ways an entry says who is hit."""
    return sum((event.fraction > 0, bool(event.nodes), event.hubs != ANY, event.best_connected > 0))


def check_window(event: Any) -> None:
    """Raise UsageError unless an entry that lasts ends after it begins."""
    if event.last_cycle and event.last_cycle < event.cycle:
        raise UsageError("faults.plan.last_cycle", event.last_cycle, f"at least the first cycle, {event.cycle}")
