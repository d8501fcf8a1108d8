"""Puts what one node was told and did in a tick into phrases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from transcripts.watching import Moment, Names

from healmpi.algorithms.agreement import read_commit
from healmpi.messages import Commitment, Message, numbered
from healmpi.node import EnterGroup, GroupAbandoned, GroupAveraged, GroupReport, Step, Train, Trained

OWN = "\0"
"""Stands for the own id in the name of a node's own model, until it is known whether several nodes share the line."""

SAID_ONCE = ("group_propose", "group_commit", "news_request", "news_reply")
"""Kinds of messages whose content is shown where they are sent, and not again where they arrive."""


def ids(numbers: Iterable[int]) -> str:
    """'0 2-5 7': runs of three and more are drawn together; the order stays."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs) or "nobody"


def _group(group: EnterGroup | Commitment) -> str:
    reused = " (reused)" if group.reused else ""
    return f"group {group.epoch}{reused} of {ids(group.members)}, weights {' '.join(map(str, group.weights))}"


class Wording:
    """Puts what one node was told and did in a tick into phrases.

    names: of models. quiet: kinds of messages that are only counted. view: with which it began the cycle. asked: for their views.
    number: what the number beside a model says.
    """

    def __init__(self, node: int, names: Names, quiet: frozenset[str], view: Sequence[int], asked: Sequence[int], number: str = "of age"):
        self._node, self._names, self._quiet, self._view, self._asked = node, names, quiet, view, asked
        self._number = number

    def model(self, vector: np.ndarray | None) -> str:
        """The name, the own id in it replaced by OWN."""
        name = self._names.of(vector)
        own = f"{self._node}."
        return f"{name[0]}{OWN}.{name[1:].removeprefix(own)}" if name[1:].startswith(own) and name[0] in "ma" else name

    def phrases(self, moment: Moment) -> Iterator[str]:
        for event in moment.told:
            if isinstance(event, Step):
                yield from self._heard(event.messages)
            elif isinstance(event, GroupAveraged):
                yield f"<- group {event.epoch} averaged: {self.model(event.vector)}"
            elif isinstance(event, GroupAbandoned):
                yield f"<- group {event.epoch} abandoned"
        yield from self._not_heard(moment.missing)
        for name, how in moment.made:
            yield f"{name[0]}{OWN}.{name.partition('.')[2]} = {how}"
        trained = [event.model for event in moment.told if isinstance(event, Trained)]
        actions = moment.left if moment.told else []
        for action in actions:
            if isinstance(action, Train):
                yield f"trains {self.model(action.model)}" + (f" to {self.model(trained[0])}" if trained else "")
            elif isinstance(action, EnterGroup):
                yield f"enters {_group(action)}, with {self.model(action.vector)}"
            elif isinstance(action, GroupReport):
                yield f"reports attempt {action.attempt} under {action.coordinator}: {action.outcome}, weight {action.weight}"
        yield from self._sent([action for action in actions if isinstance(action, Message)], "->")
        yield from (f"DOES NOT ENTER {_group(action)}" for action in moment.stopped if isinstance(action, EnterGroup))
        yield from self._sent([action for action in moment.stopped if isinstance(action, Message)], "NOT SENT ->")

    def _loud(self, messages: Iterable[Message]) -> list[Message]:
        return [message for message in messages if numbered(message.kind).name not in self._quiet]

    def _sent(self, messages: list[Message], arrow: str) -> Iterator[str]:
        targets: dict[tuple[str, str], list[int]] = {}
        for message in self._loud(messages):
            targets.setdefault((numbered(message.kind).name, self._content(message)), []).append(message.target)
        for (kind, content), found in targets.items():
            yield f"{arrow} {kind} to {ids(found)}" + (f": {content}" if content else "")

    def _heard(self, messages: Iterable[Message]) -> Iterator[str]:
        for kind, found in self._by_kind(messages).items():
            contents = [self._content(message) for message in found] if kind not in SAID_ONCE else [""]
            said = contents[:1] if len(set(contents)) == 1 else contents
            text = self._tally(found) if kind == "cache_reply" else ", ".join(said)
            yield f"<- {kind} of {ids(message.source for message in found)}" + (f": {text}" if text else "")

    def _not_heard(self, messages: list[Message]) -> Iterator[str]:
        for kind, found in self._by_kind(messages).items():
            yield f"DOES NOT HEAR {kind} of {ids(message.source for message in found)}"

    def _by_kind(self, messages: Iterable[Message]) -> dict[str, list[Message]]:
        found: dict[str, list[Message]] = {}
        for message in self._loud(messages):
            found.setdefault(numbered(message.kind).name, []).append(message)
        return found

    def _content(self, message: Message) -> str:
        kind, payload, number = numbered(message.kind).name, message.payload, message.number
        if kind == "group_commit":
            return _group(read_commit(message))
        if kind == "group_propose":
            return f"attempt {number}"
        if kind == "group_promise":
            return f"weight {number}"
        if kind in ("news_request", "news_reply"):
            return " ".join(f"{peer}@{stamp}" for peer, stamp in zip(payload[::2], payload[1::2], strict=True))
        if isinstance(payload, tuple):
            return f"({ids(payload)})"
        return "" if payload is None else self.model(payload) + (f" {self._number} {number}" if number else "")

    def _tally(self, replies: Sequence[Message]) -> str:
        """How often each id occurs in the views that came, the most frequent first, then by id: Elevator's frequency map."""
        views = [message.payload for message in replies]
        views += [self._view] if self._node in self._view else []
        silent = set(self._asked) - {message.source for message in replies}
        counts = Counter(peer for view in views for peer in view if peer not in silent)
        text = " ".join(f"{peer}x{count}" for peer, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        own = "with the own view " if self._node in self._view else ""
        return f"{own}{text}" + (f"; no answer of {ids(sorted(silent))}" if silent else "")
