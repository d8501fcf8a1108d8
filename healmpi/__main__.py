"""`python -m healmpi`: the command line."""

import sys

from healmpi.launch.cli import main

if __name__ == "__main__":
    sys.exit(main())
