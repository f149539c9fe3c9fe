"""How long surrogates take to fit, and to predict every cell of a space; what one-at-a-time prediction would take.

    python performance/bench_surrogates.py [--space nasbench101] [--train 424] [--repeats 3] [--out FILE.json]

Each repeat is a fresh process. Needs no table: the target is a function of the genotype with noise, and the times
do not depend on it. The baseline, measured in the same process, calls `predict` for one architecture at a time (as
libraries with an object per architecture do) on 200 of them; the ratio is to that, scaled to the whole space.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness import fresh_process, machine, report

from tauzero import spaces, surrogates

MEASURE = """
import json, resource, sys, time
import numpy as np
from tauzero import spaces, surrogates
space, name, n = spaces.get(sys.argv[1]), sys.argv[2], int(sys.argv[3])
everything = space.enumerate()
cells = space.sample(n, 0, unique=True)
graphs = space.graphs(cells)
y = 90 + np.log1p(graphs.adjacency.sum(axis=(1, 2))) + np.random.default_rng(0).normal(0, 0.3, n)
start = time.perf_counter()
model = surrogates.create(name, space, random_state=0).fit(cells, y)
fitted = time.perf_counter()
model.predict(everything)
done = time.perf_counter()
for row in cells[:200]:
    model.predict(row[None])
single = (time.perf_counter() - done) / min(200, n) * space.size
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
print(json.dumps({
    "fit, s": fitted - start,
    "predict all, s": done - fitted,
    "one at a time (baseline), s": single,
    "times faster than the baseline": single / (done - fitted),
    "peak MB": peak,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    countable = [name for name in spaces.names() if spaces.get(name).enumerable]
    parser.add_argument("--space", choices=countable, default="nasbench101")
    parser.add_argument(
        "--models", nargs="+", choices=surrogates.names(), default=["auto", "gaussian_process", "lightgbm", "gnn"]
    )
    parser.add_argument("--train", type=int, default=424)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it
    where = machine("lightgbm", "torch", "torch-geometric")
    figures: dict[str, list[float]] = {}
    for name in options.models:
        for _ in range(options.repeats):
            for label, value in fresh_process(MEASURE, options.space, name, options.train).items():
                figures.setdefault(f"{options.space} {name}, {options.train} rows: {label}", []).append(value)
    report(where, figures, options.out)


if __name__ == "__main__":
    main()
