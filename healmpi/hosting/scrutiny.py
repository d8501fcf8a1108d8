"""What a user's own topology or rule wants done is looked at before it is done.

In one process almost anything can be handed over by reference; on several ranks it has to go through MPI. What would fail there, or
give other bits, fails here in the first run, in a sentence. What is shipped is not looked at, since it costs time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from healmpi.catalogue import Chosen
from healmpi.messages import Message, numbered
from healmpi.node import NEVER, Action, EnterGroup, Event, GroupAbandoned, GroupAveraged, GroupReport, Node, Train
from healmpi.settings import Misuse
from healmpi.worlds.clock import Clock

_SMALLEST_ID, _LARGEST_ID = -(2**31), 2**31 - 1
_SMALLEST_NUMBER, _LARGEST_NUMBER = -(2**63), 2**63 - 1


class Scrutiny:
    """Looks at the actions of one rank's nodes. nodes: of the run. model_size: floats in a model. clock: when a message is due."""

    def __init__(self, chosen: Chosen, nodes: int, model_size: int, clock: Clock):
        self._nodes, self._model_size, self._clock = nodes, model_size, clock
        self._vector_size = chosen.vector_size(model_size)
        self._kinds, self._of_overlay = frozenset(chosen.kinds), frozenset(chosen.topology.kinds)

    def __call__(self, node: Node, event: Event, tick: int, end: int, actions: Sequence[Action]) -> None:
        """Raise Misuse unless all of it can be done. end: the tick in which the next cycle starts. Vectors become unchangeable.

        event: what the node was told.
        """
        if not isinstance(actions, list):
            raise Misuse(f"node {node.id} returns {actions!r} when told of {type(event).__name__}: a list of actions is needed")
        for action in actions:
            if type(action) is Message:
                self._check_message(node.id, tick, end, action)
            elif type(action) is Train:
                what = f"node {node.id} wants to train a model which is"
                self._check_vector(what, action.model, self._model_size)
                if action.correction is not None:
                    what = f"node {node.id} wants gradients corrected by what is"
                    self._check_vector(what, action.correction, self._model_size)
            elif type(action) is EnterGroup:
                self._check_group(node.id, action)
            elif type(action) is not GroupReport:
                raise Misuse(f"node {node.id} returns {action!r}, which is no action: messages and Train are")
        # What became of a group is heard before the step of the same tick.
        if node.wake <= tick and not isinstance(event, GroupAveraged | GroupAbandoned):
            raise Misuse(f"node {node.id} leaves its `wake` at a tick that has come: set it to a later one, or to NEVER")
        if node.rule is not None and end <= node.rule.wake != NEVER:
            raise Misuse(f"node {node.id} sets `wake` to a tick after the end of the cycle: the `ticks` of its rule are too few")

    def _check_message(self, node: int, tick: int, end: int, message: Message) -> None:
        kind = numbered(message.kind)
        what = f"node {node} sends a message of kind {kind}"
        if kind not in self._kinds:
            raise Misuse(f"{what}, which neither topology nor rule has in its `kinds`")
        if not (_is_whole(message.target) and 0 <= message.target < self._nodes):
            raise Misuse(f"{what} to {message.target!r}, which is no node: 0 to {self._nodes - 1}")
        if message.source != node:
            raise Misuse(f"{what} in the name of {message.source!r}")
        if self._clock.due(tick) >= end:
            whose = "topology" if kind in self._of_overlay else "rule"
            raise Misuse(f"{what} in the last tick of a cycle: the `ticks` of its {whose} are too few")
        numbers = (message.number, _SMALLEST_NUMBER, _LARGEST_NUMBER), *((one, _SMALLEST_ID, _LARGEST_ID) for one in message[3:5])
        if not all(_is_whole(one) and low <= one <= high for one, low, high in numbers):
            raise Misuse(f"{what} in which cycle, tick and number are {(*message[3:5], message.number)}: whole numbers are needed")
        payload = message.payload
        if type(payload) is tuple:
            if not all(_is_whole(one) and _SMALLEST_ID <= one <= _LARGEST_ID for one in payload):
                raise Misuse(f"{what} with {payload!r}: whole numbers of 32 bits are needed, as ids are")
        elif payload is not None:
            self._check_vector(f"{what} with a payload which is", payload, None)

    def _check_group(self, node: int, group: EnterGroup) -> None:
        what = f"node {node} enters a group"
        members, weights = list(group.members), list(group.weights)
        if members != sorted(set(members)) or node not in members or not all(_is_whole(one) and 0 <= one < self._nodes for one in members):
            raise Misuse(f"{what} of {members}: ascending ids of the run are needed, its own among them")
        if len(weights) != len(members) or not all(_is_whole(one) and one >= 0 for one in weights):
            raise Misuse(f"{what} with the weights {weights}: a whole number from 0 on for each of {len(members)} members is needed")
        self._check_vector(f"{what} with a vector which is", group.vector, self._vector_size)

    def _check_vector(self, what: str, vector: Any, size: int | None) -> None:
        """size: None: any. From here on nobody can change it, whether it stays in this process or not."""
        needed = "a contiguous float32 vector" if size is None else f"a contiguous float32 vector of {size}"
        if not isinstance(vector, np.ndarray):
            raise Misuse(f"{what} a {type(vector).__name__}: {needed} is needed{', or a tuple of ids' if size is None else ''}")
        fits = vector.ndim == 1 and vector.dtype == np.float32 and vector.flags.c_contiguous and size in (None, len(vector))
        if not fits:
            raise Misuse(f"{what} {vector.dtype} {list(vector.shape)}: {needed} is needed")
        vector.flags.writeable = False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer)
