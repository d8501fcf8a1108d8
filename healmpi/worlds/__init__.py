"""Worlds: what carries messages between nodes. `local` is one process, `mpi` is many; both behind `world.World`."""
