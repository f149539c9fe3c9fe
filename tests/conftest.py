"""Fixtures of all tests: a data folder of each test's own, the shared data, and tables imported from it once."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not there yet as TAUZERO_DATA, so that no test reads or writes the user's tables."""
    # Counted here: `mktemp` lists the thousands of folders of the tests before.
    folder = tmp_path_factory.getbasetemp() / f"data{next(_NUMBERS)}" / "tauzero"
    folder.parent.mkdir()
    monkeypatch.setenv("TAUZERO_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real benchmark files; without it the test is skipped.

    ``TAUZERO_SHARED_DATA`` names another place. In CI (environment variable ``CI``) a folder that is
    there but cannot be read is a failure, not a skip.
    """
    folder = Path(os.environ.get("TAUZERO_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the shared benchmark data are not at {folder} (TAUZERO_SHARED_DATA names another place)")
    tables = [folder / "nb201" / "nb201.parquet", folder / "nb101" / "nb101.parquet"]
    unreadable = [str(p) for p in tables if not (p.is_file() and os.access(p, os.R_OK))]
    if unreadable:
        reason = f"{folder} is there but these files cannot be read: {', '.join(unreadable)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def nasbench201_store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real NAS-Bench-201 table as a store: ``benchmarks.load("nasbench201", nasbench201_store)``."""
    from tauzero import benchmarks

    target = tmp_path_factory.mktemp("stores") / "nasbench201.arrow"
    return benchmarks.import_table("nasbench201", shared_data / "nb201" / "nb201.parquet", target)


@pytest.fixture(scope="session")
def nasbench101_store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real NAS-Bench-101 table as a store: ``benchmarks.load("nasbench101", nasbench101_store)``."""
    from tauzero import benchmarks

    target = tmp_path_factory.mktemp("stores") / "nasbench101.arrow"
    return benchmarks.import_table("nasbench101", shared_data / "nb101", target)
