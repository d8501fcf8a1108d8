"""environment.yml names the packages of pyproject.toml, with the same version ranges."""

import re
import tomllib

from launch import ROOT

CONDA_NAMES = {"torch": "pytorch-cpu"}
CONDA_ALONE = {"pip"}  # installs healmpi itself
EXTRAS = ("openmpi", "analysis")


def required() -> dict[str, str]:
    """What pyproject.toml asks for: conda's name -> version range."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {"python": project["requires-python"]}
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)]
    for requirement in (one for some in lists for one in some):
        name, versions = split(requirement)
        assert wanted.setdefault(CONDA_NAMES.get(name, name), versions) == versions, f"{name}: two ranges in pyproject.toml"
    return wanted


def offered() -> dict[str, str]:
    """What environment.yml lists, read as the simple lines that it is made of."""
    text = (ROOT / "environment.yml").read_text().partition("\ndependencies:\n")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert all(line.startswith("- ") for line in lines), lines
    return dict(split(line.removeprefix("- ")) for line in lines)


def split(requirement: str) -> tuple[str, str]:
    name, versions = re.fullmatch(r"([A-Za-z0-9_-]+)\s*([<>=!~][^;]*)?", requirement).groups()
    return name.lower(), (versions or "").replace(" ", "")


def test_the_conda_environment_has_the_packages_and_the_ranges_of_pyproject():
    assert {name: versions for name, versions in offered().items() if name not in CONDA_ALONE} == required()


def test_the_conda_environment_takes_all_from_conda_forge():
    text = (ROOT / "environment.yml").read_text()
    assert re.search(r"^channels:\n  - conda-forge\n  - nodefaults\n", text, re.MULTILINE)
