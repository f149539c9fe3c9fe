"""What a search costs besides its objective: seconds per query and per proposal of every algorithm, over seeds.

    python performance/bench_search.py [--data ../shared/data] [--queries 1000] [--seeds 5] [--out FILE.json]

With the Parquet files of NAS-Bench-101 and 201 below --data the objective is the real table, else a made-up one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from harness import machine

from tauzero import benchmarks, search, spaces

SOURCES = {"nasbench201": "nb201/nb201.parquet", "nasbench101": "nb101/nb101.parquet"}


def objective(name: str, data: Path) -> tuple[search.ArrayObjective, str]:
    source = data / SOURCES[name]
    if source.is_file():
        goal = search.TableObjective(benchmarks.load(name, source))
        return goal, f"real table, {goal.label}"
    space = spaces.get(name)
    rows = space.enumerate()
    return search.ArrayObjective(space, rows @ np.random.default_rng(0).random(space.length)), "made-up linear"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in SOURCES:
        goal, what = objective(name, options.data)
        search.run("random_search", goal, 10, 0)  # what is built once is not the search's
        for algorithm in search.names():
            walls, proposals, regrets = [], [], []
            for seed in range(options.seeds):
                start = time.perf_counter()
                result = search.run(algorithm, goal, options.queries, seed)
                walls.append(time.perf_counter() - start)
                proposals.append(result.queries + result.repeats)
                regrets.append(result.regret(goal.optimum)[-1])
            row = {
                "space": name,
                "objective": what,
                "algorithm": algorithm,
                "queries": options.queries,
                "wall_s": float(np.mean(walls)),
                "wall_s_std": float(np.std(walls, ddof=1)),
                "proposals": float(np.mean(proposals)),
                "us_per_proposal": 1e6 * float(np.sum(walls) / np.sum(proposals)),
                "regret": float(np.mean(regrets)),
            }
            rows.append(row)
            print(
                f"{name:12} {algorithm:22} {options.queries} queries: {row['wall_s']:.3f} ± {row['wall_s_std']:.3f} s, "
                f"{row['proposals']:,.0f} proposals, {row['us_per_proposal']:.0f} µs each, regret {row['regret']:.3f}"
            )
    report = {"rows": rows, "seeds": options.seeds, "machine": machine()}
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
