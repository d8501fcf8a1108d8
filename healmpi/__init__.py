"""healmpi: resilient decentralized learning over MPI, run for real and measured."""

__version__ = "0.1.0"
