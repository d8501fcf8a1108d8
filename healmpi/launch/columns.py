"""What a person reads stays within 80 columns; words, and so paths, are kept whole. Errors are a line each, for whoever searches them."""

from __future__ import annotations

import textwrap

WIDTH = 80


def wrapped(text: str) -> str:
    """Each line that is wider is broken, its rest indented."""
    return "\n".join(_broken(line) if len(line) > WIDTH else line for line in text.splitlines())


def _broken(line: str) -> str:
    begin = line[: len(line) - len(line.lstrip())]
    rest = textwrap.wrap(line, WIDTH, subsequent_indent=f"{begin}    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(rest)
