"""Files are written completely or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tauzero.benchmarks import UnwritableFolderError, atomic_path, data_folder


def test_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "result.csv"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["result.csv"]


def test_replaces_an_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_nothing_is_left_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_unwritable_folder_is_named_before_the_work(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("I am no folder")
    reached = False
    with (
        pytest.raises(UnwritableFolderError, match=r"folder '.*file/below'") as caught,
        atomic_path(blocker / "below" / "x"),
    ):
        reached = True
    assert not reached
    assert "TAUZERO_DATA" not in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ValueError)


def test_unwritable_data_folder_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(UnwritableFolderError, match="TAUZERO_DATA"), atomic_path(data_folder() / "x.arrow"):
        pass


def test_target_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFolderError, match="folder of that name"), atomic_path(tmp_path):
        pass


def test_full_disk_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFolderError, match="space left"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_other_os_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "missing").read_text()


def test_data_folder_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAUZERO_DATA", "~/tables")
    assert data_folder() == Path.home() / "tables"
    monkeypatch.setenv("TAUZERO_DATA", "")
    assert data_folder().name == "tauzero"
