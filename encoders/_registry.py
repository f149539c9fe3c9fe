"""The explicit registry of encoders: what is not listed here does not exist, what is listed is tested."""

from __future__ import annotations

__all__ = ["create", "names", "resolve"]

from typing import Any

from tauzero.encoders.adjacency import Adjacency
from tauzero.encoders.base import Encoder, EncoderLike
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
from tauzero.encoders.union import Union
from tauzero.spaces import SearchSpace, unknown_name

_ENCODERS: dict[str, type[Encoder]] = {
    Adjacency.name: Adjacency,
    Computation.name: Computation,
    GraphAutoencoder.name: GraphAutoencoder,
    Descriptors.name: Descriptors,
    GraphFeatures.name: GraphFeatures,
    Laplacian.name: Laplacian,
    MaskedPretraining.name: MaskedPretraining,
    OneHot.name: OneHot,
    Paths.name: Paths,
    ProxyScores.name: ProxyScores,
    SignalPropagation.name: SignalPropagation,
    Union.name: Union,
}


def names() -> list[str]:
    """Names of all encoders, sorted."""
    return sorted(_ENCODERS)


def create(name: str, space: SearchSpace | str, **params: Any) -> Encoder:
    """Make an encoder of a space.

    Parameters
    ----------
    name
        One of `names`, such as ``"graph_features"``.
    space
        A search space or its name.
    **params
        Parameters of that encoder.

    Raises
    ------
    UnknownNameError
        If there is no such encoder.
    ValueError
        If it has no such parameter.
    """
    if not isinstance(name, str) or name not in _ENCODERS:
        raise unknown_name("encoder", name, _ENCODERS)
    try:
        return _ENCODERS[name](space, **params)
    except TypeError as error:
        raise ValueError(f"Wrong parameters for the encoder {name!r}: {error}.") from error


def resolve(encoder: EncoderLike, space: SearchSpace, **params: Any) -> Encoder:
    """Turn a name, or a name and its parameters, into an encoder of a space; an encoder of it passes through.

    Raises
    ------
    ValueError
        If the encoder is of another space, or there is none of that name.
    """
    if isinstance(encoder, Encoder):
        made = encoder
    else:
        name, own = (encoder, {}) if isinstance(encoder, str) else encoder
        made = create(name, space, **(params | own))
    if made.space is not space:
        raise ValueError(f"An encoder of {space.name} was expected. Got {made!r}.")
    return made
