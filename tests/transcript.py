"""Golden transcripts: what the nodes of a small run were told and what they decided, as a page of text (docs/transcripts.md).

    python tests/transcript.py write [NAME ...]     renews tests/transcripts/NAME.txt, and the pages in docs/transcripts.md
    python tests/transcript.py show [NAME ...]      prints them

What is run stands in transcripts/scenes.toml; transcripts/watching.py looks on, wording.py and page.py write it down.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transcripts.page import Page, Scene
from transcripts.watching import Named, Notes, Tap, Watched

from healmpi.config import Config
from healmpi.hosting.host import Host
from healmpi.launch.run import Ranks, prepare
from healmpi.results.rows import FaultRow

FOLDER = Path(__file__).parent / "transcripts"
DOCUMENT = Path(__file__).parents[1] / "docs" / "transcripts.md"

TINY = ("data.dataset=synthetic", "data.samples=60", "data.features=3", "model.name=logistic", "evaluation.every=0", "results.audit=on")


def scenes() -> dict[str, Scene]:
    """All of them, in the order of the file."""
    table = tomllib.loads((FOLDER / "scenes.toml").read_text(encoding="utf-8"))
    return {
        name: Scene(name, one["title"], one["about"].strip(), tuple(one["set"]), tuple(one.get("overlay", ())))
        for name, one in table.items()
    }


def transcript(scene: Scene, *more: str) -> str:
    """The page of a scene. more: overrides that must change nothing."""
    config = Config.load(None, (*TINY, *scene.set, *more)).resolve(1)
    notes = Notes()
    chosen = dataclasses.replace(config.chosen, average=Named(config.chosen.average, notes.averaged))
    config = Config(config.sections, chosen)
    ranks = Ranks()
    prepared = prepare(config, ranks)
    world = Tap(ranks.world(config.run.nodes, prepared.vector_size, chosen.average, 60.0), notes)
    page = Page(scene, config)

    def sink(rows: Any, groups: Any, faults: Sequence[FaultRow]) -> None:
        page.cycle(notes, nodes, faults)
        notes.clear()

    host = Host(config, world, prepared.nodes, prepared.learner, sink, lambda progress: None)
    nodes: dict[int, Any] = host.population.nodes
    for identity, node in nodes.items():
        if node.model is not None:
            notes.names.give(node.model, "init" if config.model.initial == "common" else f"m{identity}.0")
        nodes[identity] = Watched(node, notes)
    page.head()
    if not config.run.warmup_cycles:
        page.start(nodes, notes.names)
    host.run()
    host.finish()
    assert host.closing.audited == config.learns and not host.closing.complaints, host.closing.complaints
    return "\n".join(page.lines) + "\n"


def path_of(name: str) -> Path:
    """Where a scene's page is kept."""
    return FOLDER / f"{name}.txt"


QUOTED = re.compile(r"^```text\n(?P<page>(?P<name>[\w-]+): .*?)^```$", re.MULTILINE | re.DOTALL)
"""A page in the document: it begins with its name."""


def main(what: str, *names: str) -> None:
    known = scenes()
    for name in names or known:
        page = transcript(known[name])
        if what == "show":
            print(page)
        else:
            path_of(name).write_text(page, encoding="utf-8")
            print(f"{path_of(name)}: {len(page.splitlines())} lines")
    if what == "write":
        text = DOCUMENT.read_text(encoding="utf-8")
        renewed = QUOTED.sub(lambda found: f"```text\n{path_of(found['name']).read_text(encoding='utf-8')}```", text)
        DOCUMENT.write_text(renewed, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("write", "show"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
