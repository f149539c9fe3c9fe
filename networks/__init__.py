"""Networks: genotype → `torch.nn.Module`, exactly as the benchmark's authors built and trained it.

`build` makes one untrained network; `count_parameters` and `count_flops` count whole spaces from
closed forms. `names` lists the spaces that have networks.
"""

from __future__ import annotations

__all__ = [
    "DARTS_EVALUATION",
    "DARTS_SEARCH",
    "CellNetwork",
    "DARTSNetwork",
    "DatasetShape",
    "NASBench101Network",
    "NASBench201Network",
    "NASBenchMacroNetwork",
    "NATSBenchSizeNetwork",
    "NetworkFamily",
    "NetworkStack",
    "PlainStack",
    "build",
    "count_flops",
    "count_parameters",
    "dataset_shape",
    "datasets",
    "family",
    "initialise",
    "members_of",
    "names",
    "stack",
    "train_together",
]

from tauzero.networks._build import build, count_flops, count_parameters, stack, train_together
from tauzero.networks._datasets import DatasetShape, dataset_shape, datasets
from tauzero.networks._initialise import initialise
from tauzero.networks._registry import family, names
from tauzero.networks._stack import PlainStack, members_of
from tauzero.networks.base import CellNetwork, NetworkFamily, NetworkStack
from tauzero.networks.darts import EVALUATION as DARTS_EVALUATION
from tauzero.networks.darts import SEARCH as DARTS_SEARCH
from tauzero.networks.darts import DARTSNetwork
from tauzero.networks.nasbench101 import NASBench101Network
from tauzero.networks.nasbench201 import NASBench201Network
from tauzero.networks.nasbench_macro import NASBenchMacroNetwork
from tauzero.networks.natsbench_size import NATSBenchSizeNetwork
