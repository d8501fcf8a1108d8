"""The host of one rank: drives its nodes through cycles and ticks, and writes down what happened.

In a tick the host hands to each of its nodes what arrived and what has become due, carries out what they decide, trains
all nodes that want it together, and closes the tick with the other ranks. It knows no algorithm. The rule that
surprises: the harness's own work (evaluating, auditing, flushing) lies between cycles and is timed apart, so that it
never counts as the algorithm's.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from healmpi import streams
from healmpi.audit import recompute
from healmpi.config import Config
from healmpi.learning.jobs import TrainJob
from healmpi.messages import Message
from healmpi.node import NEVER, Action, CycleStarted, EnterGroup, GroupAveraged, GroupReport, Node, Step, Train, Trained
from healmpi.participants import Participants
from healmpi.recorder import EVALUATION, HARNESS, MESSAGING, WAIT, Recorder
from healmpi.results.writer import CycleRows, FaultRow, GroupRow
from healmpi.stopping import GO_ON, STOP, Stopped, Stopper
from healmpi.worlds.faults import Doors, Plan, State, Strike
from healmpi.worlds.world import FAILED, World

if TYPE_CHECKING:
    from healmpi.learning.learner import Learner

AUDIT_BYTES = 8 * 2**20
"""With results.audit = 'auto', runs whose models together are no larger than this are audited, in bytes."""

LARGEST_COMPLAINT_COUNT = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the whole run stands, for the person who watches. accuracy: mean over live nodes, nan without evaluation."""

    cycle: int
    live: int
    hubs: int
    accuracy: float


class RunFailed(RuntimeError):
    """Something went wrong in a run on some rank. Raised on all ranks, which are at rest: another run can follow."""


class Keeper(Protocol):
    """Saves the run's state. stopper: the first rank's judgement of when. save: on all ranks together; raises RunFailed."""

    stopper: Stopper

    def save(self, step: int, cycle: int, state: dict[str, Any]) -> None: ...


Sink = Callable[[CycleRows, list[GroupRow], list[FaultRow]], None]


class Host:
    """One rank's nodes.

    nodes: the hosted ids, a block. learner: None when only the overlay runs. sink: takes each cycle's rows.
    watch: called on rank 0 after each cycle.
    """

    def __init__(
        self, config: Config, participants: Participants, world: World, nodes: range, learner: Learner | None, sink: Sink,
        watch: Callable[[Progress], None], keeper: Keeper | None = None,
    ):  # fmt: skip
        self._config, self._world, self._learner, self._sink, self._watch = config, world, learner, sink, watch
        self._hosted = nodes
        self._plan = Plan(config.faults.events(), config.run.seed)
        self._participants = participants
        self._recorder = Recorder(nodes, self._participants.view_width)
        self._doors = Doors(world.reductions, config.run.seed, self._recorder.traffic.shut_out, self._silenced)
        self._first_cycle = self._next_cycle = self._cycle = 1 - config.run.warmup_cycles
        self._incarnation = [0] * config.run.nodes
        self._live = set(range(config.run.nodes))  # all nodes of the run: every rank knows the plan
        self._doomed: set[int] = set()  # those that fall silent inside this cycle
        everybody = range(config.run.nodes)
        self._nodes = {node: self._make(node, everybody, learner.initial(node) if learner else None) for node in nodes}
        self._jobs: list[TrainJob] = []
        self._keeper = keeper
        self._tick = 0  # in which the next cycle starts
        self._failure: str | None = None  # what went wrong on this rank
        self.complaints: list[str] = []
        self.tail_s = 0.0  # seconds spent after the last cycle's rows were made
        self.audited = learner is not None and self._wants_audit()

    def _wants_audit(self) -> bool:
        small = self._config.run.nodes * self._learner.size * 4 <= AUDIT_BYTES
        return self._config.results.audit == "on" or (self._config.results.audit == "auto" and small)

    def _make(self, node: int, known: Collection[int], model: np.ndarray | None) -> Node:
        """A node in its starting state. known: the ids its first view is drawn from."""
        return self._participants.make(node, self._incarnation[node], known, model, self._cycle)

    # The run.

    def run(self) -> None:
        """All cycles, from the first warm-up cycle to the last. Raises RunFailed, StepTimeout."""
        for cycle in range(self._next_cycle, self._config.run.cycles + 1):
            self._tick = self._run_cycle(cycle, self._tick)
            self._keep(cycle)
        self._fail_together()

    # Checkpoints.

    def _keep(self, cycle: int) -> None:
        """Meet all ranks; save the state, and stop, if the first rank says so."""
        keeper = self._keeper
        started = time.perf_counter()
        # Ranks that had less to do wait here, not in the next cycle, where it would count as the algorithm's.
        word = self._world.meet(keeper.stopper.word(cycle) if keeper and self._world.rank == 0 else GO_ON)
        if word != GO_ON:
            # A rank that has failed has no state worth keeping.
            self._fail_together()
            try:
                keeper.save(cycle - self._first_cycle + 1, cycle, self._state())
            except RunFailed:
                self._world.finish()
                raise
            if word == STOP:
                reason = self._world.share(keeper.stopper.reason)[0]
                self._world.finish()
                raise Stopped(f"after cycle {cycle}: {reason}")
        self.tail_s += time.perf_counter() - started

    def _state(self) -> dict[str, Any]:
        return {
            "tick": self._tick, "incarnation": self._incarnation, "live": self._live, "doomed": self._doomed, "nodes": self._nodes,
            "doors": self._doors.state(), "complaints": self.complaints, "learner": self._learner.state() if self._learner else {},
            "counts": self._world.facts.counts,
        }  # fmt: skip

    def resume(self, cycle: int, state: dict[str, Any]) -> None:
        """Go on after this cycle, with the state that was saved then."""
        self._next_cycle = cycle + 1
        self._tick, self._incarnation, self._live, self._doomed = (state[name] for name in ("tick", "incarnation", "live", "doomed"))
        self._nodes, self.complaints = state["nodes"], state["complaints"]
        self._doors.restore(state["doors"])
        if self._learner:
            self._learner.restore(state["learner"])
        self._world.resume(state["counts"])

    def _guard(self, work: Callable[[], None]) -> None:
        """Do what only this rank does. If it fails, the others learn of it when the next step closes, instead of waiting for ever."""
        if self._failure is None:
            try:
                work()
            except Exception as error:
                if not isinstance(error, OSError | MemoryError):  # these say all by themselves
                    traceback.print_exc()
                self._failure = f"rank {self._world.rank}: {type(error).__name__}: {error}"

    def _fail_together(self) -> None:
        """Raise RunFailed on all ranks if any has failed."""
        first = next((one for one in self._world.share(self._failure) if one is not None), None)
        if first is not None:
            self._world.reductions.give_up()
            self._world.finish()
            raise RunFailed(first)

    def _run_cycle(self, cycle: int, tick: int) -> int:
        started = time.perf_counter()
        self._cycle = cycle
        learn = self._learner is not None and cycle >= 1
        self._strike(cycle, tick)
        end = tick + self._cycle_ticks(learn)

        # The first tick starts all live nodes; nothing is under way between cycles.
        ticks = 1
        self._doors.begin_tick(tick)
        self._guard(lambda: self._begin_cycle(tick, cycle, learn))
        closed = self._close(tick, end)
        while closed.tick < end:
            ticks += 1
            now = closed
            self._guard(lambda: self._run_tick(*now))  # noqa: B023 - called at once
            closed = self._close(closed.tick, end)
        assert not closed.inbox and not closed.outcomes, f"messages under way after cycle {cycle}: {sorted(closed.inbox)}"

        self._end_cycle(cycle, ticks, started)
        return end

    def _begin_cycle(self, tick: int, cycle: int, learn: bool) -> None:
        for node in self._standing():
            self._handle(node, tick, CycleStarted(tick, cycle, learn))
        self._train(tick)

    def _cycle_ticks(self, learn: bool) -> int:
        return self._participants.overlay_ticks + 1 + (self._participants.round_ticks if learn else 0)

    def _standing(self) -> list[Node]:
        return [self._nodes[node] for node in self._hosted if node not in self._doors.shut]

    def _close(self, tick: int, end: int):
        wake = min((node.wake for node in self._standing()), default=end)
        closed = self._world.close(tick, min(wake, end) if self._failure is None else FAILED)
        if closed.tick == FAILED:
            self._fail_together()
        return closed

    # A tick.

    def _run_tick(self, tick: int, inbox: dict[int, list[Message]], outcomes: list) -> None:
        self._doors.begin_tick(tick)
        for node, event in outcomes:
            if node not in self._doors.shut:
                if isinstance(event, GroupAveraged):
                    self._recorder.traffic.reduction(node, len(self._nodes[node].rule.group_members), self._learner.size)
                self._handle(self._nodes[node], tick, event)
        for identity in self._hosted:
            node, messages = self._nodes[identity], inbox.get(identity, [])
            if messages:
                messages = self._doors.incoming(identity, messages)
                self._recorder.traffic.accepted(identity, messages)
            if identity not in self._doors.shut and (messages or node.wake <= tick):
                self._handle(node, tick, Step(tick, messages))
        self._train(tick)

    def _handle(self, node: Node, tick: int, event) -> None:
        started = time.perf_counter()
        self._carry_out(node.id, tick, self._doors.outgoing(node.id, tick, node.handle(event)))
        self._recorder.seconds[self._recorder.index(node.id), MESSAGING] += time.perf_counter() - started

    def _carry_out(self, node: int, tick: int, actions: list[Action]) -> None:
        send, sent = self._world.send, self._recorder.traffic.sent
        for action in actions:
            kind = type(action)
            if kind is Message:
                send(action)
                sent(action)
            elif kind is Train:
                self._jobs.append(TrainJob(node, self._incarnation[node], self._cycle, action.model))
            elif kind is EnterGroup:
                self._world.reductions.enter(node, action)
            else:
                assert kind is GroupReport
                self._recorder.group(self._cycle, node, action)

    def _train(self, tick: int) -> None:
        if not self._jobs:
            return
        jobs, self._jobs = self._jobs, []
        for done in self._learner.train(jobs):
            self._recorder.training(done.node, done.loss, done.seconds)
            self._handle(self._nodes[done.node], tick, Trained(tick, done.model))

    # Faults.

    def _strike(self, cycle: int, tick: int) -> None:
        """Carry out what the plan has for the start of this cycle; arm what it has for later in it."""
        self._live -= self._doomed
        self._doomed = set()
        plan, state = self._plan, self._surroundings(cycle)
        strikes = plan.strike(cycle, state)
        self._doors.loss = plan.loss(cycle)
        if self._hosted.start == 0:
            for kind, text in plan.remarks(cycle, state):
                self._recorder.fault(cycle, tick, -1, kind, text)
        for strike in strikes:
            if strike.kind == "crash":
                self._crash(strike, tick)
        # Newcomers learn of nodes that stand after this cycle's crashes.
        for strike in strikes:
            if strike.kind == "churn":
                self._replace(strike.node, tick)

    def _surroundings(self, cycle: int) -> State:
        """What the plan needs to know of the whole run in this cycle; the same on all ranks."""
        hubs: list[int] = []
        if self._plan.needs_hubs(cycle):
            mine = [node.id for node in self._standing() if node.overlay.is_hub()]
            hubs = [hub for part in self._world.share(mine) for hub in part]
        degrees: Counter[int] = Counter()
        if self._plan.needs_degrees(cycle):
            for part in self._world.share(Counter(peer for node in self._standing() for peer in set(node.overlay.view))):
                degrees.update(part)
        return State(sorted(self._live), sorted(hubs), degrees)

    def _crash(self, strike: Strike, tick: int) -> None:
        node, at_once = strike.node, strike.point == "start"
        (self._live.discard if at_once else self._doomed.add)(node)
        if node not in self._hosted:
            return
        if at_once:
            self._doors.crash(node)
            self._recorder.fault(self._cycle, tick, node, "crash", "start")
        else:
            self._doors.arm(node, strike.point)

    def _replace(self, node: int, tick: int) -> None:
        self._incarnation[node] += 1
        if node not in self._hosted:
            return
        model = None
        if self._learner:
            self._learner.forget(node)
            fresh = self._config.faults.newcomer_model == "random"
            model = self._learner.newcomer(node, self._incarnation[node]) if fresh else self._learner.initial(node)
        self._nodes[node] = self._make(node, self._live, model)
        self._recorder.fault(self._cycle, tick, node, "churn", f"incarnation {self._incarnation[node]}")

    def _silenced(self, node: int, tick: int, point: str) -> None:
        self._recorder.fault(self._cycle, tick, node, "crash", point)

    # The end of a cycle.

    def _end_cycle(self, cycle: int, ticks: int, started: float) -> None:
        for node in self._doors.end_cycle():
            self._recorder.fault(cycle, -1, node, "crash", "end of cycle")
        self._world.reductions.end_cycle()
        ended = time.perf_counter()
        self._guard(lambda: self._evaluate(cycle))
        evaluated = time.perf_counter()
        self._report(cycle)
        self._account(evaluated - ended, time.perf_counter() - started + self.tail_s)

        # What follows is the harness's: it is booked in the next cycle, since this one's rows are handed over here.
        handing_over = time.perf_counter()
        self._guard(lambda: self._sink(*self._rows(cycle, ticks)))
        self.tail_s = time.perf_counter() - handing_over

    def _evaluate(self, cycle: int) -> None:
        """Judge the live nodes' models if this cycle is one for it."""
        if self._learner is None or not self._evaluates(cycle):
            return
        judged = self._sample(cycle)
        models = [node.rule.model for node in judged]
        for node, model, (accuracy, loss) in zip(judged, models, self._learner.evaluate(models), strict=True):
            self._recorder.evaluated(node.id, accuracy, loss, model)

    def _sample(self, cycle: int) -> list[Node]:
        """The hosted ones of the live nodes that are judged in this cycle: all ranks make the same draw."""
        count = self._config.evaluation.nodes
        live = sorted(self._live - self._doomed)
        if not count or count >= len(live):
            return self._standing()
        chosen = set(streams.picker(self._config.run.seed, "evaluation", cycle).sample(live, count))
        return [node for node in self._standing() if node.id in chosen]

    def _evaluates(self, cycle: int) -> bool:
        every = self._config.evaluation.every
        return every > 0 and cycle >= 1 and (cycle % every == 0 or cycle == self._config.run.cycles)

    def _report(self, cycle: int) -> None:
        """Tell rank 0 how the cycle went: for the person who watches, and for the audit."""
        standing = self._standing()
        hubs = sum(node.overlay.is_hub() for node in standing)
        accuracies = self._recorder.accuracy[~np.isnan(self._recorder.accuracy)]
        rounds: dict[int, Any] = {}
        if self.audited and cycle >= 1:
            rounds = {node: self._nodes[node].rule.round for node in self._hosted if node in self._live}
        self._world.meet()
        told = self._world.gather((len(standing), hubs, float(accuracies.sum()), len(accuracies), rounds))
        if told is None:
            return
        live, hubs, total, judged = (sum(part[index] for part in told) for index in range(4))
        self._watch(Progress(cycle, live, hubs, total / judged if judged else float("nan")))
        if len(self.complaints) < LARGEST_COMPLAINT_COUNT:
            self.complaints += recompute(cycle, {node: one for part in told for node, one in part[4].items()})

    def _account(self, evaluated_s: float, wall_s: float) -> None:
        """Split the cycle's wall time; what nothing else claims is the harness's."""
        recorder, inside = self._recorder, self._world.seconds.take()
        recorder.group_seconds(self._world.reductions.seconds_of)
        self._world.reductions.seconds_of.clear()
        recorder.spread(MESSAGING, inside.messaging)
        recorder.spread(WAIT, inside.wait)
        recorder.spread(EVALUATION, evaluated_s)
        recorder.spread(HARNESS, max(0.0, wall_s - recorder.seconds.sum()))

    def _rows(self, cycle: int, ticks: int) -> tuple[CycleRows, list[GroupRow], list[FaultRow]]:
        recorder, shut = self._recorder, self._doors.shut
        nodes = [self._nodes[node] for node in self._hosted]
        alive = [node.id not in shut for node in nodes]
        groups, faults = recorder.groups, recorder.faults
        rows = recorder.rows(
            cycle,
            ticks,
            alive=alive,
            is_hub=[up and node.overlay.is_hub() for up, node in zip(alive, nodes, strict=True)],
            incarnation=[self._incarnation[node.id] for node in nodes],
            staleness=[self._staleness(node, cycle) for node in nodes],
            views=[node.overlay.view for node in nodes] if self._shows_views(cycle) else None,
        )
        return rows, groups, faults

    def _shows_views(self, cycle: int) -> bool:
        every = self._config.results.views_every
        # Views that never change are written once.
        return every > 0 and (cycle == self._first_cycle if self._participants.static else cycle % every == 0)

    @staticmethod
    def _staleness(node: Node, cycle: int) -> int:
        updated = node.rule.updated_in if node.rule is not None else None
        return -1 if updated is None else cycle - updated

    # The end of the run.

    def all_finished(self) -> bool:
        """Whether every live node here has ended the last cycle's round: nothing is left that it waits for."""
        return all(node.rule is None or node.rule.wake == NEVER for node in self._standing())

    def finish(self) -> None:
        """Let the world settle what is open."""
        self._world.finish()

    def models(self) -> np.ndarray | None:
        """The hosted nodes' models, float32 [nodes, size]; None when nothing was learnt."""
        return np.stack([self._nodes[node].rule.model for node in self._hosted]) if self._learner else None

    def digests(self) -> list[str]:
        """SHA-256 of each hosted node's model; empty when nothing was learnt."""
        return [hashlib.sha256(self._nodes[node].rule.model).hexdigest() for node in self._hosted] if self._learner else []
