"""All that can be chosen, put together from the files that declare it; and how a choice is found.

    TOPOLOGIES  healmpi/overlay/*.py              RULES     healmpi/algorithms/*.py     AVERAGES  healmpi/algorithms/averages/*.py
    DATASETS    healmpi/learning/datasets/*.py    MODELS    healmpi/learning/models/*.py
    LEARNERS    healmpi/learning/learners/*.py    PARTITIONS  healmpi/learning/partition.py
    PRESETS     healmpi/presets.toml: algorithms by name, a topology with a rule

A choice is a name out of these, or a user's own as "module:Name". Nothing here imports torch or MPI.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any, NamedTuple

from healmpi import algorithms, overlay
from healmpi.algorithms import averages
from healmpi.algorithms.averaging import Average
from healmpi.extension import NO_SOURCE, Source, check_settings, discover, find, source_of
from healmpi.learning import datasets, learners, models
from healmpi.learning.data import Data
from healmpi.learning.learners.kind import LearnerKind
from healmpi.learning.models.kind import Model
from healmpi.learning.models.own import OwnModel
from healmpi.learning.partition import PARTITIONS as PARTITIONS
from healmpi.learning.partition import Partition
from healmpi.messages import Kind
from healmpi.node import Rule
from healmpi.overlay.topology import Topology
from healmpi.settings import NoSettings, Section, UsageError, from_table, full_name

CUSTOM = "custom"
"""Name of what is a user's own, and of an algorithm that is a pair without a name."""

AUTO = "auto"
"""Name of what follows from other choices."""

TOPOLOGIES = discover(overlay, Topology)
RULES = discover(algorithms, Rule)
AVERAGES = discover(averages, Average)
DATASETS = discover(datasets, Data)
MODELS = discover(models, Model)
LEARNERS = discover(learners, LearnerKind)


class Preset(NamedTuple):
    """An algorithm by name."""

    topology: str
    rule: str
    doc: str


PRESETS = {
    name: Preset(**table)
    for name, table in tomllib.loads((resources.files("healmpi") / "presets.toml").read_text(encoding="utf-8-sig")).items()
}


def name_of(topology: str, rule: str) -> str:
    """The preset's name, or 'topology+rule' of a pair without one."""
    return next((name for name, one in PRESETS.items() if (one.topology, one.rule) == (topology, rule)), f"{topology}+{rule}")


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that was chosen. label: its name, or "module:Name". settings: its own. own: whether a user's. source: then its file."""

    label: str
    chosen: Any
    settings: Any
    own: bool
    source: Source = NO_SOURCE


def own(field: str, text: str, base: type | None, table: dict[str, Any], options: str) -> Choice:
    """A user's own: "module:Name" below `base`, with its options out of the table. options: the field that these stand in.

    Raises UsageError.
    """
    found = find(field, text, base)
    kind = getattr(found, "Settings", NoSettings)
    check_settings(field, text, kind)
    with naming_options(kind, options):
        settings = from_table(kind, table, options)
    # Its file is looked at now: later it may be another one than that which is used.
    return Choice(text, found, settings, True, source_of(found))


@contextlib.contextmanager
def naming_options(kind: type[Section], options: str) -> Iterator[None]:
    """Inside, errors about options of a user's own name them where the user has written them, in `options`."""
    names = {full_name(kind, item): item.name for item in fields(kind)}
    try:
        yield
    except UsageError as error:
        name, value, allowed = error.args
        raise UsageError(f"{options}.{names[name]}" if name in names else name, value, allowed) from None


def no_options(options: str, table: dict[str, Any], factory: str) -> None:
    """Raise UsageError for options of a user's own where there is none."""
    if table:
        raise UsageError(options, table, f"empty unless {factory} names something of your own")


def settings_table(settings: Section) -> dict[str, Any]:
    """A user's own settings as they are kept in the configuration."""
    return {} if isinstance(settings, NoSettings) else {name: _plain(value) for name, value in asdict(settings).items()}


def _plain(value: Any) -> Any:
    """As TOML and JSON give it back."""
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Chosen:
    """All that a resolved configuration chooses, ready to be used.

    topology: made for this run. rule: a class, with its resolved settings. average, data, partition, model, learner: made, not loaded.
    choices: what of it is named where, for the record.
    """

    topology: Topology
    rule: type[Rule]
    rule_settings: Any
    average: Average
    data: Data
    partition: Partition
    model: Model
    learner: LearnerKind
    choices: dict[str, Choice]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of the messages of this run, in the order in which results list them."""
        return tuple(dict.fromkeys((*self.topology.kinds, *self.rule.kinds)))

    @property
    def overlay_ticks(self) -> int:
        """How long the overlay's step in a cycle takes."""
        return self.topology.ticks

    @property
    def round_ticks(self) -> int:
        """How long a learning round can take."""
        return self.rule.round_ticks(self.rule_settings)

    def vector_size(self, model_size: int) -> int:
        """Floats in what is sent as a model. model_size: floats in a model."""
        return self.rule.vector_size(self.rule_settings, model_size)

    def sources(self) -> dict[str, str]:
        """What is a user's own, and where it stands: for the record, and to tell whether it is still the same."""
        found: dict[str, str] = {}
        for what, choice in self.choices.items():
            if choice.own:
                file, sha256 = choice.source
                found |= {what: choice.label, f"{what}_file": file, f"{what}_sha256": sha256}
        return found

    def source_digests(self) -> dict[str, str]:
        """Those of `sources` that say what is in the files."""
        return {name: value for name, value in self.sources().items() if name.endswith("_sha256")}


def own_model(choice: Choice) -> Model:
    """The model that a user's function makes."""
    return OwnModel(choice.label, choice.chosen, None if isinstance(choice.settings, NoSettings) else choice.settings)
