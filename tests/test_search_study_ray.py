"""Studies and tables on Ray: a real cluster of two nodes on this machine, one of which dies meanwhile."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_helpers import toy_benchmark

from tauzero import search, spaces
from tauzero.spaces import MissingExtraError, Progress

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform == "win32",
    reason="Ray is not installed (tauzero[ray]), or has no clusters on this system",
)
ALGORITHMS = ["random_search", "local_search"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with one CPU each; the head is the first."""
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, while it starts
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            made.add_node(num_cpus=1)
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()


def killer(cluster: Any, after: int) -> tuple[Progress, list[int]]:
    """A progress function that ends the second node once so much is done, and a list that then has an entry."""
    second = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if done >= after and not killed:
            cluster.remove_node(second, allow_graceful=False)
            killed.append(done)

    return kill, killed


def studied(out: Path, **options: Any) -> search.StudyResult:
    return search.study(
        toy_benchmark(), ALGORITHMS, ["table", "surrogate"], out=out, surrogate="bayesian_linear",
        **{"trials": 12, "budget": 30, "train": 10, "predicted_budget": 50, **options},
    )  # fmt: skip


@needs_ray
@pytest.mark.slow
def test_a_study_on_ray_is_that_of_one_process(cluster: Any, tmp_path: Path) -> None:
    import ray

    kill, killed = killer(cluster, after=4)
    out = tmp_path / "ray"
    found = studied(out, engine="ray", address=cluster.address, progress=kill)
    assert killed
    assert not ray.is_initialized()
    expected = studied(tmp_path / "local", workers=1)
    pd.testing.assert_frame_equal(
        found.trials.drop(columns="wall_s"), expected.trials.drop(columns="wall_s"), check_exact=True
    )
    for name in ("curves", "tests", "gains"):
        assert (out / f"{name}.parquet").read_bytes() == (tmp_path / f"local/{name}.parquet").read_bytes()
    more = studied(out, workers=1, trials=13)  # a folder does not care which engine goes on with it
    assert len(more.trials) == 4 * 13


@needs_ray
@pytest.mark.slow
def test_a_table_built_on_ray_is_that_of_one_process(cluster: Any, tmp_path: Path) -> None:
    import ray

    kill, killed = killer(cluster, after=1)
    space = spaces.get("nasbench201")
    small: dict[str, Any] = {
        "epochs": 1, "seeds": 2, "train_images": 60, "validation_images": 40, "test_images": 50, "batch_size": 20,
        "group_size": 2, "channels": 2, "cells_per_stage": 1, "genotypes": space.sample(10, 0, unique=True),
    }  # fmt: skip
    found = search.build_table(
        space, tmp_path / "ray", name="mine", engine="ray", address=cluster.address, progress=kill, **small
    )
    assert killed
    assert not ray.is_initialized()
    expected = search.build_table(space, tmp_path / "local", name="mine", workers=1, **small)
    assert [column.key for column in found.columns] == [column.key for column in expected.columns]
    for one, other in zip(found.columns, expected.columns, strict=True):
        assert one.metric == "training_seconds" or np.array_equal(one.values, other.values), one.name


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"tauzero\[ray\]"):
        studied(tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()
    with pytest.raises(MissingExtraError, match=r"tauzero\[ray\]"):
        search.ParallelObjective(search.TableObjective(toy_benchmark()), "ray")
