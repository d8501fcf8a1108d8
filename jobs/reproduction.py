"""Makes docs/reproduction.md out of results files: published and measured side by side. Takes seconds.

    healmpi suite A -o out/A --only 'spambase-*'     and whichever of the suites named in the page, each into a folder of its own
    python jobs/reproduction.py out > docs/reproduction.md

Reads every results file under the folder; what was run is told from the configuration inside, not from names. A table without
runs is left out. Published numbers: HEAL (arXiv 2605.27475) and M. A. Legheraba's PhD thesis; Elevator (arXiv 2406.07946).
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

ALGORITHMS = ("federated", "gaia", "gossip", "epidemic", "ring", "chord", "fedlay", "heal")

FINAL = {  # published: Spambase, MNIST
    "federated": (".9087", ".9742"), "gaia": (".8826", ".9442"), "gossip": (".8322", ".7098"), "epidemic": (".9111", ".9548"),
    "ring": (".9076", ".9499"), "chord": (".9063", ".9542"), "fedlay": (".9056", ".9639"), "heal": (".9001", ".9687"),
}  # fmt: skip
CYCLES = {  # published: Spambase .85/.90, MNIST .85/.90/.95
    "federated": ("2/135", "22/37/91"), "gaia": ("6/-", "13/28/88"), "gossip": ("-/-", "-/-/-"), "epidemic": ("12/25", "90/137/372"),
    "ring": ("13/141", "74/157/569"), "chord": ("12/27", "98/159/451"), "fedlay": ("12/26", "89/136/422"), "heal": ("4/339", "15/27/76"),
}  # fmt: skip
MESSAGES = {"federated": 198, "gaia": 210, "gossip": 100, "epidemic": 1000, "ring": 200, "chord": 1000, "fedlay": 956, "heal": 210}
CRASHED = {  # published: MNIST, accuracy at cycle 200
    ("heal", "20 %"): ".9658", ("heal", "30 %"): ".9178", ("heal", "40 %"): ".8987", ("heal", "50 %"): ".8719",
    ("heal", "one hub"): ".9638", ("heal", "all hubs"): ".9629", ("gaia", "20 %"): ".9637", ("chord", "20 %"): ".9520",
    ("fedlay", "20 %"): ".9563", ("fedlay", "30 %"): ".9540", ("fedlay", "40 %"): ".9521", ("fedlay", "50 %"): ".9537",
}  # fmt: skip
CHURNED = {  # published: MNIST, final accuracy and mean drop
    ("heal", "churn 10 %"): ".9507/.0955", ("heal", "churn 20 %"): ".9477/.1777", ("heal", "churn 30 %"): ".9500/.2767",
    ("fedlay", "churn 10 %"): ".9510/.0045", ("fedlay", "churn 20 %"): ".9505/.0140", ("fedlay", "churn 30 %"): ".9501/.0232",
}  # fmt: skip
ELEVATOR = {("h", 1): 7, ("h", 5): 6, ("h", 10): 5, ("h", 20): 3, ("c", 10): 4, ("c", 15): 5}
ELEVATOR_SIZES = {100: 5, 200: 4, 500: 5, 1000: 5}


@dataclass(frozen=True)
class Run:
    """One results file. accuracy, settled: mean over live nodes by evaluated cycle, in the latter without nodes younger than a cycle."""

    path: Path
    config: dict
    valid: bool
    cycles: np.ndarray
    accuracy: np.ndarray
    settled: np.ndarray
    models: float
    live: int
    isolated: float  # share of the live nodes that took in nobody's model in the last cycle

    def __getitem__(self, name: str):
        section, _, field = name.partition(".")
        return self.config[section][field]

    @property
    def final(self) -> float:
        return float(self.accuracy[-1])

    def at(self, cycle: int) -> float:
        """Accuracy in the last evaluated cycle up to this one."""
        return float(self.accuracy[np.searchsorted(self.cycles, cycle, side="right") - 1])

    def cycles_to(self, target: float) -> int | None:
        reached = np.flatnonzero(self.accuracy >= target - 1e-7)
        return int(self.cycles[reached[0]]) if reached.size else None


def read(path: Path) -> Run | None:
    with h5py.File(path) as file:
        if file.attrs.get("schema") != "healmpi-results":
            return None
        config = json.loads(file["config"].attrs["json"])
        group = file["cycles"]
        cycle, alive = group["cycle"][:], group["alive"][:] != 0
        accuracy, incarnation = group["accuracy"][:].astype(np.float64), group["incarnation"][:]
        before = np.vstack([np.zeros_like(incarnation[:1]), incarnation[:-1]])
        judged = alive & ~np.isnan(accuracy)
        rows = judged.any(axis=1)
        settled = judged & (incarnation == before)
        kinds = [kind.decode() for kind in group["kind"][:]]
        columns = [kinds.index(name) for name in ("model", "global_model", "group_reduction")]
        # From cycle 20 on views agree, where anything has to be agreed on.
        late = np.flatnonzero(cycle >= min(20, cycle[-1]))[:50]
        models = group["messages_out"][late[0] : late[-1] + 1][:, :, columns].sum() / len(late)
        stale = group["staleness"][-1][alive[-1]]
        valid = file["summary"].attrs["verdict"] == "VALID"
        return Run(
            path, config, valid, cycle[rows], _means(accuracy, judged)[rows], _means(accuracy, settled)[rows], float(models),
            int(alive[-1].sum()), float((stale != 0).mean()) if stale.size else 1.0,
        )  # fmt: skip


def _means(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    counts = chosen.sum(axis=1)
    return np.divide(np.where(chosen, values, 0).sum(axis=1), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def scenario(run: Run) -> str:
    """The faults in a few words."""
    faults = run.config["faults"]
    words = []
    only = " of the workers" if faults["spare_hubs"] else ""
    if faults["crash_fraction"]:
        words.append(f"{faults['crash_fraction']:.0%}".replace("%", " %") + only)
    if faults["crash_hubs"] != "none":
        words.append({"one": "one hub", "all": "all hubs"}[faults["crash_hubs"]])
    if faults["crash_best_connected"]:
        words.append(f"{faults['crash_best_connected']} best connected")
    if faults["churn_fraction"]:
        words.append(f"churn {faults['churn_fraction']:.0%}".replace("%", " %") + only)
    if faults["loss_fraction"]:
        words.append(f"loss {faults['loss_fraction']:.0%}".replace("%", " %"))
    return ", ".join(words) or "none"


def skew(run: Run) -> str:
    kind = run["data.partition"]
    return {"iid": "IID", "dirichlet": f"Dirichlet {run['data.alpha']:g}", "shards": f"{run['data.shards_per_node']} label shards"}[kind]


# Text.


def spread(values: Iterable[float], digits: int = 4) -> str:
    """Mean and standard deviation over seeds, as .9012 +- .0034 (5)."""
    values = [value for value in values if not np.isnan(value)]
    if not values:
        return "-"
    deviation = f" +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    text = f"{statistics.mean(values):.{digits}f}{deviation} ({len(values)})"
    return re.sub(r"\b0\.", ".", text)


def reached(runs: Sequence[Run], target: float) -> str:
    """Median of the cycles to an accuracy; in brackets how many runs came so far, if not all."""
    found = [cycles for run in runs if (cycles := run.cycles_to(target)) is not None]
    if not found:
        return "-"
    short = f" ({len(found)} of {len(runs)})" if len(found) < len(runs) else ""
    return f"{statistics.median(found):g}{short}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


class Library:
    """All runs, and choices of them."""

    def __init__(self, runs: Sequence[Run]):
        self.runs = [run for run in runs if run.valid]

    def where(self, check: Callable[[Run], bool] = lambda run: True, **fields) -> list[Run]:
        """Those with these values; field names with __ for the dot."""
        wanted = {name.replace("__", "."): value for name, value in fields.items()}
        found = [run for run in self.runs if all(run[name] == value for name, value in wanted.items()) and check(run)]
        cells: dict[tuple, list[Run]] = {}
        for run in found:
            cells.setdefault(_cell(run), []).append(run)
        return [run for cell in cells.values() for run in one_a_seed(cell)]

    def of(self, algorithm: str, **fields) -> list[Run]:
        return self.where(run__algorithm=algorithm, **fields)


def published(run: Run) -> bool:
    """The published sizes, IID."""
    sizes = (run["run.nodes"], run["elevator.hub_count"], run["data.partition"])
    usual = run["run.algorithm"] != "heal" or (run["topology.view_size"], run["rule.fanout"]) == (20, 1)
    return sizes == (100, 5, "iid") and usual


def plain(run: Run) -> bool:
    """No faults, and the published sizes."""
    return scenario(run) == "none" and published(run)


def one_a_seed(runs: Iterable[Run]) -> list[Run]:
    """Runs of one cell: of those with the same seed the one that was judged most often."""
    best: dict[tuple, Run] = {}
    for run in runs:
        key = (run["run.seed"], run["run.cycles"])
        if key not in best or len(run.cycles) > len(best[key].cycles):
            best[key] = run
    return list(best.values())


def longest(runs: Sequence[Run]) -> list[Run]:
    """Of runs of different length those of the longest."""
    most = max((run["run.cycles"] for run in runs), default=0)
    return [run for run in runs if run["run.cycles"] == most]


def _cell(run: Run) -> tuple:
    """What tells runs apart that are more than seeds of each other; how often they were judged is not of it."""
    sections = ("data", "model", "learner", "topology", "rule", "elevator", "faults")
    names = (run["run.algorithm"], run["run.nodes"], run["run.cycles"], scenario(run))
    learning = {name: run.config[name] for name in sections}
    return (*names, json.dumps({**learning, "faults": None if scenario(run) == "none" else learning["faults"]}, sort_keys=True))


def fault_free(library: Library, dataset: str, targets: Sequence[float], column: int, title: str) -> list[str]:
    found = {
        (name, start): longest(library.of(name, data__dataset=dataset, model__initial=start, check=plain))
        for name in ALGORITHMS for start in ("common", "independent")
    }  # fmt: skip
    if not any(found.values()):
        return []
    starts = [start for start in ("common", "independent") if any(found[name, start] for name in ALGORITHMS)]
    lengths = {start: max((one["run.cycles"] for name in ALGORITHMS for one in found[name, start]), default=0) for start in starts}
    head = ["", "published, cycle 1000"] + [f"{start} start, cycle {lengths[start]}" for start in starts]
    label = "/".join(f".{round(target * 100)}" for target in targets)
    head += [f"published to {label}"] + [f"{start}: to {label}" for start in starts]
    rows = []
    known = dataset != "fashion-mnist"
    for name in ALGORITHMS:
        if not known and not any(found[name, start] for start in starts):
            continue
        row = [
            name,
            FINAL[name][column] if known else "-",
            *(spread(run.final for run in found[name, start]) for start in starts),
            CYCLES[name][column] if known else "-",
        ]
        row += [" / ".join(reached(found[name, start], target) for target in targets) if found[name, start] else "" for start in starts]
        rows.append(row)
    return [f"### {title}", "", *table(head, rows)]


def messages(library: Library) -> list[str]:
    rows = []
    for name in ALGORITHMS:
        runs = library.of(name, check=plain)
        if runs:
            rows.append([name, str(MESSAGES[name]), spread((run.models for run in runs), 1)])
    return ["## Models sent in a cycle", "", *table(["", "published", "measured"], rows)] if rows else []


SCENARIOS = (
    "none", "20 %", "30 %", "40 %", "50 %", "20 % of the workers", "one hub", "all hubs", "10 best connected", "churn 10 %",
    "churn 20 %", "churn 30 %", "churn 10 % of the workers", "loss 10 %",
)  # fmt: skip


def faults(library: Library, dataset: str, cycles: int, title: str) -> list[str]:
    """Accuracy at the end, algorithms down, scenarios across; crashes and the rest in two tables."""
    chosen = library.where(published, data__dataset=dataset, run__cycles=cycles, model__initial="common")
    by = {}
    for run in chosen:
        by.setdefault((run["run.algorithm"], scenario(run)), []).append(run)
    lines = []
    for names in (SCENARIOS[:5], SCENARIOS[:1] + SCENARIOS[5:9], SCENARIOS[13:]):
        present = [name for name in names if any((algorithm, name) in by for algorithm in ALGORITHMS)]
        if set(present) <= {"none"}:
            continue
        rows = []
        for algorithm in ALGORITHMS:
            cells = []
            for name in present:
                known = CRASHED.get((algorithm, name), "") if dataset != "spambase" else ""
                cells.append(spread(run.final for run in by.get((algorithm, name), [])) + (f" [{known}]" if known else ""))
            if any(cell != "-" for cell in cells):
                rows.append([algorithm, *cells])
        lines += table(["", *present], rows)
    if not lines:
        return []
    return [f"### {title}", "", f"Accuracy at cycle {cycles}; in square brackets the published one (MNIST, cycle 200).", "", *lines]


def churn(library: Library, dataset: str, title: str) -> list[str]:
    rows = []
    for algorithm in ALGORITHMS:
        for name in SCENARIOS[9:13]:
            runs = library.of(algorithm, data__dataset=dataset, check=lambda run, name=name: published(run) and scenario(run) == name)
            if runs:
                drops = (spread(_drop(run, which(run)) for run in runs) for which in (lambda run: run.accuracy, lambda run: run.settled))
                rows.append([algorithm, name, CHURNED.get((algorithm, name), ""), spread(run.final for run in runs), *drops])
    if not rows:
        return []
    head = ["", "scenario", "published: final/mean drop", "final", "mean drop, all nodes", "mean drop, nodes older than a cycle"]
    text = "The drop: accuracy in the cycle before churn minus the mean of that in its cycles. Newcomers carry random models."
    return [f"### {title}", "", text, "", *table(head, rows)]


def _drop(run: Run, accuracy: np.ndarray) -> float:
    first, last = run["faults.churn_first_cycle"], run["faults.churn_last_cycle"]
    inside = (run.cycles >= first) & (run.cycles <= last)
    return run.at(first - 1) - float(np.nanmean(accuracy[inside]))


def skewed(library: Library) -> list[str]:
    chosen = library.where(lambda run: run["data.dataset"] == "mnist10k" and scenario(run) in ("none", "30 %"), run__nodes=100)
    kinds = ("IID", "Dirichlet 0.5", "Dirichlet 0.1", "2 label shards")
    by = {}
    for run in chosen:
        if run["run.cycles"] == 100 and run["model.initial"] == "common":
            by.setdefault((run["run.algorithm"], skew(run), scenario(run)), []).append(run)
    lines = []
    for name in ("none", "30 %"):
        rows = [[one, *(spread(run.final for run in by.get((one, kind, name), [])) for kind in kinds)] for one in ALGORITHMS]
        rows = [row for row in rows if any(cell != "-" for cell in row[2:])]
        if rows:
            lines += [f"Crash: {name}.", "", *table(["", *kinds], rows)]
    return ["## Skewed labels (not published)", "", "Digits (`mnist10k`), LeNet5, accuracy at cycle 100.", "", *lines] if lines else []


def hub_sweep(library: Library) -> list[str]:
    by = {}
    for run in library.of("heal", data__dataset="spambase", topology__view_size=30):
        by.setdefault((run["elevator.hub_count"], run["rule.fanout"]), []).append(run)
    if not by:
        return []
    cycles = max(run["run.cycles"] for runs in by.values() for run in runs)
    rows = []
    for hubs in sorted({hubs for hubs, _ in by}):
        half = next((runs for (h, s), runs in by.items() if h == hubs and s > 1), [])
        rows.append([str(hubs), *(cell for runs in (by.get((hubs, 1), []), half) for cell in
                     (spread(run.final for run in runs), reached(runs, 0.85) if runs else "-"))])  # fmt: skip
    head = ["h", "s = 1", "to .85", "s = h/2", "to .85"]
    text = f"Spambase, {cycles} cycles (published: 2000; almost no effect, a slight drop at large h, since hubs do not train)."
    return ["## Hub sweep", "", text, "", *table(head, rows)]


# Elevator.


@dataclass(frozen=True)
class Overlay:
    """Views of a run of the overlay alone. hubs: nodes in all live views, by cycle. live: by cycle."""

    config: dict
    hubs: np.ndarray
    live: np.ndarray
    metrics: dict[
        int, tuple[float, float, float, float, float]
    ]  # cycle -> in-degree (mean, deviation) of the rest, diameter, path, clustering


def is_overlay(path: Path) -> bool:
    """Whether it is a whole run of Elevator alone."""
    with h5py.File(path) as file:
        if file.attrs.get("schema") != "healmpi-results" or file["summary"].attrs["verdict"] != "VALID":
            return False
        config = json.loads(file["config"].attrs["json"])
        return config["rule"]["name"] == "none" and config["topology"]["name"] == "elevator" and len(file["overlay/cycle"]) > 0


def read_overlay(path: Path, looked_at: Sequence[int]) -> Overlay:
    with h5py.File(path) as file:
        config = json.loads(file["config"].attrs["json"])
        alive, views, cycles = file["cycles/alive"][:] != 0, file["overlay/views"], file["overlay/cycle"][:]
        hubs, metrics = [], {}
        for row, cycle in enumerate(cycles):
            live = np.flatnonzero(alive[row])
            view = views[row][live]
            counts = np.bincount(view[view >= 0], minlength=alive.shape[1])[live]
            hubs.append(int((counts == len(live)).sum()))
            if cycle in looked_at or row == len(cycles) - 1:
                metrics[int(cycle)] = _graph(live, view, counts)
        return Overlay(config, np.array(hubs), alive.sum(axis=1), metrics)


def _graph(live: np.ndarray, view: np.ndarray, counts: np.ndarray) -> tuple[float, float, float, float, float]:
    place = {node: index for index, node in enumerate(live.tolist())}
    size = len(live)
    linked = np.zeros((size, size), np.float32)
    for row, peers in enumerate(view.tolist()):
        linked[row, [place[peer] for peer in peers if peer in place]] = 1
    linked = np.maximum(linked, linked.T)
    np.fill_diagonal(linked, 0)
    known, hops, step = np.eye(size, dtype=bool), np.zeros((size, size)), 0
    while True:
        step += 1
        new = (known.astype(np.float32) @ linked > 0) & ~known
        if not new.any():
            break
        hops[new] = step
        known |= new
    degree = linked.sum(axis=1)
    possible = degree * (degree - 1)
    triangles = ((linked @ linked) * linked).sum(axis=1)
    clustering = np.divide(triangles, possible, out=np.zeros_like(degree), where=possible > 0).mean()
    rest = counts[counts < size]
    diameter = float(hops.max()) if known.all() else float("inf")
    return float(rest.mean()), float(rest.std()), diameter, float(hops.sum() / (size * (size - 1))), float(clustering)


def elevator(paths: Sequence[Path]) -> list[str]:
    overlays = [read_overlay(path, (15, 29, 30, 31, 32, 35, 40)) for path in paths]
    if not overlays:
        return []
    still = [one for one in overlays if _quiet(one)]
    rows = []
    for label, published, fits in _elevator_rows():
        runs = [one for one in still if fits(one.config)]
        if runs:
            rows.append([label, str(published), ", ".join(str(_settling(one)) for one in runs)])
    lines = ["## Elevator", "", "Cycles until h hubs stand in every view (lockstep; one number a seed):", ""]
    lines += table(["n, c, h", "published", "measured"], rows)
    large = [one for one in overlays if one.config["run"]["nodes"] == 1000 and one.config["elevator"]["hub_count"] == 10]
    rows = []
    for name in ("none", "crash50", "hubs", "churn10"):
        runs = [one for one in large if _fault(one.config) == name]
        for one in runs:
            last = max(one.metrics)
            mean, deviation, diameter, path, clustering = one.metrics[last]
            widest = max(value[2] for value in one.metrics.values())
            rows.append([name, str(one.config["run"]["seed"]), str(int(one.live[-1])), str(int(one.hubs[-1])), _again(one),
                         f"{mean:.1f} +- {deviation:.1f}", f"{diameter:g} ({widest:g})", f"{path:.2f}", f"{clustering:.2f}"])  # fmt: skip
    if rows:
        lines += ["n = 1000, c = 20, h = 10, in the last cycle; published: in-degree of hubs n, diameter 2, path below 2, clustering"]
        lines += ["about .6, h hubs again after every fault, diameter at most 3.25 under churn:", ""]
        head = [
            "faults",
            "seed",
            "live",
            "hubs",
            "h hubs again after",
            "in-degree of the others",
            "diameter (largest seen)",
            "path",
            "clustering",
        ]
        lines += table(head, rows)
    return lines


def _elevator_rows():
    for (kind, number), published in ELEVATOR.items():
        h = number if kind == "h" else {10: 5, 15: 7}[number]
        c = 20 if kind == "h" else number
        yield f"1000, {c}, {h}", published, lambda config, c=c, h=h: _sizes(config) == (1000, c, h)
    for n, published in ELEVATOR_SIZES.items():
        if n < 1000:
            yield f"{n}, 20, 10", published, lambda config, n=n: _sizes(config) == (n, 20, 10)


def _sizes(config: dict) -> tuple[int, int, int]:
    return config["run"]["nodes"], config["topology"]["view_size"], config["elevator"]["hub_count"]


def _fault(config: dict) -> str:
    section = config["faults"]
    if section["churn_fraction"]:
        return "churn10"
    if section["crash_hubs"] != "none":
        return "hubs"
    return "crash50" if section["crash_fraction"] else "none"


def _quiet(one: Overlay) -> bool:
    return _fault(one.config) == "none"


def _settling(one: Overlay) -> int | str:
    wanted = one.config["elevator"]["hub_count"]
    enough = np.flatnonzero(one.hubs >= wanted)
    return int(enough[0]) + 1 if enough.size else f"more than {len(one.hubs)}"


def _again(one: Overlay) -> str:
    """Cycles from the fault on until h hubs stand again."""
    fault = {"crash50": one.config["faults"]["crash_cycle"], "hubs": one.config["faults"]["crash_cycle"]}.get(_fault(one.config))
    if fault is None:
        return ""
    enough = np.flatnonzero(one.hubs[fault - 1 :] >= one.config["elevator"]["hub_count"])
    return f"{int(enough[0]) + 1} cycles" if enough.size else f"not within {len(one.hubs) - fault + 1}"


# Claims.


def claims(library: Library) -> list[str]:
    lines = ["## The claims, in so many words", ""]
    lines += _compare(library, "HEAL is like federated when nothing fails", "heal", ["federated"], ["none"], "within")
    hard = ["20 %", "30 %", "40 %", "50 %", "churn 10 %", "churn 20 %", "churn 30 %"]
    lines += _compare(
        library, "HEAL is better than gossip and epidemic under crashes and churn", "heal", ["gossip", "epidemic"], hard, "above"
    )
    lines += _compare(
        library, "Fedlay overtakes HEAL from 30 % crashed nodes on", "fedlay", ["heal"], ["20 %", "30 %", "40 %", "50 %"], "above"
    )
    lines += _server_death(library)
    return lines


def _compare(library: Library, claim: str, mine: str, others: Sequence[str], names: Sequence[str], how: str) -> list[str]:
    rows = []
    for dataset in ("spambase", "mnist", "mnist10k"):
        for name in names:
            for other in others:
                pairs = _pairs(library, dataset, name, mine, other)
                if pairs:
                    gaps = [one.final - two.final for one, two in pairs]
                    area = [float(np.nanmean(one.accuracy[:n]) - np.nanmean(two.accuracy[:n])) for one, two in pairs
                            for n in [min(len(one.accuracy), len(two.accuracy))]]  # fmt: skip
                    rows.append([dataset, name, f"{mine} - {other}", _signed(gaps), _signed(area), _judged(gaps, how)])
    head = ["data", "faults", "", "at the end", "mean over all cycles", "at the end"]
    return [f"**{claim}.** Difference of accuracies, pairs of runs with the same seed:", "", *table(head, rows)] if rows else []


def _pairs(library: Library, dataset: str, name: str, mine: str, other: str) -> list[tuple[Run, Run]]:
    def chosen(algorithm):
        runs = library.of(algorithm, data__dataset=dataset, model__initial="common", check=published)
        return {(run["run.seed"], run["run.cycles"]): run for run in runs if scenario(run) == name}

    ours, theirs = chosen(mine), chosen(other)
    both = sorted(ours.keys() & theirs.keys())
    length = max((cycles for _, cycles in both), default=0)
    return [(ours[key], theirs[key]) for key in both if key[1] == length]


def _signed(values: Sequence[float]) -> str:
    deviation = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.4f}{deviation} ({len(values)})"


def _judged(gaps: Sequence[float], how: str) -> str:
    """One percent of accuracy is what counts as a difference here: smaller ones are within a test set's error."""
    middle = statistics.mean(gaps)
    if how == "within":
        return "holds: within .01" if abs(middle) <= 0.01 else "does not hold"
    return "holds" if middle > 0.01 else "within .01" if middle >= -0.01 else "the reverse"


def _server_death(library: Library) -> list[str]:
    rows = []
    for dataset in ("spambase", "mnist10k"):
        for algorithm in ("federated", "gaia", "heal"):
            runs = longest([run for run in library.of(algorithm, data__dataset=dataset, data__partition="iid", model__initial="common")
                            if scenario(run) == "all hubs"])  # fmt: skip
            before = [run for run in library.of(algorithm, data__dataset=dataset, check=plain) if runs and
                      run["run.cycles"] == runs[0]["run.cycles"] and run["model.initial"] == "common"]  # fmt: skip
            if runs:
                crash = runs[0]["faults.crash_cycle"]
                ends = (spread(run.final for run in some) for some in (runs, before))
                alone = f"{statistics.mean(run.isolated for run in runs):.0%}".replace("%", " %")
                rows.append([dataset, algorithm, spread(run.at(crash - 1) for run in runs), *ends, alone])
    head = ["data", "", "before the death", "at the end", "at the end without a fault", "nodes that hear of nobody at the end"]
    return ["**Federated dies with its server.** All servers or hubs die in cycle 10:", "", *table(head, rows)] if rows else []


def main() -> None:
    root = Path(sys.argv[1])
    paths = sorted(path for path in root.rglob("*.h5") if not path.parent.name.endswith(".parts"))
    overlays = [path for path in paths if is_overlay(path)]
    library = Library([run for path in paths if path not in overlays and (run := read(path)) is not None])
    lines = [INTRODUCTION.format(runs=len(library.runs) + len(overlays)), "## Without faults", ""]
    lines += fault_free(library, "spambase", (0.85, 0.90), 0, "Spambase, logistic regression")
    lines += fault_free(library, "mnist", (0.85, 0.90, 0.95), 1, "MNIST, 60 000 digits, LeNet5")
    lines += fault_free(library, "mnist10k", (0.85, 0.90, 0.95), 1, "Digits, the 10 000 that are embedded, LeNet5 (published: full MNIST)")
    lines += fault_free(library, "fashion-mnist", (0.70, 0.80), 1, "Fashion-MNIST, LeNet5 (nothing published)")
    lines += messages(library)
    crashes = faults(library, "spambase", 200, "Spambase")
    for cycles in (100, 200):
        crashes += faults(library, "mnist10k", cycles, f"Digits, the 10 000 that are embedded, {cycles} cycles")
    lines += (["## Crashes and loss", "", CRASH_TEXT, "", *crashes]) if crashes else []
    churned = churn(library, "spambase", "Spambase") + churn(library, "mnist10k", "Digits")
    lines += (["## Churn", "", *churned]) if churned else []
    lines += skewed(library) + hub_sweep(library) + elevator(overlays) + claims(library)
    comments = Path(__file__).with_name("reproduction-comments.md")
    if comments.exists():
        lines += [comments.read_text(encoding="utf-8").rstrip(), ""]
    print("\n".join(lines).rstrip())


INTRODUCTION = """# Published and measured

Made by `jobs/reproduction.py` from {runs} results files; whoever runs the suites gets the same numbers, bit by bit, on the same versions.
Published: arXiv 2605.27475 and the thesis behind it, one run or five without error bars; 2406.07946 for Elevator. Unless said
otherwise: n = 100, h = 5, s = 1, c = 20, IID shards, one local epoch, batch 32. Mean +- standard deviation over seeds (number of seeds);
the seed draws everything, the test set of Spambase included, whose 460 samples alone give a standard error of .014.
Cycles to an accuracy are medians.

    healmpi suite A --only 'spambase-*-common-*' 'spambase-*-independent-s1' -o out/A
    healmpi suite W --only 'mnist10k-*-common-*' 'mnist10k-*-independent-s1' -o out/W
    healmpi suite faults --only 'spambase-*-s1' 'spambase-*-s2' -o out/faults
    healmpi suite faults --only 'mnist10k-*-crash*-s1' 'mnist10k-*-hubs-s1' --set run.cycles=100 -o out/faults100
    healmpi suite skew --only '*-none-s1' -o out/skew
    healmpi suite A --only 'mnist-*-common-s1' --set run.cycles=20 --set data.folder=FOLDER -o out/mnist
    healmpi suite A --only 'mnist-*-common-s1' --set run.cycles=20 --set data.dataset=fashion-mnist -o out/fashion
    healmpi suite hubs --only '*-s1' --set run.cycles=500 -o out/hubs
    healmpi suite elevator --only '*-s1' -o out/elevator
    python jobs/reproduction.py out > docs/reproduction.md

A cell without a number was not run; the commands above run all of them.
"""

CRASH_TEXT = """Crashes at the start of cycle 10. "Hubs" are servers in federated and gaia; "of the workers" spares them, as published.
The "best connected" stand in most views. "Loss": 10 % of all messages, in all cycles."""


if __name__ == "__main__":
    main()
