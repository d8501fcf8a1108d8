"""How far it has come: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from healmpi_analysis import streams

One = TypeVar("One")

LINES_EVERY_S = 5.0


def each(items: Sequence[One], what: str, unit: str, quiet: bool) -> Iterator[One]:
    """The items one after the other, and on stderr how many are done. quiet: nothing is said."""
    return counted(items, len(items), what, unit, quiet)


def counted(items: Iterable[One], total: int | None, what: str, unit: str, quiet: bool) -> Iterator[One]:
    """The same of items whose number may not be known."""
    if quiet or sys.stderr.isatty():
        for item in tqdm(items, total=total, desc=what, unit=unit, disable=quiet, leave=True, dynamic_ncols=True):
            streams.check_interrupt()
            yield item
        return
    done, told = 0, time.monotonic()
    for item in items:
        streams.check_interrupt()
        yield item
        done += 1
        if time.monotonic() - told >= LINES_EVERY_S:
            told = time.monotonic()
            _tell(what, done, total, unit)
    _tell(what, done, total, unit)


def _tell(what: str, done: int, total: int | None, unit: str) -> None:
    print(f"{what}: {done}" + (f" of {total}" if total else "") + f" {unit}s", file=sys.stderr, flush=True)
