"""Reading JSON of others: what is refused, and that the message says which file and why."""

from __future__ import annotations

import re
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from tauzero.benchmarks import _json_files, _safe_json
from tauzero.benchmarks._json_files import beginnings, members
from tauzero.spaces import BenchmarkFormatError

DAMAGE = {
    "empty": (b"", "line 1"),
    "truncated": (b'{"a": [1, 2', "is not a list of things"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 100_000, "nested too deeply"),
    "NaN": (b'{"a": NaN}', "NaN is no JSON"),
    "Infinity": (b'{"a": [-Infinity]}', "-Infinity is no JSON"),
    "twice": (b'{"b": {"a": 1, "a": 1}}', "'a' stands twice"),
    "digits": (b'{"a": ' + b"9" * 5_000 + b"}", "4300 digits"),
    "half a character": (rb'{"a": "\ud800"}', "lone surrogate"),
    "half a key": (rb'{"\uDC00x": [[1]]}', "lone surrogate"),
    "latin1": ('{"a": "é"}'.encode("latin1"), "byte 7 is no UTF-8"),
    "utf16": ('{"a": 1}'.encode("utf-16"), "byte 0 is no UTF-8"),
    "two documents": (b"{} {}", "Extra data"),
    "bytes": (b"\x00\x01", "is not a list of things"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_kind_of_error(name: str, tmp_path: Path) -> None:
    data, reason = DAMAGE[name]
    path = tmp_path / "some.json"
    path.write_bytes(data)
    with pytest.raises(BenchmarkFormatError, match=re.escape(reason)) as caught:
        _safe_json.load(path, "a list of things")
    assert str(path) in str(caught.value)
    str(caught.value).encode()  # can be printed


def test_good_documents_are_read(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, null, true], "\\ud83d\\ude00": {}}')
    assert _safe_json.load(path, "x") == {"a": [1, 2.5, None, True], "😀": {}}
    assert _safe_json.loads(b"[NaN, -Infinity]", "x", "x", constants=True)[1] == -float("inf")


def test_too_large_files_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(b"[" + b"1," * 1000 + b"1]")
    with pytest.raises(BenchmarkFormatError, match="more than 100 bytes"):
        _safe_json.load(path, "x", limit=100)
    monkeypatch.setattr(_safe_json, "MAX_ITEMS", 999)
    monkeypatch.setattr(_safe_json.json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(BenchmarkFormatError, match="about 1000 values"):
        _safe_json.load(path, "x")


@pytest.mark.parametrize("value", [None, "1", True, [], {}, float("nan"), float("inf"), 10**400, -(10**400)])
def test_numbers_are_finite(value: object) -> None:
    with pytest.raises(BenchmarkFormatError, match="'file' is not a table: speed must be a finite number") as caught:
        _safe_json.number(value, "speed", "file", "a table")
    assert len(str(caught.value)) < 300


def test_objects_have_entries() -> None:
    assert _safe_json.mapping({"a": 1}, "it", "file", "a table") == {"a": 1}
    for value in ({}, [1], "x", None):
        with pytest.raises(BenchmarkFormatError, match="it must be an object"):
            _safe_json.mapping(value, "it", "file", "a table")


# -- many files -------------------------------------------------------------------------------

PATTERN = re.compile(r"r_.*\.json")


def zipped(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_files_come_by_folder_and_number(tmp_path: Path) -> None:
    names = ["b/r_10.json", "b/r_9.json", "a/r_2_x.json", "a/r_007.json", "r_1.json", "a/other.json", "a/._r_1.json"]
    for name in names:
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_bytes(name.encode())
    expected = ["r_1.json", "a/r_2_x.json", "a/r_007.json", "b/r_9.json", "b/r_10.json"]
    archive = zipped(tmp_path, {name: name.encode() for name in names})
    for source in (tmp_path / "t", archive):
        with members(source, PATTERN) as files:
            assert files.names == expected
            assert [files.read(name, 100) for name in expected] == [name.encode() for name in expected]
            assert files.folders == ["t" if source.is_dir() else "some", "a", "a", "b", "b"]
        assert sorted(n.split("/")[-1] for n, _ in beginnings(source, PATTERN, 3)) == sorted(
            n.split("/")[-1] for n in expected
        )


def test_members_are_bounded_whatever_the_archive_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path, {"r_1.json": bytes(10_000_000)})  # ten thousand bytes in the archive
    with (
        members(archive, PATTERN) as files,
        pytest.raises(BenchmarkFormatError, match=r"r_1.json' is too large: more than 1000 bytes"),
    ):
        files.read("r_1.json", 1000)
    monkeypatch.setattr(_json_files, "MAX_FILES", 2)
    many = zipped(tmp_path, {f"r_{k}.json": b"" for k in range(3)})
    with pytest.raises(BenchmarkFormatError, match="more than 2 files"), members(many, PATTERN):
        pass


def test_damaged_archives(tmp_path: Path) -> None:
    good = zipped(tmp_path, {"r_1.json": b"{}" * 500}).read_bytes()
    path = tmp_path / "bad.zip"
    for position in range(0, len(good), 3):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :])
        list(beginnings(path, PATTERN, 10))  # raises nothing
        with suppress(BenchmarkFormatError), members(path, PATTERN) as files:
            for name in files.names:
                files.read(name, 5000)
    path.write_bytes(good[: len(good) - 30])
    with pytest.raises(BenchmarkFormatError, match=r"bad\.zip"), members(path, PATTERN) as files:
        files.read(files.names[0], 10)


def test_a_place_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match="has no file whose name matches"), members(tmp_path, PATTERN):
        pass
    assert list(beginnings(tmp_path / "nowhere", PATTERN, 10)) == []
    assert list(beginnings(tmp_path, PATTERN, 10)) == []
