"""The mail of one rank's nodes: what has come in, until it is due.

The order of a delivery does not depend on the order of arrival: by ascending source, and what one source sent keeps its order.
"""

from __future__ import annotations

import functools
import operator
from collections import defaultdict

from healmpi.messages import Message
from healmpi.node import NEVER

_source = operator.itemgetter(1)


class Mailbox:
    """Messages by the time when they are due."""

    def __init__(self) -> None:
        self._boxes: defaultdict[int, defaultdict[int, list[Message]]] = defaultdict(functools.partial(defaultdict, list))

    def put(self, due: int, message: Message) -> None:
        """Keep it until it is due."""
        self._boxes[due][message[2]].append(message)

    def earliest(self) -> int:
        """When something is due next; NEVER: nothing is here."""
        return min(self._boxes) if self._boxes else NEVER

    def take(self, now: int) -> dict[int, list[Message]]:
        """Hand out all that is due by now: target -> its messages in their order."""
        boxes = self._boxes
        if not boxes:
            return {}
        due = [one for one in boxes if one <= now]
        if not due:
            return {}
        due.sort()
        found = boxes.pop(due[0])
        for later in due[1:]:
            for target, messages in boxes.pop(later).items():
                found[target] += messages
        for messages in found.values():
            if len(messages) > 1:
                messages.sort(key=_source)
        return found
