"""`healmpi-report` as a process: what it finds, what it counts once, and what streams, limits and interrupts do to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

pytest.importorskip("pandas", reason="the extra `analysis` is not installed")

import healmpi_analysis as analysis
from analysis_sample import config, write, write_parts
from healmpi_analysis.cli import main
from healmpi_analysis.errors import AnalysisError
from healmpi_analysis.records import read_all
from healmpi_analysis.sources import find
from launch import finish, start, wait_until

COMMAND = Path(sys.prefix) / "bin" / "healmpi-report"


def command(text: str, folder: Path, **environment: str):
    """What bash makes of it; REPORT stands for the command."""
    return finish(start(["bash", "-c", text.replace("REPORT", str(COMMAND))], folder, **environment), 60)


# What is found.


def test_results_are_known_by_what_they_hold_and_not_by_their_names(tmp_path):
    for number, name in enumerate(("a.h5", "b.hdf5", "c", "d.results")):
        write(tmp_path / name, config(run__seed=number))
    (tmp_path / "notes.txt").write_text("not HDF5")
    with h5py.File(tmp_path / "other.nc", "w") as file:
        file["x"] = 1
    found = find([tmp_path])
    assert [path.name for path in found.paths] == ["a.h5", "b.hdf5", "c", "d.results"]
    assert [path.name for path in found.foreign] == ["other.nc"]


def test_what_is_called_a_results_file_and_is_none_is_named(tmp_path):
    write(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_text("not HDF5")
    reading = read_all([tmp_path])
    assert len(reading.records) == 1 and "b.h5 is not an HDF5 file" in reading.refused[0][1]


def test_links_are_followed_and_circles_come_to_an_end(tmp_path):
    real, seen = tmp_path / "real", tmp_path / "seen"
    real.mkdir()
    seen.mkdir()
    write(real / "a.h5")
    (seen / "linked").symlink_to(real)
    (real / "back").symlink_to(seen)
    (seen / "gone").symlink_to(tmp_path / "nowhere")
    assert [path.name for path in find([seen]).paths] == ["a.h5"]


def test_a_run_counts_once_whatever_leads_to_it(tmp_path):
    path = write(tmp_path / "a.h5", run_id="a")
    shutil.copy(path, tmp_path / "copy.h5")
    (tmp_path / "link.h5").symlink_to(path)
    parts = write_parts(path)  # their run_id is "a", too
    reading = read_all([path, path.absolute(), parts, tmp_path])
    assert [record.path for record in reading.records] == [path]
    assert sorted(one.name for one, _ in reading.copies) == ["a.h5.parts", "copy.h5"]
    assert all("is the same run as" in text for text in reading.left_out())
    assert len(analysis.runs([path, tmp_path])) == 1


def test_the_page_says_what_it_left_out(tmp_path, capsys):
    write(tmp_path / "a.h5", run_id="a")
    shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    assert main([str(tmp_path), "-o", str(tmp_path / "out"), "-q", "--no-figures"]) == 0
    shown = capsys.readouterr()
    assert "b.h5 is the same run as" in shown.err and "other.h5 is an HDF5 file of something else" in shown.err
    assert shown.out.endswith("1 of 1 runs\n")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "1 files are copies of a run that is counted" in page and "1 HDF5 files are of something else" in page


# What cannot be looked at is not missing.


def parts_of_many(folder: Path, ranks: int) -> Path:
    """Parts of a run on many ranks, all alike but for the rank and its nodes."""
    made = write_parts(folder / "many.h5", ranks=ranks)
    for rank in range(2, ranks):
        shutil.copy(made / "rank-00001.h5", made / f"rank-{rank:05d}.h5")
    for rank in range(ranks):
        with h5py.File(made / f"rank-{rank:05d}.h5", "a") as file:
            file.attrs.update({"rank": rank, "first_node": 2 * rank, "total_nodes": 2 * ranks})
    return made


@pytest.mark.parametrize("given", ["many.h5.parts", "a.h5 many.h5.parts"])
def test_a_limit_of_open_files_is_named_and_no_rank_goes_missing(tmp_path, given):
    parts_of_many(tmp_path, 30)
    write(tmp_path / "a.h5")
    assert find([tmp_path / "many.h5.parts"]).paths
    done = command(f"ulimit -n 20; REPORT {given} -o out --no-figures -q", tmp_path)
    assert (done.code, done.out) == (2, "") and "ulimit -n" in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out" / "index.html").exists()


def test_a_soft_limit_of_open_files_is_raised(tmp_path):
    parts_of_many(tmp_path, 40)
    done = command("ulimit -S -n 32; REPORT many.h5.parts -o out --no-figures -q --include-invalid", tmp_path)
    assert done.code == 0, done.err


def test_a_part_that_cannot_be_opened_is_an_error_and_its_nodes_are_not_dead(tmp_path):
    """A link in a circle cannot be opened by anybody, root included."""
    parts = write_parts(tmp_path / "a.h5")
    (parts / "rank-00001.h5").unlink()
    (parts / "rank-00001.h5").symlink_to("rank-00001.h5")
    with pytest.raises(AnalysisError, match=r"rank-00001\.h5 cannot be read"):
        analysis.load(parts)


@pytest.mark.skipif(shutil.which("setpriv") is None or os.getuid() != 0, reason="needs root and setpriv to be another user")
def test_a_part_without_permission_is_an_error_that_names_it(tmp_path):
    parts = write_parts(tmp_path / "a.h5")
    (parts / "rank-00001.h5").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    script = f"import healmpi_analysis as a\ntry: a.load({str(parts)!r})\nexcept a.AnalysisError as error: print(error)"
    run = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert "rank-00001.h5 cannot be read (Permission denied)" in done.stdout, done.stderr


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.h5")
    assert main([str(tmp_path / "a.h5"), "-q"]) == 2 and "a.h5 is no file" in capsys.readouterr().err


# Streams, interrupts, names.

SMALL = "REPORT a.h5 -o out --no-figures"


@pytest.mark.parametrize("where", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full", "<&- >&- 2>&-"])
def test_streams_that_take_nothing_change_no_exit_code(tmp_path, where):
    write(tmp_path / "a.h5", facts={"healmpi": "2"})
    write(tmp_path / "b.h5", lift=-0.3)
    done = command(f"{SMALL} {where}; echo $? >code; REPORT compare a.h5 b.h5 {where}; echo $? >>code; REPORT --version {where}", tmp_path)
    assert (tmp_path / "code").read_text().split() == ["0", "3"] and done.code == 0, done.err
    assert "Traceback" not in done.err and "Exception" not in done.err
    assert (tmp_path / "out" / "index.html").exists()


def test_a_reader_that_goes_away_changes_no_exit_code(tmp_path):
    write(tmp_path / "a.h5")
    done = command("REPORT compare a.h5 a.h5 | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert (done.out, "Traceback" in done.err) == ("0\n", False), done.err


def test_a_stream_that_knows_few_letters_gets_escapes(tmp_path):
    write(tmp_path / "ä.h5")
    done = command("REPORT compare ä.h5 ä.h5 -q", tmp_path, PYTHONIOENCODING="ascii")
    assert done.code == 0 and r"A: \xe4.h5" in done.out, done.err


def test_a_name_that_is_no_utf8_is_read_and_shown(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"r\xe9s.h5")
    os.rename(write(tmp_path / "a.h5"), path)
    done = command(r"REPORT $'r\xe9s.h5' -o out --no-figures; REPORT compare $'r\xe9s.h5' $'r\xe9s.h5' -q", tmp_path)
    assert done.code == 0 and r"A: r\udce9s.h5" in done.out, done.err


def open_files(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.append(os.readlink(entry))
    return found


def test_an_interrupt_is_130_and_a_line(tmp_path):
    """While many files are read."""
    write(tmp_path / "0.h5")
    for number in range(1, 300):
        shutil.copy(tmp_path / "0.h5", tmp_path / f"{number}.h5")
    process = start([COMMAND, tmp_path, "-o", tmp_path / "out"], tmp_path)
    wait_until(lambda: any(str(tmp_path) in name for name in open_files(process.pid)), 30, "a file is read")
    process.send_signal(signal.SIGINT)
    done = finish(process, 60)
    assert done.code == 130 and "healmpi-report: interrupted" in done.err and "Traceback" not in done.err, done.err


def test_without_a_terminal_progress_is_lines(tmp_path):
    write(tmp_path / "a.h5")
    done = command(SMALL, tmp_path)
    assert done.err == "reading: 1 of 1 runs\n"


def test_the_version_is_told(capsys):
    for given in ([], ["compare"], ["published"]):
        with pytest.raises(SystemExit) as ended:
            main([*given, "--version"])
        assert ended.value.code == 0 and capsys.readouterr().out.startswith("healmpi-report 0.")
