"""Images of a run: read in parts, shrunk, divided into halves, augmented."""

from __future__ import annotations

__all__ = ["Images", "augmented", "load_images"]

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tauzero.proxies._image_files import open_images
from tauzero.proxies._image_source import ImageSource, UnusableError
from tauzero.proxies._images import _standardise, load_batch
from tauzero.search._training import crop_and_flip
from tauzero.search.oneshot._settings import Settings

_BUILT_IN = {"digits": 1797, "noise": 1797}
#: Images that are decoded at a time: 50,000 as floats, twice, are more than some machines have.
_PART = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images of a run.

    Attributes
    ----------
    train, validation
        ``float32[n, 3, H, W]`` and ``int64[n]`` on the device; without a validation part, that of training.
    num_classes
        Number of classes.
    description
        One sentence for people.
    augment
        Whether training images are cropped and mirrored.
    held_out
        Whether the validation images are not trained on by the weights.
    """

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    num_classes: int
    description: str
    augment: bool
    held_out: bool


def load_images(data: Any, settings: Settings, *, seed: int, multiple: int, device: torch.device) -> Images:
    """Read labelled images and divide them; which ones, and the halves, are drawn with the seed.

    Parameters
    ----------
    data
        ``"digits"``, ``"noise"``, a tuple ``(images, labels)``, or a path as `tauzero.proxies.score` reads it: an
        ``.npz`` file with arrays or with JPEG files, CIFAR's and ImageNet16's own files, a folder of pictures by class.
    settings
        `num_images`, `image_size`, `validation` and `augment` are read.
    seed
        A non-negative integer.
    multiple
        Height and width must be multiples of this.
    device
        Where the images are kept.

    Raises
    ------
    ValueError
        If there are no such images, they have no labels, are too few or do not fit; before anything is trained.
    """
    path = isinstance(data, str | PathLike) and data not in _BUILT_IN
    reader = _from_path if path else _from_memory
    pixels, labels, description = reader(data, settings, seed, multiple)
    if labels is None:
        raise ValueError(
            "The 'data' argument of a one-shot search must have labels: pass a tuple (images, labels), or a data "
            f"set with labels. Got {description}."
        )
    count = len(pixels)
    order = torch.from_numpy(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).permutation(count))
    held = round(count * settings.validation)
    if count - held < 2 or (settings.validation and held < 2):
        raise ValueError(
            f"The 'validation' option must leave images for both parts. Got {settings.validation} of {count} images."
        )
    parts = [(pixels[part].to(device), labels[part].to(device)) for part in (order[held:], order[:held])]
    augment = settings.augment
    if augment is None:
        augment = not (isinstance(data, str) and data in _BUILT_IN)
    half = f"{count - held} for the weights, {held} for the architecture" if held else f"all {count} for both"
    return Images(
        parts[0], parts[1] if held else parts[0], int(labels.max()) + 1, f"{description}; {half}", augment, held > 0
    )


def _from_memory(data: Any, settings: Settings, seed: int, multiple: int) -> tuple[Tensor, Tensor | None, str]:
    """Digits, noise and arrays."""
    built_in = isinstance(data, str)
    stack = data[0] if isinstance(data, tuple) and data else data
    if not built_in and not hasattr(stack, "__len__"):
        raise ValueError(
            "The 'data' argument must be digits, a tuple (images, labels) of arrays, or the path of a data set. "
            f"Got {type(data).__name__}."
        )
    available = _BUILT_IN[data] if built_in else len(stack)
    count = min(available, settings.num_images or available)
    size = settings.image_size or 32
    batch = load_batch(
        data,
        batch_size=count,
        image_size=size,
        num_classes=10 if built_in else 1000,
        seed=seed,
        multiple=multiple if built_in or settings.image_size is None else 1,
    )
    images = batch.images if built_in else _shrunk(batch.images, settings.image_size, multiple)
    return images, batch.labels, batch.description


def _from_path(
    data: str | PathLike[str], settings: Settings, seed: int, multiple: int
) -> tuple[Tensor, Tensor | None, str]:
    """Files, of which no more is in memory at a time than is needed."""
    try:
        return _read(
            open_images(Path(data), image_size=settings.image_size or 32, num_classes=1000), settings, seed, multiple
        )
    except UnusableError as error:
        raise ValueError(error.message("data")) from error


def _read(source: ImageSource, settings: Settings, seed: int, multiple: int) -> tuple[Tensor, Tensor | None, str]:
    available = source.count
    count = min(available, settings.num_images or available)
    chosen = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,))).permutation(available)[:count]
    pixels: list[Tensor] = []
    labels: list[npt.NDArray[np.int64]] = []
    for start in range(0, count, _PART):
        taken, some = source.take(chosen[start : start + _PART])
        standard, scaled = _standardise(taken, source.statistics, source.path)
        pixels.append(_shrunk(standard, settings.image_size, multiple))
        if some is not None:
            labels.append(some)
    images = torch.cat(pixels)
    description = (
        f"{count} of {available} {source.title}, drawn with seed {seed}; {images.shape[2]}×{images.shape[3]}, {scaled}"
    )
    return images, torch.from_numpy(np.concatenate(labels)) if labels else None, description


def _shrunk(images: Tensor, size: int | None, multiple: int) -> Tensor:
    """Average squares of pixels such that the height and width are `size`."""
    height, width = images.shape[2:]
    wanted = (height, width) if size is None else (size, size)
    if any(side % multiple for side in wanted) or any(
        have % want for have, want in zip((height, width), wanted, strict=True)
    ):
        raise ValueError(
            f"The 'image_size' option must be a multiple of {multiple} that divides the images' own size, "
            f"{height}×{width}. Got {size}."
        )
    if wanted == (height, width):
        return images
    return functional.avg_pool2d(images, (height // wanted[0], width // wanted[1]))


def augmented(batch: Tensor, images: Images, cutout: int, generator: torch.Generator) -> Tensor:
    """Random crops and mirror images, then cutout (DeVries and Taylor, 2017), of training images ``[b, 3, H, W]``."""
    if images.augment:
        # Crops come with the channels last, and convolutions would stay in that order: on a CPU half as fast.
        batch = crop_and_flip(batch, generator).contiguous()
    if cutout:
        n, _, height, width = batch.shape
        half = cutout // 2
        middle = torch.stack([torch.randint(side, (n,), generator=generator) for side in (height, width)])
        inside = []
        for centre, side in zip(middle, (height, width), strict=True):
            offset = torch.arange(side)[None] - centre[:, None]
            inside.append((offset >= -half) & (offset < cutout - half))
        hole = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
        batch = batch.masked_fill(hole.to(batch.device), 0.0)
    return batch
