"""Where predictions outside the table can be trusted: larger cells, other spaces, and what `ood_score` knows of it.

    python performance/study_extrapolation.py --out performance/results/extrapolation.json

``--table NAME=PATH`` reads another table than the imported one. Finished figures are kept in the JSON file and
not computed again; ``--parts`` chooses among

size
    NAS-Bench-101: learn from small cells, judge on larger ones, against the same model that learnt from as many
    large ones. Beside tau: error against `ood_score` and two other scores, coverage of 90 % intervals.
shifts
    What share of architectures `ood_score` and others call unfamiliar, where the shift is known.
within
    The same figures for random training rows of each space.
spaces
    The multi-space model on a space, or a data set, that it did not learn from; then with a few rows of it.

All figures are lists over seeds.
"""

# ruff: noqa: B023 - what a loop defines is called before the loop goes on

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import machine

import tauzero as tz
from tauzero.benchmarks import atomic_path
from tauzero.surrogates import MultiSpaceGNN, Surrogate
from tauzero.surrogates._features import feature_map

#: Smaller than the shipped model, so that it can be trained a few dozen times.
MULTI: dict[str, Any] = {"members": 2, "width": 48, "layers": 3, "steps": 2_000, "batch_size": 128}
SINGLE: dict[str, dict[str, Any]] = {
    "gaussian_process": {},
    "lightgbm": {"n_jobs": 1},
    "gnn": {"features": False, "members": 3, "device": "cpu"},
}
SPACES = ("nasbench101", "nasbench201", "transnas_micro")
FEW = (16, 32, 78)
SEEDS = (0, 1, 2)
SIZES = ((6, 1_000), (5, 1_000), (6, 4_000))  # most vertices of training cells, training rows
JUDGED = 10_000
BINS = (0.0, 0.5, 1.0, 1.5, 2.0, np.inf)


class Figures:
    """Lists over seeds by key, written to a file whenever one is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.content.setdefault("figures", {})

    def add(self, key: str, seed: int, make: Callable[[], dict[str, Any]]) -> None:
        """Compute the figures of a seed unless they are there."""
        known = self.content["figures"].setdefault(key, {})
        if str(seed) in known:
            return
        start = time.perf_counter()
        known[str(seed)] = make() | {"seconds": round(time.perf_counter() - start, 1)}
        self.content["where"] = machine("scipy", "torch", "lightgbm")
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        print(key, seed, {k: v for k, v in known[str(seed)].items() if k != "bins"}, flush=True)


def rounded(value: float) -> float:
    return round(float(value), 4)


# -- scores of unfamiliarity ------------------------------------------------------------------


def outside_range(train: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """How far features leave the range of the training rows: root of the summed squares, in standard deviations."""
    over = np.maximum(judged - train.max(axis=0), 0.0) + np.maximum(train.min(axis=0) - judged, 0.0)
    return np.sqrt((over**2).sum(axis=1))


def relevant_distance(train: np.ndarray, y: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """As `ood_score`, each feature weighted by the size of its rank correlation with the target."""
    from scipy.stats import rankdata

    from tauzero.surrogates._familiarity import Familiarity

    ranks = np.apply_along_axis(rankdata, 0, train)
    ranks = (ranks - ranks.mean(axis=0)) / np.maximum(ranks.std(axis=0), 1e-9)
    target = rankdata(y)
    weight = np.abs(ranks.T @ (target - target.mean())) / (len(y) * target.std())
    scaled = train * np.float32(1) * weight.astype(np.float32)
    return Familiarity.fit(scaled[:1_000]).score((judged * weight).astype(np.float32))


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that an architecture of the second kind has the higher score."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside, outside]))[len(inside) :]
    return float((ranks.sum() - len(outside) * (len(outside) + 1) / 2) / (len(inside) * len(outside)))


def judge(
    model: Surrogate, train: tuple[np.ndarray, np.ndarray], judged: tuple[np.ndarray, np.ndarray], familiar: np.ndarray
) -> dict[str, Any]:
    """Tau, error, coverage, and what the scores of unfamiliarity say of the error."""
    cells, y = judged
    mean, std, interval = model.predict(cells, return_std=True, return_interval=0.9)
    error = np.abs(mean - y)
    covered = (interval[:, 0] <= y) & (y <= interval[:, 1])
    features = feature_map(model.space_)
    x, z = features(train[0]), features(cells)
    score = model.ood_score(cells)
    stretch = np.maximum(score, 1.0)
    wide = (mean - stretch * (mean - interval[:, 0]) <= y) & (y <= mean + stretch * (interval[:, 1] - mean))
    rho = tz.evaluation.spearman
    part = np.digitize(score, BINS) - 1
    inside = features(familiar)
    return {
        "tau": rounded(tz.evaluation.kendall_tau(y, mean)),
        "mae": rounded(error.mean()),
        "bias": rounded((mean - y).mean()),
        "coverage_90": rounded(covered.mean()),
        "coverage_90_stretched": rounded(wide.mean()),
        "ood_median": rounded(np.median(score)),
        "ood_above_1": rounded((score > 1).mean()),
        "rho_ood": rounded(rho(error, score)),
        "rho_std": rounded(rho(error, std)),
        "rho_range": rounded(rho(error, outside_range(x, z))),
        "rho_relevant": rounded(rho(error, relevant_distance(x, train[1], z))),
        "auroc_ood": rounded(auroc(model.ood_score(familiar), score)),
        "auroc_range": rounded(auroc(outside_range(x, inside), outside_range(x, z))),
        "auroc_relevant": rounded(auroc(relevant_distance(x, train[1], inside), relevant_distance(x, train[1], z))),
        "bins": [
            {
                "from": BINS[k],
                "share": rounded((part == k).mean()),
                "coverage_90": rounded(covered[part == k].mean()) if (part == k).any() else None,
                "coverage_90_stretched": rounded(wide[part == k].mean()) if (part == k).any() else None,
                "mae": rounded(error[part == k].mean()) if (part == k).any() else None,
            }
            for k in range(len(BINS) - 1)
        ],
    }


# -- data -------------------------------------------------------------------------------------


class Data:
    """Tables, read when they are needed."""

    def __init__(self, tables: dict[str, str]) -> None:
        self._tables, self._known = tables, dict[str, Any]()

    def __call__(self, name: str) -> Any:
        """A table by name."""
        if name not in self._known:
            self._known[name] = tz.benchmarks.load(name, self._tables.get(name))
        return self._known[name]

    def column(self, name: str, dataset: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Architectures that have a value, and their values."""
        table = self(name)
        chosen = dataset or table.datasets[0]
        y = table.table(chosen, table.main_metric(chosen))
        known = np.isfinite(y)
        return table.architectures[known], y[known]

    def sources(self, names: tuple[str, ...], seed: int, left_out: str = "") -> tuple[list[Any], list[str]]:
        """Training rows of spaces, those of `holdout_mask` left out; 10,000 at most of each."""
        sources, labels = [], []
        for name in names:
            table = self(name)
            rows = np.flatnonzero(~tz.evaluation.holdout_mask(table.space))
            rows = np.sort(np.random.default_rng(seed).permutation(rows)[:JUDGED])
            for dataset in table.datasets:
                if f"{name}/{dataset}" != left_out:
                    y = table.table(dataset, table.main_metric(dataset))[rows]
                    sources.append((table.space, table.architectures[rows], y))
                    labels.append(f"{name}/{dataset}")
        return sources, labels


# -- parts ------------------------------------------------------------------------------------


def size(data: Data, figures: Figures) -> None:
    """Small cells to larger ones, on NAS-Bench-101."""
    cells, y = data.column("nasbench101")
    space = data("nasbench101").space
    vertices = space.graphs(cells).num_nodes
    for most, n in SIZES:
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            small = rng.permutation(np.flatnonzero(vertices <= most))
            large = rng.permutation(np.flatnonzero(vertices == most + 1))
            judged, others = large[:JUDGED], large[JUDGED:]
            for kind, pool in (("extrapolation", small), ("same size", others)):
                train, familiar = pool[:n], pool[n : n + 1_500]
                where = f"size | {most} to {most + 1} vertices | {n} rows | {kind}"
                for name, params in SINGLE.items():

                    def single(
                        name: str = name, params: Any = params, train: Any = train, familiar: Any = familiar
                    ) -> Any:
                        model = tz.surrogates.create(name, space, random_state=seed, **params)
                        model.fit(cells[train], y[train])
                        return judge(model, (cells[train], y[train]), (cells[judged], y[judged]), cells[familiar])

                    figures.add(f"{where} | {name}", seed, single)

                def several(train: Any = train) -> Any:
                    sources, labels = data.sources(("nasbench201", "transnas_micro"), seed)
                    model = MultiSpaceGNN(**MULTI, random_state=seed)
                    model.fit([(space, cells[train], y[train]), *sources], ["nasbench101", *labels])
                    mean = model.predict(cells[judged], space, "nasbench101")
                    return {"tau": rounded(tz.evaluation.kendall_tau(y[judged], mean))}

                figures.add(f"{where} | multi_space", seed, several)


def within(data: Data, figures: Figures) -> None:
    """Random training rows, where nothing is shifted."""
    for table, n in (("nasbench201", 200), ("transnas_micro", 200), ("nasbench301", 200), ("nasbench101", 1_000)):
        cells, y = data.column(table)
        space = data(table).space
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(y))
            train, judged = order[:n], order[n : n + 5_000]
            for name, params in SINGLE.items():
                if name == "gnn":
                    continue

                def one(name: str = name, params: Any = params, train: Any = train, judged: Any = judged) -> Any:
                    model = tz.surrogates.create(name, space, random_state=seed, **params)
                    model.fit(cells[train], y[train])
                    return judge(model, (cells[train], y[train]), (cells[judged], y[judged]), cells[judged])

                figures.add(f"within | {table} | {n} rows | {name}", seed, one)


def fine_tuned(model: MultiSpaceGNN, space: Any, cells: np.ndarray, y: np.ndarray, seed: int) -> Surrogate:
    """The networks themselves, trained on with the rows of the new space."""
    start = tz.surrogates.create(
        "gnn", space, members=model.members, width=model.width, layers=model.layers, features=False, epochs=1
    )
    start.fit(cells[:8], y[:8])
    start._networks.start_from(model._networks, head=True)
    with tempfile.TemporaryDirectory() as folder:
        start.save(Path(folder) / "start")
        return tz.surrogates.create(
            "gnn", space, pretrained=Path(folder) / "start", members=3, device="cpu", random_state=seed
        ).fit(cells, y)


def few_shot(
    figures: Figures, where: str, seed: int, model: Callable[[], MultiSpaceGNN], space: Any,
    pool: tuple[np.ndarray, np.ndarray], judged: tuple[np.ndarray, np.ndarray],
) -> None:  # fmt: skip
    """Tau with no row, and with a few, with and without transfer."""
    order = np.random.default_rng(100 + seed).permutation(len(pool[1]))

    def tau(prediction: np.ndarray) -> dict[str, Any]:
        return {"tau": rounded(tz.evaluation.kendall_tau(judged[1], prediction))}

    figures.add(f"{where} | 0 rows | multi_space", seed, lambda: tau(model().predict(judged[0], space)))
    column = list(space.descriptor_names).index("log_parameters")
    figures.add(
        f"{where} | 0 rows | log_parameters",
        seed,
        lambda: tau(space.descriptors(space.canonical(judged[0]))[:, column]),
    )
    for n in FEW:
        cells, y = pool[0][order[:n]], pool[1][order[:n]]
        made: dict[str, Callable[[], Surrogate]] = {
            "gaussian_process": lambda: tz.surrogates.create("gaussian_process", space).fit(cells, y),
            "auto": lambda: tz.surrogates.create("auto", space, n_jobs=1).fit(cells, y),
            "transfer": lambda: model().adapt(space, cells, y),
            "transfer[embedding]": lambda: model().adapt(space, cells, y, embedding=True),
            "transfer[auto]": lambda: model().adapt(space, cells, y, surrogate="auto"),
        }
        if n == FEW[-1]:
            made["gnn"] = lambda: tz.surrogates.create("gnn", space, members=3, device="cpu", random_state=seed).fit(
                cells, y
            )
            made["gnn, fine-tuned"] = lambda: fine_tuned(model(), space, cells, y, seed)
        for name, make in made.items():
            figures.add(f"{where} | {n} rows | {name}", seed, lambda make=make: tau(make().predict(judged[0])))


def spaces(data: Data, figures: Figures) -> None:
    """Leave one space out, and leave one data set of a space out."""
    for seed in SEEDS:
        for target in (*SPACES, "nasbench301"):
            trained: list[MultiSpaceGNN] = []

            def model(target: str = target, trained: list[MultiSpaceGNN] = trained) -> MultiSpaceGNN:
                if not trained:
                    sources, labels = data.sources(tuple(s for s in SPACES if s != target), seed)
                    trained.append(MultiSpaceGNN(**MULTI, random_state=seed).fit(sources, labels))
                return trained[0]

            cells, y = data.column(target)
            order = np.random.default_rng(seed).permutation(len(y))
            judged, others = order[:-300][:5_000], order[-300:]
            space = data(target).space
            few_shot(
                figures, f"space left out | {target}", seed, model, space,
                (cells[others], y[others]), (cells[judged], y[judged]),
            )  # fmt: skip
        for target, dataset in (("nasbench201", "ImageNet16-120"), ("transnas_micro", "segmentsemantic")):
            trained = []

            def with_space(
                target: str = target, dataset: str = dataset, trained: list[MultiSpaceGNN] = trained
            ) -> MultiSpaceGNN:
                if not trained:
                    sources, labels = data.sources(SPACES, seed, f"{target}/{dataset}")
                    trained.append(MultiSpaceGNN(**MULTI, random_state=seed).fit(sources, labels))
                return trained[0]

            cells, y = data.column(target, dataset)
            space = data(target).space
            mask = tz.evaluation.holdout_mask(space)
            few_shot(
                figures, f"data set left out | {target}/{dataset}", seed, with_space, space,
                (cells[~mask], y[~mask]), (cells[mask], y[mask]),
            )  # fmt: skip


def cross_fitted_range(train: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
    """`outside_range` in units of its 95 % quantile on training rows, each a tenth that the range was not read from."""
    excess = np.empty(len(train))
    for part in np.array_split(np.random.default_rng(seed).permutation(len(train)), 10):
        excess[part] = outside_range(np.delete(train, part, axis=0), train[part])
    return outside_range(train, judged) / max(float(np.quantile(excess, 0.95)), 1e-3)


def shifts(data: Data, figures: Figures) -> None:
    """How many architectures each score calls unfamiliar (above 1), of the training rows' kind and of another."""
    from tauzero.surrogates._familiarity import Familiarity

    vertices = data("nasbench101").space.graphs(data("nasbench101").architectures).num_nodes
    convolutions = (data("nasbench201").architectures == 3).sum(axis=1)
    cases = [
        ("nasbench101", "at most 6 vertices, 7", 1_000, vertices <= 6, vertices == 7),
        ("nasbench101", "at most 6 vertices, 7", 200, vertices <= 6, vertices == 7),
        ("nasbench101", "at most 5 vertices, 6", 1_000, vertices <= 5, vertices == 6),
        ("nasbench201", "no 3×3 convolution, some", 200, convolutions == 0, convolutions >= 1),
        ("nasbench201", "at most one 3×3 convolution, three or more", 200, convolutions <= 1, convolutions >= 3),
    ]
    for name, what, n, inside, outside in cases:
        cells, features = data(name).architectures, feature_map(data(name).space)
        for seed in SEEDS:

            def one(n: int = n, inside: Any = inside, outside: Any = outside, seed: int = seed) -> Any:
                rng = np.random.default_rng(seed)
                kind = rng.permutation(np.flatnonzero(inside))
                other = rng.permutation(np.flatnonzero(outside))[:3_000]
                x, f, o = (features(cells[rows]) for rows in (kind[:n], kind[n : n + 1_500], other))
                near, reach = Familiarity.fit(x), [cross_fitted_range(x, z, seed) for z in (f, o)]
                covariance = np.cov(x.T) + 0.1 * np.eye(x.shape[1])
                white = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
                whitened = Familiarity.fit(x @ white)
                scores = {
                    "ood_score": (near.score(f), near.score(o)),
                    "range": tuple(reach),
                    "larger of both": tuple(np.maximum(near.score(z), r) for z, r in zip((f, o), reach, strict=True)),
                    "whitened": (whitened.score(f @ white), whitened.score(o @ white)),
                }
                return {
                    f"{score} {key}": rounded(value)
                    for score, (a, b) in scores.items()
                    for key, value in (("same", (a > 1).mean()), ("other", (b > 1).mean()), ("auroc", auroc(a, b)))
                }

            figures.add(f"shifts | {name}: {what} | {n} rows", seed, one)


# -- tables -----------------------------------------------------------------------------------


def shown(figures: dict[str, Any], key: str, name: str, digits: int = 3) -> str:
    """Mean and standard deviation over seeds, as the documentation has them."""
    if key not in figures:
        return ""
    values = [seed[name] for seed in figures[key].values()]
    short = "" if len(values) == len(SEEDS) else f" ({len(values)} of {len(SEEDS)} seeds)"
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}{short}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def tables(figures: dict[str, Any]) -> str:
    """All tables of docs/transfer.md."""
    pages = []
    few = ["gaussian_process", "auto", "transfer", "transfer[embedding]", "transfer[auto]", "gnn", "gnn, fine-tuned"]
    targets = list(dict.fromkeys(k.rsplit(" | ", 2)[0] for k in figures if " left out" in k))
    for n, names in ((0, ["log_parameters", "multi_space"]), *[(n, few) for n in FEW]):
        rows = [[t, *(shown(figures, f"{t} | {n} rows | {name}", "tau") for name in names)] for t in targets]
        columns = [k for k in range(len(names)) if any(r[k + 1] for r in rows)]
        rows = [[r[0].replace(" | ", ": "), *(r[k + 1] for k in columns)] for r in rows]
        pages.append(f"**{n} rows**\n\n" + table(["judged on", *(f"`{names[k]}`" for k in columns)], rows))
    rows, more = [], []
    for most, n in SIZES:
        for name in (*SINGLE, "multi_space"):
            where = f"size | {most} to {most + 1} vertices | {n} rows"
            pair = [f"{where} | {kind} | {name}" for kind in ("extrapolation", "same size")]
            first = [f"≤ {most} → {most + 1}", f"{n:,}", f"`{name}`"]
            if any(k in figures for k in pair):
                rows.append(first + [shown(figures, k, "tau") for k in pair])
            if name != "multi_space" and pair[0] in figures:
                for key, kind in zip(pair, ("larger", "same size"), strict=True):
                    more.append([*first, kind, *unfamiliar(figures, key)])
    pages.append(table(["vertices", "rows", "model", "tau, larger cells", "tau, learnt from the same size"], rows))
    for key in (k for k in figures if k.startswith("within")):
        _, where, n_rows, name = key.split(" | ")
        more.append([where, n_rows.removesuffix(" rows"), f"`{name}`", "random rows", *unfamiliar(figures, key)])
    names = ["`ood_score` > 1", "coverage", "coverage, stretched", "ρ `ood_score`", "ρ deviation", "ρ range"]
    pages.append(table(["space", "rows", "model", "judged on", *names, "ρ relevant", "bias, %"], more))
    rows = []
    for key, kind in (("extrapolation", "larger cells"), ("same size", "same size")):
        for name in SINGLE:
            chosen = [seed["bins"] for k, v in figures.items() if f"{key} | {name}" in k for seed in v.values()]
            for b in range(len(BINS) - 1):
                share = float(np.mean([c[b]["share"] for c in chosen])) if chosen else 0.0
                if share >= 0.002:
                    weights = [c[b]["share"] for c in chosen if c[b]["share"]]
                    mean = {
                        q: np.average([c[b][q] for c in chosen if c[b]["share"]], weights=weights)
                        for q in ("coverage_90", "coverage_90_stretched", "mae")
                    }
                    span = f"{BINS[b]:g} to {BINS[b + 1]:g}" if np.isfinite(BINS[b + 1]) else f"over {BINS[b]:g}"
                    figures_of = [f"{mean[q]:.1%}" for q in ("coverage_90", "coverage_90_stretched")]
                    rows.append([kind, f"`{name}`", span, f"{share:.1%}", *figures_of, f"{mean['mae']:.2f}"])
    pages.append(table(["judged on", "model", "`ood_score`", "share", "coverage", "stretched", "error, %"], rows))
    rows = []
    scores = ("ood_score", "range", "larger of both", "whitened")
    for key in (k for k in figures if k.startswith("shifts")):
        cells = []
        for score in scores:
            mean = [np.mean([seed[f"{score} {q}"] for seed in figures[key].values()]) for q in ("same", "other")]
            cells.append(f"{mean[0]:.0%} / {mean[1]:.0%}")
        rows.append([key.split(" | ")[1], key.split(" | ")[2].removesuffix(" rows"), *cells])
    pages.append(table(["learnt from, judged on", "rows", *scores], rows))
    return re.sub(r"(\d)%", r"\1 %", "\n".join(pages))


def unfamiliar(figures: dict[str, Any], key: str) -> list[str]:
    """What the scores know of the error, in the order of the table."""
    names = ("ood_above_1", "coverage_90", "coverage_90_stretched", "rho_ood", "rho_std", "rho_range", "rho_relevant")
    return [shown(figures, key, name, 2) for name in (*names, "bias")]


PARTS = {"shifts": shifts, "within": within, "spaces": spaces, "size": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, default=Path("performance/results/extrapolation.json"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--tables", action="store_true", help="print the tables of the documentation, compute nothing")
    arguments = parser.parse_args()
    if arguments.tables:
        print(tables(Figures(arguments.out).content["figures"]))
        return
    torch.set_num_threads(1)
    data = Data(dict(entry.split("=", 1) for entry in arguments.table))
    figures = Figures(arguments.out)
    for part in arguments.parts:
        PARTS[part](data, figures)


if __name__ == "__main__":
    main()
