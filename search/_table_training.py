"""Training of many networks at once, for tables; importing this imports torch."""

from __future__ import annotations

__all__ = ["Curves", "Split", "load_split", "train_group", "train_one"]

import time
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tauzero import networks
from tauzero.proxies._images import load_batch
from tauzero.search._table_protocol import Protocol
from tauzero.search._training import BUILT_IN, crop_and_flip
from tauzero.spaces import Genotypes, SearchSpace

#: Images of one forward pass in evaluation.
_EVALUATED = 32


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images ``float32[n, 3, H, W]`` with labels ``int64[n]`` on the CPU: the three parts of a data set."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    num_classes: int


def load_split(
    data: Any,
    counts: tuple[int, int, int | None],
    *,
    image_size: int,
    num_classes: int | None,
    seed: int,
    multiple: int,
) -> tuple[Split, str]:
    """Read images and divide them into three parts, drawn with the seed; returns a description too.

    `counts` are the images of training, validation and test; None for the test: all that remain, which is not known of
    files before they are read and so must be said.
    """
    wanted = counts[0] + counts[1] + (counts[2] or 0)
    number: int = wanted
    if counts[2] is None:
        if isinstance(data, str) and data in BUILT_IN:
            number = BUILT_IN[data]
        elif isinstance(data, str | Path):
            raise ValueError(
                f"The 'test_images' argument must say how many images of {data} are for the test, such as 1000."
            )
        else:
            number = len(data[0] if isinstance(data, tuple) else data)
        if number <= wanted:
            raise ValueError(
                f"The 'train_images' and 'validation_images' arguments must leave images for the test. Got {counts[0]} "
                f"and {counts[1]} of {number} images."
            )
    found = load_batch(
        data, batch_size=number, image_size=image_size, num_classes=num_classes or 1000, seed=seed, multiple=multiple
    )
    if found.labels is None:
        raise ValueError(
            "The 'data' argument must have labels: pass a tuple (images, labels), or a data set with labels. "
            f"Got {found.description}."
        )
    order = torch.from_numpy(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).permutation(number))
    classes = int(found.labels.max()) + 1 if num_classes is None else num_classes
    parts = torch.split(order, [counts[0], counts[1], number - counts[0] - counts[1]])
    train, validation, test = ((found.images[part], found.labels[part]) for part in parts)
    return Split(train, validation, test, classes), found.description


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What k trainings of E epochs gave.

    Attributes
    ----------
    loss
        ``float64[k, E]``: mean cross-entropy over the training images seen in each epoch, while the weights changed.
    train
        ``int64[k, E]``: right answers among these.
    validation, test
        ``int64[k, E]``: right answers after each epoch; -1 once a network's logits were not finite.
    seconds
        Processor time of the training of all k, evaluation apart.
    """

    loss: npt.NDArray[np.float64]
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    seconds: float


def train_group(
    space: SearchSpace,
    rows: Genotypes,
    seed: int,
    split: Split,
    protocol: Protocol,
    *,
    dtype: torch.dtype = torch.float32,
) -> Curves:
    """Train the networks of some rows side by side: what `train_one` gives for each, up to rounding.

    Layers of one name and shape begin with the same weights in every network of a seed, and all see the same images in
    the same order: what differs between cells is then due to the cells.
    """
    weights: _Weights = {}
    built = [_begin(space, row, seed, split, protocol, dtype=dtype, weights=weights) for row in rows]
    parts = [_train(module, size, seed, split, protocol) for module, size in networks.train_together(space, built)]
    return Curves(
        np.concatenate([p.loss for p in parts]),
        np.concatenate([p.train for p in parts]),
        np.concatenate([p.validation for p in parts]),
        np.concatenate([p.test for p in parts]),
        sum(p.seconds for p in parts),
    )


def train_one(
    space: SearchSpace,
    row: Genotypes,
    seed: int,
    split: Split,
    protocol: Protocol,
    *,
    dtype: torch.dtype = torch.float32,
) -> Curves:
    """Train one network on its own, in the plainest way: what groups are compared with."""
    network = _begin(space, row, seed, split, protocol, dtype=dtype, weights={})
    return _train(_Alone(network), 1, seed, split, protocol)


#: Initial weights and biases by a layer's name and shape.
_Weights: TypeAlias = dict[tuple[str, torch.Size], list[Tensor]]


def _begin(
    space: SearchSpace,
    row: Genotypes,
    seed: int,
    split: Split,
    protocol: Protocol,
    *,
    dtype: torch.dtype,
    weights: _Weights,
) -> networks.CellNetwork:
    """Build a network whose layers draw from generators of their own; `weights` keeps what was drawn for others."""
    network = networks.family(space).build(row, split.num_classes, dtype=dtype, options=protocol.options)
    for name, layer in network.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        if not own or isinstance(layer, nn.BatchNorm2d):
            networks.initialise(layer, torch.Generator())  # draws nothing
            continue
        key = (name, own["weight"].shape)
        if key not in weights:
            text = f"{seed} {name} {tuple(key[1])}".encode()
            number = int.from_bytes(blake2b(text, digest_size=8).digest(), "big")
            networks.initialise(layer, torch.Generator().manual_seed(number >> 1))
            weights[key] = [p.detach().clone() for p in own.values()]
        else:
            with torch.no_grad():
                for parameter, value in zip(own.values(), weights[key], strict=True):
                    parameter.copy_(value)
    return network


class _Alone(nn.Module):
    """A network with the outputs of a group of one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits.unsqueeze(1)


def _train(module: nn.Module, size: int, seed: int, split: Split, protocol: Protocol) -> Curves:
    """Train a module with logits ``[b, size, classes]``; parameters of different networks do not meet."""
    dtype = next(module.parameters()).dtype
    pixels, labels = split.train[0].to(dtype), split.train[1]
    batch = min(protocol.batch_size, len(pixels))
    steps = max(1, len(pixels) // batch)
    optimiser = torch.optim.SGD(
        module.parameters(), protocol.learning_rate, protocol.momentum, nesterov=protocol.momentum > 0,
        weight_decay=protocol.weight_decay, fused=True,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1, np.uint64)[0] >> 1)
    )
    shape = (size, protocol.epochs)
    loss, right = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    held = np.full((2, *shape), -1, dtype=np.int64)
    alive = np.ones(size, dtype=np.bool_)
    seconds = 0.0
    for epoch in range(protocol.epochs):
        start = time.process_time()
        module.train()
        order = torch.randperm(len(pixels), generator=generator)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = protocol.rate((epoch * steps + step) / (protocol.epochs * steps))
            chosen = order[step * batch : (step + 1) * batch]
            shown = crop_and_flip(pixels[chosen], generator) if protocol.augment else pixels[chosen]
            logits = module(shown).transpose(1, 2)  # [b, classes, size]
            answers = labels[chosen][:, None].expand(-1, size)
            losses = functional.cross_entropy(logits, answers, reduction="none").mean(dim=0)
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss[:, epoch] += losses.detach().numpy() / steps
            right[:, epoch] += (logits.detach().argmax(dim=1) == answers).sum(dim=0).numpy()
        seconds += time.process_time() - start
        for part, (images, truth) in enumerate((split.validation, split.test)):
            counts, finite = _right(module, size, images.to(dtype), truth)
            alive &= finite
            held[part, :, epoch] = counts
        held[:, ~alive, epoch] = -1
    return Curves(loss, right, held[0], held[1], seconds)


def _right(
    module: nn.Module, size: int, pixels: Tensor, labels: Tensor
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Right answers of each network, and whether all its logits are finite."""
    module.eval()
    counts, finite = np.zeros(size, dtype=np.int64), np.ones(size, dtype=np.bool_)
    with torch.no_grad():
        for part, truth in zip(torch.split(pixels, _EVALUATED), torch.split(labels, _EVALUATED), strict=True):
            logits = module(part)
            counts += (logits.argmax(dim=2) == truth[:, None]).sum(dim=0).numpy()
            finite &= torch.isfinite(logits).all(dim=2).all(dim=0).numpy()
    return counts, finite
