"""What one-shot searches find in NAS-Bench-201 on a CPU, and how far their own accuracies can be trusted.

    python performance/study_oneshot.py --images CIFAR10.npz --table NB201 --work FOLDER [--seeds 3] [--methods a b]
    python performance/study_oneshot.py … --relation [--runs 12]

The first form runs every method with a few seeds in a shortened form of its published run and looks the found cells up.
The second compares the accuracy at the end of a search with that of the trained network: DARTS, whose cell is trained
from scratch, against ISTA-NAS in one stage, whose search goes over into the training. Finished runs are kept in
FOLDER, and both forms go on where they were interrupted. Results are written to performance/results/.

What is shortened: 8 channels instead of 16, 1 cell in a stage instead of 5, images of 16×16 pixels (averages of 2×2),
4,000 instead of 50,000 images, 25 epochs. There are fewer steps by a large factor, so the learning rate of the
architecture is multiplied by it: architecture parameters could travel as far as in the published run.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from harness import machine

import tauzero as tz
from tauzero.benchmarks import atomic_path
from tauzero.search import oneshot

RESULTS = Path(__file__).parent / "results"
SHORT = {
    "channels": 8,
    "cells_per_stage": 1,
    "num_images": 4000,
    "image_size": 16,
    "batch_size": 64,
    "learning_rate": 0.025,
    "ranked": 100,
    "ranked_images": 1000,
}
EPOCHS = 25
STEPS = 31 * EPOCHS
#: Published: epochs × steps of an epoch (25,000 images of the training half), learning rate of the architecture.
PUBLISHED = {
    "darts-v1": (50 * 390, 3e-4),
    "darts-v2": (50 * 390, 3e-4),
    "gdas": (250 * 390, 3e-4),
    "setn": (250 * 390, 3e-4),
    "pc-darts": (50 * 97, 6e-4),
    "ista-nas": (50 * 97, 6e-4),
    "ista-nas-one-stage": (120 * 520, 3e-4),
}
#: The controller has 50 updates of 20 architectures an epoch over 250 epochs; here 100 × 10 in all.
EXTRA: dict[str, dict[str, Any]] = {
    "enas": {"controller_steps": 4, "controller_samples": 10, "candidates": 50, "candidate_images": 256},
    "rsps": {"candidates": 100, "candidate_images": 512},
    "setn": {},
    "pc-darts": {"partial": 4},
    "ista-nas-one-stage": {"validation": 0.5, "search_epochs": 10},
}
PAPER = {
    "rsps": (87.66, 58.33, 31.14),
    "darts-v1": (54.30, 15.61, 16.32),
    "darts-v2": (54.30, 15.61, 16.32),
    "enas": (54.30, 15.61, 16.32),
    "gdas": (93.61, 70.70, 41.84),
    "setn": (87.64, 59.05, 32.52),
}


def options_of(method: str, largest_rate: float) -> dict[str, Any]:
    found = SHORT | EXTRA.get(method, {})
    if method in PUBLISHED:
        steps, rate = PUBLISHED[method]
        found["architecture_learning_rate"] = min(largest_rate, rate * steps / STEPS)
    return found


def one(method: str, seed: int, args: argparse.Namespace, table: Any, **more: Any) -> dict[str, Any]:
    """One run, or its result where it has been made."""
    tag = "relation" if more else "search"
    folder = Path(args.work) / f"{tag}-{method}-{seed}"
    kept = folder / "result.json"
    if not kept.exists():
        epochs = EPOCHS - 10 if method == "ista-nas-one-stage" else EPOCHS
        result = oneshot.run(
            method, "nasbench201", args.images, preset="paper", seed=seed, out=folder, epochs=epochs, device="cpu",
            table=table, **(options_of(method, args.largest_rate) | more),
        )  # fmt: skip
        print(method, seed, result.arch, f"{result.value:.1f}", f"{result.seconds:.0f} s", flush=True)
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def search(args: argparse.Namespace, table: Any) -> dict[str, Any]:
    rows = []
    for method in args.methods or oneshot.names():
        runs = [one(method, seed, args, table) for seed in range(args.seeds)]
        accuracies = np.array(
            [[run["best"]["datasets"][d]["test_accuracy"] for d in table.datasets] for run in runs], dtype=float
        )
        cells = table.space.from_string([run["best"]["arch"] for run in runs])
        taus = [run["supernet_tau"] for run in runs if run["supernet_tau"] is not None]
        row = {
            "method": method,
            "seeds": args.seeds,
            "test_mean": accuracies.mean(axis=0).round(2).tolist(),
            "test_std": accuracies.std(axis=0, ddof=1).round(2).tolist() if args.seeds > 1 else None,
            "published": PAPER.get(method),
            "rank_cifar10": [run["best"]["rank"] for run in runs],
            "supernet_tau": [float(np.mean(taus)), float(np.std(taus, ddof=1))] if len(taus) > 1 else taus,
            "skip_connections": (cells == 1).sum(axis=1).tolist(),
            "parameter_free": np.isin(cells, (0, 1, 4)).sum(axis=1).tolist(),
            "archs": [run["best"]["arch"] for run in runs],
            "train_seconds": float(np.mean([run["train_seconds"] for run in runs])),
            "epochs": runs[0]["epochs"],
            "architecture_learning_rate": runs[0]["options"]["architecture_learning_rate"],
        }
        rows.append(row)
        print(f"{method:20s} {row['test_mean']} ± {row['test_std']}  tau {row['supernet_tau']}", flush=True)
    return {"rows": rows, "datasets": list(table.datasets), "short": SHORT, "extra": EXTRA}


def relation(args: argparse.Namespace, table: Any) -> dict[str, Any]:
    """Accuracy at the end of the search against that of the trained network, run by run, on the same halves."""
    found: dict[str, Any] = {}
    for method in ("darts-v1", "pc-darts", "ista-nas", "ista-nas-one-stage"):
        pairs = []
        for seed in range(args.runs):
            run = one(method, seed, args, table, data_seed=0, ranked=0)
            value = run["best"]["value"] if method == "ista-nas-one-stage" else trained(run, seed, args)
            pairs.append((run["search_accuracy"], value))
        at_search, at_end = np.array(pairs).T
        tau = tz.evaluation.kendall_tau(at_end, at_search)
        rng = np.random.default_rng(0)
        draws = (rng.integers(len(pairs), size=len(pairs)) for _ in range(2000))
        many = [tz.evaluation.kendall_tau(at_end[d], at_search[d]) for d in draws if len(np.unique(at_end[d])) > 1]
        found[method] = {
            "tau": float(tau),
            "tau_std_bootstrap": float(np.nanstd(many)),
            "runs": len(pairs),
            "search_accuracy": at_search.tolist(),
            "evaluation_accuracy": at_end.tolist(),
        }
        print(f"{method:20s} tau {tau:+.2f} ± {found[method]['tau_std_bootstrap']:.2f}", flush=True)
    return found


def trained(run: dict[str, Any], seed: int, args: argparse.Namespace) -> float:
    """Accuracy of the found cell, trained from scratch on the same half and judged on the same other one."""
    kept = Path(args.work) / f"relation-{run['method']}-{seed}" / "trained.json"
    if not kept.exists():
        import torch

        from tauzero.search._training import train
        from tauzero.search.oneshot._data import load_images
        from tauzero.search.oneshot._settings import Settings

        settings = Settings(num_images=SHORT["num_images"], image_size=SHORT["image_size"])
        images = load_images(args.images, settings, seed=0, multiple=4, device=torch.device("cpu"))
        space = tz.spaces.get("nasbench201")
        recipe = {
            "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64, "augment": True,
            "options": {"channels": SHORT["channels"], "cells_per_stage": SHORT["cells_per_stage"]},
        }  # fmt: skip
        row = space.from_string([run["best"]["arch"]])[0]
        value, _ = train(space, row, images, epochs=EPOCHS, seed=seed, recipe=recipe)  # type: ignore[arg-type]
        with atomic_path(kept) as partial:
            partial.write_text(json.dumps({"accuracy": value}), encoding="utf-8")
    return float(json.loads(kept.read_text(encoding="utf-8"))["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="CIFAR-10 as the one-shot search reads it")
    parser.add_argument("--table", required=True, help="a file of NAS-Bench-201")
    parser.add_argument("--work", required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--largest-rate", type=float, default=0.03, help="of the architecture; bounds the scaling")
    parser.add_argument("--relation", action="store_true")
    parser.add_argument("--runs", type=int, default=12)
    args = parser.parse_args()
    table = tz.benchmarks.load("nasbench201", args.table)
    found = relation(args, table) if args.relation else search(args, table)
    name = "oneshot_relation.json" if args.relation else "oneshot_nb201.json"
    with atomic_path(RESULTS / name) as partial:
        header = {
            "machine": machine("torch", "numpy"),
            "python": platform.python_version(),
            "images": "CIFAR-10, JPEG-lossy",
        }
        partial.write_text(json.dumps(header | {"results": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
