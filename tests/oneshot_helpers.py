"""Small supernets and trainings that the tests of one-shot search share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tauzero import spaces
from tauzero.search import oneshot
from tauzero.search.oneshot._data import Images

TINY = "nasbench201x(nodes=3,operations=none+skip_connect+conv_1x1+conv_3x3)"
#: Options that make a run of any method on any space take about a second.
QUICK: dict[str, Any] = {"num_images": 64, "image_size": 8, "batch_size": 16, "ranked": 3, "channels": 4, "epochs": 1}


def supernet(space: str = TINY, seed: int = 0, num_classes: int = 10, **options: Any) -> oneshot.Supernet:
    """A supernet of a space with the shape given."""
    the_space = spaces.get(space)
    family = oneshot.supernet_class(the_space)
    generator = torch.Generator().manual_seed(seed)
    return family(the_space, num_classes, family.Options(**options), generator)


def batch(n: int = 8, size: int = 8, seed: int = 0, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images in double precision, and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, size, size, generator=generator, dtype=torch.float64)
    return images, torch.randint(classes, (n,), generator=generator)


def stripes(n: int, seed: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes along rows (class 0), along columns (1) and a chessboard (2), with a random sign.

    Half of the pixels of every image are 1 and half −1: what is computed pixel by pixel and averaged over the image is
    the same for all three.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    row = 1 - 2 * (torch.arange(size) % 2)
    patterns = torch.stack([row[:, None].expand(size, size), row.expand(size, size), row[:, None] * row])
    signs = 1 - 2 * torch.randint(2, (n, 1, 1), generator=generator)
    return (patterns[labels] * signs)[:, None].expand(-1, 3, -1, -1).float().contiguous(), labels


def stripes_training(
    method: str, space: str, seed: int, folder: Path | None = None, **options: Any
) -> oneshot.Training:
    """A training whose labels are visible to 3×3 convolutions alone: its stem looks at single pixels."""
    the_space, chosen = spaces.get(space), oneshot.find(method)
    family = oneshot.supernet_class(the_space)
    settings: dict[str, Any] = {
        "channels": 8, "stages": 1, "cells_per_stage": 1, "batch_size": 32, "learning_rate": 0.1, "augment": False,
    }  # fmt: skip
    setup = oneshot.resolve(chosen, family, the_space, preset="smoke", options={**settings, **options})
    net = family(the_space, 3, setup.supernet, torch.Generator().manual_seed(seed))
    convolution = net.stem[0]
    assert isinstance(convolution, nn.Conv2d)
    with torch.no_grad():
        convolution.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0.0
    convolution.weight.requires_grad_(False)
    train, validation = stripes(512, seed), stripes(256, seed + 100)
    images = Images(train, validation, 3, "stripes", augment=False, held_out=True)
    return oneshot.Training(net, chosen(setup.method), setup.settings, images, seed=seed, folder=folder)
