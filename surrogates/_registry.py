"""The explicit registry of surrogates: what is not listed here does not exist, what is listed is tested."""

from __future__ import annotations

__all__ = ["create", "names"]

from importlib import import_module
from typing import Any

from tauzero.spaces import SearchSpace, unknown_name
from tauzero.surrogates.base import Surrogate

# Module and class by name; a module is imported when its surrogate is asked for, so that a user of
# LightGBM does not wait for torch.
_SURROGATES: dict[str, tuple[str, str]] = {
    "auto": ("tauzero.surrogates.auto", "Auto"),
    "bayesian_linear": ("tauzero.surrogates.bayesian_linear", "BayesianLinear"),
    "extra_trees": ("tauzero.surrogates.extra_trees", "ExtraTrees"),
    "gaussian_process": ("tauzero.surrogates.gaussian_process", "GaussianProcess"),
    "gnn": ("tauzero.surrogates.gnn", "GNN"),
    "lightgbm": ("tauzero.surrogates.lightgbm", "LightGBM"),
    "mlp": ("tauzero.surrogates.mlp", "MLP"),
    "quantile_boosting": ("tauzero.surrogates.quantile_boosting", "QuantileBoosting"),
    "random_forest": ("tauzero.surrogates.random_forest", "RandomForest"),
    "transfer": ("tauzero.surrogates.transfer", "Transfer"),
    "tuned": ("tauzero.surrogates._tuning", "Tuned"),
    "svr": ("tauzero.surrogates.svr", "SVR"),
    "wl_gaussian_process": ("tauzero.surrogates.wl_gaussian_process", "WLGaussianProcess"),
    "xgboost": ("tauzero.surrogates.xgboost", "XGBoost"),
}


def names() -> list[str]:
    """Names of all surrogates, sorted."""
    return sorted(_SURROGATES)


def create(name: str, space: SearchSpace | str, *, tune: int | None = None, **params: Any) -> Surrogate:
    """Make an unfitted surrogate of a space.

    Parameters
    ----------
    name
        One of `names`; ``"auto"`` is the default choice for every training size.
    space
        A search space or its name.
    tune
        Choose the parameters that are not given among so many candidates, by cross-validation within the training
        rows (`Tuned`; needs the extra ``tauzero[optuna]``). None for the defaults.
    **params
        Parameters of that surrogate; all take ``random_state`` and ``target``.

    Raises
    ------
    UnknownNameError
        If there is no such surrogate or space, or `tune` is given and the surrogate cannot be tuned.
    ValueError
        If it has no such parameter.
    MissingExtraError
        If `tune` is given and Optuna is not installed.
    """
    if name not in _SURROGATES:
        raise unknown_name("surrogate", name, _SURROGATES)
    module, attribute = _SURROGATES[name]
    made: type[Surrogate] = getattr(import_module(module), attribute)
    known = set(made._get_param_names())
    wrong = sorted(set(params) - known - ({"progress"} if tune is not None else set()))  # a study reports progress
    if wrong:
        raise ValueError(
            f"The surrogate {name!r} has no parameter {', '.join(map(repr, wrong))}. Known: {', '.join(sorted(known))}."
        )
    if tune is not None:
        from tauzero.surrogates._tuning import tuned

        return tuned(name, made, space, tune, params)
    estimator = made(space, **params)
    _ = estimator.space_  # an unknown space is reported here, not at the first fit
    return estimator
