"""What the tests of the surrogates share: small models, a synthetic accuracy, and rows of a space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero import spaces, surrogates

#: Parameters that make a surrogate quick; what is not listed is quick by itself.
SMALL: dict[str, dict[str, Any]] = {
    "extra_trees": {"num_trees": 20},
    "gnn": {"members": 1, "width": 8, "layers": 1, "epochs": 3, "device": "cpu"},
    "mlp": {"width": 8, "depth": 1, "epochs": 5, "members": 3},
    "quantile_boosting": {"levels": [0.2, 0.5, 0.8], "members": 3, "num_trees": 20, "n_jobs": 1},
    "random_forest": {"num_trees": 20},
    "svr": {"C": 10.0, "gamma": 0.2},
    "tuned": {"surrogate": "gaussian_process", "trials": 2, "folds": 2},
    "wl_gaussian_process": {"iterations": 10},
    "xgboost": {"num_trees": 20, "n_jobs": 1},
}


def small(name: str, space: str | spaces.SearchSpace, **params: Any) -> surrogates.Surrogate:
    """A surrogate that is fitted in a fraction of a second."""
    return surrogates.create(name, space, **(SMALL.get(name, {}) | params))


def accuracy(space: str | spaces.SearchSpace, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A made-up accuracy in percent, ``float64[n]``: 3×3 convolutions or wide blocks help, so does depth."""
    the_space = spaces.get(space)
    # Canonical rows: equal networks have equal accuracies.
    graphs = the_space.graphs(the_space.canonical(genotypes))
    edges = graphs.adjacency > 0
    depth = np.zeros(graphs.ops.shape, dtype=np.int64)  # longest way from the input
    for v in range(1, graphs.max_nodes):
        depth[:, v] = np.where(edges[:, :v, v], depth[:, :v] + 1, 0).max(axis=1)
    at_output = depth[np.arange(len(graphs)), graphs.num_nodes.astype(np.int64) - 1]
    helpful = ("conv_3x3", "sep_conv_3x3", "block_wide", "block_wide_down", "block_c48", "block_c56", "block_c64")
    helpful += ("mb_conv_5x5", "gcn_conv", "sage_conv")
    strong = [spaces.operation_code(name) for name in helpful]
    convolutions = np.isin(graphs.ops, strong).sum(axis=1)
    return 80.0 + 2.0 * convolutions + 0.5 * at_output


def rows(space: str | spaces.SearchSpace, n: int, seed: int = 0) -> spaces.Genotypes:
    """n different networks, one row each, ``int8[n, L]``."""
    the_space = spaces.get(space)
    different, inverse = the_space.distinct(the_space.sample(4 * n + 20, seed))
    _, first = np.unique(inverse, return_index=True)
    return different[inverse[np.sort(first)[:n]]]
