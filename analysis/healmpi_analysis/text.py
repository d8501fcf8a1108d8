"""Numbers as people read them, and tables as CSV, Markdown and LaTeX.

Sizes are decimal, 1 kB is 1000 B, as networks count.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from healmpi_analysis.tables import Table

DASH = "-"
"""A number that does not exist: not measured, or no interval of a single run."""

NEVER = "never"
"""The time until something that did not happen; in numbers it is infinite."""


def number(value: float, digits: int) -> str:
    """Rounded; a dash for nan."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:.{digits}f}" if math.isfinite(value) else "infinite"


def time_until(value: float, digits: int) -> str:
    """Rounded; 'never' where it is infinite, a dash for nan."""
    return NEVER if value == math.inf else number(value, digits)


def span(low: float, high: float, digits: int) -> str:
    """' [low, high]', or nothing where there is no interval."""
    return "" if math.isnan(low) or math.isnan(high) else f" [{number(low, digits)}, {number(high, digits)}]"


def size(count: float) -> str:
    """Bytes with a unit, three digits; 'never' where it is infinite."""
    if count == math.inf:
        return NEVER
    if math.isnan(count):
        return DASH
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def to_csv(table: Table) -> str:
    """All columns in full, with a heading; what never happened is the word, what does not exist an empty cell."""
    frame = table.frame.copy()
    for name in frame.select_dtypes("number"):
        if (never := frame[name] == math.inf).any():
            frame[name] = frame[name].astype(object).mask(never, NEVER)
    return frame.to_csv(index=False, lineterminator="\n")


def to_markdown(table: Table) -> str:
    """A pipe table with its title and note."""
    headers = [_markdown(cell.header) for cell in table.cells]
    rule = ["---:" if cell.numeric else "---" for cell in table.cells]
    lines = [headers, rule, *([_markdown(text) for text in row] for row in table.rows())]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {table.title}\n\n{body}\n\n{table.note}\n"


def to_latex(table: Table) -> str:
    """A tabular of booktabs, in a table with title and note as its caption."""
    columns = "".join("r" if cell.numeric else "l" for cell in table.cells)
    head = " & ".join(_latex(cell.header) for cell in table.cells)
    body = "\n".join(" & ".join(map(_latex, row)) + r" \\" for row in table.rows())
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}. {_latex(table.note)}}}",
            rf"\label{{tab:{table.name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text.replace("\n", " "))
