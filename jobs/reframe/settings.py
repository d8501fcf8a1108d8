"""ReFrame's view of two places: a machine without a scheduler, and a Slurm cluster. Copy it and adapt names, access and launcher.

`squeue` is ReFrame's backend for a Slurm without accounting; with sacct take "slurm". For MPICH under srun take the launcher "srun"
and options=["--mpi=pmi2"].
"""

import os


def _system(name: str, scheduler: str) -> dict:
    return {
        "name": name,
        "descr": f"healmpi on the {name}",
        "hostnames": [".*"],
        # Stage and output folders, out of the way of the sources.
        "prefix": "out/reframe",
        "partitions": [
            {
                "name": "default",
                "scheduler": scheduler,
                "launcher": "mpirun",
                "environs": ["builtin"],
                "max_jobs": 1,
                # access=["--account=myproject", "--partition=standard"],
                # modules and the folder of mpirun:
                "prepare_cmds": [f"export PATH={os.environ['HEALMPI_MPI_BIN']}:$PATH"] if "HEALMPI_MPI_BIN" in os.environ else [],
            }
        ],
    }


site_configuration = {
    "systems": [_system("laptop", "local"), _system("cluster", "squeue")],
    "general": [{"check_search_path": ["jobs/reframe"]}],
}
