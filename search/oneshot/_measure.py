"""What a step costs: time and memory."""

from __future__ import annotations

__all__ = ["StepCost", "peak_memory", "reset_peak_memory", "step_cost"]

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._supernet import Supernet


def reset_peak_memory(device: torch.device) -> None:
    """Begin to watch the memory of a GPU; that of a process on a CPU has only one peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> float | None:
    """Most memory that was in use in megabytes (10⁶ bytes).

    Of a GPU what tensors took since `reset_peak_memory`; otherwise the resident memory of the whole process since it
    began, None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
        import sys
    except ImportError:  # pragma: no cover - Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@dataclass(frozen=True, slots=True)
class StepCost:
    """Cost of one forward and backward pass.

    Attributes
    ----------
    seconds
        Wall clock, the smallest of the repeats.
    saved_mb
        Tensors that the forward pass keeps for the backward pass, without the weights, in megabytes (10⁶ bytes): what
        grows with the batch, and what differs between gates.
    """

    seconds: float
    saved_mb: float


def step_cost(supernet: Supernet, gates: Gates, images: Tensor, labels: Tensor, *, repeats: int = 3) -> StepCost:
    """Measure a pass of a supernet in training mode under gates, in time and in memory; weights are not changed."""
    weights = {p.untyped_storage().data_ptr() for p in supernet.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        # Held, so that no later tensor takes its place; detached, as an output that its own node holds is never freed.
        return tensor.detach()

    training = supernet.training
    supernet.train()
    seconds = []
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            functional.cross_entropy(supernet(images, gates), labels)
        for _ in range(repeats):
            _wait(images.device)
            start = time.perf_counter()
            loss = functional.cross_entropy(supernet(images, gates), labels)
            wanted = [p for p in supernet.parameters() if p.requires_grad]
            if gates.weights is not None and gates.weights.requires_grad:
                wanted.append(gates.weights)  # type: ignore[arg-type]
            torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=False)
            _wait(images.device)
            seconds.append(time.perf_counter() - start)
    finally:
        supernet.train(training)
    return StepCost(min(seconds), sum(kept.values()) / 1e6)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
