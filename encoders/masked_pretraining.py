"""Embeddings of a graph network that learned to fill in hidden parts of cells and to foresee their flow."""

from __future__ import annotations

__all__ = ["MaskedPretraining"]

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tauzero.encoders._pretraining_base import PretrainedEncoder
from tauzero.encoders._pretraining_flow import flow_vectors, flow_width
from tauzero.spaces import CellGraphs

if TYPE_CHECKING:
    from tauzero.encoders._pretraining_network import Pretraining

_HEADS = 4  # draws of random maps
_SEED = 0  # the same flow for every seed of the training


class MaskedPretraining(PretrainedEncoder):
    """Embedding from which the flow through a cell can be told, of a network that also fills in hidden parts.

    Two tasks without labels at once. A fifth of the operations and of the possible edges is hidden, and has to be
    told from the rest (masked modelling; Hou et al., "GraphMAE", KDD 2022, for graphs). And the embedding of the
    whole cell has to tell what random vectors become on their way through it, forwards and backwards, each operation
    being a fixed random map: the flow surrogate of Hwang et al. ("FGP", NeurIPS 2025, arXiv:2510.18360), see
    `tauzero.encoders._pretraining_flow`.

    The parameters are those of `tauzero.encoders._pretraining_base.PretrainedEncoder`.
    """

    name = "masked_pretraining"

    def _make(self) -> Pretraining:
        from tauzero.encoders._pretraining_masked import MaskedCells

        return MaskedCells(self.dimensions, flow_width(_HEADS))

    def _targets(self, graphs: CellGraphs) -> npt.NDArray[np.float32]:
        flow = flow_vectors(graphs, heads=_HEADS, seed=_SEED)
        flow = np.sign(flow) * np.log1p(np.abs(flow))
        flow -= flow.mean(axis=0)
        spread = flow.std(axis=0)
        return np.asarray(flow / np.where(spread > 1e-9, spread, 1.0), dtype=np.float32)
