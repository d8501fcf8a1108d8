"""Damages files and lets everything read them: nobody may believe what is wrong, crash, or hang.

    bash jobs/test.sh soak damage [MINUTES]                 new seeds each time
    python tests/damage.py --seed 123 --rounds 1            that round again
    python tests/damage.py --cases 1000 --kind results      so many cases of one kind

A round is a seed: from it come a few small runs, and from each of them damaged copies: bits flipped, blocks zeroed, random, swapped,
inserted or cut out, truncation. Kinds: results files (info, verify, report, compare, merge), parts (verify, merge), checkpoints
(--resume), suites (suite, suite --force). Each case is a process of its own, with a deadline and a limit of memory. What is allowed:
the result of the undamaged file, or one sentence and an exit code. Anything else is printed with its seed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import drawn
import h5py
from digests import digests

from healmpi.launch import cli

CASE_S = 120
"""Longest time of a case."""

MEMORY_BYTES = 6 * 1024**3
"""More than torch and a small run ever take; a shape in a damaged file must not."""

LONGEST_BLOCK = 4096
CASES = 40
"""Of a kind in a round."""


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Other bytes, and what was done in words."""
    how = rng.choice(("bit", "bit", "bit", "bit", "zero", "random", "swap", "insert", "cut", "truncate"))
    size = len(data)
    place, length = rng.randrange(size), rng.randint(1, min(LONGEST_BLOCK, size))
    stop = min(size, place + length)
    if how == "bit":
        bit = rng.randrange(8)
        return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :], f"bit {bit} of byte {place}"
    if how == "zero":
        return data[:place] + bytes(stop - place) + data[stop:], f"bytes {place} to {stop} zeroed"
    if how == "random":
        return data[:place] + rng.randbytes(stop - place) + data[stop:], f"bytes {place} to {stop} random"
    if how == "swap":
        length = min(length, size // 2)
        one = rng.randrange(size - 2 * length + 1)
        other = rng.randrange(one + length, size - length + 1)
        swapped = data[:one] + data[other : other + length] + data[one + length : other] + data[one : one + length] + data[other + length :]
        return swapped, f"{length} bytes at {one} and {other} swapped"
    if how == "insert":
        return data[:place] + rng.randbytes(length) + data[place:], f"{length} bytes inserted at {place}"
    if how == "cut":
        return data[:place] + data[stop:], f"bytes {place} to {stop} cut out"
    return data[:place], f"truncated to {place} bytes"


# A case: a process of its own.


@dataclass
class Outcome:
    """What came of a case. noticed: somebody said that something is wrong. complaints: what must not be."""

    noticed: bool = False
    complaints: list[str] = field(default_factory=list)


def apart(work: Callable[[], Outcome]) -> Outcome:
    """The work's outcome, in a process of its own with a deadline and a limit of memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            outcome = work()
            os.write(writer, json.dumps([outcome.noticed, outcome.complaints]).encode()[:60_000])
            code = 0
        except BaseException:
            os.write(writer, json.dumps([True, [traceback.format_exc()[-2000:]]]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    told = b""
    deadline = time.monotonic() + CASE_S
    with contextlib.closing(os.fdopen(reader, "rb", buffering=0)) as stream:
        while (left := deadline - time.monotonic()) > 0 and select.select([stream], [], [], left)[0]:
            piece = stream.read(65536)
            if not piece:
                break
            told += piece
        else:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome(True, [f"still running after {CASE_S} s"])
    _, status = os.waitpid(child, 0)
    if not told:
        return Outcome(True, [f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"])
    noticed, complaints = json.loads(told)
    return Outcome(noticed, complaints)


def said(main: Callable[[Sequence[str]], int], *words: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process. An exception is left to escape: it would be a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
    return code, out.getvalue(), err.getvalue()


def judge(outcome: Outcome, command: str, told: tuple[int, str, str], same: bool, refusals: Sequence[int] = (2, 3)) -> None:
    """A command either did what it does with the undamaged file, or refused in a sentence."""
    code, _, err = told
    if "Traceback" in err:
        outcome.complaints.append(f"{command}: traceback: {err[-1500:]}")
    if code in refusals:
        outcome.noticed = True
        if not err.strip() and code != 3:
            outcome.complaints.append(f"{command}: exit code {code} without a word")
    elif code != 0:
        outcome.complaints.append(f"{command}: exit code {code}: {err[-500:]}")
    elif not same:
        outcome.complaints.append(f"{command}: another result, exit code 0")


# The kinds.


class Kind:
    """A kind of file to damage. folder: where its undamaged files are made, once a round."""

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        folder.mkdir()
        self.prepare(seed)

    def prepare(self, seed: int) -> None: ...

    def case(self, place: Path, rng: random.Random) -> tuple[str, Callable[[], Outcome]]:
        """What is damaged in the copy `place`, and the work that reads it."""
        raise NotImplementedError


def spoil(path: Path, rng: random.Random) -> str:
    """Damage a file in its place; what was done."""
    data, how = damage(path.read_bytes(), rng)
    path.write_bytes(data)
    return f"{path.name}: {how}"


def run_here(overrides: Sequence[str], out: Path, *more: str) -> tuple[int, str, str]:
    settings = [word for one in overrides for word in ("--set", one)]
    return said(cli.main, "run", *settings, "-o", out, "--world", "local", *more)


class Results(Kind):
    """A finished file: info, verify, report, compare."""

    def prepare(self, seed: int) -> None:
        self.good = self.folder / "a.h5"
        assert run_here([*drawn.overrides(seed), "results.save_models=true"], self.good)[0] == 0
        self.info = said(cli.main, "info", self.good)[1]
        self.tables = digests(self.good)
        self.report = self._report(self.good, self.folder / "report")

    def case(self, place: Path, rng: random.Random) -> tuple[str, Callable[[], Outcome]]:
        bad = place / "a.h5"
        shutil.copy(self.good, bad)
        return spoil(bad, rng), lambda: self._read(bad)

    def _read(self, bad: Path) -> Outcome:
        from healmpi_analysis import cli as analysis

        outcome = Outcome()
        told = said(cli.main, "info", bad)
        judge(outcome, "info", told, told[1] == self.info.replace(str(self.good), str(bad)))
        told = said(cli.main, "verify", bad)
        judge(outcome, "verify", told, told[0] != 0 or self._same(bad))
        told = said(analysis.main, "compare", self.good, bad, "--ignore-time", "-q")
        judge(outcome, "compare", told, told[0] != 0 or self._same(bad))
        try:
            found = self._report(bad, bad.parent / "report")
            if found != self.report and not isinstance(found, str):
                outcome.complaints.append("report: other tables, exit code 0")
            outcome.noticed |= isinstance(found, str)
        except SystemExit:
            outcome.noticed = True
        return outcome

    def _report(self, path: Path, folder: Path) -> dict[str, str] | str:
        """Its tables as text, or what it said when it refused."""
        from healmpi_analysis import cli as analysis

        code, _, err = said(analysis.main, path, "-o", folder, "-q", "--no-figures")
        if code != 0 or "left out" in err:
            return err or "nothing"
        return {one.name: one.read_text() for one in sorted(folder.glob("tables/*.csv")) if one.name != "runs.csv"}

    def _same(self, bad: Path) -> bool:
        try:
            return digests(bad) == self.tables
        except Exception:
            return False


class Parts(Kind):
    """The parts of a run that has ended or was stopped: verify, merge."""

    def prepare(self, seed: int) -> None:
        self.out = self.folder / "a.h5"
        job = [*drawn.overrides(seed), "results.flush_every=2", "results.save_models=true"]
        (self.folder / "a.h5.stop").touch()
        assert run_here(job, self.out, "--checkpoint-every", "1")[0] == 75
        for path in self.folder.glob("a.h5.parts/*"):
            if not path.name.startswith("rank-"):
                path.unlink()
        (self.folder / "a.h5.stop").unlink()
        shutil.copytree(self.folder / "a.h5.parts", self.folder / "again.h5.parts")
        assert said(cli.main, "merge", self.folder / "again.h5")[0] == 0
        self.rows, self.tables = _rows(self.folder / "again.h5"), digests(self.folder / "again.h5")

    def case(self, place: Path, rng: random.Random) -> tuple[str, Callable[[], Outcome]]:
        shutil.copytree(self.folder / "a.h5.parts", place / "a.h5.parts")
        part = rng.choice(sorted((place / "a.h5.parts").glob("rank-*.h5")))
        return spoil(part, rng), lambda: self._merge(place / "a.h5")

    def _merge(self, out: Path) -> Outcome:
        outcome = Outcome()
        told = said(cli.main, "verify", Path(f"{out}.parts"))
        judge(outcome, "verify", told, True)
        told = said(cli.main, "merge", out)
        # A part that is damaged from some cycle on counts up to there, and merge says so.
        less = told[0] == 0 and "is damaged" in told[1] + told[2] and _starts_like(_rows(out), self.rows)
        same = told[0] == 0 and (less or digests(out) == self.tables)
        outcome.noticed |= less
        judge(outcome, "merge", told, same, refusals=(2,))
        return outcome


def _rows(path: Path) -> dict[str, list]:
    """All tables with a row a cycle, as nested lists of their bytes."""
    with h5py.File(path) as file:
        return {
            name: [row.tobytes() for row in table[...]]
            for name, table in file["cycles"].items()
            if table.ndim and name not in ("seconds", "class_accuracy") and table.shape[0] == len(file["cycles/cycle"])
        }


def _starts_like(found: dict[str, list], whole: dict[str, list]) -> bool:
    return all(rows == whole[name][: len(rows)] for name, rows in found.items() if name in whole)


class Checkpoints(Kind):
    """States and their index: --resume."""

    def prepare(self, seed: int) -> None:
        self.job = drawn.overrides(seed)
        self.whole = self.folder / "whole.h5"
        assert run_here(self.job, self.whole)[0] == 0
        self.tables = digests(self.whole)
        (self.folder / "a.h5.stop").touch()
        assert run_here(self.job, self.folder / "a.h5")[0] == 75

    def case(self, place: Path, rng: random.Random) -> tuple[str, Callable[[], Outcome]]:
        shutil.copytree(self.folder / "a.h5.parts", place / "a.h5.parts")
        files = [one for one in sorted((place / "a.h5.parts").iterdir()) if one.name != "lock"]
        return spoil(rng.choice(files), rng), lambda: self._resume(place / "a.h5")

    def _resume(self, out: Path) -> Outcome:
        outcome = Outcome()
        told = run_here(self.job, out, "--resume")
        judge(outcome, "run --resume", told, told[0] != 0 or digests(out) == self.tables, refusals=(1, 2))
        if told[0] != 0:
            told = run_here(self.job, out, "--force")
            judge(outcome, "run --force", told, told[0] == 0 and digests(out) == self.tables, refusals=())
        return outcome


class Suites(Kind):
    """A suite that was stopped in the middle: suite, suite --force."""

    def prepare(self, seed: int) -> None:
        (self.folder / "s.toml").write_text(
            '[base.run]\nnodes = 5\ncycles = 4\n[base.data]\ndataset = "synthetic"\nsamples = 200\n[base.model]\nname = "logistic"\n'
            f'[axes]\nalgorithm = ["heal", "ring"]\nseed = [{seed % 1000}, {seed % 1000 + 1}]\n'
        )
        assert self._suite(self.folder / "whole")[0] == 0
        self.tables = self._digests(self.folder / "whole")
        half, seed = self.folder / "half", seed % 1000
        assert self._suite(half, "--only", "heal-*")[0] == 0
        # The next one was stopped after its first cycle.
        job = ["run.nodes=5", "run.cycles=4", "data.dataset=synthetic", "data.samples=200", "model.name=logistic"]
        out = half / f"ring-s{seed}.h5"
        Path(f"{out}.stop").touch()
        assert run_here([*job, "run.algorithm=ring", f"run.seed={seed}"], out)[0] == 75
        Path(f"{out}.stop").unlink()
        going_on = self.folder / "going-on"
        shutil.copytree(half, going_on)
        told = self._suite(going_on)
        assert told[0] == 0 and "2 of them done already" in told[1], told
        assert self._digests(going_on) == self.tables

    def _suite(self, out: Path, *more: str) -> tuple[int, str, str]:
        return said(cli.main, "suite", self.folder / "s.toml", "-o", out, "--world", "local", *more)

    def _digests(self, folder: Path) -> dict[str, dict[str, str]]:
        return {path.name: digests(path) for path in sorted(folder.glob("*.h5"))}

    def case(self, place: Path, rng: random.Random) -> tuple[str, Callable[[], Outcome]]:
        folder = place / "half"
        shutil.copytree(self.folder / "half", folder)
        files = [one for one in sorted(folder.rglob("*")) if one.is_file() and one.stat().st_size and one.name != "lock"]
        return spoil(rng.choice(files), rng), lambda: self._go_on(folder)

    def _go_on(self, folder: Path) -> Outcome:
        outcome = Outcome()
        told = self._suite(folder)
        judge(outcome, "suite", told, told[0] != 0 or self._digests(folder) == self.tables, refusals=(1, 2))
        if told[0] != 0:
            told = self._suite(folder, "--force")
            judge(outcome, "suite --force", told, told[0] == 0 and self._digests(folder) == self.tables, refusals=())
        return outcome


KINDS: dict[str, type[Kind]] = {"results": Results, "parts": Parts, "checkpoints": Checkpoints, "suites": Suites}


def round_of(seed: int, names: Sequence[str], cases: int) -> tuple[Counter, list[str]]:
    """Counts of what was noticed, by kind, and what must not be."""
    counts: Counter = Counter()
    complaints = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            kind = KINDS[name](Path(temporary) / name, seed)
            for number in range(cases):
                rng = random.Random(f"{seed} {name} {number}")
                place = Path(temporary) / f"{name}-{number}"
                place.mkdir()
                what, work = kind.case(place, rng)
                outcome = apart(work)
                counts[name, "noticed" if outcome.noticed else "without effect"] += 1
                complaints += [f"{name}, case {number}, {what}: {one}" for one in outcome.complaints]
                left = [one.name for one in place.rglob("*") if re.search(r"\.merging-|\.new$", one.name)]
                if left and not outcome.complaints:
                    complaints.append(f"{name}, case {number}, {what}: left {left}")
                shutil.rmtree(place)
    return counts, complaints


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0, help="how long to go on (default: 10)")
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count on from it")
    parser.add_argument("--rounds", type=int, default=0, help="how many, instead of a time")
    parser.add_argument("--cases", type=int, default=CASES, help=f"of a kind in a round (default: {CASES})")
    parser.add_argument("--kind", choices=KINDS, action="append", help="one kind alone")
    options = parser.parse_args()
    ends, rounds, failed, total = time.monotonic() + 60 * options.minutes, 0, 0, Counter[tuple[str, str]]()
    while rounds < options.rounds if options.rounds else time.monotonic() < ends:
        seed = options.seed + rounds if options.seed is not None else random.SystemRandom().randrange(10**9)
        counts, complaints = round_of(seed, options.kind or list(KINDS), options.cases)
        rounds, failed, total = rounds + 1, failed + len(complaints), total + counts
        told = ", ".join(f"{kind} {what} {count}" for (kind, what), count in sorted(counts.items()))
        print(f"seed {seed}: {told}; {len(complaints)} wrong", flush=True)
        for complaint in complaints:
            print(f"  {complaint}\n  again: python tests/damage.py --seed {seed} --rounds 1 --cases {options.cases}", flush=True)
    print(f"{rounds} rounds, {sum(total.values())} damaged files, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
