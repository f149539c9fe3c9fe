"""From curves of different networks to the columns of a table."""

from __future__ import annotations

__all__ = ["make_columns"]

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import Column
from tauzero.benchmarks._table import mean_over_runs

if TYPE_CHECKING:
    from tauzero.search._table_folder import Results
    from tauzero.search.table_building import BuildPlan

_TEXTS = {
    "train": "of the training images, while the weights changed",
    "validation": "of the validation images, after the epoch",
    "test": "of the test images, after the epoch",
}


def make_columns(plan: BuildPlan, results: Results) -> tuple[Column, ...]:
    """All columns, spread over the members of each network."""
    settings, dataset = plan.settings, str(plan.settings["dataset"])
    batch = min(settings["batch_size"], settings["train_images"])
    seen = max(1, settings["train_images"] // batch) * batch
    images = {"train": seen, "validation": settings["validation_images"], "test": settings["test_images"]}
    diverged = results.counts["test"] < 0
    curves: list[tuple[str, str, npt.NDArray[np.float64], str]] = []
    for name, text in _TEXTS.items():
        values = 100.0 * results.counts[name] / images[name]
        # A network that answers nothing finite does as well as one that guesses.
        values = np.where(diverged & (name != "train"), 100.0 / settings["classes"], values)
        curves.append((f"{name}_accuracy", "percent", values, f"right answers {text}"))
    loss = np.where(np.isfinite(results.loss), results.loss, np.nan)
    curves.append(("negative_train_loss", "score", -loss, f"minus the mean cross-entropy {_TEXTS['train']}"))
    columns: list[Column] = []
    for metric, unit, values, text in curves:
        for epoch in range(plan.protocol.epochs):
            runs = [run[plan.network_of].astype(np.float32) for run in values[:, :, epoch]]
            if len(runs) > 1:
                mean = mean_over_runs(runs).astype(np.float32)
                columns.append(Column(dataset, metric, epoch + 1, None, unit, mean, f"mean over runs; {text}"))
            columns += [
                Column(dataset, metric, epoch + 1, seed, unit, run, f"seed {seed}; {text}")
                for seed, run in enumerate(runs)
            ]
            if len(runs) == 1:  # the only run is the mean as well
                columns.append(Column(dataset, metric, epoch + 1, None, unit, runs[0], f"the only run; {text}"))
    return (*columns, *_costs(plan, results, dataset))


def _costs(plan: BuildPlan, results: Results, dataset: str) -> list[Column]:
    """Seconds, in proportion to multiply-adds, and the counts of each member."""
    from tauzero import networks

    options: dict[str, Any] = dict(plan.protocol.options)
    height, _ = plan.settings["image_size"]
    shape = networks.DatasetShape(plan.settings["classes"], height)
    of_networks = networks.count_flops(plan.space, plan.networks, shape, **options).astype(np.float64)
    seconds = (of_networks / of_networks.sum() * results.seconds / len(results.loss))[plan.network_of]
    text = "share in the processor time of all trainings, in proportion to multiply-adds; evaluation apart"
    epochs = plan.protocol.epochs
    columns = [
        Column(dataset, "training_seconds", e, None, "seconds", (seconds * e / epochs).astype(np.float32), text)
        for e in range(1, epochs + 1)
    ]
    flops = networks.count_flops(plan.space, plan.members, shape, **options)
    parameters = networks.count_parameters(plan.space, plan.members, plan.settings["classes"], **options)
    for metric, values in (("parameters", parameters), ("flops", flops)):
        columns.append(Column(dataset, metric, None, None, "count", values.astype(np.int64), "computed from the cell"))
    return columns
