"""The host of one rank: drives its nodes through cycles and ticks.

In a tick the host hands to each of its nodes what is due, carries out what they decide, trains all nodes that want it together, and
closes the tick with the other ranks. It knows no algorithm and no fault: its world is one in which nodes can fall silent.
"""

from __future__ import annotations

import time
from typing import Any

from healmpi.catalogue import Chosen
from healmpi.config import Config
from healmpi.faults.doors import Doors
from healmpi.faults.plan import Plan
from healmpi.hosting.checkpointing import Checkpointing, Saver
from healmpi.hosting.closing import Closing, Sink, Watch
from healmpi.hosting.guard import Guard
from healmpi.hosting.population import Population
from healmpi.hosting.recorder import MESSAGING, Recorder
from healmpi.hosting.scrutiny import Scrutiny
from healmpi.hosting.striking import Striker
from healmpi.learning.jobs import TrainJob
from healmpi.learning.learners.kind import Trainer
from healmpi.node import Action, CycleStarted, Event, GroupReport, Node, Step, Train, Trained
from healmpi.worlds.clock import Lockstep
from healmpi.worlds.world import FAILED, Closed, MortalWorld, World


class Host:
    """One rank's nodes, on their way through a run.

    world: of the rank, without faults. hosted: the ids that live here, a block. learner: None when only the overlay runs. sink: takes
    each cycle's rows. watch: called on rank 0 after each cycle. saver: saves the state; None: it is not saved.
    """

    def __init__(
        self, config: Config, world: World, hosted: range, learner: Trainer | None, sink: Sink, watch: Watch, saver: Saver | None = None
    ):
        self._config, self._learner = config, learner
        chosen, seed = config.chosen, config.run.seed
        self._recorder = Recorder(hosted, chosen.kinds, chosen.topology.view_size, *_sizes(chosen, learner))
        doors = Doors(world, config.run.nodes, seed, self._recorder.traffic, self._recorder.fault)
        self._world: MortalWorld = doors
        own = chosen.choices["topology"].own or chosen.choices["rule"].own
        self._scrutiny = Scrutiny(chosen, config.run.nodes, learner.size if learner else 0, Lockstep()) if own else None
        self._guard = Guard(doors)
        self.population = Population(config, hosted, learner, doors)
        self._striker = Striker(
            Plan(config.fault_events(), seed, chosen.topology.spared), self.population, doors, self._recorder, self._guard
        )
        self.closing = Closing(config, doors, self.population, learner, self._recorder, sink, watch, self._guard)
        self._checkpointing = Checkpointing(doors, self._guard, saver, 1 - config.run.warmup_cycles)
        self._jobs: list[TrainJob] = []
        self._cycle = 0
        self._next_cycle = 1 - config.run.warmup_cycles
        self._tick = 0  # in which the next cycle starts
        self._end = 0  # the same, of the cycle that is going on

    # The run.

    def run(self) -> None:
        """All cycles, from the first warm-up cycle to the last. Raises RunFailed, Stopped, StepTimeout."""
        for cycle in range(self._next_cycle, self._config.run.cycles + 1):
            self._tick = self._run_cycle(cycle, self._tick)
            self.closing.tail_s += self._checkpointing.end_cycle(cycle, self.state)
        self._guard.fail_together()

    def finish(self) -> None:
        """Let the world settle what is open."""
        self._world.finish()

    def state(self) -> dict[str, Any]:
        """All that lasts from cycle to cycle, for a checkpoint."""
        learner = self._learner.state() if self._learner else {}
        parts = {"population": self.population.state(), "world": self._world.state(), "learner": learner}
        return parts | {"tick": self._tick, "complaints": self.closing.complaints, "audited": self.closing.audited}

    def resume(self, cycle: int, state: dict[str, Any]) -> None:
        """Go on after this cycle, with the state that was saved then."""
        self._next_cycle, self._tick = cycle + 1, state["tick"]
        self.closing.complaints, self.closing.audited = state["complaints"], state["audited"]
        self.population.resume(state["population"])
        self._world.resume(state["world"])
        if self._learner:
            self._learner.restore(state["learner"])

    # A cycle.

    def _run_cycle(self, cycle: int, tick: int) -> int:
        started = time.perf_counter()
        self._cycle = self._recorder.cycle = cycle
        learn = self._learner is not None and cycle >= 1
        self._striker.begin_cycle(cycle, tick)
        end = self._end = tick + self._cycle_ticks(learn)

        # The first tick starts all live nodes; nothing is under way between cycles.
        ticks = 1
        self._guard(lambda: self._begin_cycle(tick, cycle, learn))
        closed = self._close(tick, end)
        while closed.tick < end:
            ticks += 1
            now = closed
            self._guard(lambda: self._run_tick(now))  # noqa: B023 - called at once
            closed = self._close(closed.tick, end)
        assert not closed.targets and not closed.outcomes, f"messages under way after cycle {cycle}: {sorted(closed.targets)}"

        self.closing.end_cycle(cycle, ticks, started)
        return end

    def _cycle_ticks(self, learn: bool) -> int:
        chosen = self._config.chosen
        return chosen.overlay_ticks + 1 + (chosen.round_ticks if learn else 0)

    def _begin_cycle(self, tick: int, cycle: int, learn: bool) -> None:
        for node in self.population.standing():
            self._handle(node, tick, CycleStarted(tick, cycle, learn))
        self._train(tick)

    def _close(self, tick: int, end: int) -> Closed:
        wake = min((node.wake for node in self.population.standing()), default=end)
        closed = self._world.close(tick, FAILED if self._guard.failed else min(wake, end))
        if closed.tick == FAILED:
            self._guard.fail_together()
        # Else the ticks would never come to the end of the cycle.
        assert closed.tick > tick, f"tick {closed.tick} follows tick {tick}"
        self._guard(self._hear_of_failure)
        return closed

    def _hear_of_failure(self) -> None:
        """What went wrong in the middle of something collective."""
        if self._world.failure is not None:
            raise self._world.failure

    # A tick.

    def _run_tick(self, closed: Closed) -> None:
        tick, nodes, world = closed.tick, self.population.nodes, self._world
        for identity, event in closed.outcomes:
            self._handle(nodes[identity], tick, event)
        targets, silent = set(closed.targets), world.silent
        for identity in self.population.hosted:
            # What comes to a silent node is fetched, too: it counts as dropped.
            messages = world.deliver(identity) if identity in targets else []
            node = nodes[identity]
            if identity not in silent and (messages or node.wake <= tick):
                self._handle(node, tick, Step(tick, messages))
        self._train(tick)

    def _handle(self, node: Node, tick: int, event: Event) -> None:
        started = time.perf_counter()
        actions = node.handle(event)
        if self._scrutiny is not None:
            self._scrutiny(node, event, tick, self._end, actions)
        for action in self._world.act(node.id, tick, actions):
            self._carry_out(node.id, action)
        self._recorder.seconds[self._recorder.index(node.id), MESSAGING] += time.perf_counter() - started

    def _carry_out(self, node: int, action: Action) -> None:
        """What the world has left over."""
        if isinstance(action, Train):
            self._jobs.append(TrainJob(node, self.population.incarnation[node], self._cycle, action.model, action.correction))
        else:
            assert isinstance(action, GroupReport)
            self._recorder.group(node, action)

    def _train(self, tick: int) -> None:
        if not self._jobs or self._learner is None:
            return
        jobs, self._jobs = self._jobs, []
        for done in self._learner.train(jobs):
            self._recorder.training(done.node, done.loss, done.seconds)
            self._handle(self.population.nodes[done.node], tick, Trained(tick, done.model, done.steps))


def _sizes(chosen: Chosen, learner: Trainer | None) -> tuple[int, int]:
    """Floats in what is sent as a model, and classes; 0 where nothing is learnt."""
    return (chosen.vector_size(learner.size), len(learner.tested)) if learner else (0, 0)
