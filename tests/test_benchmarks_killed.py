"""An import that is killed at any moment leaves the old table or the new one, and nothing that stays for ever."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tauzero import benchmarks, spaces
from tauzero.benchmarks import Column, Table, atomic_path, write_store
from tauzero.benchmarks._files import remove_stale

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")]
KILLS = 24

# A process that has everything imported already. For each line "source target delay" it starts a child that imports,
# kills it after the delay (not at all if that is negative), and says how the child ended and after how long.
SERVER = """
import json, os, signal, sys, time
import numpy as np
import pyarrow.parquet
from tauzero import benchmarks, spaces
from tauzero.benchmarks import Column, Reader, Table, READERS
from tauzero.benchmarks._parts import Parts

spaces.get("nasbench201").enumerate()

def chunks(path, progress, parts):
    with open(path.with_suffix(".log"), "a") as log:
        for k in range(len(parts), 5):
            log.write(f"{k}\\n")
            log.flush()
            time.sleep(0.04)
            parts.append(values=np.full(3125, float(k)))
            progress(k + 1, 5)
    column = Column("cifar10", "test_accuracy", 200, None, "percent", parts.joined("values"), "made up")
    return Table("nasbench201", "nasbench201", (column,), "CC0-1.0", {"source": "made up"})

READERS["chunks"] = Reader(
    "nasbench201", "chunks", lambda p: p.suffix == ".chunks", lambda p, progress: chunks(p, progress, Parts()), chunks
)
for line in sys.stdin:
    source, target, delay = json.loads(line)
    start = time.perf_counter()
    child = os.fork()
    if not child:
        try:
            benchmarks.import_table("nasbench201", source, target)
        finally:
            os._exit(0)
    if delay >= 0:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(json.dumps([os.WIFSIGNALED(status), time.perf_counter() - start]), flush=True)
"""


class Server:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, source: Path, target: Path, delay: float = -1.0) -> tuple[bool, float]:
        """Whether the import was killed before its end, and how long it ran (seconds)."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps([str(source), str(target), delay]) + "\n")
        stdin.flush()
        killed, seconds = json.loads(stdout.readline())
        return killed, seconds


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    assert made.process.wait(20) == 0
    assert made.process.stdout is not None
    made.process.stdout.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of NAS-Bench-201 with the columns of the real file and made-up values: about a second to import."""
    rng = np.random.default_rng(0)
    rows = spaces.get("nasbench201").enumerate()
    columns: dict[str, np.ndarray] = {f"op{k}": rows[:, k].astype(np.uint8) for k in range(6)}
    for d in ("c10", "c100", "in16"):
        runs = [f"val200_{d}_r{k}" for k in range(3)]
        for name in (*runs, f"test200_{d}_mean", f"val12_{d}", f"test12_{d}", f"train_time_s_{d}", f"latency_s_{d}"):
            columns[name] = rng.uniform(10, 95, len(rows)).astype(np.float32)
    path = tmp_path_factory.mktemp("source") / "nb201.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def older_table(target: Path) -> str:
    column = Column("cifar10", "test_accuracy", 200, None, "percent", np.full(15625, 12.5), "an older table")
    write_store(Table("nasbench201", "nasbench201", (column,), "CC0-1.0", {"source": "made up"}), target)
    return content(target)


def content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_killed_at_any_moment(server: Server, source: Path, tmp_path: Path) -> None:
    _, seconds = server(source, tmp_path / "reference.arrow")  # the first one also pays for what is loaded lazily
    _, again = server(source, tmp_path / "reference.arrow")
    duration = min(seconds, again)
    new = content(tmp_path / "reference.arrow")
    folder = tmp_path / "data"
    folder.mkdir()
    target = folder / "nasbench201.arrow"
    old = older_table(target)
    # Over the whole run, and as often over its last tenth, in which the file is written and put in place.
    moments = itertools.cycle(
        [0.05, 0.97, 0.3, 0.99, 0.55, 0.94, 0.8, 1.0, 0.15, 0.91, 0.4, 0.98, 0.7, 0.96, 0.85, 1.01]
    )
    rng = np.random.default_rng(0)
    killed, kept = 0, 0
    for moment in itertools.islice(moments, 4 * KILLS):
        was_killed, seconds = server(source, target, duration * (moment + rng.uniform(0, 0.05)))
        found = content(target)
        assert found in {old, new}
        killed += was_killed
        kept += was_killed and found == old
        if not was_killed:  # the machine has become faster
            duration = min(duration, seconds)
        left = [p.name for p in folder.iterdir() if p != target]
        assert all(name.startswith(".nasbench201.") and name.endswith(".tmp.arrow") for name in left)
        assert benchmarks.available().keys() <= {"nasbench201"}
        if found == new:
            assert old == older_table(target)
        if killed == KILLS:
            break
    assert killed >= 20
    assert kept >= 10
    (folder / f".nasbench201.{'0' * 12}.tmp.arrow").write_bytes(b"half a table")  # surely something is left over
    assert server(source, target)[0] is False
    assert content(target) == new
    assert os.listdir(folder) == ["nasbench201.arrow"]


def test_killed_while_it_reads_in_parts(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "some.chunks"
    source.write_bytes(b"x")
    log = source.with_suffix(".log")
    folder = tmp_path / "data"
    target = folder / "nasbench201.arrow"
    older_table(target)
    server(source, target)
    new = content(target)
    interrupted = 0
    for delay in np.linspace(0.02, 0.26, 7):
        old = older_table(target)
        log.unlink(missing_ok=True)
        server(source, target, float(delay))
        assert content(target) in {old, new}
        if content(target) == new:
            continue
        interrupted += 1
        assert server(source, target)[0] is False
        read = [int(k) for k in log.read_text().split()]
        assert sorted(set(read)) == [0, 1, 2, 3, 4]
        assert len(read) <= 6, "a chunk that was done was read again"  # the one that it was killed in, twice
        assert os.listdir(folder) == ["nasbench201.arrow"]
        assert content(target) == new
    assert interrupted >= 3


def test_parts_of_a_killed_import_do_not_outlive_another_one(server: Server, source: Path, tmp_path: Path) -> None:
    chunks = tmp_path / "some.chunks"
    chunks.write_bytes(b"x")
    folder = tmp_path / "data"
    folder.mkdir()
    target = folder / "nasbench201.arrow"
    for delay in np.arange(1, 20) / 20:
        server(chunks, target, delay)
        if os.listdir(folder) == [".nasbench201.reading"]:
            break
        target.unlink(missing_ok=True)
    assert os.listdir(folder) == [".nasbench201.reading"]
    server(source, target)
    assert os.listdir(folder) == ["nasbench201.arrow"]


def test_temporary_files_of_living_writers_stay(tmp_path: Path) -> None:
    target = tmp_path / "table.arrow"
    dead = tmp_path / ".table.0123456789ab.tmp.arrow"
    others = [".other.0123456789ab.tmp.arrow", ".table.0123456789ab.tmp.json", ".table.notes.tmp.arrow", "table.txt"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    dead.write_bytes(b"half")
    with atomic_path(target) as temporary:
        assert remove_stale(target) == [dead.name]
        temporary.write_bytes(b"whole")
        assert remove_stale(target) == []
    assert target.read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "table.arrow"])


# Announces itself as soon as the file is read, then does what the command line does.
INTERRUPTED = """
import sys, time
from dataclasses import replace
from tauzero import cli
from tauzero.benchmarks import READERS
kind = "nasbench201-parquet"
real = READERS[kind]
def slow(path, progress):
    table = real.read(path, progress)
    print("reading", flush=True)
    time.sleep(20)
    return table
READERS[kind] = replace(real, read=slow)
sys.argv = ["tauzero", "benchmarks", "import", "nasbench201", sys.argv[1]]
cli.main()
"""


def test_ctrl_c(source: Path, data_folder: Path) -> None:
    target = data_folder / "nasbench201.arrow"
    old = older_table(target)
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(source)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "an older one of that name is still in place" in message
    assert "Traceback" not in message
    assert content(target) == old
    assert os.listdir(data_folder) == ["nasbench201.arrow"]
