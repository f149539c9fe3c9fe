"""Number of linear regions, the expressivity of TE-NAS."""

from __future__ import annotations

__all__ = ["LinearRegions"]

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tauzero import networks
from tauzero.networks import NetworkStack
from tauzero.proxies._layers import rectifiers
from tauzero.proxies.base import Proxy, Work
from tauzero.proxies.ntk_condition import PURPOSE, draw_kaiming

_BATCHES, _PATCHES, _SIDE, _REPEATS = 3, 1000, 3, 3
_COLOURS = 3


@dataclass(frozen=True)
class _Thin:
    """A network small enough that 3,000 patches do not all fall into different regions.

    Attributes
    ----------
    options
        Its shape.
    blocks
        How many of its first blocks are looked at, fed with patches of ``options["channels"]`` channels and
        no stem before them; 0 for the whole network.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    blocks: int = 0


#: By space; networks of others are looked at as they are. One block where all cells are equal.
_THIN = {
    "darts": _Thin({"channels": 1, "layers": 3}),
    "nasbench101": _Thin({"channels": 4, "modules_per_stack": 1}, blocks=1),
    "nasbench101x": _Thin({"channels": 10, "modules_per_stack": 1}, blocks=1),
    "nasbench201": _Thin({"channels": 1, "cells_per_stage": 1}, blocks=1),
    "nasbench201x": _Thin({"channels": 1, "cells_per_stage": 1}, blocks=1),
    "transnas_macro": _Thin({"channels": 2, "cells_per_module": 1}, blocks=6),
    "transnas_micro": _Thin({"channels": 2, "cells_per_module": 1}, blocks=1),
}


class LinearRegions(Proxy):
    r"""Number of linear regions that small patches of the images fall into.

    Chen et al., "Neural architecture search on ImageNet in four GPU hours: a theoretically inspired perspective"
    (TE-NAS), ICLR 2021, section 3.1.2, after Xiong et al., "On the number of linear regions of convolutional neural
    networks", ICML 2020: two inputs lie in one linear region if every rectified unit is on for both or off for both, so

    .. math:: R = \mathbb{E}_{\theta} \left| \left\{ \left( \mathbb{1}[z_u(x; \theta) > 0] \right)_u
       : x \in X \right\} \right|

    As in the authors' code (VITA-Group/TENAS, ``linear_region_counter.py`` and ``prune_tenas.py``): X are three batches
    of 1,000 random 3×3 patches of the images, each of channels chosen at random; the network is one cell of one channel
    without a stem (all cells are equal), the ReLUs in it and one on its batch-normalised output are
    looked at; training mode, weights normal with variance 2/fan_in, mean over three initialisations. For
    NAS-Bench-201 this is their setting. All networks see the same patches.

    For other spaces, where no setting was published or theirs is a supernet's: two channels in TransNAS-Bench-101,
    four in NAS-Bench-101 (the fewest that their cells can have), all blocks of TransNAS-Bench-101's macro space in a
    row; for DARTS cells (of one channel, three of them) and NATS-Bench's size space (as it is) the whole
    network with its stem, on patches of three channels and the least size that it takes. Wide networks tell nearly
    all of the 3,000 patches apart.
    """

    needs_batches = 1

    def score(self, work: Work) -> npt.NDArray[np.float64]:
        """Three forward passes of a thin network for each of three initialisations, ``float64[n]``."""
        thin = _THIN.get(work.space.kind, _Thin())
        options = {**work.options, **thin.options}
        channels = int(options["channels"]) if thin.blocks else _COLOURS
        side = _SIDE if thin.blocks else networks.family(work.space).image_multiple
        patches = _patches(work.images, channels, side, work.seed)
        built = [
            networks.build(work.space, row, work.shape.num_classes, seed=0, device=work.device, **options)
            for row in work.genotypes
        ]
        found = np.empty(len(work))
        for stack in networks.stack(work.space, built):
            generators = work.generators(stack, PURPOSE)
            counts = np.zeros(stack.size)
            for _ in range(_REPEATS):
                draw_kaiming(stack, generators, "fan_in")
                counts += _count(stack, patches, thin.blocks)
            found[stack.start : stack.start + stack.size] = counts / _REPEATS
        return found


def _patches(images: Tensor, channels: int, side: int, seed: int) -> list[Tensor]:
    """Batches of random patches ``float32[1000, channels, side, side]``."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PURPOSE,)))
    b, _, height, width = images.shape
    windows = images.unfold(2, side, 1).unfold(3, side, 1).transpose(1, 3).transpose(1, 2)  # b, y, x, 3, side, side
    copies = np.tile(np.arange(_COLOURS), -(-channels // _COLOURS))

    def draw(n: int) -> Tensor:
        image, y, x = (
            rng.integers(b, size=n),
            rng.integers(height - side + 1, size=n),
            rng.integers(width - side + 1, size=n),
        )
        # Each colour before any comes again.
        colours = rng.permuted(np.broadcast_to(copies, (n, len(copies))), axis=1)[:, :channels]
        if channels == _COLOURS:
            colours = np.sort(colours, axis=1)
        index = [torch.from_numpy(v).to(images.device)[:, None] for v in (image, y, x)]
        return windows[(*index, torch.from_numpy(colours).to(images.device))].contiguous()

    return [draw(_PATCHES) for _ in range(_BATCHES)]


def _count(stack: NetworkStack, patches: list[Tensor], blocks: int) -> npt.NDArray[np.int64]:
    """Numbers of different activation patterns, ``int64[size]``."""
    codes: list[list[Tensor]] = [[] for _ in range(stack.size)]

    def see(members: Tensor, x: Tensor) -> None:
        for place, bits in zip(members.tolist(), (x > 0).reshape(len(x), len(members), -1).unbind(1), strict=True):
            codes[place].append(bits)

    rows: list[list[npt.NDArray[np.uint8]]] = [[] for _ in range(stack.size)]
    with ExitStack() as cleanup, torch.no_grad():
        for module, members in rectifiers(stack):
            hook = module.register_forward_pre_hook(lambda _, inputs, members=members: see(members, inputs[0]))
            cleanup.callback(hook.remove)
        for batch in patches:
            if blocks:
                x = batch.repeat(1, stack.size, 1, 1)
                for block in stack.blocks()[:blocks]:
                    x = block(x)
                # A ReLU after a batch norm that is as initialised is on above the mean.
                see(torch.arange(stack.size), x - x.mean(dim=(0, 2, 3), keepdim=True))
            else:
                stack(batch)
            for place, seen in enumerate(codes):
                rows[place].append(np.packbits(torch.cat(seen, dim=1).cpu().numpy(), axis=1))
                seen.clear()
    return np.array([_distinct(np.concatenate(parts)) for parts in rows], dtype=np.int64)


def _distinct(rows: npt.NDArray[np.uint8]) -> int:
    # One opaque value per row sorts many times faster than columns do.
    return len(np.unique(np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1])))))
