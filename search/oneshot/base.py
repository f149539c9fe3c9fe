"""The contract of a one-shot method.

The trainer asks a method, in this order::

    begin(supernet, generator)                    once; architecture parameters are made
    load_state_dict(state)                        where a run is resumed
    while not finished(epoch, epochs):
        epoch_start(training, epoch)
        for each step:
            architecture_step(training, ...)      before or after the weights: `architecture_first`
            gates(moment)                         without gradients; one step of the weights on the training half
        epoch_end(training, epoch)
    derive(training)                              the architecture that was found

A method with `joint` set has no architecture steps: the loss of the weights is also that of `parameters`, and both
optimisers step on its one backward pass (ISTA-NAS in one stage). It learns from the training half alone, whose share
is a setting: with ``validation=0.1`` nine tenths, the rest being left for the ranking.

What decides about an architecture is in `parameters` (updated by Adam), what else a method must remember is in
`state_dict`. Everything random comes from `self.generator`, so that a resumed run goes on bit for bit.
"""

from __future__ import annotations

__all__ = ["AlphaMethod", "Batch", "Moment", "NoOptions", "OneShotMethod"]

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._supernet import Supernet
from tauzero.spaces import Genotypes

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training

#: Images ``[b, 3, H, W]`` and labels ``int64[b]`` on the device.
Batch: TypeAlias = tuple[Tensor, Tensor]

#: Standard deviation of the initial architecture parameters (DARTS and all that follow it).
_INITIAL = 1e-3


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run is: step `step` of `steps` of epoch `epoch` of `epochs`, all counted from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int

    @property
    def position(self) -> float:
        """Epochs done, as a fraction."""
        return self.epoch + self.step / self.steps


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Of a method without hyper-parameters of its own."""


class OneShotMethod(ABC):
    """How architectures are chosen while a supernet is trained.

    Parameters
    ----------
    options
        Of the class `Options`.
    """

    #: Name in the registry and on the command line.
    name: ClassVar[str]
    #: Hyper-parameters of the method alone: a frozen dataclass whose fields have defaults.
    Options: ClassVar[type] = NoOptions
    #: Kinds of spaces that it searches.
    spaces: ClassVar[tuple[str, ...]] = ("nasbench201", "nasbench201x", "darts")
    #: Settings, options of the supernet and of the method that differ from the defaults, by preset and by kind of
    #: space (``"*"`` for all, read first): ``{"paper": {"*": {"epochs": 250}, "darts": {…}}, "smoke": {…}}``.
    presets: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = MappingProxyType({})
    #: Whether architecture steps come before the weights' step on the same batches, or after it.
    architecture_first: ClassVar[bool] = True
    #: Whether `architecture_step` is called.
    steps_architecture: ClassVar[bool] = True
    #: Whether the network that the search has come to is the mixture under `gates`, and not the found architecture.
    searches_with_gates: ClassVar[bool] = False

    def __init__(self, options: Any = None) -> None:
        self.options = self.Options() if options is None else options
        self.supernet: Supernet
        self.generator: torch.Generator

    # -- before training ----------------------------------------------------------------------

    def begin(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Make architecture parameters for a supernet, on its device; `generator`, on the CPU, is its own."""
        self.supernet, self.generator = supernet, generator

    def parameters(self) -> list[nn.Parameter]:
        """Architecture parameters, which Adam updates; a fixed list while a run lasts."""
        return []

    def weight_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the weights' optimiser.

        A weight without gradient, such as one with ``requires_grad = False``, is left as it is, so that freezing needs
        no other groups. A method that wants other ones later calls `Training.make_weight_optimiser`.
        """
        return [{"params": list(self.supernet.parameters())}]

    # -- training -----------------------------------------------------------------------------

    @property
    def joint(self) -> bool:
        """Whether the weights' loss updates the architecture as well, at this time of the run."""
        return False

    @abstractmethod
    def gates(self, moment: Moment) -> Gates:
        """Gates of one pass; called under ``torch.no_grad`` for the weights' step unless `joint`."""

    def architecture_step(self, training: Training, moment: Moment, train: Batch, validation: Batch) -> Tensor | None:
        """Update the architecture from a batch of either half; returns the loss, detached, or None if there is none.

        By default one step of Adam on the validation batch's loss. The weights must be left as they are.
        """
        del train
        loss = training.loss(validation, self.gates(moment))
        training.update_architecture(loss)
        return loss.detach()

    def epoch_start(self, training: Training, epoch: int) -> None:  # noqa: B027 - most do nothing
        """Called before the first step of each epoch."""

    def epoch_end(self, training: Training, epoch: int) -> None:  # noqa: B027 - most do nothing
        """Called after the last step of each epoch, before the checkpoint is written."""

    def schedule(self, position: float, epochs: int) -> float:
        """How far learning rate and drop path are on their way, in [0, 1], after `position` epochs."""
        return min(1.0, position / epochs)

    def finished(self, epoch: int, epochs: int) -> bool:
        """Whether the run is over after `epoch` epochs; methods of several phases decide for themselves."""
        return epoch >= epochs

    # -- results ------------------------------------------------------------------------------

    def favourite(self) -> Genotypes | None:
        """The architecture that would be found now, ``int8[L]``, if that costs nothing; for the history."""
        return None

    def figures(self) -> dict[str, float]:
        """Numbers for the history, such as a temperature."""
        return {}

    @abstractmethod
    def derive(self, training: Training) -> Genotypes:
        """The architecture that was found, ``int8[L]``."""

    def scores(self, training: Training, genotypes: Genotypes) -> npt.NDArray[np.float64]:
        """How the supernet ranks architectures, higher is better, ``float64[n]``.

        By default the accuracy in percent on the validation half, with the supernet's weights and no others.
        """
        return training.accuracies(genotypes)

    def value(self, training: Training, row: Genotypes) -> float:
        """Accuracy in percent on the validation half of the found architecture `row`, with the shared weights."""
        return float(training.accuracies(row[None])[0])

    def search_accuracy(self, training: Training, value: float) -> float:
        """Accuracy in percent on the validation half of the network that the search has come to.

        `value` is that of the found architecture with the shared weights.
        """
        return self._accuracy_under_gates(training) if self.searches_with_gates else value

    def _accuracy_under_gates(self, training: Training) -> float:
        """The same of the network under the gates of the end of the run."""
        epochs = training.settings.epochs
        with torch.no_grad():
            return training.accuracy(self.gates(Moment(epochs, epochs, 0, training.steps)))

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside weights, optimisers and generators: tensors and plain JSON values, by name.

        Names must not contain a slash. Architecture parameters are in it.
        """
        return {f"parameter{k}": p.detach() for k, p in enumerate(self.parameters())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state back, after `begin`; sets ``requires_grad`` of the supernet's weights where the method does."""
        with torch.no_grad():
            for k, parameter in enumerate(self.parameters()):
                parameter.copy_(state[f"parameter{k}"])


class AlphaMethod(OneShotMethod):
    """Methods with one number α for each operation of each edge.

    Attributes
    ----------
    alpha : torch.nn.Parameter
        ``[kinds, edges, ops]``, 10⁻³ times standard normal to begin with.
    """

    alpha: nn.Parameter

    def begin(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Draw α."""
        super().begin(supernet, generator)
        self.alpha = self._draw(supernet.shape)

    def _draw(self, shape: tuple[int, ...]) -> nn.Parameter:
        """Initial architecture parameters."""
        like = next(self.supernet.parameters())
        drawn = _INITIAL * torch.randn(shape, generator=self.generator)
        return nn.Parameter(drawn.to(device=like.device, dtype=like.dtype))

    def parameters(self) -> list[nn.Parameter]:
        """α alone."""
        return [self.alpha]

    def strengths(self) -> npt.NDArray[np.float64]:
        """What operations are chosen by, ``float64[kinds, edges, ops]``: the softmax of α on each edge."""
        found: npt.NDArray[np.float64] = self.alpha.detach().double().softmax(-1).cpu().numpy()
        return found

    def favourite(self) -> Genotypes:
        """The architecture of the strongest operations."""
        return self.supernet.genotype(self.strengths())

    def figures(self) -> dict[str, float]:
        """Mean entropy of the choice on an edge in nats, and the mean strength of each operation."""
        strengths = self.strengths()
        entropy = -(strengths * np.log(np.maximum(strengths, 1e-300))).sum(-1).mean()
        means = strengths.mean(axis=(0, 1))
        return {"entropy": float(entropy)} | {
            f"strength_{name}": float(mean) for name, mean in zip(self.supernet.operations, means, strict=True)
        }

    def derive(self, training: Training) -> Genotypes:
        """`favourite`."""
        del training
        return self.favourite()
