"""The explicit registry of search algorithms: what is listed is tested by the contract suite."""

from __future__ import annotations

__all__ = ["create", "find", "names", "register"]

from typing import Any

from tauzero.search.asha import ASHA
from tauzero.search.bananas import Bananas
from tauzero.search.base import Algorithm
from tauzero.search.bohb import BOHB
from tauzero.search.dehb import DEHB
from tauzero.search.differential_evolution import DifferentialEvolution
from tauzero.search.evolution import Evolution
from tauzero.search.graph_gp import GraphGP
from tauzero.search.hyperband import Hyperband, SuccessiveHalving
from tauzero.search.local_search import LocalSearch
from tauzero.search.mass_evolution import MassEvolution
from tauzero.search.npenas import NPENAS
from tauzero.search.nsga2 import NSGA2
from tauzero.search.proxy_evolution import ProxyEvolution
from tauzero.search.random_search import RandomSearch
from tauzero.search.regularized_evolution import RegularizedEvolution
from tauzero.search.reinforce import Reinforce
from tauzero.search.smac import SMAC
from tauzero.search.tauzero_search import TauZeroSearch
from tauzero.search.tpe import TPE
from tauzero.search.weaknas import WeakNAS
from tauzero.spaces import SearchSpace, Seed, unknown_name

_ALGORITHMS: dict[str, type[Algorithm]] = {}


def register(algorithm: type[Algorithm]) -> type[Algorithm]:
    """Add an algorithm class under its `name`; usable as a decorator.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    if algorithm.name in _ALGORITHMS:
        raise ValueError(
            f"The search algorithm {algorithm.name!r} is registered already ({_ALGORITHMS[algorithm.name]!r}): "
            "choose another `name`."
        )
    _ALGORITHMS[algorithm.name] = algorithm
    return algorithm


for _algorithm in (
    ASHA,
    Bananas,
    BOHB,
    DEHB,
    DifferentialEvolution,
    Evolution,
    GraphGP,
    Hyperband,
    LocalSearch,
    MassEvolution,
    NPENAS,
    NSGA2,
    ProxyEvolution,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
    SuccessiveHalving,
    SMAC,
    TauZeroSearch,
    TPE,
    WeakNAS,
):
    register(_algorithm)


def names() -> list[str]:
    """Names of all search algorithms, sorted."""
    return sorted(_ALGORITHMS)


def find(name: str) -> type[Algorithm]:
    """Return the class of a search algorithm; `UnknownNameError` lists those there are."""
    if name not in _ALGORITHMS:
        raise unknown_name("search algorithm", name, _ALGORITHMS)
    return _ALGORITHMS[name]


def create(name: str, space: SearchSpace | str, seed: Seed, **params: Any) -> Algorithm:
    """Create a search algorithm.

    Parameters
    ----------
    name
        One of `names`.
    space
        A search space or its name.
    seed
        A non-negative integer, `SeedSequence` or `Generator`.
    **params
        Keyword parameters of the algorithm's class.

    Raises
    ------
    UnknownNameError
        If there is no such algorithm; the message lists those there are.
    """
    chosen = find(name)
    try:
        return chosen(space, seed, **params)
    except TypeError as error:
        raise ValueError(f"The parameters {sorted(params)} do not fit the algorithm {name!r}: {error}.") from error
