"""How far models are from each other: exactly at the end of a run that saved its models, by a proxy in every cycle.

The rule that surprises: a file without saved models holds no distance at all, only a checksum of each model. The number of
different checksums tells whether models are equal, and nothing of how much they differ.
"""

from __future__ import annotations

import numpy as np

from healmpi_analysis.hdf5 import damage_of
from healmpi_analysis.source import BLOCK_BYTES, Source


def final_distance(source: Source) -> float:
    """Root mean square over live nodes of the L2 distance between a node's final model and their mean; nan: models not saved."""
    models = source.models()
    if models is None or not len(source.cycles) or 0 in models.shape:
        return np.nan
    alive = source.read("alive", len(source.cycles) - 1, len(source.cycles))[0] != 0
    step = max(1, BLOCK_BYTES // (8 * models.shape[1]))
    shift, total, squares, count = None, np.zeros(models.shape[1]), 0.0, 0
    for start in range(0, models.shape[0], step):
        with damage_of(source.facts.path, "models/parameters"):
            rows = models[start : start + step].astype(np.float64)[alive[start : start + step]]
        rows = rows[np.isfinite(rows).all(axis=1)]
        if not len(rows):
            continue
        # Counted from one of the models: near consensus the distances are far smaller than the models.
        shift = rows[0].copy() if shift is None else shift
        rows -= shift
        total, squares, count = total + rows.sum(axis=0), squares + float((rows**2).sum()), count + len(rows)
    if not count:
        return np.nan
    # The mean of the squares less the square of the mean; rounding may leave it a hair below zero.
    return float(np.sqrt(max(0.0, squares / count - float(((total / count) ** 2).sum()))))
