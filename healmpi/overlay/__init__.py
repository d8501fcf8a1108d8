"""Overlays: who knows whom. Pure protocol code, without I/O, clock, torch or MPI."""
