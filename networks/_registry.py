"""The explicit registry: which spaces have networks."""

from __future__ import annotations

__all__ = ["family", "names"]

from functools import cache

from tauzero.networks.base import NetworkFamily
from tauzero.networks.darts import DARTSFamily
from tauzero.networks.nasbench101 import NASBench101Family, NASBench101XFamily
from tauzero.networks.nasbench201 import NASBench201Family, NASBench201XFamily
from tauzero.networks.nasbench_macro import NASBenchMacroFamily
from tauzero.networks.natsbench_size import NATSBenchSizeFamily
from tauzero.networks.transnas_macro import TransNASMacroFamily
from tauzero.networks.transnas_micro import TransNASMicroFamily
from tauzero.spaces import SearchSpace, UnknownNameError, get, unknown_name

_FAMILIES: dict[str, NetworkFamily] = {
    DARTSFamily.space: DARTSFamily(),
    NASBench101Family.space: NASBench101Family(),
    NASBench101XFamily.space: NASBench101XFamily(),
    NASBench201Family.space: NASBench201Family(),
    NASBench201XFamily.space: NASBench201XFamily(),
    NASBenchMacroFamily.space: NASBenchMacroFamily(),
    NATSBenchSizeFamily.space: NATSBenchSizeFamily(),
    TransNASMacroFamily.space: TransNASMacroFamily(),
    TransNASMicroFamily.space: TransNASMicroFamily(),
}

#: Published spaces whose networks are not built, and why.
_WITHOUT = {
    "nasbench_graph": "they are graph neural networks, which classify the vertices of a graph and read no images; "
    "encoders, surrogates and searches over a table work."
}


def names() -> list[str]:
    """Names of the spaces whose networks can be built, sorted."""
    return sorted(_FAMILIES)


def family(space: str | SearchSpace) -> NetworkFamily:
    """Return the network family of a space.

    Raises
    ------
    UnknownNameError
        If the space has no networks; the message lists those that have.
    """
    name = space.name if isinstance(space, SearchSpace) else space
    if name in _FAMILIES:
        return _FAMILIES[name]
    kind = str(name).partition("(")[0]
    if kind in _WITHOUT:
        there = ", ".join(names())
        raise UnknownNameError(f"The space {name!r} has no networks: {_WITHOUT[kind]} Spaces with networks: {there}.")
    if kind not in _FAMILIES or kind == name:
        raise unknown_name("space with networks", name, _FAMILIES)
    return _with_parameters(kind, get(name).name)


@cache
def _with_parameters(kind: str, name: str) -> NetworkFamily:
    made: NetworkFamily = type(_FAMILIES[kind])(name)  # type: ignore[call-arg] # of a space with parameters
    return made
