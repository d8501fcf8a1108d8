#!/usr/bin/env bash
# What the main job is for: HEAL beside federated, with and without the death of hubs and server, on skewed labels, three seeds.
# Takes about two minutes on 2 cores, after the first call of a job has set everything up. Results: out/pitch, a table at the end.
#   bash jobs/pitch.sh [--set section.field=value ... --force]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash jobs/setup.sh
. jobs/mpi-env.sh
exec .venv/bin/mpirun -n 2 .venv/bin/python -m mpi4py -m healmpi suite jobs/pitch.toml -o out/pitch "$@"
