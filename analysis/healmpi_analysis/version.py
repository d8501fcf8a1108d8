"""Which healmpi this package came with."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """Of the distribution."""
    try:
        return metadata.version("healmpi")
    except metadata.PackageNotFoundError:
        return "(not installed)"
