"""The contracts of the room: what a network can do, and what a space has to bring to have networks."""

from __future__ import annotations

__all__ = ["CellNetwork", "NetworkFamily"]

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.networks._datasets import DatasetShape
from tauzero.spaces import Genotypes


class CellNetwork(nn.Module, ABC):
    """An image classifier built from a genotype; calling it gives logits ``[b, classes]``.

    Parameters of operations that cannot influence the output exist (the benchmarks count them), but
    such operations are not computed.
    """

    classifier: nn.Linear

    @abstractmethod
    def feature_map(self, images: Tensor) -> Tensor:
        """Output of the last layer before global pooling, ``[b, c, h, w]`` for images ``[b, 3, H, W]``."""

    def features(self, images: Tensor) -> Tensor:
        """Globally averaged features that the classifier reads, ``[b, c]``."""
        return self.feature_map(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[b, classes]`` of images ``[b, 3, H, W]``."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class NetworkFamily(ABC):
    """How the architectures of one space become networks, and what these cost.

    A family is stateless; one instance per space stands in the registry.
    """

    #: Name of the search space.
    space: ClassVar[str]
    #: Height and width of images must be multiples of this (the product of the strides).
    image_multiple: ClassVar[int]

    @abstractmethod
    def make(self, row: Genotypes, num_classes: int, *, batch_norm: bool) -> CellNetwork:
        """Construct the network of one valid row ``int8[L]`` on the current default device, not yet initialised.

        With ``batch_norm=False`` every batch normalisation is the identity without parameters.
        """

    @abstractmethod
    def count_parameters(self, genotypes: Genotypes, num_classes: int) -> npt.NDArray[np.int64]:
        """Trainable parameters as the benchmark counts them, ``int64[n]``, from a closed form."""

    @abstractmethod
    def count_flops(self, genotypes: Genotypes, shape: DatasetShape) -> npt.NDArray[np.int64]:
        """Multiply-adds of one image as the benchmark counts them, ``int64[n]``, from a closed form."""

    def build(
        self,
        row: Genotypes,
        num_classes: int,
        *,
        batch_norm: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> CellNetwork:
        """Construct the network of one row on the CPU with memory allocated and nothing drawn yet."""
        with torch.device("meta"):  # constructors initialise; on the meta device that costs and draws nothing
            network = self.make(row, num_classes, batch_norm=batch_norm)
        # Each walk over the modules takes 5 ms, so none is made for nothing.
        cast = network if network.classifier.weight.dtype == dtype else network.to(dtype)
        return cast.to_empty(device="cpu")
