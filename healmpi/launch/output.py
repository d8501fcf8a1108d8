"""Standard output and standard error that never fail: what cannot be written is dropped.

A full disk, a closed stream or a reader that has gone (`| head -1`) is no fault of a run: its exit code and its results stay what
they are. Errors end where they begin, in the writing of bytes, so that neither print nor tqdm nor the interpreter's last flush
meets one. Letters that an encoding does not have are written as \\x.., \\u.....
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any

PATIENCE_S = 30.0
"""How long a reader may leave a pipe full that was made not to block; then it counts as gone."""


def guard() -> None:
    """Make this process's streams such ones. Before anything else: a file that is opened must not become stream 0, 1 or 2."""
    for number in range(3):
        _occupy(number)
    sys.stdout = _guarded(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _guarded(sys.stderr, sys.__stderr__, 2)


def _occupy(number: int) -> None:
    """Open the null device as this stream where the process was started without one."""
    try:
        os.fstat(number)
    except OSError:
        # The lowest free number is taken, which is this one: those below are open by now.
        opened = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(opened, True)


def _guarded(stream: Any, original: Any, number: int) -> Any:
    """stream: what prints use. original: what the interpreter began with."""
    if stream is not original:
        return stream  # somebody, a test for example, has put something else there, or it is guarded already
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
    with contextlib.suppress(OSError):
        stream.flush()
    raw = io.BufferedWriter(_Dropping(number, "wb", closefd=False))
    line_by_line = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=line_by_line)


class _Dropping(io.FileIO):
    """A file whose writing always succeeds."""

    def write(self, data: Any) -> int:
        """How many bytes are done with."""
        try:
            written = super().write(data)
            if written is None and select.select([], [self], [], PATIENCE_S)[1]:
                written = super().write(data)
            if written is not None:
                return written
        except OSError:
            pass
        # For good: whoever misses a line should not get the next one.
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        return len(data)
