# shellcheck shell=bash disable=SC2034
# What differs from one cluster to the next: edit this file, the job scripts stay as they are.
# Each job reads it. Read it on the login node too, so that sbatch sees account and partition:
#   . jobs/site.sh && sbatch jobs/slurm/single-node.sh

# Account and partition. sbatch takes these variables for --account and --partition.
# export SBATCH_ACCOUNT=myproject SBATCH_PARTITION=standard

# Modules, where healmpi uses the site's MPI (docs/clusters.md says when it should).
# module purge && module load gcc openmpi python

# The Python that has healmpi. `bash jobs/setup.sh` makes this one, with an MPI of its own.
python="${HEALMPI_PYTHON:-.venv/bin/python}"

# Who starts the ranks: mpirun (of the MPI that mpi4py uses) or srun.
#   Open MPI from `jobs/setup.sh`   mpirun
#   MPICH, Intel MPI                srun with pmi2, or their mpirun
#   the site's Open MPI             srun with pmix if `srun --mpi=list` has it, else mpirun
launcher="${HEALMPI_LAUNCHER:-mpirun}"
mpirun="${HEALMPI_MPIRUN:-.venv/bin/mpirun}"
mpi_type="${HEALMPI_MPI_TYPE:-pmi2}"

# Options of mpirun: each rank gets --cpus-per-task cores of its own.
mpirun_options=(--map-by "slot:PE=${SLURM_CPUS_PER_TASK:-1}" --bind-to core)     # Open MPI 4 and 5
# mpirun_options=(-bind-to "core:${SLURM_CPUS_PER_TASK:-1}")                      # MPICH, Intel MPI

# Options of srun, beside the ones that functions.sh gives.
srun_options=(--cpu-bind=cores)

# Apptainer: the image; the folder of the host's MPI, which is shown inside under the same name; the library that is opened there.
image="${HEALMPI_IMAGE:-healmpi.sif}"
host_mpi="${HEALMPI_HOST_MPI:-/opt/openmpi}"
host_libmpi="${HEALMPI_HOST_LIBMPI:-$host_mpi/lib/libmpi.so}"

# healmpi opens its HDF5 files without locks. Other readers on a file system that has none need this, see docs/clusters.md.
# export HDF5_USE_FILE_LOCKING=FALSE
