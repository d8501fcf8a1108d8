#!/usr/bin/env bash
# Runs a command with one of this machine's GPUs: the local rank's. mpirun shows all GPUs to all ranks, srun does at some sites.
#   mpirun -n 4 jobs/slurm/one-gpu.sh COMMAND ...
set -euo pipefail
rank="${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-${PMI_LOCAL_RANK:-${SLURM_LOCALID:-0}}}}"
visible="${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null | paste -sd ,)}"
IFS=, read -ra gpus <<< "$visible"

# Where Slurm has bound the ranks already, each sees one GPU, its own.
if [ "${#gpus[@]}" = 1 ] && [ -n "${SLURMD_TRES_BIND:-}${SLURM_GPUS_PER_TASK:-}" ]; then rank=0; fi
if [ "$rank" -ge "${#gpus[@]}" ]; then
    echo "one-gpu.sh: local rank $rank has no GPU, $(hostname -s) shows ${#gpus[@]} (${visible:-none}): as many ranks as GPUs on a machine" >&2
    exit 2
fi
export CUDA_VISIBLE_DEVICES="${gpus[$rank]}"
exec "$@"
