#!/usr/bin/env bash
# Sets up and passes the tests, under Open MPI and MPICH. On 2 cores:
#   bash jobs/test.sh                      all of them, about ten minutes
#   bash jobs/test.sh fast                 linter, type checker, pure tests, each MPI once: two minutes
#   bash jobs/test.sh soak [MINUTES]       draws new runs until the time is over (10), and prints the seed of what fails
#   bash jobs/test.sh soak damage [MINUTES]  damages files, and lets everything read them
#   bash jobs/test.sh documents [FILE ...] does what the documents tell their readers to type; five minutes
#   bash jobs/test.sh PYTEST-ARGUMENTS     what pytest makes of them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh test
. jobs/mpi-env.sh
python=.venv/bin/python
# Two processes share the test files, in the order that tests/conftest.py gives them.
together=(-n 2 --dist loadfile --no-loadscope-reorder)
case "${1:-}" in
    soak)
        shift
        if [ "${1:-}" = damage ]; then shift; exec "$python" tests/damage.py "$@"; fi
        exec "$python" tests/soak.py "$@" ;;
    documents) shift; exec "$python" tests/documents.py "$@" ;;
esac
.venv/bin/ruff check .
.venv/bin/mypy
case "${1:-}" in
    fast) shift; exec "$python" -m pytest -q "${together[@]}" -m "smoke or not (mpi or slurm or slow)" "$@" ;;
    "") exec "$python" -m pytest "${together[@]}" ;;
    *) exec "$python" -m pytest "$@" ;;
esac
