"""Chains of layers, each of which has a choice: what spaces of whole networks (macro spaces) have in common."""

from __future__ import annotations

__all__ = ["LayerChain"]

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace
from tauzero.spaces.errors import InvalidGenotypeError

_MOST_ENUMERATED = 1_000_000


class LayerChain(SearchSpace):
    """Networks that are a chain of layers; a genotype is ``int8[n, L]``, the choice of each layer.

    A space of one's own is a subclass with two attributes:

        class Stages(LayerChain):
            name = "stages"
            layers = (("skip_connect", "mb_conv_3x3", "mb_conv_5x5"),) * 6

    `layers` has a tuple for each layer: the operation of each of its choices, named as in `OPERATIONS`. Everything
    else follows, and can be overridden: up to a million chains are enumerated in lexicographic order (`enumerable`);
    `to_string` joins operations by ``>``; `graphs` are the chains between input and output. Where different rows
    are the same network, write `canonical`, which gives one row for all of them and leaves it alone itself; equal
    rows, `classes` and `distinct` go by it. A network's widths are no part of its graph: where they differ, write
    `descriptors` (with `descriptor_names`) or `vertex_widths`.

    Raises
    ------
    ValueError
        When a subclass is defined whose layers are no tuples of two to 127 different operations.
    UnknownNameError
        If an operation is not in `OPERATIONS`.
    """

    layers: ClassVar[tuple[tuple[str, ...], ...]]
    notions: tuple[str, ...] = ("network",)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Derive from `layers` what the class does not say itself."""
        super().__init_subclass__(**kwargs)
        if "layers" not in cls.__dict__:
            return
        given: Any = cls.layers  # a subclass may say anything
        for k, choices in enumerate(given):
            if isinstance(choices, str) or not 2 <= len(choices) <= 127 or len(set(choices)) < len(choices):
                raise ValueError(
                    f"Layer {k} of the search space {cls.__name__} must be a tuple of 2 to 127 different operations. "
                    f"Got {choices!r}."
                )
            for name in choices:
                operation_code(name)
        if not cls.layers:
            raise ValueError(f"The 'layers' of the search space {cls.__name__} are empty: there must be one at least.")
        cardinalities = tuple(len(choices) for choices in cls.layers)
        size = math.prod(cardinalities)
        names = tuple(dict.fromkeys(name for choices in cls.layers for name in choices))
        derived: dict[str, Any] = {
            "cardinalities": cardinalities,
            "size": size,
            "enumerable": size <= _MOST_ENUMERATED,
            "operations": names,
            "graph_operations": names,
            "max_path_length": len(cls.layers),
        }
        for attribute, value in derived.items():
            if attribute not in cls.__dict__:
                setattr(cls, attribute, value)

    # -- order --------------------------------------------------------------------------------

    @cached_property
    def _place_values(self) -> npt.NDArray[np.int64]:
        """What a step of each column adds to the number of a row, ``int64[L]``."""
        return np.array([math.prod(self.cardinalities[k + 1 :]) for k in range(self.length)], dtype=np.int64)

    @cached_property
    def _all(self) -> Genotypes:
        numbers = np.arange(self.size)[:, None]
        rows = np.ascontiguousarray(numbers // self._place_values % np.array(self.cardinalities), dtype=np.int8)
        rows.setflags(write=False)
        return rows

    def enumerate(self) -> Genotypes:
        """All chains in lexicographic order, ``int8[size, L]`` (read-only)."""
        return self._all if self.enumerable else super().enumerate()

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of each row in `enumerate`, ``int64[n]``."""
        if not self.enumerable:
            return super().index(genotypes)
        return np.asarray(self.check_range(genotypes) @ self._place_values, dtype=np.int64)

    def _draw(self, n: int, rng: np.random.Generator) -> Genotypes:
        return rng.integers(np.array(self.cardinalities), size=(n, self.length), dtype=np.int8)

    # -- equal networks -----------------------------------------------------------------------

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """The rows themselves, copied, ``int8[n, L]``: different rows are different networks."""
        self.check_notion(notion)
        return self.validate(genotypes).copy()

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Class of each enumerated chain by `canonical`, ``int64[size]`` (read-only)."""
        chosen = self.check_notion(notion)
        if not self.enumerable:
            return super().classes(notion)
        if chosen not in self._class_cache:
            index = self.index(self.canonical(self._all, chosen))
            labels = np.unique(index, return_inverse=True)[1].astype(np.int64).reshape(-1)
            labels.setflags(write=False)
            self._class_cache[chosen] = labels
        return self._class_cache[chosen]

    @cached_property
    def _class_cache(self) -> dict[str, npt.NDArray[np.int64]]:
        return {}

    def _admissible(self, children: Genotypes, parents: Genotypes) -> npt.NDArray[np.bool_]:
        # A change that leaves the network the same is no neighbour.
        valid = self.is_valid(children)
        valid[valid] = (self.canonical(children[valid]) != self.canonical(parents[valid])).any(axis=1)
        return valid

    # -- names --------------------------------------------------------------------------------

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Operations of the layers joined by ``>``."""
        rows = self.validate(genotypes).tolist()
        return [">".join(names[k] for names, k in zip(self.layers, row, strict=True)) for row in rows]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read operations joined by ``>`` into ``int8[n, L]``."""
        given = self._read_strings(strings)
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        for i, text in enumerate(given):
            names = [name.strip() for name in text.split(">")]
            if len(names) != self.length:
                raise InvalidGenotypeError(
                    f"String {i} is no chain of {self.name}. Expected {self.length} operations joined by '>', like "
                    f"'{self.to_string(np.zeros((1, self.length), dtype=np.int8))[0]}'. Got {text!r}."
                )
            for k, (name, choices) in enumerate(zip(names, self.layers, strict=True)):
                if name not in choices:
                    raise InvalidGenotypeError(
                        f"String {i} is no chain of {self.name}: layer {k} is one of {', '.join(choices)}. "
                        f"Got {name!r}."
                    )
                rows[i, k] = choices.index(name)
        return self.validate(rows)

    # -- graphs -------------------------------------------------------------------------------

    @cached_property
    def _codes(self) -> npt.NDArray[np.int8]:
        """Operation of each choice of each layer, ``int8[L, most choices]``."""
        codes = np.zeros((self.length, max(self.cardinalities)), dtype=np.int8)
        for k, choices in enumerate(self.layers):
            codes[k, : len(choices)] = [operation_code(name) for name in choices]
        return codes

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Chains of the layers between input and output (V = L + 2)."""
        rows = self.validate(genotypes)
        n, v = len(rows), self.length + 2
        ops = np.empty((n, v), dtype=np.int8)
        ops[:, 0], ops[:, -1] = operation_code("input"), operation_code("output")
        ops[:, 1:-1] = self._codes[np.arange(self.length), rows]
        adjacency = np.zeros((n, v, v), dtype=np.uint8)
        adjacency[:, np.arange(v - 1), np.arange(1, v)] = 1
        return CellGraphs(adjacency, ops, np.full(n, v, dtype=np.int8))
