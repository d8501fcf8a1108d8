"""A configuration with flat names, and what is called a scenario: the faults of a run in short words.

A results file of schema 1.2 says its scenario itself, and those words are healmpi's. For an older one the label is mechanical:
the fields of the fault section that are switched on, as they are stored, so that nothing unknown is taken for a run without
faults.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

FAULT_FREE = "no faults"
"""The scenario of a run in which nothing goes wrong."""

_OFF = ("", "none", "start", "random")
"""Texts of the fault section that switch nothing on."""

_OF_ANOTHER = {"newcomer": "churn"}
"""First words of fields that say something of another subject's faults, and nothing without them."""


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
    return ", ".join(_told(faults)) or FAULT_FREE


def _told(faults: dict) -> list[str]:
    """The pieces of the mechanical label."""
    on = {name: value for name, value in faults.items() if not _is_cycle(name) and not _is_remark(name) and _switched_on(value)}
    subjects = {_subject(name) for name in on} | {event.get("kind") for event in faults.get("plan", []) if isinstance(event, dict)}
    remarks = {name: value for name, value in faults.items() if _is_remark(name) and _switched_on(value) and _subject(name) in subjects}
    cycles = {name: value for name, value in faults.items() if _is_cycle(name) and _subject(name) in {_subject(one) for one in on}}
    return [f"{name}={_shown(value)}" for name, value in (on | remarks | cycles).items()]


def _subject(name: str) -> str:
    first = name.partition("_")[0]
    return _OF_ANOTHER.get(first, first)


def _is_remark(name: str) -> bool:
    return name.partition("_")[0] in _OF_ANOTHER


def scenario_labels(said: Sequence[tuple[str, dict]]) -> list[str]:
    """A label for each run that no other scenario among them has. said: the scenario in words, and the stored fault section.

    The words alone where they are enough. Words may be shorter than what was done ('2 nodes crash at 10', whichever they are): then
    what differs in the fault sections is added in brackets. Runs without faults are alike whatever their fault sections hold.
    """
    pieces: dict[str, list[list[str]]] = {}
    for words, faults in said:
        pieces.setdefault(words, []).append(_told(faults))
    labels = []
    for words, faults in said:
        mine, alike = _told(faults), pieces[words]
        common = set(mine).intersection(*alike)
        differing = [] if words == FAULT_FREE else [piece for piece in mine if piece not in common]
        labels.append(f"{words} ({', '.join(differing)})" if differing else words)
    return labels


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
