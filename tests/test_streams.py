"""Standard streams that are closed, full, left by their reader or in another encoding: the exit code and the file are the run's own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launch import finish, healmpi, mpirun, python, sets, start

from healmpi.launch import table
from healmpi.launch.cli import main
from healmpi.results import info
from healmpi.settings import wrapped

SMALL = sets("data.dataset=synthetic", "data.samples=200", "run.nodes=8", "run.cycles=3", "model.name=logistic")
SUITE = 'title = "two"\n[base.run]\nnodes = 6\ncycles = 2\n[base.data]\ndataset = "synthetic"\nsamples = 60\n[axes]\nseed = [1, 2]\n'
BROKEN = {
    "no stdout": ">&-",
    "no stderr, stdout full": ">/dev/full 2>&-",
    "no stream at all": "<&- >&- 2>&-",
    "both full": ">/dev/full 2>/dev/full",
    "a reader that has gone": "| true",
}


def shell(command: str, folder: Path) -> tuple[int, str]:
    """Exit code of a command line of healmpi, that of its first process, and all that could be printed."""
    words = f"{python()} -m healmpi {command}"
    done = finish(start(["bash", "-c", f"{words}; exit ${{PIPESTATUS[0]}}"], folder), 120)
    assert done.code is not None, f"{command} hangs"
    return done.code, done.out + done.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a run that has ended well."""
    folder = tmp_path_factory.mktemp("streams")
    assert healmpi("run", *SMALL, "-o", "a.h5", cwd=folder).code == 0
    (folder / "two.toml").write_text(SUITE)
    return folder


@pytest.mark.parametrize("how", ["no stream at all", "both full"])
def test_a_run_ends_as_it_would_have_whatever_becomes_of_its_streams(how, tmp_path):
    code, shown = shell(f"run {' '.join(SMALL)} -o a.h5 {BROKEN[how]}", tmp_path)
    assert code == 0 and "Traceback" not in shown and "Exception ignored" not in shown, shown
    assert info.conclusion(tmp_path / "a.h5")[0] == [] and [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_suite_ends_as_it_would_have_without_streams(tmp_path):
    (tmp_path / "two.toml").write_text(SUITE)
    code, shown = shell("suite two.toml -o out >/dev/full 2>&-", tmp_path)
    assert (code, shown) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s1.h5", "s2.h5"]


COMMANDS = {
    "info a.h5": 0, "info absent.h5": 2, "merge a.h5": 2, "run --dry-run": 0, "suite two.toml --list": 0, "--help": 0, "--version": 0,
    "run --no-such-option": 2,
}  # fmt: skip
ONE_AFTER_ANOTHER = """
import sys
from healmpi.launch.cli import main
for command in sys.argv[1:]:
    try:
        code = main(command.split())
    except SystemExit as end:
        code = end.code
    with open("codes", "a") as file:
        print(code, file=file)
"""


@pytest.mark.parametrize("how", BROKEN)
def test_every_command_has_its_own_exit_code_whatever_becomes_of_its_streams(how, finished):
    (finished / "codes").unlink(missing_ok=True)
    commands = " ".join(f"'{command}'" for command in COMMANDS)
    script = f"{python()} -c '{ONE_AFTER_ANOTHER}' {commands} {BROKEN[how]}; exit ${{PIPESTATUS[0]}}"
    done = finish(start(["bash", "-c", script], finished), 120)
    shown = done.out + done.err
    assert done.code == 0 and "Traceback" not in shown and "Exception ignored" not in shown, shown
    assert (finished / "codes").read_text().split() == [str(code) for code in COMMANDS.values()]


@pytest.mark.mpi
def test_ranks_whose_streams_are_full_or_closed_end_as_they_would_have(tmp_path):
    rank = f"exec {python()} -m mpi4py -m healmpi run {' '.join(SMALL)} -o {tmp_path / 'a.h5'} >/dev/full 2>&-"
    done = finish(start([*mpirun("openmpi", 2)[:-1], "sh", "-c", rank], tmp_path), 60)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert info.conclusion(tmp_path / "a.h5")[0] == []


def test_a_reader_that_reads_one_line_gets_it(finished):
    code, shown = shell("info a.h5 | head -1", finished)
    assert code == 0 and shown.startswith("heal: 8 nodes on 1 rank") and len(shown.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict"])
def test_what_an_encoding_lacks_is_written_in_ascii(encoding, finished):
    for command in (["info", "ü-日本.h5"], ["info", b"r\xe9s.h5".decode("utf-8", "surrogateescape")]):
        done = healmpi(*command, cwd=finished, PYTHONIOENCODING=encoding)
        assert done.code == 2 and "does not exist" in done.err and "Traceback" not in done.err, done.err


def test_a_file_that_is_opened_does_not_become_a_stream_that_was_closed(tmp_path):
    program = (
        "import os, sys\nfrom healmpi.launch import output\noutput.guard()\n"
        "file = open('precious', 'w')\nprint('a line')\nprint('a line', file=sys.stderr, flush=True)\nsys.stdout.flush()\n"
        "os.write(1, b'bytes'); os.write(2, b'bytes')\nfile.write(str(file.fileno()))\n"
    )
    done = finish(start(["bash", "-c", f'{sys.executable} -c "$0" <&- >&- 2>&-', program], tmp_path), 60)
    assert done.code == 0 and int((tmp_path / "precious").read_text()) > 2


def test_a_pipe_that_does_not_block_is_waited_for(tmp_path):
    program = (
        "import os, sys\nos.set_blocking(1, False)\nfrom healmpi.launch import output\noutput.guard()\n"
        "for line in range(30000): print(f'line {line}')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path)
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.returncode == 0 and out.decode().splitlines() == [f"line {line}" for line in range(30000)]


# The width of a page.


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "suite --help", "info --help", "merge --help", "run --dry-run", "suite S --list"]
)
def test_what_is_written_for_people_fits_into_eighty_columns(command, capsys):
    with contextlib.suppress(SystemExit):
        main(command.split())
    shown = capsys.readouterr().out
    assert shown and max(map(len, shown.splitlines())) <= 80


def test_what_a_run_says_of_itself_fits_into_eighty_columns(finished):
    told = [*shell("info a.h5", finished)[1].splitlines(), *wrapped(f"  {'a word ' * 30}").splitlines()]
    assert max(map(len, told)) <= 80
    assert wrapped("x" * 200) == "x" * 200, "a path is never broken"


@pytest.mark.parametrize("name", ["heal", "a-name-that-is-as-long-as-those-of-a-suite-with-four-axes-tend-to-be"])
def test_the_table_of_a_suite_fits_into_eighty_columns_whatever_the_names(name):
    figures = {column: [12.25, 13.5, 99.0] for column in table.COLUMNS} | {"accuracy_mean": [0.9, 0.91, 0.92]}
    shown = table.table([table.Row(name, 3, 1, 0, figures), table.Row("other", 3, 0, 3, {})])
    assert max(map(len, shown.splitlines())) <= 80 and "1 INVALID" in shown and "0.9100 +- 0.0100" in shown
