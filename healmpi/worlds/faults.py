"""The fault boundary: who crashes when, and the doors of the nodes that did.

The plan is data (config.FaultsSection) and the same on all ranks: `Plan.strike` names the victims of a cycle from the
seed, the live nodes and, where they matter, the hubs that the nodes themselves report and the views that name a node. It
knows no algorithm: a server is a node that says it is a hub. `Doors` stands between the
nodes of a rank and its world. A crashed node's doors are shut: nothing it does leaves, nothing that arrives reaches it,
and what arrives is counted as dropped. What lies below goes on: its rank receives, takes part in closing steps, and
keeps the node's promise to a hub group so that nobody is left waiting in something collective.

Points inside a cycle at which a crash can happen ("start" is its beginning):

    before_send     before the node's first MODEL or GLOBAL_MODEL leaves
    after_send      after all of them that it sends at once have left
    after_promise   after its GROUP_PROMISE, or its proposal, has left
    after_commit    the group is agreed on, the node does not enter the reduction
    in_reduction    the node has entered the reduction and does not finish it

Loss is at the receiver's door, message by message from the receiver's own stream: a lost message was sent, and is counted as
dropped. A lost GROUP_COMMIT is honoured by the rank below, as that of a crashed node is. Reductions among hubs lose nothing: they
are MPI's own collectives. The rule that surprises: a node that does not come by its point in that cycle crashes at the end of the cycle.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from healmpi import streams
from healmpi.algorithms.central import split_commit
from healmpi.config import NO_END, FaultEvent
from healmpi.messages import Kind, Message
from healmpi.node import Action, EnterGroup
from healmpi.worlds.reductions import Reductions


class Strike(NamedTuple):
    """One victim of a cycle. kind: 'crash' or 'churn'."""

    node: int
    kind: str
    point: str


class State(NamedTuple):
    """What a plan may look at: the live nodes, those that count themselves hubs, both ascending; how many views name each node."""

    live: Sequence[int]
    hubs: Sequence[int] = ()
    degrees: Mapping[int, int] = {}


class Plan:
    """The whole fault plan of a run."""

    def __init__(self, events: Sequence[FaultEvent], seed: int):
        self._events, self._seed = tuple(events), seed

    def needs_hubs(self, cycle: int) -> bool:
        """Whether the victims of this cycle depend on who is a hub."""
        return any((event.hubs != "none" or event.spare_hubs) and self._is_due(event, cycle) for event in self._events)

    def needs_degrees(self, cycle: int) -> bool:
        """Whether the victims of this cycle depend on who stands in how many views."""
        return any(event.best_connected and self._is_due(event, cycle) for event in self._events)

    def strike(self, cycle: int, state: State) -> list[Strike]:
        """The victims of a cycle by ascending id; nobody is hit twice."""
        return sorted(Strike(node, event.kind, event.point) for event, victims in self._hits(cycle, state) for node in victims)

    def loss(self, cycle: int) -> float:
        """The probability with which a message of this cycle does not arrive."""
        arrives = 1.0
        for event in self._events:
            if event.kind == "loss" and self._is_due(event, cycle):
                arrives *= 1.0 - event.fraction
        return 1.0 - arrives

    def remarks(self, cycle: int, state: State) -> list[tuple[str, str]]:
        """Kind and sentence for each event that hits nobody who is not hit by another one, and each loss that begins."""
        missed = [("none", f"{event.kind} of {_whom(event)} hit nobody") for event, victims in self._hits(cycle, state) if not victims]
        begun = [event for event in self._events if event.kind == "loss" and event.cycle == cycle]
        return missed + [("loss", f"{event.fraction:g} of all messages, {_until(event)}") for event in begun]

    def _hits(self, cycle: int, state: State) -> Iterator[tuple[FaultEvent, list[int]]]:
        """Each event of the cycle with its victims; later events find only those that earlier ones have left."""
        hit: set[int] = set()
        for index, event in enumerate(self._events):
            if event.kind != "loss" and self._is_due(event, cycle):
                rng = streams.picker(self._seed, "faults", cycle + 2**32, index)
                spared = hit.union(state.hubs) if event.spare_hubs else hit
                victims = _pick(event, [node for node in state.live if node not in spared], state, hit, rng)
                hit.update(victims)
                yield event, victims

    @staticmethod
    def _is_due(event: FaultEvent, cycle: int) -> bool:
        return event.cycle <= cycle <= max(event.cycle, event.last_cycle)


def _pick(event: FaultEvent, free: list[int], state: State, hit: set[int], rng) -> list[int]:
    """The event's victims. free: those it may hit; hit: those that others have hit."""
    if event.nodes:
        return [node for node in dict.fromkeys(event.nodes) if node in free]
    if event.best_connected:
        return sorted(free, key=lambda node: (-state.degrees.get(node, 0), node))[: event.best_connected]
    hubs = [hub for hub in state.hubs if hub not in hit]
    if event.hubs == "all":
        return hubs
    if event.hubs == "one":
        return [rng.choice(hubs)] if hubs else []
    # A fraction of the live, spared ones included: 20 % are 20 nodes of 100, whoever is not among them.
    unhit = sum(node not in hit for node in state.live)
    return rng.sample(free, min(len(free), round(event.fraction * unhit)))


def _whom(event: FaultEvent) -> str:
    if event.nodes:
        return f"nodes {list(event.nodes)}"
    if event.best_connected:
        return f"the {event.best_connected} best connected"
    return f"a fraction of {event.fraction:g}" if event.hubs == "none" else f"{event.hubs} of the hubs"


def _until(event: FaultEvent) -> str:
    return "to the end" if event.last_cycle == NO_END else f"to cycle {max(event.cycle, event.last_cycle)}"


class DropCounter(Protocol):
    """Told of every message that a shut door keeps out."""

    def __call__(self, message: Message) -> None: ...


class Doors:
    """The doors of one rank's nodes. dropped: called for each message shut out. silenced: called with a node, the tick
    and the point when it falls silent inside a cycle. loss: the probability with which a message does not arrive."""

    def __init__(self, reductions: Reductions, seed: int, dropped: DropCounter, silenced):
        self._reductions, self._seed, self._dropped, self._silenced = reductions, seed, dropped, silenced
        self.shut: set[int] = set()
        self.loss = 0.0
        self._luck: dict[int, random.Random] = {}
        self._armed: dict[int, str] = {}
        self._owed: list[tuple[int, Message]] = []  # coordinators that fell silent after their commit had left
        self._inside: list[int] = []  # members that entered in this tick and fall silent before the next

    def state(self) -> tuple[set[int], dict[int, random.Random]]:
        """What lasts from cycle to cycle, for a checkpoint."""
        return self.shut, self._luck

    def restore(self, state: tuple[set[int], dict[int, random.Random]]) -> None:
        """As it was."""
        self.shut, self._luck = state

    def crash(self, node: int) -> None:
        """The node is silent from now on."""
        self.shut.add(node)
        self._armed.pop(node, None)

    def arm(self, node: int, point: str) -> None:
        """The node falls silent at this point of the cycle."""
        self._armed[node] = point

    def end_cycle(self) -> list[int]:
        """The armed nodes that did not come by their point crash now; returns them."""
        late = sorted(self._armed)
        for node in late:
            self.crash(node)
        return late

    def begin_tick(self, tick: int) -> None:
        """Keep what silent nodes had promised for this tick."""
        for node in self._inside:
            self._fall_silent(node, tick)
            self._reductions.fail(node)
        for node, commit in self._owed:
            self._keep_promise(node, commit)
        self._inside, self._owed = [], []

    def incoming(self, node: int, messages: list[Message]) -> list[Message]:
        """What gets in: everything, or nothing, or what is not lost."""
        if node in self.shut:
            return self._without(node, messages, messages)
        if self.loss:
            luck = self._luck.get(node) or self._luck.setdefault(node, streams.picker(self._seed, "loss", node))
            lost = [message for message in messages if luck.random() < self.loss]
            return self._without(node, messages, lost)
        return messages

    def _without(self, node: int, messages: list[Message], lost: list[Message]) -> list[Message]:
        for message in lost:
            self._dropped(message)
            if message.kind == Kind.GROUP_COMMIT:
                self._keep_promise(node, message)
        gone = {id(message) for message in lost}
        return [message for message in messages if id(message) not in gone]

    def _keep_promise(self, node: int, commit: Message) -> None:
        members, weights = split_commit(commit)
        epoch, reused = divmod(commit.number, 2)
        self._reductions.absent(node, epoch, members, weights, bool(reused))

    def outgoing(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        """What gets out of a live node's actions."""
        point = self._armed.get(node)
        if point is None:
            return actions
        return getattr(self, "_" + point)(node, tick, actions)

    def _fall_silent(self, node: int, tick: int) -> None:
        point = self._armed[node]
        self.crash(node)
        self._silenced(node, tick, point)

    def _before_send(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        first = next((index for index, action in enumerate(actions) if _carries_model(action)), None)
        if first is None:
            return actions
        self._fall_silent(node, tick)
        return actions[:first]

    def _after_send(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        return self._after_last(node, tick, actions, _carries_model)

    def _after_promise(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        return self._after_last(node, tick, actions, lambda action: _is(action, Kind.GROUP_PROMISE, Kind.GROUP_PROPOSE))

    def _after_last(self, node: int, tick: int, actions: list[Action], matches) -> list[Action]:
        last = max((index for index, action in enumerate(actions) if matches(action)), default=None)
        if last is None:
            return actions
        self._fall_silent(node, tick)
        return actions[: last + 1]

    def _after_commit(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        for index, action in enumerate(actions):
            if isinstance(action, EnterGroup):
                self._fall_silent(node, tick)
                self._reductions.absent(node, action.epoch, action.members, action.weights, action.reused)
                return actions[:index]
        commits = [action for action in actions if _is(action, Kind.GROUP_COMMIT)]
        if commits:
            self._owed.append((node, commits[0]))
        return self._after_last(node, tick, actions, lambda action: _is(action, Kind.GROUP_COMMIT))

    def _in_reduction(self, node: int, tick: int, actions: list[Action]) -> list[Action]:
        if any(isinstance(action, EnterGroup) for action in actions):
            self._inside.append(node)
        return actions


def _is(action: Action, *kinds: Kind) -> bool:
    return isinstance(action, Message) and action.kind in kinds


def _carries_model(action: Action) -> bool:
    return _is(action, Kind.MODEL, Kind.GLOBAL_MODEL)
