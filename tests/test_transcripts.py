"""Golden transcripts: the pages in tests/transcripts are what the runs give (docs/transcripts.md).

A page that differs is either a mistake or a change of the protocol: read the difference, then `python tests/transcript.py write`.
"""

import difflib

import pytest
from transcript import DOCUMENT, FOLDER, QUOTED, path_of, scenes, transcript

from healmpi.catalogue import PRESETS

SCENES = scenes()

STANDS_FOR = {"ring": {"ring", "chord", "fedlay"}}
"""The page of one algorithm that stands for several: only their links differ."""


@pytest.mark.parametrize("name", SCENES)
def test_a_run_gives_the_page_that_is_kept(name):
    kept = path_of(name).read_text(encoding="utf-8")
    found = transcript(SCENES[name])
    difference = difflib.unified_diff(kept.splitlines(), found.splitlines(), f"tests/transcripts/{name}.txt", "this run", lineterm="", n=4)
    if found != kept:
        pytest.fail(
            "\n".join(["the protocol does something else than before (python tests/transcript.py write):", *difference]), pytrace=False
        )


@pytest.mark.parametrize("name", [name for name, scene in SCENES.items() if "run.algorithm=elevator" not in scene.set])
def test_training_has_no_part_in_a_page(name):
    """Other numbers, the same page: so it does not depend on torch or the machine."""
    other = ("learner.optimizer=sgd", "learner.learning_rate=0.5", "learner.local_epochs=2", "data.noise=3.0", "data.features=5")
    assert transcript(SCENES[name], *other) == path_of(name).read_text(encoding="utf-8")


def test_every_algorithm_has_a_page():
    shown = {text.partition("=")[2] for scene in SCENES.values() for text in scene.set if text.startswith("run.algorithm=")}
    told = {name for one in shown for name in STANDS_FOR.get(one, {one})}
    assert told == set(PRESETS), f"without a page: {sorted(set(PRESETS) - told)}"


def test_every_page_has_a_run():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(SCENES)


def test_the_document_shows_the_pages_as_they_are():
    text = DOCUMENT.read_text(encoding="utf-8")
    quoted = list(QUOTED.finditer(text))
    assert len(quoted) >= 2
    for found in quoted:
        assert found["page"] == path_of(found["name"]).read_text(encoding="utf-8"), f"{found['name']} (python tests/transcript.py write)"
    missing = [name for name in SCENES if f"(../tests/transcripts/{name}.txt)" not in text]
    assert not missing, f"not in the table: {missing}"
