"""`python -m healmpi_analysis` is `healmpi-report`."""

import sys

from healmpi_analysis.cli import main

if __name__ == "__main__":
    sys.exit(main())
