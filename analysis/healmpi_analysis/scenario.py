"""A configuration with flat names, and what is called a scenario: the faults of a run in short words.

A results file of schema 1.2 says its scenario itself, and those words are healmpi's. For an older one the label is mechanical:
the fields of the fault section that are switched on, as they are stored, so that nothing unknown is taken for a run without
faults.
"""

from __future__ import annotations

import json

FAULT_FREE = "no faults"
"""The scenario of a run in which nothing goes wrong."""

_OFF = ("", "none", "start", "random", "initial")
"""Texts of the fault section that switch nothing on."""


def flatten(config: dict, prefix: str = "") -> dict:
    """'section.field' -> value; a list becomes its JSON text, so that values can be compared and grouped."""
    found: dict = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value, sort_keys=True) if isinstance(value, list) else value
    return found


def mechanical_scenario(faults: dict) -> str:
    """The fields of a stored fault section that are switched on, with the cycles that belong to them; FAULT_FREE: none is.

    For example 'crash_fraction=0.2, spare_hubs=true, crash_cycle=10'. A cycle belongs to the fields whose first word it shares.
    """
    on = {name: value for name, value in faults.items() if not _is_cycle(name) and _switched_on(value)}
    subjects = {name.partition("_")[0] for name in on}
    cycles = {name: value for name, value in faults.items() if _is_cycle(name) and name.partition("_")[0] in subjects}
    return ", ".join(f"{name}={_shown(value)}" for name, value in (on | cycles).items()) or FAULT_FREE


def _is_cycle(name: str) -> bool:
    return name.endswith("cycle")


def _switched_on(value: object) -> bool:
    if isinstance(value, (int, float)):
        return value > 0
    return value not in _OFF if isinstance(value, str) else bool(value)


def _shown(value: object) -> str:
    """A value as text; of the events of a plan the fields that are switched on."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        events = (" ".join(f"{name}={_shown(one)}" for name, one in event.items() if _switched_on(one)) for event in value)
        return f"[{'; '.join(events)}]"
    return value if isinstance(value, str) else json.dumps(value)
