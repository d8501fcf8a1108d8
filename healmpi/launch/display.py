"""What a person sees of one run: an opening line, a progress bar, and what came of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from healmpi import cores
from healmpi.config import Config
from healmpi.hosting.closing import Progress
from healmpi.launch import progress
from healmpi.launch.launcher import INVALID, VALID
from healmpi.launch.ranks import Ranks
from healmpi.results import info
from healmpi.results.folder import PartsFolder
from healmpi.settings import wrapped


class RunBar:
    """What rank 0 shows while a run goes on: an opening line and a live progress bar. Silent elsewhere."""

    def __init__(self, config: Config, ranks: Ranks, out: Path):
        self._config, self._ranks, self._out = config, ranks, out
        self._bar: Any = None
        self._note = _crowded(config, ranks)

    def start(self, done: int) -> None:
        """The run begins, with so many cycles done already."""
        if self._ranks.rank != 0:
            return
        print(wrapped(self._opening()), flush=True)
        if self._note:
            print(wrapped(self._note), flush=True)
        until = f"results: {self._out} (until the end {PartsFolder(self._out).path}; after a kill: healmpi merge {self._out})"
        print(wrapped(until), flush=True)
        total = self._config.run.cycles + self._config.run.warmup_cycles
        if done:
            print(f"going on after {done} of {total} cycles", flush=True)
        self._bar = progress.bar(total=total, initial=done, unit="cycle")

    def _opening(self) -> str:
        config, size, choices = self._config, self._ranks.size, self._config.chosen.choices
        processes = "1 rank" if size == 1 else f"{size} ranks"
        what = (
            f"{config.title}: {config.run.nodes} {'node' if config.run.nodes == 1 else 'nodes'} on {processes}, {config.run.cycles} cycles"
        )
        if config.learns:
            what += f", {choices['model'].label} on {choices['data'].label} ({config.data.partition})"
        return f"{what}, {choices['topology'].label}{_sizes(config)}, seed {config.run.seed}"

    def watch(self, state: Progress) -> None:
        """After each cycle."""
        shown: dict[str, object] = {"live": state.live, "hubs": state.hubs}
        if state.accuracy == state.accuracy:
            shown["accuracy"] = f"{state.accuracy:.3f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """The run is over, however it ended."""
        if self._bar is not None:
            self._bar.close()


def _crowded(config: Config, ranks: Ranks) -> str:
    """A warning when this machine has fewer cores than threads that want one; for rank 0. On all ranks together."""
    here, there = ranks.mpi.crowd() if ranks.mpi else (1, len(cores.GIVEN))
    threads = config.chosen.learner.threads()
    if here * threads <= there:
        lost = cores.lost()
        return lost and f"note: {lost}"
    return f"note: {here} ranks with {threads} threads each share {there} cores here, so times say little".replace("1 threads", "1 thread")


def _sizes(config: Config) -> str:
    """What says how large the topology's views are, and how many hubs are wanted."""
    topology = config.chosen.topology
    views = "" if topology.static else f" with views of {topology.view_size}"
    return views + (f", hubs wanted {topology.hubs_wanted}" if topology.hubs_wanted else "")


def conclude(done: Path) -> int:
    """Print what a finished file says, its verdict last; return the exit code."""
    print(info.describe(done, figures=False))
    return print_verdict(done, verify=False)


def print_verdict(path: Path, verify: bool = True) -> int:
    """Print the verdict and the figures of merit as the last lines; return the exit code. verify: the file is not known to be good yet."""
    reasons, figures = info.conclusion(path, verify=verify)
    print("VALID" if not reasons else f"INVALID: {'; '.join(reasons)}")
    for figure in figures:
        print(f"FOM {figure.name} {figure.value:.6g} {figure.unit}")
    sys.stdout.flush()
    return VALID if not reasons else INVALID
