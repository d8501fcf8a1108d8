# What mpirun needs on a laptop or in a container; source it:  . jobs/mpi-env.sh
# More ranks than cores are allowed, and root may start them. Nothing here is needed on a cluster.
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# MPICH spins without end when ranks share a core, unless it is told to yield.
export MPIR_CVAR_CH4_PROGRESS_THROTTLE=true MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT=1
