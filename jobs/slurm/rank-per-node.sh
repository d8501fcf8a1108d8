#!/usr/bin/env bash
# HEAL over the network: one rank on each of 8 machines, with one node of the overlay each. All hubs die in cycle 10.
# Takes about two minutes. Adapt jobs/site.sh, then from the top folder of the checkout:
#   sbatch jobs/slurm/rank-per-node.sh [--set section.field=value ...]
#   sbatch --nodes=32 jobs/slurm/rank-per-node.sh
# Results: out/healmpi-rank-per-node-JOBID.h5, the verdict at the end of the log. CONFIG=FILE.toml and OUT=FILE.h5 name others.
# Near its time limit the run stops, the job queues again and goes on; with OUT=FILE.h5 a new submission goes on as well.
#SBATCH --job-name=healmpi-rank-per-node
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:15:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
. jobs/slurm/functions.sh

ranks=$(tasks 8)
experiment "${OUT:-out/$job.h5}" "$ranks" "${CONFIG:-jobs/main.toml}" --set run.nodes="$ranks" "$@"
