"""The published search results of NAS-Bench-201 (12,000 s of simulated training), searched again on the real table.

    python performance/study_published_search.py --data NB201.parquet [--trials 500] [--seconds 12000] \
        [--arms REA,RS,…] [--out performance/results/published_search.json]

The protocol of the paper (Dong and Yang, ICLR 2020, table 5; AutoDL-Projects, NAS-Bench-201-algos): a search sees the
validation accuracy on CIFAR-10 after the 12-epoch schedule, pays the training seconds of these 12 epochs, and ends
before the query that would exceed the budget; the architecture of the highest signal is judged by its test
accuracy after 200 epochs on all three data sets. "own" arms search each data set by its own signal and costs.

An arm says how it departs from tauzero's defaults. "charged" arms pay for every proposal, repeats included, as the
published scripts do; in the others an architecture is paid for once. "as published" arms also pay for validation
(2.9 % of the 12 epochs: what the original files of three architectures say) and see a single run instead of the
mean of two, which the table does not have: a deviation is drawn for each architecture (normal, 0.87 points: the root
mean square over the same three), whose sign is drawn anew for each query.

BOHB needs budgets between 12 and 200 epochs that the table does not have. The published script has none either: its
worker ignores the budget, so that every rung of its brackets (22, 67 and 200 of HpBandSter) is another look at the
same 12-epoch run for its full price. "BOHB script" does that; it is the fair comparison. "BOHB 12 epochs" is the search
by kernel densities at that one fidelity; "… 12+200" arms train for 12 or really for 200 epochs at what that costs, and
choose by the validation accuracy after 200.

Trials are seeds 0, 1, …; finished ones are kept in --out, and the same call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import machine

from tauzero import benchmarks, search
from tauzero.benchmarks import atomic_path

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
#: Mean and standard deviation of the test accuracy over 500 runs, in the order of DATASETS.
PUBLISHED = {
    "REA": ((93.92, 0.30), (71.84, 0.99), (45.15, 0.89)),
    "RS": ((93.70, 0.36), (71.04, 1.07), (44.57, 1.25)),
    "REINFORCE": ((93.85, 0.37), (71.71, 1.09), (45.24, 1.18)),
    "BOHB": ((93.61, 0.52), (70.85, 1.28), (44.42, 1.49)),
}
VALIDATION, DEVIATION = 0.029, 0.87
SMALL = {"population_size": 10, "sample_size": 3}  # of the published script
SCRIPT = {"samples": 4, "random_fraction": 0.0, "min_bandwidth": 0.3}  # BOHB's


def arm(algorithm: str, published: str | None = None, ladder: str = "12", **more: Any) -> dict[str, Any]:
    return {"algorithm": algorithm, "published": published, "ladder": ladder, "params": {}, "charged": False, **more}


ARMS = {
    "REA": arm("regularized_evolution", "REA", params=SMALL),
    "REA charged": arm("regularized_evolution", "REA", params=SMALL, charged=True),
    "REA as published": arm("regularized_evolution", "REA", params=SMALL, charged=True, noisy=True),
    "REA 50/10": arm("regularized_evolution", "REA"),
    "RS": arm("random_search", "RS"),
    "RS charged": arm("random_search", "RS", params={"replace": True}, charged=True),
    "RS as published": arm("random_search", "RS", params={"replace": True}, charged=True, noisy=True),
    "REINFORCE": arm("reinforce", "REINFORCE"),
    "REINFORCE charged": arm("reinforce", "REINFORCE", charged=True),
    "REINFORCE as published": arm("reinforce", "REINFORCE", charged=True, noisy=True),
    "REINFORCE lr 0.001 charged": arm("reinforce", "REINFORCE", params={"learning_rate": 0.001}, charged=True),
    "REINFORCE lr 0.1 charged": arm("reinforce", "REINFORCE", params={"learning_rate": 0.1}, charged=True),
    "BOHB script": arm("bohb", "BOHB", "again", params=SCRIPT, charged=True),
    "BOHB script as published": arm("bohb", "BOHB", "again", params=SCRIPT, charged=True, noisy=True),
    "BOHB 12 epochs": arm("bohb", "BOHB"),
    "BOHB 12+200": arm("bohb", ladder="12+200"),
    "Hyperband 12+200": arm("hyperband", ladder="12+200"),
    "ASHA 12+200": arm("asha", ladder="12+200"),
    "DEHB 12+200": arm("dehb", ladder="12+200"),
    "DEHB 12 epochs": arm("dehb"),
    "REA own": arm("regularized_evolution", "REA", params=SMALL, own=True),
    "RS own": arm("random_search", "RS", own=True),
    "REINFORCE own": arm("reinforce", "REINFORCE", own=True),
    "BOHB 12 epochs own": arm("bohb", "BOHB", own=True),
}


def ladder(table: benchmarks.Benchmark, dataset: str, which: str) -> search.ArrayObjective:
    """The signal and what it costs at the epochs that an arm may ask for."""
    short = search.TableObjective(table, dataset, epoch=12)
    if which == "12":
        values, seconds = {12: short.table}, {12: short.costs}
    elif which == "again":
        values, seconds = dict.fromkeys((22, 67, 200), short.table), dict.fromkeys((22, 67, 200), short.costs)
    else:
        long = search.TableObjective(table, dataset)
        values, seconds = {12: short.table, 200: long.table}, {12: short.costs, 200: long.costs}
    return search.ArrayObjective(table.space, values, seconds)


def trial(goal: search.ArrayObjective, which: dict[str, Any], seed: int, budget: float) -> tuple[int, int, int]:
    """Index of the chosen architecture, queries paid for, and proposals that were free."""
    params = dict(which["params"])
    algorithm = search.create(
        which["algorithm"],
        goal.space,
        seed,
        **params,
        **({"fidelities": goal.fidelities} if which["algorithm"] in {"asha", "bohb", "dehb", "hyperband"} else {}),
    )
    noisy = which.get("noisy", False)
    deviation = np.random.default_rng(201).normal(0.0, DEVIATION, goal.space.size) if noisy else None
    signs = np.random.default_rng([202, seed])
    known: set[tuple[int, int]] = set()
    clock, paid, free = 0.0, 0, 0
    best: tuple[int, float] = (0, -np.inf)  # highest epochs first, then the signal
    chosen = -1
    while True:
        rows, epochs = algorithm.ask_at(1)
        index = int(goal.space.index(rows)[0])
        at = goal.full_epochs if epochs is None else int(epochs[0])
        values, seconds = goal.at(at)
        value, cost = float(values[index]), float(seconds[index]) * (1 + VALIDATION * noisy)
        if deviation is not None:
            value += float(deviation[index]) * (1 if signs.random() < 0.5 else -1)
        if which["charged"] or (index, at) not in known:
            if clock + cost > budget:
                return chosen, paid, free
            clock += cost
            paid += 1
            known.add((index, at))
        else:
            free += 1
            if free > 10_000:  # a population that has converged
                return chosen, paid, free
        if (at, value) > best:
            best, chosen = (at, value), index
        algorithm.tell(rows, [value])


def summary(which: dict[str, Any], kept: dict[str, Any], test: dict[str, np.ndarray]) -> dict[str, Any]:
    """Test accuracies of what was chosen, and whether their means are within the published deviations."""
    result: dict[str, Any] = {}
    for k, dataset in enumerate(DATASETS):
        chosen = kept["chosen"][dataset if which.get("own") else "cifar10"]
        accuracies = test[dataset][chosen]
        row = {"mean": round(float(accuracies.mean()), 3), "std": round(float(accuracies.std(ddof=1)), 3)}
        if which["published"]:
            mean, std = PUBLISHED[which["published"]][k]
            row |= {"published": mean, "published_std": std, "agrees": bool(abs(row["mean"] - mean) <= std)}
        result[dataset] = row
    for name in ("paid", "free"):
        result[name] = {d: round(total / len(kept["chosen"][d]), 1) for d, total in kept[name].items()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="NAS-Bench-201 as a Parquet file")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=12_000.0)
    parser.add_argument("--arms", default=None, help="a,b,c; by default all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "published_search.json")
    options = parser.parse_args()
    arms = list(ARMS) if options.arms is None else options.arms.split(",")
    unknown = [name for name in arms if name not in ARMS]
    if unknown:
        parser.error(f"unknown arms {unknown}; there are {list(ARMS)}")
    table = benchmarks.load("nasbench201", options.data)
    test = {d: table.table(d, "test_accuracy", epoch=200) for d in DATASETS}
    where = machine()
    report: dict[str, Any] = {"config": {"seconds": options.seconds}, "machine": where, "arms": {}}
    if options.out.exists():
        before = json.loads(options.out.read_text(encoding="utf-8"))
        if before["config"] != report["config"]:
            parser.error(f"{options.out} holds trials of another configuration: {before['config']}")
        report |= {"machine": before["machine"], "arms": before["arms"]}

    def keep() -> None:
        with atomic_path(options.out) as temporary:
            temporary.write_text(json.dumps(report) + "\n", encoding="utf-8")

    for name in arms:
        which = ARMS[name]
        datasets = DATASETS if which.get("own") else ("cifar10",)
        empty = {
            "chosen": {d: [] for d in datasets},
            "paid": dict.fromkeys(datasets, 0),
            "free": dict.fromkeys(datasets, 0),
        }
        entry = report["arms"].setdefault(name, {"arm": which, "trials": empty, "processor_seconds": 0.0})
        if entry["arm"] != which:
            parser.error(f"{options.out} holds trials of another arm {name!r}: {entry['arm']}. Delete it there.")
        kept = entry["trials"]
        for dataset in datasets:
            goal = ladder(table, dataset, which["ladder"])
            for seed in range(len(kept["chosen"][dataset]), options.trials):
                report["machine"] = where  # of the latest trials
                start = time.process_time()
                chosen, paid, free = trial(goal, which, seed, options.seconds)
                kept["chosen"][dataset].append(chosen)
                kept["paid"][dataset] += paid
                kept["free"][dataset] += free
                entry["processor_seconds"] += time.process_time() - start
                if seed % 100 == 99:
                    keep()
        entry["summary"] = summary(which, kept, test)
        keep()
        shown = " · ".join(
            f"{row['mean']:.2f} ± {row['std']:.2f}{'' if row.get('agrees', True) else ' (differs)'}"
            for row in (entry["summary"][d] for d in DATASETS)
        )
        counts = f"{entry['summary']['paid']['cifar10']:.0f} queries, {entry['summary']['free']['cifar10']:.0f} free"
        print(f"{name:28} {shown} · {counts}", flush=True)


if __name__ == "__main__":
    main()
