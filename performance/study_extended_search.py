"""Is a search over predictions of cells larger than any in training worth anything? Judged on real tables.

    python performance/study_extended_search.py --out performance/results/extended_search.json

A `gnn` learns from small cells (NAS-Bench-101: at most 6 vertices; NAS-Bench-201: those that three nodes suffice for),
is extended by one vertex or node, and `mass_evolution` searches the larger space by its predictions alone. The best
predicted cells that are really larger are looked up. Against them stand as many random larger cells, the best
small cells that the model had learnt from, and the best larger cell of all. Also: coverage of 90 % intervals on random
larger cells, as they are and stretched by distance. ``--table NAME=PATH`` reads another table than the
imported one; ``--tables`` prints the figures of a file and computes nothing. Accuracies are test accuracies in percent.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import machine

import tauzero as tz
from tauzero.benchmarks import atomic_path

SEEDS = (0, 1, 2)
CASES = (("nasbench101", 1_000), ("nasbench101", 4_000), ("nasbench201", 100))
SMALL = {"nasbench101": "nasbench101x(vertices=6,edges=9)", "nasbench201": "nasbench201x(nodes=3)"}
LARGE = {"nasbench101": "nasbench101x(vertices=7,edges=9)", "nasbench201": "nasbench201x(nodes=4)"}
BUDGET = {"nasbench101": 100_000, "nasbench201": 5_000}
JUDGED, TOP = 5_000, 10


def small_and_large(name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small cells in the columns of the small space and their places in `rows`; places of the larger ones."""
    space, small = tz.spaces.get(name), tz.spaces.get(SMALL[name])
    if name == "nasbench101":
        fits = space.num_vertices(rows) <= 6
        return np.flatnonzero(fits), np.flatnonzero(~fits)
    # Node 2 of the small cell is the output, node 3 of the large one.
    wide = np.zeros((small.size, 6), dtype=np.int8)
    wide[:, [0, 3, 4]] = small.enumerate()
    known = np.unique(space.classes()[space.index(wide)])
    fits = np.isin(space.classes()[space.index(rows)], known)
    return np.flatnonzero(fits), np.flatnonzero(~fits)


def as_small(name: str, rows: np.ndarray) -> np.ndarray:
    """Rows of the published space in the columns of the small one."""
    small, space = tz.spaces.get(SMALL[name]), tz.spaces.get(name)
    if name == "nasbench101":
        return small.from_string(space.to_string(rows))
    wide = np.zeros((small.size, 6), dtype=np.int8)
    wide[:, [0, 3, 4]] = small.enumerate()
    labels = space.classes()
    place = {label: k for k, label in enumerate(labels[space.index(wide)].tolist())}
    return small.enumerate()[[place[label] for label in labels[space.index(rows)].tolist()]]


def one(name: str, n: int, seed: int, table: Any) -> dict[str, Any]:
    """All figures of one training set."""
    space, large = tz.spaces.get(name), tz.spaces.get(LARGE[name])
    rng = np.random.default_rng(seed)
    rows = table.architectures if name == "nasbench101" else space.distinct(space.enumerate())[0]
    y = table.query(rows, dataset="cifar10", metric="test_accuracy")
    little, larger = small_and_large(name, rows)
    train = rng.permutation(little)[:n]
    cells, accuracy = as_small(name, rows[train]), y[train]
    start = time.perf_counter()
    model = tz.surrogates.create("gnn", SMALL[name], features=False, members=3, device="cpu", random_state=seed)
    extended = model.fit(cells, accuracy).on(large)
    fitted = time.perf_counter()
    judged = rng.permutation(larger)[:JUDGED]
    # Columns of the published space and of the extended one with as many vertices or nodes are the same.
    mean, _, interval = extended.predict(rows[judged], True, return_interval=0.9)
    stretch = extended.stretch(rows[judged])
    plain = mean[:, None] + (interval - mean[:, None]) / stretch[:, None]

    def coverage(ends: np.ndarray) -> float:
        return float(((ends[:, 0] <= y[judged]) & (y[judged] <= ends[:, 1])).mean())

    searching = time.perf_counter()
    objective = tz.search.SurrogateObjective(extended, whole_space=False)
    found = tz.search.run("mass_evolution", objective, BUDGET[name], seed, batch_size=2_000)
    seconds = time.perf_counter() - searching
    # The published space's canonical rows, so that they can be told apart and looked up.
    best = found.genotypes[np.argsort(-found.values, kind="stable")][: 50 * TOP]
    labels = space.classes()
    is_larger = np.isin(labels[space.index(best)], labels[space.index(rows[larger])])
    chosen = table.query(best[is_larger][:TOP], dataset="cifar10", metric="test_accuracy")
    ours = mean.argsort()[::-1][:TOP]  # of the judged ones, without a search
    return {
        "train": len(train),
        "tau": float(tz.evaluation.kendall_tau(y[judged], mean)),
        "found_mean": float(chosen.mean()),
        "found_best": float(chosen.max()),
        "found_first": float(chosen[0]),
        "ranked_mean": float(y[judged][ours].mean()),
        "random_mean": float(y[larger].mean()),
        "random_best": float(np.mean([rng.choice(y[larger], TOP).max() for _ in range(1_000)])),
        "learnt_best": float(accuracy.max()),
        "small_best": float(y[little].max()),
        "large_best": float(y[larger].max()),
        "better_share": float((y[larger] > chosen.mean()).mean()),
        "ood_above_1": float((extended.ood_score(rows[judged]) > 1).mean()),
        "ood_median": float(np.median(extended.ood_score(rows[judged]))),
        "stretch_median": float(np.median(stretch)),
        "coverage": coverage(plain),
        "coverage_stretched": coverage(interval),
        "width": float(np.median(plain[:, 1] - plain[:, 0])),
        "width_stretched": float(np.median(interval[:, 1] - interval[:, 0])),
        "queries": found.queries,
        "fit_s": fitted - start,
        "search_s": seconds,
    }


def shown(content: dict[str, Any]) -> str:
    """Mean ± standard deviation over seeds."""
    lines = []
    for key, seeds in content["figures"].items():
        lines.append(f"{key} ({len(seeds)} seeds)")
        for figure in next(iter(seeds.values())):
            values = [s[figure] for s in seeds.values()]
            lines.append(f"  {figure:20} {np.mean(values):.3f} ± {np.std(values):.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, default=Path("performance/results/extended_search.json"))
    parser.add_argument("--tables", action="store_true", help="print the figures of the file, compute nothing")
    arguments = parser.parse_args()
    known = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {"figures": {}}
    if not arguments.tables:
        torch.set_num_threads(1)
        paths = dict(entry.split("=", 1) for entry in arguments.table)
        for name, n in CASES[::-1]:
            table = tz.benchmarks.load(name, source=paths.get(name))
            figures = known["figures"].setdefault(f"{name} | {n} rows", {})
            for seed in SEEDS:
                if str(seed) not in figures:
                    figures[str(seed)] = {k: round(v, 4) for k, v in one(name, n, seed, table).items()}
                    known["where"] = machine("torch", "numpy")
                    with atomic_path(arguments.out) as temporary:
                        temporary.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(shown(known))


if __name__ == "__main__":
    main()
