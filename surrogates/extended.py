"""Surrogates of a small space on larger cells of the same kind, which no table covers."""

from __future__ import annotations

__all__ = ["Extended", "ExtendedGNN", "ExtendedMultiSpace", "extend"]

from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from tauzero.encoders import create
from tauzero.spaces import Genotypes, SearchSpace, get
from tauzero.surrogates._familiarity import Familiarity
from tauzero.surrogates._features import FeatureMap, feature_map
from tauzero.surrogates.base import Floats, Surrogate
from tauzero.surrogates.gnn import GNN
from tauzero.surrogates.multi_space import MultiSpaceGNN

_ANCHORS = 1_000
_SAMPLE, _RIDGE = 5_000, 10.0
_CHUNK = 65_536
#: Features that say which vertex stands where, and mean another thing in cells of another size.
_POSITIONAL = "adjacency:"
#: Features that are the number of vertices where there is no such path.
_ABSENT = ("graph_features:min_path[", "graph_features:least_on_path[")


class Extended(Protocol):
    """A surrogate on another space than the one that it was fitted on."""

    space: SearchSpace | str

    def predict(self, genotypes: npt.ArrayLike, return_std: bool = False) -> Any:
        """Mean, and standard deviation stretched by `stretch`, ``float64[n]`` each."""

    def ood_score(self, genotypes: npt.ArrayLike) -> Floats:
        """How unlike the training set architectures are, ``float64[n]``; above 1 they are unlike it."""

    def stretch(self, genotypes: npt.ArrayLike) -> Floats:
        """By how much deviations are stretched, ``float64[n]``, at least 1."""


class CommonFeatures:
    """Features that two spaces share, standardised as in the first of them, and a guess at the others.

    Which vertex stands where says little that other features do not: ridge regression on random cells of the first
    space gives positions from them (held-out tau on NAS-Bench-201 is 0.922 with these, 0.920 with the true
    ones and 0.889 with none).

    Parameters
    ----------
    home
        Features of the space that a model was fitted on.
    space
        The space that they are computed for.

    Attributes
    ----------
    known
        ``bool[d]``: which features of `home` mean the same in both; the others are guessed.
    """

    def __init__(self, home: FeatureMap, space: SearchSpace) -> None:
        self.names = home.names
        self._mean, self._scale = home._mean[home._keep], home._scale[home._keep]
        self._most = space_vertices(home.space)
        # Rows come as representatives of their networks.
        self._encoders = [
            create(e.name, space, **{**e.get_params(), "canonical": False})
            for e in home._encoders
            if not _POSITIONAL.startswith(e.name)
        ]
        place = {f"{e.name}:{n}": (k, j) for k, e in enumerate(self._encoders) for j, n in enumerate(e.feature_names)}
        self.known = np.array([name in place for name in self.names], dtype=np.bool_)
        starts = np.cumsum([0, *(e.dimension for e in self._encoders)])
        found = [place[name] for name in self.names if name in place]
        self._columns = np.array([starts[k] + j for k, j in found], dtype=np.intp)
        self._absent = np.array([name.startswith(_ABSENT) for name in self.names if name in place], dtype=np.bool_)
        sample, _ = home.space.distinct(
            home.space.sample(min(_SAMPLE, home.space.size), 0, unique=home.space.enumerable)
        )
        features = home(sample).astype(np.float64)
        given, wanted = self._with_one(features[:, self.known]), features[:, ~self.known]
        gram = given.T @ given + _RIDGE * np.eye(given.shape[1])
        self._guess = np.linalg.solve(gram, given.T @ wanted)
        self._low, self._high = wanted.min(axis=0), wanted.max(axis=0)

    @staticmethod
    def _with_one(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        return np.concatenate([features, np.ones((len(features), 1))], axis=1, dtype=np.float64)

    def __call__(self, rows: Genotypes, *, guess: bool = True) -> npt.NDArray[np.float32]:
        """Features of canonical rows, ``float32[n, d]``; without `guess` those not `known` are zero."""
        out = np.zeros((len(rows), len(self.names)), dtype=np.float32)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            raw = np.concatenate([e.transform(rows[part]) for e in self._encoders], axis=1)[:, self._columns]
            raw = np.where(self._absent, np.minimum(raw, self._most), raw)
            out[part, self.known] = (raw - self._mean[self.known]) / self._scale[self.known]
            if guess:
                guessed = self._with_one(out[part, self.known]) @ self._guess
                out[part, ~self.known] = np.clip(guessed, self._low, self._high)
        return out


def space_vertices(space: SearchSpace) -> int:
    """Vertices that graphs of a space have room for."""
    return space.graphs(space.sample(1, 0)).max_nodes


class ExtendedGNN(GNN):
    """A fitted `GNN` that predicts another space; made by `extend`, not by users.

    Graph networks read cells of any size. Features at their readout that mean the same in both spaces are
    computed, positions of vertices are guessed from them (`CommonFeatures`). Standard deviations and intervals
    are stretched by the distance to the nearest training rows, in units of what is usual there, where it is above 1;
    `ood_score` is the larger of this distance and of how far features leave the training set's range.
    """

    _home: GNN
    _common: CommonFeatures

    @property
    def _features(self) -> Any:
        return self._common

    @cached_property
    def _familiarity(self) -> Familiarity:
        home = self._home
        return Familiarity.fit(feature_map(home.space_)(home.anchors_)[:, self._common.known], least_excess=1.0)

    def predict(
        self, genotypes: npt.ArrayLike, return_std: bool = False, *, return_interval: float | None = None
    ) -> Any:
        """Predict the metric; as `Surrogate.predict`, with stretched deviations and intervals."""
        if not return_std and return_interval is None:
            return super().predict(genotypes)
        stretch = self.stretch(genotypes)
        answer = [super().predict(genotypes)]
        if return_std:
            answer.append(super().predict(genotypes, return_std=True)[1] * stretch)
        if return_interval is not None:
            ends = super().predict(genotypes, return_interval=return_interval)[1]
            answer.append(answer[0][:, None] + (ends - answer[0][:, None]) * stretch[:, None])
        return tuple(answer)

    def ood_score(self, genotypes: npt.ArrayLike) -> Floats:
        """How unlike the training set architectures are, ``float64[n]``, by the features that both spaces have."""
        rows, inverse = self.space_.distinct(self.space_.validate(genotypes))
        return self._familiarity.score(self._common(rows, guess=False)[:, self._common.known])[inverse]

    def stretch(self, genotypes: npt.ArrayLike) -> Floats:
        """By how much deviations are stretched, ``float64[n]``: the distance to the training rows, at least 1."""
        rows, inverse = self.space_.distinct(self.space_.validate(genotypes))
        near = self._familiarity.distance(self._common(rows, guess=False)[:, self._common.known])
        return np.maximum(near, 1.0)[inverse]

    def fit(self, genotypes: npt.ArrayLike, y: npt.ArrayLike, auxiliary: npt.ArrayLike | None = None) -> NoReturn:
        """Refused: what is fitted is a model of its own."""
        del genotypes, y, auxiliary
        raise ValueError(f"A model that was extended to {self.space_.name} is not fitted again: create one for it.")

    def save(self, folder: str | Path) -> NoReturn:
        """Refused: the model itself is saved, and extended again when it is loaded."""
        del folder
        raise ValueError(f"Save the model that was extended instead, and extend it to {self.space_.name} when loaded.")


class ExtendedMultiSpace:
    """A `MultiSpaceGNN` that answers for one space as one of its sources would; made by `extend`.

    Deviations are stretched, and `ood_score` is computed, as for an `ExtendedGNN`; what is compared with are a thousand
    random cells of the source's space.

    Parameters
    ----------
    model
        A fitted model.
    space
        The space to predict.
    source
        Which head answers.
    """

    def __init__(self, model: MultiSpaceGNN, space: SearchSpace, source: str) -> None:
        self.model, self.space, self.source = model, space, source
        self.metadata_: dict[str, Any] = dict(model.metadata_)

    @property
    def space_(self) -> SearchSpace:
        """The space that is predicted."""
        return self.space

    @cached_property
    def _common(self) -> CommonFeatures:
        return CommonFeatures(feature_map(get(self.model.sources_[self.source])), self.space)

    @cached_property
    def _familiarity(self) -> Familiarity:
        home = get(self.model.sources_[self.source])
        cells = home.sample(min(_ANCHORS, home.size), 0, unique=home.enumerable)
        return Familiarity.fit(feature_map(home)(cells)[:, self._common.known], least_excess=1.0)

    def predict(self, genotypes: npt.ArrayLike, return_std: bool = False) -> Any:
        """Predict in the unit of the source, ``float64[n]``, and the deviation if asked for."""
        if not return_std:
            return self.model.predict(genotypes, self.space, self.source)
        mean, std = self.model.predict(genotypes, self.space, self.source, return_std=True)
        return mean, std * self.stretch(genotypes)

    def ood_score(self, genotypes: npt.ArrayLike) -> Floats:
        """How unlike the source's space architectures are, ``float64[n]``; above 1 they are unlike it."""
        rows, inverse = self.space.distinct(self.space.validate(genotypes))
        return self._familiarity.score(self._common(rows, guess=False)[:, self._common.known])[inverse]

    def stretch(self, genotypes: npt.ArrayLike) -> Floats:
        """By how much deviations are stretched, ``float64[n]``: the distance to the source's cells, at least 1."""
        rows, inverse = self.space.distinct(self.space.validate(genotypes))
        near = self._familiarity.distance(self._common(rows, guess=False)[:, self._common.known])
        return np.maximum(near, 1.0)[inverse]


def extend(
    model: Surrogate | MultiSpaceGNN, space: SearchSpace | str, *, source: str | None = None
) -> Surrogate | ExtendedMultiSpace:
    """Let a fitted model of a small space predict larger cells, or cells of fewer operations, of the same kind.

    Parameters
    ----------
    model
        A `GNN`, such as the pretrained ``"nasbench201-cifar10"``, or a `MultiSpaceGNN`.
    space
        The space to predict, such as ``"nasbench201x(nodes=5)"``.
    source
        For a `MultiSpaceGNN`: the source whose head answers (`MultiSpaceGNN.sources_`). It may be left out where only
        one source has cells of this kind.

    Returns
    -------
    A surrogate with ``space``, ``predict(genotypes, return_std=False)`` and ``ood_score``; the model itself if it is
    of that space already. It shares the model's weights.

    Raises
    ------
    ValueError
        If the model reads features that mean another thing on larger cells, the space is of another kind, or has
        operations that the model does not know.
    """
    target = get(space)
    if isinstance(model, MultiSpaceGNN):
        return ExtendedMultiSpace(model, target, _source(model, target, source))
    if source is not None:
        raise ValueError(f"The 'source' argument belongs to a MultiSpaceGNN. Got {source!r} beside a {model.name!r}.")
    model._check_fitted()
    home = model.space_
    if home is target:
        return model
    _check(model, home, target)
    assert isinstance(model, GNN)  # checked above
    made = ExtendedGNN.__new__(ExtendedGNN)
    made.__dict__.update({k: v for k, v in model.__dict__.items() if k != "_familiarity"})
    made.space, made._home = target, model
    made._common = CommonFeatures(feature_map(home), target)
    return made


def _published(space: SearchSpace) -> str:
    return space.extends or space.kind


def _check(model: Surrogate, home: SearchSpace, target: SearchSpace) -> None:
    if not isinstance(model, GNN) or len(model.encoders):
        which = f"'{model.name}' with further encoders" if len(model.encoders) else f"'{model.name}'"
        raise ValueError(
            f"A {which} surrogate of {home.name} cannot predict {target.name}: it reads features, such as the "
            "position of each vertex, that mean another thing in cells of another size. Use a 'gnn' surrogate "
            "without further encoders, or a multi-space model."
        )
    if _published(home) != _published(target):
        raise ValueError(
            f"A surrogate of {home.name} cannot predict {target.name}, whose networks are of another kind: use a "
            "multi-space model."
        )
    unknown = sorted(set(target.graph_operations) - set(home.graph_operations))
    if unknown:
        raise ValueError(
            f"A surrogate of {home.name} cannot predict {target.name}: it has seen no cell with "
            f"{', '.join(unknown)}. Leave these operations out, or use a multi-space model."
        )


def _source(model: MultiSpaceGNN, target: SearchSpace, source: str | None) -> str:
    model._check_fitted()
    if source is not None:
        model._head(source)  # an unknown source is refused
        return source
    fitting = [name for name, space in model.sources_.items() if _published(get(space)) == _published(target)]
    if len(fitting) != 1:
        raise ValueError(
            f"The 'source' argument must name the source that answers for {target.name}. "
            f"Known: {', '.join(fitting or model.sources_)}."
        )
    return fitting[0]
