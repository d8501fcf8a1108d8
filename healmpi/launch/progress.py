"""Progress bars: live ones on a terminal, a line now and then elsewhere.

Under mpirun stderr is never a terminal, and Open MPI passes output on at ends of lines only, so that
a live bar would be seen when all is over.
"""

from __future__ import annotations

import sys
from typing import Any

LINES_EVERY_S = 2.0


class _Lines:
    """Stderr for a bar that is to be printed line by line."""

    def write(self, text: str) -> None:
        shown = text.replace("\r", "").strip()
        if shown:
            sys.stderr.write(shown + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(**options: Any):
    """A tqdm bar on stderr. options: tqdm's."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(file=sys.stderr, dynamic_ncols=True, mininterval=0.2, **options)
    return tqdm(file=_Lines(), ncols=80, mininterval=LINES_EVERY_S, **options)
