"""One HTML page that needs nothing else: no script, no font, no network; pictures are inside it.

The page forbids itself everything from elsewhere (Content-Security-Policy), so that it opens the
same offline. Wide tables and pictures scroll inside their own frame, never the page.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from healmpi_analysis.figures.style import Picture
from healmpi_analysis.tables import Table

_STYLE = """
:root { color-scheme: light; --line: #d9dde2; --soft: #5a6470; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem; background: #fff; color: #1b1f24;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.5rem 0 .35rem; }
p { margin: .4rem 0; max-width: 48rem; }
.soft, figcaption, .note { color: var(--soft); font-size: .88rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; padding: .3rem 0; } a { color: var(--accent); }
.counts { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0; padding: 0; list-style: none; }
.counts li { border: 1px solid var(--line); border-radius: .4rem; padding: .35rem .8rem; }
.counts b { font-size: 1.25rem; display: block; }
.warn { border-left: 4px solid #D55E00; background: #fdf3ec; padding: .5rem .8rem; margin: .6rem 0; max-width: none; }
.good { border-left: 4px solid #009E73; background: #eef8f4; padding: .5rem .8rem; margin: .6rem 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr));
  gap: 1.2rem 1.6rem; align-items: start; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure h3 { margin-top: 0; }
figure img { display: block; width: 100%; height: auto; }
figure.wide .scroll img { min-width: 36rem; max-width: 60rem; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #8d97a3; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
td:first-child { min-width: clamp(10rem, 22vw, 18rem); }
details { margin: .6rem 0; } summary { cursor: pointer; } code { font-size: .88em; }
@media print {
  body { max-width: none; font-size: 10pt; }
  figure, tr { break-inside: avoid; } nav { display: none; } details > * { display: block; }
}
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page. parts: HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="generator" content="healmpi-report">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def escape(text: object) -> str:
    return html.escape(str(text))


def picture(one: Picture) -> str:
    """A figure with its title and caption; the smaller of its two forms is embedded."""
    png, svg = one.png(), one.svg()
    kind, data = ("image/svg+xml", svg) if len(svg) < len(png) else ("image/png", png)
    width, height = (round(96 * side) for side in one.figure.get_size_inches())
    image = (
        f'<img src="data:{kind};base64,{base64.b64encode(data).decode()}" width="{width}" height="{height}" '
        f'alt="{escape(f"{one.title}. {one.caption}")}">'
    )
    look = ' class="wide"' if one.wide else ""
    caption = f"<figcaption>{escape(one.caption)}</figcaption>"
    return f'<figure{look}><h3>{escape(one.title)}</h3><div class="scroll">{image}</div>{caption}</figure>'


def table(one: Table) -> str:
    """Title, table, note."""
    numeric = [cell.numeric for cell in one.cells]
    body = grid([cell.header for cell in one.cells], one.rows(), numeric)
    return f'<section><h3 id="table-{escape(one.name)}">{escape(one.title)}</h3>{body}<p class="note">{escape(one.note)}</p></section>'


def grid(headers: Sequence[str], rows: Iterable[Sequence[object]], numeric: Sequence[bool] = ()) -> str:
    """A table that scrolls inside its own frame."""
    looks = [' class="n"' if right else "" for right in numeric] or [""] * len(headers)
    head = "".join(f"<th{look}>{escape(text)}</th>" for look, text in zip(looks, headers, strict=True))
    lines = "".join(
        "<tr>" + "".join(f"<td{look}>{escape(text)}</td>" for look, text in zip(looks, row, strict=True)) + "</tr>\n" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
