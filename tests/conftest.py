"""Shared by all tests: helpers in this folder can be imported, and hypothesis prints the example that reproduces a failure."""

import signal
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

for number in (signal.SIGINT, signal.SIGHUP):
    # Who starts tests in the background has these ignored, and what tests start would inherit that.
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

LONGEST_FIRST = (
    *("worlds", "paper_elevator", "suite", "paper_heal", "checkpoint", "analysis_report", "slurm", "extending"),
    *("cli", "ranks", "streams"),
)
"""Test files that take minutes: two processes share the files, and neither should be left alone with one of these at the end.
Those full of mpirun stand beside those without: ranks that wait take cores from one another."""


def pytest_collection_modifyitems(items):
    """The longest files first, the others in their order."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


settings.register_profile("healmpi", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("healmpi")
