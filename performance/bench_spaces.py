"""How long whole spaces take: enumerate, canonicalise, encode with every encoder, hash; rows per second of `index`.

    python performance/bench_spaces.py [--spaces nasbench201 nasbench101] [--encoders ...] [--repeats 5]
        [--rows N] [--out FILE.json]

Each repeat is a fresh process, because spaces and encoders remember what they have built. Needs no data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import fresh_process, machine, report

from tauzero import encoders, spaces

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
for encoder in sys.argv[3].split(","):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    countable = [name for name in spaces.names() if spaces.get(name).enumerable]
    parser.add_argument("--spaces", nargs="+", choices=countable, default=["nasbench201", "nasbench101"])
    # Encoders that are trained first, or read a table, are left out: their cost is in docs/encoders.md.
    closed = ["adjacency", "descriptors", "graph_features", "onehot", "paths", "signal_propagation", "union"]
    parser.add_argument("--encoders", nargs="+", choices=encoders.names(), default=closed)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000, help="batch that `index` is timed with")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    where = machine()
    figures: dict[str, list[float]] = {}
    for name in options.spaces:
        for _ in range(options.repeats):
            for label, value in fresh_process(MEASURE, name, options.rows, ",".join(options.encoders)).items():
                figures.setdefault(f"{name} {label}", []).append(value)
    report(where, figures, options.out)


if __name__ == "__main__":
    main()
