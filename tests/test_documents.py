"""What the documents tell a reader to type: `python tests/documents.py` does all of it; here it is only looked at."""

import re
import shlex

import pytest
from documents import DOCUMENTS, ROOT, WIDTH, blocks, commands, elsewhere, follow, shorter

from healmpi.launch import arguments

COMMANDS = [
    (f"{document}:{block.line}", command)
    for document in DOCUMENTS
    for block in blocks((ROOT / document).read_text(encoding="utf-8"))
    for command in commands(block)
]


def test_the_documents_show_commands():
    assert len(COMMANDS) > 40 and {where.split(":")[0] for where, _ in COMMANDS} >= {"README.md", "docs/analysis.md", "docs/clusters.md"}


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_each_command_of_healmpi_in_the_documents_is_one(where, command):
    words = shlex.split(command)
    if "healmpi" in words:
        arguments.parser().parse_args(words[words.index("healmpi") + 1 :])


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one != "docs/transcripts.md"])
def test_what_a_document_shows_fits_into_80_columns(document):
    """Programs aside, and errors, which are a line each."""
    shown = [block for block in blocks((ROOT / document).read_text(encoding="utf-8")) if block.language not in ("python", "toml")]
    lines = [(block.line + number, line) for block in shown for number, line in enumerate(block.text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if not line.startswith("healmpi: ")]
    assert [f"{document}:{number}: {len(line)}" for number, line in lines if len(line) > WIDTH] == []


def test_no_command_is_shortened_that_is_done_elsewhere_and_none_of_hours_is_left():
    for where, command in COMMANDS:
        if elsewhere(command) is None and re.search(r"healmpi suite [AWB]\b", command):
            assert "--list" in shorter(command), where


@pytest.mark.smoke
@pytest.mark.slow
@pytest.mark.parametrize("document", ["docs/results-format.md"])
def test_doing_what_a_document_says_works(document, tmp_path):
    for step in follow(document, tmp_path):
        assert step.done.code == 0, f"{step.where}: {step.what}\n{step.done.out}{step.done.err}"
