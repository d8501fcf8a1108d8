"""`healmpi-report DIR -o report/`: a folder with one page, and every figure and table as files of their own.

    report/index.html    report/figures/NAME.png, NAME.svg    report/tables/NAME.csv, NAME.md, NAME.tex

Runs that are not VALID are named on the page and left out of figures and tables, unless they are
asked for or there are no others. A file that cannot be read does not stop the report; the page says why it is missing.
The folder is written beside the old one and swapped in whole (folder.py).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from healmpi_analysis import page, progress
from healmpi_analysis.consensus import final_distance
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.figures import DETAILED, Picture, all_pictures
from healmpi_analysis.folder import Folder
from healmpi_analysis.groups import Group, differences, group_records
from healmpi_analysis.page import escape
from healmpi_analysis.records import Reading, Record, read_all, without_damaged
from healmpi_analysis.sources import open_source
from healmpi_analysis.tables import Table, all_tables, run_table
from healmpi_analysis.text import to_csv, to_latex, to_markdown
from healmpi_analysis.version import version

PAGE, MANIFEST = "index.html", ".healmpi-report"
"""MANIFEST lists what a report wrote, so that the next one into the same folder replaces or removes it, and nothing else."""

MOST_VALUES, MOST_LISTED = 6, 40


@dataclass(frozen=True, slots=True)
class Report:
    """page: the file. runs, used: how many were read, and are in the figures. refused: (path, reason). left_out: a sentence for
    each file that does not count."""

    page: Path
    runs: int
    used: int
    refused: list[tuple[Path, str]]
    left_out: list[str]


def make_report(
    places: Sequence[Path],
    out: Path,
    *,
    include_invalid: bool = False,
    detailed: int = DETAILED,
    figures: bool = True,
    title: str = "",
    quiet: bool = True,
) -> Report:
    """Read everything in `places` and write the report into the folder `out`, which is made.

    include_invalid: runs that are not VALID are in figures and tables too. detailed: for how many groups single nodes are
    drawn. figures: without them only tables are made. Raises AnalysisError: nothing to read, or `out` cannot be written.
    """
    Folder(out, MANIFEST, PAGE)  # refused before anything is read
    reading = read_all(places, quiet=quiet)
    if not reading.records:
        refused = reading.refused
        raise AnalysisError(refused[0][1] + (f" (and {len(refused) - 1} more cannot be read)" if len(refused) > 1 else ""))
    name = title or f"healmpi report: {', '.join(place.name or str(place) for place in places)}"
    drawn = detailed if figures else None
    return without_damaged(reading, lambda good: _write(good, Folder(out, MANIFEST, PAGE), name, include_invalid, drawn, quiet))


def _write(reading: Reading, folder: Folder, name: str, include_invalid: bool, detailed: int | None, quiet: bool) -> Report:
    """detailed: None: no figures. Raises AnalysisError."""
    records, refused = reading.records, reading.refused
    used = [record for record in records if record.valid and len(record.series)]
    none_valid = not used
    if include_invalid or none_valid:
        used = [record for record in records if len(record.series)]
    groups = group_records(used)
    tables = all_tables(groups, _distances(used))
    runs = run_table(records, {run.path: group.label for group in groups for run in group.runs})
    with folder:
        pictures = [_save_picture(folder, one) for one in _drawn(groups, detailed, quiet)] if detailed is not None else []
        for table in (*tables, runs):
            for kind, render in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
                folder.save(f"tables/{table.name}.{kind}", render(table).encode())
        parts = [
            _head(name, records, used, groups, refused),
            _verdicts(reading, used, none_valid and not include_invalid),
            _what(groups),
            _section("figures", "Figures", f'<div class="pictures">{"".join(pictures)}</div>' if pictures else "<p>Nothing was drawn.</p>"),
            _section("tables", "Tables", "".join(page.table(one) for one in tables) + _TABLE_FILES),
            _provenance(records, runs),
        ]
        folder.save(PAGE, page.page(name, parts).encode())
        folder.swap()
    return Report(folder.out / PAGE, len(records), len(used), refused, reading.left_out())


_TABLE_FILES = '<p class="note">The same as CSV, Markdown and LaTeX: folder tables.</p>'


def _drawn(groups: Sequence[Group], detailed: int, quiet: bool) -> Iterator[Picture]:
    return progress.counted(all_pictures(groups, detailed=detailed), None, "drawing", "figure", quiet)


def _save_picture(folder: Folder, one: Picture) -> str:
    """Its two files, and the HTML that has it inside."""
    folder.save(f"figures/{one.name}.png", one.png())
    folder.save(f"figures/{one.name}.svg", one.svg())
    return page.picture(one)


def _distances(records: Sequence[Record]) -> dict[Path, float]:
    found = {}
    for record in records:
        if record.config.get("results.save_models"):
            with open_source(record.path) as source:
                found[record.path] = final_distance(source)
    return found


# The sections.


def _section(name: str, title: str, body: str) -> str:
    return f'<section><h2 id="{name}">{title}</h2>{body}</section>'


def _head(name: str, records: Sequence[Record], used: Sequence[Record], groups: Sequence[Group], refused: Sequence) -> str:
    valid = sum(record.valid for record in records)
    counts = {"runs": len(records), "valid": valid, "in the figures": len(used), "groups": len(groups), "not readable": len(refused)}
    items = "".join(f"<li><b>{count}</b>{label}</li>" for label, count in counts.items() if count or label != "not readable")
    links = "".join(
        f'<a href="#{target}">{text}</a>'
        for target, text in (
            ("verdicts", "Verdicts"),
            ("what", "What was run"),
            ("figures", "Figures"),
            ("tables", "Tables"),
            ("provenance", "Provenance"),
        )
    )
    return f'<header><h1>{escape(name)}</h1><nav>{links}</nav><ul class="counts">{items}</ul></header>'


def _verdicts(reading: Reading, used: Sequence[Record], all_bad: bool) -> str:
    records, refused = reading.records, reading.refused
    bad = [record for record in records if not record.valid]
    body = []
    if not bad and not refused:
        body.append(f'<p class="good">All {len(records)} runs are VALID: whole and consistent. It does not say that they learnt well.</p>')
    if all_bad:
        body.append('<p class="warn">No run is VALID. Figures and tables show runs that are not.</p>')
    elif bad:
        shown = "are in figures and tables" if any(record in used for record in bad) else "are left out of figures and tables"
        body.append(f'<p class="warn">{len(bad)} of {len(records)} runs are not VALID and {shown}.</p>')
    if bad:
        body.append(
            page.grid(["run", "verdict", "why"], _listed([(r.path, r.facts.verdict, "; ".join(r.facts.reasons) or "-") for r in bad]))
        )
    if refused:
        body.append(f'<p class="warn">{len(refused)} files cannot be read.</p>' + page.grid(["file", "why"], _listed(list(refused))))
    if reading.copies:
        rows = _listed(list(reading.copies))
        body.append(
            f"<p>{len(reading.copies)} files are copies of a run that is counted.</p>" + page.grid(["file", "the same run as"], rows)
        )
    if reading.foreign:
        rows = _listed([(path,) for path in reading.foreign])
        body.append(f"<p>{len(reading.foreign)} HDF5 files are of something else.</p>" + page.grid(["file"], rows))
    return _section("verdicts", "Verdicts", "".join(body))


def _listed(rows: list[tuple]) -> list[tuple]:
    if len(rows) <= MOST_LISTED:
        return rows
    return [*rows[:MOST_LISTED], (f"and {len(rows) - MOST_LISTED} more", *[""] * (len(rows[0]) - 1))]


def _what(groups: Sequence[Group]) -> str:
    configs = [group.config for group in groups]
    fields = differences(configs)
    rows = [
        (
            group.label,
            len(group.runs),
            _values([run.seed for run in group.runs]),
            _values(group.ranks),
            *(_plain(group.config.get(f)) for f in fields),
        )
        for group in groups
    ]
    same = [(name, _plain(value)) for name, value in (configs[0] if configs else {}).items() if name not in fields]
    what = "Groups differ in the columns shown." if fields else "All runs have one configuration."
    table = page.grid(["group", "runs", "seeds", "ranks", *fields], rows)
    common = (
        f"<details><summary>{len(same)} fields that are the same in all groups</summary>{page.grid(['field', 'value'], same)}</details>"
    )
    return _section(
        "what", "What was run", f"<p>{what} A group is all runs that differ in seed and number of ranks alone.</p>{table}{common}"
    )


def _plain(value: object) -> str:
    return "-" if value is None or value == "" else "yes" if value is True else "no" if value is False else str(value)


def _values(values: Sequence) -> str:
    found = list(dict.fromkeys(_plain(value) for value in values))
    return ", ".join(found[:MOST_VALUES]) + (f" and {len(found) - MOST_VALUES} more" if len(found) > MOST_VALUES else "")


def _provenance(records: Sequence[Record], runs: Table) -> str:
    names = dict.fromkeys(name for record in records for name in record.facts.provenance)
    rows = [(name, _values([record.facts.provenance.get(name) for record in records])) for name in names if name != "seed"]
    hosts = sorted({str(host) for record in records if "host" in record.rank_table for host in record.rank_table["host"] if host})
    rows.append(("hosts", _values(hosts)))
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = f"<p>What the files say of where they come from. Page made {made} by healmpi-report {version()}.</p>"
    each = f"<details><summary>All {len(records)} runs</summary>{page.table(runs)}</details>"
    return _section("provenance", "Provenance", about + page.grid(["fact", "values"], rows) + each)
