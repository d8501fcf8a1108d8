"""The nodes that live on one rank: how they are made, replaced, kept in checkpoints, and what they hold in the end."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import numpy as np

from healmpi import streams
from healmpi.config import Config
from healmpi.faults.kinds.churn import RANDOM
from healmpi.learning.learners.kind import Trainer
from healmpi.node import Node, Setup
from healmpi.overlay.topology import Start
from healmpi.worlds.world import MortalWorld


class Population:
    """One rank's nodes. hosted: their ids, a block. learner: None when only the overlay runs. incarnation: of all nodes of the run."""

    def __init__(self, config: Config, hosted: range, learner: Trainer | None, world: MortalWorld):
        self._config, self._learner, self._world = config, learner, world
        self.hosted = hosted
        self.incarnation = [0] * config.run.nodes
        self.nodes = {node: self._first(node) for node in hosted}

    def _first(self, node: int) -> Node:
        """A node as it is at the start of a run."""
        everybody, first_cycle = range(self._config.run.nodes), 1 - self._config.run.warmup_cycles
        return self._make(node, everybody, self._learner.initial(node) if self._learner else None, first_cycle)

    def _make(self, node: int, known: Collection[int], model: np.ndarray | None, cycle: int) -> Node:
        """A node in its starting state. known: the ids its first view is drawn from. model: None: nothing is learnt."""
        seed, incarnation, chosen = self._config.run.seed, self.incarnation[node], self._config.chosen
        overlay = chosen.topology.overlay(Start(node, known, cycle, streams.picker(seed, "overlay", node, incarnation)))
        if model is None:
            return Node(node, overlay, None)
        assert self._learner is not None
        rng = streams.picker(seed, "learning", node, incarnation)
        samples = int(self._learner.labels(node).sum())
        setup = Setup(
            node,
            self._config.run.nodes,
            chosen.rule_settings,
            overlay,
            model,
            rng,
            chosen.average,
            samples,
            chosen.learner.plain_rate() or 0.0,
        )
        return Node(node, overlay, chosen.rule(setup))

    def standing(self) -> list[Node]:
        """The nodes that have not fallen silent, by ascending id."""
        silent = self._world.silent
        return [self.nodes[node] for node in self.hosted if node not in silent]

    def replace(self, node: int, known: Collection[int], cycle: int) -> bool:
        """A newcomer takes the node's place; on all ranks. Returns whether it lives here."""
        self.incarnation[node] += 1
        if node not in self.hosted:
            return False
        model = None
        if self._learner:
            self._learner.forget(node)
            fresh = self._config.faults.newcomer_model == RANDOM
            model = self._learner.newcomer(node, self.incarnation[node]) if fresh else self._learner.initial(node)
        self.nodes[node] = self._make(node, known, model, cycle)
        return True

    def all_finished(self) -> bool:
        """Whether every live node here has ended the last cycle's round: nothing is left that it waits for."""
        return all(node.has_ended_its_round for node in self.standing())

    # What is left of them.

    def state(self) -> dict[str, Any]:
        """What lasts from cycle to cycle, for a checkpoint."""
        return {"incarnation": self.incarnation, "nodes": {node: one.state() for node, one in self.nodes.items()}}

    def resume(self, state: dict[str, Any]) -> None:
        """As it was. Newcomers are made anew, with their own streams."""
        self.incarnation = state["incarnation"]
        for node in self.hosted:
            if self.incarnation[node]:
                self.nodes[node] = self._first(node)
            self.nodes[node].restore(state["nodes"][node])

    def models(self) -> np.ndarray | None:
        """The hosted nodes' models, float32 [nodes, size]; None when nothing was learnt."""
        return np.stack(self._models()) if self._learner else None

    def digests(self) -> list[str]:
        """SHA-256 of each hosted node's model; empty when nothing was learnt."""
        return [hashlib.sha256(model.data).hexdigest() for model in self._models()]

    def _models(self) -> list[np.ndarray]:
        """Empty when nothing was learnt."""
        models = [self.nodes[node].model for node in self.hosted]
        return [model for model in models if model is not None]
