"""The room's functions: one network from a row, counts for whole spaces."""

from __future__ import annotations

__all__ = ["build", "count_flops", "count_parameters", "stack", "train_together"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tauzero import spaces
from tauzero.networks._datasets import DatasetShape, dataset_shape
from tauzero.networks._initialise import generator_from, initialise
from tauzero.networks._registry import family
from tauzero.networks._stack import PlainStack
from tauzero.networks.base import CellNetwork, NetworkStack
from tauzero.spaces import SearchSpace


def build(
    space: str | SearchSpace,
    row: npt.ArrayLike,
    num_classes: int = 10,
    seed: int | torch.Generator | None = None,
    *,
    batch_norm: bool = True,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> CellNetwork:
    """Build the untrained network of one architecture, in training mode, as its benchmark trained it.

    Parameters
    ----------
    space
        Name of a search space, or the space.
    row
        The architecture, ``int8[L]`` or ``int8[1, L]``.
    num_classes
        Width of the classifier.
    seed
        Where the initial weights come from: an integer, a CPU `torch.Generator` (which is advanced), or None
        for a fresh seed. PyTorch's default initialisation; its global generator is neither read nor changed.
    batch_norm
        False replaces every batch normalisation by the identity without parameters.
    device, dtype
        Where and in which precision the network ends up; weights are drawn in `dtype` on the CPU, so
        that a seed means the same weights on every device.
    **options
        Another shape than the published one, such as ``channels=8``: see `NetworkFamily.options` of the space.

    Raises
    ------
    UnknownNameError
        If the space has no networks.
    InvalidGenotypeError
        If `row` is not one architecture of the space.
    ValueError
        If an option does not exist or cannot have the value.

    Examples
    --------
    >>> from tauzero import networks
    >>> network = networks.build("nasbench201", [3, 3, 3, 3, 3, 3], seed=0)
    >>> sum(p.numel() for p in network.parameters())
    1531546
    """
    the_space = spaces.get(space)
    builder = family(the_space)
    array = np.asarray(row)
    rows = the_space.validate(array[None] if array.ndim == 1 else array)
    if len(rows) != 1:
        raise spaces.InvalidGenotypeError(f"`networks.build` takes one architecture. Got {len(rows)} rows.")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer) or num_classes < 1:
        raise ValueError(f"The 'num_classes' argument must be a positive integer. Got {num_classes!r}.")
    network = builder.build(rows[0], int(num_classes), batch_norm=batch_norm, dtype=dtype, options=options)
    initialise(network, generator_from(seed))
    return network if torch.device(device).type == "cpu" else network.to(device)


def count_parameters(
    space: str | SearchSpace,
    genotypes: npt.ArrayLike,
    dataset: str | int | DatasetShape | None = None,
    **options: Any,
) -> npt.NDArray[np.int64]:
    """Trainable parameters of each architecture's network, ``int64[n]``, without building any.

    Parameters
    ----------
    space
        Name of a search space, or the space.
    genotypes
        ``int8[n, L]``.
    dataset
        A data set's name, a number of classes or a `DatasetShape`; the classifier depends on it. None for the
        data set of the benchmark.
    **options
        Another shape than the published one; see `build`.

    Notes
    -----
    As in the benchmarks, operations that cannot influence the output count.

    Examples
    --------
    >>> from tauzero import networks, spaces
    >>> networks.count_parameters("nasbench201", spaces.get("nasbench201").enumerate()[:1])
    array([129306])
    """
    the_space = spaces.get(space)
    found = family(the_space)
    shape = dataset_shape(found.dataset if dataset is None else dataset)
    return found.count_parameters(the_space.validate(genotypes), shape.num_classes, **found.read_options(options))


def count_flops(
    space: str | SearchSpace,
    genotypes: npt.ArrayLike,
    dataset: str | int | DatasetShape | None = None,
    **options: Any,
) -> npt.NDArray[np.int64]:
    """Multiply-adds of one image's forward pass (a multiply-add counts 1), ``int64[n]``, without building any.

    Parameters and notes as for `count_parameters`; the image size depends on the data set too (a bare
    number of classes means 32×32 pixels). What is counted follows the benchmark: for NAS-Bench-201
    convolutions and the linear layer with its bias, neither batch norm nor pooling.
    """
    the_space = spaces.get(space)
    found = family(the_space)
    shape = dataset_shape(found.dataset if dataset is None else dataset)
    return found.count_flops(the_space.validate(genotypes), shape, **found.read_options(options))


def stack(space: str | SearchSpace, networks: Sequence[CellNetwork]) -> list[NetworkStack]:
    """Put networks of one space side by side, as many in one module as the space allows.

    Parameters
    ----------
    space
        Name of a search space, or the space.
    networks
        Built networks of equal shape (channels, classes); weights are copied where several share a module.

    Returns
    -------
    list of NetworkStack
        One stack of all networks, or one of each where the space has no stacks (or one network is given).
    """
    together = family(space).stack(networks) if len(networks) > 1 else None
    if together is not None:
        return [together]
    alone: list[NetworkStack] = []
    for start, network in enumerate(networks):
        alone.append(PlainStack(network))
        alone[-1].start = start
    return alone


def train_together(space: str | SearchSpace, networks: Sequence[CellNetwork]) -> list[tuple[nn.Module, int]]:
    """Put networks of one space side by side for training on a CPU.

    Parameters
    ----------
    space
        Name of a search space, or the space.
    networks
        Built networks of equal shape (channels, classes); weights are copied where several share a module.

    Returns
    -------
    list of (torch.nn.Module, int)
        Modules with the number of their networks, in order: images ``[b, 3, H, W]`` to logits ``[b, size, classes]``.
        Parameters of different networks do not meet. One module where the space has a way to compute its networks
        together; else one for each network.
    """
    together = family(space).train_together(networks)
    if together is not None:
        return [(together, len(networks))]
    return [(each, each.size) for each in stack(space, networks)]
