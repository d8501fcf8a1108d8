"""Imports matplotlib as it comes: a matplotlibrc of the user's or of the folder, or MPLBACKEND, can neither stop nor change a report.

To be imported before anything of matplotlib. A file that is no text, or a backend that does not exist, ends matplotlib's import with a
traceback. So it is imported where its own file is, and what the user has is applied afterwards, as far as it can be, for a program
that draws figures of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path


def _import_plainly() -> None:
    found = importlib.util.find_spec("matplotlib")
    if "matplotlib" in sys.modules or found is None or not found.submodule_search_locations:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        # The file of the current directory comes first, before all that variables name.
        with _inside(Path(found.submodule_search_locations[0]) / "mpl-data"):
            import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with _quietly():
        matplotlib.rc_file(matplotlib.matplotlib_fname())
    with _quietly():
        matplotlib.rcParams["backend"] = backend or matplotlib.rcParams["backend"]


def _inside(folder: Path) -> contextlib.AbstractContextManager:
    """The current directory is this folder; one that was deleted meanwhile has no file to keep away."""
    try:
        Path.cwd()
    except OSError:
        return contextlib.nullcontext()
    return contextlib.chdir(folder)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """What is wrong with the user's own choice is of no concern here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


_import_plainly()
