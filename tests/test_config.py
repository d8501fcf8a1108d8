"""Configurations: what is accepted, what is refused and in which words, and that a written one reads back the same."""

import re
import tomllib
from itertools import pairwise

import pytest

from healmpi.config import Config
from healmpi.faults.plan import FaultEvent
from healmpi.settings import UsageError

REFUSED = [  # overrides, ranks, what the message must say
    (["run.nodez=3"], 1, ["run.nodez", "3", "unknown key", "nodes"]),
    (["foo.x=1"], 1, ["foo", "unknown section", "elevator"]),
    (["run"], 1, ["--set", "section.field=value"]),
    (["run.nodes=1.5"], 1, ["run.nodes", "1.5", "whole number"]),
    (["run.nodes=true"], 1, ["run.nodes", "True", "whole number"]),
    (["run.seed=-1"], 1, ["run.seed", "-1", "at least 0"]),
    (["learner.learning_rate=0.0"], 1, ["learner.learning_rate", "0.0", "more than 0"]),
    (["learner.learning_rate=nan"], 1, ["learner.learning_rate", "nan", "finite"]),
    (["data.dataset=cifar"], 1, ["data.dataset", "'cifar'", "'spambase'"]),
    (["run.nodes=1"], 1, ["run.nodes", "1", "at least 2"]),
    (["run.nodes=4"], 8, ["run.nodes", "4", "8 ranks"]),
    (["elevator.hub_count=8"], 1, ["elevator.hub_count", "8", "at most run.nodes - 1, 7"]),
    (["topology.view_size=8"], 1, ["topology.view_size", "8", "less than run.nodes, 8"]),
    (["elevator.hub_count=5", "topology.view_size=4"], 1, ["elevator.hub_count", "5", "topology.view_size, 4"]),
    (["rule.fanout=3"], 1, ["rule.fanout", "3", "elevator.hub_count, 2"]),
    (["model.hidden=[10, 0]"], 1, ["model.hidden", "0", "at least 1"]),
    (["model.hidden=ten"], 1, ["model.hidden", "'ten'", "a list"]),
    (["model.name=custom"], 1, ["model.factory", "'module:Name'", "model.name is 'custom'"]),
    (["model.name=mlp", "model.factory=a:b"], 1, ["model.factory", "'a:b'", "empty"]),
    (["model.name=lenet5", "data.dataset=spambase"], 1, ["model.name", "lenet5", "28 x 28"]),
    (["learner.momentum=0.9"], 1, ["learner.momentum", "0.9", "sgd"]),
    (["faults.crash_nodes=[8]"], 1, ["8", "0 to 7"]),
    (["faults.crash_fraction=1.5"], 1, ["faults.crash_fraction", "1.5", "at most 1"]),
    (["faults.crash_fraction=0.5", "faults.crash_cycle=31"], 1, ["31", "run.cycles, 30"]),
    (["faults.churn_fraction=0.1", "faults.churn_first_cycle=9", "faults.churn_last_cycle=8"], 1, ["churn_last_cycle", "8", "9"]),
    (["faults.plan=[{cycle=3}]"], 1, ["faults.plan", "exactly one of"]),
    (['faults.plan=[{cycle=3, hubs="all", wrong=1}]'], 1, ["faults.plan[0].wrong", "unknown key", "fraction"]),
    (['faults.plan=[{kind="churn", fraction=0.1, point="before_send"}]'], 1, ["point", "before_send"]),
]


@pytest.mark.parametrize(("overrides", "ranks", "words"), REFUSED)
def test_a_bad_configuration_names_the_field_the_value_and_what_is_allowed(overrides, ranks, words):
    with pytest.raises(UsageError) as raised:
        Config.load(None, overrides).resolve(ranks)
    for word in words:
        assert word in str(raised.value)


def test_the_defaults_follow_the_number_of_ranks_but_are_at_least_eight_nodes():
    assert [Config().resolve(ranks).run.nodes for ranks in (1, 3, 8, 12)] == [8, 8, 8, 12]
    assert Config().resolve(1).topology.view_size == 7
    published = Config.load(None, ["run.nodes=100"]).resolve(2)
    assert (published.topology.view_size, published.elevator.hub_count, published.rule.fanout) == (20, 5, 1)


def test_the_model_follows_the_data_set():
    names = {data: Config.load(None, [f"data.dataset={data}"]).resolve().model.name for data in ("mnist10k", "spambase", "synthetic")}
    assert names == {"mnist10k": "lenet5", "spambase": "logistic", "synthetic": "mlp"}


def test_a_written_configuration_reads_back_the_same_and_explains_every_field():
    config = Config.load(
        None, ["faults.crash_hubs=all", 'faults.plan=[{kind="churn", cycle=3, last_cycle=4, fraction=0.5}]', "model.hidden=[7]"]
    ).resolve(4)
    text = config.to_toml()
    assert Config.from_table(tomllib.loads(text)) == config
    lines = text.splitlines()
    explained = [before.startswith("# ") or "  # " in line for before, line in pairwise(lines) if re.match("[a-z_]+ = ", line)]
    assert all(explained) and len(explained) == sum(len(section) for section in config.to_table().values())


def test_the_file_is_read_and_overridden(tmp_path):
    path = tmp_path / "a file.toml"
    path.write_text("[run]\nnodes = 12\nseed = 3\n")
    config = Config.load(str(path), ["run.seed=4"])
    assert (config.run.nodes, config.run.seed) == (12, 4)
    path.write_text("[run\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        Config.load(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        Config.load(str(tmp_path / "absent.toml"))


def test_the_hash_names_the_configuration():
    one, same, other = (Config.load(None, [f"run.seed={seed}"]).resolve().hash() for seed in (1, 1, 2))
    assert one == same != other and len(one) == 16


def test_the_short_fault_fields_become_events_before_the_plan():
    config = Config.load(None, ["faults.crash_fraction=0.2", "faults.churn_fraction=0.1", 'faults.plan=[{cycle=3, hubs="one"}]'])
    assert config.fault_events() == (
        FaultEvent(kind="crash", cycle=10, fraction=0.2),
        FaultEvent(kind="churn", cycle=10, last_cycle=20, fraction=0.1),
        FaultEvent(kind="crash", cycle=3, hubs="one"),
    )
