"""What predictions alone find: a surrogate learns random cells of NAS-Bench-201 and names the best, unseen.

    python performance/study_predictions_alone.py [--data ../shared/data] [--trials 100] [--train 100] [--kappa 0.5] \
        [--out FILE.json]

Validation accuracy is learnt; the cell of the highest mean + κ·std of all 15,625 is chosen, and its test accuracy
read. Nothing is looked up besides the training cells. Trials are seeds 0, 1, …; beside it stands the best training
cell. κ = 0 is the predicted mean.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from harness import machine

from tauzero import benchmarks, surrogates
from tauzero.benchmarks import atomic_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--surrogate", default="gaussian_process")
    parser.add_argument("--kappa", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = benchmarks.load("nasbench201", options.data / "nb201" / "nb201.parquet")
    rows = table.space.enumerate()
    found: dict[str, dict[str, list[float]]] = {}
    for dataset in table.datasets:
        learnt, judged = (table.table(dataset, f"{part}_accuracy") for part in ("validation", "test"))
        chosen: dict[str, list[float]] = {}
        for seed in range(options.trials):
            known = np.random.default_rng(seed).choice(len(rows), options.train, replace=False)
            model = surrogates.create(options.surrogate, table.space, random_state=seed)
            mean, std = model.fit(rows[known], learnt[known]).predict(rows, return_std=True)
            for kappa in options.kappa:
                place = int(np.argmax(mean + kappa * std))
                chosen.setdefault(f"kappa {kappa:g}", []).append(float(judged[place]))
            chosen.setdefault("best training cell", []).append(float(judged[known[learnt[known].argmax()]]))
        found[dataset] = {name: [float(np.mean(v)), float(np.std(v))] for name, v in chosen.items()}
        print(dataset, ", ".join(f"{name} {mean:.2f} ± {std:.2f}" for name, (mean, std) in found[dataset].items()))
    if options.out:
        settings = {k: v for k, v in vars(options).items() if k not in {"data", "out"}}
        report = {"settings": settings, "test accuracy, mean and standard deviation": found, "machine": machine()}
        with atomic_path(options.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
