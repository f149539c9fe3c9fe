"""The operation vocabulary that all spaces share, so that one model can read cells of different spaces."""

from __future__ import annotations

__all__ = ["OPERATIONS", "STRUCTURE", "operation_code"]

from tauzero.spaces.errors import unknown_name

#: Name of each operation code that `CellGraphs.ops` may hold. The order is part of the file format of
#: saved graph models: append, never reorder. ``none`` marks padding and edges without operation.
OPERATIONS: tuple[str, ...] = (
    "none",
    "input",
    "output",
    "skip_connect",
    "conv_1x1",
    "conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sum",
    "conv_5x5",
    "factorized_reduce",
    "mb_conv_3x3",
    "mb_conv_5x5",
    "cell_input_0",
    "cell_input_1",
    "block",
    "block_wide",
    "block_down",
    "block_wide_down",
    "block_c8",
    "block_c16",
    "block_c24",
    "block_c32",
    "block_c40",
    "block_c48",
    "block_c56",
    "block_c64",
    "gat_conv",
    "gcn_conv",
    "gin_conv",
    "cheb_conv",
    "sage_conv",
    "arma_conv",
    "graph_conv",
    "linear",
)

#: Vertices that only say how a graph hangs together: they hold no operation, and no path is named after them.
STRUCTURE: tuple[str, ...] = ("input", "output", "sum", "cell_input_0", "cell_input_1")
_CODES = {name: code for code, name in enumerate(OPERATIONS)}


def operation_code(name: str) -> int:
    """Return the code of an operation of the shared vocabulary; `UnknownNameError` if there is none."""
    try:
        return _CODES[name]
    except KeyError:
        raise unknown_name("operation", name, OPERATIONS) from None
