#!/usr/bin/env bash
# HEAL from an Apptainer image, with the MPI of the host: 8 nodes on 4 machines, a rank each. All hubs die in cycle 10.
# Takes about two minutes. Build the image once (jobs/apptainer.def), adapt jobs/site.sh (modules, launcher, Apptainer), then
#   sbatch jobs/slurm/apptainer.sh [--set section.field=value ...]
# Results: out/healmpi-apptainer-JOBID.h5, the verdict at the end of the log. OUT=FILE.h5 names another.
# The host's mpirun or srun starts one container a rank; mpi4py in the image opens the host's library, shown under its own name.
#SBATCH --job-name=healmpi-apptainer
#SBATCH --nodes=4
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
ranks=$(tasks 4)

wrap=(apptainer exec --bind "$host_mpi,$PWD" --pwd "$PWD"
    --env "MPI4PY_LIBMPI=$host_libmpi,LD_LIBRARY_PATH=$host_mpi/lib:${LD_LIBRARY_PATH:-}" "$image")
python=/opt/healmpi/bin/python
experiment "${OUT:-out/$job.h5}" "$ranks" "${CONFIG:-jobs/main.toml}" "$@"
