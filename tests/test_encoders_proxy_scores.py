"""Proxy scores as features: columns, architectures, merging, ranks, gaps, and models that need no file."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tauzero import encoders, spaces, surrogates
from tauzero.encoders import ProxyScores
from tauzero.spaces import BenchmarkFormatError

SPACE = spaces.get("nasbench201")
DARTS = spaces.get("darts")
MACRO = spaces.get("transnas_macro")


def made(space: spaces.SearchSpace, scores: Any, **params: Any) -> ProxyScores:
    encoder = encoders.create("proxy_scores", space, scores=scores, **params)
    assert isinstance(encoder, ProxyScores)
    return encoder


def quantiles(values: list[float]) -> list[float]:
    """Φ⁻¹((mean rank − ½)/n), by counting."""
    ranks = [sum(b < a for b in values) + (1 + sum(b == a for b in values)) / 2 for a in values]
    return [NormalDist().inv_cdf((rank - 0.5) / len(values)) for rank in ranks]


# -- ranks and gaps ---------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-np.inf, -1e30, -2.0, 0.0, 1e-9, 3.0, 1e40, np.inf]), min_size=2, max_size=30))
def test_scores_become_normal_quantiles_of_their_ranks(values: list[float]) -> None:
    encoder = made(MACRO, {"index": np.arange(len(values)), "proxy": np.array(values)})
    features = encoder.transform(MACRO.enumerate()[: len(values)])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, 0], np.float32(quantiles(values)), atol=1e-6)


def test_order_decides_and_no_accuracy_enters() -> None:
    rng = np.random.default_rng(0)
    score = rng.standard_normal(200)
    index = rng.choice(MACRO.size, 200, replace=False)
    one = made(MACRO, {"index": index, "a": score})
    two = made(MACRO, {"index": index, "a": np.exp(50 * score)})
    rows = MACRO.enumerate()
    np.testing.assert_array_equal(one.transform(rows), two.transform(rows))


def test_equal_networks_share_the_mean_of_their_finite_scores() -> None:
    classes = SPACE.classes()
    members = np.flatnonzero(classes == np.bincount(classes).argmax())[:4]
    others = np.flatnonzero(np.bincount(classes)[classes] == 1)[:5]
    index = np.concatenate([members, others])
    # Means 4 (of 3 and 5) and, for the second proxy, -inf as there is nothing finite.
    first = np.array([3.0, np.inf, np.nan, 5.0, 1.0, 3.9, 4.1, np.nan, 7.0])
    second = np.array([-np.inf, np.nan, -np.inf, np.nan, 1.0, 2.0, 3.0, 4.0, 5.0])
    encoder = made(SPACE, {"index": index, "first": first, "second": second})
    features = encoder.transform(SPACE.enumerate()[index])
    assert (features[:4] == features[0]).all()
    np.testing.assert_allclose(features[[4, 5, 0, 6, 8], 0], quantiles([1, 2, 3, 4, 5]), atol=1e-6)
    np.testing.assert_allclose(features[[0, *range(4, 9)], 1], quantiles([1, 2, 3, 4, 5, 6]), atol=1e-6)
    copies = np.setdiff1d(np.flatnonzero(classes == classes[members[0]]), members)[:10]
    np.testing.assert_array_equal(encoder.transform(SPACE.enumerate()[copies]), np.tile(features[0], (10, 1)))
    as_written = made(SPACE, {"index": index, "first": first, "second": second}, canonical=False)
    assert (as_written.transform(SPACE.enumerate()[copies])[:, 2:] == 1).all()  # unknown strings
    both = made(SPACE, {"index": members[:2], "x": np.array([np.inf, -np.inf]), "y": np.array([1.0, 2.0])})
    assert both.columns == ["y"] or "missing[x]" in both.feature_names


def test_patterns_of_missing_scores() -> None:
    n = 2_000
    rows = DARTS.distinct(DARTS.sample(n, 0))[0]
    columns = {name: np.arange(n, dtype=np.float64) for name in "abcdef"}
    columns["b"][:500] = columns["c"][:500] = np.nan
    columns["d"][400:900] = np.nan
    columns["e"][:2] = np.nan  # 0.1 % of the rows: no more than that
    columns["f"][:3] = np.nan
    encoder = made(DARTS, {"arch": DARTS.to_string(rows), **columns})
    assert encoder.feature_names == [*"abcdef", "missing[b and 1 more]", "missing[d]", "missing[f]"]
    features = encoder.transform(rows)
    for mark, name in ((6, "b"), (6, "c"), (7, "d"), (8, "f")):
        gap = np.isnan(columns[name])
        np.testing.assert_array_equal(features[:, mark], gap)
        assert (features[gap, "abcdef".index(name)] == 0).all()
    assert [family.tolist() for family in encoder.families] == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]
    stranger = encoder.transform(DARTS.sample(3, 77))
    np.testing.assert_array_equal(stranger, np.tile([0] * 6 + [1] * 3, (3, 1)))


def test_what_a_table_lacks_of_an_enumerable_space_is_missing() -> None:
    index = np.arange(100)
    encoder = made(MACRO, {"index": index, "a": index * 1.0, "b": index * 2.0})
    assert encoder.feature_names == ["a", "b", "missing[a and 1 more]"]
    features = encoder.transform(MACRO.enumerate())
    assert features[:100, 2].max() == 0
    assert (features[100:] == [0, 0, 1]).all()
    whole = made(MACRO, {"index": np.arange(MACRO.size), "a": np.arange(MACRO.size) * 1.0})
    assert whole.feature_names == ["a"]
    assert [family.tolist() for family in whole.families] == [[0]]


# -- architectures ----------------------------------------------------------------------------


def cells(rows: np.ndarray, kind: int) -> list[str]:
    nodes = rows.reshape(-1, 2, 4, 4)[:, kind].tolist()
    return [json.dumps([pair for a, b, x, y in cell for pair in ([a, x], [b, y])]) for cell in nodes]


def sources(rows: np.ndarray, space: spaces.SearchSpace) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"arch": {"arch": space.to_string(rows)}}
    found["op columns"] = {f"op{k}": rows[:, k] for k in range(space.length)}
    if space.enumerable:
        found["index"] = {"index": space.index(rows)}
    else:
        found["json"] = {"normal": cells(rows, 0), "reduce": cells(rows, 1)}
        found["lists"] = {k: [json.loads(text) for text in v] for k, v in found["json"].items()}
    # What says more is believed: a wrong index beside strings is not looked at.
    found["arch before index"] = found["arch"] | {"index": np.arange(len(rows))[::-1]}
    found["op columns before index"] = found["op columns"] | {"index": np.arange(len(rows))[::-1]}
    return found


@pytest.mark.parametrize("name", ["nasbench201", "transnas_micro", "transnas_macro", "nasbench101", "darts"])
@pytest.mark.parametrize("how", ["mapping", "frame", "file"])
def test_architectures_are_read_however_they_are_given(name: str, how: str, tmp_path: Path) -> None:
    space = spaces.get(name)
    rows = space.distinct(space.sample(40, 1))[0]
    score = np.arange(len(rows)) * 1.5
    expected = None
    for key, columns in sources(rows, space).items():
        scores: Any = {**columns, "zen": score}
        if how != "mapping":
            scores = pd.DataFrame({k: list(v) for k, v in scores.items()})
        if how == "file":
            scores.to_parquet(tmp_path / "s.parquet")
            scores = tmp_path / "s.parquet"
        features = made(space, scores).transform(rows)
        assert np.ptp(features[:, 0]) > 3, key
        expected = features if expected is None else expected
        np.testing.assert_array_equal(features, expected, err_msg=key)


def test_index_is_the_position_in_the_space_and_nothing_else() -> None:
    """NAS-Bench-101 files number cells by the rank of their hash, which is not `space.index`: give `arch`."""
    space = spaces.get("nasbench101")
    rows = space.enumerate()[[5, 400_000]]
    encoder = made(space, {"index": [5, 400_000], "zen": [1.0, 2.0]})
    assert encoder.transform(rows)[:, 0].tolist() == encoder.transform(encoder.known)[:, 0].tolist()
    assert "space.index" in (ProxyScores.__doc__ or "")


def test_nullable_columns_of_pandas() -> None:
    frame = pd.DataFrame({"index": pd.array([0, 1, 2], "Int32"), "a": pd.array([1, None, 3], "Int64")})
    features = made(MACRO, frame).transform(MACRO.enumerate()[:3])
    assert features[:, 1].tolist() == [0, 1, 0]
    assert features[0, 0] < features[1, 0] == 0 < features[2, 0]


def test_scores_written_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from tauzero.cli import app

    monkeypatch.chdir(tmp_path)
    arguments = ["score", "nasbench201", "--proxies", "params,flops", "--sample", "30", "--out", "scores", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    for source in ("scores", tmp_path / "scores" / "scores.parquet"):
        encoder = made(SPACE, source, canonical=False)  # equal networks may have unused parameters
        assert encoder.columns == ["params", "flops"]
        features = encoder.transform(SPACE.enumerate()[[row["index"] for row in rows]])
        order = np.argsort([row["params"] for row in rows], kind="stable")
        assert (np.diff(features[order, 0]) >= 0).all()
    with pytest.raises(BenchmarkFormatError, match="space 'nasbench201', not of 'transnas_micro'"):
        made(spaces.get("transnas_micro"), "scores")


# -- columns ----------------------------------------------------------------------------------

TABLE = {
    "index": np.arange(5),
    "nbsz_idx": np.arange(5),
    "note": list("abcde"),
    **{f"{what}_scene": np.arange(5.0) for what in ("zen", "nwot", "val_accuracy", "bestval", "test200", "train")},
    "zen_jigsaw": np.arange(5.0)[::-1],
    "plain": np.arange(5.0),
    "valid_acc": np.arange(5.0),
    "trainable_params": np.arange(5),
    "empty": np.full(5, np.nan),
}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (None, ["zen_scene", "nwot_scene", "zen_jigsaw", "plain", "trainable_params"]),
        ("*_scene", ["zen_scene", "nwot_scene"]),
        (["plain", "zen_*"], ["zen_scene", "zen_jigsaw", "plain"]),
        ("val_accuracy_scene", ["val_accuracy_scene"]),
        (["*_scene", "test200_scene"], ["zen_scene", "nwot_scene", "test200_scene"]),
        ("nbsz_idx", ["nbsz_idx"]),
        ("*", ["zen_scene", "nwot_scene", "zen_jigsaw", "plain", "trainable_params"]),
    ],
)
def test_columns(columns: Any, expected: list[str]) -> None:
    assert made(MACRO, TABLE, columns=columns).columns == expected


BAD = {
    "no scores": (None, {}, "Got none"),
    "a number": (3, {}, "Got int"),
    "no such column": (TABLE, {"columns": "synflow"}, r"No column of the scores fits 'synflow'\. Known: 'zen_scene'"),
    "a pattern of accuracies only": (
        TABLE, {"columns": "val_*"}, r"fits 'val_\*'. \('val_accuracy_scene' would have to be named in full"
    ),
    "one of several patterns": (TABLE, {"columns": ["zen_*", "flops"]}, "fits 'flops'"),
    "text": (TABLE, {"columns": "note"}, "'note' of the scores does not hold numbers"),
    "nothing": (TABLE, {"columns": []}, "'columns' parameter"),
    "no name": (TABLE, {"columns": [3]}, "'columns' parameter"),
    "an empty column": (TABLE, {"columns": "empty"}, "'empty' of the scores has no value"),
    "only empty columns": ({"index": [1, 2], "a": [np.nan, np.nan]}, {}, "None of the columns 'a'"),
    "no architectures": ({"zen": [1.0]}, {}, "do not say which architecture.*'arch', or 'op0' to 'op5', or 'index'"),
    "no proxies": ({"index": [1], "val_accuracy": [1.0]}, {}, "no column of proxies"),
    "no rows": ({"index": np.zeros(0, int), "zen": np.zeros(0)}, {}, "no rows"),
    "different lengths": ({"index": [1, 2], "zen": [1.0]}, {}, r"must have 2 values. Got shape \(1,\)"),
    "index too large": ({"index": [1, 3_256], "zen": [1.0, 2.0]}, {}, "0 to 3255.*Got 3256 in row 1"),
    "index not whole": ({"index": [1.0, np.nan], "zen": [1.0, 2.0]}, {}, "'index' of the scores must hold integers"),
    "another space": ({"arch": ["64-41414-3_02_133"], "zen": [1.0]}, {}, "none of transnas_macro: String 0"),
    "operations of another space": (
        {**{f"op{k}": [0] for k in range(6)}, "zen": [1.0]}, {}, "none of transnas_macro: Row 0 is not a member"
    ),
    "scores and arrays": (TABLE, {"arrays": {}}, "beside 'arrays'"),
    "incomplete arrays": (None, {"arrays": {"scores": np.zeros((1, 1))}}, "lacks genotypes"),
    "arrays without columns": (
        None, {"arrays": {"genotypes": MACRO.enumerate()[:2], "scores": np.zeros((2, 1))}}, "2 genotypes and 0 columns"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    scores, params, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        made(MACRO, scores, **params)


def test_bad_cells_and_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"do not say which.*'arch', or 'op0' to 'op31', or 'normal' and 'reduce'"):
        made(DARTS, {"index": [1], "zen": [1.0]})
    with pytest.raises(ValueError, match="Row 0 has a cell that is no JSON"):
        made(DARTS, {"normal": ["x"], "reduce": ["y"], "zen": [1.0]})
    with pytest.raises(BenchmarkFormatError, match="There is no file of scores"):
        made(DARTS, tmp_path / "nowhere.parquet")
    with pytest.raises(BenchmarkFormatError, match="There is no file of scores"):
        made(DARTS, tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(BenchmarkFormatError, match="no readable Parquet file"):
        made(DARTS, tmp_path / "x.parquet")
    pq.write_table(
        pa.table({"arch": pa.array([], pa.string()), "zen": pa.array([], pa.float64())}), tmp_path / "e.parquet"
    )
    with pytest.raises(ValueError, match="no rows"):
        made(DARTS, tmp_path / "e.parquet")


# -- encoder contract and models --------------------------------------------------------------


def random_scores(space: spaces.SearchSpace, n: int = 3_000) -> dict[str, Any]:
    rows = space.distinct(space.sample(n, 0))[0]
    rng = np.random.default_rng(0)
    quality = space.descriptors(rows)[:, -1] if space.descriptor_names else rows.sum(axis=1)
    noise = rng.standard_normal((2, len(rows)))
    return {
        "arch": space.to_string(rows),
        "good": quality * 3.0 + 0.1 * noise[0],
        "noise": np.where(noise[1] > 1, np.nan, noise[0]),
    }


@pytest.mark.parametrize("name", ["transnas_macro", "darts"])
def test_made_again_from_its_arrays(name: str) -> None:
    space = spaces.get(name)
    encoder = made(space, random_scores(space))
    params = json.loads(json.dumps(encoder.get_params()))
    again = encoders.create("proxy_scores", space, **params, arrays=encoder.arrays())
    rows = np.concatenate([encoder.known[:50], space.sample(50, 5)])
    expected = encoder.transform(rows)
    assert again.feature_names == encoder.feature_names
    np.testing.assert_array_equal(again.transform(rows), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(rows), expected)
    np.testing.assert_array_equal(
        np.concatenate([encoder.transform(rows[k : k + 7]) for k in range(0, 100, 7)]), expected
    )
    assert encoder.transform(rows[:0]).shape == (0, encoder.dimension)
    assert expected.dtype == np.float32
    assert expected.flags.c_contiguous
    assert np.isfinite(expected).all()
    assert len(set(encoder.feature_names)) == encoder.dimension
    with pytest.raises(spaces.InvalidGenotypeError, match="Got an array of shape"):
        encoder.transform(rows[:, :3])
    joined = encoders.union(encoder, encoders.create("onehot", space))
    np.testing.assert_array_equal(joined.transform(rows)[:, : encoder.dimension], expected)
    assert "2 proxies" in repr(encoder)


def test_a_saved_model_needs_no_file(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    pd.DataFrame(random_scores(MACRO)).to_parquet(file)
    rows = MACRO.enumerate()[::40]
    y = 60 + MACRO.descriptors(rows)[:, -1]
    model = surrogates.create("gaussian_process", MACRO, encoders=[("proxy_scores", {"scores": str(file)})])
    model.fit(rows, y)
    assert "proxy_scores:good" in model._features.names
    expected = model.predict(MACRO.enumerate())
    model.save(tmp_path / "model")
    file.unlink()
    code = (
        "import sys, numpy as np, tauzero as tz\n"
        "model = tz.surrogates.load(sys.argv[1])\n"
        "np.save(sys.argv[2], model.predict(model.space_.enumerate()))\n"
    )
    answer = tmp_path / "answer.npy"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model"), str(answer)], check=True, env=os.environ)
    np.testing.assert_allclose(np.load(answer), expected, rtol=0, atol=1e-9)


def test_proxies_help_a_model_that_sees_few_architectures() -> None:
    rng = np.random.default_rng(1)
    quality = rng.standard_normal(MACRO.size)  # nothing that the graph tells
    scores = {"index": np.arange(MACRO.size), "proxy": quality + 0.3 * rng.standard_normal(MACRO.size)}
    rows = MACRO.enumerate()
    train = rng.choice(MACRO.size, 60, replace=False)
    taus = []
    for extra in ((), (made(MACRO, scores),)):
        model = surrogates.create("gaussian_process", MACRO, encoders=extra).fit(rows[train], 70 + quality[train])
        order = np.argsort(model.predict(rows))
        taus.append(np.corrcoef(order.argsort(), quality.argsort().argsort())[0, 1])
    assert taus[0] < 0.3
    assert taus[1] > 0.8


# -- real files -------------------------------------------------------------------------------


def test_real_files(shared_data: Path) -> None:
    nb201 = made(SPACE, shared_data / "nb201" / "nb201_proxies.parquet", columns="nbsz_*_c10")
    assert len(nb201.columns) == 14
    assert not any("accuracy" in name for name in nb201.columns)
    assert nb201.feature_names == nb201.columns  # every network has a scored copy
    for name in ("micro", "macro"):
        space = spaces.get(f"transnas_{name}")
        file = shared_data / "transnas101" / f"tnb101_{name}.parquet"
        encoder = made(space, file, columns="*_class_scene")
        assert {"zen_class_scene", "synflow_class_scene"} <= set(encoder.columns)
        assert not any("val" in column for column in encoder.columns)
        # Its `index` counts the file's rows; the operations are what counts.
        frame = pq.read_table(file).to_pandas()
        features = encoder.transform(frame[[f"op{k}" for k in range(6)]].to_numpy())
        zen = features[:, encoder.columns.index("zen_class_scene")]
        assert np.corrcoef(zen.argsort().argsort(), frame["zen_class_scene"].rank())[0, 1] > 0.9
    darts = made(DARTS, shared_data / "other_spaces" / "nasbench301_naslib.parquet")
    assert len(darts.known) == 12_439
    assert len(darts.columns) == 13
    assert darts.feature_names[13:] == ["missing[zen]", "missing[nwot]", "missing[flops and 10 more]"]
