"""Runs many configurations in one launch, as a user's program could: `mpirun -n 4 python -m mpi4py many.py JOBS.json FOLDER`.

JOBS.json is a list of lists of `section.field=value`; job k writes FOLDER/k.h5. Starting ranks and importing torch takes
longer than a small run, so tests put all runs of a rank count into one launch.
"""

import json
import sys
from pathlib import Path

from healmpi.config import Config
from healmpi.launch import run
from healmpi.worlds import mpi


def main() -> None:
    jobs, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    ranks = run.Ranks(*mpi.place(), mpi)
    for number, overrides in enumerate(jobs):
        prepared = run.prepare(Config.load(None, overrides).resolve(ranks.size), ranks)
        run.execute(prepared, ranks, folder / f"{number}.h5", lambda progress: None)
    print(f"rank {ranks.rank} has finished {len(jobs)} runs", flush=True)


if __name__ == "__main__":
    main()
