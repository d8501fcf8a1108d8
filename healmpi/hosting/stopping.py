"""When a run saves its state, and when it ends before its work is done: a time limit, a STOP file, every so many cycles.

The first rank decides at the end of a cycle, and its decision reaches the others in the reduction that ends every cycle. A run stops
while there is still time for the cycle it might have begun and for saving its state, both reckoned from the longest so far.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from healmpi.settings import UsageError

GO_ON, SAVE, STOP = 0, 1, 2
"""What the first rank can decide; the largest wins."""

MARGIN_S = 5.0
"""What is left over before a time limit, besides a cycle and saving."""

SLURM_MARGIN_S = 30.0
"""More of it where the limit is the job's: closing files and leaving MPI takes time, too."""

SLURM_END = "SLURM_JOB_END_TIME"
"""Slurm's variable: when the job ends, in seconds since the epoch."""

STOP_FILE = "STOP"
"""A file of this name in the folder of the results ends a suite."""


def stop_path(out: Path) -> Path:
    """A file of this name ends the run that writes OUT."""
    return out.with_name(out.name + ".stop")


UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop and to save.

    deadline: of time.monotonic(), which no setting of the clock moves. every: cycles between checkpoints; 0: only when stopping.
    """

    deadline: float | None = None
    every: int = 0
    files: tuple[Path, ...] = ()

    def with_files(self, *files: Path) -> Limits:
        """The same, with these STOP files looked for."""
        return Limits(self.deadline, self.every, files)


class Stopped(Exception):
    """The run has stopped before its end; its state is saved. Raised on all ranks, which are at rest. The text says why."""


@dataclass(slots=True)
class Stopper:
    """The first rank's judgement. cycles: of the whole run."""

    limits: Limits
    cycles: int
    reason: str = ""
    saving_s: float = 0.0  # longest so far
    _longest_s: float = 0.0
    _before: float = field(default_factory=time.monotonic)

    def decide(self, cycle: int) -> int:
        """What is to be done at the end of this cycle."""
        now = time.monotonic()
        self._longest_s, self._before = max(self._longest_s, now - self._before), now
        if cycle >= self.cycles:
            return GO_ON
        self.reason = self._why_stop()
        if self.reason:
            return STOP
        return SAVE if self.limits.every and cycle % self.limits.every == 0 else GO_ON

    def saved(self, seconds: float) -> None:
        """Saving took so long: it is no part of a cycle."""
        self.saving_s = max(self.saving_s, seconds)
        self._before = time.monotonic()

    def _why_stop(self) -> str:
        return why_stop(self.limits, 2 * self._longest_s + 2 * self.saving_s)


def why_stop(limits: Limits, needed_s: float = 0.0) -> str:
    """Why not to go on with what takes so long; empty: go on."""
    for path in limits.files:
        if path.exists():
            return f"{path} is there; remove it before going on"
    left = None if limits.deadline is None else limits.deadline - time.monotonic()
    return "" if left is None or left > needed_s + MARGIN_S else "the time limit is near"


def deadline(time_limit: str | None, environment: dict[str, str] | None = None) -> float | None:
    """The earlier of a limit from now on and the end of the Slurm job, of time.monotonic(). Raises UsageError."""
    now, left = time.monotonic(), slurm_left(environment or {})
    found = [] if time_limit is None else [now + seconds(time_limit)]
    if left is not None and left > 0:
        found.append(now + left - SLURM_MARGIN_S)
    return min(found, default=None)


def slurm_left(environment: dict[str, str]) -> float | None:
    """Seconds until the end of the Slurm job; none of a job that has ended: the variable is left over. None: not known."""
    end = environment.get(SLURM_END, "")
    return float(end) - time.time() if end.isascii() and end.isdigit() else None


def seconds(text: str) -> float:
    """A time span: seconds, a number with s, m, h or d, or [days-]HH:MM:SS. Raises UsageError."""
    plain = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)", text)
    if plain:
        span = float(plain[1]) * UNITS_S[plain[2]]
    elif clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        span = float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    else:
        raise UsageError("--time-limit", text, "seconds, a number with s, m, h or d, or [days-]HH:MM:SS")
    if span <= MARGIN_S:
        raise UsageError("--time-limit", text, f"more than {MARGIN_S:g} seconds, which are left over for saving and ending")
    return span
