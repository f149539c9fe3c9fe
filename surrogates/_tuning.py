"""Hyper-parameters of a surrogate chosen by inner cross-validation, with Optuna."""

from __future__ import annotations

__all__ = ["SEARCH_SPACES", "Choice", "Integer", "Real", "Tuned", "tuned"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, MissingExtraError, Progress, SearchSpace, unknown_name
from tauzero.surrogates._folds import fold_numbers
from tauzero.surrogates._target import TARGETS
from tauzero.surrogates._validation import check_integer
from tauzero.surrogates.base import Floats, State, Surrogate

if TYPE_CHECKING:
    from optuna import Trial

_FEWEST = 4  # different networks below which there is nothing to validate on
_OF_THE_STUDY = frozenset({"encoders", "progress", "random_state", "target"})


@dataclass(frozen=True)
class Real:
    """A number from `low` to `high`, drawn on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let a trial choose."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Integer:
    """An integer from `low` to `high`, drawn on a logarithmic scale if `log`."""

    low: int
    high: int
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let a trial choose."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[str | int | float | bool, ...]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let a trial choose."""
        return trial.suggest_categorical(name, self.values)


Range: TypeAlias = Real | Integer | Choice

_TARGET: dict[str, Range] = {"target": Choice(TARGETS)}
_FOREST: dict[str, Range] = {"max_features": Real(0.1, 1.0), "min_samples_leaf": Integer(1, 8, log=True)}
_BOOSTING: dict[str, Range] = {
    "num_trees": Integer(50, 800, log=True),
    "learning_rate": Real(0.01, 0.3, log=True),
    "num_leaves": Integer(4, 64, log=True),
    "feature_fraction": Real(0.1, 1.0),
    "subsample": Real(0.4, 1.0),
}
_LEAF: dict[str, Range] = {"min_child_samples": Integer(1, 20, log=True)}

#: What is tuned of each surrogate. Parameters that only buy accuracy with time (how many trees of a forest, how many
#: members) stay as they are; the target's transform is tuned for all.
SEARCH_SPACES: dict[str, dict[str, Range]] = {
    "bayesian_linear": _TARGET | {"squares": Choice((True, False))},
    "extra_trees": _TARGET | _FOREST,
    "gaussian_process": _TARGET,
    "gnn": _TARGET
    | {
        "architecture": Choice(("gin", "gcn", "gat", "flow", "transformer")),
        "loss": Choice(("mse", "hinge", "bce", "listwise", "warp")),
        "width": Choice((32, 48, 64, 96)),
        "layers": Integer(2, 5),
        "learning_rate": Real(5e-4, 1e-2, log=True),
        "weight_decay": Real(1e-4, 1e-1, log=True),
        "dropout": Real(0.0, 0.4),
    },
    "lightgbm": _TARGET | _BOOSTING | _LEAF,
    "mlp": _TARGET
    | {
        "encoder": Choice(("paths", "features")),
        "loss": Choice(("mape", "mae", "mse")),
        "learning_rate": Real(1e-3, 3e-2, log=True),
        "weight_decay": Real(1e-4, 1e-1, log=True),
    },
    "quantile_boosting": _TARGET | _BOOSTING | _LEAF,
    "random_forest": _TARGET | _FOREST,
    "svr": _TARGET
    | {
        "C": Real(0.1, 1e3, log=True),
        "gamma": Real(0.01, 3.0, log=True),
        "epsilon": Real(0.01, 0.5, log=True),
    },
    "wl_gaussian_process": _TARGET | {"rounds": Choice((0, 1, 2, 3)), "contract_skips": Choice((True, False))},
    "xgboost": _TARGET | _BOOSTING | {"min_child_weight": Real(0.5, 20.0, log=True)},
}


class Tuned(Surrogate):
    """A surrogate whose hyper-parameters are chosen on its own training rows.

    Candidates are proposed by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Optuna, Akiba et al.,
    KDD 2019); where there are no more combinations than `trials`, all are tried. They are judged by Kendall's tau
    between the training targets and predictions by models that were not fitted on them: k folds over different
    networks, predictions of all folds joined. The first candidate is the surrogate's defaults, which stay unless
    another is better. The best one is then fitted to all training rows. With fewer than 4 different networks, or
    equal targets, there is nothing to choose by and the defaults are taken.

    Parameters
    ----------
    space
        A search space or its name.
    surrogate
        Name of the surrogate to tune, one of `SEARCH_SPACES`.
    trials
        Candidates, the defaults among them.
    folds
        Folds of the inner cross-validation.
    params
        Further parameters of the surrogate; they are not tuned.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`); the first candidate's, with
        `tune_target`.
    tune_target
        Choose the transform too.
    random_state
        Seed of the candidates, the folds and the surrogate.
    progress
        Called with (candidates done, candidates in all) while fitting.

    Attributes
    ----------
    model_
        The surrogate, fitted with the best parameters.
    best_params_
        Its tuned parameters; None stands for "chosen by the size of the training set".
    best_score_
        Kendall tau of the best candidate on rows left out; None if nothing was tried. It was the best of many: that of
        new networks is likely lower.
    trials_
        One dictionary per candidate, in order: ``number``, ``params``, ``score`` (None if it could not be fitted).
    """

    name = "tuned"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        surrogate: str = "lightgbm",
        trials: int = 30,
        folds: int = 5,
        params: dict[str, Any] | None = None,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        tune_target: bool = True,
        random_state: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.space = space
        self.surrogate = surrogate
        self.trials = trials
        self.folds = folds
        self.params = params
        self.encoders = encoders
        self.target = target
        self.tune_target = tune_target
        self.random_state = random_state
        self.progress = progress

    # -- what is tuned ------------------------------------------------------------------------

    def _search_space(self) -> dict[str, Range]:
        if self.surrogate not in SEARCH_SPACES:
            raise unknown_name("surrogate that can be tuned", self.surrogate, SEARCH_SPACES)
        fixed = set(self.params or {}) | (set() if self.tune_target else {"target"})
        free = {k: v for k, v in SEARCH_SPACES[self.surrogate].items() if k not in fixed}
        if not free:
            raise ValueError(
                f"All parameters of {self.surrogate!r} that can be tuned are given: "
                f"{', '.join(sorted(SEARCH_SPACES[self.surrogate]))}. Leave one out, or do not tune."
            )
        return free

    def _inner(self, found: Mapping[str, Any]) -> Surrogate:
        """The surrogate with some parameters, unfitted."""
        from tauzero.surrogates._registry import create

        given: dict[str, Any] = (
            {"target": self.target, "random_state": self.random_state} | dict(self.params or {}) | dict(found)
        )
        if len(self.encoders):
            given["encoders"] = self._features.extra
        made = create(self.surrogate, self.space, **given)
        made._share_features(self)
        return made

    # -- fitting ------------------------------------------------------------------------------

    def _fit_networks(self, rows: Genotypes, values: Floats, weight: Floats) -> None:
        self._values = values
        try:
            super()._fit_networks(rows, values, weight)
        finally:
            del self._values

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        check_integer(self, "trials", 1)
        check_integer(self, "folds", 2)
        del target  # candidates have transforms of their own
        values = self._values
        free = self._search_space()
        defaults = self._inner({}).get_params(deep=False)
        first = {name: defaults[name] for name in free}
        self.trials_: list[dict[str, Any]] = []
        if len(rows) >= _FEWEST and np.ptp(values) > 0:
            self._study(free, first, rows, values, weight)
        judged = [t for t in self.trials_ if t["score"] is not None]
        best = max(judged, key=lambda t: float(t["score"]), default=None)  # the first of equals
        self.best_params_: dict[str, Any] = dict(best["params"] if best else first)
        self.best_score_: float | None = best["score"] if best else None
        model = self._inner(self.best_params_)
        model._fit_networks(rows, values, weight)
        self._adopt(model)
        self.unseen_, self.unseen_std_ = model.unseen_, model.unseen_std_
        self.conformity_, self.anchors_ = model.conformity_, model.anchors_

    def _calibrate(self, rows: Genotypes, target: Floats) -> None:
        """Nothing to do: the surrogate has calibrated itself, on the scale of its own target transform."""
        del rows, target
        self.__dict__.pop("_familiarity", None)

    def _adopt(self, model: Surrogate) -> None:
        """Predict with a fitted surrogate, on its scale."""
        self.model_ = model
        self.target_ = model.target_

    def _study(
        self,
        free: Mapping[str, Range],
        first: dict[str, Any],
        rows: Genotypes,
        values: Floats,
        weight: Floats,
    ) -> None:
        """Judge the candidates one after the other; fills `trials_`."""
        optuna = _optuna()
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            startup = min(10, max(2, self.trials // 3))  # drawn at random
            sampler = optuna.samplers.TPESampler(seed=self.random_state, n_startup_trials=startup)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            known: dict[tuple[Any, ...], float | None] = {}
            everything = _combinations(free, first, self.trials)
            trials = len(everything) or self.trials
            for number in range(trials):
                trial = study.ask()
                # The defaults are tried as they are: some of them depend on the number of rows and stand in no range.
                if everything or number == 0:
                    params = everything[number] if everything else first
                else:
                    params = {name: part.suggest(trial, name) for name, part in free.items()}
                key = tuple(params.values())
                if key not in known:
                    known[key] = self._judge(params, rows, values, weight, required=number == 0)
                score = known[key]
                if score is None:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                else:
                    study.tell(trial, score)
                self.trials_.append({"number": number, "params": dict(params), "score": score})
                if self.progress is not None:
                    self.progress(number + 1, trials)
        finally:
            optuna.logging.set_verbosity(verbosity)

    def _judge(
        self, params: Mapping[str, Any], rows: Genotypes, values: Floats, weight: Floats, *, required: bool
    ) -> float | None:
        """Kendall tau on rows left out; None for a candidate that cannot be fitted, unless it is the required one."""
        count = min(self.folds, len(rows))
        fold = fold_numbers(len(rows), count, self.random_state)
        predicted = np.empty(len(rows))
        try:
            for left_out in range(count):
                out = fold == left_out
                model = self._inner(params)
                model._fit_networks(rows[~out], values[~out], weight[~out])
                predicted[out] = model.target_.inverse(model._predict(rows[out], with_std=False)[0])
        except (ValueError, ArithmeticError):
            if required:
                raise
            return None
        tau = float(kendalltau(values, predicted).statistic)
        return tau if np.isfinite(tau) else 0.0  # equal predictions rank nothing

    # -- prediction ---------------------------------------------------------------------------

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        return self.model_._predict(rows, with_std=with_std)

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        plain, arrays, texts = self.model_._state()
        return (
            {
                "best_params": self.best_params_,
                "best_score": self.best_score_,
                "trials": self.trials_,
                "model": plain,
            },
            arrays,
            texts,
        )

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        self.best_params_ = dict(plain["best_params"])
        self.best_score_ = plain["best_score"]
        self.trials_ = list(plain["trials"])
        model = self._inner(self.best_params_)
        model.target_, model.n_train_, model.metadata_ = self.target_, self.n_train_, {}
        model.conformity_, model.anchors_ = self.conformity_, self.anchors_
        model._restore(plain["model"], arrays, texts)
        self._adopt(model)


def _combinations(free: Mapping[str, Range], first: dict[str, Any], most: int) -> list[dict[str, Any]]:
    """All candidates, the defaults first, if they are no more than `most`; else nothing."""
    choices = [part.values if isinstance(part, Choice) else () for part in free.values()]
    if not 0 < prod(map(len, choices)) <= most:
        return []
    others = [dict(zip(free, values, strict=True)) for values in product(*choices)]
    return [first, *(params for params in others if params != first)][:most]


def tuned(name: str, made: type[Surrogate], space: SearchSpace | str, trials: object, params: dict[str, Any]) -> Tuned:
    """Make the tuned form of a surrogate: parameters that are given are kept, the others tuned."""
    if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 1:
        raise ValueError(f"The 'tune' argument must be a number of candidates of at least 1, or None. Got {trials!r}.")
    _optuna()  # what is missing is said now, not after the training rows were collected
    shared = {k: v for k, v in params.items() if k in _OF_THE_STUDY}
    own = {k: v for k, v in params.items() if k not in _OF_THE_STUDY}
    if "target" not in params:
        shared["target"] = made(space).target
    estimator = Tuned(
        space, surrogate=name, trials=int(trials), params=own or None, tune_target="target" not in params, **shared
    )
    _ = estimator.space_  # an unknown space is reported here, not at the first fit
    estimator._search_space()  # a surrogate without one is reported here
    return estimator


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            'Tuning needs Optuna, which is not installed: `pip install "tauzero[optuna]"`. Without `tune`, surrogates '
            "take their defaults."
        ) from error
    return optuna
