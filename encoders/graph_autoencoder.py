"""Embeddings of a variational graph autoencoder trained on the unlabelled space."""

from __future__ import annotations

__all__ = ["GraphAutoencoder"]

from typing import TYPE_CHECKING

from tauzero.encoders._pretraining_base import PretrainedEncoder

if TYPE_CHECKING:
    from tauzero.encoders._pretraining_network import Pretraining


class GraphAutoencoder(PretrainedEncoder):
    """Mean latent vector of a cell's vertices, from which its operations and edges can be told.

    After arch2vec (Yan et al., "Does Unsupervised Architecture Representation Learning Help Neural Architecture
    Search?", NeurIPS 2020): a graph isomorphism network encodes every vertex as a normal distribution; a
    perceptron reads its operation off a draw from it, and a product of the draws of two vertices tells whether there
    is an edge. Unlike there, messages along and against the edges are kept apart, and the product is
    bilinear, so that an edge has a direction.

    The parameters are those of `tauzero.encoders._pretraining_base.PretrainedEncoder`.
    """

    name = "graph_autoencoder"

    def _make(self) -> Pretraining:
        from tauzero.encoders._pretraining_autoencoder import CellAutoencoder

        return CellAutoencoder(self.dimensions)
