"""The one trainer of all one-shot methods."""

from __future__ import annotations

__all__ = ["NonFiniteLossError", "Training"]

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tauzero.search._training import _repeatable
from tauzero.search.oneshot._checkpoint import (
    CHECKPOINT,
    load_optimiser_state,
    optimiser_state,
    read_checkpoint,
    write_checkpoint,
)
from tauzero.search.oneshot._data import Images, augmented
from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._measure import peak_memory, reset_peak_memory
from tauzero.search.oneshot._settings import Settings
from tauzero.search.oneshot._supernet import Supernet
from tauzero.search.oneshot.base import Batch, Moment, OneShotMethod
from tauzero.spaces import Genotypes, TauzeroError

#: Steps between looks at the losses on a GPU, which has to be waited for.
_LOOK = 25
_ADAM_BETA2 = 0.999


class NonFiniteLossError(TauzeroError, RuntimeError):
    """A loss that is infinite or no number; the message names epoch, step and the checkpoint to go on from."""


class Training:
    """A supernet, a method, images and optimisers; what methods are given to work with.

    Parameters
    ----------
    supernet
        On the device of the images.
    method
        Not begun yet.
    settings
        Numbers of the training.
    images
        Both halves.
    seed
        A non-negative integer; five generators come from it.
    folder
        Where checkpoints are written; None for nowhere.
    identity
        JSON values that a checkpoint must have been written with to be gone on from.

    Attributes
    ----------
    weight_optimiser, architecture_optimiser : torch.optim.Optimizer
        SGD, and Adam or None for methods without architecture parameters.
    history : list of dict
        One entry for each finished epoch.
    """

    def __init__(
        self,
        supernet: Supernet,
        method: OneShotMethod,
        settings: Settings,
        images: Images,
        *,
        seed: int,
        folder: Path | None = None,
        identity: dict[str, Any] | None = None,
    ) -> None:
        self.supernet, self.method, self.settings, self.images = supernet, method, settings, images
        self.device = images.train[0].device
        self.folder, self.identity = folder, identity or {}
        keys = np.random.SeedSequence(seed, spawn_key=(2,)).generate_state(4, np.uint64)
        order, augment, own, drop = (torch.Generator().manual_seed(int(key >> 1)) for key in keys)
        #: Order of the images, their crops, the method's draws, and drop path: all on the CPU.
        self.generators = {"order": order, "augment": augment, "method": own, "drop_path": drop}
        supernet.generator = drop
        method.begin(supernet, own)
        self.history: list[dict[str, Any]] = []
        self.epoch = 0
        self._losses: list[tuple[Moment, str, Tensor]] = []
        self.weight_optimiser = self.make_weight_optimiser()
        parameters = method.parameters()
        self.architecture_optimiser = (
            torch.optim.Adam(
                parameters,
                settings.architecture_learning_rate,
                betas=(settings.architecture_beta1, _ADAM_BETA2),
                eps=settings.architecture_epsilon,
                weight_decay=settings.architecture_weight_decay,
            )
            if parameters
            else None
        )

    # -- for methods --------------------------------------------------------------------------

    def make_weight_optimiser(self) -> torch.optim.SGD:
        """Make the weights' optimiser anew from `OneShotMethod.weight_groups`; momentum begins at zero."""
        settings = self.settings
        self.weight_optimiser = torch.optim.SGD(
            self.method.weight_groups(),
            settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov and settings.momentum > 0,
            weight_decay=settings.weight_decay,
        )
        return self.weight_optimiser

    def warming_up(self, epoch: int) -> bool:
        """Whether only the weights are trained in this epoch."""
        return epoch < self.settings.warmup * self.settings.epochs

    def loss(self, batch: Batch, gates: Gates) -> Tensor:
        """Cross entropy of a batch under gates, that of an auxiliary head included in training mode."""
        return self._loss_and_right(batch, gates)[0]

    def _loss_and_right(self, batch: Batch, gates: Gates) -> tuple[Tensor, Tensor]:
        images, labels = batch
        with self._autocast():
            logits, second = self.supernet.forward_with_auxiliary(images, gates)
            total = functional.cross_entropy(logits.float() if self.settings.amp else logits, labels)
            if second is not None:
                total = total + self.settings.auxiliary_weight * functional.cross_entropy(
                    second.float() if self.settings.amp else second, labels
                )
        return total, (logits.detach().argmax(dim=1) == labels).sum()

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if self.settings.amp else nullcontext()

    def update_architecture(self, loss: Tensor) -> None:
        """One step of Adam down the gradient of a loss; gradients of the weights are not even computed."""
        parameters = self.method.parameters()
        self.step_architecture(torch.autograd.grad(loss, parameters, allow_unused=True))

    def step_architecture(self, gradients: Sequence[Tensor | None]) -> None:
        """One step of Adam with given gradients, one for each of the method's parameters."""
        if self.architecture_optimiser is None:
            raise RuntimeError(f"The method {self.method.name} has no architecture parameters to update.")
        for parameter, gradient in zip(self.method.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.architecture_optimiser.step()
        self.architecture_optimiser.zero_grad(set_to_none=True)

    def validation_batches(self, size: int) -> Iterator[Batch]:
        """Endless validation batches in an order drawn anew each time through, augmented as in training."""
        pixels, labels = self.images.validation
        size = min(size, len(pixels))
        while True:
            order = torch.randperm(len(pixels), generator=self.generators["order"]).to(self.device)
            for start in range(0, len(pixels) - size + 1, size):
                chosen = order[start : start + size]
                yield self._augmented(pixels[chosen]), labels[chosen]

    def accuracies(self, genotypes: Genotypes, images: int | None = None) -> npt.NDArray[np.float64]:
        """Accuracy in percent of architectures with the shared weights, ``float64[n]``.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``.
        images
            On so many of the validation images, always the same ones; by default on all.
        """
        found: npt.NDArray[np.float64] = np.array(
            [self.accuracy(self.supernet.one_hot(row), images) for row in genotypes], dtype=np.float64
        )
        return found

    def accuracy(self, gates: Gates, images: int | None = None) -> float:
        """Accuracy in percent under gates, on so many of the validation images or on all."""
        pixels, labels = (part[:images] for part in self.images.validation)
        # Parts of nearly equal size: a norm by the batch's own statistics cannot read the one image that is left over.
        parts = math.ceil(len(pixels) / self.settings.evaluation_batch)
        batches = zip(pixels.tensor_split(parts), labels.tensor_split(parts), strict=True)
        training = self.supernet.training
        self.supernet.eval()
        try:
            with torch.no_grad(), self._autocast():
                right = sum((self.supernet(x, gates).argmax(dim=1) == y).sum() for x, y in batches)
        finally:
            self.supernet.train(training)
        return 100.0 * int(right) / len(labels)

    def best(self, genotypes: Genotypes, images: int | None = None) -> Genotypes:
        """The architecture of the highest accuracy with the shared weights, ``int8[L]``, the first of equal ones."""
        row: Genotypes = genotypes[int(self.accuracies(genotypes, images).argmax())]
        return row

    # -- the run ------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Steps of an epoch; what remains of the images is left out."""
        return max(1, len(self.images.train[0]) // self._size)

    @property
    def _size(self) -> int:
        return min(self.settings.batch_size, len(self.images.train[0]))

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Train from wherever the run is to its end, one checkpoint an epoch."""
        epochs = self.settings.epochs
        progress(self.epoch, max(epochs, self.epoch))
        with _repeatable(self.device):
            while not self.method.finished(self.epoch, epochs):
                self._one_epoch()
                progress(self.epoch, max(epochs, self.epoch))

    def _one_epoch(self) -> None:
        method, settings, epoch = self.method, self.settings, self.epoch
        start = time.perf_counter()
        reset_peak_memory(self.device)
        self.supernet.train()
        method.epoch_start(self, epoch)
        pixels, labels = self.images.train
        order = torch.randperm(len(pixels), generator=self.generators["order"]).to(self.device)
        validation = self.validation_batches(self._size)
        sums = {"train_loss": 0.0, "architecture_loss": 0.0}
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        self._losses = []
        judged = method.steps_architecture and not method.joint and not self.warming_up(epoch)
        for step in range(self.steps):
            moment = Moment(epoch, settings.epochs, step, self.steps)
            self._set_schedule(moment)
            chosen = order[step * self._size : (step + 1) * self._size]
            batch = self._augmented(pixels[chosen]), labels[chosen]
            if judged and method.architecture_first:
                self._architecture(moment, batch, next(validation))
            right += self._weights(moment, batch)
            if judged and not method.architecture_first:
                self._architecture(moment, batch, next(validation))
            if self.device.type == "cpu" or step % _LOOK == _LOOK - 1 or step == self.steps - 1:
                for name, value in self._look().items():
                    sums[name] += value
        method.epoch_end(self, epoch)
        favourite = method.favourite()
        self.epoch += 1
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": sums["train_loss"] / self.steps,
                "train_accuracy": 100.0 * int(right) / (self.steps * self._size),
                "architecture_loss": sums["architecture_loss"] / self.steps if judged else None,
                "learning_rate": float(self.weight_optimiser.param_groups[0]["lr"]),
                "seconds": time.perf_counter() - start,
                "peak_memory_mb": peak_memory(self.device),
                "arch": None if favourite is None else self.supernet.space.to_string(favourite[None])[0],
                **method.figures(),
            }
        )
        if self.folder is not None:
            self.save()

    def _set_schedule(self, moment: Moment) -> None:
        settings = self.settings
        way = self.method.schedule(moment.position, moment.epochs)
        low, high = settings.learning_rate_min, settings.learning_rate
        for group in self.weight_optimiser.param_groups:
            group["lr"] = low + (high - low) * (1 + math.cos(math.pi * way)) / 2
        self.supernet.drop_path = settings.drop_path * way

    def _weights(self, moment: Moment, batch: Batch) -> Tensor:
        """One step of the weights; returns the number of images that were classified rightly."""
        method = self.method
        joint = method.joint
        with nullcontext() if joint else torch.no_grad():
            gates = method.gates(moment)
        loss, right = self._loss_and_right(batch, gates)
        self._losses.append((moment, "train_loss", loss.detach()))
        self.weight_optimiser.zero_grad(set_to_none=True)
        if joint and self.architecture_optimiser is not None:
            self.architecture_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if joint and self.architecture_optimiser is not None:
            self.architecture_optimiser.step()
        if self.settings.clip:
            weights = [p for group in self.weight_optimiser.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, self.settings.clip)
        self.weight_optimiser.step()
        return right

    def _architecture(self, moment: Moment, train: Batch, validation: Batch) -> None:
        loss = self.method.architecture_step(self, moment, train, validation)
        if loss is not None:
            self._losses.append((moment, "architecture_loss", loss))

    def _augmented(self, batch: Tensor) -> Tensor:
        return augmented(batch, self.images, self.settings.cutout, self.generators["augment"])

    def _look(self) -> dict[str, float]:
        """Sums of the losses since the last look; the first that is not finite ends the run."""
        sums = {"train_loss": 0.0, "architecture_loss": 0.0}
        if self._losses:
            for (moment, name, _), value in zip(
                self._losses, torch.stack([loss for _, _, loss in self._losses]).tolist(), strict=True
            ):
                if not math.isfinite(value):
                    raise NonFiniteLossError(self._explained(moment, name, value))
                sums[name] += value
        self._losses = []
        return sums

    def _explained(self, moment: Moment, name: str, value: float) -> str:
        file = None if self.folder is None else self.folder / CHECKPOINT
        if file is not None and file.exists():
            where = f"The checkpoint {file} holds the end of epoch {self.epoch}: to go on from it"
        else:
            where = "No checkpoint has been written: to begin anew"
        return (
            f"The {name.replace('_', ' ')} of {self.method.name} became {value} in step {moment.step + 1} of "
            f"{moment.steps} of epoch {moment.epoch + 1}. {where}, use a smaller learning_rate or a smaller clip."
        )

    # -- checkpoints --------------------------------------------------------------------------

    def save(self) -> Path:
        """Write the checkpoint of the last finished epoch; returns its path."""
        if self.folder is None:
            raise ValueError("This training has no folder to write a checkpoint to.")
        path = self.folder / CHECKPOINT
        adam = self.architecture_optimiser
        parts = {
            "supernet": self.supernet.state_dict(),
            "method": self.method.state_dict(),
            "weight_optimiser": optimiser_state(self.weight_optimiser),
            "architecture_optimiser": {} if adam is None else optimiser_state(adam),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }
        plain = {"identity": self.identity, "epoch": self.epoch, "history": self.history}
        write_checkpoint(path, parts, plain)
        return path

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one; returns whether there was.

        Raises
        ------
        ValueError
            If it is damaged or belongs to another run; the message says what differs.
        """
        path = None if self.folder is None else self.folder / CHECKPOINT
        if path is None or not path.exists():
            return False
        parts, plain = read_checkpoint(path)
        theirs = plain.get("identity", {})
        # Only the learning rate and the clip may change: that is what a run which diverged needs.
        differing = sorted(
            key
            for key in self.identity.keys() | theirs.keys()
            if key not in {"learning_rate", "clip"} and self.identity.get(key) != theirs.get(key)
        )
        if differing:
            shown = "; ".join(f"{key}: {theirs.get(key)!r} there, {self.identity.get(key)!r} here" for key in differing)
            raise ValueError(
                f"The checkpoint {path} belongs to another run ({shown}). Choose another folder, or the same options."
            )
        try:
            self._restore(parts, plain)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"The checkpoint {path} does not fit the run that it says it is of ({error}): it is damaged, or was "
                "written by another version. Choose another folder, or delete the file to begin anew."
            ) from error
        return True

    def _restore(self, parts: dict[str, dict[str, Any]], plain: dict[str, Any]) -> None:
        self.supernet.load_state_dict(parts["supernet"])
        self.method.load_state_dict(parts["method"])
        self.make_weight_optimiser()  # its groups depend on the method's state
        load_optimiser_state(self.weight_optimiser, parts["weight_optimiser"])
        if self.architecture_optimiser is not None:
            load_optimiser_state(self.architecture_optimiser, parts["architecture_optimiser"])
        for name, generator in self.generators.items():
            generator.set_state(parts["generators"][name])
        self.epoch, self.history = int(plain["epoch"]), list(plain["history"])
