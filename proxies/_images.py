"""The image batch that proxies look at: noise, scikit-learn's digits, an array or an ``.npz`` file."""

from __future__ import annotations

__all__ = ["Batch", "check_batch_size", "images"]

import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tauzero.spaces import unknown_name

Batch: TypeAlias = str | PathLike[str] | npt.ArrayLike | Tensor

# Mean and standard deviation of CIFAR-10's training images in [0, 1], as in NAS-Bench-201's data pipeline.
_CIFAR10_MEAN = np.array([125.3, 123.0, 113.9], dtype=np.float32) / 255
_CIFAR10_STD = np.array([63.0, 62.1, 66.7], dtype=np.float32) / 255
_KEYS = ("images", "x", "data", "arr_0")
_EXPECTED = "float [n, 3, H, W], uint8 [n, 3, H, W] or uint8 [n, H, W, 3]"


def check_batch_size(batch_size: int) -> int:
    """Return a batch size ≥ 2; `ValueError` otherwise (batch norm and similarities need two images)."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 2:
        raise ValueError(f"The 'batch_size' argument must be an integer ≥ 2. Got {batch_size!r}.")
    return int(batch_size)


def images(
    batch: Batch = "noise",
    *,
    batch_size: int = 64,
    image_size: int = 32,
    seed: int = 0,
    multiple: int = 4,
) -> Tensor:
    """Make the batch of images that proxies look at, ``float32[batch_size, 3, H, W]`` on the CPU.

    Parameters
    ----------
    batch
        ``"noise"``: independent standard normal pixels. ``"digits"``: scikit-learn's 8×8 digits, drawn without
        replacement, upscaled bilinearly, three equal channels, standardised over the data set. An array:
        float images are taken as they are (normalise them yourself); uint8 images are scaled to
        [0, 1] and standardised with CIFAR-10's channel means and deviations. A path: an ``.npz`` file
        with such an array under the key ``images``, ``x``, ``data`` or ``arr_0``, or as its only
        array of four dimensions. Of arrays and files the first `batch_size` images are used.
    batch_size
        Number of images, ≥ 2.
    image_size
        H = W in pixels of noise and digits.
    seed
        Draws noise and digits.
    multiple
        H and W of arrays must be multiples of this (the networks' total stride).

    Raises
    ------
    ValueError
        If there are too few images, or they have another shape or dtype or pixels that are not finite.
    """
    size = check_batch_size(batch_size)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    if isinstance(batch, str) and batch == "noise":
        return torch.from_numpy(rng.standard_normal((size, 3, image_size, image_size), dtype=np.float32))
    if isinstance(batch, str) and batch == "digits":
        return _digits(size, image_size, rng)
    if isinstance(batch, str | PathLike):
        array = _read_npz(Path(batch))
    else:
        array = batch.detach().cpu().numpy() if isinstance(batch, Tensor) else np.asarray(batch)
    return _from_array(array, size, multiple)


def _digits(size: int, image_size: int, rng: np.random.Generator) -> Tensor:
    from sklearn.datasets import load_digits

    digits = load_digits().images.astype(np.float32)
    if size > len(digits):
        raise ValueError(f"The 'batch_size' argument is {size}, but scikit-learn's digits are {len(digits)} images.")
    chosen = digits[rng.choice(len(digits), size, replace=False)]
    standardised = torch.from_numpy((chosen - digits.mean()) / digits.std())
    scaled = functional.interpolate(
        standardised[:, None], size=(image_size, image_size), mode="bilinear", align_corners=False
    )
    return scaled.expand(-1, 3, -1, -1).contiguous()


def _read_npz(path: Path) -> npt.NDArray[Any]:
    if not path.exists():
        if path.suffix == ".npz":
            raise ValueError(f"The 'batch' file {path} does not exist.")
        raise unknown_name("image batch", str(path), ["noise", "digits", "an array", "the path of an .npz file"])
    if not zipfile.is_zipfile(path):
        raise ValueError(f"The 'batch' file {path} is not an .npz file: write it with numpy.savez(path, images=…).")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = [key for key in _KEYS if key in archive.files]
            # Only now is anything decompressed; a file may hold far more than the images.
            arrays: dict[str, npt.NDArray[Any]] = {key: archive[key] for key in (found[:1] or archive.files)}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"The 'batch' file {path} cannot be read: {error}") from error
    if found:
        return arrays[found[0]]
    stacks = [array for array in arrays.values() if array.ndim == 4]
    if len(stacks) != 1:
        listing = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
        raise ValueError(
            f"The 'batch' file {path} must hold the images under one of the keys {', '.join(_KEYS)}. "
            f"It holds: {listing}."
        )
    return stacks[0]


def _from_array(array: npt.NDArray[Any], size: int, multiple: int) -> Tensor:
    if array.ndim != 4:
        raise ValueError(f"The 'batch' argument must be {_EXPECTED}. Got an array of shape {array.shape}.")
    if array.dtype.kind != "f" and array.dtype != np.uint8:
        raise ValueError(f"The 'batch' argument must be {_EXPECTED}. Got dtype {array.dtype}.")
    if array.shape[1] != 3:
        if array.dtype != np.uint8 or array.shape[3] != 3:
            raise ValueError(f"The 'batch' argument must be {_EXPECTED}. Got {array.dtype} {array.shape}.")
        array = array.transpose(0, 3, 1, 2)
    _, _, height, width = array.shape
    if height % multiple or width % multiple or not height or not width:
        raise ValueError(
            f"The images of the 'batch' argument must have a height and width that are multiples of {multiple}, "
            f"as the networks halve them. Got {height}×{width}: pad, crop or resize them."
        )
    if len(array) < size:
        raise ValueError(
            f"The 'batch' argument holds {len(array)} images, but batch_size is {size}: "
            f"pass more images or a smaller batch_size."
        )
    taken: npt.NDArray[np.float32] = np.ascontiguousarray(array[:size], dtype=np.float32)
    if array.dtype == np.uint8:
        taken /= 255
        taken -= _CIFAR10_MEAN[:, None, None]
        taken /= _CIFAR10_STD[:, None, None]
    if not np.isfinite(taken).all():
        bad = int(np.argmin(np.isfinite(taken).all(axis=(1, 2, 3))))
        raise ValueError(f"The pixels of the 'batch' argument must be finite. Image {bad} has NaN or infinity.")
    return torch.from_numpy(taken)
