"""Reads the results of healmpi and makes figures, tables and reports of them; needs the HDF5 files alone, never healmpi.

    load(paths)    an xarray Dataset of any number of runs     frame(paths)    the same as a pandas frame, a row a cycle
    runs(paths)    a pandas frame, a row a run                 nodes(path)     an xarray Dataset of one run, node by node

Importing this package imports nothing heavy; each name is looked up when it is first used.
"""

from __future__ import annotations

_HOMES = {
    "AnalysisError": "errors", "load": "loading", "frame": "loading", "runs": "loading", "nodes": "loading", "read_record": "records",
    "open_source": "sources", "find_sources": "sources", "group_records": "groups", "to_networkx": "topology",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
