"""What a search costs besides its objective: seconds per query and per proposal of every algorithm, over seeds.

    python performance/bench_search.py [--data ../shared/data] [--queries 1000] [--seeds 5] [--algorithms a,b] \
        [--out FILE.json] [--trials-speed N]

With --trials-speed it measures instead N trials of regularised evolution over NAS-Bench-101, one after the other in one
process: processor seconds of each, everything but loading the table. Trials that stall are shown apart, as a
population that has converged repeats itself until it is stopped.

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
from tauzero.search._registry import find

SOURCES = {"nasbench201": "nb201/nb201.parquet", "nasbench101": "nb101/nb101.parquet"}


def objective(name: str, data: Path) -> tuple[search.ArrayObjective, str]:
    source = data / SOURCES[name]
    if source.is_file():
        goal = search.TableObjective(benchmarks.load(name, source))
        return goal, f"real table, {goal.label}"
    space = spaces.get(name)
    rows = space.enumerate()
    return search.ArrayObjective(space, rows @ np.random.default_rng(0).random(space.length)), "made-up linear"


def trials_speed(trials: int, queries: int, data: Path) -> dict[str, object]:
    """Processor seconds of whole trials of regularised evolution over NAS-Bench-101."""
    goal, what = objective("nasbench101", data)
    search.run("regularized_evolution", goal, 100, 0)  # what is built once is not a trial's
    seconds, proposals, stalled = [], [], []
    for seed in range(trials):
        start = time.process_time()
        result = search.run("regularized_evolution", goal, queries, seed)
        seconds.append(time.process_time() - start)
        proposals.append(result.queries + result.repeats)
        stalled.append(result.stopped == "stalled")
    ended = np.array(seconds)[~np.array(stalled)]
    figures: dict[str, object] = {
        "objective": what,
        "trials": trials,
        "queries": queries,
        "processor_s": float(np.mean(seconds)),
        "processor_s_median": float(np.median(seconds)),
        "stalled": int(np.sum(stalled)),
        "processor_s_not_stalled": float(ended.mean()),
        "processor_s_not_stalled_std": float(ended.std()),
        "us_per_proposal": 1e6 * float(np.sum(seconds) / np.sum(proposals)),
    }
    print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--algorithms", default=None, help="a,b,c; by default all")
    parser.add_argument("--trials-speed", type=int, default=None, metavar="N")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.trials_speed is not None:
        where = machine()
        figures = trials_speed(options.trials_speed, options.queries, options.data)
        if options.out:
            text = json.dumps({"figures": figures, "machine": where}, indent=1)
            options.out.write_text(text + "\n", encoding="utf-8")
        return
    rows = []
    for name in SOURCES:
        goal, what = objective(name, options.data)
        search.run("random_search", goal, 10, 0)  # what is built once is not the search's
        for algorithm in search.names() if options.algorithms is None else options.algorithms.split(","):
            if issubclass(find(algorithm), search.MultiFidelityAlgorithm) and not goal.fidelities:
                continue  # the made-up objective has no training budgets
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
