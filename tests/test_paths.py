"""Paths, names and files of text as users have them: no UTF-8, '~', byte order marks, modules called like the standard library's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import h5py
import pytest
from launch import finish, healmpi, python, sets, start

from healmpi.config import Config
from healmpi.extension import PREFIX, find
from healmpi.launch import arguments
from healmpi.launch import suite as suites
from healmpi.results.files import storable
from healmpi.settings import UsageError

SMALL = sets("data.dataset=synthetic", "data.samples=200", "run.nodes=8", "run.cycles=2")
NET = "import torch\n\n\ndef f(shape, classes):\n    return torch.nn.Linear(shape[0], classes)\n"
BYTES = os.fsdecode(b"r\xe9s")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, which is the home folder, too; what is loaded from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith(PREFIX):
            del sys.modules[name]


# Names that are no UTF-8.


def test_folders_files_and_arguments_may_have_names_that_are_no_utf_8(tmp_path):
    folder = tmp_path / BYTES
    folder.mkdir()
    (folder / f"{BYTES}.toml").write_text("[run]\nseed = 5\n")
    (folder / "net.py").write_text(NET)
    own = sets("model.name=custom", "model.factory=net:f")
    done = healmpi("run", f"{BYTES}.toml", *SMALL, *own, "-o", f"{BYTES}.h5", cwd=folder)
    assert done.code == 0 and "Traceback" not in done.err, done.err
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".h5") == [f"{BYTES}.h5"]
    with h5py.File(folder / f"{BYTES}.h5") as file:
        facts = file["provenance"].attrs
        assert facts["command"].endswith("-o r\\xe9s.h5") and facts["model_file"].endswith("r\\xe9s/net.py")
    told = healmpi("info", f"{BYTES}.h5", cwd=folder)
    assert told.code == 0 and "seed 5" in told.out


def test_a_text_is_stored_as_it_is_or_with_its_foreign_bytes_spelled_out():
    foreign = "ü".encode().decode("ascii", "surrogateescape")
    assert [storable(value) for value in ("ü", foreign, BYTES, 3, 1.5)] == ["ü", "ü", "r\\xe9s", 3, 1.5]


@pytest.mark.parametrize("field", ["data.file", "data.folder", "model.factory", "data.factory", "topology.factory"])
def test_a_configuration_is_utf_8_and_a_value_that_is_not_is_refused(field):
    with pytest.raises(UsageError, match=r"--set = .*udce9.*UTF-8"):
        Config.load(None, [f"{field}={BYTES}"])


# The home folder.


@pytest.mark.parametrize("words", ["run ~/f.toml --out=~/x.h5", "suite ~/f.toml --out=~/x.h5", "info ~/x.h5", "merge ~/x.h5"])
def test_a_tilde_is_the_home_folder_in_every_argument(words, here):
    options = arguments.parser().parse_args(words.split())
    found = options.out if hasattr(options, "out") else options.file
    assert found == here / "x.h5"


def test_a_tilde_is_the_home_folder_wherever_a_file_is_named(here):
    (here / "f.toml").write_text("[run]\nseed = 5\n")
    assert Config.load("~/f.toml").run.seed == 5
    (here / "s.toml").write_text("[base.run]\nnodes = 6\n[axes]\nseed = [1]\n")
    assert len(suites.load("~/s.toml").experiments) == 1
    (here / "w").mkdir()
    (here / "w" / "net.py").write_text(NET)
    assert find("model.factory", "~/w/net.py:f").__module__.startswith(f"{PREFIX}net_")
    (here / "few.csv").write_text("1,0\n2,1\n3,0\n4,1\n")
    config = Config.load(None, ["data.dataset=csv", "data.file=~/few.csv"]).resolve()
    assert len(config.chosen.data.load(1).train_y) == 3


def test_a_configuration_keeps_a_tilde_so_that_its_hash_is_everybodys(here, monkeypatch):
    config = Config.load(None, ["data.dataset=csv", "data.file=~/few.csv"])
    monkeypatch.setenv("HOME", "/elsewhere")
    assert config.data.file == "~/few.csv"
    assert Config.load(None, ["data.dataset=csv", "data.file=~/few.csv"]).hash() == config.hash()


# Byte order marks.


def test_a_byte_order_mark_of_utf_8_is_read_over_in_every_text_file(here):
    mark = b"\xef\xbb\xbf"
    (here / "f.toml").write_bytes(mark + b"[run]\r\nseed = 5\r\n")
    (here / "s.toml").write_bytes(mark + b"[base.run]\nnodes = 6\n[axes]\nseed = [1]\n")
    (here / "few.csv").write_bytes(mark + b"1,0\n2,1\n3,0\n4,1\n")
    (here / "net.py").write_bytes(mark + NET.encode())
    assert Config.load("f.toml").run.seed == 5 and len(suites.load("s.toml").experiments) == 1
    assert callable(find("model.factory", "net:f"))
    config = Config.load(None, ["data.dataset=csv", "data.file=few.csv"]).resolve()
    assert len(config.chosen.data.load(1).train_y) == 3


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_16_is_refused_by_its_name(order, here):
    text = b"\xff\xfe" if order == "le" else b"\xfe\xff"
    (here / "f.toml").write_bytes(text + "[run]\nseed = 5\n".encode(f"utf-16-{order}"))
    for load in (Config.load, suites.load):
        with pytest.raises(UsageError, match="UTF-16: save it as UTF-8"):
            load("f.toml")
    with pytest.raises(UsageError, match="UTF-16: save it as UTF-8"):
        Config.load(None, ["data.dataset=csv", "data.file=f.toml"]).resolve().chosen.data.load(1)


# Modules that are called like others.


@pytest.mark.parametrize("name", ["test", "random", "statistics", "types"])
def test_a_file_of_the_users_comes_before_the_standard_librarys_module_of_its_name(name, here):
    standard = __import__(name)
    (here / f"{name}.py").write_text("def f():\n    return 'own'\n")
    assert find("model.factory", f"{name}:f")() == "own"
    assert __import__(name) is standard, "everybody else finds the other one"
    (here / f"{name}.py").write_text("")
    sys.modules.pop(PREFIX + name)
    with pytest.raises(UsageError, match=str(here / f"{name}.py")):
        find("model.factory", f"{name}:g")


def test_a_package_or_folder_of_the_users_comes_before_the_standard_librarys_of_its_name(here):
    for folder in ("json", "email"):
        (here / folder).mkdir()
        (here / folder / "nets.py").write_text("def f():\n    return 'own'\n")
    (here / "json" / "__init__.py").write_text("from .nets import f\n")
    found = [find("model.factory", text)() for text in ("json:f", "json.nets:f", "email.nets:f")]
    assert found == ["own"] * 3
    assert find("model.factory", "json.decoder:JSONDecoder").__module__ == "json.decoder", "what the folder lacks is the library's"


def test_a_file_that_is_named_must_be_there(here):
    with pytest.raises(UsageError, match=rf"an existing file; there is no {here / 'absent.py'}"):
        find("model.factory", "absent.py:f")


@pytest.mark.parametrize("way", ["script", "-m healmpi", "-m mpi4py -m healmpi"])
def test_every_way_of_starting_finds_the_users_file_and_leaves_the_library_its_own(way, tmp_path):
    for name in ("random", "statistics", "fractions"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not for everybody')\n")
    (tmp_path / "late.py").write_text("")
    # What it imports when it is called is found, too.
    (tmp_path / "test.py").write_text("def f(shape, classes):\n    import late\n    return ['no module']\n")
    begin = [python().parent / "healmpi"] if way == "script" else [python(), *way.split()]
    command = [*begin, "run", *SMALL, *sets("model.name=custom", "model.factory=test:f"), "-o", "a.h5"]
    done = finish(start(command, tmp_path), 120)
    assert done.code == 2 and "it must return a torch.nn.Module, not list" in done.err, done.err
    assert not Path(tmp_path / "a.h5.parts").exists()
