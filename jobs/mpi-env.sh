# What mpirun needs on a laptop or in a container; source it:  . jobs/mpi-env.sh
# More ranks than cores are allowed, and root may start them. Nothing here is needed on a cluster.
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Open MPI's btl "ofi" looks a second long for fabrics that are not there, at each start.
export OMPI_MCA_btl="${OMPI_MCA_btl:-^ofi}"
# MPICH spins without end when ranks share a core, unless it is told to yield.
export MPIR_CVAR_CH4_PROGRESS_THROTTLE=true MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT=1
# What a site or another program has set for MPI stays; where a run fails at once, look here first (docs/clusters.md).
env | while IFS='=' read -r name value; do
    case "$name=$value" in
        OMPI_MCA_btl=^ofi | PRTE_MCA_rmaps_default_mapping_policy=* | MPIR_CVAR_CH4_PROGRESS_THROTTLE*) ;;
        OMPI_MCA_* | PRTE_MCA_* | PMIX_MCA_* | UCX_* | FI_* | I_MPI_* | MPIR_CVAR_*)
            echo "jobs/mpi-env.sh: note: $name=$value is set, and MPI heeds it" >&2 ;;
    esac
done
