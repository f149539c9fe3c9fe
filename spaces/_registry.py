"""The explicit registry of spaces: what is not listed here does not exist, what is listed is tested."""

from __future__ import annotations

__all__ = ["get", "names"]

from collections.abc import Mapping
from functools import cache
from typing import Any

from tauzero.spaces._parameters import parse_name
from tauzero.spaces.base import SearchSpace
from tauzero.spaces.darts import DARTS
from tauzero.spaces.errors import unknown_name
from tauzero.spaces.nasbench101 import NASBench101
from tauzero.spaces.nasbench101x import NASBench101X
from tauzero.spaces.nasbench201 import NASBench201
from tauzero.spaces.nasbench201x import NASBench201X
from tauzero.spaces.nasbench_graph import NASBenchGraph
from tauzero.spaces.nasbench_macro import NASBenchMacro
from tauzero.spaces.natsbench_size import NATSBenchSize
from tauzero.spaces.transnas_macro import TransNASMacro
from tauzero.spaces.transnas_micro import TransNASMicro

_SPACES: dict[str, type[SearchSpace]] = {
    DARTS.name: DARTS,
    NASBench101.name: NASBench101,
    "nasbench101x": NASBench101X,
    NASBench201.name: NASBench201,
    "nasbench201x": NASBench201X,
    NASBenchGraph.name: NASBenchGraph,
    NASBenchMacro.name: NASBenchMacro,
    NATSBenchSize.name: NATSBenchSize,
    TransNASMacro.name: TransNASMacro,
    TransNASMicro.name: TransNASMicro,
}


def names() -> list[str]:
    """Names of all search spaces, sorted."""
    return sorted(_SPACES)


@cache
def _instance(name: str) -> SearchSpace:
    """The one instance of a name as a space writes it itself."""
    kind, params = parse_name(name)
    return _SPACES[kind](**params)


@cache
def _read(name: str) -> SearchSpace:
    """The instance of a name in whatever form; many forms share one."""
    kind, params = parse_name(name)
    if kind not in _SPACES:
        raise unknown_name("search space", name, _SPACES)
    return _with(kind, params)


def _with(kind: str, params: Mapping[str, Any]) -> SearchSpace:
    known = _SPACES[kind].parameters
    for name in params:
        if name not in known:
            takes = f"It has {', '.join(f'{k}={v!r}' for k, v in known.items())}." if known else "It has none."
            raise ValueError(f"The search space {kind!r} has no parameter {name!r}. {takes}")
    return _instance(_SPACES[kind](**params).name)


def get(name: str | SearchSpace, **params: Any) -> SearchSpace:
    """Return the search space of a name, such as ``"nasbench201"``; a space passes through.

    Parameters
    ----------
    name
        One of `names`; with parameters in brackets where a space has some, as in
        ``"nasbench201x(nodes=6,operations=none+skip_connect+conv_3x3)"``.
    **params
        The same parameters as arguments: ``get("nasbench201x", nodes=6)``.

    Raises
    ------
    UnknownNameError
        If there is no such space; the message lists those there are.
    ValueError
        If a space has no such parameter, or it cannot have this value.
    """
    if isinstance(name, SearchSpace):
        if params:
            raise ValueError(f"{name!r} is made already and takes no parameters. Got {sorted(params)}: pass its name.")
        return name
    if not isinstance(name, str):
        raise unknown_name("search space", name, _SPACES)
    if not params:
        return _read(name)
    kind, written = parse_name(name)
    if kind not in _SPACES:
        raise unknown_name("search space", name, _SPACES)
    twice = sorted(written.keys() & params)
    if twice:
        raise ValueError(f"The parameters {twice} of {name!r} are given twice: in the name and as arguments.")
    return _with(kind, written | params)
