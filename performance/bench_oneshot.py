"""Memory and time of one search step of each one-shot method, on the same supernet, against first-order DARTS.

    python performance/bench_oneshot.py [--space darts] [--batch 16] [--repeats 5] [--out FILE.json]

A step is one of the architecture and one of the weights, on a batch each, as the trainer makes them. Methods are timed
in turn, so that all meet the same other load; ratios are per repeat. Memory is what a forward pass of the step, the one
that keeps the most, keeps for its backward pass (bytes of all different tensors saved by autograd, parameters aside):
exact, and the same on a GPU. The supernets are the papers': DARTS cells 16 channels and 8 cells, NAS-Bench-201 16
channels and 15 cells.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import machine

from tauzero import spaces
from tauzero.benchmarks import atomic_path
from tauzero.search import oneshot
from tauzero.search.oneshot._data import Images
from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._registry import find, supernet_class
from tauzero.search.oneshot._settings import resolve
from tauzero.search.oneshot._trainer import Training
from tauzero.search.oneshot.base import Moment

BASELINE = "darts-v1"


def training_of(method: str, space_name: str, batch: int) -> Training:
    space = spaces.get(space_name)
    family = supernet_class(space)
    options: dict[str, Any] = {"batch_size": batch, "augment": False}
    if space_name == "darts":
        options["none"] = method not in {"ista-nas", "ista-nas-one-stage"}
    if method == "ista-nas-one-stage":
        # The target's settings are another network; here the search's, with the norms that the method needs.
        options |= {"channels": 16}
        options |= {"layers": 8, "auxiliary": False, "cutout": 0} if space_name == "darts" else {}
    setup = resolve(find(method), family, space, preset="paper", options=options)
    generator = torch.Generator().manual_seed(0)
    pixels, labels = torch.randn(4 * batch, 3, 32, 32, generator=generator), torch.arange(4 * batch) % 10
    halves = (pixels[: 2 * batch], labels[: 2 * batch]), (pixels[2 * batch :], labels[2 * batch :])
    images = Images(*halves, 10, "noise", augment=False, held_out=True)
    supernet = family(space, 10, setup.supernet, generator)
    training = Training(supernet, find(method)(setup.method), setup.settings, images, seed=0)
    training.supernet.train()
    training.method.epoch_start(training, setup.settings.epochs - 1)
    return training


def step(training: Training, number: int) -> float:
    start = time.perf_counter()
    method, (pixels, labels) = training.method, training.images.train
    size = training.settings.batch_size
    moment = Moment(training.settings.epochs - 1, training.settings.epochs, number % 2, 2)
    batch = pixels[:size], labels[:size]
    validation = tuple(part[:size] for part in training.images.validation)
    if method.steps_architecture and not method.joint:
        training._architecture(moment, batch, validation)  # type: ignore[arg-type]
    training._weights(moment, batch)
    training._losses.clear()
    return time.perf_counter() - start


def saved_mb(training: Training) -> float:
    """Most megabytes that a forward pass of a step, weights' or architecture's, keeps for its backward pass."""
    every: list[Gates] = []
    plain = training._loss_and_right

    def noting(batch: Any, gates: Gates) -> Any:
        every.append(gates)
        return plain(batch, gates)

    training._loss_and_right = noting  # type: ignore[method-assign]
    try:
        step(training, 0)
    finally:
        training._loss_and_right = plain  # type: ignore[method-assign]
    size = training.settings.batch_size
    pixels, labels = (part[:size] for part in training.images.train)
    found = []
    for gates in every:
        weights, edges = (
            None if value is None else value.detach().requires_grad_(value.requires_grad)
            for value in (gates.weights, gates.edges)
        )
        fresh = Gates(weights, gates.active, edges)
        found.append(oneshot.step_cost(training.supernet, fresh, pixels, labels, repeats=1).saved_mb)
    return max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", nargs="*", default=["darts", "nasbench201"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=oneshot.names())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": machine("torch"), "batch": args.batch, "repeats": args.repeats}
    for space in args.space:
        trainings = {m: training_of(m, space, args.batch) for m in dict.fromkeys((BASELINE, *args.methods))}
        memory = {m: saved_mb(t) for m, t in trainings.items()}  # and a step to warm up
        times = {m: np.zeros(args.repeats) for m in trainings}
        for k in range(args.repeats):
            for name, training in trainings.items():
                times[name][k] = step(training, k)
        rows = []
        for name in trainings:
            ratio = times[BASELINE] / times[name]
            rows.append(
                {
                    "method": name,
                    "seconds": float(times[name].mean()),
                    "faster_than_darts": float(ratio.mean()),
                    "faster_than_darts_std": float(ratio.std(ddof=1)) if args.repeats > 1 else None,
                    "kept_for_backward_mb": memory[name],
                    "memory_of_darts": memory[name] / memory[BASELINE],
                }
            )
            print(
                f"{space:12s} {name:20s} {times[name].mean():7.3f} s a step, {ratio.mean():5.2f} × DARTS's speed; "
                f"{memory[name]:8.1f} MB, {memory[name] / memory[BASELINE]:.3f} of DARTS",
                flush=True,
            )
        found[space] = rows
    if args.out is not None:
        with atomic_path(args.out) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
