"""Does what the documents tell a reader to type, in their order, each document in a fresh copy of the checkout.

    python tests/documents.py [DOCUMENT ...]     prints each command with its exit code and seconds; exit code 1 when one failed

A command of minutes is made shorter (SHORTER); what cannot be done here stands in ELSEWHERE, with where it is done instead. A block of
Python becomes the file that the lines before it name, or is run. What a document takes for granted, the reader's own files, is GIVEN.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch import ENVIRONMENT, ROOT, Done, finish

DOCUMENTS = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

LONGEST_S = 300
WIDTH = 80
"""Columns of what a reader sees: commands, and what they print."""

FIRST_WORDS = (
    *("healmpi", "healmpi-report", "mpirun", "python", "python3", "pip"),
    *("bash", ".", "cp", "git", "touch", "srun", "sbatch", "tar", "$EDITOR"),
)

ELSEWHERE = {
    r"bash jobs/(test|setup|main)\.sh|python -m pytest": "in a fresh clone: both set up an environment first",
    r"pip install|python3 -m venv|\.venv/bin/pip": "by jobs/setup.sh, and by test_analysis_report.py in an environment of its own",
    r"git clone|\$EDITOR": "by the reader",
    r"healmpi merge killed": "by test_cli.py, of a run that was killed",
    r"bash jobs/pitch\.sh|healmpi suite cost": "takes minutes; test_suite.py looks at them",
    r"sbatch|srun|sbcast": "by test_slurm.py, on a real Slurm",
    r"python jobs/benchmark\.py": "takes minutes, and idle cores",
}
"""Pattern of a command -> where it is done instead."""

SHORTER = (
    (r"run\.cycles=1000", "run.cycles=20"),
    (r"suite (A|W|B|faults|skew|hubs|elevator)\b(?!.*--list)", r"suite \1 --list"),
    (r"suite S (?!.*--list)", "suite S --only 'spambase-heal-*' "),
)
"""Pattern -> what takes its place, so that no command takes more than seconds."""

OWN_SUITE = """
[base.run]
nodes = 4
cycles = 2
[base.data]
dataset = "synthetic"
[axes]
algorithm = ["heal", "federated"]
"""
SMALL = '[run]\ncycles = 3\n[data]\ndataset = "synthetic"\n'
GIVEN = {"my.toml": OWN_SUITE, "big.toml": SMALL, "FILE.toml": SMALL}
"""The reader's own files."""

GIVEN_RESULTS = {
    "README.md": ("a.h5", "b.h5"),
    "docs/analysis.md": ("a.h5", "b.h5", "results/a.h5", "before/a.h5", "after/a.h5"),
    "docs/results-format.md": ("out.h5",),
    "docs/reproduction.md": ("out/a.h5",),
}
"""Results files that a document reads without saying how they came to be."""


@dataclass(frozen=True)
class Block:
    """What a reader copies. line: where it begins, from 1. before: the paragraph before it."""

    line: int
    language: str
    text: str
    before: str


def blocks(text: str) -> Iterator[Block]:
    """Fenced blocks, and those indented by four spaces (language ""), without their indentation."""
    lines, before = text.splitlines(), ""
    place = 0
    while place < len(lines):
        begun, line = place, lines[place]
        place += 1
        if line.startswith("```"):
            while not lines[place].startswith("```"):
                place += 1
            place += 1
            yield Block(begun + 1, line[3:].strip(), "\n".join(lines[begun + 1 : place - 1]), before)
        elif line.startswith("    ") and (begun == 0 or not lines[begun - 1].strip()):
            while place < len(lines) and (lines[place].startswith("    ") or not lines[place].strip()):
                place += 1
            yield Block(begun + 1, "", "\n".join(one[4:] for one in lines[begun:place]).rstrip(), before)
        elif line.strip():
            before = line if not lines[begun - 1].strip() else f"{before}\n{line}"


def commands(block: Block) -> list[str]:
    """The shell commands of a block, without comments, one a line; none where it shows something else."""
    if block.language not in ("", "bash", "sh", "console"):
        return []
    whole = re.sub(r"\\\n\s*", "", block.text).splitlines()
    found = [re.sub(r"\s+#\s.*$", "", line).strip() for line in whole]
    return [line for line in found if _is_command(line)]


def _is_command(line: str) -> bool:
    words = [word for word in line.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    # A synopsis, "healmpi-report DIR [DIR ...]", is none.
    return bool(words) and (words[0] in FIRST_WORDS or words[0].startswith(".venv")) and not re.search(r"\[[A-Z-].*\]|\.\.\.", line)


def elsewhere(command: str) -> str | None:
    """Where it is done instead of here."""
    return next((place for pattern, place in ELSEWHERE.items() if re.search(pattern, command)), None)


def shorter(command: str) -> str:
    """The same in seconds."""
    for pattern, replacement in SHORTER:
        command = re.sub(pattern, replacement, command)
    return command


def checkout(folder: Path) -> Path:
    """A copy of what is in version control, with the environments of this checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for environment in ROOT.glob(".venv*"):
        (folder / environment.name).symlink_to(environment)
    return folder


def prepare(folder: Path, document: str) -> None:
    """The files that the document takes for granted."""
    for name, content in GIVEN.items():
        (folder / name).write_text(content)
    for number, name in enumerate(GIVEN_RESULTS.get(document, ())):
        (folder / name).parent.mkdir(exist_ok=True)
        small = f"--set data.dataset=synthetic --set run.cycles=3 --set run.seed={number + 1}"
        done = shell(folder, f"healmpi run {small} -o {shlex.quote(name)}")
        assert done.code == 0, done.err


def shell(folder: Path, command: str) -> Done:
    """As the reader's bash runs it, in the environment of the checkout."""
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_COMM", "PMIX", "PMI_", "SLURM_", "PYTEST_"))}
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=clean | ENVIRONMENT | {"PATH": path, "COLUMNS": str(WIDTH)},
        start_new_session=True, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return finish(process, LONGEST_S)


@dataclass(frozen=True)
class Step:
    """One thing done. what: the command, or the first line of a block of Python. skipped: where it is done instead, or empty."""

    where: str
    what: str
    done: Done
    seconds: float
    skipped: str = ""


def follow(document: str, folder: Path) -> Iterator[Step]:
    """Do all that a document tells, in a checkout of its own."""
    text = (ROOT / document).read_text(encoding="utf-8")
    prepare(checkout(folder), document)
    before = set(os.listdir(folder))
    for block in blocks(text):
        if block.language == "python":
            named = re.findall(r"`(\w+\.py)`", block.before)
            if named:
                (folder / named[-1]).write_text(block.text)
            else:
                yield _step(document, block, folder, block.text.splitlines()[0], f"python - <<'END'\n{block.text}\nEND")
            continue
        for command in commands(block):
            place = elsewhere(command)
            if place:
                yield Step(f"{document}:{block.line}", command, Done(0, "", ""), 0.0, place)
            else:
                yield _step(document, block, folder, command, shorter(command))
    litter = sorted(
        name
        for name in set(os.listdir(folder)) - before
        if name not in text and not name.startswith((".", "__")) and not name.endswith(".py")
    )
    yield Step(document, "leaves nothing that it does not name", Done(int(bool(litter)), "", ", ".join(litter)), 0.0)


def _step(document: str, block: Block, folder: Path, what: str, command: str) -> Step:
    started = time.monotonic()
    done = shell(folder, command)
    return Step(f"{document}:{block.line}", what, done, time.monotonic() - started)


def main() -> int:
    failed = 0
    for document in sys.argv[1:] or DOCUMENTS:
        with tempfile.TemporaryDirectory() as folder:
            for step in follow(document, Path(folder)):
                state = f"done {step.skipped}" if step.skipped else f"exit {step.done.code}, {step.seconds:.0f} s"
                print(f"{step.where}: {step.what}\n    {state}", flush=True)
                if step.done.code != 0:
                    failed += 1
                    print(step.done.out[-2000:] + step.done.err[-4000:], flush=True)
    print(f"{failed} failed" if failed else "all of it works")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
