"""Small sources of reports, with the files that the commands write, and what a page holds."""

from __future__ import annotations

import html
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import tauzero as tz
from tauzero.benchmarks import Benchmark, Column, Table

ALGORITHMS = ("random_search", "regularized_evolution", "tauzero")
TRIALS, QUERIES = 5, 30


def write_study(
    folder: Path, algorithms: tuple[str, ...] = ALGORITHMS, objectives: tuple[str, ...] = ("table", "surrogate")
) -> Path:
    """A study of `TRIALS` trials with `QUERIES` queries of made-up values on NAS-Bench-201."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    space = tz.spaces.get("nasbench201")
    trials, curves, tests, gains = [], [], [], []
    final: dict[tuple[str, str], Any] = {}
    for objective in objectives:
        for k, algorithm in enumerate(algorithms):
            steps = rng.exponential(1.0, (TRIALS, QUERIES)) * 0.75 ** np.arange(QUERIES) / (k + 1)
            regret = np.maximum(steps[:, ::-1].cumsum(axis=1)[:, ::-1] - 0.01, 0)
            final[objective, algorithm] = regret[:, -1]
            for trial in range(TRIALS):
                index = int(rng.integers(0, 4) + 100 * k)
                trials.append(
                    {
                        "objective": objective, "algorithm": algorithm, "trial": trial, "queries": QUERIES,
                        "true_queries": QUERIES, "repeats": 1, "simulated_s": 7200.0 * (k + 1), "wall_s": 0.25,
                        "stopped": "budget", "index": index, "arch": space.to_string(space.enumerate()[[index]])[0],
                        "value": 91.0, "validation_accuracy": 91 - index / 1000, "test_accuracy": 94 - index / 1000,
                        "regret": regret[trial, -1], "test_regret": 0.1,
                    }
                )  # fmt: skip
            for axis, x in (("queries", np.arange(1, QUERIES + 1)), ("seconds", 3600.0 * np.arange(1, QUERIES + 1))):
                q10, q25, median, q75, q90 = np.quantile(regret, [0.1, 0.25, 0.5, 0.75, 0.9], axis=0)
                curves.append(
                    pd.DataFrame(
                        {
                            "objective": objective, "algorithm": algorithm, "axis": axis, "x": x, "trials": TRIALS,
                            "mean": regret.mean(axis=0), "std": regret.std(axis=0, ddof=1), "q10": q10, "q25": q25,
                            "median": median, "q75": q75, "q90": q90, "test_mean": 94 - regret.mean(axis=0),
                            "test_std": 0.1,
                        }
                    )
                )  # fmt: skip
        for a, b in itertools.combinations(algorithms, 2):
            difference = final[objective, a] - final[objective, b]
            tests.append(
                {
                    "objective": objective, "algorithm_a": a, "algorithm_b": b, "trials": TRIALS,
                    "mean_difference": difference.mean(), "p_value": 0.01, "p_adjusted": 0.03,
                    "wins": int((difference < 0).sum()), "ties": 0, "losses": int((difference > 0).sum()),
                }
            )  # fmt: skip
    for algorithm in algorithms:
        gain = {"trials": TRIALS, "mean_gain": -0.125, "std": 0.25, "p_value": 0.2, "p_adjusted": 0.6}
        gains.append({"algorithm": algorithm, "objective": objectives[-1], **gain})
    frames = {
        "trials": pd.DataFrame(trials),
        "curves": pd.concat(curves, ignore_index=True),
        "tests": pd.DataFrame(tests),
    }
    for name, frame in {**frames, "gains": pd.DataFrame(gains)}.items():
        frame.to_parquet(folder / f"{name}.parquet")
    facts = {
        "format": "tauzero.study",
        "version": 1,
        "configuration": {"benchmark": "nasbench201", "dataset": "cifar10", "trials": TRIALS},
        "versions": {"tauzero": "0.1.0", "numpy": "2.0.0"},
        "command": "tauzero study --benchmark nasbench201 --trials 5 --out study",
        "machine": {"system": "Linux", "cores": 2},
        "seeds": list(range(TRIALS)),
        "optimum": 91.5,
    }
    (folder / "study.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def made_up_columns() -> Table:
    """All of NAS-Bench-201 with an accuracy that falls with the index."""
    values = 95.0 - np.arange(15_625) / 1000
    column = Column("cifar10", "test_accuracy", 200, None, "percent", values)
    return Table("nasbench201", "nasbench201", (column,), "CC0-1.0", {})


def made_up_table() -> Benchmark:
    """The same, to be queried."""
    return Benchmark(made_up_columns())


def write_sweep(folder: Path, rows: int = 40) -> Path:
    """Scores as `tauzero score --out` keeps them: `good` follows the made-up accuracy, `bad` opposes it."""
    folder.mkdir(parents=True)
    space = tz.spaces.get("nasbench201")
    index = np.arange(rows) * 300
    good = -index.astype(float)
    reason: list[str | None] = [None] * rows
    jumpy = np.where(index % 2, 1.0, 2.0)
    jumpy[:3] = np.nan
    reason[:3] = ["undefined: jumpy", "undefined: jumpy", "out of memory"]
    frame = {"index": index, "arch": space.to_string(space.enumerate()[index]), "good": good, "bad": -good}
    table = pa.table({**frame, "jumpy": jumpy, "reason": pa.array(reason, pa.string())})
    settings = {"space": "nasbench201", "rows": rows, "seed": 4, "batch": "noise", "batch_size": 16, "torch": "2.13.0"}
    made = {"command": "tauzero score nasbench201 --out sweep", "seconds": 8.0, "found": 0}
    header = {"tauzero.score": json.dumps(settings)}
    (folder / "provenance.json").write_text(json.dumps(made), encoding="utf-8")
    pq.write_table(table.replace_schema_metadata(header), folder / "scores.parquet")
    (folder / "sweep.json").write_text(json.dumps({"settings": settings}), encoding="utf-8")
    return folder


def write_search(file: Path, algorithm: str = "random_search", seed: int = 3) -> Path:
    """A search of the made-up accuracies, with costs."""
    space = tz.spaces.get("nasbench201")
    values = 95.0 - np.arange(space.size) / 1000
    objective = tz.search.WithCosts(tz.search.ArrayObjective(space, values, np.full(space.size, 1800.0)), ["params"])
    file.parent.mkdir(parents=True, exist_ok=True)
    return tz.search.run(algorithm, objective, budget=25, seed=seed).save(file)


def evaluation_json(**changes: Any) -> dict[str, Any]:
    """What `tauzero evaluate --json` prints, of two models and two sizes."""
    rows, per_seed = [], []
    for k, model in enumerate(("auto", "lightgbm")):
        for size in (50, 400):
            measures = {"tau": 0.6 + size / 2000 + k / 10, "spearman": 0.8, "p_at_1": 0.2, "n_at_10": 12.0, "r2": 0.7}
            measures |= {"mae": 1.5, "fit_s": 0.1, "predict_s": 0.2, "coverage_90": 0.88}
            spread = {f"{name}_std": 0.01 for name in measures}
            rows.append({"model": model, "train": size, "test": 100.0, "seeds": 2, **measures, **spread})
            rows[-1] |= {"tau_unseen": None, "tau_unseen_std": None, "width_90": None, "width_90_std": None}
            per_seed += [{"model": model, "train": size, "seed": seed, **measures} for seed in (0, 1)]
    found = {
        "benchmark": "nasbench201", "space": "nasbench201", "dataset": "cifar10", "metric": "test_accuracy",
        "protocol": "all", "protocol_text": "judge on everything", "splits": ["50 train"], "rows": rows,
        "per_seed": per_seed, "noise_ceiling": 0.91, "noise_ceiling_metric": "validation_accuracy",
    }  # fmt: skip
    return {**found, **changes}


def write_oneshot(folder: Path, method: str = "darts-v1", seed: int = 0, *, table: bool = True) -> Path:
    """A finished one-shot search of four epochs, whose cell gets one skip connection more in each."""
    folder.mkdir(parents=True)
    space = tz.spaces.get("nasbench201")
    rng = np.random.default_rng(seed)
    convolutions = np.full((4, 6), space.operations.index("nor_conv_3x3"), dtype=np.int8)
    skips = np.where(np.arange(6) < np.arange(1, 5)[:, None], space.operations.index("skip_connect"), convolutions)
    archs = space.to_string(skips.astype(np.int8))
    decides = method not in {"rsps", "enas"}
    history = pd.DataFrame(
        {
            "epoch": range(4), "train_loss": [2.0, 1.5, 1.25, 1.0 + seed], "train_accuracy": [20.0, 40.0, 50.0, 60.0],
            "architecture_loss": [1.0] * 4 if decides else [None] * 4, "peak_memory_mb": 100.0,
            "arch": archs if decides else [None] * 4,
        }
    )  # fmt: skip
    history.to_parquet(folder / "history.parquet")
    drawn = space.sample(20, seed, unique=True)
    ranking = pd.DataFrame({"genotype": drawn.tolist(), "score": rng.random(20)})
    datasets: dict[str, Any] = {}
    if table:
        ranking["test_accuracy"] = rng.random(20)
        for k, name in enumerate(("cifar10", "cifar100")):
            datasets[name] = {"validation_accuracy": 80.0, "test_accuracy": 90.0 + seed - k, "rank": 7, "of": 15625}
    ranking.to_parquet(folder / "ranking.parquet")
    best = {"arch": archs[-1], "value": 50.5 + seed, "rank": 7 if table else None, "datasets": datasets}
    common = {"method": method, "space": "nasbench201", "seed": seed}
    result = common | {
        "best": best, "search_accuracy": 51.0, "supernet_tau": 0.25 - seed if table else None, "epochs": 4,
        "train_seconds": 12.5, "peak_memory_mb": 100.0, "data": f"512 images, drawn with seed {seed}",
        "options": {"channels": 4, "seed_of": seed},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(common | {"preset": "smoke", "epochs": 4}), encoding="utf-8")
    words = f"tauzero search --method {method} --seed {seed} --out DIR"
    made = {"command": words, "versions": {"torch": "2"}, "machine": "a machine"}
    (folder / "provenance.json").write_text(json.dumps(made), encoding="utf-8")
    return folder


class Page(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.scripts: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif not self._open or self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What is read, on one line."""
        return re.sub(r"\s+", " ", " ".join(self.texts))

    @property
    def specs(self) -> list[dict[str, Any]]:
        """Of each chart, in order."""
        kinds = [attributes for tag, attributes in self.tags if tag == "script"]
        return [json.loads(s) for s, a in zip(self.scripts, kinds, strict=True) if a.get("class") == "spec"]

    @property
    def titles(self) -> list[str]:
        """Titles of figures and tables."""
        return re.findall(r'<h3><span class="number">[^<]*</span> ([^<]*)</h3>', self.source)

    def chart(self, title: str) -> dict[str, Any]:
        """The chart of a title."""
        charts = re.findall(r'<figure id="[^"]*" class="(\w+)">', self.source)
        number = [t for t, kind in zip(self.titles, charts, strict=True) if kind == "chart"].index(title)
        return self.specs[number]

    def table(self, title: str) -> list[list[str]]:
        """Cells of a table, headings first."""
        part = self.source.split(f"</span> {title}</h3>")[1].split("</figure>")[0]
        rows = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)
        return [
            [html.unescape(re.sub(r"<[^>]*>", "", c)).strip() for c in re.split(r"</t[hd]>", row)[:-1]] for row in rows
        ]
