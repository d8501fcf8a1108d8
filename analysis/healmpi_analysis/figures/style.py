"""How all figures look: one size, one font, colours that colour-blind people and printers can tell apart.

Figures are as wide as a column of a paper and a telephone, so that text stays readable on both;
what has more to show grows downwards. The names of groups stand in the picture above their row, or below the axes.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

WIDTH_IN = 5.2
DPI = 200

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#7a7a7a")
"""Okabe and Ito's without their yellow, which is hard to see on white; then wine and grey."""

DASHES = ("-", (0, (5, 1.5)), (0, (7, 1.5, 1.5, 1.5)), (0, (2.2, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (9, 2)), (0, (1.2, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")
GREY, PALE, FAULT = "#8a8a8a", "#d9d9d9", "#a0182d"

MOST_LINES = len(COLOURS)
"""Lines in one figure; more groups make more figures."""

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.dpi": 100,
    "svg.hashsalt": "healmpi",
    "svg.fonttype": "path",
    "axes.formatter.useoffset": False,
    "path.simplify": True,
    "image.interpolation": "none",
    # Names and scenarios are those of files, and a dollar in them is no formula.
    "text.parse_math": False,
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """RC on top of matplotlib's own defaults: a matplotlibrc of the user or of the folder changes nothing, and neither does a style."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
        # The backend stays as it is: figures are drawn without one, and the calling program may have chosen its own.
        own: Any = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
        context = matplotlib.rc_context(own | RC)
        context.__enter__()
    try:
        yield
    finally:
        context.__exit__(None, None, None)


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure. name: of its files. title, caption: for people. wide: wider than a telephone, to be scrolled there.
    dpi: dots an inch, of the PNG and of what is too much for lines in the SVG."""

    name: str
    title: str
    caption: str
    figure: Figure
    wide: bool = False
    dpi: int = DPI

    def png(self) -> bytes:
        return self._saved("png", dpi=self.dpi, metadata={"Software": None})

    def svg(self) -> bytes:
        """Texts as outlines, so that it looks the same everywhere; the same bytes for the same picture."""
        return self._saved("svg", dpi=self.dpi, metadata={"Date": None, "Creator": None})

    def _saved(self, kind: str, **options) -> bytes:
        buffer = io.BytesIO()
        with house_style():
            # Laid out once: both kinds of file look the same, in half the time.
            if self.figure.get_layout_engine() is not None:
                self.figure.draw_without_rendering()
                self.figure.set_layout_engine("none")
            self.figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Palette:
    """One look for each name, the same in all figures. names: in order."""

    names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {name: index for index, name in enumerate(dict.fromkeys(self.names))})

    def colour(self, name: str) -> str:
        return COLOURS[self._index.get(name, 0) % len(COLOURS)]

    def dash(self, name: str):
        # The dash changes with the colour, for those who print in grey; after the last colour it is another one.
        index = self._index.get(name, 0)
        return DASHES[(index + index // len(COLOURS)) % len(DASHES)]

    def marker(self, name: str) -> str:
        index = self._index.get(name, 0)
        return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]

    def line(self, name: str) -> dict[str, Any]:
        """Keywords of a line."""
        return {"color": self.colour(name), "linestyle": self.dash(name)}


def new_figure(height_in: float, *, width_in: float = WIDTH_IN) -> Figure:
    """An empty figure that no window shows."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def stacked(panels: int, panel_in: float, *, share: bool = True, legend_rows: float = 0.0) -> tuple[Figure, list[Axes]]:
    """Panels below each other, with room for a legend below them."""
    figure = new_figure(panels * panel_in + 0.2 * legend_rows + 0.25)
    axes = figure.subplots(panels, 1, sharex=share, squeeze=False)[:, 0]
    return figure, list(axes)


def legend_below(figure: Figure, axes: Axes, *, columns: int = 1) -> None:
    """Names wrapped, each once."""
    handles: dict[str, Artist] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        handles.setdefault(wrapped(label, 66), handle)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=columns, borderaxespad=0.2, handlelength=3.2)


def wrapped(label: str, width: int = 60) -> str:
    return "\n".join(textwrap.wrap(label, width)) or label


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Rows 0, 1, ... from the top, each with its name in the picture, above the row."""
    axes.set_ylim(len(labels) - 0.4, -0.75)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    for row, label in enumerate(labels):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
        look: dict[str, Any] = {"ha": "left", "va": "bottom", "fontsize": 8.5, "zorder": 1.5, "bbox": box}
        axes.text(0.0, row - 0.28, shortened(label), transform=axes.get_yaxis_transform(), **look)
        axes.axhline(row, color="#ececec", linewidth=0.8, zorder=0)


def label_cycles(axes: Axes) -> None:
    """A horizontal axis of cycles has whole numbers."""
    axes.set_xlabel("cycle")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


class Powers(LogFormatter):
    """Ticks of a logarithmic axis as powers of ten, without matplotlib's formulas."""

    _RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

    def __call__(self, x, pos=None):
        if not super().__call__(x, pos):
            return ""
        digits, _, exponent = f"{x:.0e}".partition("e")
        power = "10" + str(int(exponent)).translate(self._RAISED)
        return power if digits == "1" else f"{digits}×{power}"


def logarithmic(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Ticks are named by Powers."""
    for wanted, name, axis in ((x, "xscale", axes.xaxis), (y, "yscale", axes.yaxis)):
        if not wanted:
            continue
        axes.set(**{name: "log"})
        axis.set_major_formatter(Powers())
        axis.set_minor_formatter(Powers())


NEVER_LABEL = "never"


def never_column(axes: Axes, whole: bool) -> float:
    """Room at the right for what never happened, a stretch of its own beyond a line, with its own tick; where its marks go. whole: the
    other ticks are whole numbers."""
    # What was plotted so far are the finite values, which keep their scale.
    most = axes.dataLim.xmax if np.isfinite(axes.dataLim.xmax) and axes.dataLim.xmax > 0 else 1.0
    locator = MaxNLocator(nbins=6, integer=whole)
    ticks = [tick for tick in locator.tick_values(0, most) if -1e-9 <= tick <= 1.02 * most]
    place = 1.14 * most
    axes.axvline(1.06 * most, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    axes.set_xticks([*ticks, place], [*(f"{tick:g}" for tick in ticks), NEVER_LABEL])
    axes.set_xlim(-0.03 * most, 1.22 * most)
    return place


def shortened(label: str, most: int = 74) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def chunks(items: Sequence, most: int = MOST_LINES) -> list[Sequence]:
    """Pieces of at most so many, as even as can be."""
    pieces = -(-len(items) // most)
    if not pieces:
        return []
    size = -(-len(items) // pieces)
    return [items[start : start + size] for start in range(0, len(items), size)]


def evenly(items: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, evenly spaced, the first and the last among them."""
    return items[np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).astype(int))] if len(items) else items


def numbered(name: str, title: str, index: int, of: int) -> tuple[str, str]:
    """Name and title of one of several figures of a kind."""
    return (name, title) if of == 1 else (f"{name}-{index + 1}", f"{title} ({index + 1} of {of})")
