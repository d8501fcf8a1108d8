#!/usr/bin/env bash
# The published Spambase experiment at scale: 8 ranks on each of 4 machines host 100 nodes, 1000 cycles.
# Takes a few minutes. Adapt jobs/site.sh, then from the top folder of the checkout:
#   sbatch jobs/slurm/ranks-per-node.sh [--set section.field=value ...]
#   NODES=1000 sbatch --nodes=8 --ntasks-per-node=16 jobs/slurm/ranks-per-node.sh
# Results: out/healmpi-ranks-per-node-JOBID.h5, the verdict at the end of the log. OUT=FILE.h5 names another.
# Near its time limit the run stops, the job queues again and goes on; with OUT=FILE.h5 a new submission goes on as well.
#SBATCH --job-name=healmpi-ranks-per-node
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
. jobs/slurm/functions.sh
ranks=$(tasks 8)

spambase=(--set data.dataset=spambase --set learner.optimizer=sgd --set learner.learning_rate=0.1 --set learner.weight_decay=0)
experiment "${OUT:-out/$job.h5}" "$ranks" --set run.nodes="${NODES:-100}" --set run.cycles=1000 "${spambase[@]}" "$@"
