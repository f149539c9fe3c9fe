"""Encoders: genotypes to feature matrices ``float32[n, d]``, whole batches at once.

`create` makes one by name, `names` lists them, `union` concatenates several.
"""

from __future__ import annotations

__all__ = [
    "Adjacency",
    "Computation",
    "Descriptors",
    "Encoder",
    "EncoderLike",
    "Features",
    "GraphAutoencoder",
    "GraphFeatures",
    "Laplacian",
    "MaskedPretraining",
    "OneHot",
    "Paths",
    "ProxyScores",
    "SignalPropagation",
    "Union",
    "create",
    "names",
    "resolve",
    "union",
]

from tauzero.encoders._registry import create, names, resolve
from tauzero.encoders.adjacency import Adjacency
from tauzero.encoders.base import Encoder, EncoderLike, Features
from tauzero.encoders.computation import Computation
from tauzero.encoders.descriptors import Descriptors
from tauzero.encoders.graph_autoencoder import GraphAutoencoder
from tauzero.encoders.graph_features import GraphFeatures
from tauzero.encoders.laplacian import Laplacian
from tauzero.encoders.masked_pretraining import MaskedPretraining
from tauzero.encoders.onehot import OneHot
from tauzero.encoders.paths import Paths
from tauzero.encoders.proxy_scores import ProxyScores
from tauzero.encoders.signal_propagation import SignalPropagation
from tauzero.encoders.union import Union, union
