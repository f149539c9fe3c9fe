"""What encoders pretrained on the unlabelled space have in common: parameters, training data, cache, embedding."""

from __future__ import annotations

__all__ = ["PretrainedEncoder"]

import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders._pretraining_cache import cached
from tauzero.encoders._pretraining_validation import check_integer
from tauzero.encoders.base import Encoder
from tauzero.spaces import CellGraphs, Genotypes, SearchSpace

if TYPE_CHECKING:
    import torch

    from tauzero.encoders._pretraining_network import Pretraining

_BLOCK = 512  # cells embedded at a time: their states stay in the processor's cache
_PROBE = 64  # architectures whose graphs stand for the definition of a space in the cache's key


class PretrainedEncoder(Encoder):
    """Embeddings of a graph network that was trained on a sample of the space, without any labels.

    Parameters
    ----------
    dimension
        Columns for each kind of cell (`SearchSpace.cells`).
    epochs
        Passes over the sample.
    sample
        Cells to train on: so many architectures are drawn, divided by the kinds of cell that each has. Equal
        networks count once, and a smaller space is taken whole.
    seed
        Of the sample, the initialisation and the training.
    device
        ``"cpu"``, ``"cuda"`` (or ``"cuda:1"``) or ``"auto"``. Weights trained on different devices differ by rounding.
    arrays
        Weights, as `arrays` returns them: nothing is trained then.

    Notes
    -----
    Training happens on first use and is remembered in the process and in the data folder
    (``$TAUZERO_DATA/encoders``), for each space and set of parameters.
    """

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        dimension: int = 32,
        epochs: int = 15,
        sample: int = 10_000,
        seed: int = 0,
        device: str = "cpu",
        canonical: bool = True,
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        super().__init__(space, canonical=canonical)
        owner = type(self).__name__
        self.dimensions = check_integer(owner, "dimension", dimension, 1)
        self.epochs = check_integer(owner, "epochs", epochs, 0)
        self.sample = check_integer(owner, "sample", sample, 2)
        self.seed = check_integer(owner, "seed", seed, 0)
        if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError(
                f"The 'device' parameter of {owner} must be 'auto', 'cpu', 'cuda' or 'cuda:<number>'. "
                f"Got {device!r} instead."
            )
        self.device = device
        self._given = None if arrays is None else {k: np.asarray(v) for k, v in arrays.items()}

    def get_params(self) -> dict[str, Any]:
        """The plain arguments that make an equal encoder, without the space."""
        return super().get_params() | {
            "dimension": self.dimensions,
            "epochs": self.epochs,
            "sample": self.sample,
            "seed": self.seed,
            "device": self.device,
        }

    @cached_property
    def feature_names(self) -> list[str]:
        """``z<k>``, with ``@<cell>`` where a space has several kinds of cell."""
        kinds = list(self.space.cells(self.space.sample(1, 0)))
        return [f"z{k}@{kind}" if len(kinds) > 1 else f"z{k}" for kind in kinds for k in range(self.dimensions)]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights, trained now if they have not been."""
        return dict(self._weights)

    # -- to be written by an encoder ----------------------------------------------------------

    @abstractmethod
    def _make(self) -> Pretraining:
        """Make the untrained model."""

    def _targets(self, graphs: CellGraphs) -> npt.NDArray[np.float32]:
        """What the model regresses for each training cell, ``float32[n, t]``; nothing by default."""
        return np.zeros((len(graphs), 0), dtype=np.float32)

    # -- training -----------------------------------------------------------------------------

    @cached_property
    def _weights(self) -> dict[str, npt.NDArray[Any]]:
        if self._given is not None:
            if not self._complete(self._given):
                raise ValueError(
                    f"The 'arrays' argument of {type(self).__name__} must hold the weights of an encoder with the "
                    f"same parameters (its `arrays()`). Got {sorted(self._given)[:5]} and others."
                )
            return self._given
        probe = self.space.cells(self.space.sample(_PROBE, 0))
        content = b"".join(g.adjacency.tobytes() + g.ops.tobytes() for g in probe.values())
        params = {k: v for k, v in self.get_params().items() if k not in {"canonical", "device"}}
        key = {
            "encoder": self.name,
            "space": self.space.name,
            "graphs": hashlib.sha256(content).hexdigest(),
            "device": self._torch_device(training=True).type,
            **params,
        }
        return cached(key, self._train, self._complete)

    def _torch_device(self, *, training: bool) -> torch.device:
        import torch

        if self.device.startswith("cuda") and not torch.cuda.is_available():
            if training:
                raise ValueError(
                    f"The 'device' parameter of {type(self).__name__} asks for {self.device!r}, but torch finds no "
                    "CUDA device here: use 'cpu'."
                )
            return torch.device("cpu")  # weights that came with a file: they can be used anywhere
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def _complete(self, arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Whether arrays are finite weights of this encoder's model."""
        expected = {k: tuple(v.shape) for k, v in self._make().kept().items()}
        return {k: v.shape for k, v in arrays.items()} == expected and all(
            v.dtype == np.float32 and bool(np.isfinite(v).all()) for v in arrays.values()
        )

    def _train(self) -> dict[str, npt.NDArray[Any]]:
        import torch

        from tauzero.encoders._pretraining_network import batch_of, train

        kinds = len(self.space.cells(self.space.sample(1, 0)))
        count = min(max(self.sample // kinds, 1), self.space.size)
        rows, _ = self.space.distinct(self.space.sample(count, self.seed, unique=self.space.enumerable))
        graphs = _stacked(list(self.space.cells(rows).values()))
        device = self._torch_device(training=True)
        weights = train(
            self._make,
            batch_of(graphs, torch.float32, device),
            torch.from_numpy(self._targets(graphs)).to(device),
            epochs=self.epochs,
            seed=self.seed,
            device=device,
        )
        return {k: v.numpy() for k, v in weights.items()}

    # -- embedding ----------------------------------------------------------------------------

    @cached_property
    def _model(self) -> Pretraining:
        import torch

        model = self._make()
        model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in self._weights.items()}, strict=False)
        return model.to(self._torch_device(training=False), torch.float64).eval()

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.float32]:
        """Embed in double precision: what a batch's size changes is lost in rounding to single precision."""
        import torch

        from tauzero.encoders._pretraining_network import batch_of

        model = self._model
        device = next(model.parameters()).device
        columns = []
        for graphs in self.space.cells(rows).values():
            found = np.empty((len(rows), self.dimensions), dtype=np.float32)
            for start in range(0, len(rows), _BLOCK):
                part = graphs.take(np.arange(start, min(start + _BLOCK, len(rows))))
                with torch.inference_mode():
                    embedded = model.embed(batch_of(part, torch.float64, device))
                found[start : start + len(part)] = embedded.to(torch.float32).cpu().numpy()
            columns.append(found)
        return np.concatenate(columns, axis=1)


def _stacked(cells: list[CellGraphs]) -> CellGraphs:
    """Cells of several kinds one after the other, padded to the same number of vertices."""
    most = max(g.max_nodes for g in cells)
    room = [(0, most - g.max_nodes) for g in cells]
    return CellGraphs(
        np.concatenate([np.pad(g.adjacency, [(0, 0), r, r]) for g, r in zip(cells, room, strict=True)]),
        np.concatenate([np.pad(g.ops, [(0, 0), r]) for g, r in zip(cells, room, strict=True)]),
        np.concatenate([g.num_nodes for g in cells]),
    )
