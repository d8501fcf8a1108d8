"""Runs a suite: what is not done yet, one experiment after another, in one launch."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healmpi.config import Config
from healmpi.hosting.closing import Progress, Watch
from healmpi.hosting.stopping import STOP_FILE, Limits, Stopped, stop_path, why_stop
from healmpi.launch import progress
from healmpi.launch import run as one_run
from healmpi.launch.ranks import Ranks
from healmpi.launch.suite import Experiment, Suite
from healmpi.results.folder import PartsFolder
from healmpi.results.info import identity
from healmpi.results.schema import ResultsError
from healmpi.settings import UsageError

SIGN_OF_LIFE_S = 10.0
"""How often ranks that wait for the first one hear of it: far below the longest wait for others."""

OPEN, DONE, OTHER = "open", "done", "other"


def state(experiment: Experiment, folder: Path, verify: bool = True) -> str:
    """DONE: its results file is there, whole and of this configuration. OTHER: a file of its name that is not. Else OPEN.

    verify: whether digests are looked at.
    """
    path = result_path(experiment, folder)
    if not path.exists():
        return OPEN
    try:
        complete, found = identity(path, verify=verify)
    except ResultsError:
        return OTHER
    if found != experiment.config.identity():
        return OTHER
    # What was merged of a run before its end is not the end.
    return DONE if complete else OPEN


def result_path(experiment: Experiment, folder: Path) -> Path:
    """Where its results go."""
    return folder / f"{experiment.name}.h5"


# Running.


@dataclass(slots=True)
class Outcome:
    """What became of an experiment. failure: why there is no file."""

    experiment: Experiment
    failure: str | None = None


def run(suite: Suite, ranks: Ranks, folder: Path, force: bool, limits: Limits, verify: bool = True) -> list[Outcome]:
    """Run what is not done. Returns an outcome for each experiment of the suite, on all ranks.

    force: replace files of other configurations. limits: when to stop and to save. verify: look at digests of files that are there.
    Raises Refused (a file is in the way, the folder cannot be made), Stopped, StepTimeout.
    """
    states = ranks.allgather(ranks.refuse_together(lambda: _states(suite, folder, force, verify) if ranks.rank == 0 else []))[0]
    todo = [one for one, state in zip(suite.experiments, states, strict=True) if state != DONE]
    outcomes = {one.name: Outcome(one) for one in suite.experiments}
    with _Bar(suite, todo, ranks.rank == 0) as bar:
        for experiment in todo:
            own = limits.with_files(folder / STOP_FILE, stop_path(result_path(experiment, folder)))
            reason = ranks.allgather(why_stop(own))[0]
            if reason:
                raise Stopped(f"before {experiment.name}: {reason}")
            bar.begin(experiment)
            go = _run_one if experiment.config.run.nodes >= ranks.size else _run_on_first
            failure = go(experiment, ranks, folder, bar, force, own)
            outcomes[experiment.name].failure = failure
            bar.end(experiment, failure)
    return list(outcomes.values())


def _states(suite: Suite, folder: Path, force: bool, verify: bool) -> list[str]:
    """On rank 0: the folder, and the state of each experiment. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("-o", str(folder), f"a folder that is there or can be made ({error.strerror})") from None
    states = [state(one, folder, verify) for one in suite.experiments]
    for one, found in zip(suite.experiments, states, strict=True):
        if found == DONE:
            # A suite that was killed between making the file and clearing up.
            PartsFolder(result_path(one, folder)).remove()
    others = [result_path(one, folder).name for one, state in zip(suite.experiments, states, strict=True) if state == OTHER]
    if others and not force:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        allowed = f"{', '.join(others[:3])}{more}: there already, with another configuration, not whole or damaged; --force replaces"
        raise UsageError("-o", str(folder), allowed)
    return states


def _run_one(
    experiment: Experiment, ranks: Ranks, folder: Path, bar: _Bar, force: bool, limits: Limits, watch: Watch | None = None
) -> str | None:
    """Why it failed, or None. watch: called after each cycle, instead of the bar's. Raises Stopped."""
    try:
        prepared = one_run.prepare(experiment.config, ranks)
        # What a stopped suite left of this experiment goes on from its checkpoint; without one it starts again.
        options = one_run.Options(force, True, limits)
        one_run.execute(prepared, ranks, result_path(experiment, folder), watch or bar.watch, options, bar.go_on)
    except (one_run.Refused, one_run.RunFailed) as error:
        return str(error)
    return None


def _run_on_first(experiment: Experiment, ranks: Ranks, folder: Path, bar: _Bar, force: bool, limits: Limits) -> str | None:
    """The same of what has fewer nodes than there are ranks: the first rank runs it alone. Raises Stopped, on all ranks.

    The others hear every SIGN_OF_LIFE_S that it goes on, so that their deadline is not that of the whole run.
    """
    told: tuple[str | None, str | None] | None = None
    if ranks.rank != 0:
        while (told := ranks.allgather(None)[0]) is None:
            pass
    else:
        heard = time.monotonic()

        def watch(state: Progress) -> None:
            nonlocal heard
            if time.monotonic() - heard > SIGN_OF_LIFE_S:
                ranks.allgather(None)
                heard = time.monotonic()
            bar.watch(state)

        try:
            told = (_run_one(experiment, Ranks(), folder, bar, force, limits, watch), None)
        except Stopped as error:
            told = (None, str(error))
        ranks.allgather(told)
    assert told is not None
    failure, stopped = told
    if stopped is not None:
        raise Stopped(stopped)
    return failure


def cost(config: Config) -> float:
    """About how much work a run is, in arbitrary units: what the estimate of the time that is left rests on."""
    chosen = config.chosen
    samples = chosen.data.samples()
    steps = chosen.learner.trained_samples(samples, config.run.nodes)
    evaluations = 1 / config.evaluation.every if config.evaluation.every else 0.0
    judged = (config.evaluation.nodes or config.run.nodes) * samples / 6 * evaluations
    work = (steps + 0.05 * judged) * chosen.model.cost if config.learns else 0.0
    return (config.run.cycles + config.run.warmup_cycles) * (work + 40 * config.run.nodes)


class _Bar:
    """A progress bar over the whole matrix, on the rank that speaks."""

    def __init__(self, suite: Suite, todo: Sequence[Experiment], speaks: bool):
        self._suite, self._todo, self._speaks = suite, todo, speaks
        self._bar: Any = None
        self._step = self._shown = 0.0
        self._number = 0

    def __enter__(self) -> _Bar:
        if self._speaks:
            skipped = len(self._suite.experiments) - len(self._todo)
            done = f", {skipped} of them done already" if skipped else ""
            print(f"{self._suite.title}\n{len(self._suite.experiments)} experiments{done}", flush=True)
            total = sum(cost(one.config) for one in self._todo)
            # The unit is arbitrary, so shares and times are shown and no rates.
            layout = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {desc}{postfix}"
            self._bar = progress.bar(total=total, bar_format=layout)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, experiment: Experiment) -> None:
        self._number += 1
        if self._bar is not None:
            config = experiment.config
            self._step, self._shown = cost(config) / (config.run.cycles + config.run.warmup_cycles), 0.0
            self._bar.set_description_str(f"{self._number}/{len(self._todo)} {experiment.name}", refresh=False)

    def go_on(self, cycles: int) -> None:
        """So many cycles are done already."""
        if self._bar is not None:
            self._advance(cycles * self._step)

    def watch(self, state: Progress) -> None:
        """After each cycle."""
        accuracy = "" if math.isnan(state.accuracy) else f", accuracy {state.accuracy:.3f}"
        self._bar.set_postfix_str(f"cycle {state.cycle}{accuracy}", refresh=False)
        self._advance(self._step)

    def _advance(self, amount: float) -> None:
        # Sums of floats may end a little above the total.
        self._bar.update(min(amount, self._bar.total - self._bar.n))
        self._shown += amount

    def end(self, experiment: Experiment, failure: str | None) -> None:
        if self._bar is None:
            return
        self._advance(cost(experiment.config) - self._shown)
        if failure is not None:
            self._bar.write(f"healmpi: {experiment.name} has failed: {failure}", file=sys.stderr)
