"""How long whole spaces take: enumerate, canonicalise, encode with every encoder, hash; rows per second of `index`.

    python performance/bench_spaces.py [--spaces nasbench201 nasbench101] [--repeats 5] [--rows N] [--out FILE.json]

Each repeat is a fresh process, because spaces and encoders remember what they have built. Needs no data.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from tauzero import __version__, spaces

# Runs in a fresh interpreter. Every encoder starts from nothing and is given its space's whole enumeration in one
# call; what it returns (up to 0.7 GB for NAS-Bench-101) is dropped before the next one.
MEASURE = """
import json, resource, sys, time
from tauzero import encoders, spaces
import numpy as np
name, rows = sys.argv[1], int(sys.argv[2])
out = {}
def timed(label, call):
    start = time.perf_counter()
    result = call()
    out[label] = time.perf_counter() - start
    return result
space = spaces.get(name)
everything = timed("enumerate, s", space.enumerate)
timed("canonicalise all, s", lambda: space.canonical(everything))
ready = out["enumerate, s"] + out["canonicalise all, s"]
for encoder in encoders.names():
    fresh = encoders.create(encoder, space)
    features = timed(f"encode all: {encoder}, s", lambda: fresh.transform(everything))
    out[f"encode all: {encoder}, features"] = features.shape[1]
    out[f"enumerate + canonicalise + encode all: {encoder}, s"] = ready + out[f"encode all: {encoder}, s"]
    del features, fresh
if hasattr(space, "hash"):
    timed("hash all, s", lambda: space.hash(everything))
batch = everything[np.random.default_rng(0).integers(space.size, size=rows)]
timed("index", lambda: space.index(batch))
out["index, 1e6 rows/s"] = rows / out.pop("index") / 1e6
out["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
print(json.dumps(out))
"""


def measure(name: str, rows: int) -> dict[str, float]:
    command = [sys.executable, "-c", MEASURE, name, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def commit() -> str:
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spaces", nargs="+", choices=spaces.names(), default=["nasbench201", "nasbench101"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000, help="batch that `index` is timed with")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tauzero": __version__,
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load before": round(load, 1),  # of other processes: above the number of cores, times are too long
    }
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    figures: dict[str, list[float]] = {}
    for name in options.spaces:
        for _ in range(options.repeats):
            for label, value in measure(name, options.rows).items():
                figures.setdefault(f"{name} {label}", []).append(value)
    for label, values in figures.items():
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        print(f"{label:<70}{fmean(values):>10.3f}{spread}")
    if options.out:
        options.out.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
