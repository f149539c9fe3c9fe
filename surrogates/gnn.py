"""Graph neural network surrogate: an ensemble of dense graph isomorphism networks."""

from __future__ import annotations

__all__ = ["GNN"]

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, Progress, SearchSpace, unknown_name
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State, Surrogate

if TYPE_CHECKING:
    import torch

    from tauzero.surrogates._gnn_model import CellNetwork, GraphTensors

_ENCODE_CHUNK = 65_536
_PREDICT_CHUNK = 2_048  # activations of a chunk fit into the cache of one core
_LOSSES = ("mse", "hinge", "bce")


def _steps(n: int, batch_size: int) -> int:
    """Batches of an epoch; a last batch of a single row, which has no pairs, is left out."""
    return max(1, math.ceil(n / batch_size) - (n % batch_size == 1))


class GNN(Surrogate):
    """Deep ensemble (Lakshminarayanan et al., NeurIPS 2017) of graph isomorphism networks.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    loss
        ``"mse"``: squared error. ``"hinge"``: squared error plus a pairwise hinge with a margin (ranking
        loss of GATES, Ning et al., ECCV 2020, eq. 4). ``"bce"``: squared error plus the pairwise logistic loss
        (RankNet, Burges et al., ICML 2005, eq. 3). The squared error keeps predictions in the target's unit.
    members
        Networks in the ensemble; their spread is the standard deviation.
    width, layers
        Channels per vertex and rounds of message passing.
    features
        Join the space's graph features at the readout.
    epochs
        Passes over the training set; None chooses by its size.
    batch_size
        Architectures per step; None chooses by the size of the training set.
    learning_rate, weight_decay, dropout
        Of AdamW with a one-cycle schedule, and of the readout.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    random_state
        Seed of initialisation and batch order; torch's global generator is left as it was.
    progress
        Called with (steps done, steps in all) while fitting.
    """

    name = "gnn"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "normal",
        loss: str = "hinge",
        members: int = 3,
        width: int = 64,
        layers: int = 4,
        features: bool = True,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.1,
        device: str = "auto",
        random_state: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.loss = loss
        self.members = members
        self.width = width
        self.layers = layers
        self.features = features
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.device = device
        self.random_state = random_state
        self.progress = progress

    # -- fitting ------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        for parameter in ("members", "width", "layers"):
            check_integer(self, parameter, 1)
        for parameter, least in (("epochs", 1), ("batch_size", 2)):
            if getattr(self, parameter) is not None:
                check_integer(self, parameter, least)
        check_number(self, "learning_rate", 1e-8, 10.0)
        check_number(self, "weight_decay", 0.0, 10.0)
        check_number(self, "dropout", 0.0, 0.99)
        if self.loss not in _LOSSES:
            raise unknown_name("loss", self.loss, _LOSSES)

    def _device(self) -> torch.device:
        import torch

        if self.device not in {"auto", "cpu", "cuda"}:
            raise unknown_name("device", self.device, ("auto", "cpu", "cuda"))
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("The 'device' parameter of GNN is 'cuda', but torch finds no CUDA device. Use 'auto'.")
        return torch.device("cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu")

    def _tensors(self, rows: Genotypes) -> GraphTensors:
        from tauzero.surrogates._gnn_model import graph_tensors

        space = self.space_
        extra = self._features(rows) if self.features else np.zeros((len(rows), 0), dtype=np.float32)
        return graph_tensors(space.graphs(rows), np.clip(extra, -8.0, 8.0))

    def _network(self) -> CellNetwork:
        from tauzero.surrogates._gnn_model import CellNetwork

        num_features = len(self._features.names) if self.features else 0
        return CellNetwork(self.width, self.layers, num_features, self.dropout)

    def _schedule(self, n: int) -> tuple[int, int]:
        """Batch size and epochs: about 1,500 steps for small training sets, at least 40 epochs for large ones."""
        batch = self.batch_size or int(np.clip(2 ** round(math.log2(max(n / 8, 1))), 16, 512))
        batch = min(batch, n)
        steps = math.ceil(n / batch)
        return batch, self.epochs or int(np.clip(1_500 // steps, 40, 200))

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        import torch

        self._check_parameters()
        device = self._device()
        data = self._tensors(rows)
        goal = torch.from_numpy(target.astype(np.float32))
        weights = torch.from_numpy((weight / weight.mean()).astype(np.float32))
        batch_size, epochs = self._schedule(len(rows))
        total = self.members * epochs * _steps(len(rows), batch_size)
        self._networks: list[CellNetwork] = []
        seeds = np.random.SeedSequence(self.random_state).spawn(self.members)
        fork = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=fork):
            for member, seed in enumerate(seeds):
                torch.manual_seed(int(seed.generate_state(1)[0]))
                network = self._network().to(device)
                offset = member * total // self.members
                self._train(
                    network, data, goal, weights, batch_size, epochs, np.random.default_rng(seed), offset, total
                )
                self._networks.append(network.cpu().eval())
        predicted = self._latent(data)
        residual = float(np.sqrt(np.average((predicted.mean(axis=0) - target) ** 2, weights=weight)))
        # Training residuals are optimistic, more so for fewer rows: a floor keeps the deviation honest.
        self.noise_ = max(residual, 0.1)

    def _train(  # noqa: PLR0917
        self,
        network: CellNetwork,
        data: GraphTensors,
        goal: torch.Tensor,
        weights: torch.Tensor,
        batch_size: int,
        epochs: int,
        rng: np.random.Generator,
        done: int,
        total: int,
    ) -> None:
        import torch
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        n = len(goal)
        steps = _steps(n, batch_size)
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=self.learning_rate, total_steps=steps * epochs + 1, pct_start=0.15
        )
        averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.995))  # type: ignore[no-untyped-call]
        device = next(network.parameters()).device
        for _ in range(epochs):
            network.train()
            order = torch.from_numpy(rng.permutation(n))
            for start in range(0, n, batch_size):
                rows = order[start : start + batch_size]
                if len(rows) < 2 <= n:
                    continue
                batch = type(data)(*(t.to(device) for t in data.take(rows)))
                optimiser.zero_grad(set_to_none=True)
                loss = self._loss(network(batch), goal[rows].to(device), weights[rows].to(device))
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                averaged.update_parameters(network)
                done += 1
                if self.progress is not None:
                    self.progress(done, total)
        if steps * epochs >= 1_000:  # the moving average has forgotten its start
            network.load_state_dict(averaged.module.state_dict())

    def _loss(self, predicted: torch.Tensor, goal: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional

        loss = (weights * (predicted - goal) ** 2).mean()
        if self.loss == "mse" or len(goal) < 2:
            return loss
        # Each architecture against eight others of the batch: rolled copies give the pairs without n² memory.
        shifts = range(1, min(len(goal), 9))
        gap = torch.cat([predicted - predicted.roll(k) for k in shifts])
        truth = torch.cat([goal - goal.roll(k) for k in shifts])
        if self.loss == "hinge":
            pairs = functional.relu(0.1 - gap * truth.sign()) * (truth.abs() > 1e-6)
        else:
            pairs = functional.binary_cross_entropy_with_logits(4.0 * gap, (truth > 0).to(gap.dtype), reduction="none")
        return loss + pairs.mean()

    # -- prediction ---------------------------------------------------------------------------

    def _latent(self, data: GraphTensors) -> Floats:
        """Predictions of every member, ``float64[members, n]``."""
        import torch

        device = self._device()
        out = np.empty((len(self._networks), len(data.ops)))
        with torch.inference_mode():
            for k, network in enumerate(self._networks):
                network.to(device)
                for start in range(0, len(data.ops), _PREDICT_CHUNK):
                    part = slice(start, start + _PREDICT_CHUNK)
                    batch = type(data)(*(t.to(device) for t in data.take(part)))
                    out[k, part] = network(batch).double().cpu().numpy()
                network.cpu()
        return out

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), _ENCODE_CHUNK):
            part = slice(start, start + _ENCODE_CHUNK)
            latent = self._latent(self._tensors(rows[part]))
            mean[part] = latent.mean(axis=0)
            std[part] = np.sqrt(latent.var(axis=0) + self.noise_**2)
        return mean, std

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        arrays = {
            f"member{k}.{name}": value.numpy().astype(np.float32)
            for k, network in enumerate(self._networks)
            for name, value in network.state_dict().items()
        }
        return {"members": len(self._networks), "noise": self.noise_}, arrays, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        import torch

        del texts
        self.noise_ = float(plain["noise"])
        self._networks = []
        for k in range(int(plain["members"])):
            network = self._network()
            prefix = f"member{k}."
            state = {
                name.removeprefix(prefix): torch.from_numpy(value.astype(np.float32))
                for name, value in arrays.items()
                if name.startswith(prefix)
            }
            network.load_state_dict(state)
            self._networks.append(network.eval())
