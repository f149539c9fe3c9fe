"""Search spaces: what an architecture is.

An architecture is a row of small integers, a batch a C-contiguous ``int8[n, L]`` matrix; a
`SearchSpace` gives meaning to rows. `get` returns a space by name, `names` lists them.
"""

from __future__ import annotations

__all__ = [
    "DARTS",
    "OPERATIONS",
    "STRUCTURE",
    "BenchmarkFormatError",
    "CellGraphs",
    "Genotypes",
    "InvalidGenotypeError",
    "LayerChain",
    "MissingExtraError",
    "NASBench101",
    "NASBench101X",
    "NASBench201",
    "NASBench201X",
    "NASBenchGraph",
    "NASBenchMacro",
    "NATSBenchSize",
    "NotEnumerableError",
    "Progress",
    "SearchSpace",
    "Seed",
    "TauzeroError",
    "TransNASMacro",
    "TransNASMicro",
    "UnknownNameError",
    "as_generator",
    "get",
    "names",
    "operation_code",
    "register",
    "unknown_name",
]

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import OPERATIONS, STRUCTURE, operation_code
from tauzero.spaces._progress import Progress
from tauzero.spaces._random import Seed, as_generator
from tauzero.spaces._registry import get, names, register
from tauzero.spaces.base import Genotypes, SearchSpace
from tauzero.spaces.darts import DARTS
from tauzero.spaces.errors import (
    BenchmarkFormatError,
    InvalidGenotypeError,
    MissingExtraError,
    NotEnumerableError,
    TauzeroError,
    UnknownNameError,
    unknown_name,
)
from tauzero.spaces.layer_chain import LayerChain
from tauzero.spaces.nasbench101 import NASBench101
from tauzero.spaces.nasbench101x import NASBench101X
from tauzero.spaces.nasbench201 import NASBench201
from tauzero.spaces.nasbench201x import NASBench201X
from tauzero.spaces.nasbench_graph import NASBenchGraph
from tauzero.spaces.nasbench_macro import NASBenchMacro
from tauzero.spaces.natsbench_size import NATSBenchSize
from tauzero.spaces.transnas_macro import TransNASMacro
from tauzero.spaces.transnas_micro import TransNASMicro
