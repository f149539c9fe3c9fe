"""DARTS, second order."""

from __future__ import annotations

__all__ = ["DARTSV2", "DARTSV2Options"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauzero.search.oneshot.base import Batch, Moment
from tauzero.search.oneshot.darts import DARTSV1

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training


@dataclass(frozen=True, slots=True)
class DARTSV2Options:
    """Hyper-parameters of second-order DARTS."""

    difference: float = field(
        default=0.01, metadata={"least": 0, "help": "Length of the step of the finite difference, in weights."}
    )


class DARTSV2(DARTSV1):
    """α follows the gradient of the validation loss after one step of the weights (Liu et al., ICLR 2019, section 2.3).

    With w' = w − ξ ∇_w L_train(w, α) that gradient is ∇_α L_val(w', α) − ξ ∇²_{α,w} L_train(w, α) ∇_w' L_val(w', α)
    (equation 7); the product with the second derivatives is the central difference of ∇_α L_train at w ± ε ∇_w' L_val,
    ε = 0.01 / ‖∇_w' L_val‖ (equation 8). As in the authors' ``architect.py``, ξ is the weights' learning rate and their
    step has momentum (without Nesterov's) and decay. All weights are put back bit for bit.
    """

    name = "darts-v2"
    Options = DARTSV2Options

    def architecture_step(self, training: Training, moment: Moment, train: Batch, validation: Batch) -> Tensor:
        """One step of Adam with the second-order gradient; returns the unrolled validation loss."""
        loss, gradient = self.gradient(training, moment, train, validation)
        training.step_architecture([gradient])
        return loss

    def gradient(self, training: Training, moment: Moment, train: Batch, validation: Batch) -> tuple[Tensor, Tensor]:
        """Unrolled validation loss and its approximate gradient for α."""
        weights = [p for p in self.supernet.parameters() if p.requires_grad]
        kept = [p.detach().clone() for p in weights]
        rate = training.weight_optimiser.param_groups[0]["lr"]
        try:
            self._unroll(training, moment, train, weights, rate)
            loss = training.loss(validation, self.gates(moment))
            found = torch.autograd.grad(loss, [self.alpha, *weights], allow_unused=True)
            direct = self._or_zeros(found[0])
            direction = [torch.zeros_like(p) if g is None else g for p, g in zip(weights, found[1:], strict=True)]
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(d) for d in direction]))
            # A loss that no weight changes has no second-order part.
            epsilon = self.options.difference / norm.clamp_min(torch.finfo(norm.dtype).tiny)
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    for p, start, d in zip(weights, kept, direction, strict=True):
                        p.copy_(start + sign * epsilon * d)
                (side,) = torch.autograd.grad(training.loss(train, self.gates(moment)), [self.alpha], allow_unused=True)
                sides.append(self._or_zeros(side))
        finally:
            with torch.no_grad():
                for p, start in zip(weights, kept, strict=True):
                    p.copy_(start)
        return loss.detach(), direct - rate * (sides[0] - sides[1]) / (2 * epsilon)

    def _or_zeros(self, gradient: Tensor | None) -> Tensor:
        return torch.zeros_like(self.alpha) if gradient is None else gradient

    def _unroll(
        self, training: Training, moment: Moment, train: Batch, weights: list[torch.nn.Parameter], rate: float
    ) -> None:
        """Make the step of the weights that the optimiser would make."""
        with torch.no_grad():
            gates = self.gates(moment)
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            training.loss(train, gates), weights, allow_unused=True
        )
        optimiser = training.weight_optimiser
        group = optimiser.param_groups[0]
        with torch.no_grad():
            for p, gradient in zip(weights, gradients, strict=True):
                if gradient is None:  # as the optimiser leaves it
                    continue
                step = gradient + group["weight_decay"] * p
                momentum = optimiser.state.get(p, {}).get("momentum_buffer")
                if momentum is not None:
                    step = step + group["momentum"] * momentum
                p.sub_(rate * step)
