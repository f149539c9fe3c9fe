"""What a page shows of the end of a study: results, tests between algorithms, gains of predictions, cells found."""

from __future__ import annotations

__all__ = ["best_cells", "final", "gains", "wins"]

from collections.abc import Iterator
from typing import Any

import numpy as np

from tauzero.evaluation._report import _charts
from tauzero.evaluation._report._cells import drawings
from tauzero.evaluation._report._parts import (
    Chart,
    Column,
    Context,
    Drawing,
    Drawings,
    Figure,
    Styles,
    Table,
    View,
    number,
    signed,
)
from tauzero.evaluation._report._study import HOUR, Study, array, unique

_SIGNIFICANT = 0.05
_DRAWN = 6


def final(study: Study, context: Context) -> Iterator[Figure]:
    """What each algorithm has at the end."""
    del context
    trials = study.trials
    columns = [Column("objective", numeric=False), Column("algorithm", numeric=False), Column("trials")]
    optional = {
        "true_queries": Column("true queries", note="mean over trials"),
        "queries": Column("queries", note="of the objective, which may be predictions; mean over trials"),
        "validation_accuracy": Column("validation, %", note="mean ± standard deviation over trials"),
        "test_accuracy": Column("test, %", note="mean ± standard deviation over trials"),
        "simulated_s": Column("simulated, h", note="hours of training that the table says it would have taken"),
        "wall_s": Column("wall, s", note="seconds that the search itself took"),
    }
    if "true_queries" in trials and "queries" in trials and (trials["queries"] == trials["true_queries"]).all():
        del optional["true_queries"]
    have = {name: column for name, column in optional.items() if name in trials and trials[name].notna().any()}
    columns += [
        Column("regret, pp", note="mean ± standard deviation over trials, percentage points"),
        Column("median regret"),
        Column("optimum found", note="share of trials that ended at the optimum"),
        *have.values(),
    ]
    rows = []
    for (objective, algorithm), part in trials.groupby(["objective", "algorithm"], sort=False):
        regrets = array(part, "regret")
        hits = int((regrets <= 1e-9).sum())
        row: list[Any] = [
            objective,
            algorithm,
            len(part),
            _spread(regrets, 3),
            float(np.nanmedian(regrets)) if np.isfinite(regrets).any() else None,
        ]
        row.append((hits / len(part), f"{hits} of {len(part)}"))
        for name in have:
            values = array(part, name)
            if name in {"validation_accuracy", "test_accuracy"}:
                row.append(_spread(values, 2))
            else:
                mean = float(np.nanmean(values)) if np.isfinite(values).any() else None
                row.append(mean / HOUR if mean is not None and name == "simulated_s" else mean)
        rows.append(row)
    if rows:
        yield Figure(
            "Final results",
            Table(tuple(columns), rows),
            "Mean ± standard deviation over trials (n − 1 in the denominator).",
        )


def wins(study: Study, context: Context) -> Iterator[Figure]:
    """Which algorithm ends with less regret than which other, pair by pair."""
    del context
    for objective in unique(study.tests, "objective"):
        rows = study.tests[study.tests["objective"] == objective]
        order = [a for a in study.algorithms if a in {*rows["algorithm_a"], *rows["algorithm_b"]}]
        place = {name: k for k, name in enumerate(order)}
        values = np.full((len(order), len(order)), np.nan)
        texts = [["" for _ in order] for _ in order]
        hover = [[name if name == other else "" for other in order] for name in order]
        for row in rows.to_dict("records"):
            i, j = place.get(row["algorithm_a"]), place.get(row["algorithm_b"])
            if i is None or j is None:
                continue
            p = row.get("p_adjusted", row.get("p_value"))
            for a, b, sign in ((i, j, 1.0), (j, i, -1.0)):
                values[a, b] = sign * row["mean_difference"]
                clear = p is not None and p < _SIGNIFICANT
                texts[a][b] = signed(values[a, b], 2) + "*" * clear
                hover[a][b] = _pair(order[a], order[b], values[a, b], p, row, forwards=a == i)
        if len(order) < 2:
            continue
        limit = float(np.nanmax(np.abs(values))) or 1.0
        view = _charts.heat_map(order, order, values, texts=texts, hover=hover, limit=limit, bar="difference, pp")
        yield Figure(
            f"Who wins, objective {objective}",
            Chart(
                f"Mean difference of final regret between each two of {', '.join(order)}.",
                (view,),
                height=max(340, 130 + 44 * len(order)),
                min_width=200 + 58 * len(order),
            ),
            "Final regret of the row less that of the column, percentage points: where it is negative (blue), "
            f"the row's algorithm is the better one. * marks an adjusted p value below {_SIGNIFICANT} (paired "
            "over trials).",
        )


def _pair(name: str, other: str, difference: float, p: Any, row: dict[str, Any], *, forwards: bool) -> str:
    parts = [f"{name} − {other}: {signed(difference, 3)} pp"]
    if p is not None:
        parts.append(f"adjusted p {number(float(p), 2)}")
    if {"wins", "losses"} <= row.keys():
        won, lost = (row["wins"], row["losses"]) if forwards else (row["losses"], row["wins"])
        parts.append(f"better in {won}, equal in {row.get('ties', 0)}, worse in {lost} trials")
    return "\n".join(parts)


def gains(study: Study, context: Context) -> Iterator[Figure]:
    """Search on predicted metrics against look-up."""
    del context
    rows = study.gains
    if not len(rows):
        return
    styles = Styles()  # of objectives, not of algorithms
    objectives = list(dict.fromkeys(rows["objective"]))
    order = list(dict.fromkeys(rows["algorithm"]))
    data = []
    for objective in objectives:
        part = rows[rows["objective"] == objective].set_index("algorithm").reindex(order)
        error = array(part, "std") if "std" in part else np.full(len(order), np.nan)
        trace = {
            "type": "scatter",
            "mode": "markers",
            "y": [_charts.tidy(a) for a in order],
            "x": _charts.rounded(part["mean_gain"]),
            "error_x": {"array": _charts.rounded(error), "color": styles.colour(str(objective)), "thickness": 1.4},
            "marker": {
                "color": styles.colour(str(objective)), "size": 10, "symbol": styles.symbol(str(objective))
            },
            "customdata": [_gain_text(str(objective), a, r) for a, r in part.iterrows()],
            "hovertemplate": "%{customdata}<extra></extra>",
            "legendgroup": str(objective),
            "showlegend": False,
        }  # fmt: skip
        data.append(trace)
    layout = {
        "xaxis": _charts.axis("gain, percentage points", zeroline=True, zerolinecolor="@muted"),
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
        "hovermode": "closest",
    }
    yield Figure(
        "Predictions against look-up",
        Chart(
            f"Gain of search on {', '.join(map(str, objectives))} over look-up, by algorithm.",
            (View(data, layout),),
            legend=_charts.legend_of(map(str, objectives), styles, markers=True),
            height=max(260, 110 + 34 * len(order)),
        ),
        "Final regret with look-up less that with the other objective at equal true queries, mean ± standard deviation "
        "over trials: to the right of zero, predictions find the better architecture.",
    )
    columns = (
        Column("algorithm", numeric=False), Column("objective", numeric=False), Column("trials"),
        Column("gain, pp", note="mean ± standard deviation over trials"), Column("p"), Column("adjusted p"),
    )  # fmt: skip
    lines = [
        [
            r["algorithm"],
            r["objective"],
            r.get("trials"),
            (r["mean_gain"], f"{signed(r['mean_gain'], 3)} ± {r.get('std', np.nan):.3f}"),
            *((p, number(p, 2)) if p is not None else None for p in (r.get("p_value"), r.get("p_adjusted"))),
        ]
        for r in rows.to_dict("records")
    ]
    yield Figure("Gain of predictions, with tests", Table(columns, lines), "p values of a paired test over trials.")


def _gain_text(objective: str, algorithm: Any, row: Any) -> str:
    p = row.get("p_adjusted")
    test = "" if p is None else f", adjusted p {number(float(p), 2)}"
    return _charts.tidy(f"{algorithm} on {objective}: {signed(row['mean_gain'], 3)} pp{test}")


def best_cells(study: Study, context: Context) -> Iterator[Figure]:
    """The best architectures that any trial ended with, drawn."""
    del context
    space = str(study.configuration.get("space") or study.configuration.get("benchmark") or "")
    if "arch" not in study.trials or not len(study.trials):
        return
    by = next(c for c in ("validation_accuracy", "value", "regret") if c in study.trials)
    falls = by == "regret"
    found = study.trials.groupby("arch", sort=False)
    order = found[by].mean().sort_values(ascending=falls, kind="stable").index[:_DRAWN]
    items: list[Drawing] = []
    for place, arch in enumerate(order, 1):
        part = found.get_group(arch)
        finders = part["algorithm"].value_counts(sort=False)
        who = ", ".join(f"{name} {count}" for name, count in finders.items())
        accuracies = [
            f"{label} {part[name].mean():.2f} %"
            for name, label in (("validation_accuracy", "validation"), ("test_accuracy", "test"))
            if name in part and part[name].notna().any()
        ]
        lines = (", ".join(accuracies), f"Found by {len(part)} of {len(study.trials)} trials: {who}")
        items += drawings(space, str(arch), f"Number {place}", tuple(t for t in lines if t))
    if items:
        yield Figure(
            "Best cells found",
            Drawings(tuple(items)),
            f"The {len(order)} best architectures that trials chose at their end, by {by.replace('_', ' ')}. Dashed: "
            "operations without effect on the output.",
        )


def _spread(values: Any, decimals: int) -> tuple[float | None, str]:
    kept = values[np.isfinite(values)]
    if not len(kept):
        return None, "–"
    std = kept.std(ddof=1) if len(kept) > 1 else 0.0
    return float(kept.mean()), f"{kept.mean():.{decimals}f} ± {std:.{decimals}f}"
