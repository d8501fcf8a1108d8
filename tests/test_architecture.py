"""The shape of the house: imports go downward only, and each library lives in its own room."""

import ast
from pathlib import Path

import pytest

import healmpi

ROOT = Path(healmpi.__file__).parent

LAYERS = [  # from the top; a module may import from its own layer and from those below
    {"cli", "__main__", "suite", "progress"},
    {"run"},
    {"host", "participants", "recorder", "audit", "provenance", "allocator", "checkpoint", "stopping"},
    {"worlds", "learning", "results"},
    {"algorithms", "overlay"},
    {"node"},
    {"messages", "streams"},
    {"config"},
    {"presets"},
    {"__init__"},
]
ROOMS = {
    "mpi4py": {"worlds/mpi.py", "worlds/hub_group.py"},
    "torch": {"learning/models.py", "learning/learner.py", "learning/device.py"},
    "h5py": "results/",
    "tqdm": {"progress.py"},
}
PURE = ("overlay", "algorithms", "node.py", "messages.py", "streams.py", "config.py", "presets.py")
WORLD_BOUND = {"time", "socket", "subprocess", "threading", "multiprocessing", "os", "torch", "mpi4py", "h5py"}

FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def layer(module: str) -> int:
    top = module.split("/")[0].removesuffix(".py")
    return next(index for index, names in enumerate(LAYERS) if top in names)


def imports(path: Path) -> set[str]:
    """Dotted names of all modules the file imports, those for type checking aside."""
    tree = ast.parse((ROOT / path).read_text())
    for branch in [one for one in ast.walk(tree) if isinstance(one, ast.If) and getattr(one.test, "id", "") == "TYPE_CHECKING"]:
        branch.body = []
    found = set()
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            found |= {name.name for name in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            found |= (
                {f"{statement.module}.{name.name}" for name in statement.names} if statement.module == "healmpi" else {statement.module}
            )
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_downward_only(path):
    for name in imports(path):
        if name.startswith("healmpi."):
            assert layer(str(path)) <= layer(name.split(".")[1]), f"{path} imports {name}, which lies above"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_library_has_its_room(path):
    for name in imports(path):
        room = ROOMS.get(name.split(".")[0])
        if room is not None:
            assert str(path).startswith(room) if isinstance(room, str) else str(path) in room, f"{path} imports {name}"


@pytest.mark.parametrize("path", [path for path in FILES if str(path).startswith(PURE)], ids=str)
def test_the_protocol_is_pure(path):
    assert not {name.split(".")[0] for name in imports(path)} & WORLD_BOUND


def test_analysis_imports_nothing_of_healmpi():
    for path in (ROOT.parent / "analysis").rglob("*.py"):
        assert not any(name.split(".")[0] == "healmpi" for name in imports(path))
