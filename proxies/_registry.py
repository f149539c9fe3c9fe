"""The explicit registry of proxies: what is not listed here does not exist, what is listed is tested."""

from __future__ import annotations

__all__ = ["get", "names"]

from tauzero.proxies.base import Proxy
from tauzero.proxies.flops import FLOPs
from tauzero.proxies.nwot import NWOT
from tauzero.proxies.params import Params
from tauzero.proxies.synflow import SynFlow
from tauzero.spaces import unknown_name

_PROXIES: dict[str, Proxy] = {
    "flops": FLOPs(),
    "nwot": NWOT(),
    "params": Params(),
    "synflow": SynFlow(),
}
_ALIASES = {"naswot": "nwot"}


def names() -> list[str]:
    """Names of all proxies, sorted; `get` and `score` know aliases (``naswot`` for ``nwot``) besides."""
    return sorted(_PROXIES)


def get(name: str) -> Proxy:
    """Return the proxy of a name or alias.

    Raises
    ------
    UnknownNameError
        If there is no such proxy; the message lists those there are.
    """
    key = _ALIASES.get(name, name)
    if key not in _PROXIES:
        raise unknown_name("proxy", name, [*_PROXIES, *_ALIASES])
    return _PROXIES[key]
