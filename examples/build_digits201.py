"""Builds, judges and packs digits201: every NAS-Bench-201 cell trained on scikit-learn's digits.

    python examples/build_digits201.py --out FOLDER             # trains; the same command goes on after any stop
    python examples/build_digits201.py --out FOLDER --pack      # finishes if need be, then writes the shipped file
    python examples/build_digits201.py --out FOLDER --report [--nasbench201 TABLE]   # noise ceiling, tau, as JSON

The shipped file is benchmarks/embedded/digits201.npz; its card is docs/digits201.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tauzero import benchmarks, evaluation
from tauzero.benchmarks import Benchmark, Table
from tauzero.benchmarks._embedded import pack
from tauzero.search import build_table

NAME = "digits201"
LICENCE = (
    "CC BY 4.0 (images: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning "
    "Repository, doi 10.24432/C50P49, as shipped by scikit-learn); figures: Apache-2.0"
)
#: Chosen by the spread of accuracies, the noise ceiling and the cost on random cells, never by NAS-Bench-201's figures.
PROTOCOL: dict[str, Any] = {
    "epochs": 5,
    "seeds": 3,
    "train_images": 200,
    "validation_images": 100,
    "test_images": 400,
    "batch_size": 25,
    "channels": 4,
    "cells_per_stage": 3,
    "group_size": 64,
}
ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "benchmarks" / "embedded" / f"{NAME}.npz"
CARD = ROOT / "docs" / f"{NAME}.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=PROTOCOL["seeds"])
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--nasbench201", help="file or folder of the real table; the data folder's by default")
    args = parser.parse_args()
    table = build(args.out, args.workers, args.seeds)
    if args.pack:
        protocol = table.provenance["protocol"]
        batch = min(protocol["batch_size"], protocol["train_images"])
        images = {
            "train_accuracy": protocol["train_images"] // batch * batch,
            "validation_accuracy": protocol["validation_images"],
            "test_accuracy": protocol["test_images"],
        }
        pack(table, FILE, images)
        figures = report(Benchmark(table), args.nasbench201)
        CARD.write_text(card(table, figures), encoding="utf-8")
        print(f"Wrote {FILE} ({FILE.stat().st_size / 1e6:.2f} MB) and {CARD}")
    if args.report:
        print(json.dumps(report(Benchmark(table), args.nasbench201), indent=1))


def build(out: Path, workers: int, seeds: int) -> Table:
    start, before = time.time(), -1

    def progress(done: int, total: int) -> None:
        nonlocal before
        before = done if before < 0 else before
        rate = (done - before) / max(time.time() - start, 1e-9)
        left = (total - done) / rate if rate else float("nan")
        print(f"{done} of {total} trainings, {time.time() - start:.0f} s, {left:.0f} s left", flush=True)

    settings = {**PROTOCOL, "seeds": seeds}
    return build_table(
        "nasbench201", out, "digits", name=NAME, licence=LICENCE, workers=workers, progress=progress, **settings
    )


def report(mine: Benchmark, source: str | None) -> dict[str, Any]:
    """Noise ceilings over all cells and over different networks, and tau against CIFAR-10."""
    cells = mine.space.enumerate()
    _, first = np.unique(mine.space.distinct(cells)[1], return_index=True)
    epochs = mine.epochs("digits", "test_accuracy")
    found: dict[str, Any] = {"epochs": {}}
    for epoch in epochs:
        runs = np.stack([mine.table("digits", "test_accuracy", epoch, seed=k) for k in mine.runs("digits")], axis=1)
        mean = runs.mean(axis=1)
        spread = np.quantile(mean[first], [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])
        found["epochs"][epoch] = {
            "ceiling_all": evaluation.noise_ceiling(runs),
            "ceiling_unique": evaluation.noise_ceiling(runs[first]),
            "one_run_against_mean_of_others_unique": float(np.mean([
                evaluation.kendall_tau(runs[first, k], np.delete(runs[first], k, axis=1).mean(axis=1))
                for k in range(runs.shape[1])
            ])),
            "reliability_of_mean_unique": reliability(runs[first]),
            "mean_against_mean_unique": expected_tau(reliability(runs[first])),
            "mean_against_expected_unique": expected_tau(max(reliability(runs[first]), 0) ** 0.5),
            "quantiles_unique": spread.round(2).tolist(),
        }  # fmt: skip
    try:
        real = benchmarks.load("nasbench201", source)
    except benchmarks.MissingTableError as error:
        print(error, file=sys.stderr)
        return found
    truth = real.table("cifar10")
    mean = mine.table("digits", "test_accuracy")
    found["tau_cifar10_all"] = evaluation.kendall_tau(truth, mean)
    found["tau_cifar10_unique"] = evaluation.kendall_tau(truth[first], mean[first])
    found["tau_between_datasets_and_flops_unique"] = {
        "cifar10": evaluation.kendall_tau(truth[first], mine.table("digits", "flops")[first]),
        "digits": evaluation.kendall_tau(mean[first], mine.table("digits", "flops")[first]),
    }
    return found


def card(table: Table, figures: dict[str, Any]) -> str:
    """The page docs/digits201.md, every figure measured."""
    made = table.provenance
    protocol = "\n".join(f"| {key.replace('_', ' ')} | {value} |" for key, value in made["protocol"].items())
    rows = "\n".join(
        f"| {epoch} | {f['ceiling_all']:.3f} | {f['ceiling_unique']:.3f} | {f['mean_against_mean_unique']:.3f} | "
        f"{f['mean_against_expected_unique']:.3f} | {', '.join(map(str, f['quantiles_unique']))} |"
        for epoch, f in figures["epochs"].items()
    )
    against = (
        f"Kendall's tau with NAS-Bench-201's CIFAR-10 accuracies: {figures['tau_cifar10_all']:.3f} over all cells, "
        f"{figures['tau_cifar10_unique']:.3f} over different networks. The protocol was not chosen by it."
        if "tau_cifar10_all" in figures
        else ""
    )
    return f"""# digits201

All {table.rows:,} cells of NAS-Bench-201, each different network really trained on scikit-learn's digits: the table
that comes with the package. `tauzero.benchmarks.load("digits201")` unpacks it into the data folder at first use.

    python examples/build_digits201.py --out FOLDER --pack

{made["trainings"]:,} trainings ({made["seeds"]} seeds), {made["processor_seconds"] / 60:.0f} processor minutes
of training besides evaluation; {", ".join(f"{k} {v}" for k, v in made["versions"].items())}.

Licence: {table.licence}.

## Protocol

| setting | value |
|---|---|
{protocol}

## How much of the ranking is chance

Kendall's tau in test accuracy. *Between runs*: one training against another. *Between means*: what the mean of this
table's runs is expected to have with the mean of as many others, and *with expectation* with the mean of infinitely
many, both from the variances within and between networks as if all were normal.

| epoch | runs, all cells | runs, different networks | means | expectation | means at 0, 10, 25, 50, 75, 90, 100 % |
|---|---|---|---|---|---|
{rows}

{against}
"""


def expected_tau(correlation: float) -> float:
    """Kendall's tau of normal variables with a correlation."""
    return float(2 / np.pi * np.arcsin(np.clip(correlation, 0, 1)))


def reliability(runs: np.ndarray) -> float:
    """Share of the variance of means over runs that is due to the networks (1 - within / (r · between))."""
    within = runs.var(axis=1, ddof=1).mean() / runs.shape[1]
    return float(1 - within / runs.mean(axis=1).var(ddof=1))


if __name__ == "__main__":
    main()
