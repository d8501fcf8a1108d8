"""Shared by all tests: helpers in this folder can be imported, and hypothesis prints the example that reproduces a failure."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("healmpi", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("healmpi")
