"""Train one of the surrogates that ship with tauzero, and write its card.

    python examples/train_pretrained.py nasbench101 cifar10 --out surrogates/pretrained

The rows of `tauzero.evaluation.holdout_mask(space)` (a fifth of the space, whole classes of equal
networks) are kept apart: the model never sees them, and the card's figures are measured on them alone.
Which model is trained for which table is fixed in `RECIPES`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tauzero as tz

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "nasbench101": (
        "gnn",
        {
            "members": 1,
            "width": 64,
            "layers": 4,
            "epochs": 24,
            "batch_size": 512,
            "dropout": 0.0,
            "features": False,
            "loss": "hinge",
            "learning_rate": 2e-3,
        },
    ),
    "nasbench201": (
        "gnn",
        {"members": 3, "width": 48, "epochs": 150, "batch_size": 128, "target": "mixed", "loss": "hinge"},
    ),
}


def tau_per_network(space: Any, judged: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> float:
    """Kendall's tau with every network counted once, its accuracies averaged over the cells that are equal to it.

    One class of NAS-Bench-201 has 460 members: counted by row, a seventh of the held-out rows is one network.
    """
    _, network = np.unique(space.classes()[judged], return_inverse=True)
    members = np.bincount(network)
    return float(
        tz.evaluation.kendall_tau(np.bincount(network, truth) / members, np.bincount(network, prediction) / members)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(RECIPES))
    parser.add_argument("dataset")
    parser.add_argument("--source", default=None, help="table to read instead of the imported one")
    parser.add_argument("--out", type=Path, default=Path("surrogates/pretrained"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    benchmark = tz.benchmarks.load(arguments.benchmark, arguments.source)
    space = benchmark.space
    accuracy = benchmark.table(arguments.dataset, "test_accuracy")
    held_out = tz.evaluation.holdout_mask(space)
    cells = space.enumerate()
    train = ~held_out & np.isfinite(accuracy)
    name, params = RECIPES[arguments.benchmark]
    start = time.perf_counter()

    def report(done: int, total: int) -> None:
        if done % 500 == 0 or done == total:
            print(f"step {done} of {total}, {time.perf_counter() - start:.0f} s", flush=True)

    model = tz.surrogates.create(name, space, random_state=0, progress=report, **params)
    model.fit(cells[train], accuracy[train])
    fit_seconds = time.perf_counter() - start
    judged = held_out & np.isfinite(accuracy)
    prediction, deviation = model.predict(cells[judged], return_std=True)
    truth = accuracy[judged]
    metrics = tz.evaluation
    model.set_params(progress=None)
    info = benchmark.info()
    model.metadata_ = {
        "name": f"{arguments.benchmark}-{arguments.dataset}",
        "benchmark": arguments.benchmark,
        "dataset": arguments.dataset,
        "metric": "test_accuracy",
        "unit": "percent",
        "training_rows": int(train.sum()),
        "held_out_rows": int(judged.sum()),
        "held_out": "tauzero.evaluation.holdout_mask(space): a fifth of the space by class of equal networks, seed 0",
        "kendall_tau": round(metrics.kendall_tau(truth, prediction), 4),
        "kendall_tau_per_network": round(tau_per_network(space, judged, truth, prediction), 4),
        "spearman": round(metrics.spearman(truth, prediction), 4),
        "r2": round(metrics.r2(truth, prediction), 4),
        "precision_at_1_percent": round(metrics.precision_at_k(truth, prediction, 0.01), 4),
        "mae": round(metrics.mae(truth, prediction), 4),
        "within_1_std": round(float((np.abs(truth - prediction) <= deviation).mean()), 4),
        "within_2_std": round(float((np.abs(truth - prediction) <= 2 * deviation).mean()), 4),
        "surrogate": name,
        "params": params,
        "seed": 0,
        "fit_seconds": round(fit_seconds),
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "data_source": [{"name": f["name"], "sha256": f["sha256"]} for f in info["provenance"]["files"]],
        "data_licence": info["licence"],
        "command": f"python examples/train_pretrained.py {arguments.benchmark} {arguments.dataset}",
        "limits": "For cells of this space and this training protocol only; no promise elsewhere.",
    }
    folder = model.save(arguments.out / model.metadata_["name"])
    print(json.dumps(model.metadata_, indent=1))
    print(f"Saved in {folder}")


if __name__ == "__main__":
    main()
