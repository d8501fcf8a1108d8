"""The fault boundary: who crashes when, and the doors of the nodes that did.

The plan is data (config.FaultsSection) and the same on all ranks: `Plan.strike` names the victims of a cycle from the
seed, the live nodes and, where hubs are meant, the hubs that the nodes themselves report. `Doors` stands between the
nodes of a rank and its world. A crashed node's doors are shut: nothing it does leaves, nothing that arrives reaches it,
and what arrives is counted as dropped. What lies below goes on: its rank receives, takes part in closing steps, and
keeps the node's promise to a hub group so that nobody is left waiting in something collective.

Points inside a cycle at which a crash can happen ("start" is its beginning):

    before_send     before the node's first MODEL or GLOBAL_MODEL leaves
    after_send      after all of them that it sends at once have left
    after_promise   after its GROUP_PROMISE, or its proposal, has left
    after_commit    the group is agreed on, the node does not enter the reduction
    in_reduction    the node has entered the reduction and does not finish it

The rule that surprises: a node that does not come by its point in that cycle crashes at the end of the cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from healmpi import streams
from healmpi.algorithms.heal import split_commit
from healmpi.config import FaultEvent
from healmpi.messages import Kind, Message
from healmpi.node import Action, EnterGroup
from healmpi.worlds.reductions import Reductions


class Strike(NamedTuple):
    """One victim of a cycle. kind: 'crash' or 'churn'."""

    node: int
    kind: str
    point: str


class Plan:
    """The whole fault plan of a run."""

    def __init__(self, events: Sequence[FaultEvent], seed: int):
        self._events, self._seed = tuple(events), seed

    def needs_hubs(self, cycle: int) -> bool:
        """Whether the victims of this cycle depend on who is a hub."""
        return any(event.hubs != "none" and self._is_due(event, cycle) for event in self._events)

    def strike(self, cycle: int, live: Iterable[int], hubs: Iterable[int]) -> list[Strike]:
        """The victims of a cycle by ascending id; nobody is hit twice. hubs: the live nodes that count themselves as such."""
        return sorted(Strike(node, event.kind, event.point) for event, victims in self._hits(cycle, live, hubs) for node in victims)

    def misses(self, cycle: int, live: Iterable[int], hubs: Iterable[int]) -> list[str]:
        """A sentence for each event of this cycle that hits nobody who is not hit by another one."""
        return [f"{event.kind} of {_whom(event)} hit nobody" for event, victims in self._hits(cycle, live, hubs) if not victims]

    def _hits(self, cycle: int, live: Iterable[int], hubs: Iterable[int]) -> Iterator[tuple[FaultEvent, list[int]]]:
        """Each event of the cycle with its victims; later events find only those that earlier ones have left."""
        live, hubs, hit = sorted(live), sorted(hubs), set()
        for index, event in enumerate(self._events):
            if self._is_due(event, cycle):
                rng = streams.picker(self._seed, "faults", cycle + 2**32, index)
                victims = _pick(event, [node for node in live if node not in hit], [hub for hub in hubs if hub not in hit], rng)
                hit.update(victims)
                yield event, victims

    @staticmethod
    def _is_due(event: FaultEvent, cycle: int) -> bool:
        return event.cycle <= cycle <= max(event.cycle, event.last_cycle)


def _pick(event: FaultEvent, live: list[int], hubs: list[int], rng) -> list[int]:
    if event.nodes:
        return [node for node in dict.fromkeys(event.nodes) if node in live]
    if event.hubs == "all":
        return hubs
    if event.hubs == "one":
        return [rng.choice(hubs)] if hubs else []
    return rng.sample(live, round(event.fraction * len(live)))


def _whom(event: FaultEvent) -> str:
    if event.nodes:
        return f"nodes {list(event.nodes)}"
    return f"a fraction of {event.fraction:g}" if event.hubs == "none" else f"{event.hubs} of the hubs"


class DropCounter(Protocol):
    """Told of every message that a shut door keeps out."""

    def __call__(self, message: Message) -> None: ...


class Doors:
    """The doors of one rank's nodes. dropped: called for each message shut out. silenced: called with a node, the tick
    and the point when it falls silent inside a cycle."""

    def __init__(self, reductions: Reductions, dropped: DropCounter, silenced):
        self._reductions, self._dropped, self._silenced = reductions, dropped, silenced
        self.shut: set[int] = set()
        self._armed: dict[int, str] = {}
        self._owed: list[tuple[int, Message]] = []  # coordinators that fell silent after their commit had left
        self._inside: list[int] = []  # members that entered in this tick and fall silent before the next

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
        """What gets in: everything, or nothing."""
        if node not in self.shut:
            return messages
        for message in messages:
            self._dropped(message)
            if message.kind == Kind.GROUP_COMMIT:
                self._keep_promise(node, message)
        return []

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
