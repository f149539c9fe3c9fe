"""Candidates a minute of searches in spaces that no table covers, by the surrogates that ship.

    python performance/bench_extended_search.py [--threads 2] [--budget 100000]

Five seeds; wall and processor time of the whole search, proposals and costs included.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch

import tauzero as tz

CASES = (
    ("nasbench201x(nodes=5)", "nasbench201-cifar10", None),
    ("nasbench101x(vertices=8,edges=11)", "nasbench101-cifar10", None),
    ("nasbench201x(nodes=5)", "multi-space", "nasbench201/cifar10"),
    ("nasbench101x(vertices=8,edges=11)", "multi-space", "nasbench101/cifar10"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for space, name, source in CASES:
        model = tz.surrogates.extend(tz.surrogates.load(name), space, source=source)
        objective = tz.search.WithCosts(tz.search.SurrogateObjective(model), ["params", "flops"])
        wall, used, best, front = [], [], [], []
        for seed in range(arguments.seeds):
            start, spent = time.perf_counter(), time.process_time()
            found = tz.search.run("mass_evolution", objective, arguments.budget, seed, batch_size=2_000)
            wall.append(60 * found.queries / (time.perf_counter() - start))
            used.append((time.process_time() - spent) / found.queries * 1e6)
            best.append(found.best_value)
            front.append(len(found.pareto_front()))
        print(
            f"{space} {name}: {np.mean(wall):,.0f} ± {np.std(wall):,.0f} candidates/min, {np.mean(used):.0f} µs of "
            f"processor time each, best {np.mean(best):.2f} ± {np.std(best):.2f} %, front {np.mean(front):.0f}, "
            f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
