"""Graph neural network surrogates: ensembles of dense networks over cells, fitted as one."""

from __future__ import annotations

__all__ = ["GNN"]

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, Progress, SearchSpace, unknown_name
from tauzero.surrogates._folds import fold_numbers, left_out_spread, scaled_deviation
from tauzero.surrogates._gnn_auxiliary import check_auxiliary, merge_auxiliary, transform_auxiliary
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State, Surrogate

if TYPE_CHECKING:
    import torch

    from tauzero.surrogates._gnn_model import CellNetworks, GraphTensors

_ENCODE_CHUNK = 65_536
_PREDICT_CHUNK = 512  # activations of a chunk fit into the cache of one core
_PREDICT_CHUNK_CUDA = 8_192
_STEPS = 1_000  # of training, for small training sets
_CROSS_FITTED = 5_000
_FOLDS, _FOLDS_LARGE = 10, 20
_FINE_TUNING = 0.3  # share of the learning rate for weights that are trained already


class GNN(Surrogate):
    """Deep ensemble (Lakshminarayanan et al., NeurIPS 2017) of graph neural networks over cells.

    All members are trained at once, each leaving out another fold of the training set: what they predict there
    says how far predictions miss. A member leaves out a tenth of up to 5,000 networks (a fifth costs more accuracy
    than the ensemble gains), and a twentieth of more.

    Parameters
    ----------
    space
        A search space or its name.
    architecture
        ``"gin"``: graph isomorphism network (Xu et al., ICLR 2019). ``"gcn"``: graph convolutional network (Kipf and
        Welling, ICLR 2017). ``"gat"``: graph attention network (Veličković et al., ICLR 2018). ``"flow"``: gated
        information flow from input to output and back (GATES, Ning et al., ECCV 2020; FLAN, Akhauri and Abdelfattah,
        ICML 2024). ``"transformer"``: attention between ancestors and descendants (Luo et al., NeurIPS 2023). All of
        them read edges in both directions.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    loss
        ``"mse"``: squared error. The others add a term that ranks, and keep the squared error so that predictions
        stay in the target's unit. ``"hinge"``: pairwise hinge with a margin (GATES, eq. 4). ``"bce"``: pairwise
        logistic loss (RankNet, Burges et al., ICML 2005, eq. 3). ``"listwise"``: likelihood of the true order
        (ListMLE, Xia et al., ICML 2008, eqs. 7-8). ``"warp"``: pairwise hinge that costs more where many pairs are
        wrong (Weston et al., IJCAI 2011, eqs. 3-5) and, by the discount 1 / log2(1 + place) (Järvelin and Kekäläinen,
        2002), among the best.
    members
        Networks in the ensemble.
    width, layers
        Channels per vertex and rounds of message passing.
    features
        Join the space's graph features at the readout.
    pretrained
        Start from the weights of a saved GNN: a folder or the name of a pretrained model, of the same space, or of
        any space if it was fitted with ``features=False``. Architecture, width and layers are taken from it; the
        readout's last map starts anew if space or target differ. Trained with 0.3 of the learning rate. Once the
        model is fitted the folder is not needed any more.
    epochs
        Passes over the training set; None chooses by its size.
    batch_size
        Architectures per step and member; None chooses by the size of the training set.
    learning_rate, weight_decay, dropout
        Of AdamW with a one-cycle schedule, and of the readout.
    auxiliary_weight
        Weight of the squared error of further metrics (see `fit`).
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    random_state
        Seed of initialisation, folds and batches; torch's global generator is not used.
    progress
        Called with (steps done, steps in all) while fitting.
    """

    name = "gnn"
    _auxiliary: Floats | None = None
    _shape: dict[str, Any]
    _networks: CellNetworks

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        architecture: str = "gin",
        encoders: Sequence[EncoderLike] = (),
        target: str = "normal",
        loss: str = "listwise",
        members: int = 5,
        width: int = 48,
        layers: int = 3,
        features: bool = True,
        pretrained: str | Path | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.1,
        auxiliary_weight: float = 0.3,
        device: str = "auto",
        random_state: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.space = space
        self.architecture = architecture
        self.encoders = encoders
        self.target = target
        self.loss = loss
        self.members = members
        self.width = width
        self.layers = layers
        self.features = features
        self.pretrained = pretrained
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.auxiliary_weight = auxiliary_weight
        self.device = device
        self.random_state = random_state
        self.progress = progress

    # -- fitting ------------------------------------------------------------------------------

    def fit(self, genotypes: npt.ArrayLike, y: npt.ArrayLike, auxiliary: npt.ArrayLike | None = None) -> GNN:
        """Fit the model.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``, members of the space, n ≥ 1. Equal networks are merged.
        y
            ``float[n]``: the metric, larger is better (accuracies in percent).
        auxiliary
            ``float[n, k]``: k further metrics, such as accuracies after fewer epochs or on other data sets, NaN where
            unknown. The networks learn to predict them too (each transformed as `target` says), which shapes what they
            know of a cell; they are not predicted afterwards.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are no rows, the lengths differ, or a target is NaN or infinite.
        """
        if auxiliary is None:
            super().fit(genotypes, y)
            return self
        check_integer(self, "random_state", 0)
        rows, values = self._check_training(genotypes, y)
        self._auxiliary = merge_auxiliary(check_auxiliary(auxiliary, len(rows)), self.space_.distinct(rows)[1])
        try:
            self._fit_networks(*self._merge(rows, values))
        finally:
            del self._auxiliary
        return self

    def _check_parameters(self) -> None:
        from tauzero.surrogates._gnn_losses import LOSSES
        from tauzero.surrogates._gnn_model import ARCHITECTURES

        for parameter in ("members", "width", "layers"):
            check_integer(self, parameter, 1)
        for parameter, least in (("epochs", 1), ("batch_size", 2)):
            if getattr(self, parameter) is not None:
                check_integer(self, parameter, least)
        check_number(self, "learning_rate", 1e-8, 10.0)
        check_number(self, "weight_decay", 0.0, 10.0)
        check_number(self, "dropout", 0.0, 0.99)
        check_number(self, "auxiliary_weight", 0.0, 100.0)
        for what, given, known in (
            ("loss", self.loss, LOSSES),
            ("architecture", self.architecture, ARCHITECTURES),
        ):
            if given not in known:
                raise unknown_name(what, given, known)

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
        graphs = space.graphs(rows)
        return graph_tensors(graphs, np.clip(extra, -8.0, 8.0), relations=self._networks.needs_relations)

    def _build(self, shape: dict[str, Any], outputs: int, seeds: list[int]) -> CellNetworks:
        from tauzero.surrogates._gnn_model import CellNetworks

        num_features = len(self._features.names) if self.features else 0
        return CellNetworks(**shape, num_features=num_features, outputs=outputs, dropout=self.dropout, seeds=seeds)

    def _schedule(self, n: int) -> tuple[int, int]:
        """Batch size and epochs: about 1,000 steps for small training sets, at least 40 epochs for large ones."""
        batch = self.batch_size or int(np.clip(2 ** round(math.log2(max(n / 8, 1))), 16, 512))
        batch = min(batch, n)
        steps = math.ceil(n / batch)
        return batch, self.epochs or int(np.clip(_STEPS // steps, 40, 200))

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        import torch

        from tauzero.surrogates._gnn_training import Recipe, train

        self._check_parameters()
        device = self._device()
        source = self._source()
        none = np.zeros((len(rows), 0))
        further = none if self._auxiliary is None else transform_auxiliary(self._auxiliary, self.target)
        sequence = np.random.SeedSequence(self.random_state)
        seeds = [int(s) for s in sequence.generate_state(self.members + 1, np.uint64) >> np.uint64(2)]
        rngs = [np.random.default_rng(s) for s in sequence.spawn(self.members)]
        given = {k: getattr(self, k) for k in ("architecture", "width", "layers")}
        self._shape = given if source is None else dict(source._shape)
        self._networks = self._build(self._shape, 1 + further.shape[1], seeds[:-1])
        if source is not None:
            same_target = source.space_.name == self.space_.name and source.target_.kind == self.target
            self._networks.start_from(source._networks, head=same_target)
        left_out = self._left_out(len(rows), seeds[-1])
        learnt = [np.flatnonzero(~out) for out in left_out]
        batch_size, epochs = self._schedule(min(map(len, learnt)))
        recipe = Recipe(
            loss=self.loss,
            auxiliary_weight=self.auxiliary_weight,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=self.learning_rate * (1.0 if source is None else _FINE_TUNING),
            weight_decay=self.weight_decay,
        )
        goal = torch.from_numpy(np.column_stack([target, further]).astype(np.float32))
        weights = torch.from_numpy((weight / weight.mean()).astype(np.float32))
        data = self._tensors(rows)
        train(self._networks.to(device), data, goal, weights, learnt, recipe, rngs, self.progress)
        self._networks.cpu()
        self._judge(data, target, left_out)

    def _left_out(self, n: int, seed: int) -> npt.NDArray[np.bool_]:
        """Which rows each member does not learn from, ``bool[members, n]``."""
        if n < 4:
            return np.zeros((self.members, n), dtype=np.bool_)
        folds = max(self.members, _FOLDS if n < _CROSS_FITTED else _FOLDS_LARGE)
        return fold_numbers(n, folds, seed) == np.arange(self.members)[:, None]

    def _judge(self, data: GraphTensors, target: Floats, left_out: npt.NDArray[np.bool_]) -> None:
        """Set what the rows left out tell about the error."""
        latent = self._latent(data)
        known = left_out.any(axis=0)
        self.unseen_[known] = latent[left_out.argmax(axis=0), np.arange(len(target))][known]
        error = (self.unseen_[known] - target[known]) ** 2
        self.noise_ = max(float(np.sqrt(error.mean())), 1e-6) if known.any() else 1.0
        spread, self.typical_disagreement_ = left_out_spread(latent, left_out)
        self.unseen_std_[known] = scaled_deviation(spread, self.typical_disagreement_, self.noise_)[known]

    # -- fine-tuning --------------------------------------------------------------------------

    def _source(self) -> GNN | None:
        """The model to start from, checked."""
        if self.pretrained is None:
            return None
        from tauzero.surrogates._pretrained import load

        source = load(self.pretrained)
        if not isinstance(source, GNN):
            raise ValueError(  # noqa: TRY004 - the value of a parameter, not its type, is wrong
                f"The 'pretrained' parameter of GNN must name a saved GNN. Got a {type(source).__name__} "
                f"({str(self.pretrained)!r})."
            )
        if source.features and self.features and source._features.digest != self._features.digest:
            raise ValueError(
                f"The 'pretrained' parameter of GNN names a model whose readout has the features of "
                f"{source.space_.name} ({len(source._features.names)}); those of this model of {self.space_.name} "
                f"({len(self._features.names)}) are others. Start from a model that was fitted with features=False, or "
                "fit with features=False."
            )
        return source

    # -- prediction ---------------------------------------------------------------------------

    def _latent(self, data: GraphTensors) -> Floats:
        """Predictions of every member, ``float64[members, n]``."""
        import torch

        device = self._device()
        chunk = _PREDICT_CHUNK if device.type == "cpu" else _PREDICT_CHUNK_CUDA
        networks = self._networks.to(device)
        out = np.empty((len(networks.embedding), len(data.ops)))
        with torch.inference_mode():
            for start in range(0, len(data.ops), chunk):
                part = slice(start, start + chunk)
                out[:, part] = networks(data.take(part).to(device))[..., 0].cpu().numpy()
        networks.cpu()
        return out

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), _ENCODE_CHUNK):
            part = slice(start, start + _ENCODE_CHUNK)
            latent = self._latent(self._tensors(rows[part]))
            mean[part] = latent.mean(axis=0)
            std[part] = scaled_deviation(latent.std(axis=0), self.typical_disagreement_, self.noise_)
        return mean, std

    # -- files --------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder (JSON, safetensors; no pickle), atomically. Returns the folder."""
        given, self.pretrained = self.pretrained, None  # its weights have been taken over
        try:
            return super().save(folder)
        finally:
            self.pretrained = given

    def _state(self) -> State:
        parameters = dict(self._networks.named_parameters())
        arrays = {name: value.detach().numpy().astype(np.float32) for name, value in parameters.items()}
        plain = {
            "shape": self._shape,
            "members": len(self._networks.embedding),
            "outputs": int(parameters["head.bias"].shape[-1]),
            "noise": self.noise_,
            "typical_disagreement": self.typical_disagreement_,
        }
        return plain, arrays, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        import torch

        del texts
        self.noise_ = float(plain["noise"])
        self.typical_disagreement_ = float(plain["typical_disagreement"])
        self._shape = dict(plain["shape"])
        self._networks = self._build(self._shape, int(plain["outputs"]), [0] * int(plain["members"]))
        state = {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}
        self._networks.load_state_dict(state)
