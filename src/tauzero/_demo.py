"""The steps of ``tauzero demo``: what the package is for, in one go, on a real table."""

from __future__ import annotations

__all__ = ["DATASET", "Step", "run_demo"]

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from tauzero import benchmarks, evaluation, search, spaces, surrogates
from tauzero.benchmarks import Benchmark, MissingTableError
from tauzero.spaces import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATASET = "cifar10"
#: The table that comes with the package, for those who have no other.
_EMBEDDED = "digits201"
_PRETRAINED_201 = "nasbench201-cifar10"
_PRETRAINED_101 = "nasbench101-cifar10"
_TRAIN = 156
_CHECKED = 50
_SEEDS = 5
_SCORED = 30
_PROXIES = ("nwot", "synflow")
_TOP = 5
_CHUNK = 32_768

#: Shows the progress of a named piece of work; gives None where nobody looks.
ProgressBar: TypeAlias = Callable[[str], AbstractContextManager[Progress | None]]


@dataclass(frozen=True)
class Step:
    """What one step found.

    Attributes
    ----------
    name
        Key in the JSON summary.
    title
        Heading for people.
    seconds
        Wall time.
    facts
        JSON-able figures.
    lines
        Label and value for people, in order.
    table
        Column names and rows for people; empty if `lines` say it all.
    plots
        Files written.
    """

    name: str
    title: str
    seconds: float
    facts: dict[str, Any]
    lines: list[tuple[str, Any]]
    table: tuple[list[str], list[list[Any]]] = field(default_factory=lambda: ([], []))
    plots: tuple[Path, ...] = ()


def run_demo(out: Path, seed: int, bar: ProgressBar) -> Iterator[Step]:
    """Run the demo, yielding each step when it is done.

    Parameters
    ----------
    out
        An existing folder for the plots.
    seed
        Seed of everything random.
    bar
        Where progress is shown.
    """
    start = perf_counter()
    note = ""
    try:
        try:
            table = benchmarks.load("nasbench201")
        except MissingTableError as missing:
            if _EMBEDDED not in benchmarks.names():
                raise
            table, note = benchmarks.load(_EMBEDDED), str(missing)
    except MissingTableError as error:
        yield Step("table", "No table", perf_counter() - start, {"table": None}, [("why", str(error))])
        yield _pretrained(_PRETRAINED_201, "NAS-Bench-201", bar)
        yield _scores(None, out, seed, bar)
        yield _search_predictions(out, seed)
    else:
        yield _describe(table, perf_counter() - start, note)
        yield _fit_and_predict(table, out, seed)
        yield _scores(table, out, seed, bar)
        yield _compare(table, out, bar)
    yield _pretrained(_PRETRAINED_101, "NAS-Bench-101", bar)


def _save(figure: Figure, path: Path) -> Path:
    return evaluation.plots.save(figure, path)


def _dataset(table: Benchmark) -> str:
    return DATASET if DATASET in table.datasets else table.datasets[0]


def _title(table: Benchmark) -> str:
    return "NAS-Bench-201" if table.name == "nasbench201" else table.name


def _accuracy_name(table: Benchmark) -> str:
    """Such as ``validation accuracy (%)``: the extra's table has no test accuracies, and plots must say so."""
    return f"{table.default_metric.replace('_', ' ')} (%)"


def _describe(table: Benchmark, seconds: float, note: str) -> Step:
    info = table.info()
    provenance = info["provenance"]
    origin = provenance.get("package") or provenance.get("path") or str(table.path)
    metric = table.default_metric
    budget = max(table.epochs(_dataset(table), metric), default=None)
    runs = table.runs(_dataset(table), metric)
    facts = {
        "table": info["name"],
        "rows": info["rows"],
        "metric": metric,
        "epochs": budget,
        "runs": len(runs),
        "origin": origin,
        "licence": info["licence"],
        "path": info["path"],
    }
    lines = [
        ("architectures", info["rows"]),
        ("datasets", ", ".join(info["datasets"])),
        ("judged by", f"{metric.replace('_', ' ')} on {_dataset(table)} after {budget} epochs, mean over runs"),
        ("runs per architecture", f"up to {len(runs)}" if runs else "mean only"),
        ("origin", origin),
        ("licence", info["licence"]),
        *(
            [("note", f"This is the table of the package: NAS-Bench-201's cells, small, on small images. {note}")]
            if note
            else []
        ),
    ]
    return Step("table", f"The table: {_title(table)}", seconds, facts, lines)


def _fit_and_predict(table: Benchmark, out: Path, seed: int) -> Step:
    """Fit the default surrogate on 156 cells and rank the whole space."""
    import numpy as np

    space, metric = table.space, table.default_metric
    begin = perf_counter()
    everything = space.enumerate()
    truth = table.table(_dataset(table), metric)
    split = evaluation.protocol_split(space, "all", _TRAIN, seed, available=np.isfinite(truth))
    _, cost = table.query(everything, _dataset(table), metric, return_cost=True)
    start = perf_counter()
    model = surrogates.create("auto", space, random_state=seed)
    model.fit(everything[split.train], truth[split.train])
    fitted = perf_counter()
    mean, std = model.predict(everything, return_std=True)
    predicted = perf_counter()
    others = np.setdiff1d(split.test, split.train)
    facts = {
        "train": _TRAIN,
        "predicted": len(mean),
        "tau": evaluation.kendall_tau(truth[split.test], mean[split.test]),
        "tau_not_trained_on": evaluation.kendall_tau(truth[others], mean[others]),
        "spearman": evaluation.spearman(truth[split.test], mean[split.test]),
        "p_at_1": evaluation.precision_at_k(truth[split.test], mean[split.test], 0.01),
        "n_at_10": evaluation.n_at_k(truth[split.test], mean[split.test], 10),
        "noise_ceiling": _noise_ceiling(table),
        "mean_std": float(std.mean()),
        "training_days_paid": float(cost[split.train].sum()) / 86_400,
        "training_days_of_all": float(cost.sum()) / 86_400,
        "fit_s": fitted - start,
        "predict_s": predicted - fitted,
    }
    figure = evaluation.plots.predicted_vs_true(
        truth[split.test],
        mean[split.test],
        title=f"{_title(table)}, {_dataset(table)}: trained on {_TRAIN} cells",
        unit=_accuracy_name(table),
        train=np.flatnonzero(np.isin(split.test, split.train)),
    )
    plot = _save(figure, out / "predicted_vs_true.png")
    ceiling = facts["noise_ceiling"]
    lines: list[tuple[str, Any]] = [
        ("trained on", f"{_TRAIN} random cells (seed {seed}), fitted in {facts['fit_s']:.2f} s"),
        ("predicted", f"{len(mean):,} cells in one call, {facts['predict_s']:.2f} s"),
        ("Kendall's tau", f"{facts['tau']:.3f} (without the training cells {facts['tau_not_trained_on']:.3f})"),
        ("Spearman's rho", f"{facts['spearman']:.3f}"),
        ("precision@1 %", f"{facts['p_at_1']:.2f} (chance: 0.01)"),
        ("best of the predicted top 10", f"rank {facts['n_at_10']:,} of {len(mean):,}"),
        ("tau between two training runs", "–" if ceiling is None else f"{ceiling:.3f} (the noise ceiling)"),
        (
            "training paid for",
            _paid(float(cost[split.train].sum()), float(cost.sum())),
        ),
    ]
    title = f"Train on {_TRAIN} cells, predict all {len(mean):,}"
    return Step("predict", title, perf_counter() - begin, facts, lines, plots=(plot,))


def _paid(part: float, whole: float) -> str:
    """Training times for people, given in seconds."""
    if whole < 86_400:
        return f"{part:.1f} seconds instead of {whole:,.0f}"
    return f"{part / 86_400:.1f} GPU days instead of {whole / 86_400:,.0f}"


def _noise_ceiling(table: Benchmark) -> float | None:
    import numpy as np

    for metric in (table.default_metric, "validation_accuracy"):
        runs = table.runs(_dataset(table), metric) if metric in table.metrics(_dataset(table)) else ()
        if len(runs) > 1:
            return evaluation.noise_ceiling(
                np.stack([table.table(_dataset(table), metric, seed=run) for run in runs], axis=1)
            )
    return None


def _scores(table: Benchmark | None, out: Path, seed: int, bar: ProgressBar) -> Step:
    """Score untrained cells by two proxies and compare with what training gave (or the prediction)."""
    import numpy as np

    from tauzero import proxies

    begin = perf_counter()
    space = spaces.get("nasbench201")
    cells = space.sample(_SCORED, seed, unique=True)
    if table is None:
        truth, against = surrogates.load(_PRETRAINED_201).predict(cells), "predicted accuracy (%)"
    else:
        truth, against = table.query(cells, _dataset(table), table.default_metric), f"true {_accuracy_name(table)}"
    with bar("scoring untrained networks") as progress:
        frame = proxies.score(space, cells, list(_PROXIES), seed=seed, progress=progress)
    rows = []
    facts: dict[str, Any] = {"cells": _SCORED, "against": against}
    for name in _PROXIES:
        score = np.asarray(frame[name], dtype=np.float64)
        fine = np.isfinite(score) & np.isfinite(truth)
        facts[name] = {
            "tau": evaluation.kendall_tau(truth[fine], score[fine]),
            "spearman": evaluation.spearman(truth[fine], score[fine]),
            "defined": int(fine.sum()),
        }
        rows.append([name, *(facts[name][key] for key in ("tau", "spearman", "defined"))])
    figure = evaluation.plots.score_vs_accuracy(
        {name: np.asarray(frame[name]) for name in _PROXIES},
        truth,
        title=f"{_SCORED} untrained NAS-Bench-201 cells",
        unit=against,
    )
    plot = _save(figure, out / "proxies.png")
    columns = ["proxy", "Kendall's tau", "Spearman's rho", "defined for"]
    title = f"Score {_SCORED} untrained cells, against {against}"
    return Step("proxies", title, perf_counter() - begin, facts, [], (columns, rows), (plot,))


def _compare(table: Benchmark, out: Path, bar: ProgressBar) -> Step:
    """Search over predictions against search by look-up, both with the same number of true queries."""
    begin = perf_counter()
    with bar("searching") as progress:
        result = search.compare_prediction_with_lookup(
            table, _dataset(table), n_train=_TRAIN, budget=_CHECKED, seeds=_SEEDS, progress=progress
        )
    total = _TRAIN + _CHECKED
    figure = evaluation.plots.regret_curves(
        result.curves, title=f"{_title(table)}, {_dataset(table)}: {result.metric.replace('_', ' ')}", n_train=_TRAIN
    )
    plot = _save(figure, out / "search.png")
    ways = {
        f"look-up ({result.algorithm})": (result.lookup_report, result.lookup_regret),
        f"predictions (train on {_TRAIN}, check {_CHECKED})": (result.prediction_report, result.prediction_regret),
    }
    rows = [
        [way, total, f"{found.mean():.2f} ± {found.std(ddof=1):.2f}", f"{regret[:, -1].mean():.2f}"]
        for way, (found, regret) in ways.items()
    ]
    columns = ["search", "true queries", f"{result.report_metric.replace('_', ' ')} found (%)", "regret"]
    lines: list[tuple[str, Any]] = [
        ("searched by", f"{result.metric.replace('_', ' ')}; the best of the table is {result.optimum:.2f} %"),
        ("seeds", _SEEDS),
        *(("note", note) for note in result.notes),
    ]
    title = f"Search with {total} true queries: over predictions and by look-up"
    return Step("search", title, perf_counter() - begin, result.to_dict(), lines, (columns, rows), (plot,))


def _search_predictions(out: Path, seed: int) -> Step:
    """Without a table: how soon evolution finds the best prediction of the whole space."""
    begin = perf_counter()
    objective = search.SurrogateObjective(surrogates.load(_PRETRAINED_201))
    optimum = float(objective.predictions().max())
    found = search.run("regularized_evolution", objective, budget=500, seed=seed)
    figure = evaluation.plots.regret_curves(
        {"regularized_evolution": found.regret(optimum)}, title="Search over predictions (no table)"
    )
    plot = _save(figure, out / "search.png")
    facts = {"queries": found.queries, "best": found.best_value, "best_of_space": optimum}
    lines = [
        ("found", f"{found.best_value:.2f} % predicted, after {found.queries} of {objective.space.size:,} predictions"),
        ("best prediction of the space", f"{optimum:.2f} %"),
    ]
    return Step("search", "Search over predictions", perf_counter() - begin, facts, lines, plots=(plot,))


def _pretrained(name: str, title: str, bar: ProgressBar) -> Step:
    """Predict a whole space with a model that comes with the package."""
    import numpy as np

    begin = perf_counter()
    model = surrogates.load(name)
    cells = model.space_.enumerate()
    start = perf_counter()
    parts = []
    with bar(f"predicting {title}") as progress:
        for first in range(0, len(cells), _CHUNK):
            parts.append(model.predict(cells[first : first + _CHUNK], return_std=True))
            if progress is not None:
                progress(min(first + _CHUNK, len(cells)), len(cells))
    seconds = perf_counter() - start
    mean, std = (np.concatenate(halves) for halves in zip(*parts, strict=True))
    best = np.argsort(-mean, kind="stable")[:_TOP]
    strings = model.space_.to_string(cells[best])
    rows = [
        [k + 1, text, f"{mean[i]:.2f} ± {std[i]:.2f}"] for k, (i, text) in enumerate(zip(best, strings, strict=True))
    ]
    card = dict(model.metadata_)
    facts = {
        "model": name,
        "predicted": len(mean),
        "predict_s": seconds,
        "top": [
            {"arch": text, "mean": float(mean[i]), "std": float(std[i])} for i, text in zip(best, strings, strict=True)
        ],
        "card": card,
    }
    lines = [("model", name), ("predicted", f"{len(mean):,} cells in {seconds:.2f} s, no training")]
    columns = ["", "the cells predicted best", "predicted accuracy, %"]
    return Step(
        name.partition("-")[0],
        f"{title} with a pretrained model",
        perf_counter() - begin,
        facts,
        lines,
        (columns, rows),
    )
