"""The contracts of the room: what a network can do, and what a space has to bring to have networks."""

from __future__ import annotations

__all__ = ["CellNetwork", "NetworkFamily", "NetworkStack"]

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.networks._datasets import DatasetShape
from tauzero.networks._initialise import without_draws
from tauzero.spaces import Genotypes


class CellNetwork(nn.Module, ABC):
    """An image classifier built from a genotype; calling it gives logits ``[b, classes]``.

    Parameters of operations that cannot influence the output exist (the benchmarks count them), but
    such operations are not computed.
    """

    classifier: nn.Linear

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The cells, and the reductions between them, in the order of the forward pass.

        Each is called once per forward pass and returns one tensor ``[b, c, h, w]``; its first argument (the last,
        for cells that read the two before them) is the output of the block before, or of the stem.
        """

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


class NetworkStack(nn.Module, ABC):
    """``size`` networks with weights of their own, computed together.

    Images ``[b, 3, H, W]`` are shown to every network; ``[b, size·3, H, W]`` gives each its own. Layers that
    hold parameters, and ReLUs, have a buffer-like attribute ``members``: to which networks their groups
    of channels belong (`members_of`); it is absent where the stack is a single network.

    Attributes
    ----------
    size
        Number of networks.
    start
        Place of the first of them among the networks that were stacked.
    """

    size: int
    start: int = 0

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """Cells and reductions in forward order, as `CellNetwork.blocks`; outputs are ``[b, size·c, h, w]``."""

    @abstractmethod
    def feature_map(self, images: Tensor) -> Tensor:
        """Output of the last layer before global pooling, ``[b, size·c, h, w]``."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[b, size, classes]``."""


class NetworkFamily(ABC):
    """How the architectures of one space become networks, and what these cost.

    A family is stateless; one instance per space stands in the registry. That of a space with parameters is
    constructed with the name of the space, parameters included.
    """

    #: Name of the search space.
    space: str
    #: Height and width of images must be multiples of this (the product of the strides).
    image_multiple: ClassVar[int]
    #: What of the network's shape can be chosen, with the published values: ``{"channels": 16, …}``.
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    #: Whether only batch norms stand before the global pooling. In training mode the sum of a batch's features, and so
    #: that of its logits, is then a constant: its gradient is zero, and what a computer gives for it rounding noise.
    pools_norms: ClassVar[bool] = False
    #: Data set that the benchmark trained on and whose shape is meant when none is named.
    dataset: ClassVar[str] = "cifar10"

    @abstractmethod
    def make(self, row: Genotypes, num_classes: int, *, batch_norm: bool, **options: Any) -> CellNetwork:
        """Construct the network of one valid row ``int8[L]`` on the current default device, not yet initialised.

        With ``batch_norm=False`` every batch normalisation is the identity without parameters. `options` has
        every key of the attribute of that name.
        """

    @abstractmethod
    def count_parameters(self, genotypes: Genotypes, num_classes: int, **options: Any) -> npt.NDArray[np.int64]:
        """Trainable parameters as the benchmark counts them, ``int64[n]``, from a closed form."""

    @abstractmethod
    def count_flops(self, genotypes: Genotypes, shape: DatasetShape, **options: Any) -> npt.NDArray[np.int64]:
        """Multiply-adds of one image as the benchmark counts them, ``int64[n]``, from a closed form."""

    def read_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The published shape with `options` in place of its values.

        Raises
        ------
        ValueError
            If there is no such option, or the published value is a number and the given one is not a positive integer.
        """
        for name, value in options.items():
            if name not in self.options:
                known = ", ".join(f"{key}={value!r}" for key, value in self.options.items()) or "none"
                raise ValueError(f"Networks of {self.space} have no option {name!r}. Options: {known}.")
            self.check_option(name, value)
        return {**self.options, **options}

    def check_option(self, name: str, value: Any) -> None:
        """Refuse a value of an option with a `ValueError`; families with other kinds of options add to it."""
        published = self.options[name]
        if isinstance(published, bool):
            if not isinstance(value, bool | np.bool_):
                raise ValueError(  # noqa: TRY004 - the rule of the house: one kind of error for bad input
                    f"The {name!r} option of {self.space} networks must be True or False. Got {value!r}."
                )
        elif isinstance(published, int) and (
            isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1
        ):
            raise ValueError(f"The {name!r} option of {self.space} networks must be a positive integer. Got {value!r}.")

    def stack(self, networks: Sequence[CellNetwork]) -> NetworkStack | None:  # noqa: ARG002 - families override it
        """Several networks of this family side by side in one module; None where nobody wrote that."""
        return None

    def train_together(self, networks: Sequence[CellNetwork]) -> nn.Module | None:  # noqa: ARG002 - families override it
        """A module ``[b, 3, H, W] -> [b, n, classes]`` of all n, fast to train on a CPU; None where there is none."""
        return None

    def build(
        self,
        row: Genotypes,
        num_classes: int,
        *,
        batch_norm: bool = True,
        dtype: torch.dtype = torch.float32,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> CellNetwork:
        """Construct the network of one row on the CPU with memory allocated and nothing drawn yet."""
        chosen = self.read_options(options)
        with without_draws():
            network = self.make(row, num_classes, batch_norm=batch_norm, **chosen)
        # Each walk over the modules takes 5 ms, so none is made for nothing.
        return network if network.classifier.weight.dtype == dtype else network.to(dtype)
