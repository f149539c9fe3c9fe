"""What one-shot searches find in NAS-Bench-201 on a CPU, and how far their own accuracies can be trusted.

    python performance/study_oneshot.py --images CIFAR10.npz --table NB201 --work FOLDER [--seeds 3] [--methods a b]
    python performance/study_oneshot.py … --relation [--runs 30]

The first form runs every method with a few seeds in a shortened form of its published run and looks the found cells up.
The second compares the accuracy at the end of a search with that of the trained network: DARTS, whose cell is trained
from scratch, against ISTA-NAS in one stage, whose search goes over into the training. Finished runs are kept in
FOLDER, and both forms go on where they were interrupted. Results are written to performance/results/.

What is shortened: 8 channels instead of 16, 1 cell in a stage instead of 5, images of 16×16 pixels (averages of 2×2),
10,000 instead of 50,000 images, 100 epochs instead of some 250 for RSPS, ENAS, GDAS and SETN (for the relation
4,000 images and 25 epochs). There are fewer steps by a large factor, so the learning rate of the architecture is
multiplied by it, up to a bound: architecture parameters could travel as far as in the published run. ISTA-NAS in one
stage searches for at most so many epochs as DARTS and trains on for as many.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import machine

import tauzero as tz
from tauzero.benchmarks import atomic_path
from tauzero.search import oneshot

RESULTS = Path(__file__).parent / "results"
SHORT = {
    "channels": 8,
    "cells_per_stage": 1,
    "num_images": 10_000,
    "image_size": 16,
    "batch_size": 64,
    "learning_rate": 0.025,
    "ranked": 100,
    "ranked_images": 1000,
}
#: Published: 50 for DARTS and its kin, some 250 for the others.
EPOCHS = {"rsps": 100, "enas": 100, "gdas": 100, "setn": 100}
FEW = 50
#: For the relation: many runs, each with a training of what was found.
RELATED = {"num_images": 4000, "epochs": 25}
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
#: The published controller has 50 updates of 20 architectures an epoch; here 10 of 10.
EXTRA: dict[str, dict[str, Any]] = {
    "enas": {"controller_steps": 10, "controller_samples": 10, "candidates": 50, "candidate_images": 256},
    "rsps": {"candidates": 100, "candidate_images": 512},
    "setn": {},
    "pc-darts": {"partial": 4},
    "ista-nas-one-stage": {"validation": 0.5},
}
PAPER = {
    "rsps": (87.66, 58.33, 31.14),
    "darts-v1": (54.30, 15.61, 16.32),
    "darts-v2": (54.30, 15.61, 16.32),
    "enas": (54.30, 15.61, 16.32),
    "gdas": (93.61, 70.70, 41.84),
    "setn": (87.64, 59.05, 32.52),
}


def options_of(method: str, epochs: int, largest_rate: float, **more: Any) -> dict[str, Any]:
    found = SHORT | EXTRA.get(method, {}) | more | {"epochs": epochs}
    if method == "ista-nas-one-stage":
        found["search_epochs"] = epochs
    if method in PUBLISHED:
        steps, rate = PUBLISHED[method]
        ours = epochs * (found["num_images"] // 2 // found["batch_size"])
        found["architecture_learning_rate"] = min(largest_rate, rate * steps / ours)
    return found


def one(method: str, seed: int, args: argparse.Namespace, table: Any, options: dict[str, Any]) -> dict[str, Any]:
    """One run, or its result where it has been made."""
    folder = folder_of(args, method, seed)
    kept = folder / "result.json"
    if not kept.exists():
        result = oneshot.run(
            method, "nasbench201", args.images, preset="paper", seed=seed, out=folder, device="cpu", table=table,
            **options,
        )  # fmt: skip
        print(method, seed, result.arch, f"{result.value:.1f}", f"{result.seconds:.0f} s", flush=True)
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    other = {name: value for name, value in options.items() if found["options"][name] != value}
    if other:
        raise ValueError(f"{kept} is of a run with other options than {other}: delete its folder.")
    return found | {"drift": drift(folder)}


def folder_of(args: argparse.Namespace, method: str, seed: int) -> Path:
    return Path(args.work) / f"{'relation' if args.relation else 'search'}-{method}-{seed}"


def drift(folder: Path) -> list[int | None]:
    """Skip connections in the cell that a run would have returned after each epoch."""
    archs = pd.read_parquet(folder / "history.parquet")["arch"]
    return [None if arch is None else arch.count("skip_connect") for arch in archs]


def search(args: argparse.Namespace, table: Any) -> dict[str, Any]:
    rows = []
    for method in args.methods or oneshot.names():
        options = options_of(method, EPOCHS.get(method, FEW), args.largest_rate)
        runs = [one(method, seed, args, table, options) for seed in range(args.seeds)]
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
            "skip_connections_by_epoch": [run["drift"] for run in runs],
            "parameter_free": np.isin(cells, (0, 1, 4)).sum(axis=1).tolist(),
            "value": [run["best"]["value"] for run in runs],
            "search_accuracy": [run["search_accuracy"] for run in runs],
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
    for method in args.methods or ("darts-v1", "ista-nas", "ista-nas-one-stage"):
        more = {"num_images": RELATED["num_images"], "data_seed": 0, "ranked": 0}
        options = options_of(method, RELATED["epochs"], args.largest_rate, **more)
        pairs = []
        for seed in range(args.runs):
            run = one(method, seed, args, table, options)
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
    kept = folder_of(args, run["method"], seed) / "trained.json"
    if not kept.exists():
        import torch

        from tauzero.search._training import Images, train
        from tauzero.search.oneshot._data import load_images
        from tauzero.search.oneshot._settings import Settings

        settings = Settings(num_images=RELATED["num_images"], image_size=SHORT["image_size"])
        device = torch.device("cpu")
        halves = load_images(args.images, settings, seed=0, multiple=4, device=device)
        images = Images(halves.train, halves.validation, halves.num_classes, halves.description, device)
        space = tz.spaces.get("nasbench201")
        recipe = {
            "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64, "augment": True,
            "options": {"channels": SHORT["channels"], "cells_per_stage": SHORT["cells_per_stage"]},
        }  # fmt: skip
        row = space.from_string([run["best"]["arch"]])[0]
        value, _ = train(space, row, images, epochs=RELATED["epochs"], seed=seed, recipe=recipe)  # type: ignore[arg-type]
        with atomic_path(kept) as partial:
            partial.write_text(json.dumps({"accuracy": value}), encoding="utf-8")
    return float(json.loads(kept.read_text(encoding="utf-8"))["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="CIFAR-10 as the one-shot search reads it")
    parser.add_argument("--table", required=True, help="a file of NAS-Bench-201")
    parser.add_argument("--work", required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", help="only these; results are written when all are run")
    parser.add_argument("--largest-rate", type=float, default=0.03, help="of the architecture; bounds the scaling")
    parser.add_argument("--relation", action="store_true")
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()
    table = tz.benchmarks.load("nasbench201", args.table)
    found = relation(args, table) if args.relation else search(args, table)
    if args.methods:
        return
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
