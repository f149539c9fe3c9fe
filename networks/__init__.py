"""Networks: genotype → `torch.nn.Module`, exactly as the benchmark's authors built and trained it.

`build` makes one untrained network; `count_parameters` and `count_flops` count whole spaces from
closed forms. `names` lists the spaces that have networks.
"""

from __future__ import annotations

__all__ = [
    "CellNetwork",
    "DatasetShape",
    "NASBench201Network",
    "NetworkFamily",
    "build",
    "count_flops",
    "count_parameters",
    "dataset_shape",
    "datasets",
    "family",
    "names",
]

from tauzero.networks._build import build, count_flops, count_parameters
from tauzero.networks._datasets import DatasetShape, dataset_shape, datasets
from tauzero.networks._registry import family, names
from tauzero.networks.base import CellNetwork, NetworkFamily
from tauzero.networks.nasbench201 import NASBench201Network
