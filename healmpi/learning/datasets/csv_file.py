"""Any data set in a text file with a line a sample and commas between its columns (RFC 4180), plain or gzipped (.gz).

One column is the label: whole numbers from 0, or texts, which get the numbers 0, 1 ... in alphabetical order. All other columns are
features: finite numbers. The first line is a header when none of its features is a number, or when `label` names a column.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from healmpi.learning.data import MOST_CLASSES, Data, Dataset, existing_file, file_option, split, test_fraction_option
from healmpi.settings import Section, UsageError, option

_HEAD_BYTES = 2**20  # of the file, for an estimate of its lines


class _Line(NamedTuple):
    """number: from 1, as editors count."""

    number: int
    cells: list[str]


class _Layout(NamedTuple):
    """width: columns. label: the place of the label among them, from 0. names: of all columns; empty: there is no header."""

    width: int
    label: int
    names: list[str]


class Csv(Data):
    """A table of one's own, `file`, plain or gzipped: a sample a line."""

    @dataclass(frozen=True, slots=True)
    class Settings(Section):
        """Where the file is, which column is the label, and what is held back."""

        title: ClassVar[str] = "data"
        file: str = file_option()
        label: str | int = option("", "Column of the labels in 'csv': its name in the first line, or its number, from 1. Empty: the last.")
        test_fraction: float = test_fraction_option()

    name: ClassVar[str] = "csv"
    settings: Settings

    def load(self, seed: int) -> Dataset:
        """float32 features."""
        lines = _lines(existing_file(self.settings), self.settings)
        first = next(lines, None)
        if first is None:
            raise self._refused("a file with samples; it is empty")
        layout = self._layout(first)
        if not layout.names:
            lines = itertools.chain([first], lines)

        # Line by line, so that no more than one is held as text.
        numbers, labels, rows = [], [], []
        for number, cells in lines:
            if len(cells) != layout.width:
                raise self._refused(f"line {number}: {layout.width} columns, as the first line has; there are {len(cells)}")
            numbers.append(number)
            labels.append(cells[layout.label].strip())
            rows.append(self._features(layout, number, cells))
        if len(rows) < 2:
            raise self._refused(f"at least two lines with samples; there are {len(rows)}")
        y, classes = self._classes(layout, numbers, labels)
        return split(self.name, np.stack(rows), y, classes, self.settings.test_fraction, seed)

    def samples(self) -> int:
        """As many as there are lines, if all are as long as the first ones. 0: the file cannot be read, and `load` says why."""
        try:
            path = existing_file(self.settings)
            with path.open("rb") as raw, _unpacked(raw, path) as stream:
                lines = stream.read(_HEAD_BYTES).count(b"\n")
                read = raw.tell()
            return lines * path.stat().st_size // max(1, read)
        except (UsageError, OSError, EOFError, zlib.error):
            return 0

    def _layout(self, first: _Line) -> _Layout:
        """What the first line says."""
        names = [cell.strip() for cell in first.cells]
        width, chosen = len(names), self.settings.label
        if width < 2:
            raise self._refused(f"line {first.number}: at least two columns, with a comma between; there is one")
        if isinstance(chosen, str) and chosen:
            if names.count(chosen) != 1:
                raise self.settings.refusal("label", f"a column: one of {', '.join(names)} in the first line, or a number, 1 to {width}")
            return _Layout(width, names.index(chosen), names)
        if isinstance(chosen, int) and not 1 <= chosen <= width:
            raise self.settings.refusal("label", f"1 to {width}: the number of a column, or its name in the first line")
        label = chosen - 1 if isinstance(chosen, int) else width - 1
        features = names[:label] + names[label + 1 :]
        return _Layout(width, label, [] if any(map(_is_number, features)) else names)

    def _features(self, layout: _Layout, number: int, cells: list[str]) -> np.ndarray:
        """float32 [features]"""
        features = cells[: layout.label] + cells[layout.label + 1 :]
        try:
            with np.errstate(over="ignore"):
                values = np.fromiter(map(float, features), np.float32, len(features))
            if np.isfinite(values).all():
                return values
        except ValueError:
            pass
        place = next(at for at, cell in enumerate(cells) if at != layout.label and not _is_finite(cell))
        raise self._cell_refused(layout, number, place, "a number that is finite in float32", cells[place])

    def _classes(self, layout: _Layout, numbers: Sequence[int], labels: Sequence[str]) -> tuple[np.ndarray, int]:
        """int64 [samples], and how many classes there are. numbers: of the lines."""
        distinct = sorted(set(labels))
        numeric = all(map(_is_number, distinct))

        # Each distinct label is looked at once; the first line that has a bad one is named.
        for label in dict.fromkeys(labels):
            allowed = _label_fault(label, labels[0], numeric)
            if allowed:
                raise self._cell_refused(layout, numbers[labels.index(label)], layout.label, allowed, label)
        values = {label: int(float(label)) if numeric else place for place, label in enumerate(distinct)}
        if len(set(values.values())) < 2:
            raise self._refused(f"labels of at least two classes; all of them are {labels[0]!r}")
        if len(distinct) > MOST_CLASSES:
            raise self._refused(f"at most {MOST_CLASSES} different labels; there are {len(distinct)}")
        return np.array([values[label] for label in labels], np.int64), max(values.values()) + 1

    def _cell_refused(self, layout: _Layout, number: int, place: int, allowed: str, cell: str) -> UsageError:
        name = f" ({layout.names[place]})" if layout.names else ""
        return self._refused(f"line {number}, column {place + 1}{name}: {allowed}; there is {cell!r}")

    def _refused(self, allowed: str) -> UsageError:
        return self.settings.refusal("file", allowed)


def _lines(path: Path, settings: Csv.Settings) -> Iterator[_Line]:
    """All lines that are not empty. Raises UsageError: the file cannot be read."""
    number = 0
    try:
        with path.open("rb") as raw, _unpacked(raw, path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, skipinitialspace=True, strict=True)
            for cells in reader:
                number = reader.line_num
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield _Line(number, cells)
    except UnicodeDecodeError as error:
        why = "it is in UTF-16: save it as UTF-8" if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else error
        raise settings.refusal("file", f"a text in UTF-8 ({why})") from error
    except csv.Error as error:
        raise settings.refusal("file", f"line {number + 1}: columns with a comma between ({error})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise settings.refusal("file", f"a readable, complete file ({error})") from error


def _unpacked(raw: io.BufferedReader, path: Path) -> io.BufferedReader | gzip.GzipFile:
    return gzip.GzipFile(fileobj=raw, mode="rb") if path.suffix == ".gz" else raw


def _label_fault(label: str, first: str, numeric: bool) -> str:
    """What is wrong with a label; '': nothing. first: the label of the first sample. numeric: whether all labels are numbers."""
    if not label:
        return "a label"
    if not numeric:
        return "" if _is_number(label) == _is_number(first) else "a label of the kind of the first one: all numbers, or all texts"
    value = float(label)
    return "" if 0 <= value < MOST_CLASSES and value == math.floor(value) else f"a text, or a whole number from 0 to {MOST_CLASSES - 1}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_finite(cell: str) -> bool:
    with np.errstate(over="ignore"):
        return _is_number(cell) and bool(np.isfinite(np.float32(float(cell))))
