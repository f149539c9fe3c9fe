"""The default surrogate: a stack whose weights are chosen on rows that its members have not seen."""

from __future__ import annotations

__all__ = ["Auto"]

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._validation import check_integer
from tauzero.surrogates.base import NOT_SAVED, Floats, State, Surrogate
from tauzero.surrogates.gaussian_process import GaussianProcess
from tauzero.surrogates.gnn import GNN
from tauzero.surrogates.lightgbm import LightGBM

_GP_ROWS = 6_000  # beyond this, exact Gaussian processes only see a sample; boosting learns more
_GNN_ROWS = 150  # fewer teach a graph network nothing that a kernel does not know
_SOME_ROWS = 2_000  # from here on a longer training of the graph network pays
_MANY_ROWS = 20_000  # from here on few passes over the data are enough
_STEP = 4  # weights are multiples of 1/4
_CHUNK = 65_536


class Auto(Surrogate):
    """Gaussian processes on two scales, gradient boosting and a graph network, weighted by inner validation.

    The members predict training rows that they were not fitted on (leave-one-out in closed form for the
    Gaussian processes, left-out folds for the others). Of all weightings in steps of a quarter the one with the
    best Kendall tau there is taken; an even weighting has a small head start, so that an uneven one has to be
    better by more than chance. The graph network, which reads cells instead of features and joins from 150
    different networks on, leaves out fewer rows: it is weighed afterwards, against the mixture of the others.
    No other data is looked at.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies in which members are averaged (`tauzero.surrogates.TARGETS`).
    n_jobs
        Threads for boosting; None uses what OpenMP allows.
    random_state
        Seed of all members.

    Attributes
    ----------
    weights_
        Weight of each member, by name.
    scores_
        Kendall tau of each member on rows it was not fitted on.
    """

    name = "auto"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _candidates(self, n: int) -> dict[str, Surrogate]:
        shared: dict[str, Any] = {"random_state": self.random_state, "encoders": self._features.extra}
        members: dict[str, Surrogate] = {}
        if n <= _GP_ROWS:
            for target in ("mixed", "rank"):
                members[f"gaussian_process[{target}]"] = GaussianProcess(self.space, target=target, **shared)
        if n >= 20:
            members["lightgbm"] = LightGBM(self.space, target=self.target, n_jobs=self.n_jobs, **shared)
        if n >= _GNN_ROWS:
            # Without features: what it learns from the graph itself is what the other members do not know.
            network = GNN(self.space, features=False, members=3, learning_rate=5e-3, **shared)
            # In a stack a third of the usual steps, taken larger, is worth as much (measured at 424 rows).
            share = 1 / 3 if n < _SOME_ROWS else 1 / 2
            epochs = max(20, round(network._schedule(n)[1] * share))
            fewer: dict[str, Any] = {"epochs": 20, "members": 2} if n > _MANY_ROWS else {"epochs": epochs}
            members["gnn"] = network.set_params(**fewer)
        return members

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        if self.n_jobs is not None:
            check_integer(self, "n_jobs", 1)
        # Members fit the original scale: undo this model's own transform (to a few thousandths of a percent).
        y = self.target_.inverse(target)
        self.members_: dict[str, Surrogate] = self._candidates(len(rows))
        unseen: dict[str, Floats] = {}
        for name, member in self.members_.items():
            member._share_features(self)
            member._fit_networks(rows, y, weight)
            unseen[name] = self._common(member, member.unseen_)
        self._choose_weights(unseen, target)
        self.unseen_ = self._blend(unseen)
        self.unseen_std_ = self._blend(
            {k: self._common_std(m, m.unseen_, m.unseen_std_) for k, m in self.members_.items()}
        )
        self.members_ = {k: m for k, m in self.members_.items() if self.weights_[k] > 0}

    def _common(self, member: Surrogate, latent: Floats) -> Floats:
        """Bring a member's predictions to this model's scale."""
        return self.target_.transform(member.target_.inverse(latent))

    def _common_std(self, member: Surrogate, latent: Floats, std: Floats) -> Floats:
        """Bring a member's standard deviations to this model's scale."""
        spread = self._common(member, latent + std) - self._common(member, latent - std)
        return np.maximum(spread / 2, 0.0)

    def _blend(self, of_member: dict[str, Floats]) -> Floats:
        """Weighted mean over members; members err together, so standard deviations add up, not variances."""
        return np.sum([self.weights_[k] * v for k, v in of_member.items() if self.weights_.get(k, 0) > 0], axis=0)

    def _choose_weights(self, unseen: dict[str, Floats], target: Floats) -> None:
        names = [k for k in unseen if k != "gnn"]
        self.scores_ = {}
        for k, values in unseen.items():
            judged = np.isfinite(values)
            self.scores_[k] = _tau(target[judged], values[judged])
        table = np.stack([unseen[k] for k in names])
        judged = np.asarray(np.isfinite(table).all(axis=0))
        if len(names) == 1 or judged.sum() < 8:
            self.weights_ = dict.fromkeys(unseen, 0.0) | {names[0]: 1.0}
        else:
            best, chosen = -2.0, (0,) * len(names)
            for steps in itertools.product(range(_STEP + 1), repeat=len(names)):
                if sum(steps) != _STEP:
                    continue
                # Even mixtures first: an uneven one has to be better by more than chance would have it.
                evenness = -0.25 * float(np.std(steps)) / _STEP / np.sqrt(judged.sum())
                score = _tau(target[judged], np.array(steps) @ table[:, judged]) + evenness
                if score > best:
                    best, chosen = score, steps
            self.weights_ = {k: s / _STEP for k, s in zip(names, chosen, strict=True)}
        if "gnn" in unseen:
            mixture = self._blend(unseen)
            both = np.isfinite(mixture) & np.isfinite(unseen["gnn"])
            if both.sum() < 8:
                self.weights_["gnn"] = 0.0
                return
            # The share that an even mixture of four would give it has the head start here.
            even = 1 / (len(names) + 1)
            scores = {
                share: _tau(target[both], (1 - share) * mixture[both] + share * unseen["gnn"][both])
                - 0.25 * abs(share - even) / np.sqrt(both.sum())
                for share in (even, *np.arange(_STEP + 1) / _STEP)
            }
            share = max(scores, key=scores.__getitem__)
            self.weights_ = {k: float((1 - share) * w) for k, w in self.weights_.items()} | {"gnn": float(share)}

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        mean, deviation = np.zeros(len(rows)), np.zeros(len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            x = self._features(rows[part])  # once for all members that read features
            for name, member in self.members_.items():
                if isinstance(member, FeatureSurrogate):
                    latent, std = member._predict_features(x, with_std=with_std)
                else:
                    latent, std = member._predict(rows[part], with_std=with_std)
                mean[part] += self.weights_[name] * self._common(member, latent)
                if with_std:
                    deviation[part] += self.weights_[name] * self._common_std(member, latent, std)
        return mean, deviation

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        plain: dict[str, Any] = {
            "weights": self.weights_,
            "scores": self.scores_,
            "members": {},
        }
        arrays: dict[str, npt.NDArray[Any]] = {}
        texts: dict[str, str] = {}
        for k, (name, member) in enumerate(self.members_.items()):
            own_plain, own_arrays, own_texts = member._state()
            target_plain, target_arrays = member.target_.state()
            params = {p: v for p, v in member.get_params(deep=False).items() if p not in NOT_SAVED}
            plain["members"][name] = {
                "number": k,
                "surrogate": member.name,
                "params": params,
                "state": own_plain,
                "target": target_plain,
                "texts": sorted(own_texts),
            }
            arrays |= {f"member{k}.{a}": v for a, v in own_arrays.items()}
            arrays |= {f"target{k}.{a}": v for a, v in target_arrays.items()}
            texts |= {f"member{k}-{t}": v for t, v in own_texts.items()}
        return plain, arrays, texts

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        from tauzero.surrogates._registry import create

        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {a.removeprefix(prefix): v for a, v in arrays.items() if a.startswith(prefix)}

        self.weights_, self.scores_ = dict(plain["weights"]), dict(plain["scores"])
        self.members_ = {}
        for name, saved in plain["members"].items():
            k = saved["number"]
            member = create(saved["surrogate"], self.space, **saved["params"], encoders=self._features.extra)
            member._share_features(self)
            member.target_ = type(self.target_).from_state(saved["target"], part(f"target{k}."))
            member.n_train_, member.metadata_ = self.n_train_, {}
            member._restore(saved["state"], part(f"member{k}."), {t: texts[f"member{k}-{t}"] for t in saved["texts"]})
            self.members_[name] = member


def _tau(y: Floats, prediction: Floats) -> float:
    value = float(kendalltau(y, prediction).statistic) if len(y) > 1 else 0.0
    return value if np.isfinite(value) else 0.0
