"""ENAS: a controller is rewarded for architectures that do well with the shared weights."""

from __future__ import annotations

__all__ = ["ENAS", "ENASOptions"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.search.oneshot._controller import Controller
from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._supernet import Supernet, at_least
from tauzero.search.oneshot.base import Batch, Moment, OneShotMethod
from tauzero.spaces import Genotypes

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training

_CLIP = 5.0


@dataclass(frozen=True, slots=True)
class ENASOptions:
    """Hyper-parameters of ENAS: AutoDL-Projects, ``scripts-search/algos/ENAS.sh`` and ``train_controller``."""

    controller_steps: int = at_least(1, 50, "Steps of the controller after each epoch.")
    controller_samples: int = at_least(1, 20, "Architectures of one step of the controller.")
    entropy_weight: float = field(default=1e-4, metadata={"least": 0, "help": "Weight of the entropy in the reward."})
    baseline_decay: float = field(default=0.99, metadata={"least": 0, "most": 1, "help": "Of the mean reward."})
    hidden: int = at_least(1, 32, "Units of the controller's LSTM.")
    lstm_layers: int = at_least(1, 2, "Its layers.")
    tanh_constant: float = field(default=2.5, metadata={"least": 0, "help": "Largest logit."})
    temperature: float = field(default=5.0, metadata={"least": 1e-6, "help": "What logits are divided by before."})
    candidates: int = at_least(1, 100, "Architectures of the controller, among which the best one is found.")
    candidate_images: int = at_least(2, 512, "Validation images on which they are compared.")


class ENAS(OneShotMethod):
    """Efficient neural architecture search (Pham et al., ICML 2018), as AutoDL-Projects runs it on NAS-Bench-201.

    Weights are trained under the controller's architectures, one a step. After each epoch the controller follows
    REINFORCE: the reward of an architecture is its accuracy (as a share) on one validation batch plus the entropy's
    weight times the entropy of its draws, less a moving average of the rewards. The average lasts over epochs, as in
    the paper's code; rewards are numbers without a gradient of their own.
    """

    name = "enas"
    Options = ENASOptions
    #: AutoDL-Projects, ``configs/nas-benchmark/algos/ENAS.config``; one cosine, where that restarts it.
    presets = MappingProxyType(
        {
            "paper": {
                "*": {
                    "epochs": 310,
                    "learning_rate": 0.05,
                    "learning_rate_min": 0.0005,
                    "weight_decay": 0.00025,
                    "batch_size": 128,
                    "architecture_learning_rate": 0.001,
                    "architecture_weight_decay": 0.0,
                    "architecture_beta1": 0.0,
                    "architecture_epsilon": 1e-3,
                }
            },
            "smoke": {
                "*": {
                    "architecture_learning_rate": 0.05,
                    "architecture_weight_decay": 0.0,
                    "controller_steps": 5,
                    "controller_samples": 5,
                    "candidates": 10,
                    "candidate_images": 128,
                }
            },
        }
    )
    steps_architecture = False

    def begin(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Make the controller."""
        super().begin(supernet, generator)
        options = self.options
        self.controller = Controller(
            supernet,
            hidden=options.hidden,
            layers=options.lstm_layers,
            tanh=options.tanh_constant,
            temperature=options.temperature,
            generator=generator,
        )
        self._baseline: float | None = None
        self._rows: Genotypes = np.zeros((0, len(supernet.columns)), dtype=np.int8)
        self._figures: dict[str, float] = {}

    def parameters(self) -> list[nn.Parameter]:
        """The controller's weights, on the CPU."""
        return list(self.controller.parameters())

    def epoch_start(self, training: Training, epoch: int) -> None:
        """Draw the architectures of the epoch: the controller does not change before its end."""
        del epoch
        with torch.no_grad():
            self._rows = self.controller(training.steps, self.generator)[0]

    def gates(self, moment: Moment) -> Gates:
        """One-hot gates of the controller's architecture of this step."""
        return self.supernet.one_hot(self._rows[moment.step])

    def epoch_end(self, training: Training, epoch: int) -> None:
        """Train the controller."""
        if training.warming_up(epoch):
            return
        batches = training.validation_batches(training.settings.batch_size)
        self.supernet.eval()
        rewards: list[float] = []
        entropies: list[float] = []
        for _ in range(self.options.controller_steps):
            rows, log_probability, entropy = self.controller(self.options.controller_samples, self.generator)
            accuracy = np.array([self._accuracy(row, next(batches)) for row in rows])
            reward = accuracy + self.options.entropy_weight * entropy.detach().numpy()
            training.step_architecture(self.gradients(log_probability, reward))
            rewards += reward.tolist()
            entropies += entropy.tolist()
        self.supernet.train()
        self._figures = {
            "reward": float(np.mean(rewards)),
            "baseline": float(self._baseline or 0.0),
            "entropy": float(np.mean(entropies)) / len(self.supernet.columns),
        }

    def gradients(self, log_probability: Tensor, rewards: npt.NDArray[np.float64]) -> list[Tensor | None]:
        """Gradients of −log p · (reward − baseline), averaged over samples and clipped; moves the baseline on."""
        advantages = []
        for reward in rewards.tolist():
            if self._baseline is None:
                self._baseline = reward
            self._baseline -= (1 - self.options.baseline_decay) * (self._baseline - reward)
            advantages.append(reward - self._baseline)
        loss = -(log_probability * torch.tensor(advantages, dtype=log_probability.dtype)).mean()
        found = torch.autograd.grad(loss, self.parameters(), allow_unused=True)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in found if g is not None]))
        factor = (_CLIP / (norm + 1e-6)).clamp(max=1.0)
        return [None if g is None else g * factor for g in found]

    def _accuracy(self, row: Genotypes, batch: Batch) -> float:
        """Share of a batch that is classified rightly."""
        images, labels = batch
        with torch.no_grad():
            logits = self.supernet(images, self.supernet.one_hot(row))
        return float((logits.argmax(dim=1) == labels).double().mean())

    def figures(self) -> dict[str, float]:
        """Mean reward, baseline and entropy of a column in nats, of the last epoch."""
        return self._figures

    def derive(self, training: Training) -> Genotypes:
        """The best of some architectures of the controller."""
        with torch.no_grad():
            rows = self.controller(self.options.candidates, self.generator)[0]
        return training.best(rows, self.options.candidate_images)

    def state_dict(self) -> dict[str, Any]:
        """The controller and the baseline."""
        return super().state_dict() | {"baseline": self._baseline}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        super().load_state_dict(state)
        self._baseline = state["baseline"]
