"""Ensemble of fully connected networks on path encodings."""

from __future__ import annotations

__all__ = ["MLP"]

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import Encoder, EncoderLike, create
from tauzero.spaces import Genotypes, SearchSpace, unknown_name
from tauzero.surrogates._features import feature_map
from tauzero.surrogates._folds import fold_numbers, left_out_spread, scaled_deviation
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State, Surrogate

if TYPE_CHECKING:
    from tauzero.surrogates._mlp_model import MLPEnsemble

_CHUNK = 16_384  # architectures predicted at a time
_MOST_PATHS = 1_000  # features of a truncated path encoding, at most
_LONGEST_PATH = 3  # of NAS-Bench-101 the 40 most frequent paths of 364, as published
_ENCODERS, _LOSSES = ("paths", "features"), ("mape", "mae", "mse")
_LEAST_ERROR = 1.0  # of the best training row above the lower bound of "mape", in deviations of the target


class MLP(Surrogate):
    """The predictor of BANANAS (White et al., AAAI 2021, section 4): an ensemble of networks on path encodings.

    Each member leaves another fold of the training set out, so that left-out rows tell how far predictions miss.
    All members train together as one batched network.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the inputs, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    encoder
        ``"paths"``: which sequences of up to three operations lead from input to output, as published.
        ``"features"``: the graph features that the other surrogates read.
    loss
        ``"mape"``: BANANAS's mean absolute percentage error (eq. 1), |(f - b) / (y - b) - 1| for errors y and
        predicted errors f above a lower bound b, here on the transformed target with b one deviation
        beyond the best training row: the better an architecture, the more its error counts. ``"mae"``,
        ``"mse"``: absolute and squared errors that all count the same.
    members
        Networks, at least 2.
    width, depth
        Units of a hidden layer, and hidden layers. Published are 20 and 10 (with a learning rate of 0.01); fewer
        and wider ones rank better and fit in a third of the time.
    epochs
        Passes over the training set; None chooses by its size.
    batch_size
        Rows of a step.
    learning_rate, weight_decay
        Of AdamW, with a one-cycle schedule.
    random_state
        Seed of folds, initialisation and order; torch's global generator is not touched.
    """

    name = "mlp"
    _network: MLPEnsemble

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        encoder: str = "paths",
        loss: str = "mape",
        members: int = 5,
        width: int = 64,
        depth: int = 3,
        epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.encoder = encoder
        self.loss = loss
        self.members = members
        self.width = width
        self.depth = depth
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    # -- inputs -------------------------------------------------------------------------------

    @cached_property
    def _paths(self) -> Encoder:
        return truncated_paths(self.space_)

    def _inputs(self, rows: Genotypes) -> npt.NDArray[np.float32]:
        """What the networks read, ``float32[n, d]``."""
        if self.encoder == "features":
            return np.clip(self._features(rows), -8.0, 8.0)
        paths = self._paths.transform(rows)
        if not len(self.encoders):
            return paths
        own = len(feature_map(self.space_).names)
        return np.concatenate([paths, np.clip(self._features(rows)[:, own:], -8.0, 8.0)], axis=1)

    def _sizes(self, inputs: int) -> tuple[int, ...]:
        return (inputs, *[self.width] * self.depth)

    # -- fitting ------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_integer(self, "members", 2)
        for parameter in ("width", "depth", "batch_size"):
            check_integer(self, parameter, 1)
        if self.epochs is not None:
            check_integer(self, "epochs", 1)
        check_number(self, "learning_rate", 1e-8, 10.0)
        check_number(self, "weight_decay", 0.0, 10.0)
        for parameter, known in (("encoder", _ENCODERS), ("loss", _LOSSES)):
            if getattr(self, parameter) not in known:
                raise unknown_name(parameter, getattr(self, parameter), known)

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        import torch

        from tauzero.surrogates._mlp_model import MLPEnsemble, train

        self._check_parameters()
        self.__dict__.pop("_paths", None)  # the space may have been set anew
        x = self._inputs(rows)
        n = len(rows)
        seeds = np.random.SeedSequence(self.random_state).generate_state(self.members + 2)
        folds = fold_numbers(n, self.members, int(seeds[-1]))
        # With fewer than four rows nothing can be left out.
        inside = [np.flatnonzero(folds != k) if n >= 4 else np.arange(n) for k in range(self.members)]
        importance = weight / weight.mean()
        if self.loss == "mape":
            relative = 1.0 / (target.max() + _LEAST_ERROR - target)
            importance = importance * relative / relative.mean()
        self._network = MLPEnsemble(self.members, self._sizes(x.shape[1]), seeds[:-2])
        train(
            self._network,
            torch.from_numpy(x),
            torch.from_numpy(target.astype(np.float32)),
            torch.from_numpy(importance.astype(np.float32)),
            inside,
            squared=self.loss == "mse",
            epochs=self.epochs or int(np.clip(1_500 * self.batch_size // n, 50, 200)),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            rng=np.random.default_rng(seeds[-2]),
        )
        latent = self._latent(x)
        if n >= 4:
            self.unseen_[:] = latent[folds, np.arange(n)]
        known = np.isfinite(self.unseen_)
        self.noise_ = float(np.sqrt(np.mean((self.unseen_[known] - target[known]) ** 2))) if known.any() else 1.0
        left_out = (folds == np.arange(len(latent))[:, None]) & known
        spread, self.typical_disagreement_ = left_out_spread(latent, left_out)
        self.unseen_std_[known] = scaled_deviation(spread, self.typical_disagreement_, self.noise_)[known]

    # -- prediction ---------------------------------------------------------------------------

    def _latent(self, x: npt.NDArray[np.float32]) -> Floats:
        """Predictions of every member, ``float64[members, n]``."""
        import torch

        latent = np.empty((self.members, len(x)))
        with torch.inference_mode():
            for start in range(0, len(x), _CHUNK):
                part = slice(start, start + _CHUNK)
                latent[:, part] = self._network(torch.from_numpy(np.ascontiguousarray(x[part]))).double().numpy()
        return latent

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), 4 * _CHUNK):
            part = slice(start, start + 4 * _CHUNK)
            latent = self._latent(self._inputs(rows[part]))
            mean[part] = latent.mean(axis=0)
            std[part] = scaled_deviation(latent.std(axis=0), self.typical_disagreement_, self.noise_)
        return mean, std

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        arrays = {name: value.numpy() for name, value in self._network.state_dict().items()}
        plain = {"noise": self.noise_, "typical_disagreement": self.typical_disagreement_}
        return plain, arrays, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        import torch

        from tauzero.surrogates._mlp_model import MLPEnsemble

        del texts
        self.noise_ = float(plain["noise"])
        self.typical_disagreement_ = float(plain["typical_disagreement"])
        inputs = self._inputs(self.anchors_[:1]).shape[1]
        self._network = MLPEnsemble(self.members, self._sizes(inputs), np.arange(self.members))
        self._network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
        self._network.eval()


def truncated_paths(space: SearchSpace) -> Encoder:
    """Path encoding of up to three operations, or fewer in a space with so many that there are over 1,000 paths."""
    longest = min(_LONGEST_PATH, space.max_path_length)
    while longest > 1 and create("paths", space, max_length=longest).dimension > _MOST_PATHS:
        longest -= 1
    return create("paths", space, max_length=longest)
