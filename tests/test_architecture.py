"""The shape of the house: imports go downward, each library has its room, each name one place, each function one thought."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

import healmpi
from healmpi.catalogue import AVERAGES, DATASETS, LEARNERS, MODELS, RULES, TOPOLOGIES
from healmpi.faults.plan import FAULTS
from healmpi.learning.partition import PARTITIONS

ROOT = Path(healmpi.__file__).parent
TOP, TESTS = ROOT.parent, Path(__file__).parent

LAYERS = [  # from the top; a module may import from its own layer and from those below
    {"launch", "__main__"},
    {"hosting"},
    {"results"},
    {"config", "sections"},
    {"catalogue"},
    {"faults"},
    {"worlds", "learning"},
    {"algorithms", "overlay"},
    {"node"},
    {"state"},
    {"messages", "streams", "cores"},
    {"extension"},
    {"settings", "randomness"},
    {"__init__"},
]
ROOMS = {  # a folder or files
    "mpi4py": {"worlds/mpi.py", "worlds/hub_group.py"},
    "torch": {"learning/models/", "learning/learner.py", "learning/device.py", "learning/trial.py", "learning/fingerprint.py"},
    "h5py": {"results/"},
    "tqdm": {"launch/progress.py"},
}
PURE = (
    "overlay/", "algorithms/", "node.py", "state.py", "messages.py", "streams.py", "settings.py", "catalogue.py", "config.py",
    "sections.py", "faults/plan.py", "faults/kind.py", "faults/kinds/",
)  # fmt: skip
WORLD_BOUND = {"time", "socket", "subprocess", "threading", "multiprocessing", "os", "torch", "mpi4py", "h5py"}

LONGEST_FUNCTION, MEDIAN_FUNCTION, LONGEST_FILE = 45, 10, 450
"""In lines; the second one is not to be reached."""

FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
ALL_FILES = sorted(path.relative_to(TOP) for name in ("healmpi", "analysis") for path in (TOP / name).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse((TOP / path).read_text(encoding="utf-8"))


# Imports.


def layer(module: str) -> int:
    top = module.split("/")[0].removesuffix(".py")
    return next(index for index, names in enumerate(LAYERS) if top in names)


def imports(path: Path) -> set[str]:
    """Dotted names of all modules the file imports, those for type checking aside."""
    parsed = tree(path)
    for branch in [one for one in ast.walk(parsed) if isinstance(one, ast.If) and getattr(one.test, "id", "") == "TYPE_CHECKING"]:
        branch.body = []
    found = set()
    for statement in ast.walk(parsed):
        if isinstance(statement, ast.Import):
            found |= {name.name for name in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.module is not None and not statement.level, f"{path}: imports say where from"
            deeper = statement.module == "healmpi"
            found |= {f"healmpi.{name.name}" for name in statement.names} if deeper else {statement.module}
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_downward_only(path):
    for name in imports("healmpi" / path):
        if name.startswith("healmpi."):
            assert layer(str(path)) <= layer(name.split(".")[1]), f"{path} imports {name}, which lies above"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_library_has_its_room(path):
    for name in imports("healmpi" / path):
        room = ROOMS.get(name.split(".")[0])
        if room is not None:
            assert str(path).startswith(tuple(room)), f"{path} imports {name}"


@pytest.mark.parametrize("path", [path for path in FILES if str(path).startswith(PURE)], ids=str)
def test_the_protocol_is_pure(path):
    assert not {name.split(".")[0] for name in imports("healmpi" / path)} & WORLD_BOUND


def test_analysis_imports_nothing_of_healmpi():
    for path in ALL_FILES:
        if path.parts[0] == "analysis":
            assert not any(name.split(".")[0] == "healmpi" for name in imports(path)), path


def test_tests_share_helpers_and_import_no_other_tests():
    for path in TESTS.glob("*.py"):
        assert not any(name.startswith("test_") for name in imports(path)), path


# Names: what can be chosen is known to nobody but its own file.


NAMED = {*TOPOLOGIES, *RULES} - {"none"}
HOMONYMS = {"complete": ("healmpi/results/", "analysis/"), "elevator": ("analysis/healmpi_analysis/published/",)}
"""Where a name means something else: whether a run came to its end; what a publication says of an algorithm."""


def declared_in(kind: type) -> str:
    """The file of a class, as ALL_FILES has it."""
    return kind.__module__.replace(".", "/") + ".py"


def declaring(name: str) -> set[str]:
    return {declared_in(catalogue[name]) for catalogue in (TOPOLOGIES, RULES) if name in catalogue}


def text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def names_used(path: Path) -> Iterator[str]:
    """Place and name of each topology or rule that a file knows and does not declare: in comparisons, displays, calls, anywhere."""
    for node in ast.walk(tree(path)):
        name = text(node)
        if name in NAMED and str(path) not in declaring(name) and not str(path).startswith(HOMONYMS.get(name, ("-",))):
            yield f"{path}:{node.lineno}: {name!r}"


@pytest.mark.parametrize("path", ALL_FILES, ids=str)
def test_no_code_asks_for_a_topology_or_rule_by_name(path):
    assert list(names_used(path)) == []


def test_a_name_in_code_would_be_found(tmp_path):
    lines = [
        'a == "ring"', 'a in ("star", b)', 'f(x="gossip")', 'f("elevator")', '{"chord": 1}', '{1: ["fedlay"]}', 'b["random-regular"]',
        'c = "multi-star"', "match a:\n    case 'uniform': pass", "match a:\n    case 'central' | 'newscast': pass",
    ]  # fmt: skip
    (tmp_path / "a.py").write_text("\n".join([*lines, 'a = "a ring, or a star"', 'f("none")']))
    assert len(list(names_used(tmp_path / "a.py"))) == 11


def declarations() -> list[tuple[str, str, str]]:
    """Folder or file, name and class of all that is declared: classes with a `name` of their own, by `name: ClassVar[str] = "..."`."""
    found = []
    for path in FILES:
        for node in ast.walk(tree("healmpi" / path)):
            if isinstance(node, ast.ClassDef):
                found += [(str(path), name, node.name) for name in filter(None, map(own_name, node.body))]
    return found


def own_name(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.AnnAssign) and getattr(statement.target, "id", "") == "name":
        return text(statement.value)
    if isinstance(statement, ast.Assign) and any(getattr(target, "id", "") == "name" for target in statement.targets):
        return text(statement.value)
    return None


@pytest.mark.parametrize(
    ("place", "catalogue"),
    [
        ("overlay/", TOPOLOGIES), ("algorithms/averages/", AVERAGES), ("algorithms/", RULES), ("learning/datasets/", DATASETS),
        ("learning/models/", MODELS), ("learning/learners/", LEARNERS), ("learning/partition.py", PARTITIONS), ("faults/kinds/", FAULTS),
    ],
    ids=str,
)  # fmt: skip
def test_everything_that_can_be_chosen_is_declared_once(place, catalogue):
    inner = "algorithms/averages/" if place == "algorithms/" else "-"
    here = {name: one for path, name, one in declarations() if path.startswith(place) and not path.startswith(inner) if name}
    names = [name for path, name, _ in declarations() if path.startswith(place) and not path.startswith(inner) if name]
    assert sorted(names) == sorted(catalogue), "each name once, and nothing that is not found"
    for name, kind in catalogue.items():
        assert here[name] == kind.__name__ and kind.name == name and declared_in(kind).startswith(f"healmpi/{place}")


# Sizes.


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length in lines of each function, decorators aside."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", ALL_FILES, ids=str)
def test_functions_are_short(path):
    assert [(name, lines) for name, lines in functions(path) if lines > LONGEST_FUNCTION] == []


def test_most_functions_are_very_short():
    assert statistics.median(lines for path in ALL_FILES for _, lines in functions(path)) < MEDIAN_FUNCTION


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short(path):
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
