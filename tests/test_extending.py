"""docs/extending.md: a user's own topology, rule, averaging rule, data set and model; and how they are refused."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from compare import assert_same, tables
from launch import PREFIXES, ROOT, finish, healmpi, healmpi_mpi, mpirun, python, sets, start
from simulate import execute, in_pieces, simulate

from healmpi.config import Config
from healmpi.extension import find, source_of
from healmpi.launch import run, suite
from healmpi.launch.run import Ranks, Refused, RunFailed
from healmpi.results import info
from healmpi.settings import UsageError

FLAVOURS = ["openmpi", "mpich"]
EXAMPLES = Path(__file__).parent / "extensions"
FILES = sorted(path.name for path in EXAMPLES.glob("*.py"))
DOCS = (ROOT / "docs" / "extending.md").read_text()

# What the runs have in common; the results are audited.
OWN_DATA = ["data.factory=own_data:Counts", "data.options.scaling=log", "model.factory=own_model:Net", "model.options.hidden=4"]
SMALL = ["run.nodes=11", "run.cycles=6", "results.audit=on"]
AUDITED = ["data.dataset=spambase", "results.audit=on"]
HARD = [  # crashes, newcomers and lost messages
    "faults.loss_fraction=0.1",
    'faults.plan=[{cycle=2, nodes=[7], point="after_send"}, {cycle=3, nodes=[0]}, {kind="churn", cycle=4, fraction=0.2}]',
]
TREE = ["topology.factory=tree:Tree", "topology.options.branching=3"]
MEET = ["topology.factory=introductions:Introductions", "topology.options.view_size=4", "topology.options.told=1"]
PULL = ["rule.factory=pull:Pull", "rule.options.asked=3"]
MEDIAN = ["rule.average=median:Median", "rule.average_options.middle=0.4"]
KRUM = ["rule.average=krum:Krum", "rule.average_options.suspects=1"]
ALL = [*SMALL, *OWN_DATA, *MEET, *PULL, *MEDIAN, "model.options.dropout=0.2"]
HUBS = [*OWN_DATA, "run.nodes=11", "run.cycles=6", "results.audit=on"]

RUNS = {
    "tree": [*SMALL, *OWN_DATA, *TREE, "rule.name=epidemic", *HARD],
    "introductions": [*SMALL, *OWN_DATA, *MEET, "rule.name=gossip", "run.warmup_cycles=2", *HARD],
    "pull": [*SMALL, *OWN_DATA, "topology.name=newscast", *PULL, *HARD],
    "all": ALL,
    "all, with faults": [*ALL, *HARD],
    "median among hubs": [*HUBS, "run.algorithm=heal", "elevator.hub_count=3", *MEDIAN, *HARD],
    "krum among hubs": [*HUBS, "run.algorithm=heal", "elevator.hub_count=3", *KRUM, *HARD],
    "median among servers": [*HUBS, "run.algorithm=gaia", "topology.servers=4", *MEDIAN],
    "krum among servers": [*HUBS, "run.algorithm=gaia", "topology.servers=4", *KRUM],
}
NAMES, JOBS = list(RUNS), list(RUNS.values())


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A folder with the examples, those that do wrong as well, and a file of samples for own_data.py."""
    return make_workshop(tmp_path_factory.mktemp("workshop"))


def make_workshop(folder: Path) -> Path:
    for path in EXAMPLES.rglob("*.py"):
        shutil.copy(path, folder)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    np.savez(folder / "counts.npz", counts=rng.poisson(2 + 3 * labels[:, None], (200, 5)), labels=labels)
    return folder


def change(path: Path) -> None:
    """Another file, which does the same."""
    path.write_text(path.read_text() + "# another one\n")


@pytest.fixture
def inside(workshop, monkeypatch) -> Path:
    """The current folder is the workshop."""
    monkeypatch.chdir(workshop)
    return workshop


@pytest.fixture(scope="module")
def alone(workshop, tmp_path_factory) -> list[Path]:
    """The results of all runs in one process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workshop)
        return [execute(job, folder / f"{number}.h5") for number, job in enumerate(JOBS)]


def refused(*overrides: str) -> str:
    """The sentence with which a configuration is refused."""
    with pytest.raises(UsageError) as refusal:
        Config.load(None, overrides).resolve()
    return str(refusal.value)


def assert_refused(done, *words: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that names all these words."""
    assert done.code == 2, (done.code, done.out, done.err)
    (line,) = [line for line in done.err.splitlines() if line.startswith("healmpi: ")]
    assert "Traceback" not in done.err and all(word in line for word in words), line


def assert_failed(done, *words: str) -> None:
    """Exit code 1, and a line on stderr that names all these words, without a traceback."""
    assert done.code == 1 and "Traceback" not in done.err, (done.code, done.err)
    assert any(line.startswith("healmpi: the run has failed") and all(word in line for word in words) for line in done.err.splitlines()), (
        done.err
    )


# The page.


def blocks(language: str) -> list[str]:
    """The fenced blocks of docs/extending.md in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_each_example_as_it_is_and_it_has_less_than_40_lines(name):
    text = (EXAMPLES / name).read_text()
    assert text in blocks("python") and f"`{name}`" in DOCS
    assert len(text.splitlines()) < 40


def test_the_page_shows_no_other_files():
    shown = [block for block in blocks("python") if block.startswith('"""')]
    assert sorted(shown) == sorted((EXAMPLES / name).read_text() for name in FILES)


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: " ".join(re.findall(r'"(.*?)"', block)))
def test_each_configuration_on_the_page_runs(block, inside, tmp_path):
    rng = np.random.default_rng(1)
    np.savez("mine.npz", x=rng.random((50, 3)), y=np.arange(50) % 2)
    Path("mine.csv").write_text("size,age,kind\n" + "".join(f"{n},{n % 7},{'yes' if n % 2 else 'no'}\n" for n in range(50)))
    (tmp_path / "file.toml").write_text(block)
    less = ["run.nodes=9", "run.cycles=2", "results.audit=on"]
    if block.startswith("title"):
        names = [one.name for one in suite.load(str(tmp_path / "file.toml"), less).experiments]
        assert names == [f"{links}-s{seed}" for seed in (1, 2, 3) for links in ("ring", "tree")]
        return
    config = Config.load(str(tmp_path / "file.toml"), [*less, *([] if "[data]" in block else ["data.dataset=spambase"])])
    ranks = Ranks()
    out = run.execute(run.prepare(config.resolve(), ranks), ranks, tmp_path / "out.h5", lambda progress: None)
    assert info.conclusion(out)[0] == []


def test_the_test_of_a_rule_on_the_page_passes(inside, monkeypatch):
    (block,) = [block for block in blocks("python") if "def test_" in block]
    monkeypatch.syspath_prepend(str(inside))
    found: dict = {}
    exec(block, found)
    found["test_a_node_asks_answers_and_averages"]()


# What the examples do.


def made(text: str, **options):
    """An example's class, and its settings with these options."""
    found = find("factory", text)
    return found, found.Settings(**options)


@pytest.mark.parametrize(("nodes", "branching"), [(2, 1), (11, 2), (40, 3)])
def test_a_tree_is_one(nodes, branching, inside):
    kind, settings = made("tree:Tree", branching=branching)
    tree = kind(kind.resolve(settings, nodes), nodes, 1)
    edges = {(node, peer) for node in range(nodes) for peer in tree.links(node)}
    assert all((peer, node) in edges for node, peer in edges) and len(edges) == 2 * (nodes - 1)
    assert all(min(tree.links(node)) < node for node in range(1, nodes)), "each has a parent, so that all hang together"
    assert all(sum(peer > node for peer in tree.links(node)) <= branching for node in range(nodes))


def test_a_graph_with_servers_gives_the_central_rule_its_hubs(inside, tmp_path):
    out = execute(["topology.factory=stars:Two", "run.nodes=8", "run.cycles=3", *AUDITED], tmp_path / "out.h5")
    assert info.conclusion(out)[0] == []
    with h5py.File(out) as file:
        assert file.attrs["hub_count"] == 2 and file["cycles/is_hub"][-1].tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
        assert file["groups/outcome"][:].tolist() == [0] * 6, "both average in each cycle"


def test_what_is_derived_from_what_is_shipped_does_the_same(inside, tmp_path):
    run = ["run.nodes=11", "run.cycles=6", *AUDITED, *HARD]
    shipped = execute([*run, "topology.view_size=5", "elevator.hub_count=3", "rule.group_attempts=2"], tmp_path / "shipped.h5")
    own = ["topology.factory=derived:SameElevator", "topology.options.view_size=5", "topology.options.hub_count=3"]
    own += ["rule.factory=derived:SameCentral", "rule.options.group_attempts=2"]
    assert_same(tables(execute([*run, *own], tmp_path / "own.h5")), tables(shipped), "derived")


def test_introductions_renew_views_and_keep_them_distinct(inside):
    done = simulate(*RUNS["introductions"])
    views = done.column("views")
    for cycle, row in enumerate(views):
        for node, view in enumerate(row):
            known = [peer for peer in view.tolist() if peer >= 0]
            assert len(set(known)) == len(known) <= 4 and node not in known, (cycle, node)
    assert len({views[:, node].tobytes() for node in range(11)}) == 11 and (views[0] != views[-1]).any()


def test_pulled_models_are_those_of_the_peers_that_were_asked(inside):
    done = simulate(*[one for one in RUNS["pull"] if one not in HARD])
    by_name = {kind.name: done.of_kinds("messages_out", kind)[..., 0] for kind in done.config.chosen.kinds}
    assert (by_name["pull_request"] == 3).all(), "each node asks three in each cycle"
    assert by_name["model"].sum() == by_name["pull_request"].sum(), "each request is answered"
    assert done.complaints == [] and done.host.closing.audited
    assert (done.column("staleness") == 0).all()


def test_the_median_is_that_of_numpy_and_the_same_for_any_slice(inside):
    vectors = list(np.random.default_rng(1).standard_normal((9, 30)).astype(np.float32))
    kind, settings = made("median:Median")
    assert np.array_equal(kind(settings)(vectors), np.median(vectors, axis=0))
    middle = kind(kind.Settings(middle=0.5))
    sliced = [middle([vector[low : low + 1] for vector in vectors]) for low in range(30)]
    assert np.array_equal(np.concatenate(sliced), middle(vectors))
    assert np.allclose(kind(kind.Settings(middle=1.0))(vectors), np.mean(vectors, axis=0), atol=1e-6)


def test_krum_takes_one_of_the_many_and_not_the_one_that_is_far_away(inside):
    kind, settings = made("krum:Krum", suspects=1)
    vectors = [np.full(5, value, np.float32) for value in (100.0, 1.0, 1.1, 0.9, 1.2)]
    chosen = kind(settings)(vectors)
    assert any(np.array_equal(chosen, vector) for vector in vectors[1:]) and not any(chosen is vector for vector in vectors)
    assert kind(settings)(vectors[:1]).tolist() == vectors[0].tolist()


# In one process, and on several ranks.


@pytest.mark.parametrize("number", range(len(JOBS)), ids=NAMES)
def test_each_is_valid_in_one_process(number, alone):
    assert info.conclusion(alone[number])[0] == []
    with h5py.File(alone[number]) as file:
        assert file.attrs["audited"] == 1 and np.isfinite(file["cycles/loss"][-1][file["cycles/alive"][-1] != 0]).all()


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_same_bits_on_any_number_of_ranks(flavour, ranks, alone, workshop, tmp_path):
    (tmp_path / "jobs.json").write_text(json.dumps(JOBS))
    # A program of its own, as many.py, has not the current folder in its path: the examples are found all the same.
    command = [*mpirun(flavour, ranks), "-m", "mpi4py", ROOT / "tests" / "many.py", tmp_path / "jobs.json", tmp_path]
    done = finish(start(command, workshop), 300)
    assert done.code == 0, f"exit code {done.code}\n{done.out}\n{done.err}"
    for number, path in enumerate(alone):
        found = tmp_path / f"{number}.h5"
        assert info.conclusion(found)[0] == []
        assert_same(tables(found), tables(path), f"{NAMES[number]} on {ranks} ranks under {flavour}")
        if "among" in NAMES[number]:
            with h5py.File(found) as file:
                assert file["ranks/communicators_created"][:].sum() > 0, f"{NAMES[number]}: no group of hubs of several ranks"


# Options.


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([*TREE, "topology.options.branches=3"], ["topology.options.branches = 3", "unknown key", "branching"]),
        ([*TREE, "topology.options.branching=0"], ["topology.options.branching = 0", "at least 1 and at most 1000"]),
        ([*TREE, "topology.options.branching=wide"], ["topology.options.branching = 'wide'", "a whole number is needed"]),
        ([*TREE, "topology.options.branching=11"], ["topology.options.branching = 11", "less than run.nodes, 11"]),
        ([*TREE, "topology.options=3"], ["topology.options = 3", "a table is needed"]),
        ([*TREE, "topology.name=ring"], ["topology.factory = 'tree:Tree'", "'auto' or 'custom'"]),
        (["topology.name=ring", "topology.options.branching=3"], ["topology.options = {'branching': 3}", "empty unless topology.factory"]),
        (["topology.name=custom"], ["topology.factory = ''", "'module:Name'"]),
        ([*PULL, "rule.options.asked=0"], ["rule.options.asked = 0", "at least 1"]),
        ([*MEDIAN, "rule.average_options.middle=1.5"], ["rule.average_options.middle = 1.5", "at most 1.0"]),
        (["rule.average_options.middle=0.5"], ["rule.average_options", "empty unless rule.average"]),
        ([*OWN_DATA, "data.options.scaling=sqrt"], ["data.options.scaling = 'sqrt'", "'none', 'log'"]),
        ([*OWN_DATA, "model.options.hidden=0"], ["model.options.hidden = 0", "at least 1"]),
        ([*OWN_DATA, "model.options.width=3"], ["model.options.width = 3", "hidden, dropout"]),
    ],
    ids=lambda value: value[-1].replace("=", " ") if " " not in value[-1] else "",
)  # fmt: skip
def test_options_are_checked(overrides, words, inside):
    base = ["run.algorithm=custom", "run.nodes=11"]
    base += [] if any("topology" in one for one in overrides) else ["topology.name=newscast"]
    base += [] if any("rule.factory" in one for one in overrides) else ["rule.name=epidemic"]
    sentence = refused(*base, *overrides)
    assert all(word in sentence for word in words), sentence


def test_a_file_of_ones_own_that_is_missing_is_named_by_its_option(workshop, tmp_path):
    done = healmpi("run", *sets(*RUNS["tree"], "data.options.path=absent.npz"), "-o", tmp_path / "out.h5", cwd=workshop)
    assert_refused(done, "data.options.path = 'absent.npz'", "an existing file")


def test_a_rule_that_needs_hubs_says_which_rules_suit_a_tree(inside):
    sentence = refused(*TREE, "run.algorithm=heal", "run.nodes=11")
    assert all(word in sentence for word in ("topology.factory = 'tree:Tree'", "'central'", "needs hubs", "epidemic, gossip")), sentence


def test_a_dry_run_explains_the_options_and_reads_back_to_the_same(workshop, tmp_path):
    done = healmpi("run", "--dry-run", *sets(*ALL), cwd=workshop)
    assert done.code == 0, done.err
    for lines in (
        ["[topology.options]", "view_size = 4  # Ids in a view.", "told = 1  # Ids that a node passes on in a cycle, besides its own."],
        ["[rule.options]", "asked = 3  # Peers that a node asks in a cycle, at most."],
        ["# How wide the middle is.", "[rule.average_options]", "# Share of the values that count as the middle. 0: the median alone."],
        ["# Where the file is, and what is made of it.", "[data.options]", 'path = "counts.npz"  # The file.'],
        ["# How wide it is.", "[model.options]", "hidden = 4  # Width of the hidden layer."],
    ):
        assert "\n".join(lines) in done.out, lines
    (tmp_path / "again.toml").write_text(done.out)
    again = healmpi("run", "--dry-run", tmp_path / "again.toml", cwd=workshop)
    assert again.code == 0 and again.out == done.out, again.err
    assert "# configuration hash: " in done.out.splitlines()[-1]


# The record.


def test_the_results_say_what_was_used_and_out_of_which_file(alone, inside):
    with h5py.File(alone[NAMES.index("all")]) as file:
        facts, title = dict(file["provenance"].attrs), file.attrs["title"]
    assert title == "introductions:Introductions+pull:Pull"
    expected = {
        "topology": "introductions:Introductions", "rule": "pull:Pull", "average": "median:Median", "data": "own_data:Counts",
        "model": "own_model:Net",
    }  # fmt: skip
    for what, label in expected.items():
        source = source_of(find(what, label))
        assert (facts[what], facts[f"{what}_file"], facts[f"{what}_sha256"]) == (label, source.file, source.sha256)
        assert Path(source.file) == inside / f"{label.partition(':')[0]}.py" and len(source.sha256) == 64
    assert "introductions:Introductions" in info.describe(alone[NAMES.index("all")])


def test_kinds_of_ones_own_are_named_and_counted(alone):
    with h5py.File(alone[NAMES.index("all")]) as file:
        cycles = file["cycles"]
        kinds = [kind.decode() for kind in cycles["kind"][:]]
        assert kinds == ["meet", "pull_request", "model"]
        assert cycles["carries_model"][:].tolist() == [0, 0, 1]
        sent, size = cycles["messages_out"][:], cycles["bytes_out"][:]
        assert (sent[:, :, 0] == 1).all() and (size[:, :, 0] == 32 + 4 * 2).all(), "own id and one other"
        assert (sent[:, :, 1] == 3).all() and (size[:, :, 1] == 3 * 32).all()
        assert (cycles["messages_out"][:].sum((0, 1)) == cycles["messages_in"][:].sum((0, 1))).all()


# Going on.

SUITE = """
title = "Trees"
[base.run]
nodes = 9
cycles = 2
[base.rule]
name = "epidemic"
[base.data]
dataset = "spambase"
[axes.links.tree.topology]
factory = "tree:Tree"
"""


def run_all(folder: Path, flavour: str | None):
    """healmpi run, to go on with what is there, in one process or on two ranks under this MPI."""
    arguments = ["run", *sets(*ALL, *HARD), "-o", "out.h5", "--resume"]
    return healmpi(*arguments, cwd=folder) if flavour is None else healmpi_mpi(flavour, 2, *arguments, cwd=folder)


@pytest.mark.parametrize("flavour", [None, *(pytest.param(flavour, marks=pytest.mark.mpi) for flavour in FLAVOURS)])
def test_a_run_that_was_stopped_gives_the_same_bits(flavour, alone, tmp_path):
    folder, stop = make_workshop(tmp_path), tmp_path / "out.h5.stop"
    for _ in range(2):
        stop.touch()
        assert run_all(folder, flavour).code == 75
    stop.unlink()
    done = run_all(folder, flavour)
    assert done.code == 0 and "going on after 2 of 6 cycles" in done.out, done.err
    assert_same(tables(folder / "out.h5"), tables(alone[NAMES.index("all, with faults")]), "in pieces")


def test_a_run_does_not_go_on_with_another_file(tmp_path):
    folder, stop = make_workshop(tmp_path), tmp_path / "out.h5.stop"
    stop.touch()
    assert run_all(folder, None).code == 75
    stop.unlink()
    text = (folder / "pull.py").read_text()
    change(folder / "pull.py")
    assert_refused(run_all(folder, None), "out.h5.parts cannot be resumed from", "the file of your rule must be", "--force starts again")

    # A file of results is that of this run only while the files are the same.
    (folder / "pull.py").write_text(text)
    assert run_all(folder, None).code == 0
    change(folder / "pull.py")
    assert_refused(run_all(folder, None), "-o", "out.h5", "--force")


def test_a_suite_does_not_take_results_of_another_file_for_its_own(tmp_path):
    folder = make_workshop(tmp_path)
    (folder / "own.toml").write_text(SUITE)
    assert healmpi("suite", "own.toml", "-o", "out", cwd=folder).code == 0
    again = healmpi("suite", "own.toml", "-o", "out", cwd=folder)
    assert again.code == 0 and "1 of them done already" in again.out
    change(folder / "tree.py")
    assert_refused(healmpi("suite", "own.toml", "-o", "out", cwd=folder), "tree.h5", "--force")


# What does not keep to what is asked.


def verdict(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file["summary"].attrs["verdict"])


TOPOLOGIES = {  # factory -> what the sentence says
    "tree": ["'module:Name'"],
    ":Tree": ["'module:Name'"],
    "absent:Tree": ["module 'absent' must be importable", "there is no", "absent.py"],
    "tree:Bush": ["tree.py must have a class Bush below healmpi.overlay.topology.Topology"],
    "pull:Pull": ["pull.py must have a class Pull below healmpi.overlay.topology.Topology"],
    "wrong:BareSettings": ["its Settings must be a class below healmpi.settings.Section", "@dataclass(frozen=True, slots=True)"],
    "wrong:PlainDefault": ["healmpi.settings.option", "width is not"],
    "wrong:LinkedToItself": ["links(0) must be distinct other nodes, 0 to 10", "[0]"],
    "wrong:NoTicks": ["its `ticks` and those of its overlay must be the same", "0 and 1"],
    "wrong:NoKinds": ["its `kinds` and those of its overlay must be the same", "none and meet"],
    "failing:LinksFail": ["must not fail (KeyError: 0)"],
    "failing:ResolveFails": ["its resolve must not fail (RuntimeError: not so)"],
    "failing:ResolvesToNothing": ["its resolve must return its Settings, not NoneType"],
    "failing:CannotBeMade": ["CannotBeMade(settings, nodes, seed) must not fail (ValueError: no)"],
    "failing:KindsAsTexts": ["its `kinds` must be a tuple of healmpi.messages.kind(...)"],
    "failing:SharesKinds": ["its `kinds` must be others than those of the rule; both have model"],
    "failing:ListOption": ["each option of its Settings must be int, float", "widths is something else"],
}


@pytest.mark.parametrize("factory", TOPOLOGIES)
def test_a_topology_that_cannot_be_used_is_refused_in_a_sentence(factory, inside, tmp_path):
    with pytest.raises((UsageError, Refused)) as refusal:
        execute([*SMALL, *OWN_DATA, "rule.name=epidemic", f"topology.factory={factory}"], tmp_path / "out.h5")
    assert all(word in str(refusal.value) for word in (f"topology.factory = {factory!r}", *TOPOLOGIES[factory])), refusal.value
    assert list(tmp_path.iterdir()) == [], "nothing is written"


FILES_THAT_FAIL = {  # what is in the file -> what the sentence says
    "x = 1\nraise RuntimeError('not today')": ["RuntimeError: not today, line 2"],
    "def (": ["SyntaxError", "line 1"],
    "import sys\nsys.exit(3)": ["SystemExit: 3, line 2"],
    "import absent_module": ["ModuleNotFoundError", "absent_module", "line 1"],
    "from healmpi.messages import kind\nkind('model')": ["'model' have another meaning already"],
    "from healmpi.messages import kind\nkind('my kind')": ["'my kind' cannot name a kind of message"],
}


@pytest.mark.parametrize("text", FILES_THAT_FAIL, ids=lambda text: text.splitlines()[-1])
def test_a_file_that_cannot_be_imported_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "fails.py").write_text(text)
    done = healmpi("run", *sets("rule.name=epidemic", "topology.factory=fails:Tree"), "-o", "out.h5", cwd=tmp_path)
    assert_refused(done, "topology.factory = 'fails:Tree'", f"{tmp_path / 'fails.py'} must be importable", *FILES_THAT_FAIL[text])
    assert not (tmp_path / "out.h5.parts").exists()


DATA = {
    "SomethingElse": ["its load(seed) must return a healmpi.learning.data.Dataset, not tuple"],
    "Fails": ["its load(1) must not fail (KeyError: 'x')"],
    "FloatLabels": ["train_y must be int64"],
    "DoubleSamples": ["train_x must be uint8 or float32"],
    "MoreClasses": ["below 2, the classes"],
    "NotFinite": ["must be finite numbers"],
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_data_that_cannot_be_used_are_refused_in_a_sentence(name, inside, tmp_path):
    with pytest.raises(Refused) as refusal:
        execute([*SMALL, *TREE, "rule.name=epidemic", f"data.factory=wrong:{name}"], tmp_path / "out.h5")
    assert all(word in str(refusal.value) for word in (f"data.factory = 'wrong:{name}'", *DATA[name])), refusal.value


LAST = "the `ticks` of its rule are too few"
RUNS_THAT_FAIL = {  # what fails once the run goes on -> what the sentence says
    "rule.factory=wrong:Undeclared": ["a message of kind pull_request, which neither topology nor rule has in its `kinds`"],
    "rule.factory=wrong:TooFewTicks": ["node 0 sets `wake` to a tick after the end of the cycle", LAST],
    "rule.factory=wrong:AnswersInTheLastTick": ["a message of kind model in the last tick of a cycle", LAST],
    "rule.factory=wrong:ToNobody": ["node 0 sends a message of kind pull_request to 11, which is no node: 0 to 10"],
    "rule.factory=wrong:ToANegativeNode": ["to -1, which is no node"],
    "rule.factory=wrong:InTheNameOfAnother": ["in the name of 5"],
    "rule.factory=wrong:OfFloat64": ["float64 [3]: a contiguous float32 vector is needed"],
    "rule.factory=wrong:OfTwoAxes": ["float32 [3, 2]: a contiguous float32 vector is needed"],
    "rule.factory=wrong:OfAList": ["a list: a contiguous float32 vector is needed, or a tuple of ids"],
    "rule.factory=wrong:OfFloats": ["(0.5,): whole numbers of 32 bits are needed"],
    "rule.factory=wrong:OfALargeId": ["(2147483648,): whole numbers of 32 bits are needed"],
    "rule.factory=wrong:NumberedByAFloat": ["0.5", "whole numbers are needed"],
    "rule.factory=wrong:NoAction": ["node 0 returns 'Train', which is no action"],
    "rule.factory=wrong:TrainsAShorterModel": ["node 0 wants to train", "a contiguous float32 vector of 34"],
    "rule.average=wrong:Double": ["Double.average must return float32 [34], as the vectors are, not float64 [34]"],
    "rule.factory=failing:Forgets": ["node 0 leaves its `wake` at a tick that has come"],
    "rule.factory=failing:ReturnsNothing": ["a list of actions is needed"],
    "rule.factory=failing:EntersABadGroup": ["node 0 enters a group with a vector which is float64 [3]"],
    "topology.factory=wrong:SmallerThanItsViews": ["the view of node 0 holds 8 ids: the `view_size` of its topology is 2"],
}


def doing(overrides: str) -> list[str]:
    """A run with this, and with what is needed besides."""
    needed = ["topology.name=newscast"] if "topology" not in overrides else []
    needed += ["rule.name=epidemic"] if "rule.factory" not in overrides else []
    return [*SMALL, *OWN_DATA, "run.algorithm=custom", *needed, overrides]


@pytest.mark.parametrize("overrides", RUNS_THAT_FAIL)
def test_what_must_not_be_done_ends_the_run_in_a_sentence(overrides, inside, tmp_path, capfd):
    """In one process already, where vectors are handed over by reference and most of it would go well."""
    with pytest.raises(RunFailed) as failed:
        execute(doing(overrides), tmp_path / "out.h5")
    assert all(word in str(failed.value) for word in RUNS_THAT_FAIL[overrides]), failed.value
    assert "Traceback" not in capfd.readouterr().err


RAISES = {  # what raises an error of its own once the run goes on -> what the sentence says
    "rule.factory=failing:RuleCannotBeMade": ["LookupError: no rule today"],
    "rule.factory=failing:NewcomersCannotBeMade": ["LookupError: no newcomer today"],
}
CHURN = ["faults.churn_fraction=0.3", "faults.churn_first_cycle=2", "faults.churn_last_cycle=2"]


@pytest.mark.parametrize("overrides", RAISES)
def test_an_error_in_a_users_class_ends_the_run_and_a_suite_goes_on(overrides, inside, tmp_path, capfd):
    with pytest.raises(RunFailed) as failed:
        execute([*doing(overrides), *CHURN], tmp_path / "out.h5")
    assert all(word in str(failed.value) for word in RAISES[overrides]), failed.value
    assert "Traceback" in capfd.readouterr().err, "where it happened"
    assert verdict(execute([*doing("rule.factory=pull:Pull"), *CHURN], tmp_path / "next.h5")) == "VALID"


GROUPS = {  # what goes wrong inside a hub group, where all have to go on
    "failing:FailsForTwo": "ArithmeticError: two are too few",
    "failing:DoubleForTwo": "DoubleForTwo.average must return float32",
}


@pytest.mark.mpi
@pytest.mark.parametrize("average", GROUPS)
@pytest.mark.parametrize("ranks", [1, 3])
def test_an_average_that_fails_inside_a_hub_group_ends_the_run_on_all_ranks(average, ranks, workshop, tmp_path):
    servers = sets(*SMALL, *OWN_DATA, "run.algorithm=gaia", "topology.servers=2", f"rule.average={average}")
    done = healmpi_mpi("openmpi", ranks, "run", *servers, "-o", tmp_path / "out.h5", cwd=workshop, timeout_s=60)
    assert done.code == 1 and f"healmpi: the run has failed: rank 0: {GROUPS[average].split()[0]}" in done.err.replace("Misuse: ", ""), done
    assert GROUPS[average] in done.err


@pytest.mark.mpi
def test_a_kind_has_its_name_in_one_process_and_over_mpi(workshop, tmp_path):
    run = ["run", *sets(*doing("rule.factory=failing:NamesKinds"))]
    assert healmpi_mpi("openmpi", 2, *run, "-o", tmp_path / "out.h5", cwd=workshop).code == 0


def test_a_rule_without_a_record_in_every_cycle_is_not_audited(inside, tmp_path):
    path = execute([*doing("rule.factory=failing:KeepsRecordsAtTimes"), "results.audit=on"], tmp_path / "out.h5")
    with h5py.File(path) as file:
        assert (file["summary"].attrs["verdict"], int(file.attrs["audited"])) == ("VALID", 0)


def test_a_data_set_whose_model_does_not_exist_is_refused(inside, tmp_path):
    with pytest.raises(UsageError, match=r"data\.factory = 'failing:NoSuchModel' is not allowed: a data set whose `model` is one of"):
        execute(["topology.factory=tree:Tree", "rule.name=epidemic", "data.factory=failing:NoSuchModel"], tmp_path / "out.h5")


def test_options_of_ones_own_are_named_where_they_stand_and_nowhere_else(inside):
    derived = ["topology.factory=derived:SameElevator"]
    assert "topology.options.hub_count = 99" in refused(*derived, "topology.options.hub_count=99")
    assert "elevator.hub_count = 3 is not allowed" in refused(*derived, "elevator.hub_count=3")


def test_a_vector_that_was_sent_cannot_be_changed(inside, tmp_path):
    with pytest.raises(RunFailed, match="read-only"):
        execute(doing("rule.factory=wrong:ChangesWhatItSent"), tmp_path / "out.h5")


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_under_mpirun_the_same_sentence_ends_all_ranks(flavour, workshop, tmp_path):
    done = healmpi_mpi(flavour, 2, "run", *sets(*doing("rule.factory=wrong:Undeclared")), "-o", tmp_path / "out.h5", cwd=workshop)
    assert_failed(done, "a message of kind pull_request, which neither topology nor rule has in its `kinds`")
    assert done.err.count("pull_request") == 1, done.err


def test_a_state_that_cannot_be_saved_ends_the_run_when_it_is_saved(workshop, tmp_path):
    run = ["run", *sets(*doing("rule.factory=wrong:CannotBeSaved")), "-o", tmp_path / "out.h5"]
    done = healmpi(*run, "--checkpoint-every", "2", cwd=workshop)
    assert_failed(done, "the state of nodes cannot be saved: CannotBeSaved.late is of type function", "state() and restore() of its own")


@pytest.mark.parametrize("rule", ["smoothed:Smoothed", "wrong:RestoresNothing"])
def test_a_state_of_ones_own_is_what_a_run_goes_on_with(rule, inside, tmp_path):
    overrides = [*SMALL, *OWN_DATA, "topology.name=newscast", f"rule.factory={rule}", *HARD]
    whole, pieces = execute(overrides, tmp_path / "whole.h5"), in_pieces(overrides, tmp_path, [1, 2, 4])
    if rule.startswith("wrong"):
        with pytest.raises(AssertionError, match="differs"):
            assert_same(tables(whole), tables(pieces), rule)
    else:
        assert_same(tables(whole), tables(pieces), rule)


def test_what_a_restore_of_ones_own_raises_ends_the_run_on_all_ranks(inside, tmp_path):
    overrides = [*SMALL, *OWN_DATA, "topology.name=newscast", "rule.factory=wrong:CannotRestore"]
    with pytest.raises(RunFailed, match="rank 0: KeyError: 'past'"):
        in_pieces(overrides, tmp_path, [1])


# Where files are looked for.


@pytest.mark.parametrize("name", ["test", "numpy"])
def test_a_file_is_found_whatever_else_is_called_like_it(name, tmp_path):
    shutil.copy(EXAMPLES / "tree.py", tmp_path / f"{name}.py")
    # The command, as it is installed, has not the current folder in its path.
    command = [PREFIXES["openmpi"] / "bin" / "healmpi", "run", "-o", "out.h5", *sets("run.nodes=9", "run.cycles=2")]
    choice = sets("rule.name=epidemic", f"topology.factory={name}:Tree", "data.dataset=spambase")
    done = finish(start([*command, *choice], tmp_path), 60)
    assert done.code == 0, done.err
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["provenance"].attrs["topology_file"] == str(tmp_path / f"{name}.py")


def test_a_class_of_an_installed_package_is_found_by_its_full_name(inside):
    config = Config.load(None, ["topology.factory=healmpi.overlay.ring:Ring", "rule.name=epidemic"]).resolve()
    assert config.title == "healmpi.overlay.ring:Ring+epidemic" and config.run.algorithm == "custom"


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_two_ranks_with_different_files_are_refused(flavour, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        make_workshop(folder)
    change(folders[1] / "tree.py")
    launcher = mpirun(flavour, 2)[0]
    run = ["-m", "mpi4py", "-m", "healmpi", "run", *sets(*RUNS["tree"]), "-o", tmp_path / "out.h5"]
    one, two = (["-n", 1, "-wdir", folder, python(flavour), *run] for folder in folders)
    done = finish(start([launcher, *one, ":", *two], tmp_path), 60)
    assert_refused(done, "topology_sha256 = ", "the same on every rank", "rank 1 has", "rank 0")


@pytest.mark.mpi
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_is_drawn_without_the_seed_is_refused_on_several_ranks(flavour, workshop, tmp_path):
    base = ["run", *sets("run.nodes=9", "run.cycles=1"), "-o", tmp_path / "out.h5"]
    drawn = sets("topology.factory=wrong:Drawn", "rule.name=epidemic", "data.dataset=spambase")
    links = healmpi_mpi(flavour, 2, *base, *drawn, cwd=workshop)
    assert_refused(links, "topology.factory: links = ", "the same on every rank")
    samples = healmpi_mpi(flavour, 2, *base, *sets("data.factory=wrong:Noise"), cwd=workshop)
    assert_refused(samples, "data.dataset = 'wrong:Noise'", "the same samples on every rank")
