"""Draws new runs until the time is over: every one must end VALID, and give the same bits on any number of ranks, under both MPIs.

    bash jobs/test.sh soak [MINUTES]                      new seeds each time
    python tests/soak.py --seed 123456 --rounds 1         that round again

A round is a seed: from it come 24 configurations (presets, pairs of a topology with a rule, fault plans), a number of ranks and an
MPI. What fails is printed with its seed, its configuration and the tables that differ.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import drawn
import h5py
from digests import digests
from launch import ROOT, finish, mpirun, start
from simulate import execute

RUNS, FLAVOURS, MOST_RANKS, MPIRUN_S = 24, ("openmpi", "mpich"), 6, 300


def main() -> int:
    options = _options()
    ends = time.monotonic() + 60 * options.minutes
    rounds = failed = 0
    while rounds < options.rounds if options.rounds else time.monotonic() < ends:
        seed = options.seed + rounds if options.seed is not None else random.SystemRandom().randrange(10**9)
        complaints = _round(seed)
        rounds, failed = rounds + 1, failed + bool(complaints)
        print(f"seed {seed}: {RUNS} runs, {'FAILED' if complaints else 'all valid, all the same'}", flush=True)
        for complaint in complaints:
            print(f"  {complaint}\n  again: python tests/soak.py --seed {seed} --rounds 1", flush=True)
    print(f"{rounds} rounds, {failed} failed")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0, help="how long to go on (default: 10)")
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count on from it")
    parser.add_argument("--rounds", type=int, default=0, help="how many, instead of a time")
    return parser.parse_args()


def _round(seed: int) -> list[str]:
    """What is wrong with the runs of this seed."""
    rng = random.Random(seed)
    jobs = [_job(rng) for _ in range(RUNS)]
    flavour, ranks = rng.choice(FLAVOURS), rng.randint(2, MOST_RANKS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = [execute(job, folder / f"alone-{number}.h5") for number, job in enumerate(jobs)]
        # A rank needs a node.
        many = [number for number, path in enumerate(alone) if _nodes(path) >= ranks]
        (folder / "jobs.json").write_text(json.dumps([jobs[number] for number in many]))
        command = [*mpirun(flavour, ranks), "-m", "mpi4py", ROOT / "tests" / "many.py", folder / "jobs.json", folder]
        done = finish(start(command, ROOT), MPIRUN_S)
        if done.code != 0:
            return [f"{flavour} with {ranks} ranks ended with {done.code}:\n{done.out}\n{done.err}"]
        complaints = [_invalid(path, job) for path, job in zip(alone, jobs, strict=True)]
        complaints += [_different(alone[number], folder / f"{place}.h5", jobs[number]) for place, number in enumerate(many)]
    return [f"{flavour} with {ranks} ranks: {complaint}" for complaint in complaints if complaint]


def _job(rng: random.Random) -> list[str]:
    number = rng.randrange(10**9)
    kind = rng.choice(("heal", "pair", "preset"))
    if kind == "heal":
        return drawn.overrides(number)
    return drawn.pair(number) if kind == "pair" else drawn.preset(number, rng.choice(drawn.PRESET_NAMES))


def _nodes(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file.attrs["nodes"])


def _invalid(path: Path, job: list[str]) -> str:
    with h5py.File(path) as file:
        attrs = file["summary"].attrs
        return "" if attrs["verdict"] == "VALID" else f"{job} is {attrs['verdict']}: {list(attrs['reasons'])}"


def _different(alone: Path, many: Path, job: list[str]) -> str:
    one, other = digests(alone), digests(many)
    tables = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return f"{job} gives other tables than in one process: {tables}" if tables else ""


if __name__ == "__main__":
    sys.exit(main())
