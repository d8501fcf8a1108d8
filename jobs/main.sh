#!/usr/bin/env bash
# The main job: HEAL on real handwritten digits, 8 MPI ranks with a node each, both hubs killed on the way.
# Takes half a minute on 2 cores, after the first call has set everything up. Results: out/main-<time>.h5
#   bash jobs/main.sh [--set section.field=value ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh
. jobs/mpi-env.sh
mkdir -p out
exec .venv/bin/mpirun -n 8 .venv/bin/python -m mpi4py -m healmpi run jobs/main.toml -o "out/main-$(date +%Y%m%d-%H%M%S).h5" "$@"
