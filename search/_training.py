"""The training loop of `TrainingObjective`; importing this imports torch."""

from __future__ import annotations

__all__ = ["BUILT_IN", "Images", "crop_and_flip", "load", "train"]

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tauzero import networks
from tauzero.proxies._images import load_batch
from tauzero.spaces import Genotypes, SearchSpace

#: Where no more are asked for: all of scikit-learn's digits, and as many images of noise.
BUILT_IN = {"digits": 1797, "noise": 1797}
#: Pixels that random crops are shifted by at most, as a share of the image: 4 of CIFAR-10's 32.
_SHIFT = 1 / 8


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Training and validation images ``float32[n, 3, H, W]`` with labels ``int64[n]``, on the device."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    num_classes: int
    description: str
    device: torch.device


def load(
    data: Any,
    *,
    count: int | None,
    validation: float,
    image_size: int,
    num_classes: int | None,
    seed: int,
    multiple: int,
    device: str | torch.device,
) -> Images:
    """Read images and split them, the split drawn with the seed."""
    # The first optimiser of a process imports half of torch, which is no part of the first network's cost.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    number = count
    if number is None and isinstance(data, str) and data in BUILT_IN:
        number = BUILT_IN[data]
    elif number is None and not isinstance(data, str | Path):
        number = len(data[0] if isinstance(data, tuple) else data)
    if number is None:
        raise ValueError(
            f"The 'num_images' argument of TrainingObjective must say how many images of {data} are read, such as "
            "10000."
        )
    batch = load_batch(
        data, batch_size=number, image_size=image_size, num_classes=num_classes or 1000, seed=seed, multiple=multiple
    )
    if batch.labels is None:
        raise ValueError(
            "The 'data' argument of TrainingObjective must have labels: pass a tuple (images, labels), or a data set "
            f"with labels. Got {batch.description}."
        )
    order = torch.from_numpy(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).permutation(number))
    held = round(number * validation)
    if not 0 < held < number - 1:
        raise ValueError(
            f"The 'validation' argument of TrainingObjective must leave images for both parts. Got {validation!r} of "
            f"{number} images."
        )
    parts = [(batch.images[part].to(where), batch.labels[part].to(where)) for part in (order[held:], order[:held])]
    classes = int(batch.labels.max()) + 1 if num_classes is None else num_classes
    return Images(parts[0], parts[1], classes, batch.description, where)


def train(
    space: SearchSpace, row: Genotypes, images: Images, *, epochs: int, seed: int, recipe: Mapping[str, Any]
) -> tuple[float, float]:
    """Train one network and return its validation accuracy in percent and the seconds that it took.

    The weights, the order of the images and their crops depend on the seed, the architecture and the epochs only.
    """
    start = time.perf_counter()
    digest = int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "big")
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence([seed, digest]).generate_state(1, np.uint64)[0] >> 1)
    )
    network = networks.build(space, row, images.num_classes, generator, device=images.device, **recipe["options"])
    # momentum, Nesterov, decay of all weights: NAS-Bench-201 (Dong and Yang, ICLR 2020, table 1)
    optimiser = torch.optim.SGD(
        network.parameters(), recipe["learning_rate"], recipe["momentum"], nesterov=recipe["momentum"] > 0,
        weight_decay=recipe["weight_decay"],
    )  # fmt: skip
    pixels, labels = images.train
    size = min(recipe["batch_size"], len(pixels))
    steps = max(1, len(pixels) // size)
    with _repeatable(images.device):
        for epoch in range(epochs):
            order = torch.randperm(len(pixels), generator=generator).to(images.device)
            for step in range(steps):
                # The cosine falls with every step, from the rate to (nearly) zero at the end of the last epoch.
                progress = (epoch * steps + step) / (epochs * steps)
                optimiser.param_groups[0]["lr"] = recipe["learning_rate"] * (1 + math.cos(math.pi * progress)) / 2
                chosen = order[step * size : (step + 1) * size]
                batch = pixels[chosen]
                if recipe["augment"]:
                    batch = crop_and_flip(batch, generator)
                loss = functional.cross_entropy(network(batch), labels[chosen])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        accuracy = _accuracy(network, images)
    return accuracy, time.perf_counter() - start


def _accuracy(network: torch.nn.Module, images: Images) -> float:
    """Accuracy on the validation images in percent; 0 for a network whose training has diverged."""
    network.eval()
    pixels, labels = images.validation
    right = 0
    with torch.no_grad():
        for part, answers in zip(torch.split(pixels, 512), torch.split(labels, 512), strict=True):
            logits = network(part)
            if not bool(torch.isfinite(logits).all()):
                return 0.0
            right += int((logits.argmax(dim=1) == answers).sum())
    return 100.0 * right / len(labels)


def crop_and_flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Random crops of images with a border of zeros, and mirror images of half of them."""
    n, _, height, width = batch.shape
    shift = max(1, round(height * _SHIFT))
    padded = functional.pad(batch, (shift, shift, shift, shift))
    down, right = torch.randint(2 * shift + 1, (2, n), generator=generator)
    flipped = torch.rand(n, generator=generator) < 0.5
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    place = torch.arange(n)[:, None, None]
    picked = padded.permute(0, 2, 3, 1)[
        place.to(batch.device), rows[:, :, None].to(batch.device), columns[:, None, :].to(batch.device)
    ]
    return picked.permute(0, 3, 1, 2)


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Deterministic convolutions in single precision on a GPU; nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
