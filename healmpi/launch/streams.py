"""Where a command's words go when nobody can take them: a stream that is closed, full, or whose reader has gone, is no reason to fail.

What cannot be written is dropped; letters that the stream cannot encode are escaped.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any


class _Tolerant:
    """A text stream that drops what it cannot write; else the stream itself."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """From now on into nowhere: what is still in the buffer must not be stumbled over again at exit."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def tolerate() -> None:
    """Make stdout and stderr of this process so. Closed descriptors are filled first: a results file must not get their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (it lives as long as the process)
        else:
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _Tolerant(stream))


def flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
