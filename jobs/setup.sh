#!/usr/bin/env bash
# Sets up healmpi in .venv of this checkout: Python packages and a whole MPI (mpirun included), no system package.
# Takes about a minute, later calls a second. With the word "test": the test tools too, and a second MPI in .venv-mpich.
#   bash jobs/setup.sh [test]
# Needs Python 3.11 or newer with venv, and a C compiler for packages without a wheel. PYTHON=... names the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
what="${1:-run}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "healmpi needs Python 3.11 or newer; PYTHON=... names another interpreter" >&2; exit 2; }

# A stamp says what was installed from which files, so that a second call has nothing to do.
stamp() { cat pyproject.toml constraints.txt jobs/setup.sh | sha256sum | cut -c1-16; }
extras="openmpi"; [ "$what" = test ] && extras="openmpi,test"
done_already() { [ -f "$1/healmpi-$2" ] && [ "$(cat "$1/healmpi-$2")" = "$(stamp)" ]; }

if ! done_already .venv "$what"; then
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --constraint constraints.txt torch
    .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[$extras]"
    # A browser for the test of report pages, where it is easily had; without one that test is skipped.
    if [ "$what" = test ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromedriver >/dev/null; then
        timeout 180 apt-get install -y -qq chromium chromium-driver >/dev/null 2>&1 || true
    fi
    stamp > ".venv/healmpi-$what"
fi

# MPICH lives in an environment of its own, since both MPIs bring an mpirun; everything else it takes from the first.
if [ "$what" = test ] && ! done_already .venv-mpich test; then
    [ -x .venv-mpich/bin/python ] || "$python" -m venv .venv-mpich
    .venv-mpich/bin/python -m pip install --quiet --constraint constraints.txt mpi4py mpich
    .venv-mpich/bin/python - "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" <<'PY'
import pathlib, sys, sysconfig
line = f"import site; site.addsitedir({sys.argv[1]!r})\n"
(pathlib.Path(sysconfig.get_path("purelib")) / "healmpi-shared.pth").write_text(line)
PY
    stamp > .venv-mpich/healmpi-test
fi

# Slurm and ReFrame for the tests of the job scripts, where they can be had: without them those tests skip and say why.
if [ "$what" = test ] && ! done_already .venv reframe; then
    bash tests/slurm_cluster.sh install || true
    { "$python" -m venv .venv-reframe && .venv-reframe/bin/pip install --quiet ReFrame-HPC; } || true
    stamp > .venv/healmpi-reframe
fi
