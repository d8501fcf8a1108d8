"""healmpi for ReFrame: runs a suite, passes when every run is VALID, and hands on all figures of merit.

    pip install ReFrame-HPC
    reframe -C jobs/reframe/settings.py -c jobs/reframe/healmpi_checks.py --system=laptop --run --performance-report
    reframe ... --system=cluster -S HealmpiSuite.suite=A -S HealmpiSuite.ranks=64 -S HealmpiSuite.time_limit=1h --run

A class S suite takes a few minutes. HEALMPI_PYTHON names a Python with healmpi; without it: .venv of this checkout.
"""

import os
from pathlib import Path

import reframe as rfm
import reframe.utility.sanity as sn
from reframe.core.builtins import run_before, sanity_function, variable

CHECKOUT = Path(__file__).resolve().parents[2]


@rfm.simple_test
class HealmpiSuite(rfm.RunOnlyRegressionTest):
    """One launch runs the whole suite; each experiment leaves results/NAME.h5, which `healmpi info` reads afterwards."""

    suite = variable(str, value="S")  # a class, or the absolute path of a suite file
    only = variable(str, value="")  # a name or pattern: these experiments alone
    ranks = variable(int, value=2)
    cpus = variable(int, value=1)

    descr = "healmpi: a suite of decentralized-learning runs"
    valid_systems = ["*"]  # noqa: RUF012
    valid_prog_environs = ["*"]  # noqa: RUF012
    time_limit = "30m"
    sourcesdir = None

    @run_before("run")
    def _launch(self):
        python = os.environ.get("HEALMPI_PYTHON", str(CHECKOUT / ".venv" / "bin" / "python"))
        self.num_tasks, self.num_cpus_per_task = self.ranks, self.cpus
        self.env_vars = {"OMP_NUM_THREADS": self.cpus}
        self.executable = python
        self.executable_opts = ["-m", "mpi4py", "-m", "healmpi", "suite", self.suite, "-o", "results"]
        if self.only:
            self.executable_opts += ["--only", f"'{self.only}'"]
        # The suite's exit code is asked for first: what comes after it must not hide it.
        self.postrun_cmds = [
            "echo healmpi exit code $?",
            f'for file in results/*.h5; do echo "RUN $(basename "$file" .h5)"; {python} -m healmpi info "$file"; done',
        ]

    @sanity_function
    def all_runs_are_valid(self):
        runs = sn.count(sn.extractall(r"^RUN (\S+)", self.stdout, 1))
        valid = sn.count(sn.findall(r"^verdict: VALID", self.stdout))
        return sn.all(
            [
                sn.assert_found(r"^healmpi exit code 0$", self.stdout),
                sn.assert_ge(runs, 1, msg="the suite left no results"),
                sn.assert_eq(runs, valid, msg="of {0} runs {1} are VALID"),
            ]
        )

    @run_before("performance")
    def _figures(self):
        """One variable for each figure of each run, for example spambase-heal-n100-s1.accuracy_mean."""
        output = (Path(self.stagedir) / str(self.stdout)).read_text()
        self.perf_variables = {
            f"{run}.{name}": sn.make_performance_function(sn.defer(value), unit)
            for run, figures in read_figures(output).items()
            for name, (value, unit) in figures.items()
        }


def read_figures(output: str) -> dict[str, dict[str, tuple[float, str]]]:
    """From what `healmpi info` printed after each line `RUN name`: {run: {figure: (value, unit)}}; unit 1 is a plain number."""
    found: dict[str, dict[str, tuple[float, str]]] = {}
    run, inside = "", False
    for line in output.splitlines():
        words = line.split()
        if line.startswith("RUN ") and len(words) == 2:
            run, inside = words[1], False
            found[run] = {}
        elif line.startswith("figures of merit"):
            inside = True
        elif inside and run and len(words) in (2, 3) and line.startswith(" "):
            found[run][words[0]] = (float(words[1]), words[2] if len(words) == 3 else "1")
        else:
            inside = False
    return found
