"""The explicit registry of spaces: what is listed here is tested; users add their own by `register`."""

from __future__ import annotations

__all__ = ["get", "names", "register", "restore"]

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

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
_SHIPPED = frozenset(_SPACES)
_INSTANCES: dict[str, SearchSpace] = {}
_Space = TypeVar("_Space", bound=type[SearchSpace])


def names() -> list[str]:
    """Names of all search spaces, sorted."""
    return sorted(_SPACES)


def register(space: _Space) -> _Space:
    """Make a search space of one's own known by its name, to `get` and to all that takes the name of a space.

    Registration holds for the running process. A module that defines a space and registers it is imported where the
    space is needed; processes that are started for parallel work import it by themselves.

    Parameters
    ----------
    space
        The class, a concrete `SearchSpace` that is made without arguments. Its `name` is of letters, digits, ``_`` and
        none of tauzero's. A class of the same module and class name takes the place of the one before it, so that
        a notebook's cell can be run again.

    Returns
    -------
    type
        The class: `register` is a decorator too.

    Raises
    ------
    ValueError
        If the class cannot be made, has no such name, or the name is taken.

    Examples
    --------
    >>> from tauzero import spaces
    >>> @spaces.register
    ... class Shallow(spaces.LayerChain):
    ...     name = "shallow"
    ...     layers = (("conv_1x1", "conv_3x3"),) * 3
    >>> spaces.get("shallow").size
    8
    """
    if not (isinstance(space, type) and issubclass(space, SearchSpace)):
        raise ValueError(  # noqa: TRY004 - the rule of the house: one kind of error for bad input
            f"`register` takes a subclass of SearchSpace, not an instance or another thing. Got {space!r}."
        )
    name = getattr(space, "name", None)
    if not (isinstance(name, str) and name.isidentifier() and name.isascii()):
        raise ValueError(
            f"The attribute 'name' of {space.__name__} must be a word of letters, digits and '_'. Got {name!r}."
        )
    known = _SPACES.get(name)
    if known is space:
        return space
    if known is not None:
        same = (known.__module__, known.__qualname__) == (space.__module__, space.__qualname__)
        if name in _SHIPPED or not same:
            owner = f"{known.__module__}.{known.__qualname__}"
            raise ValueError(f"There is a search space {name!r} already, {owner}: choose another name.")
    try:
        made = space()
    except TypeError as error:  # methods are missing, or it takes arguments
        raise ValueError(f"The search space {name!r} cannot be made by {space.__name__}(): {error}.") from error
    if made.name != name:
        raise ValueError(f"The search space {name!r} must keep the name of its class. Got {made.name!r}.")
    _SPACES[name] = space
    _INSTANCES.pop(name, None)
    return space


def restore(space: type[SearchSpace], name: str) -> SearchSpace:
    """Return the instance of a pickled space of a user's, registered first where it is not yet."""
    if name.partition("(")[0] not in _SPACES:
        register(space)
    return get(name)


def _instance(name: str) -> SearchSpace:
    """The one instance of a name as a space writes it itself."""
    if name not in _INSTANCES:
        kind, params = parse_name(name)
        _INSTANCES.setdefault(name, _SPACES[kind](**params))  # the first of two threads wins
    return _INSTANCES[name]


@cache
def _parsed(name: str) -> tuple[str, dict[str, Any]]:
    return parse_name(name)


def _read(name: str) -> SearchSpace:
    """The instance of a name in whatever form; many forms share one."""
    if name in _INSTANCES:
        return _INSTANCES[name]
    kind, params = _parsed(name)
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
