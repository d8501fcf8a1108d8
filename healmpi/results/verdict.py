"""Whether a results file is valid, and the numbers that sum it up; everything is worked out from the file alone.

VALID says that the run is whole and consistent with itself, not that it learnt well. A run whose
accuracy is poor is valid; one that lost a message without an account of it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import h5py
import numpy as np

from healmpi.results.files import reason_array
from healmpi.results.schema import ACCURACY_TARGETS, FIGURES, GROUP_OUTCOMES, PHASES, RANK_STATES, FigureOfMerit, bounded, column

BLOCK_BYTES = 64 * 1024 * 1024
MOST_NAMED = 5


def conclude(file: h5py.File) -> None:
    """Judge the file, sum it up, and write both into its group `summary`."""
    survey = _survey(file)
    reasons = _reasons(file, survey)
    group = file.create_group("summary")
    group.attrs["verdict"] = "INVALID" if reasons else "VALID"
    group.attrs["reasons"] = reason_array(reasons)
    for figure in _figures(file, survey):
        declared = column(f"summary/{figure.name}")
        group.create_dataset(declared.name, data=figure.value, dtype=declared.dtype)
        group[declared.name].attrs.update({"unit": declared.unit, "long_name": declared.doc})


def judge(file: h5py.File) -> list[str]:
    """Why the file is not valid, one sentence each; empty: it is. file: an open merged file."""
    return _reasons(file, _survey(file))


def summarise(file: h5py.File) -> list[FigureOfMerit]:
    """The figures of merit, in the order of schema.FIGURES; those that do not exist in this run are left out."""
    return _figures(file, _survey(file))


# One pass over the cycles.


@dataclass(slots=True)
class _Survey:
    """Sums over the file. By kind of message: int64 [K]. seconds: by phase.

    By cycle: live, hubs, judged (live and evaluated), accuracy (mean of these). diverged: a few (what, index of the cycle, node).
    """

    sent: np.ndarray
    accepted: np.ndarray
    dropped: np.ndarray
    bytes_sent: int = 0
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(len(PHASES)))
    live: list[int] = field(default_factory=list)
    hubs: list[int] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    diverged: list[tuple[str, int, int]] = field(default_factory=list)
    diverged_count: int = 0


def _survey(file: h5py.File) -> _Survey:
    group = file["cycles"]
    sent, accepted, dropped = np.zeros((3, len(group["kind"])), np.int64)
    survey = _Survey(sent, accepted, dropped)
    for block in _blocks(group):
        survey.sent += group["messages_out"][block].sum(axis=(0, 1), dtype=np.int64)
        survey.accepted += group["messages_in"][block].sum(axis=(0, 1), dtype=np.int64)
        survey.dropped += group["messages_dropped"][block].sum(axis=(0, 1), dtype=np.int64)
        survey.bytes_sent += int(group["bytes_out"][block].sum(dtype=np.int64))
        survey.seconds += group["seconds"][block].sum(axis=(0, 1))
        _survey_learning(survey, group, block)
    return survey


def _blocks(group: h5py.Group) -> Iterator[slice]:
    """Ranges of cycles of about BLOCK_BYTES, of whole chunks."""
    tables = [table for table in group.values() if table.ndim > 1]
    row_bytes = sum(int(np.prod(table.shape[1:])) * table.dtype.itemsize for table in tables)
    longest = max(table.chunks[0] if table.compression else 1 for table in tables)
    step = max(1, BLOCK_BYTES // max(1, row_bytes) // longest) * longest
    for start in range(0, tables[0].shape[0], step):
        yield slice(start, start + step)


def _survey_learning(survey: _Survey, group: h5py.Group, block: slice) -> None:
    alive = group["alive"][block] != 0
    accuracy, loss = group["accuracy"][block], group["loss"][block]
    judged = alive & ~np.isnan(accuracy)
    survey.live += alive.sum(axis=1).tolist()
    survey.hubs += (alive & (group["is_hub"][block] != 0)).sum(axis=1).tolist()
    counts = judged.sum(axis=1)
    survey.judged += counts.tolist()
    totals = np.where(judged, accuracy, 0.0).sum(axis=1, dtype=np.float64)
    survey.accuracy += np.divide(totals, counts, out=np.full(len(counts), np.nan), where=counts > 0).tolist()
    trained = alive & (group["trained"][block] != 0)
    for what, wrong in (("loss", judged & ~np.isfinite(loss)), ("train_loss", trained & ~np.isfinite(group["train_loss"][block]))):
        survey.diverged_count += int(wrong.sum())
        for row, node in np.argwhere(wrong)[:MOST_NAMED].tolist():
            survey.diverged.append((what, block.start + row, node))


# The verdict.


def _reasons(file: h5py.File, survey: _Survey) -> list[str]:
    # Of a run that was cut off the parts end in the middle of things: that their sums differ explains nothing.
    unbalanced = _unbalanced(file, survey) if file.attrs["complete"] else []
    found = [*_incomplete(file), *_unfinished(file), *unbalanced, *_contradictions(file), *_diverged(file, survey)]
    return bounded([*found, *(f"audit: {reason}" for reason in file.attrs["audit_reasons"])])


def _incomplete(file: h5py.File) -> list[str]:
    states, counts = file["ranks/state"][:], file["ranks/node_count"][:]
    found = []
    for state, text in (("missing", "left no part file"), ("unreadable", "left a part file that cannot be read")):
        if (ranks := np.flatnonzero(states == RANK_STATES.index(state))).size:
            found.append(f"{_named('rank', ranks)} {text}")
    # Files of before version 1.5 have no such table; nor has one of whose parts none is damaged.
    known = file["ranks/damage"][:].tolist() if "damage" in file["ranks"] else []
    found += [f"the part of rank {rank} {what.decode(errors='replace')}" for rank, what in enumerate(known) if what]
    if (lost := file.attrs["nodes"] - int(counts.sum())) > 0:
        found.append(f"{lost} of {file.attrs['nodes']} nodes are in no part")
    if not file.attrs["complete"]:
        found.append(f"the run is not complete: {file['cycles/cycle'].shape[0]} cycles are common to all parts")
    return found


def _unfinished(file: h5py.File) -> list[str]:
    """Ranks that ended early although nodes of theirs were alive."""
    alive = file["cycles/alive"]
    if not alive.shape[0]:
        return ["no cycle was recorded"]
    last, found = alive[-1] != 0, []
    states, survived = file["ranks/state"][:], file["ranks/survivors_finished"][:] != 0
    first, count = file["ranks/first_node"][:], file["ranks/node_count"][:]
    for what, ended in (
        ("did not finish", states == RANK_STATES.index("unfinished")),
        ("reported survivors that did not finish", (states == RANK_STATES.index("finished")) & ~survived),
    ):
        ranks = [rank for rank in np.flatnonzero(ended).tolist() if last[first[rank] : first[rank] + count[rank]].any()]
        if ranks:
            found.append(f"{_named('rank', ranks)} {what} and had live nodes")
    return found


def _unbalanced(file: h5py.File, survey: _Survey) -> list[str]:
    lost = survey.sent - survey.accepted - survey.dropped
    names = [name.decode() for name in file["cycles/kind"][:].tolist()]
    found = []
    for kind in np.flatnonzero(lost):
        sums = f"{survey.sent[kind]} sent, {survey.accepted[kind]} accepted, {survey.dropped[kind]} dropped"
        found.append(f"{names[kind]} messages: {sums}, {abs(lost[kind])} {'unaccounted for' if lost[kind] > 0 else 'too many'}")
    return found


def _contradictions(file: h5py.File) -> list[str]:
    """Groups of which two reports give different members."""
    epochs, table = file["groups/epoch"][:], file["groups/members"]
    step = max(1, BLOCK_BYTES // (4 * max(1, table.shape[1])))
    members_of: dict[int, int] = {}
    wrong: dict[int, None] = {}
    for start in range(0, len(epochs), step):
        for epoch, row in zip(epochs[start : start + step].tolist(), table[start : start + step], strict=True):
            # The hash of the bytes instead of the bytes: a file may hold millions of reports.
            members = hash(row.tobytes())
            if members_of.setdefault(epoch, members) != members:
                wrong[epoch] = None
    return [f"group {_list(list(wrong))} is reported with different members"] if wrong else []


def _diverged(file: h5py.File, survey: _Survey) -> list[str]:
    if not survey.diverged:
        return []
    cycles = file["cycles/cycle"]
    what, row, node = survey.diverged[0]
    return [f"{survey.diverged_count} losses of live nodes are not finite, the first is {what} of node {node} in cycle {cycles[row]}"]


def _named(word: str, numbers: Sequence[int] | np.ndarray) -> str:
    return f"{word}{'' if len(numbers) == 1 else 's'} {_list([int(number) for number in numbers])}"


def _list(numbers: list[int]) -> str:
    text = ", ".join(str(number) for number in numbers[:MOST_NAMED])
    return text if len(numbers) <= MOST_NAMED else f"{text} and {len(numbers) - MOST_NAMED} more"


# The figures of merit.


def _figures(file: h5py.File, survey: _Survey) -> list[FigureOfMerit]:
    values = _learning(file, survey) | _work(file, survey) | _groups(file)
    return [FigureOfMerit(name, float(values[name]), unit) for name, (unit, _) in FIGURES.items() if name in values]


def _learning(file: h5py.File, survey: _Survey) -> dict[str, float]:
    evaluated = np.flatnonzero(survey.judged)
    if not evaluated.size:
        return {}
    group, row = file["cycles"], int(evaluated[-1])
    accuracy, loss = group["accuracy"][row].astype(np.float64), group["loss"][row].astype(np.float64)
    judged = (group["alive"][row] != 0) & ~np.isnan(accuracy)
    accuracy, loss = accuracy[judged], loss[judged]
    found = {}
    if survey.live[-1]:  # else nobody is left who holds a model
        found = {"accuracy_mean": accuracy.mean(), "accuracy_std": accuracy.std(), "accuracy_min": accuracy.min(), "loss_mean": loss.mean()}
        # Files of before version 1.3 do not have it; nor has a node of whose labels the test set has none.
        own = group["own_accuracy"][row].astype(np.float64)[judged] if "own_accuracy" in group else np.array([])
        if np.isfinite(own).any():
            found["own_accuracy_mean"] = np.nanmean(own)
    cycles, means = group["cycle"][:], np.array(survey.accuracy)
    for target in ACCURACY_TARGETS:
        # Accuracies are float32: a mean of exactly 0.9 comes out a little to either side of it.
        reached = evaluated[means[evaluated] >= float(target) - 1e-7]
        if reached.size:
            found[f"cycles_to_{target}"] = cycles[reached[0]]
    return found


def _work(file: h5py.File, survey: _Survey) -> dict[str, float]:
    cycles = file["cycles/cycle"][:]
    if not len(cycles):
        return {}
    found: dict[str, float] = {"live_nodes": survey.live[-1], "hubs": survey.hubs[-1]}
    walls = file["ranks/wall_s"][:] if "wall_s" in file["ranks"] else np.array([])
    wall_s = float(np.nanmax(walls)) if np.isfinite(walls).any() else 0.0
    if wall_s > 0:
        found |= {"wall_s": wall_s, "cycles_per_s": len(cycles) / wall_s}
    seconds = dict(zip(PHASES, survey.seconds.tolist(), strict=True))
    total = sum(seconds.values()) - seconds["evaluation"]
    if total > 0:
        found |= {f"{phase}_share": seconds[phase] / total for phase in PHASES if phase != "evaluation"}
    found |= {"messages_per_cycle": int(survey.sent.sum()) / len(cycles), "bytes_per_cycle": survey.bytes_sent / len(cycles)}
    learning = int((cycles >= 1).sum())
    # Files of before version 1.2 do not say which kinds carry a model.
    if learning and "carries_model" in file["cycles"]:
        models = int(survey.sent[file["cycles/carries_model"][:] != 0].sum())
        found["model_messages_per_cycle"] = models / learning
    return found


def _groups(file: h5py.File) -> dict[str, float]:
    group = file["groups"]
    keys = np.stack([group[name][:].astype(np.int64) for name in ("cycle", "attempt", "epoch")], axis=1)
    outcome, reused = group["outcome"][:], group["reused"][:] != 0
    averaged = (outcome == GROUP_OUTCOMES.index("averaged")) | (outcome == GROUP_OUTCOMES.index("empty"))
    chosen = {
        "groups_created": averaged & ~reused,
        "groups_reused": averaged & reused,
        "groups_abandoned": outcome == GROUP_OUTCOMES.index("abandoned"),
    }
    return {name: len(np.unique(keys[rows], axis=0)) if rows.any() else 0 for name, rows in chosen.items()}
