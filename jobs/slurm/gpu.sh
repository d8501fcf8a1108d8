#!/usr/bin/env bash
# HEAL with a GPU a rank: 4 ranks on each of 2 machines with 4 GPUs. Each rank sees one GPU.
# Takes a few minutes. Adapt jobs/site.sh, then from the top folder of the checkout:
#   sbatch jobs/slurm/gpu.sh [--set section.field=value ...]
#   sbatch --nodes=1 --gpus-per-node=8 --ntasks-per-node=8 jobs/slurm/gpu.sh
# Results: out/healmpi-gpu-JOBID.h5, the verdict at the end of the log. OUT=FILE.h5 names another.
# Needs a torch with CUDA: HEALMPI_PYTHON names a Python that has one. DEVICE=cpu tries all but the GPU.
# What is not there: models travel through host memory, whether or not the MPI is CUDA-aware; cores are not chosen by their
# distance to the GPU. A healmpi without learner.device refuses to start.
#SBATCH --job-name=healmpi-gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-node=4
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
. jobs/slurm/functions.sh

device=(--set learner.device="${DEVICE:-cuda}")
[ "${DEVICE:-cuda}" != cpu ] || device=()
wrap=(bash jobs/slurm/one-gpu.sh)
ranks=$(tasks 1)
experiment "${OUT:-out/$job.h5}" "$ranks" "${CONFIG:-jobs/main.toml}" --set run.nodes="${NODES:-$((ranks > 8 ? ranks : 8))}" "${device[@]}" "$@"
