"""Benchmarks that are no tables: names such as ``surrogate:DIR``, answered by another part of tauzero.

This room knows how such a name begins and who opens it, by a string that is looked up when it is asked for, as an entry
point of a package would be. It imports nothing of what it opens and gets back what it knows, a `Benchmark`.
"""

from __future__ import annotations

__all__ = ["has_scheme", "open_by_scheme"]

import os
from importlib import import_module

from tauzero.benchmarks._benchmark import Benchmark

#: What stands before the first colon of a name → module and function that opens what stands behind it.
_SCHEMES: dict[str, tuple[str, str]] = {
    "surrogate": ("tauzero.surrogates.benchmark", "open_benchmark"),
}


def has_scheme(name: str) -> bool:
    """Whether a name is no table's but begins with a scheme, such as ``surrogate:nasbench201-cifar10``."""
    scheme, colon, _ = name.partition(":")
    return bool(colon) and scheme in _SCHEMES


def open_by_scheme(name: str, source: str | os.PathLike[str] | None = None) -> Benchmark:
    """Open the benchmark of a name with a scheme; a `source` beside it is refused."""
    scheme, _, rest = name.partition(":")
    if source is not None:
        raise ValueError(
            f"The 'source' argument is a table's file, and {name!r} names what it opens itself. Got "
            f"{os.fspath(source)!r}: leave one of them out."
        )
    module, function = _SCHEMES[scheme]
    opened = getattr(import_module(module), function)(rest)
    assert isinstance(opened, Benchmark)
    return opened
