"""tauzero predicts how good a neural architecture will be without training it.

The rooms of the house are loaded when first used: ``tauzero.spaces``, ``benchmarks``, ``networks``,
``encoders``, ``surrogates``, ``proxies``, ``search`` and ``evaluation``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tauzero import benchmarks, encoders, evaluation, networks, proxies, search, spaces, surrogates

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "benchmarks",
    "encoders",
    "evaluation",
    "networks",
    "proxies",
    "search",
    "spaces",
    "surrogates",
]

_ROOMS = frozenset(__all__) - {"__version__"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"tauzero.{name}")
    raise AttributeError(f"module 'tauzero' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
