"""`python -m healmpi`: the command line."""

import contextlib
import os
import sys

# `python -m` puts the current folder first in the path, and a random.py there would be everybody's. `main` puts it last.
with contextlib.suppress(OSError):  # the folder is gone
    if sys.path and not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

from healmpi.launch.cli import main

if __name__ == "__main__":
    sys.exit(main())
