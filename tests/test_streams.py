"""Streams that take nothing, names that are no text, the home folder, files of other editors, modules called like Python's own."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import pytest
from launch import finish, healmpi, healmpi_mpi, mpirun, python, sets, start

from healmpi.config import Config
from healmpi.learning.data import path_of
from healmpi.settings import UsageError

RUN = "healmpi run --set run.algorithm=elevator --set run.nodes=4 --set run.cycles=2"
"""The cheapest run: torch is not loaded."""


def shell(script: str, folder: Path, timeout_s: float = 60, **environment: str):
    path = f"{python().parent}{os.pathsep}{os.environ['PATH']}"
    return finish(start(["bash", "-c", script], folder, PATH=path, **environment), timeout_s)


@pytest.mark.parametrize("where", ["<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_streams_that_take_nothing_change_no_exit_code_and_no_result(where, tmp_path):
    """Of every command; refusals keep theirs."""
    (tmp_path / "s.toml").write_text('[base.run]\nalgorithm = "elevator"\nnodes = 4\ncycles = 1\n[axes]\nseed = [1, 2]\n')
    commands = [
        (f"{RUN} -o a.h5", 0),
        (f"{RUN} -o a.h5", 2),
        (f"{RUN} --dry-run", 0),
        ("healmpi suite s.toml -o s", 0),
        ("healmpi suite s.toml --list", 0),
        ("healmpi info a.h5", 0),
        ("healmpi merge none.h5", 2),
        ("healmpi --help", 0),
        ("healmpi --version", 0),
        ("healmpi nonsense", 2),
    ]
    script = "\n".join(f"{command} {where}; echo $? >>codes" for command, _ in commands)
    done = shell(script, tmp_path)
    assert [int(code) for code in (tmp_path / "codes").read_text().split()] == [code for _, code in commands], done
    assert "Traceback" not in done.err and "Exception ignored" not in done.err
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["summary"].attrs["verdict"] == "VALID"


def test_a_reader_that_goes_away_changes_no_exit_code(tmp_path):
    done = shell(f"{RUN} -o a.h5 | true; echo ${{PIPESTATUS[0]}}; healmpi run --dry-run | head -1; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.out.split("\n")[0] == "0" and done.out.rstrip().endswith("0") and "Traceback" not in done.err, done


@pytest.mark.mpi
@pytest.mark.slow
def test_under_mpirun_as_well(tmp_path):
    launch = " ".join(map(str, mpirun("openmpi", 2)))
    run = f"{launch} -m mpi4py -m {RUN}"
    done = shell(f"{run} -o a.h5 >/dev/full; echo $?; {launch} -c 'import os; os.close(1); os.close(2)' ", tmp_path)
    assert done.out.split()[0] == "0", done


def test_a_stream_that_knows_few_letters_gets_escapes(tmp_path):
    done = shell(f"{RUN} -o ä.h5 && healmpi info ä.h5", tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.code == 0 and r"results: \xe4.h5" in done.out, done


# Names.


def test_a_results_file_whose_name_is_no_utf8_is_written_and_read(tmp_path):
    done = shell(rf"{RUN} -o $'r\xe9s.h5' && healmpi info $'r\xe9s.h5' && healmpi run --resume {RUN[12:]} -o $'r\xe9s.h5'", tmp_path)
    assert done.code == 0, done
    with h5py.File(os.path.join(os.fsencode(tmp_path), b"r\xe9s.h5")) as file:
        assert r"r\xe9s.h5" in file["provenance"].attrs["command"]


@pytest.mark.parametrize("field", ["data.file", "data.folder", "model.factory", "data.dataset"])
def test_a_value_that_is_no_utf8_is_refused_in_a_sentence(field):
    with pytest.raises(UsageError, match=f"--set = .*{field}=.* is not allowed: a text in UTF-8"):
        Config.load(None, [f"{field}=r\udce9s"])


def test_a_folder_and_a_configuration_whose_names_are_no_utf8_serve(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"f\xe9")
    os.mkdir(folder)
    Path(os.fsdecode(folder), "c\udce9.toml").write_text('[run]\nalgorithm = "elevator"\ncycles = 1\n')
    done = shell(r"cd $'f\xe9' && healmpi run $'c\xe9.toml' -o a.h5", tmp_path)
    assert done.code == 0, done


def test_the_home_folder_is_meant_wherever_a_path_is_given(tmp_path):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    (home / "c.toml").write_text('[run]\nalgorithm = "elevator"\ncycles = 1\n')
    (home / "s.toml").write_text('[base.run]\nalgorithm = "elevator"\nnodes = 4\ncycles = 1\n[axes]\nseed = [1]\n')
    commands = ["run '~/c.toml' --out='~/a.h5'", "info '~/a.h5'", "suite '~/s.toml' --out='~/s'", "run '~/c.toml' --dry-run"]
    done = shell(" && ".join(f"healmpi {one}" for one in commands), here, HOME=str(home))
    assert done.code == 0, done
    assert sorted(os.listdir(home)) == ["a.h5", "c.toml", "s", "s.toml"] and os.listdir(here) == []
    done = shell("healmpi info '~nobody-of-this-name/a.h5'", here)
    assert done.code == 2 and "~nobody-of-this-name" in done.err and "Traceback" not in done.err


def test_a_path_in_the_configuration_is_stored_as_given(monkeypatch):
    monkeypatch.setenv("HOME", "/one")
    config = Config.load(None, ["data.dataset=csv", "data.file=~/a.csv"])
    assert "~/a.csv" in config.to_json() and str(path_of("~/a.csv")) == "/one/a.csv"
    before = config.hash()
    monkeypatch.setenv("HOME", "/other")
    assert Config.load(None, ["data.dataset=csv", "data.file=~/a.csv"]).hash() == before


# Files of other editors.


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_mark_in_front_of_utf8_is_no_error(ending, tmp_path):
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbf" + f"[run]{ending}cycles = 7{ending}".encode())
    assert Config.load(str(path)).run.cycles == 7


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_named(encoding, tmp_path):
    path = tmp_path / "wide.toml"
    path.write_bytes("\ufeff[run]\ncycles = 7\n".encode(encoding))
    with pytest.raises(UsageError, match="it is in UTF-16: save it as UTF-8"):
        Config.load(str(path))


def test_a_file_that_is_no_utf8_is_named(tmp_path):
    (tmp_path / "latin.toml").write_bytes("[run] # é\n".encode("latin-1"))
    with pytest.raises(UsageError, match="it is not valid TOML"):
        Config.load(str(tmp_path / "latin.toml"))


# Modules called like Python's own.

MODEL = """
import random
from torch import nn

def f(input_shape, classes):
    assert hasattr(random, "getrandbits")
    return nn.Sequential(nn.Flatten(), nn.Linear(20, classes))
"""


@pytest.fixture(scope="module")
def folder_of_namesakes(tmp_path_factory) -> Path:
    """test.py and statistics.py are modules of Python, too."""
    folder = tmp_path_factory.mktemp("namesakes")
    for name in ("test", "statistics"):
        (folder / f"{name}.py").write_text(MODEL)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("how", ["healmpi", "python -m healmpi", "python -m mpi4py -m healmpi"])
def test_a_users_module_comes_before_pythons_own_and_hides_nothing(how, folder_of_namesakes):
    small = "--set data.dataset=synthetic --set run.nodes=3 --set run.cycles=1"
    out = how.replace(" ", "_") + ".h5"
    done = shell(f"{how} run {small} --set model.factory=test:f -o {out}", folder_of_namesakes)
    assert done.code == 0, done
    with h5py.File(folder_of_namesakes / out) as file:
        assert file["provenance"].attrs["model_file"] == str(folder_of_namesakes / "test.py")
    assert (
        "test.py must have a function or class g" in shell(f"{how} run {small} --set model.factory=test:g -o b.h5", folder_of_namesakes).err
    )


@pytest.mark.mpi
@pytest.mark.slow
def test_a_users_module_comes_first_under_mpirun(folder_of_namesakes):
    small = sets("data.dataset=synthetic", "run.nodes=3", "run.cycles=1", "model.factory=statistics:f")
    done = healmpi_mpi("mpich", 2, "run", *small, "-o", "mpi.h5", cwd=folder_of_namesakes)
    assert done.code == 0, done


def test_nothing_that_is_printed_is_wider_than_80_columns_but_paths(tmp_path):
    small = ["--set", "data.dataset=synthetic", "--set", "run.nodes=8", "--set", "run.cycles=2", "--set", "model.name=logistic"]
    done = healmpi("run", *small, "-o", "a.h5", cwd=tmp_path, COLUMNS="80")
    assert done.code == 0
    shown = done.out + done.err
    for given in (["info", "a.h5"], ["--help"], ["run", "--help"], ["suite", "--help"], ["merge", "--help"], ["suite", "S", "--list"]):
        one = healmpi(*given, cwd=tmp_path, COLUMNS="80")
        shown += one.out + one.err
    dry = healmpi("run", "--dry-run", cwd=tmp_path, COLUMNS="80").out
    assert [line for line in (shown + dry).splitlines() if len(line) > 80] == []
