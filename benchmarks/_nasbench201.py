"""What is known of NAS-Bench-201 whichever file brings it: sizes that follow from the cell, times by epoch."""

from __future__ import annotations

__all__ = ["DATASETS", "LICENCE", "size_columns", "time_columns"]

from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._table import Column

LICENCE = "MIT (NAS-Bench-201 and NATS-Bench, Xuanyi Dong et al.)"

#: Short name in files, our name, number of classes, pixels of a side.
DATASETS = (("c10", "cifar10", 10, 32), ("c100", "cifar100", 100, 32), ("in16", "ImageNet16-120", 120, 16))

_CONV_1X1, _CONV_3X3 = 2, 3
_FULL = 200


def size_columns(genotypes: npt.NDArray[np.int8]) -> list[Column]:
    """Parameters and multiply-adds (counted once) of each network, computed.

    Both are sums over the six edges: fifteen cells (five at each of 16, 32 and 64 channels) hold each
    operation. Files keep them as rounded millions, and for 204 architectures one run of the published
    table stores parameters that are not those of the network; the sums are exact. Constants
    from AutoDL-Projects f46486e, xautodl/models/cell_infers/tiny_network.py.
    """
    pointwise = (genotypes == _CONV_1X1).sum(axis=1)
    spatial = (genotypes == _CONV_3X3).sum(axis=1)
    columns = []
    for _, dataset, classes, side in DATASETS:
        # Stem, two residual reductions, last batch norm; then the classifier, with its biases.
        parameters = 72_656 + 65 * classes + 28_000 * pointwise + 243_040 * spatial
        scale = (side // 16) ** 2
        flops = 1_945_600 * scale + 65 * classes + 983_040 * scale * (pointwise + 9 * spatial)
        for metric, values in (("parameters", parameters), ("flops", flops)):
            columns.append(
                Column(
                    dataset,
                    metric,
                    None,
                    None,
                    "count",
                    values.astype(np.int32),
                    "computed from the cell"
                    + ("; multiply-adds of convolutions and classifier, counted once" * (metric == "flops")),
                )
            )
    return columns


def time_columns(dataset: str, seconds: npt.NDArray[Any], epochs: tuple[int, ...]) -> list[Column]:
    """Training times for each budget from the published 200-epoch time, of which there is one per architecture."""
    published = "one figure per architecture; " + (
        "training on the 25,000 images of cifar10-valid" if dataset == "cifar10" else "training set of the dataset"
    )
    return [
        Column(
            dataset,
            "training_seconds",
            epoch,
            None,
            "seconds",
            seconds if epoch == _FULL else seconds.astype(np.float64) * epoch / _FULL,
            published if epoch == _FULL else f"{epoch}/{_FULL} of the {_FULL}-epoch time; {published}",
        )
        for epoch in epochs
    ]
