"""What lasts from cycle to cycle, as plain data for a checkpoint: who has such a state, and how it becomes JSON and arrays.

Plain data are None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, numpy arrays and numbers (booleans, integers, floats,
bytes), random generators, messages and their kinds. JSON's own values stand for themselves, all else is a list that begins with its name:
["tuple", 1, 2]. The bytes of arrays follow one another outside, in the order in which their names stand in the JSON. What can
change (arrays, generators, lists, dicts, sets) and occurs twice is written once, and is one object again: ["same", 3] is the fourth.

No class is ever found by a name out of a file: a state is put into an object that the configuration has made.
"""

from __future__ import annotations

import math
import random
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from healmpi.messages import Kind, Message, named, numbered
from healmpi.settings import Misuse, Section

Take = Callable[[np.dtype, tuple[int, ...], str], np.ndarray]
"""Gives the next array: its type, shape and order in memory ('C' or 'F'). Raises ValueError: there are not so many bytes."""

LARGEST = 2**63
"""Whole numbers from here on are written in hexadecimal digits: Python takes longer and longer over decimal ones, and then refuses."""

ARRAY_TYPE = re.compile(r"[<>|][biufS][1-9][0-9]{0,8}")

WORDS = 625
"""Of 32 bits, the state of Python's generator."""

BIT_GENERATORS = {one.__name__: one for one in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)}


class Configured:
    """What the configuration makes, alike each time: it is no part of a state. So are sections of settings."""

    __slots__ = ()


class Stateful:
    """What has a state that lasts from cycle to cycle: by default all attributes, but for `fleeting` ones and what is configured.

    fleeting: names of attributes that a new object has as they must be at the start of a cycle; those of the classes above count, too. An
    attribute that is itself stateful is made with the object, not later, and keeps its state by its own methods.
    """

    __slots__ = ()

    fleeting: ClassVar[frozenset[str]] = frozenset()

    def state(self) -> dict[str, Any]:
        """All that lasts, as plain data. It is looked at at once, so that nothing need be copied."""
        own, parts = {}, {}
        for name, value in _attributes(self).items():
            if is_stateful(value):
                # An attribute of the object may be called so, too.
                parts[name] = type(value).state(value)
            else:
                own[name] = value
        return {"class": type(self).__name__, "own": own, "parts": parts}

    def restore(self, state: dict[str, Any]) -> None:
        """Become as `state` said of another object, which was made as this one. Raises Misuse: it was not."""
        own, parts, name = state["own"], state["parts"], type(self).__name__
        if state["class"] != name:
            raise Misuse(f"a state of {state['class']} does not fit {name}")
        for part in parts:
            if not is_stateful(getattr(self, part, None)):
                raise Misuse(f"{name}.{part} has a state, and a new {name} has nothing there: make it in __init__")
        for attribute in _attributes(self).keys() - own.keys() - parts.keys():
            delattr(self, attribute)
        for attribute, value in own.items():
            setattr(self, attribute, value)
        for part, value in parts.items():
            mine = getattr(self, part)
            type(mine).restore(mine, value)


def is_stateful(value: Any) -> bool:
    """Whether it keeps its own state."""
    kind = type(value)
    return callable(getattr(kind, "state", None)) and callable(getattr(kind, "restore", None))


def _attributes(one: Stateful) -> dict[str, Any]:
    """Of those that count, in the object's own dict and in slots."""
    found = object.__getstate__(one)
    tables = found if isinstance(found, tuple) else (found,)
    fleeting: frozenset[str] = frozenset().union(*(vars(kind).get("fleeting", ()) for kind in type(one).__mro__))
    every = {name: value for table in tables for name, value in (table or {}).items() if name not in fleeting}
    return {name: value for name, value in every.items() if not isinstance(value, Configured | Section)}


# Writing.


class NotPlain(TypeError):
    """Something that cannot be written. path: the keys that lead there. owner: name of the class whose state it is in, if known."""

    def __init__(self, value: Any):
        super().__init__(value)
        self.path: list[Any] = []
        self.owner = ""

    def __str__(self) -> str:
        path = self.path[self.path.index("own") + 1 :] if "own" in self.path else self.path
        where = ".".join(filter(None, (self.owner, *map(str, path))))
        (value,) = self.args
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        return f"{where} is {f'an array of {value.dtype}' if kind is np.ndarray else f'of type {name}'}"


def encode(value: Any) -> tuple[Any, list[np.ndarray]]:
    """Plain data as what JSON can hold, and the arrays that go with it. Raises NotPlain; RecursionError: it is nested too deeply."""
    encoder = _Encoder()
    return encoder(value), encoder.arrays


class _Encoder:
    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._seen: dict[int, tuple[int, Any]] = {}  # id -> number and object, which so keeps its id
        self._ways: dict[type, Callable[[Any], list[Any]]] = {
            bytes: lambda value: ["bytes", value.hex()],
            tuple: lambda value: ["tuple", *self._items(value)],
            list: lambda value: ["list", *self._items(value)],
            dict: lambda value: ["dict", *self._pairs(value)],
            set: lambda value: ["set", *self._items(_in_order(value))],
            frozenset: lambda value: ["frozenset", *self._items(_in_order(value))],
            np.ndarray: self._array,
            random.Random: self._python_generator,
            np.random.Generator: self._numpy_generator,
            Kind: lambda value: ["kind", value.name],
            Message: lambda value: ["message", numbered(value.kind).name, *self._items(value[1:])],
        }

    def __call__(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            # JSON makes one letter of two surrogates.
            return value if value.isprintable() or value.isascii() else ["text", value.encode("utf-8", "surrogatepass").hex()]
        if kind is int:
            return value if -LARGEST < value < LARGEST else ["int", hex(value)]
        if kind is float:
            return value if math.isfinite(value) else ["float", struct.pack("<d", value).hex()]
        if kind not in self._ways:
            return self._number(value)
        if kind in CHANGEABLE:
            if id(value) in self._seen:
                return ["same", self._seen[id(value)][0]]
            self._seen[id(value)] = len(self._seen), value
        return self._ways[kind](value)

    def _number(self, value: Any) -> list[Any]:
        if not isinstance(value, np.generic) or not ARRAY_TYPE.fullmatch(value.dtype.str):
            raise NotPlain(value)
        return ["number", value.dtype.str, value.tobytes().hex()]

    def _items(self, values: Sequence[Any]) -> Iterable[Any]:
        if _are_short(values):
            return values
        return [self._named(place, value) for place, value in enumerate(values)]

    def _pairs(self, table: dict[Any, Any]) -> Iterable[Any]:
        flat = list(chain.from_iterable(table.items()))
        if _are_short(flat):
            return flat
        try:
            for place in range(0, len(flat), 2):
                flat[place : place + 2] = self(flat[place]), self._named(flat[place], flat[place + 1])
            return flat
        except NotPlain as error:
            error.owner = error.owner or (table["class"] if type(table.get("class")) is str else "")
            raise

    def _named(self, key: Any, value: Any) -> Any:
        try:
            return self(value)
        except NotPlain as error:
            if not error.owner:
                error.path.insert(0, key)
            raise

    def _array(self, array: np.ndarray) -> list[Any]:
        if not ARRAY_TYPE.fullmatch(array.dtype.str):
            raise NotPlain(array)
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self.arrays.append(array)
        return ["array", array.dtype.str, list(array.shape), order, array.flags.writeable]

    def _python_generator(self, generator: random.Random) -> list[Any]:
        version, words, gauss = generator.getstate()
        self.arrays.append(np.array(words, "<u4"))
        return ["random", version, self(gauss)]

    def _numpy_generator(self, generator: np.random.Generator) -> list[Any]:
        kind = type(generator.bit_generator)
        if BIT_GENERATORS.get(kind.__name__) is not kind:
            raise NotPlain(generator.bit_generator)
        return ["generator", kind.__name__, self(dict(generator.bit_generator.state))]


CHANGEABLE = frozenset((list, dict, set, np.ndarray, random.Random, np.random.Generator))


def _are_short(values: Sequence[Any]) -> bool:
    """Whether they are whole numbers that stand for themselves: views of large graphs are many of them."""
    return set(map(type, values)) == {int} and min(values) > -LARGEST and max(values) < LARGEST


def _in_order(values: Any) -> list[Any]:
    """A set's own order is an accident; where there is none, nothing may depend on it either."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


# Reading.


def decode(tree: Any, take: Take) -> Any:
    """The value whose `encode` gave this. Raises ValueError, TypeError, LookupError, RecursionError: none did."""
    return _Decoder(take)(tree)


class _Decoder:
    def __init__(self, take: Take):
        self._take = take
        self._seen: list[Any] = []
        self._ways: dict[str, Callable[..., Any]] = {
            "text": lambda digits: bytes.fromhex(digits).decode("utf-8", "surrogatepass"),
            "int": lambda digits: int(digits, 16),
            "float": lambda digits: np.frombuffer(bytes.fromhex(digits), "<f8", 1)[0].item(),
            "number": lambda kind, digits: np.frombuffer(bytes.fromhex(digits), _array_type(kind), 1)[0],
            "bytes": bytes.fromhex,
            "tuple": lambda *items: tuple(map(self, items)),
            "list": self._list,
            "dict": self._dict,
            "set": self._set,
            "frozenset": lambda *items: frozenset(map(self, items)),
            "array": self._array,
            "random": self._python_generator,
            "generator": self._numpy_generator,
            "same": self._same,
            "kind": named,
            "message": lambda kind, *rest: Message(named(kind), *map(self, rest)),
        }

    def __call__(self, tree: Any) -> Any:
        if type(tree) is dict:
            raise ValueError("a JSON object stands for nothing")
        return self._ways[tree[0]](*tree[1:]) if type(tree) is list else tree

    def _keep(self, value: Any) -> Any:
        self._seen.append(value)
        return value

    def _same(self, number: int) -> Any:
        if number < 0:
            raise ValueError("the number of an object is from 0 on")
        return self._seen[number]

    def _list(self, *items: Any) -> list[Any]:
        made: list[Any] = self._keep([])
        made.extend(map(self, items))
        return made

    def _dict(self, *items: Any) -> dict[Any, Any]:
        made: dict[Any, Any] = self._keep({})
        for place in range(0, len(items), 2):
            key = self(items[place])
            made[key] = self(items[place + 1])
        return made

    def _set(self, *items: Any) -> set[Any]:
        made: set[Any] = self._keep(set())
        made.update(map(self, items))
        return made

    def _array(self, kind: str, shape: list[int], order: str, writeable: bool) -> np.ndarray:
        if order not in ("C", "F") or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"no array has order {order!r} and shape {shape!r}")
        array = self._take(_array_type(kind), tuple(shape), order)
        array.flags.writeable = bool(writeable)
        return self._keep(array)

    def _python_generator(self, version: int, gauss: Any) -> random.Random:
        made = self._keep(random.Random(0))
        words = self._take(np.dtype("<u4"), (WORDS,), "C")
        made.setstate((version, tuple(words.tolist()), self(gauss)))
        return made

    def _numpy_generator(self, kind: str, state: Any) -> np.random.Generator:
        bits = BIT_GENERATORS[kind](0)
        made = self._keep(np.random.Generator(bits))
        bits.state = self(state)
        return made


def _array_type(text: str) -> np.dtype:
    if not ARRAY_TYPE.fullmatch(text):
        raise ValueError(f"{text!r} is no type of numbers")
    return np.dtype(text)
