#!/usr/bin/env bash
# Scaling: the same experiment on 1, 2, 4, ... ranks, up to all of the allocation; a table at the end.
# Takes about five minutes. Adapt jobs/site.sh, then from the top folder of the checkout:
#   sbatch jobs/slurm/scaling.sh strong [--set section.field=value ...]     as many nodes of the overlay on all numbers of ranks
#   sbatch jobs/slurm/scaling.sh weak [--set section.field=value ...]       as many nodes on each rank
#   PER_RANK=16 sbatch --nodes=8 --ntasks-per-node=32 jobs/slurm/scaling.sh weak
# Results: DIR/MODE-RANKS.h5, DIR is out/healmpi-scaling-JOBID. With the same DIR a new submission does what is still open.
#SBATCH --job-name=healmpi-scaling
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=1
#SBATCH --exclusive
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
. jobs/slurm/functions.sh

mode="${1:-strong}"; [ $# = 0 ] || shift
case "$mode" in strong | weak) ;; *) echo "scaling.sh strong|weak [--set ...]" >&2; exit 2 ;; esac
most=$(tasks 2)
dir="${DIR:-out/$job}"
# Evaluation and audit are no part of what is to be scaled.
lean=(--set evaluation.every=0 --set results.audit=off --set run.cycles=20 --set data.dataset=mnist10k)

counts=()
for ((ranks = 1; ranks < most; ranks *= 2)); do counts+=("$ranks"); done
counts+=("$most")

for ranks in "${counts[@]}"; do
    if [ "$mode" = strong ]; then nodes=$((most * ${PER_RANK:-4})); else nodes=$((ranks * ${PER_RANK:-4})); fi
    step "$dir/$mode-$ranks.h5" "$ranks" --set run.nodes="$nodes" "${lean[@]}" "$@"
done

echo "$mode scaling: cycles a second, and their part of what the first line promises"
for ranks in "${counts[@]}"; do
    echo "$mode $ranks $(figures "$dir/$mode-$ranks.h5" cycles_per_s wait_share)"
done | awk 'BEGIN {printf "%6s %12s %12s %12s\n", "ranks", "cycles/s", "efficiency", "wait_share"}
    NR == 1 {one = $3 / ($1 == "strong" ? $2 : 1)}
    {printf "%6d %12.4g %12.2f %12.2f\n", $2, $3, $3 / one / ($1 == "strong" ? $2 : 1), $4}'
exit "$worst"
