"""Neural graph features: operation counts, path lengths over operation subsets, degrees.

After the idea of Kadlecová et al., "Surprisingly Strong Performance Prediction with Neural Graph
Features", ICML 2024 (GRAF, section 3); the choice of features is our own.
"""

from __future__ import annotations

__all__ = ["GraphFeatures"]

import itertools
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder
from tauzero.spaces import STRUCTURE, CellGraphs, Genotypes, operation_code

#: Spaces of more operations than this have features of single operations, pairs and all together only: the
#: number of subsets doubles with each operation.
_ALL_SUBSETS = 5
_CELL_INPUTS = ("cell_input_0", "cell_input_1")


class GraphFeatures(Encoder):
    """Interpretable counts of the cell graph, all invariant to the order of vertices.

    For every operation: how many vertices have it, how many of them read the cell's input and feed its
    output. For every set of operations: the least and the greatest length of an input-to-output path over
    that set only (``V`` and -1 where there is none), and the least and greatest number of operations of the
    set on any path. For every pair of operations: how many edges go from one to the other. Then the numbers
    of vertices, edges and paths, and the direct connections from input to output.

    Vertices without operation, such as sums, are contracted first. In spaces of more than five operations only
    sets of one, two and all operations are looked at. Where a cell has two inputs (`DARTS`), what reads
    the input is counted for each; where there are several kinds of cell (`SearchSpace.cells`), each has its
    own features, whose names end in ``@normal`` and the like.
    """

    name = "graph_features"

    @cached_property
    def _subsets(self) -> list[tuple[int, ...]]:
        k = len(self.space.graph_operations)
        sizes = range(1, k + 1) if k <= _ALL_SUBSETS else (1, 2, k)
        return [s for size in sizes for s in itertools.combinations(range(k), size)]

    @cached_property
    def _layout(self) -> tuple[list[str], bool]:
        """Names of the kinds of cell, and whether cells have two inputs."""
        cells = self.space.cells(self.space.sample(1, 0))
        inputs = [operation_code(name) for name in _CELL_INPUTS]
        return list(cells), any(np.isin(graphs.ops, inputs).any() for graphs in cells.values())

    @cached_property
    def feature_names(self) -> list[str]:
        """Such as ``count[conv_3x3]``, ``max_path[conv_1x1+conv_3x3]``, ``edges[conv_3x3>avg_pool_3x3]``."""
        names = self.space.graph_operations
        kinds, two_inputs = self._layout
        columns = [f"count[{o}]" for o in names]
        columns += [f"from_input[{i}{o}]" for i in (("0:", "1:") if two_inputs else ("",)) for o in names]
        columns += [f"to_output[{o}]" for o in names]
        for subset in self._subsets:
            label = "+".join(names[k] for k in subset)
            columns += [f"min_path[{label}]", f"max_path[{label}]"]
            if len(subset) < len(names):
                columns += [f"least_on_path[{label}]", f"most_on_path[{label}]"]
        columns += [f"edges[{a}>{b}]" for a in names for b in names]
        columns += ["vertices", "edges", "paths", "direct"]
        return columns if len(kinds) == 1 else [f"{column}@{kind}" for kind in kinds for column in columns]

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.float32]:
        return np.concatenate([self._encode_cells(graphs) for graphs in self.space.cells(rows).values()], axis=1)

    def _encode_cells(self, graphs: CellGraphs) -> npt.NDArray[np.float32]:
        readers = [graphs.adjacency[:, 0]]
        if self._layout[1]:
            # What reads c_{k-2} and what reads c_{k-1}, before these vertices are contracted.
            at = [graphs.ops == operation_code(name) for name in _CELL_INPUTS]
            readers = [(graphs.adjacency * mask[:, :, None]).sum(axis=1, dtype=np.uint8) for mask in at]
        graphs = graphs.contract(*(operation_code(name) for name in STRUCTURE if name not in {"input", "output"}))
        codes = np.array([operation_code(o) for o in self.space.graph_operations])
        hot = graphs.ops[:, :, None] == codes  # [n, V, K]
        n = len(graphs)
        output = graphs.num_nodes.astype(np.int64) - 1
        adjacency = graphs.adjacency
        into_output = adjacency[np.arange(n), :, output]  # [n, V]
        weights = hot.astype(np.float32)
        columns = [
            weights.sum(axis=1),
            *(np.einsum("nv,nvk->nk", reader.astype(np.float32), weights) for reader in readers),
            np.einsum("nv,nvk->nk", into_output.astype(np.float32), weights),
        ]
        member = np.stack([hot[:, :, subset].any(axis=2) for subset in self._subsets], axis=2)  # [n, V, S]
        partial = [k for k, subset in enumerate(self._subsets) if len(subset) < len(codes)]
        within = _lengths(graphs, member, output, restrict=True)
        on_path = _lengths(graphs, member[:, :, partial], output, restrict=False)
        for k, subset in enumerate(self._subsets):
            columns.append(within[:, k])
            if len(subset) < len(codes):
                columns.append(on_path[:, partial.index(k)])
        pairs = weights.transpose(0, 2, 1) @ (adjacency.astype(np.float32) @ weights)
        columns.append(pairs.reshape(n, -1))
        vertices = hot.any(axis=2).sum(axis=1)
        edges = adjacency.sum(axis=(1, 2))
        direct = into_output[:, 0]
        columns.append(np.stack([vertices, edges, _num_paths(graphs, output), direct], axis=1))
        return np.concatenate(columns, axis=1, dtype=np.float32)


def _lengths(
    graphs: CellGraphs, member: npt.NDArray[np.bool_], output: npt.NDArray[np.int64], *, restrict: bool
) -> npt.NDArray[np.int8]:
    """Least and greatest number of vertices of each of S sets on a path from input to output, ``int8[n, S, 2]``.

    Parameters
    ----------
    member
        ``bool[n, V, S]``: the vertices of each set.
    restrict
        Only paths count whose inner vertices are all members.
    """
    n, v, sets = member.shape
    far = np.int8(100)
    low = np.full((n, v, sets), far, dtype=np.int8)
    high = np.full((n, v, sets), -far, dtype=np.int8)
    low[:, 0] = high[:, 0] = 0
    for u in range(1, v):
        before = [s for s in range(u) if graphs.adjacency[:, s, u].any()]
        if not before:
            continue
        arriving = graphs.adjacency[:, before, u, None] > 0
        at_output = (output == u)[:, None]
        own = (member[:, u] & ~at_output).astype(np.int8)
        least = np.where(arriving, low[:, before], far).min(axis=1)
        most = np.where(arriving, high[:, before], -far).max(axis=1)
        through = (most >= 0) & (member[:, u] | at_output | (not restrict))
        low[:, u] = np.where(through, least + own, far)
        high[:, u] = np.where(through, most + own, -far)
    rows = np.arange(n)
    least, most = np.minimum(low[rows, output], np.int8(v)), np.maximum(high[rows, output], np.int8(-1))
    return np.stack([least, most], axis=2)


def _num_paths(graphs: CellGraphs, output: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of paths from the input to the output, ``int64[n]``."""
    paths = np.zeros(graphs.ops.shape, dtype=np.int64)
    paths[:, 0] = 1
    for u in range(1, graphs.max_nodes):
        paths[:, u] = (paths[:, :u] * graphs.adjacency[:, :u, u]).sum(axis=1)
    return paths[np.arange(len(paths)), output]
