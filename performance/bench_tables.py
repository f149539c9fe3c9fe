"""How fast tables open and answer: cold loads in fresh processes, rows per second, resident memory.

    python performance/bench_tables.py --data ../shared/data [--repeats 5] [--rows 1000000] [--out FILE.json]

Needs the Parquet files of NAS-Bench-101 and 201 below the data folder; writes only into a temporary folder
and, with --out, the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import machine, report

from tauzero import benchmarks

FOLDERS = {"nasbench201": "nb201", "nasbench101": "nb101"}

# Runs in a fresh interpreter; each step is timed apart, because the first two are not ours.
COLD = """
import json, resource, sys, time
def peak():
    try:  # resource.ru_maxrss would count the parent of this process too
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
out, t = {}, time.perf_counter()
def lap(name):
    global t
    now = time.perf_counter()
    out[name] = now - t
    t = time.perf_counter()
import numpy as np
lap("import numpy")
import pyarrow
lap("import pyarrow")
base = peak()
import tauzero.benchmarks as b
lap("import tauzero.benchmarks")
tables = [b.load(name) for name in ("nasbench201", "nasbench101")]
lap("load both")
for table in tables:
    table.query_index([0, 1, 2])
lap("first query_index of both")
out["tauzero.benchmarks to first answer"] = sum(
    out[k] for k in ("import tauzero.benchmarks", "load both", "first query_index of both"))
out["peak MB with numpy and pyarrow only"] = base
out["peak MB after query_index"] = peak()
t = time.perf_counter()
tables[0].query(np.zeros((1, 6), dtype=np.int8))
lap("first query of genotypes, nasbench201")
rows = np.zeros((1, 26), dtype=np.int8)
rows[0, 15] = 1
tables[1].query(rows)
lap("first query of genotypes, nasbench101")
out["peak MB after query"] = peak()
for table in tables:
    table.info()
    for dataset in table.datasets:
        for metric in table.metrics(dataset):
            table.table(dataset, metric)
out["peak MB after reading every column"] = peak()
print(json.dumps(out))
"""


def cold(environment: dict[str, str]) -> dict[str, float]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", COLD], env=environment, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - start
    return {"whole process, wall": wall, **json.loads(done.stdout)}


def warm(rows: int, repeats: int) -> dict[str, list[float]]:
    """Million rows per second for one large batch."""
    found: dict[str, list[float]] = {}
    for name in FOLDERS:
        table = benchmarks.load(name)
        genotypes = table.space.sample(rows, 0)
        index = table.space.index(genotypes)  # builds what the space builds once
        calls = {
            f"{name} query, 1e6 rows/s": lambda t=table, g=genotypes: t.query(g),
            f"{name} query with cost, 1e6 rows/s": lambda t=table, g=genotypes: t.query(g, return_cost=True),
            f"{name} query_index, 1e6 rows/s": lambda t=table, i=index: t.query_index(i),
        }
        for label, call in calls.items():
            call()
            found[label] = []
            for _ in range(repeats):
                start = time.perf_counter()
                call()
                found[label].append(rows / (time.perf_counter() - start) / 1e6)
        one = genotypes[:1]
        start = time.perf_counter()
        for _ in range(2000):
            table.query(one)
        found[f"{name} query of one row, µs"] = [(time.perf_counter() - start) / 2000 * 1e6]
    return found


def imports(data: Path) -> dict[str, list[float]]:
    found = {}
    for name, folder in FOLDERS.items():
        start = time.perf_counter()
        path = benchmarks.import_table(name, data / folder)
        found[f"{name} import, s"] = [time.perf_counter() - start]
        found[f"{name} table, MB"] = [path.stat().st_size / 1e6]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with nb201/ and nb101/")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TAUZERO_DATA"] = folder
        figures = imports(arguments.data)
        for _ in range(arguments.repeats):
            for label, value in cold(dict(os.environ)).items():
                unit = "" if label.startswith("peak") else ", s"
                figures.setdefault(f"cold: {label}{unit}", []).append(value)
        figures.update(warm(arguments.rows, arguments.repeats))
    report(machine("pyarrow"), figures, arguments.out)


if __name__ == "__main__":
    main()
