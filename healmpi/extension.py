"""The door by which everything that can be chosen comes in: what is shipped, by name; a user's own, as "module:Name".

    discover(package, Base)       what the modules of a package declare: name -> class
    find(field, "tree:Tree")      a user's own, out of tree.py in the current folder or of an installed package

A file of the current folder is loaded from that file, whatever else is called like it, and stands in `sys.modules` under a name
of its own: so a user's test.py hides nothing, and checkpoints, which name classes, find them again.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from healmpi.settings import Section, UsageError, can_be_option, hints_of

Base = TypeVar("Base")

PREFIX = "healmpi_own_"
"""In front of the names of modules that were loaded from files of the current folder."""


class Source(NamedTuple):
    """Where something that was chosen comes from: its file, and the SHA-256 of that in hexadecimal digits ('' for both: not known)."""

    file: str
    sha256: str


NO_SOURCE = Source("", "")


def discover(package: ModuleType, base: type[Base]) -> dict[str, type[Base]]:
    """What the modules of a package declare: the classes below `base` that have a name, by it, in alphabetical order."""
    found: dict[str, type[Base]] = {}
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        for value in vars(module).values():
            if not (isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__):
                continue
            name = str(getattr(value, "name", ""))
            assert name not in found, f"{name} is declared twice"
            if name:
                found[name] = value
    return dict(sorted(found.items()))


def find(field: str, text: str, base: type | None = None) -> Any:
    """What "module:Name" means. base: the class that it must be below; None: anything that can be called. Raises UsageError."""
    module_name, colon, name = text.partition(":")
    if not (colon and module_name and name):
        raise UsageError(field, text, "'module:Name'")
    module = _module(field, text, module_name)
    found = getattr(module, name, None)
    where = getattr(module, "__file__", None) or module_name
    if base is not None and not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(field, text, f"{where} must have a class {name} below {base.__module__}.{base.__qualname__}")
    if not callable(found):
        raise UsageError(field, text, f"{where} must have a function or class {name}")
    return found


def _module(field: str, text: str, name: str) -> ModuleType:
    path = Path.cwd() / f"{name}.py"
    known = sys.modules.get(PREFIX + name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    try:
        with importable_here():
            return _load(PREFIX + name, path) if path.is_file() else importlib.import_module(name)
    except (Exception, SystemExit) as error:
        where = f"{path} must be importable" if path.is_file() else f"module {name!r} must be importable; there is no {path}"
        raise UsageError(field, text, f"{where} ({type(error).__name__}: {error}{_line(error, path)})") from error


def _line(error: BaseException, path: Path) -> str:
    """Where in the file it happened."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class importable_here:
    """While it is entered, files of the current folder can be imported. Last in the path: they never hide an installed package."""

    def __enter__(self) -> None:
        self._folder = str(Path.cwd())
        sys.path.append(self._folder)
        importlib.invalidate_caches()

    def __exit__(self, *error: object) -> None:
        sys.path.reverse()
        sys.path.remove(self._folder)
        sys.path.reverse()


def check_settings(field: str, text: str, kind: Any) -> None:
    """Raise UsageError unless `Settings` of a user's own can be a section of the configuration. field, text: what names it."""
    how = "below healmpi.settings.Section, with @dataclass(frozen=True, slots=True) above it"
    if not (isinstance(kind, type) and issubclass(kind, Section) and "__dataclass_fields__" in vars(kind)):
        raise UsageError(field, text, f"its Settings must be a class {how}")
    plain = [item.name for item in fields(kind) if "doc" not in item.metadata]
    if plain:
        raise UsageError(field, text, f"each option of its Settings must be made with healmpi.settings.option; {plain[0]} is not")
    hints = hints_of(kind)
    strange = [item.name for item in fields(kind) if not can_be_option(hints[item.name])]
    if strange:
        allowed = "int, float, str, bool, a tuple of one of these (tuple[int, ...]), or dict"
        raise UsageError(field, text, f"each option of its Settings must be {allowed}; {strange[0]} is something else")


def source_of(chosen: Callable[..., Any]) -> Source:
    """Where a class or function stands."""
    try:
        file = inspect.getsourcefile(chosen) or ""
        return Source(file, hashlib.sha256(Path(file).read_bytes()).hexdigest())
    except (TypeError, OSError):
        return NO_SOURCE
