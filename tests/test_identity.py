"""40 drawn runs give the tables that they gave before the house was rebuilt, bit by bit (tests/digests.py)."""

import json
from pathlib import Path

import pytest
from digests import LEARNT, digests, probe
from simulate import execute

STORED = json.loads((Path(__file__).parent / "digests.json").read_text())


@pytest.fixture(scope="module")
def same_torch() -> bool:
    """Whether torch gives the bits here that it gave where the file was made."""
    return probe() == STORED["probe"]


@pytest.mark.parametrize("number", range(len(STORED["runs"])))
def test_a_run_gives_the_tables_that_it_gave(number, same_torch, tmp_path):
    stored = STORED["runs"][number]
    found = digests(execute(stored["set"], tmp_path / "run.h5"))
    compared = {name for name in stored["tables"] if same_torch or name not in LEARNT}
    different = sorted(name for name in compared if found.get(name) != stored["tables"][name])
    assert not different, f"{stored['set']}: {different}"
    assert found.keys() == stored["tables"].keys()
