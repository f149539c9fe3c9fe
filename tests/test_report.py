"""The report: what is recognised, what stands on the page, that nothing in it is loaded or runs that came with data."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_helpers import (
    ALGORITHMS,
    QUERIES,
    TRIALS,
    Page,
    evaluation_json,
    made_up_columns,
    made_up_table,
    write_oneshot,
    write_search,
    write_study,
    write_sweep,
)
from typer.testing import CliRunner

import tauzero as tz
from tauzero.benchmarks import Benchmark, Column, Table, write_store
from tauzero.cli import app
from tauzero.evaluation import report
from tauzero.evaluation._report import _charts, _parts
from tauzero.evaluation._report._registry import FIGURES, SOURCES, source_of
from tauzero.spaces import BenchmarkFormatError, UnknownNameError

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("report") / "study")


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page(report(study, study.parent / "study.html"))


# -- a study ----------------------------------------------------------------------------------


def test_study_shows_every_figure(page: Page) -> None:
    assert page.titles == [
        "Regret, objective table",
        "Regret, objective surrogate",
        "Test accuracy, objective table",
        "Test accuracy, objective surrogate",
        "Final results",
        "Who wins, objective table",
        "Who wins, objective surrogate",
        "Predictions against look-up",
        "Gain of predictions, with tests",
        "Best cells found",
    ]


def test_regret_is_drawn_from_the_curves(study: Path, page: Page) -> None:
    spec = page.chart("Regret, objective table")
    assert [c["label"] for c in spec["controls"]] == ["Over", "Line and band", "Scale"]
    assert [c["options"][0] for c in spec["controls"]] == ["queries", "median, quartiles", "logarithmic"]
    assert [entry["label"] for entry in spec["legend"]] == list(ALGORITHMS)
    curves = pd.read_parquet(study / "curves.parquet")
    chosen = curves[(curves["objective"] == "table") & (curves["axis"] == "queries")]
    # mean ± std is the third band; of its two scales the logarithmic comes first.
    traces = [spec["traces"][k] for k in spec["views"][2 * 2]["data"]]
    for algorithm in ALGORITHMS:
        rows = chosen[chosen["algorithm"] == algorithm]
        (line,) = [t for t in traces if t["legendgroup"] == algorithm and "hovertemplate" in t]
        known = np.array(line["customdata"])
        assert line["x"] == rows["x"].tolist()
        assert np.allclose(known[:, 0], rows["mean"], rtol=1e-4)
        assert np.allclose(known[:, 1], np.maximum(rows["mean"] - rows["std"], 0), rtol=1e-3, atol=1e-9)
        assert np.allclose(known[:, 2], rows["mean"] + rows["std"], rtol=1e-4)
    layouts = [view["layout"]["yaxis"].get("type") for view in spec["views"]]
    assert layouts == ["log", None] * (len(layouts) // 2)
    hours = spec["views"][len(spec["views"]) // 2]
    assert spec["traces"][hours["data"][-1]]["x"] == list(range(1, QUERIES + 1))
    assert "hours" in hours["layout"]["xaxis"]["title"]["text"]


def test_final_results_are_those_of_the_trials(study: Path, page: Page) -> None:
    header, *rows = page.table("Final results")
    assert header[:6] == ["objective", "algorithm", "trials", "regret, pp", "median regret", "optimum found"]
    assert len(rows) == 2 * len(ALGORITHMS)
    trials = pd.read_parquet(study / "trials.parquet")
    first = trials[(trials["objective"] == "table") & (trials["algorithm"] == ALGORITHMS[0])]
    regret = first["regret"]
    assert rows[0][:4] == ["table", ALGORITHMS[0], str(TRIALS), f"{regret.mean():.3f} ± {regret.std():.3f}"]
    assert rows[0][5] == f"{(regret <= 1e-9).sum()} of {TRIALS}"
    assert rows[0][header.index("simulated, h")] == "2"
    accuracy = first["test_accuracy"]
    assert rows[0][header.index("test, %")] == f"{accuracy.mean():.2f} ± {accuracy.std():.2f}"


def test_wins_are_antisymmetric_and_starred(study: Path, page: Page) -> None:
    spec = page.chart("Who wins, objective table")
    trace = spec["traces"][0]
    z = np.array(trace["z"], dtype=float)
    assert trace["y"] == list(ALGORITHMS)
    assert np.allclose(np.nan_to_num(z), -np.nan_to_num(z.T))
    tests = pd.read_parquet(study / "tests.parquet")
    one = tests[(tests["objective"] == "table") & (tests["algorithm_b"] == ALGORITHMS[2])].iloc[0]
    assert z[0, 2] == pytest.approx(one["mean_difference"], rel=1e-4)
    assert trace["text"][0][2].endswith("*")
    assert f"better in {one['wins']}, equal in 0, worse in {one['losses']} trials" in trace["customdata"][0][2]
    assert f"better in {one['losses']}, equal in 0, worse in {one['wins']} trials" in trace["customdata"][2][0]


def test_best_cells_are_drawn_with_their_finders(study: Path, page: Page) -> None:
    trials = pd.read_parquet(study / "trials.parquet")
    best = trials.sort_values("validation_accuracy", ascending=False)["arch"].iloc[0]
    count = int((trials["arch"] == best).sum())
    assert f"Found by {count} of {len(trials)} trials" in page.text
    assert f"<code>{best}</code>" in page.source
    assert page.source.count('<svg class="cell"') == 6


def test_every_figure_says_how_it_was_made(page: Page) -> None:
    assert page.source.count('<details class="origin">') == len(page.titles)
    for words in (
        "command tauzero study --benchmark nasbench201",
        "seeds 0 to 4",
        "numpy 2.0.0",
        "system Linux, cores 2",
    ):
        assert page.text.count(words) == len(page.titles), words


def test_an_algorithm_has_one_colour_everywhere(page: Page) -> None:
    colours: dict[str, set[str]] = {}
    for spec in page.specs:
        for entry in spec["legend"]:
            if entry["label"] in ALGORITHMS:
                colours.setdefault(entry["label"], set()).add(entry["colour"])
    assert colours == {name: {f"@{k}"} for k, name in enumerate(ALGORITHMS)}


def test_what_is_optional_may_be_missing(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study")
    for name in ("tests", "gains"):
        (folder / f"{name}.parquet").unlink()
    trials = pd.read_parquet(folder / "trials.parquet")
    trials[["objective", "algorithm", "trial", "regret"]].to_parquet(folder / "trials.parquet")
    curves = pd.read_parquet(folder / "curves.parquet")
    curves[["objective", "algorithm", "axis", "x", "mean", "std"]].to_parquet(folder / "curves.parquet")
    found = Page(report(folder, tmp_path / "page.html"))
    assert found.titles == ["Regret, objective table", "Regret, objective surrogate", "Final results"]
    assert found.specs[0]["controls"][1]["options"] == ["mean ± standard deviation", "mean alone"]


def test_facts_beside_one_another_and_several_commands(tmp_path: Path) -> None:
    """What was searched may stand beside the settings, and a study may have been extended."""
    folder = write_study(tmp_path / "study")
    facts = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    del facts["configuration"], facts["command"]
    facts |= {"benchmark": "nasbench201", "dataset": "cifar10", "settings": {"budget": 30}, "regret_in": "test words"}
    facts |= {"commands": ["tauzero study --trials 4", "tauzero study --trials 5"], "notes": ["A note."]}
    facts["left_out"] = [{"algorithm": "tpe", "objective": "proxy", "reason": "does not fit"}]
    (folder / "study.json").write_text(json.dumps(facts), encoding="utf-8")
    trials = pd.read_parquet(folder / "trials.parquet")
    trials["queries"] = 1000
    trials.to_parquet(folder / "trials.parquet")
    found = Page(report(folder, tmp_path / "page.html"))
    assert "<h1>Study: cifar10 on nasbench201</h1>" in found.source
    assert "command tauzero study --trials 4 tauzero study --trials 5 seeds" in found.text
    assert "budget 30" in found.text
    assert "A note. Left out: tpe proxy does not fit" in found.text
    assert found.source.count('<svg class="cell"') == 6
    assert {"true queries", "queries"} <= set(found.table("Final results")[0])


def test_a_grid_by_factors_has_a_logarithmic_axis(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study")
    curves = pd.read_parquet(folder / "curves.parquet")
    curves.loc[curves["axis"] == "seconds", "x"] = 3600.0 * 1.2 ** (curves["x"] / 3600)
    curves.to_parquet(folder / "curves.parquet")
    spec = Page(report(folder, tmp_path / "page.html")).chart("Regret, objective table")
    types = [view["layout"]["xaxis"].get("type") for view in spec["views"]]
    assert types == [None] * (len(types) // 2) + ["log"] * (len(types) // 2)


# -- an evaluation ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real `tauzero evaluate --out`, on a made-up table."""
    folder = tmp_path_factory.mktemp("evaluation")
    result = tz.evaluation.evaluate(made_up_table(), "cifar10", "all", [40, 80], ["bayesian_linear"], 2, keep=0)
    tz.evaluation.save_predictions(result.predictions, folder / "predictions.parquet")
    (folder / "evaluation.json").write_text(json.dumps(result.to_dict()), encoding="utf-8")
    return folder


def test_tau_against_size_with_the_noise_ceiling(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(evaluation_json()), encoding="utf-8")
    found = Page(report(file, tmp_path / "page.html"))
    spec = found.chart("Ranking by size of the training set")
    assert "Kendall's τ without copies of training cells" not in spec["controls"][0]["options"]  # None everywhere
    assert spec["controls"][0]["options"][0] == "Kendall's τ"
    auto, lightgbm, ceiling = (spec["traces"][k] for k in spec["views"][0]["data"])
    assert (auto["x"], auto["y"], auto["error_y"]["array"]) == ([50, 400], [0.625, 0.8], [0.01, 0.01])
    assert lightgbm["y"] == [0.725, 0.9]
    assert ceiling["y"] == [0.91, 0.91]
    assert spec["views"][0]["layout"]["xaxis"]["type"] == "log"
    header, *rows = found.table("All measures")
    assert header[:3] == ["model", "train", "tau"]
    assert rows[0][:3] == ["auto", "50", "0.625 ± 0.010"]


def test_several_evaluations_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "both.json"
    both = {"jigsaw": evaluation_json(dataset="jigsaw"), "normal": evaluation_json(dataset="normal")}
    file.write_text(json.dumps(both), encoding="utf-8")
    found = Page(report(file, tmp_path / "page.html"))
    labels = [entry["label"] for entry in found.specs[0]["legend"]]
    assert labels[:4] == ["jigsaw, auto", "jigsaw, lightgbm", "normal, auto", "normal, lightgbm"]


def test_the_results_in_the_repository_are_readable(tmp_path: Path) -> None:
    files = sorted((Path(__file__).resolve().parents[1] / "performance" / "results").glob("evaluate_*.json"))
    assert files
    found = Page(report(files, tmp_path / "page.html"))
    assert found.titles.count("All measures") == len(files)


def test_predictions_are_those_of_the_model(evaluated: Path) -> None:
    """Fitted again by hand with the same seed: index, truth, prediction and who was trained on."""
    table = made_up_table()
    frame = pd.read_parquet(evaluated / "predictions.parquet")
    part = frame[frame["train"] == 40].sort_values("index")
    split = tz.evaluation.protocol_split(table.space, "all", 40, 0, available=np.ones(15_625, dtype=bool))
    truth, cells = table.table("cifar10", "test_accuracy"), table.space.enumerate()
    model = tz.surrogates.create("bayesian_linear", table.space, random_state=0)
    mean, std = model.fit(cells[split.train], truth[split.train]).predict(cells, return_std=True)
    assert part["index"].tolist() == list(range(15_625))
    assert np.array_equal(part["truth"], truth)
    assert np.allclose(part["prediction"], mean)
    assert np.allclose(part["std"], std)
    assert sorted(part["index"][part["trained"]]) == sorted(split.train.tolist())
    assert not (part["trained"] & part["unseen"]).any()
    assert set(frame["seed"]) == {0}


def test_keep_must_be_one_of_the_seeds() -> None:
    with pytest.raises(ValueError, match=r"'keep' argument must be one of the seeds, \[0, 1\]. Got 5"):
        tz.evaluation.evaluate(made_up_table(), train_sizes=40, models="bayesian_linear", seeds=2, keep=5)


def test_predicted_against_true_and_calibration(evaluated: Path, tmp_path: Path) -> None:
    found = Page(report(evaluated, tmp_path / "page.html"))
    spec = found.chart("Predicted against true")
    assert [c["options"] for c in spec["controls"]] == [["bayesian_linear"], ["40", "80"]]
    density = spec["traces"][spec["views"][0]["data"][0]]
    assert density["type"] == "heatmap"  # 15,625 points are no scatter plot
    counted = sum(int(t.replace(",", "")) for line in density["text"] for t in line if t)
    note = spec["views"][0]["layout"]["annotations"][0]["text"]
    outside = int(re.findall(r"([\d,]+) outside", note)[0].replace(",", "")) if "outside" in note else 0
    assert counted + outside == 15_625
    frame = pd.read_parquet(evaluated / "predictions.parquet")
    part = frame[frame["train"] == 80]
    assert (
        f"τ = {tz.evaluation.kendall_tau(part['truth'], part['prediction']):.3f}"
        in spec["views"][1]["layout"]["annotations"][0]["text"]
    )
    curve = found.chart("Calibration of uncertainty")
    line = curve["traces"][curve["views"][1]["data"][0]]
    rows = part[part["unseen"]]
    inside = (rows["truth"] - rows["prediction"]).abs() <= 1.6448536 * rows["std"]
    assert line["y"][line["x"].index(90)] == pytest.approx(100 * inside.mean(), rel=1e-4)


# -- a sweep ----------------------------------------------------------------------------------


def test_sweep_alone(tmp_path: Path) -> None:
    found = Page(report(write_sweep(tmp_path / "sweep"), tmp_path / "page.html"))
    spec = found.chart("Rank correlation of proxies")
    z = spec["traces"][0]["z"]
    assert spec["traces"][0]["x"] == ["good", "bad", "jumpy"]
    assert z[0][0] == 1
    assert z[0][1] == -1
    assert "Scores against accuracy" not in found.titles
    assert found.table("Scores without a value")[1][:3] == ["no value", "jumpy", "2"]
    assert found.table("Scores without a value")[2][:3] == ["error", "out of memory", "1"]
    assert "8.0 s, 200 ms for each architecture" in found.text
    assert "tauzero score nasbench201 --out sweep" in found.text


def test_sweep_against_accuracy(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    found = Page(report(folder, tmp_path / "page.html", benchmark=made_up_table(), dataset="cifar10"))
    trace = found.chart("Rank correlation of proxies")["traces"][0]
    assert trace["x"][0] == "accuracy"
    assert trace["z"][0][1:3] == [1, -1]
    header, *rows = found.table("Proxies in numbers")
    assert [row[header.index("Kendall's τ")] for row in rows[:2]] == ["1.000", "−1.000"]
    points = found.chart("Scores against accuracy")
    assert points["controls"][0]["options"] == ["good", "bad", "jumpy"]
    assert "|" in points["traces"][0]["customdata"][0]  # hovering names the architecture


def test_sweep_and_table_must_be_of_one_space(tmp_path: Path) -> None:
    column = Column("cifar10", "test_accuracy", 90, None, "percent", np.full(32_768, 90.0))
    other = Benchmark(Table("natsbench_size", "natsbench_size", (column,), "CC0-1.0", {}))
    with pytest.raises(ValueError, match="must be a table of nasbench201, the space of the sweep"):
        report(write_sweep(tmp_path / "sweep"), tmp_path / "page.html", benchmark=other)


def test_unfinished_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    (folder / "scores.parquet").unlink()
    with pytest.raises(BenchmarkFormatError, match=r"not come to its end\. Run the same `tauzero score` again"):
        report(folder, tmp_path / "page.html")


# -- searches ---------------------------------------------------------------------------------


def test_a_search(tmp_path: Path) -> None:
    file = write_search(tmp_path / "run.parquet")
    found = Page(report(file, tmp_path / "page.html"))
    run = tz.search.Trajectory.load(file)
    spec = found.chart("Best value so far")
    assert spec["controls"][0]["options"] == ["queries", "simulated time"]
    assert np.allclose(spec["traces"][spec["views"][0]["data"][0]]["y"], run.incumbents, rtol=1e-4)
    assert spec["traces"][spec["views"][1]["data"][0]]["x"][:2] == [0.5, 1.0]
    front = found.chart("Value against cost")["traces"][1]
    best = run.values[run.pareto_front(["params"])]  # noqa: PD011 - no frame of pandas
    assert sorted(front["y"]) == pytest.approx(sorted(best), rel=1e-4)
    assert found.table("Searches in numbers")[1][:4] == [
        "random_search", "3", f"{run.best_value:.3f}", str(run.best_position + 1)
    ]  # fmt: skip


def test_a_folder_of_searches_is_one_section(tmp_path: Path) -> None:
    for algorithm, seed in (("random_search", 0), ("random_search", 1), ("regularized_evolution", 0)):
        write_search(tmp_path / "runs" / f"{algorithm}{seed}.parquet", algorithm, seed)
    found = Page(report(tmp_path / "runs", tmp_path / "page.html"))
    labels = [entry["label"] for entry in found.specs[0]["legend"]]
    assert labels == ["random_search", "random_search, seed 1", "regularized_evolution"]


# -- the page ---------------------------------------------------------------------------------


def test_several_sources_make_one_page(study: Path, tmp_path: Path) -> None:
    sources = [study, write_sweep(tmp_path / "sweep"), write_search(tmp_path / "run.parquet")]
    found = Page(report(sources, tmp_path / "page.html", title="All of it"))
    assert re.findall(r"<h1>(.*?)</h1>", found.source) == ["All of it"]
    assert found.source.count("<section ") == 3
    ids = [a["id"] for _, a in found.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in found.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert len(links) == 1 + 3 + len(found.titles)


def test_nothing_is_loaded(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"):
            value = attributes.get(name)
            assert value is None or (name == "href" and value.startswith("#")), (tag, name, value)
    assert {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "img", "base", "form"} == set()
    style = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)[0]
    assert "url(" not in style
    assert "@import" not in style
    own = page.scripts[-1]
    assert "sourceMappingURL" not in page.source
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?://(?!www\.w3\.org/2000/svg)", own)


def test_only_two_scripts_may_run(page: Page) -> None:
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    packed = next(s for s, (_, a) in zip(page.scripts, [t for t in page.tags if t[0] == "script"], strict=True)
                  if a.get("id") == "library")  # fmt: skip
    library = gzip.decompress(base64.b64decode(packed))
    for script in (page.scripts[-1].encode(), library):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    assert policy.count("sha256-") == 2
    assert b"plotly.js" in library[:500]


def test_a_page_is_a_few_megabytes(page: Page) -> None:
    assert 1e6 < len(page.source.encode()) < 4e6


def test_hostile_names_are_shown_and_do_not_run(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", (EVIL, "fine"), (EVIL, "surrogate"))
    facts = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    facts.update(command=EVIL, machine=EVIL, versions={EVIL: EVIL}, notes=[EVIL])
    facts["configuration"].update(benchmark=EVIL, dataset=EVIL)
    (folder / "study.json").write_text(json.dumps(facts), encoding="utf-8")
    trials = pd.read_parquet(folder / "trials.parquet")
    trials["arch"] = EVIL
    trials.to_parquet(folder / "trials.parquet")
    found = Page(report(folder, tmp_path / "page.html", title=EVIL))
    assert not [tag for tag, _ in found.tags if tag == "img"]
    kinds = [a.get("class") or a.get("id") or "page" for tag, a in found.tags if tag == "script"]
    assert kinds == ["spec"] * len(found.specs) + ["library", "page"]
    assert not any("onerror" in name for _, attributes in found.tags for name in attributes)
    assert EVIL in found.text  # escaped, and therefore shown as it is
    names = {t["name"] for spec in found.specs for t in spec["traces"] if "name" in t}
    assert (
        "&lt;/script&gt;&lt;script&gt;document.title='owned'&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in names
    )


def test_every_chart_is_one_that_the_library_knows(page: Page, evaluated: Path, tmp_path: Path) -> None:
    """plotly's own schema refuses properties that do not exist."""
    import plotly.graph_objects as go

    others = [evaluated, write_sweep(tmp_path / "sweep"), write_search(tmp_path / "run.parquet")]
    specs = [*page.specs, *Page(report(others, tmp_path / "page.html", benchmark=made_up_table())).specs]
    assert len(specs) > 12
    colours = re.compile(r'"@\w+(/[\d.]+)?"')
    for spec in specs:
        painted = json.loads(colours.sub('"#123456"', json.dumps(spec)))
        for view in painted["views"]:
            go.Figure([painted["traces"][k] for k in view["data"]], view["layout"])


def test_the_page_is_written_whole_or_not_at_all(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    assert report(study, out) == out
    before = out.read_bytes()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "study.json").write_text((study / "study.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(BenchmarkFormatError):
        report([study, damaged], out)
    assert out.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["page.html"]


# -- what cannot be reported ------------------------------------------------------------------


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.json").write_text('{"rows": [1]}', encoding="utf-8")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    for name in ("empty", "notes.json", "list.json", "other.parquet"):
        with pytest.raises(
            ValueError, match=f"{name}' is nothing that a report can be made of. Expected the folder of"
        ):
            report(tmp_path / name, tmp_path / "page.html")
    with pytest.raises(FileNotFoundError, match="nothing at"):
        report(tmp_path / "absent", tmp_path / "page.html")
    with pytest.raises(ValueError, match="at least one file or folder"):
        report([], tmp_path / "page.html")


def test_damaged_studies_say_what_is_wrong(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study")
    (folder / "trials.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(BenchmarkFormatError, match=r"trials.parquet' is not a readable Parquet file"):
        report(folder, tmp_path / "page.html")
    pd.DataFrame({"objective": ["table"]}).to_parquet(folder / "trials.parquet")
    with pytest.raises(BenchmarkFormatError, match="lacks the columns algorithm, trial, regret"):
        report(folder, tmp_path / "page.html")
    (folder / "trials.parquet").unlink()
    with pytest.raises(BenchmarkFormatError, match=r"lacks the file trials.parquet"):
        report(folder, tmp_path / "page.html")
    (folder / "study.json").write_text('{"format": "tauzero.study", "version": 9}', encoding="utf-8")
    with pytest.raises(BenchmarkFormatError, match="a study of version 9; this tauzero reads version 1"):
        report(folder, tmp_path / "page.html")


def test_dataset_and_metric_need_a_table(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need 'benchmark'"):
        report(study, tmp_path / "page.html", dataset="cifar10")
    with pytest.raises(UnknownNameError, match="metric"):
        report(study, tmp_path / "page.html", benchmark=made_up_table(), metric="beauty")


def test_without_the_extra(study: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        f"from tauzero.evaluation import report\nreport({str(study)!r}, {str(tmp_path / 'page.html')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MissingExtraError: A report needs the extra 'report': pip install 'tauzero[report]'." in done.stderr


# -- pieces -----------------------------------------------------------------------------------


def test_registries_agree() -> None:
    assert SOURCES.keys() == FIGURES.keys()
    assert all(FIGURES.values())


def test_kinds_do_not_recognise_one_another(study: Path, evaluated: Path, tmp_path: Path) -> None:
    places = {
        "study": study,
        "evaluation": evaluated,
        "sweep": write_sweep(tmp_path / "sweep"),
        "trajectory": write_search(tmp_path / "run.parquet"),
        "oneshot": write_oneshot(tmp_path / "darts"),
    }
    for kind, path in places.items():
        assert [name for name, source in SOURCES.items() if source.recognises(path)] == [kind]
        assert source_of(path) == kind


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (float("nan"), "–"), (0.0, "0"), (7, "7"), (1234567, "1,234,567"), (1093.7, "1,094"),
        (-16.04, "−16.04"),
        (0.123456, "0.1235"), (2e-7, "2e-07"), (3.0, "3"), (-1500.4, "−1,500"), (1e30, "1e+30"),
    ],
)  # fmt: skip
def test_numbers_for_people(value: float | None, text: str) -> None:
    assert _parts.number(value) == text


def test_differences_for_people() -> None:
    assert [_parts.signed(v, 2) for v in (0.126, -0.126, 0.001, -0.001, 0.0)] == [
        "+0.13",
        "−0.13",
        "0.00",
        "0.00",
        "0.00",
    ]


def test_zero_regret_on_a_logarithmic_axis() -> None:
    regret = np.array([1.0, 0.1, 0.0])
    band = _charts.Band("a", np.array([1.0, 2.0, 3.0]), regret, regret, regret)
    view = _charts.bands([band], _parts.Styles(), x="x", y="y", log=True)
    (line,) = view.data  # a band without width is not drawn
    floor = line["y"][-1]
    assert 0 < floor < 0.1
    assert line["customdata"][-1] == [0, 0, 0]
    ticks = dict(zip(view.layout["yaxis"]["ticktext"], view.layout["yaxis"]["tickvals"], strict=True))
    assert ticks["0"] == pytest.approx(floor, rel=1e-3)
    assert view.layout["yaxis"]["range"][0] == pytest.approx(np.log10(floor), rel=1e-3)


def test_all_at_the_optimum_needs_no_logarithm() -> None:
    zero = np.zeros(3)
    view = _charts.bands([_charts.Band("a", zero, zero, zero, zero)], _parts.Styles(), x="x", y="y", log=True)
    assert view.layout["yaxis"].get("type") is None


def test_long_curves_are_thinned_with_their_ends() -> None:
    x = np.arange(5000.0)
    view = _charts.bands([_charts.Band("a", x, x, x, x)], _parts.Styles(), x="x", y="y")
    drawn = view.data[0]["x"]
    assert len(drawn) <= 200
    assert (drawn[0], drawn[-1]) == (0, 4999)


def test_many_names_differ_in_colour_or_dash() -> None:
    styles = _parts.Styles()
    looks = {(styles.colour(str(k)), styles.dash(str(k))) for k in range(21)}
    assert len(looks) == 21


def test_a_chart_has_a_view_for_each_choice() -> None:
    with pytest.raises(ValueError, match=r"one view for each combination of its controls, 2. Got 1"):
        _parts.Chart("a", (_parts.View([], {}),), (_parts.Control("b", ("c", "d")),))


# -- the command line -------------------------------------------------------------------------


def test_report_command(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", str(study), "--out", str(out), "--title", "Mine", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["out"] == str(out)
    assert facts["bytes"] == out.stat().st_size
    assert "<title>Mine</title>" in out.read_text(encoding="utf-8")


def test_report_command_refuses(study: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "page.html")
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--out", out])
    assert done.exit_code == 2
    assert "is nothing that a report can be made of" in done.stderr
    done = CliRunner().invoke(app, ["report", str(study), "--out", out, "--dataset", "cifar10"])
    assert done.exit_code == 2
    assert "need --benchmark NAME" in done.stderr


def test_commands_write_what_a_report_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """evaluate --out, score --out and search --out, with the commands that a page then shows."""
    store = tmp_path / "table.arrow"
    write_store(made_up_columns(), store)
    runs = {
        "evaluation": ["evaluate", "nasbench201", "--train", "40", "--model", "bayesian_linear", "--seeds", "1"],
        "sweep": ["score", "nasbench201", "--proxies", "params,flops", "--sample", "12"],
        "search.parquet": ["search", "nasbench201", "--budget", "12"],
    }
    for name, words in runs.items():
        source = [] if name == "sweep" else ["--source", str(store)]
        arguments = [*words, *source, "--out", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", ["tauzero", *arguments])
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    found = Page(report([tmp_path / name for name in runs], tmp_path / "page.html"))
    for words in runs.values():
        assert f"command {' '.join(['tauzero', *words])}" in found.text
    assert "Predicted against true" in found.titles
    assert len(tz.search.Trajectory.load(tmp_path / "search.parquet")) == 12
