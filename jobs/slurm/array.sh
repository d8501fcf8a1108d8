#!/usr/bin/env bash
# A suite as an array, over its scenarios and seeds: each task does one experiment, up to 8 tasks at a time.
# A task of class S takes some seconds. Adapt jobs/site.sh, then from the top folder of the checkout:
#   SUITE=S sbatch jobs/slurm/array.sh
#   SUITE=my.toml DIR=out/my sbatch --array=0-199%20 jobs/slurm/array.sh
# `healmpi suite S -o DIR --list` says how many there are; tasks beyond the last end at once. Results: one DIR/NAME.h5 each.
# Submitted again, with the same DIR, it does what is still open. A task near its time limit stops and queues again.
#SBATCH --job-name=healmpi-array
#SBATCH --array=0-99%8
#SBATCH --nodes=1
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
. jobs/slurm/functions.sh
ranks=$(tasks 1)

suite="${SUITE:-S}"
dir="${DIR:-out/suite-$(basename "$suite" .toml)}"
task="${SLURM_ARRAY_TASK_ID:?this script is an array: sbatch it}"

listed=$("$python" -m healmpi suite "$suite" -o "$dir" --list)
mapfile -t names < <(awk '{print $1}' <<< "$listed")
if [ "$task" = "$SLURM_ARRAY_TASK_MAX" ] && [ "${#names[@]}" -gt $((task + 1)) ]; then
    echo "$suite has ${#names[@]} experiments, this array only does the first $((task + 1)): sbatch --array=0-$((${#names[@]} - 1))" >&2
fi
if [ "$task" -ge "${#names[@]}" ]; then
    echo "$suite has ${#names[@]} experiments, nothing is left for task $task"
    exit 0
fi

name="${names[$task]}"
echo "task $task: $name"
mkdir -p "$dir"
stoppable "$dir/$name.h5.stop" launch "$ranks" "$python" -m mpi4py -m healmpi suite "$suite" -o "$dir" --only "$name" \
    --checkpoint-every "$every" --set learner.threads="$cpus"
