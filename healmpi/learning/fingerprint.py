"""What a network keeps apart from its parameters and buffers, as hashes: whether using it has changed anything, and what.

Attributes of all submodules, the objects in them, what hooks and methods close over, and the globals and class attributes that
they name, in the user's other files as well. Code of torch, numpy, the standard library and whatever else is installed is not looked
into: it keeps caches that change nothing.

A hash says the same in every process, so that ranks can compare theirs.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import pickle
import random
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.dtype, torch.device, torch.Size)
LIBRARIES = {"torch", "numpy", "healmpi"} | set(sys.stdlib_module_names)
INSTALLED = {"site-packages", "dist-packages"}
"""Folders of what is installed."""
TENSORS = {"_parameters", "_buffers", "_modules", "training"}
STATELESS = (types.ModuleType, weakref.ref, RemovableHandle, logging.Logger, logging.Handler, io.IOBase)
"""What may change and change no number, or is followed by name (modules)."""


def fingerprint(module: nn.Module) -> dict[str, str]:
    """Dotted name of each attribute, method and class attribute -> hash of all that hangs on it. Buffers and parameters aside."""
    found = {}
    for path, part in module.named_modules():
        for name, value in _kept(part):
            found[f"{path}.{name}" if path else name] = _Walk().digest(value)
    return found


def marks(module: nn.Module) -> dict[str, str]:
    """`fingerprint`, with a hash of each parameter and buffer, and of their order: all that must be the same on every rank."""
    values = dict(module.named_parameters()) | dict(module.named_buffers())
    order = {"the order of its parameters and buffers": _Walk().digest(list(values))}
    return order | {name: _Walk().digest(value.detach()) for name, value in values.items()} | fingerprint(module)


def _kept(part: nn.Module) -> Iterator[tuple[str, Any]]:
    computed = _computed(part)
    for name, value in vars(part).items():
        if name not in TENSORS and name not in computed:
            # Hooks are numbered through the whole process, so two equal modules have different keys.
            yield name, list(value.values()) if "hooks" in name and isinstance(value, dict) else value
    for kind in reversed(type(part).__mro__):
        if not _of_library(kind):
            yield from _own_of(kind).items()


def _computed(part: nn.Module) -> set[str]:
    """Attributes that torch's own hooks write anew before each call: those of spectral_norm, weight_norm and pruning."""
    hooks = [hook for hook in part._forward_pre_hooks.values() if type(hook).__module__.startswith("torch.nn.utils.")]
    return {str(getattr(hook, field)) for hook in hooks for field in ("name", "_tensor_name") if hasattr(hook, field)}


def _own_of(kind: type) -> dict[str, Any]:
    """Attributes and methods that a class declares, without what Python writes there itself."""
    return {name: value for name, value in vars(kind).items() if not name.startswith("__") or isinstance(value, types.FunctionType)}


def _of_library(one: Any) -> bool:
    """Whether a class or function is none of the user's."""
    return _installed(getattr(one, "__module__", None) or "builtins")


@functools.cache
def _installed(module: str) -> bool:
    if module.split(".")[0] in LIBRARIES:
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return not INSTALLED.isdisjoint(PurePath(file).parts)


class _Walk:
    """One hash over an object and all that it refers to."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._seen: dict[int, Any] = {}  # the objects too, so that no number is given twice
        self._files: set[str] = set()

    def digest(self, value: Any) -> str:
        self._visit(value)
        return self._hash.hexdigest()

    def _say(self, *words: Any) -> None:
        self._hash.update(repr(words).encode())

    def _visit(self, value: Any) -> None:
        self._say(type(value).__qualname__)
        if isinstance(value, PLAIN):
            self._say(value)
        elif id(value) in self._seen:
            self._say("again")
        else:
            self._seen[id(value)] = value
            self._enter(value)

    def _enter(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self._say(value.dtype, tuple(value.shape))
            self._hash.update(bytes_of(value))
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._say(value.dtype.str, value.shape)
            self._hash.update(value.tobytes())
        elif isinstance(value, dict):
            self._all(item for pair in value.items() for item in pair)
        elif isinstance(value, set | frozenset):
            self._say(sorted(_Walk().digest(one) for one in value))
        elif isinstance(value, list | tuple | deque):
            self._say(len(value))
            self._all(value)
        elif not self._enter_generator(value):
            self._enter_code(value)

    def _enter_generator(self, value: Any) -> bool:
        if isinstance(value, torch.Generator):
            self._visit(value.get_state())
        elif isinstance(value, np.random.Generator):
            self._visit(value.bit_generator.state)
        elif isinstance(value, np.random.RandomState):
            self._visit(value.get_state(legacy=False))
        elif isinstance(value, random.Random):
            self._visit(value.getstate())
        else:
            return False
        return True

    def _enter_code(self, value: Any) -> None:
        """What a function closes over and names, or a class or object holds."""
        if isinstance(value, STATELESS):
            return
        if isinstance(value, types.MethodType):
            self._all((value.__self__, value.__func__))
        elif isinstance(value, functools.partial):
            self._all((value.func, value.args, value.keywords))
        elif hasattr(value, "cache_info"):
            # Hits alone change nothing that could come out.
            info = value.cache_info()
            self._say(info.misses, info.currsize)
            self._visit(value.__wrapped__)
        elif isinstance(value, types.FunctionType):
            self._enter_function(value)
        elif isinstance(value, type):
            self._all(() if _of_library(value) else _own_of(value).values())
        else:
            self._enter_object(value)

    def _enter_function(self, function: types.FunctionType) -> None:
        if _of_library(function):
            return
        self._say(function.__qualname__)
        cells = function.__closure__ or ()
        self._all(cell.cell_contents for cell in cells if cell != types.CellType())
        self._all((function.__defaults__, function.__kwdefaults__, vars(function)))
        names, spaces = _names(function.__code__), function.__globals__
        self._all(spaces[name] for name in names if name in spaces)
        for name in names:
            # Where it is no global, an import in the function may have named it.
            self._enter_file(spaces.get(name, sys.modules.get(name)), names)

    def _enter_file(self, other: Any, names: list[str]) -> None:
        """What the names find in another file of the user's: "counters.calls" names both."""
        if not isinstance(other, types.ModuleType) or other.__name__ in self._files or _installed(other.__name__):
            return
        self._files.add(other.__name__)
        for name in names:
            if name in vars(other):
                self._visit(vars(other)[name])
                self._enter_file(vars(other)[name], names)

    def _enter_object(self, value: Any) -> None:
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) if name != "__dict__"]
        parts = [getattr(value, name) for name in slots if hasattr(value, name)]
        if isinstance(value, nn.Module):
            parts.append({name: one for name, one in vars(value).items() if "hooks" not in name and name != "training"})
        elif hasattr(value, "__dict__"):
            parts.append(vars(value))
        self._all(parts)
        if not parts:
            # Iterators of the standard library and objects of compiled code; what cannot be pickled cannot be compared.
            try:
                self._hash.update(pickle.dumps(value))
            except Exception:
                self._say("no state to be seen")

    def _all(self, values: Any) -> None:
        for one in values:
            self._visit(one)


def bytes_of(tensor: torch.Tensor) -> bytes:
    """A tensor's numbers, whatever its layout; empty where it holds none that can be read."""
    try:
        plain = tensor.detach().cpu().to_dense() if tensor.layout is not torch.strided else tensor.detach().cpu()
        plain = plain.int_repr() if plain.is_quantized else plain.resolve_conj().resolve_neg()
        return plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError):  # of the meta device, nested, of a subclass that holds no memory
        return b""


def _names(code: types.CodeType) -> list[str]:
    """Global names in a function's code, and in that of the functions inside it."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return sorted({*code.co_names, *(name for one in inner for name in _names(one))})
