"""The vocabulary of the protocol: what one node can say to another.

A message is small and immutable. Its payload is None, a tuple of ids, or a float32 vector that nobody changes after it
was sent, so that within a process it travels by reference. `number` is the only scalar that a message carries; its meaning
belongs to the kind.

A kind of message is declared where it is used, by name: `MODEL = kind("model", carries_model=True)`. Results name kinds; the number of
one is the order of its declaration in this process, and the ranks of a run make sure that they agree on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

HEADER_BYTES = 32
"""Size of the fixed header in front of every payload on the wire, in bytes (worlds/wire.py)."""

MOST_KINDS = 255
"""Numbers of kinds are below this; the wire has a byte for them, and keeps the last one for itself."""

LONGEST_NAME = 16
"""Of a kind, in ASCII characters; results have room for as many."""


class Commitment(NamedTuple):
    """What a message binds its receiver to: to enter the hub group of this epoch. See node.EnterGroup."""

    epoch: int
    members: tuple[int, ...]
    weights: tuple[int, ...]
    reused: bool


class Kind(int):
    """A kind of message: a whole number with a name.

    carries_model: its payload is a model. pledges: who sends it will take part in a hub group, if it comes to that. commitment: the
    group that the receiver is bound to enter, out of the message; None: it binds to nothing.
    """

    name: str
    carries_model: bool
    pledges: bool
    commitment: Callable[[Message], Commitment] | None

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return named, (self.name,)


_DECLARED: dict[str, Kind] = {}
KIND_OF: dict[int, Kind] = {}
"""Number -> kind, of all that are declared."""


def kind(
    name: str, *, carries_model: bool = False, pledges: bool = False, commitment: Callable[[Message], Commitment] | None = None
) -> Kind:
    """The kind of this name, declared now unless it was before. Raises ValueError: a bad name, or another meaning than before."""
    known = _DECLARED.get(name)
    if known is not None:
        if (known.carries_model, known.pledges, known.commitment) != (carries_model, pledges, commitment):
            raise ValueError(f"messages of kind {name!r} have another meaning already")
        return known
    if not (name.isascii() and name.isidentifier() and len(name) <= LONGEST_NAME):
        raise ValueError(f"{name!r} cannot name a kind of message: a Python name of at most {LONGEST_NAME} ASCII letters is needed")
    if len(KIND_OF) >= MOST_KINDS:
        raise ValueError(f"there are {MOST_KINDS} kinds of messages already")
    made = Kind(len(KIND_OF))
    made.name, made.carries_model, made.pledges, made.commitment = name, carries_model, pledges, commitment
    _DECLARED[name] = made
    KIND_OF[int(made)] = made
    return made


def named(name: str) -> Kind:
    """The kind of this name. Raises KeyError."""
    return _DECLARED[name]


def numbered(number: int) -> Kind:
    """The kind with this number, as the wire carries it. Raises KeyError."""
    return KIND_OF[number]


def kind_count() -> int:
    """How many have been declared in this process: numbers are below it."""
    return len(KIND_OF)


MODEL = kind("model", carries_model=True)
"""A node's model for a hub, a server or a peer. payload: float32 [size]; number: as its rule has it."""

GROUP_REDUCTION = kind("group_reduction", carries_model=True)
"""Never sent: the average inside a hub group is MPI's own collective, counted as its point-to-point equivalent."""


class Message(NamedTuple):
    """One protocol message.

    kind: Kind, or its number. source, target: node ids. cycle: the sender's cycle. tick: when it was sent; when it arrives is the
    world's affair. payload: None, a tuple of ids, or a float32 ndarray [size], as the kind has it. number: int, see the kind.
    """

    kind: int
    source: int
    target: int
    cycle: int
    tick: int
    payload: Any = None
    number: int = 0
