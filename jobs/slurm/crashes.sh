#!/usr/bin/env bash
# Crashes: HEAL's accuracy when 0 to 50 % of 100 nodes fall silent in cycle 50 of 200 (Spambase), three seeds each.
# Takes a quarter of an hour. Adapt jobs/site.sh, then from the top folder of the checkout:
#   sbatch jobs/slurm/crashes.sh [--set section.field=value ...]
#   FRACTIONS="0.1 0.6" SEEDS="1 2 3 4 5" sbatch jobs/slurm/crashes.sh
# Results: DIR/crash-FRACTION-sSEED.h5, DIR is out/healmpi-crashes-JOBID; a table at the end of the log. Near its time limit
# the job stops and queues again. With the same DIR a new submission does what is still open. Many seeds: use array.sh.
#SBATCH --job-name=healmpi-crashes
#SBATCH --nodes=1
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
. jobs/slurm/functions.sh
ranks=$(tasks 8)

dir="${DIR:-out/$job}"
common=(--set run.nodes=100 --set run.cycles=200 --set faults.crash_cycle=50 --set data.dataset=spambase
    --set learner.optimizer=sgd --set learner.learning_rate=0.1 --set learner.weight_decay=0)

table=""
for fraction in ${FRACTIONS:-0 0.1 0.2 0.3 0.4 0.5}; do
    for seed in ${SEEDS:-1 2 3}; do
        out="$dir/crash-$fraction-s$seed.h5"
        step "$out" "$ranks" "${common[@]}" --set faults.crash_fraction="$fraction" --set run.seed="$seed" "$@"
        table+="$fraction $seed $(figures "$out" accuracy_mean accuracy_std live_nodes)"$'\n'
    done
done

printf '%9s %5s %10s %10s %6s\n' fraction seed accuracy spread live
while read -r line; do
    # shellcheck disable=SC2086
    [ -z "$line" ] || printf '%9s %5s %10s %10s %6s\n' $line
done <<< "$table"
exit "$worst"
