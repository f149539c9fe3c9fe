"""The contract of a search space: what a row of small integers means."""

from __future__ import annotations

__all__ = ["Genotypes", "SearchSpace", "is_integral"]

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._random import Seed, as_generator
from tauzero.spaces.errors import InvalidGenotypeError, NotEnumerableError, unknown_name

#: A batch of architectures: C-contiguous ``int8[n, L]``, one row each.
Genotypes: TypeAlias = npt.NDArray[np.int8]

_MAX_REJECTION_ROUNDS = 1000


def is_integral(array: npt.NDArray[Any]) -> bool:
    """Whether an array holds integers, be it as floats; False for fractions, NaN, text and objects."""
    if array.dtype.kind in "iub":
        return True
    return array.dtype.kind == "f" and bool(np.isfinite(array).all()) and bool((array == np.rint(array)).all())


class SearchSpace(ABC):
    """What a genotype row means: its valid values, names, neighbours, canonical form and graph.

    Spaces have no state that a user can change; `tauzero.spaces.get` returns one shared instance
    per name, which pickles and copies to itself. All methods take and return whole batches.

    Class attributes of a concrete space (of a space with parameters, such as `NASBench201X`, some are set on the
    instance): `name`, `cardinalities` (number of values of each column),
    `size` (number of architectures, exact however large), `enumerable` (whether they fit into one array;
    if not, `enumerate`, `index` and `classes` raise `NotEnumerableError` and the space writes `_draw` and
    `canonical` itself), `operations` (the operation names of the published space in the order of the
    genotype's codes), `graph_operations` (the names of `OPERATIONS` that inner vertices of `graphs` may
    have, `STRUCTURE` vertices aside), `max_path_length` (most operations on a path from input to output of one
    cell), `notions` (names of the equivalences that `canonical` and `classes` know, the default first),
    `descriptor_names` (names of what `descriptors` computes, if anything), `concatenates` (a cell's output
    concatenates what it reads, instead of summing it) and `projects_input` (whatever reads a cell's input
    reads a 1×1 convolution of it with batch norm and ReLU).
    """

    name: str
    cardinalities: tuple[int, ...]
    size: int
    operations: tuple[str, ...]
    graph_operations: tuple[str, ...]
    max_path_length: int
    notions: tuple[str, ...]
    enumerable: bool = True
    #: Names of a space's parameters and their defaults; `tauzero.spaces.get` passes them to its constructor.
    parameters: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    #: The published space whose cells these are, with other bounds or operations.
    extends: ClassVar[str | None] = None
    descriptor_names: ClassVar[tuple[str, ...]] = ()
    concatenates: ClassVar[bool] = False
    projects_input: ClassVar[bool] = False

    # -- identity -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"tauzero.spaces.get({self.name!r})"

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        from tauzero.spaces._registry import get, restore

        if type(self).__module__.partition(".")[0] == "tauzero":
            return get, (self.name,)
        return restore, (type(self), self.name)  # another process may not have registered it

    def __deepcopy__(self, memo: dict[int, object]) -> SearchSpace:
        return self

    def __copy__(self) -> SearchSpace:
        return self

    @property
    def kind(self) -> str:
        """The name without parameters: that of the registry, which families of networks go by."""
        return self.name.partition("(")[0]

    @property
    def length(self) -> int:
        """L, the number of genotype columns."""
        return len(self.cardinalities)

    # -- to be written by a space -------------------------------------------------------------

    def enumerate(self) -> Genotypes:
        """All architectures, ``int8[size, L]``, row i being the architecture of index i (read-only)."""
        raise self._not_enumerable("enumerate")

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Position in `enumerate` of each row, ``int64[n]``; equal networks may share one (see the space)."""
        del genotypes
        raise self._not_enumerable("index")

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Class of equal networks of each enumerated architecture, ``int64[size]`` (read-only), numbered from 0."""
        del notion
        raise self._not_enumerable("classes")

    @cached_property
    def _own_classes(self) -> npt.NDArray[np.int64]:
        """`classes` where every enumerated architecture is its own."""
        labels = np.arange(self.size, dtype=np.int64)
        labels.setflags(write=False)
        return labels

    def _not_enumerable(self, what: str) -> NotEnumerableError:
        return NotEnumerableError(
            f"`{what}` needs a space whose architectures fit into one array; {self.name} has about {self.size:.2g}. "
            "Use `sample`, `neighbors` or the architectures of a table (`Benchmark.architectures`) instead."
        )

    @abstractmethod
    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Write each row in the notation of the space's authors."""

    @abstractmethod
    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read architectures from strings; `InvalidGenotypeError` names the first that cannot be read."""

    @abstractmethod
    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Cells as batched graphs with operations on the vertices."""

    def cells(self, genotypes: npt.ArrayLike) -> dict[str, CellGraphs]:
        """The kinds of cell of each architecture, one batch of graphs for each, by name.

        A space with one kind of cell has the entry ``"cell"``; one with several (normal and reduction) has
        one each, and `graphs` stacks them into one graph.
        """
        return {"cell": self.graphs(genotypes)}

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What the space knows of its networks beyond the graph, ``float64[n, k]``, named by `descriptor_names`.

        Closed-form quantities of the published network, such as the logarithm of its number of parameters;
        nothing is built or measured. Equal for equal networks (`canonical`).
        """
        return np.zeros((len(self.check_range(genotypes)), 0))

    def vertex_widths(self, graphs: CellGraphs) -> npt.NDArray[np.float64]:
        """Channels of each vertex of `cells` as a share of the cell's output channels, ``float64[n, V]``."""
        return np.ones(graphs.ops.shape)

    def is_published(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which networks are those of a published space, ``bool[n]``; where a space `extends` one, not all are."""
        return np.ones(len(self.validate(genotypes)), dtype=np.bool_)

    def is_valid(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each row (of the right width and value range) is a member of the space, ``bool[n]``."""
        return np.ones(len(self.check_range(genotypes)), dtype=np.bool_)

    # -- validation ---------------------------------------------------------------------------

    def check_range(self, genotypes: npt.ArrayLike) -> Genotypes:
        """Check shape, dtype and value range only and return C-contiguous ``int8[n, L]``.

        Raises
        ------
        InvalidGenotypeError
            Naming the first row and column that do not fit.
        """
        try:
            array = np.asarray(genotypes)
        except ValueError as error:
            raise InvalidGenotypeError(
                f"The 'genotypes' argument of {self.name} must be a matrix [n, {self.length}]. "
                f"Got what makes no rectangular array ({error})."
            ) from error
        if array.ndim == 1 and array.size == self.length:
            raise InvalidGenotypeError(
                f"The 'genotypes' argument of {self.name} must be a matrix [n, {self.length}]. "
                f"Got one row of length {array.size}: pass row[None]."
            )
        if array.ndim != 2 or array.shape[1] != self.length:
            raise InvalidGenotypeError(
                f"The 'genotypes' argument of {self.name} must be a matrix [n, {self.length}]. "
                f"Got an array of shape {array.shape}."
            )
        if not is_integral(array):
            raise InvalidGenotypeError(
                f"The 'genotypes' argument of {self.name} must hold integers. Got dtype {array.dtype}: "
                "convert with .astype('int8') after checking where fractions, NaN or text come from."
            )
        if array.dtype == np.int8 and not (array.view(np.uint8) >= self._limits).any():
            return np.ascontiguousarray(array)  # what is negative is beyond any limit as an unsigned byte
        high = np.asarray(self.cardinalities)
        if len(array) and (
            bool((array < 0).any()) or (array.dtype != np.bool_ and bool((array.max(axis=0) >= high).any()))
        ):
            bad_row, bad_column = (int(k) for k in np.argwhere((array < 0) | (array >= high))[0])
            raise InvalidGenotypeError(
                f"Column {bad_column} of {self.name} genotypes takes values 0 to {high[bad_column] - 1}. "
                f"Got {array[bad_row, bad_column]} in row {bad_row}."
            )
        return np.ascontiguousarray(array, dtype=np.int8)

    @cached_property
    def _limits(self) -> npt.NDArray[np.uint8]:
        """`cardinalities` as an array that is made once."""
        return np.array(self.cardinalities, dtype=np.uint8)

    def validate(self, genotypes: npt.ArrayLike) -> Genotypes:
        """Check that every row is a member of the space and return C-contiguous ``int8[n, L]``.

        Raises
        ------
        InvalidGenotypeError
            If the shape, dtype or a value does not fit, or a row is not a member (see `is_valid`).
        """
        rows = self.check_range(genotypes)
        valid = self.is_valid(rows)
        if not valid.all():
            bad = int(np.argmin(valid))
            raise InvalidGenotypeError(
                f"Row {bad} is not a member of {self.name}: {self._why_invalid(rows[bad])} "
                f"({int((~valid).sum())} of {len(rows)} rows are invalid; `space.is_valid` marks them.) "
                f"Got {rows[bad].tolist()}."
            )
        return rows

    def _why_invalid(self, row: Genotypes) -> str:  # noqa: ARG002 - spaces with constraints use it
        return "a constraint of the space is broken."

    def check_notion(self, notion: str | None) -> str:
        """Return the name of an equivalence notion of this space, the default for None."""
        if notion is None:
            return self.notions[0]
        if notion not in self.notions:
            raise unknown_name(f"equivalence notion of {self.name}", notion, self.notions)
        return notion

    # -- what follows from the above ----------------------------------------------------------

    def _representatives(self, notion: str) -> npt.NDArray[np.int64]:
        """Index of the architecture that stands for each class: the member with the smallest index."""
        _, first = np.unique(self.classes(notion), return_index=True)
        return first.astype(np.int64)

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """Replace each row by the representative of its class of equal networks, ``int8[n, L]``.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``.
        notion
            Which networks count as equal; one of `notions`, by default the first.
        """
        chosen = self.check_notion(notion)
        labels = self.classes(chosen)[self.index(genotypes)]
        return np.ascontiguousarray(self.enumerate()[self._representatives(chosen)[labels]])

    def distinct(self, genotypes: npt.ArrayLike) -> tuple[Genotypes, npt.NDArray[np.int64]]:
        """Different networks among rows: representatives ``int8[m, L]`` and the one of each row, ``int64[n]``.

        Representatives are in the order of `enumerate` (where there is none, in lexicographic order).
        """
        if self.enumerable:
            index = self.index(self.canonical(genotypes))
            found, inverse = np.unique(index, return_inverse=True)
            return np.ascontiguousarray(self.enumerate()[found]), inverse.reshape(-1).astype(np.int64)
        rows = self.canonical(genotypes)
        # One opaque value per row sorts many times faster than columns do; int8 ≥ 0 sorts as bytes do.
        keys = np.ascontiguousarray(rows).view(np.dtype((np.void, self.length))).reshape(-1)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        return np.ascontiguousarray(rows[first]), inverse.reshape(-1).astype(np.int64)

    def _draw(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw n architectures uniformly; spaces that cannot be enumerated write this."""
        return np.ascontiguousarray(self.enumerate()[rng.integers(self.size, size=n)])

    def sample(self, n: int, seed: Seed, *, unique: bool = False) -> Genotypes:
        """Draw n architectures uniformly, ``int8[n, L]``.

        Parameters
        ----------
        n
            How many rows, ≥ 0.
        seed
            A non-negative integer, `SeedSequence` or `Generator`.
        unique
            Draw without replacement; n may then not exceed `size`.
        """
        rng = as_generator(seed)
        count = self._check_count(n)
        if unique and count > self.size:
            raise ValueError(f"Cannot draw {count} different architectures: {self.name} has {self.size}.")
        if not unique:
            return self._draw(count, rng)
        if self.enumerable:
            return np.ascontiguousarray(self.enumerate()[rng.choice(self.size, count, replace=False)])
        rows = self._draw(count, rng)
        for _ in range(_MAX_REJECTION_ROUNDS):
            first = np.unique(rows, axis=0, return_index=True)[1]
            if len(first) == count:
                return rows
            # Keep the first of equal rows where it stands, and draw again for the others.
            kept = rows[np.sort(first)]
            rows = np.concatenate([kept, self._draw(count - len(kept), rng)])
        raise ValueError(f"Could not draw {count} different architectures of {self.name}'s {self.size}: ask for fewer.")

    @staticmethod
    def _check_count(n: int) -> int:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"The 'n' argument must be a non-negative integer. Got {n!r}.")
        return int(n)

    def _admissible(self, children: Genotypes, parents: Genotypes) -> npt.NDArray[np.bool_]:
        """Whether a changed row may stand as a mutant or neighbour of its parent."""
        del parents
        return self.is_valid(children)

    def mutate(self, genotypes: npt.ArrayLike, seed: Seed) -> Genotypes:
        """Change one column of each row to another value such that a valid, different architecture results.

        Candidates are uniform over the row's `neighbors`. Shape ``int8[n, L]``.
        """
        parents = self.validate(genotypes)
        rng = as_generator(seed)
        children = parents.copy()
        choices = np.asarray(self.cardinalities) - 1
        column_of = np.repeat(np.arange(self.length), choices)
        pending = np.arange(len(parents))
        for _ in range(_MAX_REJECTION_ROUNDS):
            if not len(pending):
                return children
            # One draw over all (column, other value) pairs keeps the neighbours equally likely.
            column = column_of[rng.integers(len(column_of), size=len(pending))]
            shift = 1 + rng.integers(choices[column])
            trial = parents[pending]
            rows = np.arange(len(pending))
            trial[rows, column] = (trial[rows, column] + shift) % (choices[column] + 1)
            accepted = self._admissible(trial, parents[pending])
            children[pending[accepted]] = trial[accepted]
            pending = pending[~accepted]
        raise InvalidGenotypeError(
            f"No valid mutation of row {int(pending[0])} found in {_MAX_REJECTION_ROUNDS} tries: "
            f"its neighbourhood in {self.name} seems to be empty."
        )

    def crossover(self, first: npt.ArrayLike, second: npt.ArrayLike, seed: Seed) -> Genotypes:
        """Uniform crossover: each column comes from either parent with probability ½, ``int8[n, L]``.

        Where no valid child is found in a thousand draws, the first parent is returned.
        """
        a, b = self.validate(first), self.validate(second)
        if a.shape != b.shape:
            raise InvalidGenotypeError(
                f"The two parents of a crossover must have the same number of rows. Got {len(a)} and {len(b)}."
            )
        rng = as_generator(seed)
        children = a.copy()
        pending = np.arange(len(a))
        for _ in range(_MAX_REJECTION_ROUNDS):
            if not len(pending):
                break
            take = rng.random((len(pending), self.length)) < 0.5
            trial = np.where(take, a[pending], b[pending])
            accepted = self.is_valid(trial)
            children[pending[accepted]] = trial[accepted]
            pending = pending[~accepted]
        return children

    def neighbors(self, row: npt.ArrayLike) -> Genotypes:
        """All valid architectures that differ from one row in exactly one column, ``int8[k, L]``.

        The relation is symmetric. Spaces may leave out changes that do not alter the network.
        """
        array = np.asarray(row)
        parent = self.validate(array[None] if array.ndim == 1 else array)
        if len(parent) != 1:
            raise InvalidGenotypeError(f"`neighbors` takes one architecture. Got {len(parent)} rows.")
        rows, column, shift, values = self._moves
        children = np.repeat(parent, len(column), axis=0)
        children[rows, column] = (parent[0, column] + shift) % values
        return np.ascontiguousarray(children[self._admissible(children, np.broadcast_to(parent, children.shape))])

    @cached_property
    def _moves(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Changes of one column: their numbers, columns, what is added, and the number of values of the column."""
        values = np.asarray(self.cardinalities)
        column = np.repeat(np.arange(self.length), values - 1)
        shift = np.concatenate([np.arange(1, v) for v in values])
        return np.arange(len(column)), column, shift, values[column]

    def _read_strings(self, strings: Sequence[str]) -> list[str]:
        if isinstance(strings, str):
            raise InvalidGenotypeError(
                f"The 'strings' argument must be a list of strings. Got one string: pass [{strings!r}]."
            )
        return [str(s) for s in strings]
