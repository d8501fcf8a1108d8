"""The door by which everything that can be chosen comes in: what is shipped, by name; a user's own, as "module:Name".

    discover(package, Base)       what the modules of a package declare: name -> class
    find(field, "tree:Tree")      a user's own, out of tree.py in the current folder or of an installed package
    find(field, "~/w/tree.py:Tree")   the same, out of that file

What lies in the current folder comes first, files and packages, whatever else is called like it, and stands in `sys.modules` under a
name of its own: so a user's test.py hides nothing from others, and checkpoints, which name classes, find them again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
import zlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from healmpi import randomness
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
    module_name, colon, name = text.rpartition(":")
    if not (colon and module_name and name):
        raise UsageError(field, text, "'module:Name' or 'file.py:Name'")
    module = _module(field, text, module_name)
    found = getattr(module, name, None)
    where = getattr(module, "__file__", None) or module_name
    if base is not None and not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(field, text, f"{where} must have a class {name} below {base.__module__}.{base.__qualname__}")
    if not callable(found):
        raise UsageError(field, text, f"{where} must have a function or class {name}")
    return found


def _module(field: str, text: str, name: str) -> ModuleType:
    path = _file(name)
    if path is None:
        path = Path.cwd() / f"{name.replace('.', '/')}.py"
        where, load = f"module {name!r} must be importable; there is no {path}", functools.partial(importlib.import_module, name)
    elif not path.is_file():
        raise UsageError(field, text, f"an existing file; there is no {path}")
    else:
        where, load = f"{path} must be importable", functools.partial(_loaded, name, path)
    try:
        with importable_here(), randomness.while_imported():
            return load()
    except (Exception, SystemExit) as error:
        raise UsageError(field, text, f"{where} ({type(error).__name__}: {error}{_line(error, path)})") from error


def _file(name: str) -> Path | None:
    """The user's own file of that name; None: it is looked for among what is installed, then in the current folder."""
    if name.endswith(".py"):
        return Path(os.path.abspath(os.path.expanduser(name)))
    path = Path.cwd() / f"{name}.py"
    return path if path.is_file() else _hidden_file(name)


def _hidden_file(name: str) -> Path | None:
    """Of a package or folder here that something installed is called like. Nobody can hide healmpi."""
    top, *inner = name.split(".")
    folder = Path.cwd() / top
    if top == "healmpi" or not all((top, *inner)) or not folder.is_dir():
        return None
    spec = importlib.util.find_spec(top)
    if spec is None or str(folder) in (spec.submodule_search_locations or ()):
        return None
    place = folder.joinpath(*inner)
    return next((path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file()), None)


def _line(error: BaseException, path: Path) -> str:
    """Where in the file it happened."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _loaded(name: str, path: Path) -> ModuleType:
    """The module that this file is, loaded once."""
    here = path.parent == Path.cwd()
    if name.endswith(".py"):
        # Two files of one name in two folders are two modules.
        name = path.stem if here else f"{path.stem}_{zlib.crc32(os.fsencode(path)):08x}"
        if not here and str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # for the files that it imports; last: it hides nothing
    known = sys.modules.get(PREFIX + name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    top, dot, _ = name.partition(".")
    if dot or path.name == "__init__.py":
        _load_folder(PREFIX + top, Path.cwd() / top)
        return importlib.import_module(PREFIX + name)
    return _load(importlib.util.spec_from_file_location(PREFIX + name, path))


def _load_folder(name: str, folder: Path) -> None:
    """A package, or a folder that lacks __init__.py, under another name."""
    start, inside = folder / "__init__.py", [str(folder)]
    if start.is_file():
        _load(importlib.util.spec_from_file_location(name, start, submodule_search_locations=inside))
    else:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = inside
        sys.modules[name] = importlib.util.module_from_spec(spec)


def _load(spec: importlib.machinery.ModuleSpec | None) -> ModuleType:
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def search_here() -> None:
    """Let files of the current folder be imported for good, last of all, however this process was started."""
    with contextlib.suppress(OSError):  # the folder is gone
        folder = os.getcwd()
        if folder not in sys.path:
            sys.path.append(folder)


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
