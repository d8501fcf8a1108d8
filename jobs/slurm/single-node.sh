#!/usr/bin/env bash
# HEAL on one machine, a rank a core: 8 nodes learn digits; in cycle 10 all hubs die, others rise and learning goes on.
# Takes about a minute. Adapt jobs/site.sh, then from the top folder of the checkout:
#   sbatch jobs/slurm/single-node.sh [--set section.field=value ...]
# Results: out/healmpi-single-node-JOBID.h5, the verdict at the end of the log. CONFIG=FILE.toml and OUT=FILE.h5 name others.
# Near its time limit the run stops, the job queues again and goes on; with OUT=FILE.h5 a new submission goes on as well.
#SBATCH --job-name=healmpi-single-node
#SBATCH --nodes=1
#SBATCH --ntasks=8
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

experiment "${OUT:-out/$job.h5}" "$ranks" "${CONFIG:-jobs/main.toml}" "$@"
