"""The command `healmpi-report`.

    healmpi-report DIR -o report/         0: written     2: nothing could be read, or a bad option
    healmpi-report compare A B            0: no worse    3: B is not whole, has other bits, is less accurate or slower    2: as above
                                          4: with --strict, something was not judged
    healmpi-report published DIR          0: written     2: as above
    healmpi-report export RUN -o FOLDER   0: written     2: as above

130: interrupted. What is printed may get lost (a closed or full stream), the exit code never does.

A folder called `compare`, `published` or `export` is named ./compare, ./published or ./export.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from healmpi_analysis import streams
from healmpi_analysis.version import version

OK, USAGE, REGRESSED, NOT_JUDGED, INTERRUPTED = 0, 2, 3, 4, 130

_EXTRA = "pandas", "xarray", "h5netcdf", "matplotlib", "networkx", "h5py", "numpy", "tqdm"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code; prints one line on stderr for bad input. arguments: as in sys.argv, which is the default."""
    if arguments is None:
        streams.tolerate()
        streams.heed_interrupts()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        streams.check_interrupt()
    except KeyboardInterrupt:
        print("healmpi-report: interrupted", file=sys.stderr)
        code = INTERRUPTED
    if arguments is None:
        streams.flush()
    return code


def _run(given: list[str]) -> int:
    try:
        # Imported here, so that a missing library is one line and not a traceback.
        from healmpi_analysis.errors import AnalysisError

        try:
            command = _COMMANDS.get(given[0]) if given else None
            return command(given[1:]) if command else _report(given)
        except AnalysisError as error:
            print(f"healmpi-report: {error}", file=sys.stderr)
            return USAGE
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(f"healmpi-report: {error.name} is not installed; pip install 'healmpi[analysis]' brings it", file=sys.stderr)
        return USAGE
    except OSError as error:
        # Libraries open files of their own, and say nothing of the limit.
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        print(f"healmpi-report: too many files are open ({error}); this process may have few (`ulimit -n`)", file=sys.stderr)
        return USAGE


class _Parser(argparse.ArgumentParser):
    """One line for a bad option."""

    def error(self, message: str):
        print(f"healmpi-report: {message}; --help tells what is allowed", file=sys.stderr)
        raise SystemExit(USAGE)


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=program, description=description)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--version", action="version", version=f"healmpi-report {version()}")
    parser.add_argument("--no-verify", action="store_true", help="do not compute the files' digests: faster, and damage goes unnoticed")
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("places", nargs="+", type=Path, metavar="DIR", help="a folder, a results file, or the OUT.h5.parts of a killed run")


def _add_invalid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--include-invalid", action="store_true", help="use runs that are not VALID too, and the parts of killed runs")


def _report(arguments: Sequence[str]) -> int:
    parser = _parser(
        "healmpi-report",
        "Make a page with figures and tables of the results files in folders (searched to any depth) or of single files. "
        "`healmpi-report compare A B` compares two files or folders; `healmpi-report published DIR` sets runs beside published ones.",
    )
    _add_places(parser)
    _add_invalid(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    parser.add_argument("--title", default="", help="heading of the page")
    parser.add_argument("--detailed", type=_count, default=6, metavar="N", help="groups whose single nodes are drawn (default: 6)")
    parser.add_argument("--no-figures", action="store_true", help="tables alone, in a second")
    options = parser.parse_args(arguments)
    from healmpi_analysis.hdf5 import verification
    from healmpi_analysis.report import make_report

    with verification(not options.no_verify):
        made = make_report(
            options.places,
            options.out,
            include_invalid=options.include_invalid,
            detailed=options.detailed,
            figures=not options.no_figures,
            title=options.title,
            quiet=options.quiet,
        )
    _tell_left_out(made.left_out)
    print(f"{made.page}: {made.used} of {made.runs} runs" + (f", {len(made.refused)} files cannot be read" if made.refused else ""))
    return OK


def _tell_left_out(reasons: Sequence[str]) -> None:
    for reason in reasons:
        print(f"healmpi-report: left out: {reason}", file=sys.stderr)


def _compare(arguments: Sequence[str]) -> int:
    parser = _parser(
        "healmpi-report compare",
        "Say what changed from A to B. Exit code 0: no worse; 2: bad input; 3: runs of A are missing, failed or INVALID in B, or "
        "have other bits, or B is less accurate or slower; 4: with --strict, something could not be judged.",
    )
    parser.add_argument("a", type=Path, metavar="A", help="a results file or a folder of them: the base")
    parser.add_argument("b", type=Path, metavar="B", help="the same, compared with A")
    _add_invalid(parser)
    parser.add_argument(
        "--tolerance", type=_share, default=0.05, metavar="X", help="relative change of time that is no difference (default: 0.05)"
    )
    parser.add_argument(
        "--accuracy-tolerance", type=_share, default=0.005, metavar="X", help="change of accuracy that is no difference (default: 0.005)"
    )
    parser.add_argument("--ignore-time", action="store_true", help="time is told and not judged")
    parser.add_argument("--strict", action="store_true", help="exit code 4 where something could not be judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON too")
    options = parser.parse_args(arguments)
    from healmpi_analysis.compare import Rules, compare, describe
    from healmpi_analysis.hdf5 import verification

    rules = Rules(None if options.ignore_time else options.tolerance, options.accuracy_tolerance, options.include_invalid)
    with verification(not options.no_verify):
        result = compare(options.a, options.b, rules, quiet=options.quiet)
    if options.json:
        _write(options.json, json.dumps(result.as_dict(), indent=1) + "\n")
    print(describe(result))
    if result.regressed:
        return REGRESSED
    return NOT_JUDGED if options.strict and not result.judged else OK


def _published(arguments: Sequence[str]) -> int:
    parser = _parser(
        "healmpi-report published",
        "Print docs/reproduction.md: a page in Markdown that sets published numbers beside those of the results files.",
    )
    _add_places(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the page into this file (default: print it)")
    options = parser.parse_args(arguments)
    from healmpi_analysis.hdf5 import verification
    from healmpi_analysis.published import make_page

    with verification(not options.no_verify):
        made = make_page(options.places, quiet=options.quiet)
    _tell_left_out(made.left_out)
    if options.out is None:
        print(made.text, end="")
    else:
        _write(options.out, made.text)
        print(f"{options.out}: {made.used} runs")
    return OK


def _export(arguments: Sequence[str]) -> int:
    parser = _parser("healmpi-report export", "Write the series of runs for other tools: a CSV file, or TensorBoard's event files, a run.")
    _add_places(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="where to")
    parser.add_argument("--format", choices=("csv", "tensorboard"), default="csv", help="tensorboard needs that package (default: csv)")
    options = parser.parse_args(arguments)
    from healmpi_analysis.export import export
    from healmpi_analysis.hdf5 import verification

    with verification(not options.no_verify):
        written, refused = export(options.places, options.out, kind=options.format, quiet=options.quiet)
    _tell_left_out([reason for _, reason in refused])
    print(f"{options.out}: {len(written)} runs")
    return OK


_COMMANDS = {"compare": _compare, "published": _published, "export": _export}


def _write(path: Path, text: str) -> None:
    from healmpi_analysis.errors import AnalysisError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AnalysisError(f"{path} cannot be written ({error.strerror})") from None


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a whole number from 0 on")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a number from 0 on, 0.05 for 5 %")
    return value
