"""What a proxy is, and the work that proxies share."""

from __future__ import annotations

__all__ = ["Proxy", "Work", "network_seed"]

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tauzero import networks
from tauzero.networks import CellNetwork, DatasetShape
from tauzero.spaces import Genotypes, SearchSpace

_T = TypeVar("_T")


def network_seed(seed: int, index: int) -> int:
    """Seed of the initial weights of the network with a canonical index: independent streams for all pairs."""
    sequence = np.random.SeedSequence(seed, spawn_key=(1, index))
    return int(sequence.generate_state(1, np.uint64)[0])


@dataclass(eq=False)
class Work:
    """A handful of architectures to be scored, and whatever several proxies want of them.

    Proxies ask for shared results through `once`: a function of the work, computed when the first
    proxy asks and kept for the others. How such a function treats the architectures (one after the other,
    grouped into one module, on several streams) is its own affair; proxies see arrays over architectures.

    Attributes
    ----------
    space
        The search space.
    genotypes
        ``int8[n, L]``, valid rows; for proxies that read the network only, one of each canonical class.
    shape
        Classes and image size of the data set that the networks are built for.
    seed, device
        As given to `tauzero.proxies.score`.
    batch
        ``float32[b, 3, H, W]`` on the device, or None if no proxy at work needs images.
    """

    space: SearchSpace
    genotypes: Genotypes
    shape: DatasetShape
    seed: int
    device: torch.device
    batch: Tensor | None = None
    _kept: dict[Callable[[Any], Any], Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.genotypes)

    def once(self, function: Callable[[Work], _T]) -> _T:
        """Return ``function(self)``, computed the first time and kept."""
        if function not in self._kept:
            self._kept[function] = function(self)
        return cast("_T", self._kept[function])

    @property
    def images(self) -> Tensor:
        """The image batch, ``float32[b, 3, H, W]``; only for proxies with ``needs_images``."""
        if self.batch is None:
            raise RuntimeError("A proxy asked for images without saying so: set `needs_images = True` on its class.")
        return self.batch

    @property
    def networks(self) -> list[CellNetwork]:
        """The n initialised networks in training mode, shared by all proxies: leave them as you found them."""
        return self.once(_build_all)


def _build_all(work: Work) -> list[CellNetwork]:
    index = work.space.index(work.space.canonical(work.genotypes)).tolist()
    return [
        networks.build(work.space, row, work.shape.num_classes, network_seed(work.seed, i), device=work.device)
        for row, i in zip(work.genotypes, index, strict=True)
    ]


class Proxy(ABC):
    """One score of untrained networks; stateless, one instance in the registry.

    Class attributes
    ----------------
    reads
        ``"network"`` if equal networks have equal scores (operations off every input-output path change
        nothing): then each canonical class is scored once. ``"string"`` if the published definition
        counts such operations.
    needs_images
        Whether `score` reads ``work.images``.
    """

    reads: ClassVar[Literal["network", "string"]] = "network"
    needs_images: ClassVar[bool] = False

    def check_images(self, images: Tensor) -> None:  # noqa: B027 - most proxies take any images
        """Raise `ValueError` if the score is undefined for every network on ``float32[b, 3, H, W]`` images."""

    @abstractmethod
    def score(self, work: Work) -> npt.NDArray[np.float64]:
        """Score every architecture of the work, ``float64[n]``.

        Undefined scores are NaN or infinite; `tauzero.proxies.score` makes both NaN. The score of one
        architecture must not depend on the others in the work.
        """
