"""Watches a run from outside, and changes nothing of it.

`Watched` around a node sees events and decisions, `Tap` around the world, below the doors, sees what leaves and what arrives there, `Named`
around the averaging rule sees what is averaged. Vectors travel by reference within a process, so a model is known by its identity, and its
name says where it comes from. No number of it is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from healmpi.algorithms.averaging import Average
from healmpi.messages import Message
from healmpi.node import Action, CycleStarted, Event, Node, Step, Trained


class Names:
    """What vectors are called. They are kept, so that an identity is never given to another one."""

    def __init__(self) -> None:
        self._named: dict[int, tuple[np.ndarray, str]] = {}

    def give(self, vector: np.ndarray, name: str) -> None:
        self._named.setdefault(id(vector), (vector, name))

    def of(self, vector: np.ndarray | None) -> str:
        return self._named[id(vector)][1] if vector is not None and id(vector) in self._named else "nothing"


class Named(Average):
    """An averaging rule that tells what it has averaged."""

    def __init__(self, rule: Average, told: Any):
        super().__init__(rule.settings)
        self._rule, self._told, self.elementwise = rule, told, rule.elementwise

    def average(self, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
        result = self._rule.average(vectors, weights)
        self._told(result, vectors, weights)
        return result

    def serial(self, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray | None:
        return self._rule.serial(vectors, weights)


class Watched:
    """A node whose events and decisions are written down."""

    def __init__(self, node: Node, notes: Notes):
        self._node, self._notes = node, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def handle(self, event: Event) -> list[Action]:
        return self._notes.handled(self._node, event)


class Tap:
    """A world whose messages are written down: those that leave, and those that arrive at a node's door."""

    def __init__(self, world: Any, notes: Notes):
        self._world, self._notes = world, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def act(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        self._notes.left(node, actions)
        return self._world.act(node, tick, actions)

    def deliver(self, node: int) -> list[Message]:
        messages = self._world.deliver(node)
        self._notes.arrived(node, messages)
        return messages

    def close(self, tick: int, wake: int) -> Any:
        self._notes.between(tick)
        closed = self._world.close(tick, wake)
        self._notes.tick = closed.tick
        return closed


@dataclass
class Moment:
    """One node in one tick.

    told: events. made: averages, as (name, how). decided: actions. left: those that got out. arrived: what reached its door. hub: whether
    it counts itself one, after that.
    """

    told: list[Event] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)
    decided: list[Action] = field(default_factory=list)
    hub: bool = False
    left: list[Action] = field(default_factory=list)
    arrived: list[Message] = field(default_factory=list)

    @property
    def missing(self) -> list[Message]:
        """What reached the door and not the node."""
        heard = {id(message) for event in self.told if isinstance(event, Step) for message in event.messages}
        return [message for message in self.arrived if id(message) not in heard]

    @property
    def stopped(self) -> list[Action]:
        """What was decided and did not get out."""
        out = {id(action) for action in self.left}
        return [action for action in self.decided if id(action) not in out]


class Notes:
    """What happened in the current cycle.

    moments: by tick and node. views: at the start of the cycle. groups: averages made between ticks, by the tick that follows.
    """

    def __init__(self) -> None:
        self.names = Names()
        self.hubs: dict[int, bool] = {}  # whether a node counted itself one when it was at work last
        self.tick = self.start = self.cycle = 0
        self._acting: int | None = None  # the node that is at work; None: the hubs' reduction
        self.clear()

    def clear(self) -> None:
        """A new cycle begins."""
        self._groups_made = 0
        self.moments: dict[tuple[int, int], Moment] = {}
        self.views: dict[int, tuple[int, ...]] = {}
        self.groups: dict[int, list[tuple[str, str]]] = {}

    def _moment(self, node: int) -> Moment:
        return self.moments.setdefault((self.tick, node), Moment(hub=self.hubs.get(node, False)))

    # What the watchers say.

    def handled(self, node: Node, event: Event) -> list[Action]:
        if isinstance(event, CycleStarted):
            self.start, self.cycle = event.tick, event.cycle
            self.views[node.id] = node.view
        if isinstance(event, Trained):
            self.names.give(event.model, f"m{node.id}.{self.cycle}")
        self.tick, self._acting = event.tick, node.id
        actions = node.handle(event)
        moment = self._moment(node.id)
        moment.told.append(event)
        moment.decided += actions
        moment.hub = self.hubs[node.id] = node.is_hub
        return actions

    def averaged(self, result: np.ndarray, vectors: Sequence[np.ndarray], weights: Sequence[int]) -> None:
        parts = [
            self.names.of(vector) if weight == 1 else f"{weight} {self.names.of(vector)}"
            for vector, weight in zip(vectors, weights, strict=True)
        ]
        how = f"avg({', '.join(parts)})"
        if self._acting is None:
            name = f"g{self.cycle}" + "'" * self._groups_made
            self._groups_made += 1
            self.groups.setdefault(self.tick, []).append((name, how))
        else:
            name = f"a{self._acting}.{self.cycle}"
            self._moment(self._acting).made.append((name, how))
        self.names.give(result, name)

    def left(self, node: int, actions: list[Action]) -> None:
        self._moment(node).left += actions

    def arrived(self, node: int, messages: list[Message]) -> None:
        late = [message for message in messages if message.tick + 1 != self.tick]
        assert not late, f"what is sent in a tick arrives in the next one: {late} in tick {self.tick}"
        self._moment(node).arrived += messages

    def between(self, tick: int) -> None:
        self.tick, self._acting = tick + 1, None
