"""How well early epochs rank architectures: Kendall tau with the final test accuracy against the training they cost.

    python performance/bench_curves.py --source FOLDER [--train 100 1000] [--seeds 5] [--out FILE.json]

NAS-Bench-101, the 30,001 cells of which validation accuracies after 4, 12, 36 and 108 epochs are known (one run each),
against the mean test accuracy of three runs after 108 epochs. The four budgets are four trainings with learning rate
schedules of their own: early stopping pays for one of them, predictors that read the curve for all up to the last.
`none` is a Gaussian process on the architecture alone, which trains no judged cell at all. What the training rows cost
(a full training each) is in no figure. Judged are the cells that are not among the training rows; predictors that
learn nothing are judged once on all cells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from harness import machine, report

from tauzero import benchmarks, evaluation, surrogates
from tauzero.surrogates import learning_curves

_EARLY, _FINAL = 36, 108


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", help="NAS-Bench-101 table or the folder of its files; default: the imported one")
    parser.add_argument("--train", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    where = machine("scikit-learn")
    table = benchmarks.load("nasbench101", options.source)
    index = np.flatnonzero(np.isfinite(table.table("cifar10", "validation_accuracy", _FINAL)))
    cells = table.space.enumerate()[index]
    curves = learning_curves.curves_from(table, cells, "cifar10")
    y = table.query(cells, "cifar10", "test_accuracy")
    figures: dict[str, list[float]] = {}

    def keep(rows: list[dict[str, float]], prefix: str) -> None:
        for row in rows:
            label = f"{prefix}{row['predictor']}, {row['epochs']} epochs, {row['fraction']:.3f} of the cost"
            figures.setdefault(label, []).append(row["tau"])

    plain = {
        "early_stopping": learning_curves.create("early_stopping"),
        "sum_of_curve": learning_curves.create("sum_of_curve"),
        "extrapolation": learning_curves.create("extrapolation", final=_FINAL),
    }
    keep(learning_curves.tau_by_cost(plain, curves, y), "")
    early = curves.until(_EARLY)
    full = curves.each_seconds[:, -1]
    for size in options.train:
        for seed in range(options.seeds):
            train = np.random.default_rng(seed).choice(len(cells), size, replace=False)
            fitted = {
                "lc_svr": learning_curves.create("lc_svr", random_state=seed),
                "lc_svr with architecture": learning_curves.create("lc_svr", space=table.space, random_state=seed),
            }
            prefix = f"{size} rows: "
            keep(learning_curves.tau_by_cost(fitted, early, y, train, genotypes=cells, full_seconds=full), prefix)
            others = np.setdiff1d(np.arange(len(cells)), train)
            model = surrogates.create("gaussian_process", table.space, random_state=seed).fit(cells[train], y[train])
            tau = evaluation.kendall_tau(y[others], model.predict(cells[others]))
            figures.setdefault(f"{prefix}none (Gaussian process on the architecture), 0 epochs", []).append(tau)
    report(where, figures, options.out)


if __name__ == "__main__":
    main()
