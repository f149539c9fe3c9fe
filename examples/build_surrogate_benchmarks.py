"""Build the surrogate benchmarks that ship with tauzero: models, noise, training seconds, validity and card.

    python examples/build_surrogate_benchmarks.py nasbench201-cifar10 --out surrogates/shipped

The rows of `tauzero.evaluation.holdout_mask` (a fifth, whole classes of equal networks) are kept apart: no model, and
no noise or cost, is fitted on them; the figures of validity and card are measured on them alone. What is fitted to
which table is fixed in `RECIPES`. Tables are read from the data folder (`tauzero benchmarks import`).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import tauzero as tz
from tauzero.surrogates._benchmark_fit import fitted_cost, noise_of

HELD_OUT = "tauzero.evaluation.holdout_mask(space): a fifth of the architectures by class of equal networks, seed 0"
NAS301 = (
    "The training values are no measurements: they are predictions of NAS-Bench-301's own surrogate (as NASLib's "
    "zero-cost benchmark publishes them). What stands here imitates that surrogate, its errors included: figures say "
    "how well it is imitated, not how well real trainings are predicted."
)


@dataclass(frozen=True)
class Recipe:
    """How one benchmark is made: a pretrained model, or a kind of surrogate and its number of training rows."""

    table: str
    dataset: str
    metric: str
    pretrained: str | None = None
    model: str = ""
    train: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    #: Metric of the table whose single runs tell the noise of a training.
    runs_metric: str | None = None
    seeds: int = 5
    limits: str = ""


RECIPES: dict[str, Recipe] = {
    "darts-cifar10": Recipe("nasbench301", "cifar10", "validation_accuracy", model="gaussian_process", limits=NAS301),
    "nasbench101-cifar10": Recipe("nasbench101", "cifar10", "test_accuracy", "nasbench101-cifar10"),
    "nasbench201-cifar10": Recipe(
        "nasbench201", "cifar10", "test_accuracy", "nasbench201-cifar10", runs_metric="test_accuracy_v10"
    ),
    **{
        f"nasbench201-{d}": Recipe(
            "nasbench201", d, "test_accuracy", f"nasbench201-{d}", runs_metric="validation_accuracy"
        )
        for d in ("cifar100", "ImageNet16-120")
    },
    "natsbench_size-cifar10": Recipe(
        "natsbench_size", "cifar10", "test_accuracy", model="gaussian_process", train=3_000,
        limits="The table has one training of each network: its noise is part of the errors.",
    ),
}  # fmt: skip


def training_rows(table: Any, recipe: Recipe, seed: int) -> Any:
    """Positions that may be learned from; so many of them, drawn with the seed."""
    rows = None if table.space.enumerable else table.architectures
    known = np.isfinite(table.table(recipe.dataset, recipe.metric))
    pool = np.flatnonzero(known & ~tz.evaluation.holdout_mask(table.space, architectures=rows))
    if recipe.train is None:
        return pool
    return np.sort(np.random.default_rng(seed).choice(pool, recipe.train, replace=False))


def column_of(table: Any, recipe: Recipe) -> Any:
    """The column of a pretrained model, with noise and cost of the rows that may be learned from."""
    epoch = table.epochs(recipe.dataset, recipe.metric)[-1]
    rows = training_rows(table, recipe, 0)
    noise = None if recipe.runs_metric is None else noise_of(table, rows, recipe.dataset, recipe.runs_metric, epoch)
    cost = None
    if "training_seconds" in table.metrics(recipe.dataset):
        cost = fitted_cost(table, rows, recipe.dataset, epoch, 0)
        cost.metadata_ = {"benchmark": table.name, "dataset": recipe.dataset, "metric": "training_seconds"}
    return tz.surrogates.PredictedColumn(
        recipe.dataset, recipe.metric, epoch, table.unit(recipe.dataset, recipe.metric),
        tz.surrogates.load(recipe.pretrained), "predictive" if noise is None else noise, cost,
        f"predicted by the pretrained model {recipe.pretrained}",
    )  # fmt: skip


def refits(table: Any, recipe: Recipe) -> dict[str, Any]:
    """Held-out figures of the recipe with other seeds (training rows and models): mean and standard deviation."""
    architectures = table.architectures
    truth = table.table(recipe.dataset, recipe.metric)
    rows = None if table.space.enumerable else architectures
    test = np.flatnonzero(tz.evaluation.holdout_mask(table.space, architectures=rows) & np.isfinite(truth))
    found = []
    for seed in range(recipe.seeds):
        train = training_rows(table, recipe, seed)
        model = tz.surrogates.create(recipe.model, table.space, random_state=seed, **recipe.params)
        predicted = model.fit(architectures[train], truth[train]).predict(architectures[test])
        found.append([tz.evaluation.kendall_tau(truth[test], predicted), tz.evaluation.r2(truth[test], predicted),
                      tz.evaluation.mae(truth[test], predicted)])  # fmt: skip
    names = ("tau", "r2", "mae")
    values = np.array(found)
    spread = values.std(axis=0, ddof=1)
    return {"seeds": recipe.seeds, **{n: [round(float(m), 4), round(float(s), 4)]
                                      for n, m, s in zip(names, values.mean(axis=0), spread, strict=True)}}  # fmt: skip


def cost_figures(made: Any, table: Any, recipe: Recipe) -> dict[str, float] | None:
    """How well training seconds are predicted on rows that nothing was fitted on."""
    column = made.columns[0]
    if column.cost is None:
        return None
    seconds = table.table(recipe.dataset, "training_seconds", column.epoch)
    judged = np.flatnonzero(tz.evaluation.holdout_mask(table.space) & np.isfinite(seconds))
    predicted = column.cost.predict(table.architectures[judged])
    return {
        "rows": len(judged),
        "tau": round(tz.evaluation.kendall_tau(seconds[judged], predicted), 4),
        "r2": round(tz.evaluation.r2(seconds[judged], predicted), 4),
    }


def card(name: str, made: Any, facts: dict[str, Any], recipe: Recipe) -> str:
    """The README of the folder."""
    column, held, noise = made.columns[0], facts["held_out"], facts["noise"]
    info = made.info()
    origin = info["provenance"]
    model = f"{recipe.model}, {column.model.n_train_:,} different networks"
    if recipe.pretrained:
        model = "the pretrained model of the same name (docs/surrogates.md)"
    run = "the model's deviation" if isinstance(column.noise, str) else column.noise.source
    real = "" if noise["table_run_std"] is None else f" (real runs of unseen rows: {noise['table_run_std']:.3f})"
    cost = "not known (NaN)"
    if origin["cost"] is not None:
        judged = origin["cost"]
        cost = f"training seconds by a Gaussian process; R² {judged['r2']:.3f}, tau {judged['tau']:.3f} on "
        cost += f"{judged['rows']:,} unseen rows"
    what = f"{column.metric} ({column.unit}) on {column.dataset} after {column.epoch} epochs"
    lines = [f"# surrogate:{name}", "", f"Predicts {what} for every architecture of the space `{made.space.name}`.", ""]
    lines += [f"**{recipe.limits}**", ""] if recipe.limits else []
    facts_of = {
        "Use": f'`tz.benchmarks.load("surrogate:{name}")`',
        "Model": model,
        "Learned from": f"{', '.join(f['name'] for f in origin['files'])} (table `{recipe.table}`)",
        "Licence of the data": info["licence"],
        "Never seen by model, noise and cost": f"{HELD_OUT}; {held['rows']:,} architectures",
        "Noise of a run": f"{run}; root mean square {noise['run_std']:.3f}{real}",
        "Cost of a query": cost,
        "Built": f"{origin['date']} by `{origin['command']}`",
    }
    lines += [f"- {key}: {value}." for key, value in facts_of.items()]
    sets = f"{held['seeds']} random sets of {held['judged']:,}: mean ± std"
    lines += ["", "## On the unseen architectures", "", f"| measure | all {held['rows']:,} | {sets} |", "|---|---|---|"]
    for key, value in held["all"].items():
        lines.append(f"| {key} | {value:.4f} | {held['mean'][key]:.4f} ± {held['std'][key]:.4f} |")
    if "refits" in origin:
        again = origin["refits"]
        figures = ", ".join(f"{k} {again[k][0]:.4f} ± {again[k][1]:.4f}" for k in ("tau", "r2", "mae"))
        lines += ["", f"Fitted {again['seeds']} times with other seeds, judged on all of them: {figures}."]
    inside = ", ".join(f"{e['coverage']:.0%} (wanted {e['level']:.0%})" for e in facts["intervals"])
    lines += ["", f"Inside the intervals: {inside}.", ""]
    if "searches" in facts:
        found = facts["searches"]
        lines.append(f"True regret after {found['queries'][-1]} queries, {found['trials']} searches (mean ± std):")
        lines += ["", "| algorithm | sees the table | sees the predictions |", "|---|---|---|"]
        last = {(e["algorithm"], e["sees"]): f"{e['regret'][-1]:.3f} ± {e['std'][-1]:.3f}" for e in found["rows"]}
        for algorithm in dict.fromkeys(a for a, _ in last):
            lines.append(f"| {algorithm} | {last[algorithm, 'table']} | {last[algorithm, 'surrogate']} |")
        lines.append("")
    lines.append("All figures: `validity.json`; what they mean: docs/surrogate_benchmarks.md.")
    return "\n".join(lines) + "\n"


def build(name: str, out: Path) -> None:
    """Build one and write its folder."""
    recipe = RECIPES[name]
    table = tz.benchmarks.load(recipe.table)
    info = table.info()
    facts: dict[str, Any] = {
        "trained_on": [recipe.table],
        "held_out": HELD_OUT,
        "files": [{"name": f["name"], "sha256": f["sha256"]} for f in info["provenance"]["files"]],
        "command": f"python examples/build_surrogate_benchmarks.py {name}",
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        **({"limits": recipe.limits} if recipe.limits else {}),
    }
    if recipe.pretrained:
        columns = [column_of(table, recipe)]
    else:
        made = tz.surrogates.fit_benchmark(
            table, training_rows(table, recipe, 0), recipe.dataset, recipe.metric, model=recipe.model,
            held_out=HELD_OUT, **recipe.params,
        )  # fmt: skip
        columns = list(made.columns)
        if recipe.train is not None:  # all rows that may be learned from are the same rows for every seed
            facts["refits"] = refits(table, recipe)
    made = tz.surrogates.SurrogateBenchmark(columns, name, licence=info["licence"], provenance=facts)
    facts["cost"] = cost_figures(made, table, recipe)
    made = tz.surrogates.SurrogateBenchmark(columns, name, licence=info["licence"], provenance=facts)
    folder = made.save(out / name)
    report = tz.evaluation.validity(made, table, recipe.dataset, metric=recipe.metric, runs_metric=recipe.runs_metric)
    report.save(folder, plots=False)
    if recipe.pretrained:  # it ships already
        shutil.rmtree(folder / "model")
        path = folder / "benchmark.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["columns"][0]["model"] = f"pretrained:{recipe.pretrained}"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_card(name, out)


def write_card(name: str, out: Path) -> None:
    """Write the README of a folder from its JSON."""
    made = tz.benchmarks.load(f"surrogate:{out / name}")
    (out / name / "README.md").write_text(card(name, made, made.validity, RECIPES[name]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RECIPES)}; all by default")
    parser.add_argument("--cards", action="store_true", help="only write the READMEs again")
    parser.add_argument("--out", type=Path, default=Path("surrogates/shipped"))
    arguments = parser.parse_args()
    for name in arguments.names or RECIPES:
        if name not in RECIPES:
            parser.error(f"unknown benchmark {name}; known: {', '.join(RECIPES)}")
        if arguments.cards:
            write_card(name, arguments.out)
            continue
        start, spent = time.perf_counter(), time.process_time()
        build(name, arguments.out)
        print(
            f"{name}: {time.perf_counter() - start:.0f} s, {time.process_time() - spent:.0f} s of processor", flush=True
        )


if __name__ == "__main__":
    main()
