"""How much faster networks are trained in groups than one by one, with the same recipe and the same results.

    python performance/bench_build.py [--repeats 5] [--alone 6] [--out FILE.json]

Each repeat takes another group of a build of all NAS-Bench-201 networks. It is trained as `tauzero benchmarks build`
does it, and some of its networks are trained one by one: built, trained with SGD, evaluated after each epoch, with
PyTorch's own layers. Both run on one thread in turn, in this process; figures are processor seconds per
architecture, in which other programs show less than in wall time. A second worker doubles both. Images are digits of
8×8 pixels.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from harness import machine, report

from tauzero.search import plan_table
from tauzero.search._table_training import train_group, train_one

#: Label and recipe: that of digits201, and one whose time goes into training rather than into evaluation.
RECIPES = {
    "3 cells, 5 × (train 200, evaluate 500)": {
        "epochs": 5, "train_images": 200, "validation_images": 100, "test_images": 400, "cells_per_stage": 3,
    },
    "1 cell, 4 × (train 400, evaluate 400)": {
        "epochs": 4, "train_images": 400, "validation_images": 100, "test_images": 300, "cells_per_stage": 1,
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--alone", type=int, default=6, help="networks of each group that are trained one by one")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    where = machine("torch")
    torch.set_num_threads(1)
    figures: dict[str, list[float]] = {}
    for label, recipe in RECIPES.items():
        plan = plan_table("nasbench201", seeds=1, channels=4, batch_size=25, **recipe)
        groups = plan.groups()
        for repeat in range(options.repeats):
            group = groups[np.random.default_rng(repeat).integers(len(groups) - 1)]
            start = time.process_time()
            curves = train_group(plan.space, group.rows, repeat, plan.split, plan.protocol)
            together = (time.process_time() - start) / len(group.rows)
            chosen = np.random.default_rng(repeat).choice(len(group.rows), options.alone, replace=False)
            start = time.process_time()
            each = [train_one(plan.space, group.rows[k], repeat, plan.split, plan.protocol) for k in chosen]
            alone = (time.process_time() - start) / len(chosen)
            difference = np.concatenate([e.test for e in each]) - curves.test[chosen]
            training = (sum(e.seconds for e in each) / len(each)) / (curves.seconds / len(group.rows))
            for name, value in (
                ("seconds, in groups of 64", together),
                ("seconds, one by one", alone),
                ("times faster", alone / together),
                ("times faster, training without evaluation", training),
                ("mean difference of test accuracy, points", 100 * np.abs(difference).mean() / len(plan.split.test[1])),
            ):
                figures.setdefault(f"{label}: {name}", []).append(float(value))
    report(where, figures, options.out)


if __name__ == "__main__":
    main()
