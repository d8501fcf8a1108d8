#!/usr/bin/env bash
# Sets up and passes the tests: the whole suite, under Open MPI and MPICH. Takes about twelve minutes on 2 cores.
#   bash jobs/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh test
. jobs/mpi-env.sh
.venv/bin/ruff check .
exec .venv/bin/python -m pytest "$@"
