"""A run's configuration in short words: flat names, and what its fault section says.

The rule that surprises: fields that are not known here still count. Any field of the fault section that is a positive
share (its name ends in fraction, rate, probability or loss) becomes part of the scenario under its own name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

FAULT_FREE = "no faults"
_CRASH, _CHURN = ("crash_fraction", "crash_nodes", "crash_hubs"), ("churn_fraction",)
_SHARES = ("fraction", "rate", "probability", "loss")


def flatten(config: dict, prefix: str = "") -> dict:
    """'section.field' -> value; a list that is not empty becomes its JSON text, so that values can be compared and grouped."""
    found = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value, sort_keys=True) if isinstance(value, list) else value
    return found


def scenario(config: dict) -> str:
    """What goes wrong, for example 'all hubs crash at 20, 10% churn 30-40'. config: flat."""
    faults = {name.removeprefix("faults."): value for name, value in config.items() if name.startswith("faults.")}
    return ", ".join(_parts(faults)) or FAULT_FREE


def _parts(faults: dict) -> Iterator[str]:
    crash = {"kind": "crash", "cycle": faults.get("crash_cycle", 1), "point": faults.get("crash_point", "start")}
    for name, field in (("crash_fraction", "fraction"), ("crash_nodes", "nodes"), ("crash_hubs", "hubs")):
        yield from _event(crash | {field: _read(faults.get(name))})
    churn = {"kind": "churn", "cycle": faults.get("churn_first_cycle", 1), "last_cycle": faults.get("churn_last_cycle", 0)}
    yield from _event(churn | {"fraction": faults.get("churn_fraction", 0)})
    for event in _read(faults.get("plan")) or []:
        yield from _event(event)
    for name, value in faults.items():
        known = name in _CRASH + _CHURN
        if not known and name.endswith(_SHARES) and isinstance(value, (int, float)) and value > 0:
            yield f"{value:.3g} {name.replace('_', ' ')}"


def _read(value):
    """A list that flatten made a text of."""
    return json.loads(value) if isinstance(value, str) and value.startswith(("[", "{")) else value


def _event(event: dict) -> Iterator[str]:
    who = _who(event)
    if not who:
        return
    kind, first, last = event.get("kind", "crash"), event.get("cycle", 1), event.get("last_cycle", 0)
    when = f"{first}-{last}" if last and last != first else f"at {first}"
    point = event.get("point", "start")
    where = "" if point == "start" else f" ({point.replace('_', ' ')})"
    yield f"{who} {kind} {when}{where}"


def _who(event: dict) -> str:
    nodes, hubs = event.get("nodes") or [], event.get("hubs") or "none"
    if event.get("fraction"):
        return f"{100 * event['fraction']:.3g}%"
    if nodes:
        return f"node {nodes[0]}" if len(nodes) == 1 else f"{len(nodes)} nodes"
    return "" if hubs == "none" else {"one": "one hub", "all": "all hubs"}.get(hubs, f"{hubs} hubs")
