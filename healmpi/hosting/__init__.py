"""The host of a rank: drives its nodes, carries out faults, closes cycles, saves checkpoints, keeps the record."""
