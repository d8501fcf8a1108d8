"""The machinery of settings: options with limits, sections that check themselves, TOML in and out. Imports nothing of healmpi.

Whatever can be chosen in a run (a topology, a rule, a data set ...) declares its options in its own file, as a `Section`:

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        title: ClassVar[str] = "topology"
        degree: int = option(0, "Links of a node. 0: 10.", low=0, high=100_000)

The sections of the configuration are put together from these (`assemble`), so that an option stands in one place. An option that
several declare, such as `topology.view_size`, is one object that they share.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import math
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

SectionType = TypeVar("SectionType", bound="Section")


COLUMNS = 80
"""Width of what is written for people."""


class UsageError(ValueError):
    """Something the user gave cannot be used: names the field, the value and what is allowed."""

    def __init__(self, name: str, value: Any, allowed: str):
        super().__init__(name, value, allowed)

    def __str__(self) -> str:
        name, value, allowed = self.args
        return f"{name} = {value!r} is not allowed: {allowed}"


class Misuse(ValueError):
    """Something of a user's own does not keep to what is asked of it, and a sentence says all."""


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A field of a section: its default, one sentence about it, and its limits.

    limits: low, high (inclusive), above (exclusive), choices. meanings: choice -> a few words. section: the title of another section
    that the option stands in.
    A dict as default makes a table of any content.
    """
    metadata = {"doc": doc, **limits}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    if isinstance(default, list):
        raise TypeError("defaults must be immutable")
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Section:
    """Options that belong together. Every value is checked against its annotation and its limits when a section is made.

    title: of the section of the configuration. Raises UsageError.
    """

    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for item in fields(self):
            name = full_name(type(self), item)
            value = _coerced(name, getattr(self, item.name), hints[item.name])
            _check_limits(name, value, item.metadata)
            object.__setattr__(self, item.name, value)

    def refusal(self, name: str, allowed: str, value: Any = None) -> UsageError:
        """What to raise when the value of an option cannot be used. value: if another one is to be named than that of the option."""
        item = next(one for one in fields(self) if one.name == name)
        return UsageError(full_name(type(self), item), getattr(self, name) if value is None else value, allowed)


@dataclass(frozen=True, slots=True)
class NoSettings(Section):
    """Nothing can be set."""


def full_name(kind: type[Section], item: dataclasses.Field) -> str:
    """'section.field', as the user writes it."""
    title = item.metadata.get("section", kind.title)
    return f"{title}.{item.name}" if title else item.name


def field_names(kind: type) -> list[str]:
    """The options of a section."""
    return [item.name for item in fields(kind)]


_HINTS: dict[type, dict[str, Any]] = {}


def hints_of(kind: type) -> dict[str, Any]:
    """Option -> its type."""
    # Looked up once: resolving the annotations of a module takes longer than all checks.
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]


# Checking a value.


def can_be_option(hint: Any) -> bool:
    """Whether values of this type can be checked."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        return len(inner) == 2 and inner[1] is Ellipsis and can_be_option(inner[0])
    if isinstance(hint, types.UnionType):
        return all(one in (int, float, str, bool) for one in typing.get_args(hint))
    plain = typing.get_origin(hint) is dict or hint in (int, float, str, bool, dict)
    return plain or (isinstance(hint, type) and issubclass(hint, Section))


def _coerced(name: str, value: Any, hint: Any) -> Any:
    """The value as the annotated type; an int serves as a float, a list as a tuple, nothing else is converted."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise UsageError(name, value, f"a list of {_type_name(inner)}")
        return tuple(_coerced(f"{name}[{i}]", one, inner) for i, one in enumerate(value))
    if typing.get_origin(hint) is dict:
        hint = dict
    if isinstance(hint, type) and issubclass(hint, Section):
        if isinstance(value, hint):
            return value
        if not isinstance(value, dict):
            raise UsageError(name, value, f"a table of {', '.join(field_names(hint))}")
        return from_table(hint, value, name)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UsageError(name, value, "a number of a size that a float can hold") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(name, value, f"{_type_name(hint)} is needed, this is {_type_name(type(value))}")
    if hint is float and not math.isfinite(value):
        raise UsageError(name, value, "a finite number is needed")
    if isinstance(value, str) and not _is_unicode(value):
        raise UsageError(name, value, "text in UTF-8, as everything that is stored with the results; rename what is called otherwise")
    return value


def _is_unicode(text: str) -> bool:
    """Whether it is text at all: Python keeps bytes of the command line that are none in a form of its own."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _type_name(kind: Any) -> str:
    plain = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false (in small letters)",
        list: "a list",
        dict: "a table",
    }
    return plain.get(kind, getattr(kind, "__name__", str(kind)))


def _check_limits(name: str, value: Any, limits: types.MappingProxyType) -> None:
    for one in value if isinstance(value, tuple) else (value,):
        if "choices" in limits and one not in limits["choices"]:
            raise UsageError(name, one, "one of " + ", ".join(repr(c) for c in limits["choices"]))
        low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
        if (low is not None and one < low) or (high is not None and one > high) or (above is not None and one <= above):
            raise UsageError(name, one, _range_text(low, high, above))


def _range_text(low: Any, high: Any, above: Any) -> str:
    parts = [
        f"at least {low}" if low is not None else "",
        f"more than {above}" if above is not None else "",
        f"at most {high}" if high is not None else "",
    ]
    return " and ".join(part for part in parts if part)


def from_table(kind: type[SectionType], table: Mapping[str, Any], title: str) -> SectionType:
    """A section from a table, as TOML gives it. title: how its place is called in an error. Raises UsageError."""
    for key in table:
        if key not in field_names(kind):
            known = ", ".join(field_names(kind)) or "none"
            raise UsageError(f"{title}.{key}" if title else key, table[key], f"unknown key; the known ones are {known}")
    return kind(**table)


# Putting sections together.


def assemble(
    title: str,
    doc: str,
    own: type[Section] | None,
    declared: Iterable[type[Section]],
    checked_by: Callable[[Any], None] = Section.__post_init__,
) -> type[Section]:
    """The section `title` of the configuration: its own options first, then those that the declared sections put into it.

    checked_by: what is called with every section that is made. Raises TypeError: two declare an option of one name in two ways.
    """
    found: dict[str, tuple[str, Any, dataclasses.Field]] = {}
    for kind in [*([own] if own else []), *declared]:
        hints = hints_of(kind)
        for item in fields(kind):
            if item.metadata.get("section", kind.title) != title:
                continue
            known = found.setdefault(item.name, (item.name, hints[item.name], item))
            if (known[1], known[2].default, dict(known[2].metadata)) != (hints[item.name], item.default, dict(item.metadata)):
                raise TypeError(f"{title}.{item.name} is declared in two ways: share one option")
    columns = [(name, hint, _copy(item)) for name, hint, item in found.values()]
    body = {"title": title, "__doc__": doc, "__post_init__": checked_by}
    name = "".join(part.title() for part in title.split(".")) + "Section"
    made = dataclasses.make_dataclass(name, columns, bases=(Section,), frozen=True, slots=True, namespace=body)
    _HINTS[made] = {name: hint for name, hint, _ in columns}
    return made


def _copy(item: dataclasses.Field) -> Any:
    # A Field object belongs to the dataclass that it was made for.
    if item.default_factory is not dataclasses.MISSING:
        return field(default_factory=item.default_factory, metadata=item.metadata)
    return field(default=item.default, metadata=item.metadata)


def titles(kind: type[Section]) -> list[str]:
    """The sections of the configuration in which its options stand."""
    return list(dict.fromkeys(item.metadata.get("section", kind.title) for item in fields(kind)))


def pick(kind: type[SectionType], sections: Mapping[str, Any]) -> SectionType:
    """The declared section with its values out of the assembled ones. sections: by title."""
    return kind(**{item.name: getattr(sections[item.metadata.get("section", kind.title)], item.name) for item in fields(kind)})


def put_back(settings: Section, sections: dict[str, Any]) -> None:
    """The reverse: the values of a declared section, for example resolved ones, into the assembled sections."""
    for title in titles(type(settings)):
        values = {
            item.name: getattr(settings, item.name)
            for item in fields(settings)
            if item.metadata.get("section", type(settings).title) == title
        }
        sections[title] = dataclasses.replace(sections[title], **values)


# TOML.


def override(table: dict[str, Any], text: str) -> None:
    """Put `section.field=value` into the table; the value is TOML, or a bare word, which is a text. Raises UsageError.

    `section.field.inner=value` goes into a field that is a table.
    """
    if not _is_unicode(text):
        raise UsageError("--set", text, "a text in UTF-8, since the configuration is stored as one: give the file another name, or a link")
    path, equals, raw = text.partition("=")
    section, *names = path.strip().split(".")
    if not equals or not section or not names or not all(names):
        raise UsageError("--set", text, "section.field=value, for example faults.crash_fraction=0.2")
    try:
        read = tomllib.loads(f"value = {raw}")
        if list(read) != ["value"]:
            raise UsageError("--set", text, "one field in each --set")
        value = read["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    inner = table
    for place, name in enumerate((section, *names[:-1]), 1):
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(".".join((section, *names)[:place]), inner, "a table")
    inner[names[-1]] = value


def toml_lines(section: Section, title: str, inner: Mapping[str, Section] | None = None) -> list[str]:
    """The section as TOML, each option explained. inner: options that are tables with options of their own, as sections."""
    inner = inner or {}
    lines = [*_said_of(section), f"[{title}]"]
    for item in fields(section):
        if item.name not in inner:
            lines += _option_lines(item, getattr(section, item.name))
    lines.append("")
    for name, settings in inner.items():
        lines += toml_lines(settings, f"{title}.{name}")
    return lines


def _option_lines(item: dataclasses.Field, value: Any) -> list[str]:
    """An option as TOML, its explanation behind it where that fits into a line, else before it."""
    line, doc, meanings = f"{item.name} = {toml_value(value)}", item.metadata["doc"], item.metadata.get("meanings", {})
    if not meanings and len(line) + len(doc) + 4 <= COLUMNS:
        return [f"{line}  # {doc}"]
    lines = textwrap.wrap(doc, COLUMNS - 2)
    for name, text in meanings.items():
        lines += textwrap.wrap(f"{name}: {text}", COLUMNS - 2, initial_indent="  ", subsequent_indent="      ")
    return [*(f"# {one}" for one in lines), line]


def _said_of(section: Section) -> list[str]:
    """The first line of what its class says of itself. Where it says nothing, dataclass puts its signature there."""
    text = (section.__doc__ or "").strip()
    if not text or text.startswith(f"{type(section).__name__}("):
        return []
    return [f"# {line}" for line in textwrap.wrap(text.splitlines()[0], COLUMNS - 2)]


def wrapped(line: str) -> str:
    """A line for people, broken where it is too long; a path never is."""
    inside = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, COLUMNS, subsequent_indent=inside, break_long_words=False, break_on_hyphens=False) if line else ""


def toml_value(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, Section):
        changed = {item.name: getattr(value, item.name) for item in fields(value) if getattr(value, item.name) != item.default}
        return toml_value(changed)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(name)} = {toml_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _toml_key(name: str) -> str:
    return name if name and all((letter.isalnum() and letter.isascii()) or letter in "_-" for letter in name) else json.dumps(name)


def table_of(sections: Mapping[str, Section]) -> dict[str, Any]:
    """Nested plain dictionaries, as JSON and TOML take them."""
    return json.loads(json.dumps({title: dataclasses.asdict(section) for title, section in sections.items()}))


def as_text(data: bytes) -> str:
    """The content of a text file in UTF-8, with or without the mark that editors put before it. Raises ValueError."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is in UTF-16: save it as UTF-8")
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def read_toml(name: str, path: Any, missing: str = "it cannot be read ({})") -> dict[str, Any]:
    """The tables of a TOML file. name: what the user calls the argument. missing: what is needed where the file cannot be read.

    Raises UsageError.
    """
    try:
        return tomllib.loads(as_text(path.read_bytes()))
    except OSError as error:
        raise UsageError(name, str(path), missing.format(error.strerror)) from None
    except ValueError as error:  # of the text, or of the TOML in it
        raise UsageError(name, str(path), f"it is not valid TOML ({error})") from None
