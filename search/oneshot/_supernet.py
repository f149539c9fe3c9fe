"""The contract of a supernet: one network that holds every cell of a space, with shared weights."""

from __future__ import annotations

__all__ = ["Supernet", "SupernetOptions"]

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.networks._initialise import initialise, without_draws
from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._operations import MixedEdge, Norms
from tauzero.spaces import Genotypes, SearchSpace


def at_least(least: int, default: Any, meaning: str) -> Any:
    """A field of a whole number, or None where that is the default."""
    return field(default=default, metadata={"least": least, "help": meaning})


@dataclass(frozen=True, slots=True)
class SupernetOptions:
    """Shape and norms that supernets of all spaces have; see `Norms`."""

    channels: int = at_least(1, 16, "Channels of the first cells.")
    affine: bool = field(default=False, metadata={"help": "Norms inside cells have a scale and a shift."})
    running_statistics: bool = field(default=False, metadata={"help": "Norms keep running statistics."})
    pool_norm: bool = field(default=False, metadata={"help": "A norm follows pooling."})
    skip_norm: bool = field(default=False, metadata={"help": "A norm follows skip connections."})
    partial: int = at_least(1, 1, "Operations see one in so many channels.")

    @property
    def norms(self) -> Norms:
        """How the supernet normalises."""
        return Norms(self.affine, self.running_statistics, self.pool_norm, self.skip_norm)


class Supernet(nn.Module, ABC):
    """All cells of a space at once: every edge of every cell holds every operation.

    `forward` takes `Gates`, which say what is computed. Cells of one kind share gates and have weights of their own.

    Parameters
    ----------
    space
        The space whose cells it holds.
    num_classes
        Width of the classifier.
    options
        Of the class `Options`.
    generator
        Draws the initial weights, as `tauzero.networks.build` does; on the CPU.

    Attributes
    ----------
    kinds : tuple of str
        Names of the kinds of cell: ``("cell",)``, or ``("normal", "reduce")``.
    operations : tuple of str
        Names of the operations of an edge, by number.
    none : int or None
        Number of the operation ``none``.
    nodes : tuple of tuple of int
        The edges that enter each node, the same for all kinds: a node's candidates are these edges' operations.
    edges : tuple of (int, int)
        Source and target node of each edge.
    blocks : torch.nn.ModuleList
        Cells, and what stands between them, in forward order.
    columns : tuple of (int, int)
        For each genotype column the kind of choice (columns of one kind mean the same) and its number of values.
    drop_path : float
        Probability in training mode that an operation's output, other than an identity's, is zero for an image; what
        remains is divided by the probability of that. Drawn from `generator`.
    auxiliary : bool
        Whether there is a second classifier that `forward_with_auxiliary` computes.
    """

    #: Kinds of spaces (`SearchSpace.kind`) that a class holds.
    spaces: ClassVar[tuple[str, ...]]
    #: Its shape: a frozen dataclass.
    Options: ClassVar[type[SupernetOptions]]
    #: Height and width of images must be multiples of this.
    image_multiple: ClassVar[int] = 4

    kinds: tuple[str, ...]
    operations: tuple[str, ...]
    none: int | None
    nodes: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]
    blocks: nn.ModuleList

    def __init__(
        self, space: SearchSpace, num_classes: int, options: SupernetOptions, generator: torch.Generator
    ) -> None:
        super().__init__()
        if options.channels % options.partial:
            raise ValueError(
                f"The 'channels' option must be a multiple of 'partial', {options.partial}. Got {options.channels}."
            )
        self.space, self.num_classes, self.options = space, num_classes, options
        self.drop_path = 0.0
        self.auxiliary = False
        self.generator = torch.Generator().manual_seed(0)
        with without_draws():
            self._make(num_classes)
        initialise(self, generator)

    # -- to be written for a space ------------------------------------------------------------

    @abstractmethod
    def _make(self, num_classes: int) -> None:
        """Make the modules and set the attributes."""

    @abstractmethod
    def _logits(self, images: Tensor, gates: Gates, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Logits and, where there is an auxiliary head and it is trained, its logits.

        `keep` are drop path's factors, ``[blocks, edges, ops, b, 1, 1, 1]``.
        """

    @abstractmethod
    def mixed_edges(self, kind: int, edge: int) -> list[MixedEdge]:
        """The modules of one edge in all cells of a kind, in the order of the forward pass."""

    @abstractmethod
    def one_hot(self, row: Genotypes) -> Gates:
        """Gates of one architecture ``int8[L]``: its operations with the constant weight 1, nothing else."""

    @abstractmethod
    def genotype(self, strengths: npt.NDArray[np.floating[Any]]) -> Genotypes:
        """Architecture of the strongest operations, ``int8[L]``, of ``[kinds, edges, ops]``; ties to the first."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, logits: Tensor | None = None) -> Genotypes:
        """Draw architectures whose output depends on their input, ``int8[n, L]``.

        Parameters
        ----------
        n
            How many.
        generator
            On the CPU.
        logits
            ``[kinds, edges, ops]``: operations are drawn from their softmax on each edge; None for a uniform draw.
        """

    @abstractmethod
    def log_probability(self, rows: Genotypes, logits: Tensor) -> npt.NDArray[np.float64]:
        """Logarithm of the probability of the rows' operations under the softmax on each edge, ``float64[n]``."""

    def excluded(self, rows: Genotypes) -> npt.NDArray[np.bool_]:
        """Values that the next column may not have where a row begins like this, ``bool[n, values]``.

        `rows` are ``int8[n, k]`` with k < L; used by methods that choose column by column.
        """
        return np.zeros((len(rows), self.columns[rows.shape[1]][1]), dtype=np.bool_)

    # -- for all ------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(kinds, edges, ops)``, the shape of gates."""
        return len(self.kinds), len(self.edges), len(self.operations)

    def all_active(self, weights: Tensor, edges: Tensor | None = None) -> Gates:
        """Gates under which everything is computed."""
        return Gates(weights, np.ones(self.shape, dtype=np.bool_), edges)

    def all_mixed_edges(self) -> Iterator[tuple[int, int, MixedEdge]]:
        """Kind, edge and module of every edge."""
        for kind, edge in np.ndindex(*self.shape[:2]):
            for module in self.mixed_edges(kind, edge):
                yield kind, edge, module

    def forward(self, images: Tensor, gates: Gates) -> Tensor:
        """Logits ``[b, classes]`` of images ``[b, 3, H, W]``."""
        return self._both(images, gates)[0]

    def forward_with_auxiliary(self, images: Tensor, gates: Gates) -> tuple[Tensor, Tensor | None]:
        """Logits, and those of the auxiliary head in training mode where there is one."""
        return self._both(images, gates)

    def _both(self, images: Tensor, gates: Gates) -> tuple[Tensor, Tensor | None]:
        gates.check(self.shape)
        keep = None
        if self.training and self.drop_path > 0:
            kept = 1 - self.drop_path
            shape = (len(self.blocks), *self.shape[1:], len(images), 1, 1, 1)
            drawn = torch.rand(shape, generator=self.generator)
            keep = (drawn < kept).to(device=images.device, dtype=images.dtype) / kept
        return self._logits(images, gates, keep)
