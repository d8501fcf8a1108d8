"""Crash: a node falls silent for good, at the start of a cycle or at a point inside it.

    start           the beginning of the cycle
    before_send     before the node's first message with a model leaves
    after_send      after all of them that it sends at once have left
    after_promise   after its promise to a hub group, or its proposal of one, has left
    after_commit    the group is agreed on, the node does not enter the reduction
    in_reduction    the node has entered the reduction and does not finish it

A node that does not come by its point in that cycle crashes at the end of the cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from healmpi.faults.kind import ALL, ANY, DOSE, ONE, Arm, FaultKind, Ground, check_victims
from healmpi.messages import Kind, Message, numbered
from healmpi.node import Action, EnterGroup
from healmpi.settings import Section, UsageError, option

START = "start"


def _before_send(doors: Any, node: int, tick: int, actions: list[Action]) -> list[Action]:
    first = next((index for index, action in enumerate(actions) if _kind_is(action, _carries_model)), None)
    if first is None:
        return actions
    doors.fall_silent(node, tick)
    return actions[:first]


def _after_send(doors: Any, node: int, tick: int, actions: list[Action]) -> list[Action]:
    return _after_last(doors, node, tick, actions, _carries_model)


def _after_promise(doors: Any, node: int, tick: int, actions: list[Action]) -> list[Action]:
    return _after_last(doors, node, tick, actions, _pledges)


def _after_last(doors: Any, node: int, tick: int, actions: list[Action], matches: Callable[[Kind], bool]) -> list[Action]:
    last = max((index for index, action in enumerate(actions) if _kind_is(action, matches)), default=None)
    if last is None:
        return actions
    doors.fall_silent(node, tick)
    return actions[: last + 1]


def _after_commit(doors: Any, node: int, tick: int, actions: list[Action]) -> list[Action]:
    for index, action in enumerate(actions):
        if isinstance(action, EnterGroup):
            doors.fall_silent(node, tick)
            doors.stay_away(node, action)
            return actions[:index]
    commits = [action for action in actions if _kind_is(action, _commits)]
    if commits:
        doors.owe(node, commits[0])
    return _after_last(doors, node, tick, actions, _commits)


def _in_reduction(doors: Any, node: int, tick: int, actions: list[Action]) -> list[Action]:
    if any(isinstance(action, EnterGroup) for action in actions):
        doors.fall_silent_inside(node)
    return actions


def _kind_is(action: Action, matches: Callable[[Kind], bool]) -> bool:
    return isinstance(action, Message) and matches(numbered(action.kind))


def _carries_model(kind: Kind) -> bool:
    return kind.carries_model


def _pledges(kind: Kind) -> bool:
    return kind.pledges


def _commits(kind: Kind) -> bool:
    return kind.commitment is not None


ARMS: dict[str, Arm] = {
    "before_send": _before_send,
    "after_send": _after_send,
    "after_promise": _after_promise,
    "after_commit": _after_commit,
    "in_reduction": _in_reduction,
}
POINTS = (START, *ARMS)
"""Points of a cycle at which a crash can happen."""


@dataclass(frozen=True, slots=True)
class Event(Section):
    """What a crash says beyond what all faults say."""

    title: ClassVar[str] = "faults.plan"
    point: str = option(START, "Where inside the cycle a crash happens.", choices=POINTS)


@dataclass(frozen=True, slots=True)
class Short(Section):
    """A crash from the command line."""

    title: ClassVar[str] = "faults"
    crash_cycle: int = option(10, "Cycle of the crash given by the fields below.", low=1)
    crash_fraction: float = option(0.0, "Share of the live nodes that crash.", low=0.0, high=1.0)
    crash_nodes: tuple[int, ...] = option((), "Ids that crash.", low=0)
    crash_hubs: str = option(ANY, "Which of the current hubs or servers crash: 'none', 'one', 'all'.", choices=(ANY, ONE, ALL))
    crash_dose: int = option(0, DOSE, low=0)
    crash_best_connected: int = option(0, "How many of the nodes that stand in most views crash.", low=0)
    crash_point: str = option(START, "Where inside the cycle that crash happens.", choices=POINTS)


class Crash(FaultKind):
    """Fall silent for good."""

    name: ClassVar[str] = "crash"
    turn: ClassVar[int] = 0
    Event: ClassVar[type[Section]] = Event
    Short: ClassVar[type[Section]] = Short
    first_field: ClassVar[str] = "cycle"

    @staticmethod
    def check(event: Any) -> None:
        check_victims(event)

    @staticmethod
    def short(section: Any) -> list[dict[str, Any]]:
        if section.crash_dose and section.crash_hubs == ANY:
            allowed = "0 where faults.crash_hubs is 'none': it says how many nodes crash, the hubs among them"
            raise UsageError("faults.crash_dose", section.crash_dose, allowed)
        common = {"cycle": section.crash_cycle, "point": section.crash_point}
        found: list[dict[str, Any]] = []
        if section.crash_fraction > 0:
            found.append({"fraction": section.crash_fraction, "spare_hubs": section.spare_hubs})
        if section.crash_nodes:
            found.append({"nodes": section.crash_nodes, "spare_hubs": section.spare_hubs})
        if section.crash_hubs != ANY:
            found.append({"hubs": section.crash_hubs, "dose": section.crash_dose})
        if section.crash_best_connected:
            found.append({"best_connected": section.crash_best_connected})
        return [common | one for one in found]

    @staticmethod
    def strike(node: int, event: Any, ground: Ground) -> None:
        if event.point == START:
            ground.silence(node, Crash.name, START)
        else:
            ground.arm(node, Crash.name, event.point, ARMS[event.point])

    @staticmethod
    def where(event: Any) -> str:
        return "" if event.point == START else f" ({event.point.replace('_', ' ')})"
