"""The cores that this process was given, counted before anybody could take some away.

OpenMP's OMP_PROC_BIND and KMP_AFFINITY bind the thread that loads torch to one core, and whoever counts afterwards finds one.
"""

from __future__ import annotations

import os

GIVEN = frozenset(os.sched_getaffinity(0))
"""Numbers of the cores that this process may run on, as it was started."""

BINDING_VARIABLES = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def as_text(cores: frozenset[int] = GIVEN) -> str:
    """Ranges, as taskset takes them: 0-3,8."""
    found: list[list[int]] = []
    for core in sorted(cores):
        if found and core == found[-1][1] + 1:
            found[-1][1] = core
        else:
            found.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def lost() -> str:
    """Why this process may run on fewer cores by now, in a sentence; empty: it may not."""
    now = len(os.sched_getaffinity(0))
    if now >= len(GIVEN):
        return ""
    named = ", ".join(f"{name}={os.environ[name]}" for name in BINDING_VARIABLES if name in os.environ) or "a library"
    return f"{named} has bound this process to {now} of its {len(GIVEN)} cores"
