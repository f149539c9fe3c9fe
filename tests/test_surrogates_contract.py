"""Every registered surrogate: the contract, equal networks, small training sets, bad input.

All of it on NAS-Bench-201 for all surrogates, and on every space for some of each kind; shapes and merging of
duplicates on every space for all of them.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks
from surrogate_helpers import accuracy, rows, small

from tauzero import evaluation, spaces, surrogates
from tauzero.surrogates import Surrogate

EACH = [(name, space) for name in surrogates.names() for space in spaces.names()]
each = pytest.mark.parametrize(("name", "space"), EACH, ids=[f"{n}-{s}" for n, s in EACH])
#: One of each kind; the others differ in how they read the same features.
KINDS = ("auto", "extra_trees", "gaussian_process", "gnn", "lightgbm", "svr", "wl_gaussian_process")
SOME = [(name, space) for name, space in EACH if space == "nasbench201" or name in KINDS]
some = pytest.mark.parametrize(("name", "space"), SOME, ids=[f"{n}-{s}" for n, s in SOME])
each_name = pytest.mark.parametrize("name", surrogates.names())

GENOTYPES = "feeds feature matrices of floats of any width; a surrogate reads genotypes of its space"
WORDS = "expects scikit-learn's words about features; a surrogate's error is about genotypes"
#: scikit-learn's estimator checks that cannot be passed by an estimator over genotypes, and why.
INAPPLICABLE = {
    **dict.fromkeys(
        (
            "check_dict_unchanged",
            "check_dont_overwrite_parameters",
            "check_dtype_object",
            "check_estimators_dtypes",
            "check_estimators_fit_returns_self",
            "check_estimators_overwrite_params",
            "check_estimators_pickle",
            "check_f_contiguous_array_estimator",
            "check_fit2d_predict1d",
            "check_fit_check_is_fitted",
            "check_fit_idempotent",
            "check_fit_score_takes_y",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
            "check_n_features_in",
            "check_n_features_in_after_fitting",
            "check_pipeline_consistency",
            "check_positive_only_tag_during_fit",
            "check_readonly_memmap_input",
            "check_regressor_data_not_an_array",
            "check_regressors_int",
            "check_regressors_no_decision_function",
            "check_regressors_train",
            "check_supervised_y_2d",
        ),
        GENOTYPES,
    ),
    **dict.fromkeys(
        (
            "check_complex_data",
            "check_estimator_sparse_array",
            "check_estimator_sparse_matrix",
            "check_estimator_sparse_tag",
            "check_estimators_empty_data_messages",
            "check_estimators_nan_inf",
            "check_fit2d_1feature",
            "check_fit2d_1sample",
            "check_requires_y_none",
        ),
        WORDS,
    ),
}
_CHECKS = [
    pytest.param(name, check, id=f"{name}-{estimator_checks._check_name(check)}")
    for name in surrogates.names()
    for _, check in estimator_checks.estimator_checks_generator(small(name, "nasbench201"))
    if estimator_checks._check_name(check) != "check_array_api_input"  # needs another build of scipy
]


class Fitted(dict[tuple[str, str], Surrogate]):
    """Surrogates fitted to 40 networks of a space, by names of both; each is fitted when it is first asked for."""

    def __missing__(self, key: tuple[str, str]) -> Surrogate:
        name, space = key
        cells = rows(space, 40)
        self[key] = small(name, space).fit(cells, accuracy(space, cells))
        return self[key]


@pytest.fixture(scope="session")
def fitted() -> Fitted:
    return Fitted()


# -- scikit-learn -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "check"), _CHECKS)
@pytest.mark.filterwarnings("ignore")  # the checks' own data and estimators
def test_scikit_learn_check(name: str, check: Any) -> None:
    """Those that apply pass, the others fail: an exception that is not needed any more has to go."""
    estimator = small(name, "nasbench201")
    if estimator_checks._check_name(check) in INAPPLICABLE:
        with pytest.raises((ValueError, AssertionError)):
            check(estimator)
    else:
        check(estimator)


def test_inapplicable_checks_exist() -> None:
    assert set(INAPPLICABLE) <= {param.id.partition("-")[2] for param in _CHECKS}


@some
def test_clone_and_parameters(name: str, space: str, fitted: Fitted) -> None:
    model = fitted[name, space]
    for the_space in (space, spaces.get(space)):
        copy = clone(model.set_params(space=the_space))
        assert type(copy) is type(model)
        assert copy.get_params() == model.get_params()
        assert copy.space_ is spaces.get(space)
        assert not hasattr(copy, "target_")
        with pytest.raises(NotFittedError, match="not fitted yet"):
            copy.predict(rows(space, 2))
    changed = clone(model).set_params(random_state=7, target="rank")
    assert (changed.get_params()["random_state"], changed.get_params()["target"]) == (7, "rank")
    with pytest.raises(ValueError, match="nonsense"):
        changed.set_params(nonsense=1)


@each_name
def test_unfitted_models_are_not_saved(name: str, tmp_path: Any) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        small(name, "nasbench201").save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


# -- predictions ------------------------------------------------------------------------------


@each
def test_shapes_and_types(name: str, space: str, fitted: Fitted) -> None:
    model = fitted[name, space]
    cells = spaces.get(space).sample(50, 3)
    mean = model.predict(cells)
    again, std = model.predict(cells, return_std=True)
    for values in (mean, again, std):
        assert values.shape == (50,)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
    np.testing.assert_array_equal(mean, again)
    assert (std > 0).all()
    for values in (model.predict(cells[:0]), *model.predict(cells[:0], return_std=True)):
        assert values.shape == (0,)
        assert values.dtype == np.float64
    assert model.n_train_ == 40
    assert model.metadata_ == {}


@some
def test_fit_returns_self_and_leaves_its_input_alone(name: str, space: str) -> None:
    cells = rows(space, 20)
    y = accuracy(space, cells)
    before = cells.copy(), y.copy()
    cells.flags.writeable = y.flags.writeable = False
    model = small(name, space)
    params = model.get_params()
    assert model.fit(cells, y) is model
    assert model.get_params() == params
    np.testing.assert_array_equal(cells, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert model.predict(cells.tolist()).shape == (20,)


@some
def test_batch_split_changes_nothing(name: str, space: str, fitted: Fitted) -> None:
    model = fitted[name, space]
    cells = spaces.get(space).sample(60, 4)
    mean, std = model.predict(cells, return_std=True)
    for order in (np.arange(60), np.random.default_rng(0).permutation(60)):
        parts = [model.predict(cells[order[k : k + 7]], return_std=True) for k in range(0, 60, 7)]
        np.testing.assert_allclose(np.concatenate([m for m, _ in parts]), mean[order], atol=1e-4)
        np.testing.assert_allclose(np.concatenate([s for _, s in parts]), std[order], atol=1e-4)


@each_name
def test_equal_networks_have_equal_predictions(name: str, fitted: Fitted) -> None:
    space = spaces.get("nasbench201")
    largest = np.bincount(space.classes()).argmax()
    equal = space.enumerate()[space.classes() == largest]
    assert len(equal) > 10
    assert len(set(fitted[name, "nasbench201"].predict(equal))) == 1


@each_name
def test_isomorphic_cells_have_equal_predictions(name: str, fitted: Fitted) -> None:
    space = spaces.get("nasbench101")
    adjacency = np.zeros((2, 4, 4), dtype=np.int8)
    adjacency[:, 0, 1:3] = adjacency[:, 1:3, 3] = 1
    cells = space.from_matrices(adjacency, np.array([[0, 2], [2, 0]], dtype=np.int8))
    assert (cells[0] != cells[1]).any()
    assert len(set(fitted[name, "nasbench101"].predict(cells))) == 1


@some
def test_order_of_training_rows_does_not_matter(name: str, space: str, fitted: Fitted) -> None:
    """Rows are sorted before anything random happens, so no surrogate is excepted."""
    cells = rows(space, 40)[::-1]
    cell = spaces.get(space).sample(30, 5)
    shuffled = small(name, space).fit(cells, accuracy(space, cells))
    np.testing.assert_array_equal(shuffled.predict(cell), fitted[name, space].predict(cell))


@some
def test_seeds(name: str, space: str, fitted: Fitted) -> None:
    """The same seed gives the same model, whatever numpy's global generator is at; others may differ."""
    cells = rows(space, 40)
    np.random.seed(5)  # noqa: NPY002 - shows that it is not used
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    same = small(name, space, random_state=0).fit(cells, accuracy(space, cells))
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    judged = spaces.get(space).sample(30, 5)
    np.testing.assert_array_equal(same.predict(judged), fitted[name, space].predict(judged))
    other = small(name, space, random_state=1).fit(cells, accuracy(space, cells))
    assert np.isfinite(other.predict(judged)).all()


@pytest.mark.parametrize("name", ["extra_trees", "gnn", "lightgbm"])
def test_another_seed_gives_another_model(name: str) -> None:
    cells = rows("nasbench201", 40)
    y = accuracy("nasbench201", cells)
    first, second = (small(name, "nasbench201", random_state=seed).fit(cells, y) for seed in (0, 1))
    judged = spaces.get("nasbench201").sample(50, 5)
    assert (first.predict(judged) != second.predict(judged)).any()


# -- duplicates -------------------------------------------------------------------------------


@each
def test_duplicates_are_averaged(name: str, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    the_space = spaces.get(space)
    cells = rows(space, 10)
    y = accuracy(space, cells) + np.arange(10)
    repeated = np.concatenate([cells, cells[:4], cells[:2]])
    values = np.concatenate([y, y[:4] + 3.0, y[:2] + 6.0])
    seen: list[tuple[Any, ...]] = []
    model = small(name, space)
    monkeypatch.setattr(type(model), "_fit", lambda self, *given: seen.append(given))
    model.fit(repeated, values)
    fitted_rows, target, weight = seen[0]
    order = np.argsort(the_space.distinct(cells)[1])
    np.testing.assert_array_equal(fitted_rows, cells[order])
    np.testing.assert_array_equal(weight, np.array([3, 3, 2, 2, *[1] * 6])[order])
    mean = y + np.array([3.0, 3.0, 1.5, 1.5, *[0] * 6])
    np.testing.assert_allclose(model.target_.inverse(target), mean[order])
    assert model.n_train_ == 10


@each_name
def test_different_rows_of_one_network_are_duplicates(name: str) -> None:
    space = spaces.get("nasbench201")
    equal = space.enumerate()[space.classes() == np.bincount(space.classes()).argmax()][:5]
    model = small(name, space).fit(np.concatenate([equal, rows(space, 5)]), np.arange(10.0))
    assert model.n_train_ in {5, 6}  # the class may be among the five others


# -- small and degenerate training sets -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "space", "n"),
    [(name, space, n) for name, space in SOME for n in ((1, 2, 3, 4, 16, 17) if space == "nasbench201" else (1, 17))],
)
def test_small_training_sets(name: str, space: str, n: int) -> None:
    cells = rows(space, n)
    y = accuracy(space, cells) + np.linspace(0, 1, n)
    model = small(name, space).fit(cells, y)
    mean, std = model.predict(spaces.get(space).sample(20, 1), return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std > 0).all()
    assert ((mean > y.min() - 10) & (mean < y.max() + 10)).all()


@pytest.mark.parametrize(
    ("name", "space", "value"),
    [
        (name, space, value)
        for name, space in SOME
        for value in ((0.0, 93.25, 1e6) if space == "nasbench201" else (93.25,))
    ],
)
def test_constant_targets(name: str, space: str, value: float) -> None:
    cells = rows(space, 20)
    for target in {"mixed"} if name == "auto" else {"mixed", "rank"}:
        model = small(name, space, target=target).fit(cells, np.full(20, value))
        mean, std = model.predict(spaces.get(space).sample(20, 1), return_std=True)
        np.testing.assert_allclose(mean, value, atol=0.5)
        assert np.isfinite(std).all()
        assert (std >= 0).all()


@pytest.mark.parametrize("name", ["auto", "extra_trees", "gaussian_process", "lightgbm"])
@pytest.mark.parametrize("space", spaces.names())
def test_thirty_rows_teach_something(name: str, space: str) -> None:
    """The boosting library's own defaults learn nothing here: every leaf needs twenty rows."""
    cells = rows(space, 330, seed=2)
    y = accuracy(space, cells)
    model = small(name, space).fit(cells[:30], y[:30])
    assert evaluation.kendall_tau(y[30:], model.predict(cells[30:])) > 0.4


@pytest.mark.slow
def test_a_graph_network_learns_from_thirty_rows() -> None:
    cells = rows("nasbench201", 330, seed=2)
    y = accuracy("nasbench201", cells)
    model = surrogates.create("gnn", "nasbench201", members=1, width=16, layers=2, epochs=60).fit(cells[:30], y[:30])
    assert evaluation.kendall_tau(y[30:], model.predict(cells[30:])) > 0.4


# -- bad input --------------------------------------------------------------------------------


CELLS = rows("nasbench201", 6)
WITH_NAN, WITH_INF = np.arange(6.0), np.arange(6.0)
WITH_NAN[2], WITH_INF[5] = np.nan, -np.inf


@each_name
@pytest.mark.parametrize(
    ("genotypes", "y", "message"),
    [
        (CELLS, WITH_NAN, r"'y' argument must be finite\. Got 1 .* \(nan\) in row 2"),
        (CELLS, WITH_INF, r"'y' argument must be finite\. Got 1 .* \(-inf\) in row 5"),
        (CELLS, np.arange(5.0), r"'y' argument must have one value per architecture, shape \(6,\)\. Got \(5,\)"),
        (CELLS, np.zeros((6, 1)), r"'y' argument .* Got \(6, 1\)"),
        (CELLS, 3.0, r"'y' argument .* Got \(\)"),
        (CELLS, None, "'y' argument"),
        (CELLS, list("abcdef"), "'y' argument must hold numbers"),
        (CELLS, list("123456"), "'y' argument must hold numbers"),
        (CELLS, np.arange(6) + 1j, "'y' argument must hold numbers"),
        (CELLS, [[1.0], [2.0, 3.0]] * 3, "'y' argument must hold numbers"),
        (CELLS[:0], [], "needs at least one training architecture"),
        (CELLS[:, :5], np.arange(6.0), r"'genotypes' argument .* \[n, 6\]\. Got an array of shape \(6, 5\)"),
        (CELLS[0], np.arange(6.0), r"'genotypes' argument .* pass row\[None\]"),
        (CELLS + 4, np.arange(6.0), "takes values 0 to 4"),
        (CELLS - 0.5, np.arange(6.0), "'genotypes' argument .* must hold integers"),
        (["|nor_conv_3x3~0|"], [1.0], "'genotypes' argument"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_bad_training_data(name: str, genotypes: Any, y: Any, message: str) -> None:
    model = small(name, "nasbench201")
    with pytest.raises(ValueError, match=message):
        model.fit(genotypes, y)
    assert not hasattr(model, "target_")


@each_name
def test_bad_rows_to_predict(name: str, fitted: Fitted) -> None:
    model = fitted[name, "nasbench201"]
    for wrong in (CELLS[:, :5], CELLS[0], CELLS + 4, CELLS - 0.5):
        with pytest.raises(spaces.InvalidGenotypeError, match="nasbench201"):
            model.predict(wrong)
    with pytest.raises(spaces.InvalidGenotypeError):
        fitted[name, "nasbench101"].predict(CELLS)


def test_unknown_names() -> None:
    with pytest.raises(spaces.UnknownNameError, match=r"surrogate 'lightbgm'\. Did you mean 'lightgbm'\?"):
        surrogates.create("lightbgm", "nasbench201")
    with pytest.raises(spaces.UnknownNameError, match=r"search space 'nasbench21'\. Did you mean"):
        surrogates.create("lightgbm", "nasbench21")
    with pytest.raises(ValueError, match=r"'lightgbm' has no parameter 'depth'\. Known: .*num_leaves"):
        surrogates.create("lightgbm", "nasbench201", depth=3)
    with pytest.raises(spaces.UnknownNameError, match=r"model folder or pretrained model 'nowhere'.* 'nasbench101-"):
        surrogates.load("nowhere")


@each_name
def test_unknown_target(name: str) -> None:
    with pytest.raises(spaces.UnknownNameError, match=r"target transform 'ranks'\. Did you mean 'rank'\?"):
        small(name, "nasbench201", target="ranks").fit(CELLS, np.arange(6.0))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        *[
            (
                name,
                {parameter: bad},
                rf"The '{parameter}' parameter of \w+ must be an integer of at least {least}\. Got ",
            )
            for name, least, parameters in (
                ("auto", 1, ["n_jobs"]),
                ("extra_trees", 1, ["num_trees", "min_samples_leaf", "n_jobs"]),
                ("gaussian_process", 1, ["max_rows", "max_optimise", "iterations"]),
                ("gnn", 1, ["members", "width", "layers", "epochs"]),
                ("gnn", 2, ["batch_size"]),  # a batch of one has no pairs
                ("lightgbm", 1, ["members", "num_trees", "num_leaves", "min_child_samples", "n_jobs"]),
                *[(name, 0, ["random_state"]) for name in surrogates.names()],
            )
            for parameter in parameters
            for bad in (least - 1, 1.5, "2", True)
        ],
        *[
            (name, {parameter: bad}, rf"The '{parameter}' parameter of \w+ must be a number from .* to .*\. Got ")
            for name, parameters in (
                ("extra_trees", ["max_features"]),
                ("gnn", ["learning_rate", "weight_decay", "dropout"]),
                ("lightgbm", ["learning_rate", "feature_fraction", "subsample"]),
            )
            for parameter in parameters
            for bad in (-1, 11.0, float("nan"), "0.5")
        ],
        ("gnn", {"loss": "hinges"}, r"loss 'hinges'\. Did you mean 'hinge'\? Known: 'bce', 'hinge', 'listwise', "),
        ("gnn", {"device": "gpu"}, r"device 'gpu'.*Known: 'auto', 'cpu', 'cuda'"),
    ],
    ids=str,
)
def test_parameter_errors(name: str, params: dict[str, Any], message: str) -> None:
    model = small(name, "nasbench201", **params)
    with pytest.raises(ValueError, match=message):
        model.fit(CELLS, np.arange(6.0))
    with pytest.raises(NotFittedError):  # a failed fit leaves nothing half fitted
        model.predict(CELLS)


def test_a_device_that_is_not_there() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ValueError, match=r"'device' parameter of GNN is 'cuda'.* Use 'auto'"):
        small("gnn", "nasbench201", device="cuda").fit(CELLS, np.arange(6.0))


def test_interrupted_refit_is_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("gaussian_process", "nasbench201").fit(CELLS, np.arange(6.0))

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "_fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(CELLS, np.arange(6.0))
    with pytest.raises(NotFittedError):
        model.predict(CELLS)


def test_nothing_warns_about_a_usual_fit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small("auto", "nasbench201").fit(CELLS, np.arange(6.0)).predict(CELLS, return_std=True)
