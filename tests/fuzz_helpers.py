"""Damaging files in every way that files are damaged, and trying what an import makes of them.

Run as a program, this imports damaged files of one fixture in a process of its own, whose memory is limited, and
writes lines of JSON to its standard output, so that a crash of the interpreter is seen and counted:

    python tests/fuzz_helpers.py FIXTURE FIRST COUNT SKIP
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Address space that a process may take on beside what it has when the imports begin (bytes).
MEMORY = 3 * 2**30
#: Resident memory that damaged files of a few kilobytes may make it use (bytes).
RESIDENT = 400 * 2**20
Fixture = Callable[[Path], Path]


def fixtures() -> dict[str, Fixture]:
    """All entries of ``FUZZ`` in ``tests/fixtures_*.py``: ``"READER"`` or ``"READER/VARIANT"`` → writer."""
    here = Path(__file__).parent
    found: dict[str, Fixture] = {}
    for path in sorted(here.glob("fixtures_*.py")):
        module: Any = importlib.import_module(path.stem)
        for name, make in getattr(module, "FUZZ", {}).items():
            if name in found:
                raise ValueError(f"two fixtures are called {name!r}; the second is in {path.name}")
            found[name] = make
    return found


# -- damage -----------------------------------------------------------------------------------

Random = np.random.Generator
_HUGE = (2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1, 10**9, 2**28, 0x7F7F7F7F)


def _truncated(data: bytes, rng: Random) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _tail_lost(data: bytes, rng: Random) -> bytes:
    return data[: len(data) - int(rng.integers(1, 17))]


def _flipped(data: bytes, rng: Random, count: int) -> bytes:
    damaged = bytearray(data)
    for _ in range(count):
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _one_bit(data: bytes, rng: Random) -> bytes:
    return _flipped(data, rng, 1)


def _many_bits(data: bytes, rng: Random) -> bytes:
    return _flipped(data, rng, int(rng.integers(2, 50)))


def _bit_near_the_ends(data: bytes, rng: Random) -> bytes:
    """Where most formats have their lengths and directories."""
    damaged = bytearray(data)
    place = int(rng.integers(min(len(data), 400)))
    damaged[place if rng.random() < 0.5 else -1 - place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _run(data: bytes, rng: Random, byte: bytes) -> bytes:
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, 65))
    return data[:start] + byte * len(data[start : start + length]) + data[start + length :]


def _zeros(data: bytes, rng: Random) -> bytes:
    return _run(data, rng, b"\x00")


def _ones(data: bytes, rng: Random) -> bytes:
    return _run(data, rng, b"\xff")


def _inserted(data: bytes, rng: Random) -> bytes:
    start = int(rng.integers(len(data) + 1))
    return data[:start] + rng.bytes(int(rng.integers(1, 40))) + data[start:]


def _deleted(data: bytes, rng: Random) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 40)) :]


def _huge_length(data: bytes, rng: Random) -> bytes:
    width = 4 if rng.random() < 0.5 else 8
    value = _HUGE[int(rng.integers(len(_HUGE)))] % 2 ** (8 * width)
    order = "little" if rng.random() < 0.8 else "big"
    step = 1 if rng.random() < 0.5 else 4  # not all formats align their lengths
    place = int(rng.integers(max(1, len(data) - width) // step + 1)) * step
    return data[:place] + value.to_bytes(width, order) + data[place + width :]


def _huge_varint(data: bytes, rng: Random) -> bytes:
    place = int(rng.integers(len(data)))
    return data[:place] + b"\xff\xff\xff\xff\x0f" + data[place + 5 :]


def _swapped(data: bytes, rng: Random) -> bytes:
    size = max(1, len(data) // int(rng.integers(4, 17)))
    blocks = [data[k : k + size] for k in range(0, len(data), size)]
    a, b = rng.integers(len(blocks), size=2)
    blocks[a], blocks[b] = blocks[b], blocks[a]
    return b"".join(blocks)


def _twice(data: bytes, rng: Random) -> bytes:
    return data + data[int(rng.integers(len(data))) :] if rng.random() < 0.5 else data + data


def _noise(data: bytes, rng: Random) -> bytes:
    """The first bytes are right, the rest is not."""
    keep = int(rng.integers(1, 65))
    return data[:keep] + rng.bytes(max(1, len(data) - keep))


RANDOM: tuple[Callable[[bytes, Random], bytes], ...] = (
    _one_bit,
    _truncated,
    _huge_length,
    _many_bits,
    _bit_near_the_ends,
    _zeros,
    _deleted,
    _inserted,
    _ones,
    _swapped,
    _huge_varint,
    _twice,
    _tail_lost,
    _noise,
)


def foreign() -> dict[str, bytes]:
    """Contents that have nothing to do with a benchmark, or only look like it at first."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("readme.txt", "nothing to see")
    return {
        "empty": b"",
        "one byte": b"P",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(200),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(200),
        "gzip": gzip.compress(b"text" * 100),
        "text": "Ärger\n".encode() * 50,
        "json": b'{"a": [1, 2, {"b": null}]}',
        "deep json": b"[" * 100_000,
        "zip": archive.getvalue(),
        "parquet magic": b"PAR1" + bytes(100) + b"PAR1",
        "parquet length": b"PAR1" + bytes(100) + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        "arrow magic": b"ARROW1\x00\x00" + bytes(100) + b"ARROW1",
        "arrow length": b"ARROW1\x00\x00" + bytes(100) + (2**31 - 1).to_bytes(4, "little") + b"ARROW1",
        "bz2 of zeros": bz2.compress(bytes(64 * 2**20)),  # 45 bytes that become 64 MB
    }


class _Command:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class _Evaluated(_Command):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({self.marker!r}, 'w').close()",)


class _Opened(_Command):
    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


class _Started(_Command):
    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", self.marker],)


def malicious(marker: Path) -> dict[str, bytes]:
    """Pickles that would make the file `marker` if they were believed, or use up all memory."""
    found = {
        f"{kind.__name__.strip('_').lower()} {protocol}": pickle.dumps({"a": kind(str(marker))}, protocol)
        for kind in (_Command, _Evaluated, _Opened, _Started)
        for protocol in (0, 2, 4)
    }
    objects = np.array([_Command(str(marker)), None], dtype=object)
    found["object array"] = pickle.dumps(objects, 4)
    found["inst"] = f"(S'touch {marker}'\nios\nsystem\n.".encode()
    found["global"] = b"cbuiltins\nexec\n(V" + f"open({str(marker)!r}, 'w')".encode() + b"\ntR."
    found["stack global"] = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(f"touch {marker}")])
    found["stack global"] += f"touch {marker}".encode() + b"\x85R."
    found["build"] = b"\x80\x02}(X\x01\x00\x00\x00aK\x01ucnumpy\nndarray\n)\x81}(X\x01\x00\x00\x00bK\x01ub."
    found["memo"] = b"\x80\x02]r\xff\xff\xff\x7f."  # place 2³¹-1 of the memo: 34 GB in CPython
    found["memo in text"] = b"\x80\x02]p2000000000\n."
    found["bytes"] = b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"."
    found["string"] = b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"a."
    found["long"] = b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"a."
    found["digits"] = b"I" + b"9" * 100_000 + b"\n."
    found["nested"] = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    found["frame"] = b"\x80\x04\x95" + (2**63 - 1).to_bytes(8, "little") + b"}."
    found["shape"] = pickle.dumps({"a": np.zeros(3)}, 4).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85")
    return found


def _wheel(data: bytes, number: int, content: bytes, repeat: int = 1, declared: int | None = None) -> bytes:
    """A zip archive with another content of one of its files; `declared` lies about its size wherever it stands."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        for k, name in enumerate(names):
            if k != number % len(names):
                new.writestr(name, old.read(name))
                continue
            with new.open(name, "w") as stream:
                for _ in range(repeat):
                    stream.write(content)
    made = out.getvalue()
    if declared is not None:
        size = (repeat * len(content)).to_bytes(4, "little")
        made = made.replace(size, declared.to_bytes(4, "little"))
    return made


Made = Callable[[], bytes]
_SETS = (b"\x80\x04(", *[b"\x8f" * 1_000_000] * 10, b"t.")  # a pickle of 2 GB of empty sets


def special(data: bytes, marker: Path) -> dict[str, Made]:
    """Damage of which there is one of each kind; what is large is made when it is asked for."""
    found: dict[str, Made] = {kind: (lambda content=content: content) for kind, content in foreign().items()}
    wicked = {kind: (lambda content=content: content) for kind, content in malicious(marker).items()}
    wicked["sets"] = lambda: b"".join(_SETS)
    if data[:4] == b"PK\x03\x04":
        found["zip bomb"] = lambda: _wheel(data, 0, bytes(2**20), 300)
        found["zip that declares too much"] = lambda: _wheel(data, 1, b"abc" * 411, declared=2**31 - 1)
        found["zip that declares too little"] = lambda: _wheel(data, 2, bytes(2**20), 64, declared=100)
        for number, (kind, make) in enumerate(wicked.items()):
            found[f"zip of {kind}"] = lambda number=number, make=make: _wheel(data, number, make())
    elif data[:3] == b"BZh":
        found["bz2 bomb"] = lambda: bz2.compress(bytes(2**24)) * 256  # 4 GB in streams one after the other
        for kind, make in wicked.items():
            found[f"bz2 of {kind}"] = lambda make=make: bz2.compress(make())
        found["bz2 of sets"] = lambda: b"".join(map(bz2.compress, _SETS))
    elif data[:6] == b"ARROW1":
        for version in (b"0", b"2", b"9"):
            found[f"version {version.decode()}"] = lambda version=version: data.replace(
                b'"version": 1', b'"version": ' + version
            )
    elif _is_pickle(data):
        found |= wicked
    return found


def _is_pickle(data: bytes) -> bool:
    """Whether a fixture's file is one; whoever reads it is given pickles that do harm."""
    if data[:1] not in b"\x80(]}c":
        return False
    try:
        return sum(1 for _ in pickletools.genops(data[: 2**20])) > 2
    except (ValueError, UnicodeDecodeError, OverflowError):
        return False


def damaged(data: bytes, number: int) -> tuple[str, bytes]:
    """Random damage; a number is always the same one."""
    rng = np.random.default_rng(number)
    damage = RANDOM[number % len(RANDOM)]
    kind = damage.__name__.strip("_")
    # Behind the checksums of a compressed file there is a reader that should be tried, too.
    inside = number // len(RANDOM) % 3
    if data[:4] == b"PK\x03\x04" and inside:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            names = [info.filename for info in opened.infolist() if info.file_size]
            member = opened.read(names[number % len(names)])
        return f"zip of {kind}", _wheel(data, number, damage(member, rng))
    if data[:3] == b"BZh" and inside:
        return f"bz2 of {kind}", bz2.compress(damage(bz2.decompress(data), rng))
    return kind, damage(data, rng)


# -- imports ----------------------------------------------------------------------------------


def _peak(reset: bool = False) -> int:
    """Largest resident size of this process since it was last reset (bytes); 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def _limit_memory() -> None:
    try:
        import resource

        with open("/proc/self/statm") as statm:
            now = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    except (ImportError, OSError):
        pass


class Trial:
    """Imports of one fixture's file with damage in it.

    Parameters
    ----------
    name
        The fixture: a reader or ``READER/VARIANT``; or ``"store"``.
    folder
        An empty folder to work in.
    """

    def __init__(self, name: str, folder: Path) -> None:
        from tauzero.benchmarks import READERS

        kind = name.partition("/")[0]
        self.benchmark = READERS[kind].benchmark if kind in READERS else "nasbench201"
        source = folder / "source"
        source.mkdir()
        self.path = fixtures()[name](source)
        # The files of a folder that a damage goes into, by turns: those beyond the first few are of the same kinds.
        files = sorted(p for p in self.path.rglob("*") if p.is_file()) if self.path.is_dir() else [self.path]
        self.contents = {p: p.read_bytes() for p in (files if len(files) <= 4 else [*files[:2], *files[-2:]])}
        self.marker = folder / "marker"
        self.data = folder / "data"
        self.data.mkdir()
        self.target = self.data / "table.arrow"
        self.intact = self._content() if self._import() == "table" else None

    def cases(self) -> dict[str, tuple[Path, Made | None]]:
        """All special damage of all files: name → file and content (None: without the file)."""
        found: dict[str, tuple[Path, Made | None]] = {}
        for path, data in self.contents.items():
            if path != self.path:
                found[f"{path.name}: missing"] = path, None
            for kind, make in special(data, self.marker).items():
                found[f"{path.name}: {kind}"] = path, make
        return found

    def random(self, number: int) -> tuple[str, Path, bytes]:
        """Random damage: its name, the file and the content."""
        path = list(self.contents)[number % len(self.contents)]
        kind, content = damaged(self.contents[path], number)
        return f"{path.name}: {kind} {number}", path, content

    def _import(self) -> str:
        from tauzero.benchmarks import import_table
        from tauzero.spaces import BenchmarkFormatError

        try:
            import_table(self.benchmark, self.path, self.target)
        except BenchmarkFormatError:
            return "refused"
        return "table"

    def _content(self) -> str:
        """Read everything that is in the table that was written; its digest."""
        from tauzero.benchmarks import read_store
        from tauzero.benchmarks._folder_lock import digest

        table = read_store(self.target)
        for column in table.columns:
            column.verify()
            column.check()
        names = json.dumps([[*c.key, c.unit, c.description] for c in table.columns])
        more = [a for a in (table.index, table.genotypes) if a is not None]
        return digest(names, *(c.values for c in table.columns), *more)

    def run(self, path: Path, content: bytes | None) -> dict[str, Any]:
        """Import with a content in the place of a file (None: without the file); say what came of it."""
        self.target.write_bytes(b"an older table")
        started, before = time.perf_counter(), _peak(reset=True)
        try:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            try:
                outcome = self._import()
                if outcome == "table":
                    outcome = "same" if self._content() == self.intact else "table"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
                outcome = f"{type(error).__module__}.{type(error).__name__}: {error}"[:300]
            seconds, grown = time.perf_counter() - started, _peak() - before
            left = sorted(os.listdir(self.data))
            if self.marker.exists():
                outcome = "executed"
                self.marker.unlink()
            elif left != [self.target.name]:
                outcome = f"left {left}"
            elif outcome == "refused" and self.target.read_bytes() != b"an older table":
                outcome = "the older table has gone"
            elif grown > RESIDENT:
                outcome = f"used {grown >> 20} MB"
        finally:
            for name in os.listdir(self.data):
                place = self.data / name
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            path.write_bytes(self.contents[path])
        return {"outcome": outcome, "seconds": round(seconds, 4), "megabytes": grown >> 20}


def _main(name: str, first: int, count: int, skip: int) -> None:
    """Special damage where `first` is 0, then random damage from number `first` on; `skip` cases are passed over."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(name, Path(folder))
        _say({"case": "intact", "outcome": "same" if trial.intact else "refused"})
        _limit_memory()
        number = 0
        for label, (path, make) in trial.cases().items() if first == 0 else ():
            number += 1
            if number > skip:
                _say({"case": label})
                _say({"case": label, **trial.run(path, make and make())})
        for k in range(first, first + count):
            number += 1
            if number > skip:
                label, path, content = trial.random(k)
                _say({"case": label})
                _say({"case": label, **trial.run(path, content)})


def _say(fact: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def fuzz(name: str, first: int, count: int, timeout: float = 600) -> list[dict[str, Any]]:
    """Import damaged files of a fixture in other processes; one dictionary for each, crashes included.

    A line without an outcome is written before each import: the last one tells what a process died of.
    """
    found: list[dict[str, Any]] = []
    skip = 0
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    while True:
        command = [sys.executable, __file__, name, str(first), str(count), str(skip)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
        facts = [json.loads(line) for line in done.stdout.splitlines()]
        finished = [fact for fact in facts if "outcome" in fact]
        found += finished if not skip else finished[1:]
        if done.returncode == 0:
            return found
        if len(facts) < 2 or "outcome" in facts[-1]:
            raise RuntimeError(f"the process failed outside of an import: {done.stderr[-2000:]}")
        found.append({**facts[-1], "outcome": f"crash: {done.returncode}", "stderr": done.stderr[-1500:]})
        skip = sum(1 for fact in found if fact["case"] != "intact")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    _main(sys.argv[1], *map(int, sys.argv[2:5]))
