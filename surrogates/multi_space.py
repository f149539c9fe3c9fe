"""One graph network for several search spaces and data sets, and what it knows brought to a new one."""

from __future__ import annotations

__all__ = ["MultiSpaceGNN"]

import json
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from tauzero.benchmarks import UnwritableFolderError
from tauzero.spaces import OPERATIONS, Genotypes, Progress, SearchSpace, get, operation_code, unknown_name
from tauzero.surrogates._files import ModelFormatError
from tauzero.surrogates._folds import fold_numbers, scaled_deviation
from tauzero.surrogates._multi_space_sources import Source, check_sources, group_sources
from tauzero.surrogates._target import TargetTransform
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, Surrogate

if TYPE_CHECKING:
    from tauzero.surrogates._gnn_model import CellNetworks, GraphTensors

_FORMAT = 1
_MODEL, _ARRAYS = "multi_space.json", "arrays.safetensors"
_SHIPPED = Path(__file__).parent / "pretrained"
_CHUNK = 16_384  # architectures whose graphs are built at a time
_FOLDS = 10
_UNLABELLED = 500  # architectures on which members' usual disagreement is measured
#: Whose embedding an operation takes that no source has: what it resembles, best first.
_RELATED: dict[str, tuple[str, ...]] = {
    "conv_3x3": ("sep_conv_3x3",),
    "conv_1x1": ("conv_3x3", "sep_conv_3x3"),
    "conv_5x5": ("conv_3x3", "sep_conv_5x5", "sep_conv_3x3"),
    "sep_conv_3x3": ("conv_3x3",),
    "sep_conv_5x5": ("conv_5x5", "conv_3x3"),
    "dil_conv_3x3": ("sep_conv_3x3", "conv_3x3"),
    "dil_conv_5x5": ("sep_conv_5x5", "conv_5x5", "conv_3x3"),
    "mb_conv_3x3": ("sep_conv_3x3", "conv_3x3"),
    "mb_conv_5x5": ("sep_conv_5x5", "conv_5x5", "conv_3x3"),
    "avg_pool_3x3": ("max_pool_3x3",),
    "max_pool_3x3": ("avg_pool_3x3",),
    "factorized_reduce": ("conv_1x1",),
    "cell_input_0": ("input",),
    "cell_input_1": ("input",),
}


class MultiSpaceGNN(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """A deep ensemble of graph networks that learns from data sets over several search spaces at once.

    The networks read operations of the vocabulary that all spaces share (`tauzero.spaces.OPERATIONS`), degrees and
    depths, and nothing that belongs to one space: they read cells of every space. Targets of each data set are
    transformed by themselves (normal scores by default), so that one scale holds percentages, error rates and
    losses.

    On the common trunk sits a linear head for each source, and a shared one that learns the mean over the sources of
    a space. Heads cost a few hundred weights and let data sets order the same cells differently, which they do; a
    source embedding at the input would have to be invented for a space or a data set that is new, where the shared
    head simply answers.

    Parameters
    ----------
    architecture, width, layers, members
        As of `tauzero.surrogates.gnn.GNN`.
    target
        Transform of each source's targets (`tauzero.surrogates.TARGETS`).
    loss
        As of `GNN`; what ranks compares cells of one space only.
    steps
        Batches to learn from.
    batch_size
        Cells per step and member.
    learning_rate, weight_decay, dropout
        Of AdamW with a one-cycle schedule, and of the readout.
    random_state
        Seed of initialisation, folds and batches; torch's global generator is not used.
    progress
        Called with (steps done, steps in all) while fitting.

    Attributes
    ----------
    sources_
        Name of each source and its space.
    metadata_
        Plain values that describe the model; saved with it.
    """

    sources_: dict[str, str]
    metadata_: dict[str, Any]
    _networks: CellNetworks

    def __init__(
        self,
        *,
        architecture: str = "gin",
        members: int = 3,
        width: int = 48,
        layers: int = 3,
        target: str = "normal",
        loss: str = "listwise",
        steps: int = 4_000,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.0,
        random_state: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.architecture = architecture
        self.members = members
        self.width = width
        self.layers = layers
        self.target = target
        self.loss = loss
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.random_state = random_state
        self.progress = progress

    def __sklearn_clone__(self) -> MultiSpaceGNN:
        return self  # as a parameter of another model it stands for what it learnt

    # -- fitting ------------------------------------------------------------------------------

    def fit(
        self,
        sources: Sequence[tuple[SearchSpace | str, npt.ArrayLike, npt.ArrayLike]],
        names: Sequence[str] | None = None,
    ) -> MultiSpaceGNN:
        """Fit the model.

        Parameters
        ----------
        sources
            ``(space, genotypes int8[n, L], y float[n])`` of each data set; larger y is better. A space may occur
            several times. Equal networks of a source are merged, their targets averaged. Sources over the same
            networks share the work.
        names
            A name for each source, such as ``"nasbench201/cifar10"``; None for the space and its number.

        Raises
        ------
        ValueError
            If there is no source, one has fewer than 4 networks, or targets are no finite numbers.
        """
        self._check_parameters()
        given = check_sources(sources, names, self.target)
        seeds = np.random.SeedSequence(self.random_state).generate_state(self.members + 2, np.uint64) >> np.uint64(2)
        self._networks = self._build(1 + len(given), [int(s) for s in seeds[: self.members]])
        self._train(given, int(seeds[-2]), int(seeds[-1]))
        self.sources_ = {s.name: s.space.name for s in given}
        self._transforms = {s.name: s.transform for s in given}
        self.metadata_ = {}
        return self

    def _check_parameters(self) -> None:
        from tauzero.surrogates._gnn_losses import LOSSES
        from tauzero.surrogates._gnn_model import ARCHITECTURES

        for parameter, least in (("members", 1), ("width", 1), ("layers", 1), ("steps", 1), ("batch_size", 2)):
            check_integer(self, parameter, least)
        check_integer(self, "random_state", 0)
        check_number(self, "learning_rate", 1e-8, 10.0)
        check_number(self, "weight_decay", 0.0, 10.0)
        check_number(self, "dropout", 0.0, 0.99)
        for what, given, known in (
            ("loss", self.loss, LOSSES),
            ("architecture", self.architecture, ARCHITECTURES),
        ):
            if given not in known:
                raise unknown_name(what, given, known)

    def _build(self, outputs: int, seeds: list[int]) -> CellNetworks:
        from tauzero.surrogates._gnn_model import CellNetworks

        return CellNetworks(
            architecture=self.architecture,
            width=self.width,
            layers=self.layers,
            num_features=0,
            outputs=outputs,
            dropout=self.dropout,
            seeds=seeds,
        )

    def _train(self, sources: list[Source], fold_seed: int, batch_seed: int) -> None:
        import torch

        from tauzero.surrogates._multi_space_training import Group, Recipe, train_groups

        groups, places = [], group_sources(sources)
        left_out: list[npt.NDArray[np.bool_]] = []
        for place in places:
            first = sources[place[0]]
            folds = fold_numbers(len(first.rows), max(_FOLDS, self.members), fold_seed)
            left_out.append(folds == np.arange(self.members)[:, None])
            goal = np.column_stack([sources[k].target for k in place]).astype(np.float32)
            learnt = [np.flatnonzero(~out) for out in left_out[-1]]
            heads = torch.tensor([1 + k for k in place])
            groups.append(Group(self._tensors(first.space, first.rows), torch.from_numpy(goal), heads, learnt))
        recipe = Recipe(self.loss, self.steps, self.batch_size, self.learning_rate, self.weight_decay)
        train_groups(self._networks, groups, recipe, batch_seed, self.progress)
        self._borrow([group.data for group in groups])
        self._judge(sources, places, left_out)

    def _borrow(self, seen: list[GraphTensors]) -> None:
        """Give operations that no source had the embedding of what they resemble, not what they were drawn as."""
        import torch

        from tauzero.surrogates._gnn_tensors import STRUCTURE

        known = {OPERATIONS[int(code)] for data in seen for code in np.unique(data.ops.numpy())}
        with torch.no_grad():
            embedding = self._networks.embedding
            for name, relatives in _RELATED.items():
                near = [r for r in relatives if r in known]
                if name not in known and near:
                    embedding[:, STRUCTURE + operation_code(name)] = embedding[:, STRUCTURE + operation_code(near[0])]

    def _judge(self, sources: list[Source], places: list[list[int]], left_out: list[npt.NDArray[np.bool_]]) -> None:
        """Error of each output on the rows that members left out, and how far members usually disagree."""
        outputs = 1 + len(sources)
        noise, typical = np.ones(outputs), np.ones(outputs)
        shared_error, shared_typical = [], []
        for place, out in zip(places, left_out, strict=True):
            space, rows = sources[place[0]].space, sources[place[0]].rows
            known = np.flatnonzero(out.any(axis=0))
            by = out[:, known].argmax(axis=0)
            unseen = self._latent(space, rows[known])[by, np.arange(len(known))]
            sample = space.canonical(space.sample(min(_UNLABELLED, space.size), 0, unique=space.enumerable))
            spread = self._latent(space, sample).std(axis=0).mean(axis=0)
            goal = np.column_stack([sources[k].target[known] for k in place])
            heads = [1 + k for k in place]
            noise[heads] = np.sqrt(((unseen[:, heads] - goal) ** 2).mean(axis=0))
            typical[heads] = spread[heads]
            shared_error.append(np.sqrt(((unseen[:, 0] - goal.mean(axis=1)) ** 2).mean()))
            shared_typical.append(spread[0])
        noise[0], typical[0] = np.mean(shared_error), np.mean(shared_typical)
        self.noise_ = np.maximum(noise, 1e-6)
        self.typical_disagreement_ = typical

    # -- what the networks see and say ----------------------------------------------------------

    def _tensors(self, space: SearchSpace, rows: Genotypes) -> GraphTensors:
        from tauzero.surrogates._gnn_model import graph_tensors

        none = np.zeros((len(rows), 0), dtype=np.float32)
        return graph_tensors(space.graphs(rows), none, relations=self._networks.needs_relations)

    def _latent(self, space: SearchSpace, rows: Genotypes) -> Floats:
        """Outputs of every member for canonical rows, ``float64[members, n, 1 + sources]``."""
        return self._outputs(space, rows, hidden=False)[0]

    def _outputs(self, space: SearchSpace, rows: Genotypes, *, hidden: bool) -> tuple[Floats, Floats]:
        """Outputs, and what the heads read ``float64[members, n, 2 · width]`` if asked for."""
        from tauzero.surrogates._multi_space_training import latent_and_hidden

        if not len(rows):
            return np.zeros((self.members, 0, self._networks.head.bias.shape[-1])), np.zeros(
                (self.members, 0, 2 * self.width)
            )
        parts = [
            latent_and_hidden(self._networks, self._tensors(space, rows[start : start + _CHUNK]), hidden=hidden)
            for start in range(0, len(rows), _CHUNK)
        ]
        latent, kept = (np.concatenate(p, axis=1).astype(np.float64) for p in zip(*parts, strict=True))
        return latent, kept

    def _check_fitted(self) -> None:
        if not hasattr(self, "sources_"):
            raise NotFittedError("This MultiSpaceGNN is not fitted yet. Call 'fit' or load a saved model first.")

    def _head(self, source: str | None) -> int:
        if source is None:
            return 0
        if source not in self.sources_:
            raise unknown_name("source of this model", source, list(self.sources_))
        return 1 + list(self.sources_).index(source)

    @overload
    def predict(
        self,
        genotypes: npt.ArrayLike,
        space: SearchSpace | str,
        source: str | None = None,
        *,
        return_std: Literal[False] = False,
    ) -> Floats: ...

    @overload
    def predict(
        self,
        genotypes: npt.ArrayLike,
        space: SearchSpace | str,
        source: str | None = None,
        *,
        return_std: Literal[True],
    ) -> tuple[Floats, Floats]: ...

    def predict(
        self,
        genotypes: npt.ArrayLike,
        space: SearchSpace | str,
        source: str | None = None,
        *,
        return_std: bool = False,
    ) -> Floats | tuple[Floats, Floats]:
        """Predict architectures of any space.

        Parameters
        ----------
        genotypes
            ``int8[n, L]`` of that space.
        space
            The search space of `genotypes`; it need not be one that the model learnt from.
        source
            Answer as this source would (`sources_`), in the unit of its targets. None: the shared head, a score
            without a unit that orders cells *of one space* only; scores of two spaces are not comparable.
        return_std
            Return the standard deviation too: the error on rows of the sources that members left out, larger where
            members disagree more than usual. On a space that no source had it is too small.

        Returns
        -------
        ``float64[n]``, and with `return_std` the deviations ``float64[n]``.
        """
        self._check_fitted()
        home, head = get(space), self._head(source)
        rows, inverse = home.distinct(home.validate(genotypes))
        latent = self._latent(home, rows)[..., head]
        mean = latent.mean(axis=0)
        std = scaled_deviation(latent.std(axis=0), float(self.typical_disagreement_[head]), float(self.noise_[head]))
        if source is not None:
            transform = self._transforms[source]
            std = np.maximum(transform.inverse(mean + std) - transform.inverse(mean - std), 0.0) / 2
            mean = transform.inverse(mean)
        return (mean[inverse], std[inverse]) if return_std else mean[inverse]

    def embed(self, genotypes: npt.ArrayLike, space: SearchSpace | str) -> npt.NDArray[np.float32]:
        """What the heads read: ``float32[n, members · 2 · width]``, non-negative."""
        self._check_fitted()
        home = get(space)
        rows, inverse = home.distinct(home.validate(genotypes))
        hidden = self._outputs(home, rows, hidden=True)[1]
        return np.concatenate(list(hidden), axis=1).astype(np.float32)[inverse]

    def adapt(self, space: SearchSpace | str, genotypes: npt.ArrayLike, y: npt.ArrayLike, **params: Any) -> Surrogate:
        """Few-shot transfer: a surrogate of one space and data set that starts from what this model knows.

        Parameters
        ----------
        space, genotypes, y
            As of `tauzero.surrogates.Surrogate.fit`; a few dozen rows are worth most.
        **params
            Parameters of the surrogate ``transfer`` (`tauzero.surrogates.transfer.Transfer`), such as `random_state`.

        Returns
        -------
        A fitted surrogate like any other: deviations, intervals, `ood_score`, files. It keeps its own copy of the
        networks.
        """
        from tauzero.surrogates.transfer import Transfer

        self._check_fitted()
        return Transfer(space, source=self, **params).fit(genotypes, y)

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Plain values and arrays that `_from_state` needs."""
        params = {k: v for k, v in self.get_params(deep=False).items() if k != "progress"}
        arrays = {f"networks.{k}": v.detach().numpy() for k, v in self._networks.named_parameters()}
        arrays |= {"noise": self.noise_, "typical_disagreement": self.typical_disagreement_}
        for k, transform in enumerate(self._transforms.values()):
            arrays |= {f"target{k}.{name}": value for name, value in transform.state()[1].items()}
        return {"params": params, "sources": list(self.sources_.items()), "metadata": self.metadata_}, arrays

    @classmethod
    def _from_state(cls, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> MultiSpaceGNN:
        import torch

        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {a.removeprefix(prefix): v for a, v in arrays.items() if a.startswith(prefix)}

        model = cls(**plain["params"])
        model._check_parameters()
        sources = {str(name): get(space).name for name, space in plain["sources"]}
        model._transforms = {
            name: TargetTransform.from_state({"kind": model.target}, part(f"target{k}."))
            for k, name in enumerate(sources)
        }
        model._networks = model._build(1 + len(sources), [0] * model.members)
        weights = {name: torch.from_numpy(value.astype(np.float32)) for name, value in part("networks.").items()}
        model._networks.load_state_dict(weights)
        model.noise_, model.typical_disagreement_ = arrays["noise"], arrays["typical_disagreement"]
        model.metadata_ = dict(plain["metadata"])
        model.sources_ = sources
        return model

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder (JSON, safetensors; no pickle), atomically. Returns the folder."""
        from safetensors.numpy import save

        from tauzero.surrogates._files import _put_in_place

        self._check_fitted()
        path = Path(folder).expanduser().absolute()
        if path.exists() and not (path / _MODEL).is_file() and (not path.is_dir() or any(path.iterdir())):
            raise UnwritableFolderError(
                f"'{path}' exists and is no multi-space model; nothing was written. Choose a new folder."
            )
        plain, arrays = self._state()
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.mkdir(parents=True)
            content = json.dumps({"format": _FORMAT, "model": "multi_space", **plain}, indent=1)
            (temporary / _MODEL).write_text(content + "\n", encoding="utf-8")
            (temporary / _ARRAYS).write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
            _put_in_place(temporary, path)
        except OSError as error:
            raise UnwritableFolderError(
                f"Cannot write the model to '{path}': {error.strerror or error}. Choose a folder that you may write to."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return path

    @staticmethod
    def shipped() -> list[str]:
        """Names of the multi-space models that ship with tauzero, sorted."""
        return sorted(p.parent.name for p in _SHIPPED.glob(f"*/{_MODEL}"))

    @classmethod
    def load(cls, source: str | Path = "multi-space") -> MultiSpaceGNN:
        """Load a saved model: its folder, or the name of one that ships with tauzero.

        Raises
        ------
        UnknownNameError
            If there is neither such a folder nor such a pretrained model.
        ModelFormatError
            If the folder holds no such model, a damaged one, or one of an unknown version.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        folder = Path(source)
        if not folder.is_dir():
            if str(source) not in cls.shipped():
                raise unknown_name("multi-space model", str(source), cls.shipped())
            folder = _SHIPPED / str(source)
        if not (folder / _MODEL).is_file():
            raise ModelFormatError(f"'{folder}' is no multi-space model: there is no {_MODEL} in it.")
        try:
            content = json.loads((folder / _MODEL).read_text(encoding="utf-8"))
            _check_format(content["format"], folder)
            return cls._from_state(content, load((folder / _ARRAYS).read_bytes()))
        except ModelFormatError:
            raise
        except (OSError, SafetensorError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # Whatever a changed byte does to JSON or arrays, it ends in one of these.
            raise ModelFormatError(
                f"The model in '{folder}' is damaged or incomplete ({type(error).__name__}: {error}). Fit it again."
            ) from error


def _check_format(version: object, folder: Path) -> None:
    if version != _FORMAT:
        raise ModelFormatError(f"'{folder}' has format {version!r}, this version of tauzero reads {_FORMAT}.")
