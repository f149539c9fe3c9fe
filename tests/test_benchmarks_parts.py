"""Readings in parts: an interrupted import goes on, a damaged source leaves nothing behind."""

import os
from dataclasses import replace

import numpy as np
import pytest

from tauzero import spaces
from tauzero.benchmarks import Column, Table, _readers, import_table, load
from tauzero.benchmarks._folder_lock import FolderInUseError
from tauzero.benchmarks._parts import Parts, parts_of
from tauzero.spaces import BenchmarkFormatError

CHUNKS, WIDTH = 5, 3125


def table_of(values):
    space = spaces.get("nasbench201")
    column = Column("cifar10", "test_accuracy", 200, None, "percent", values, "made up")
    return Table("nasbench201", space.name, (column,), "CC0-1.0", {"source": "made up"})


class Chunked:
    """A reader of five chunks that can be stopped before any of them."""

    def __init__(self):
        self.stop_before = {}
        self.read_chunks = []

    def __call__(self, path, progress, parts=None):
        parts = Parts() if parts is None else parts
        for chunk in range(len(parts), CHUNKS):
            if chunk in self.stop_before:
                raise self.stop_before.pop(chunk)
            self.read_chunks.append(chunk)
            parts.append(values=np.full(WIDTH, float(chunk)), offset=np.array(chunk))
            progress(chunk + 1, CHUNKS)
        return table_of(parts.joined("values"))


@pytest.fixture
def chunked(monkeypatch, tmp_path):
    reader = Chunked()
    monkeypatch.setitem(
        _readers.READERS,
        "chunked",
        _readers.Reader("nasbench201", "chunks", lambda p: p.suffix == ".chunks", reader, reader),
    )
    source = tmp_path / "some.chunks"
    source.write_bytes(b"x")
    return reader, source


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def test_an_interrupted_import_goes_on_where_it_stopped(chunked, tmp_path):
    reader, source = chunked
    out = tmp_path / "data"
    out.mkdir()
    reader.stop_before = {3: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        import_table("nasbench201", source, out)
    assert leftovers(out) == [".nasbench201.reading"]
    assert not (out / "nasbench201.arrow").exists()
    path = import_table("nasbench201", source, out)
    assert reader.read_chunks == [0, 1, 2, 3, 4]
    assert leftovers(out) == []
    expected = np.repeat(np.arange(5.0), WIDTH)
    np.testing.assert_array_equal(load("nasbench201", path).table("cifar10", "test_accuracy"), expected)


def test_a_source_that_has_changed_is_read_from_the_beginning(chunked, tmp_path):
    reader, source = chunked
    reader.stop_before = {2: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        import_table("nasbench201", source, tmp_path)
    os.utime(source, ns=(1, 1))
    import_table("nasbench201", source, tmp_path)
    assert reader.read_chunks == [0, 1, 0, 1, 2, 3, 4]
    assert leftovers(tmp_path) == []


def test_a_damaged_source_leaves_no_parts(chunked, tmp_path):
    reader, source = chunked
    reader.stop_before = {2: BenchmarkFormatError("chunk 2 is damaged")}
    with pytest.raises(BenchmarkFormatError, match="chunk 2"):
        import_table("nasbench201", source, tmp_path)
    import_table("nasbench201", source, tmp_path)
    assert reader.read_chunks == [0, 1, 0, 1, 2, 3, 4]


def test_loading_a_source_reads_without_writing(chunked, tmp_path):
    _, source = chunked
    before = sorted(tmp_path.iterdir())
    assert load("nasbench201", source).table("cifar10", "test_accuracy").max() == 4.0
    assert sorted(tmp_path.iterdir()) == before


def test_two_imports_into_one_table_are_refused(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with (
        parts_of(tmp_path / "t.arrow", source, "a"),
        pytest.raises(FolderInUseError, match="Another import"),
        parts_of(tmp_path / "t.arrow", source, "a"),
    ):
        pass


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nothing", b"no archive"])
def test_a_damaged_part_and_those_after_it_are_read_again(tmp_path, damage):
    first = Parts(tmp_path)
    for value in range(3):
        first.append(values=np.array([value]))
    (tmp_path / "000001.npz").write_bytes(damage)
    again = Parts(tmp_path)
    assert len(again) == 1
    again.append(values=np.array([7]))
    np.testing.assert_array_equal(again.joined("values"), [0, 7])


def test_parts_hold_numbers_only(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        Parts(tmp_path).append(values=np.array([object()]))
    assert list(tmp_path.iterdir()) == []


def test_files_in_a_folder_belong_to_its_state(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")

    def begin():
        with parts_of(tmp_path / "t.arrow", folder, "kind") as parts:
            found = len(parts)
            parts.append(x=np.zeros(1))
            raise KeyboardInterrupt(found)

    for expected in (0, 1, 2):
        with pytest.raises(KeyboardInterrupt, match=str(expected)):
            begin()
    (folder / "b").write_bytes(b"2")
    with pytest.raises(KeyboardInterrupt, match="0"):
        begin()


def test_a_reader_without_parts_is_unchanged(chunked, tmp_path, monkeypatch):
    _, source = chunked
    whole = replace(_readers.READERS["chunked"], resume=None)
    monkeypatch.setitem(_readers.READERS, "chunked", whole)
    import_table("nasbench201", source, tmp_path)
    assert leftovers(tmp_path) == []
