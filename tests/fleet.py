"""Elevator nodes alone, without hosts or worlds: for tests of the overlay at the publication's sizes."""

from __future__ import annotations

import random

from healmpi import streams
from healmpi.overlay import metrics
from healmpi.overlay.elevator import Climber, ElevatorSettings


class Fleet:
    """n nodes; `lockstep` and `in_turns` are the two extremes of how nodes can act in a cycle."""

    def __init__(self, n: int, c: int, h: int, seed: int, **settings):
        self.n, self.seed, self.cycle, self.born = n, seed, 0, 0
        self.settings = ElevatorSettings(c, h, **settings)
        self.nodes: dict[int, Climber] = {}
        for node in range(n):
            self.join(node, range(n))

    def join(self, node: int, known) -> None:
        rng = streams.picker(self.seed, "fleet", node, self.born)
        others = [peer for peer in sorted(known) if peer != node]
        self.nodes[node] = Climber(node, self.settings, rng.sample(others, min(len(others), self.settings.view_size)), rng)

    def lockstep(self) -> None:
        """All act on the views of the cycle before, as the lockstep clock has it."""
        self.cycle += 1
        inbox: dict[int, list] = {}
        for tick in range(Climber.ticks + 1):
            out = []
            for node in sorted(self.nodes):
                overlay = self.nodes[node]
                out += overlay.receive(tick, inbox.get(node, ()))
                if tick in overlay.offsets:
                    out += overlay.advance(tick, tick, self.cycle)
            inbox = {}
            for message in out:
                inbox.setdefault(message.target, []).append(message)

    def in_turns(self) -> None:
        """One after another, in random order: each acts on the newest views."""
        self.cycle += 1
        order = sorted(self.nodes)
        random.Random(f"{self.seed}/{self.cycle}").shuffle(order)
        for node in order:
            overlay = self.nodes[node]
            for offset in overlay.offsets:
                for message in overlay.advance(offset, offset, self.cycle):
                    if message.target in self.nodes:
                        overlay.receive(offset, self.nodes[message.target].receive(offset, [message]))

    def views(self) -> dict[int, tuple[int, ...]]:
        return {node: overlay.view for node, overlay in self.nodes.items()}

    def hubs(self) -> list[int]:
        return metrics.hubs(self.views())

    def until_hubs(self, step, count: int, most: int) -> int:
        """Cycles until `count` hubs stand in every view; most + 1 when they do not."""
        for cycle in range(1, most + 1):
            step()
            if len(self.hubs()) >= count:
                return cycle
        return most + 1
