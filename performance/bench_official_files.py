"""How long the import of a whole folder of official pickles takes, and how much memory: NATS-Bench's topology space.

    python performance/bench_official_files.py --originals FOLDER [--count 15625] [--keep FOLDER] [--out FILE.json]

FOLDER holds a few genuine ``NNNNNN.pickle.pbz2`` and ``meta.pickle.pbz2``. The others are made of these: another
architecture's name and other numbers in the 12-epoch schedule, and the genuine numbers of the 200-epoch schedule, nine
tenths of a file, as a second bz2 stream. So each has the size of a published file, and costs as much to decompress and
read. Also measured: an import that is killed half-way and goes on.
"""

from __future__ import annotations

import argparse
import bz2
import os
import pickle
import pickletools
import signal
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from harness import fresh_process, machine, report

from tauzero.benchmarks import _safe_pickle

IMPORT = """
import json, resource, sys, time
from tauzero import benchmarks
begin, cpu = time.perf_counter(), time.process_time()
path = benchmarks.import_table("nasbench201", sys.argv[1], sys.argv[2])
out = {"import, s": time.perf_counter() - begin, "import, CPU s": time.process_time() - cpu}
with open("/proc/self/status") as status:
    out["import, peak MB"] = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
table = benchmarks.load("nasbench201", path)
out["table, rows"], out["table, columns"] = len(table.architectures), len(table.info()["columns"])
out["table, MB"] = path.stat().st_size / 1e6
begin = time.perf_counter()
benchmarks.load("nasbench201", path).query_index([0])
out["first query of a table that is not loaded, s"] = time.perf_counter() - begin
print(json.dumps(out))
"""


PLACEHOLDER = "|placeholder|"


def named(value: Any, name: str) -> Any:
    """Copy a state with another architecture's name, one object wherever it stands; of Python's own classes."""
    if not isinstance(value, dict):
        return value
    made: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
    made.update((key, name if key == "arch_str" else named(inner, name)) for key, inner in value.items())
    return made


class Template:
    """A genuine file, cut before the long schedule, whose pickle is the same for all names and compressed once."""

    def __init__(self, path: Path) -> None:
        state = named(_safe_pickle.loads(bz2.decompress(path.read_bytes()), str(path)), PLACEHOLDER)
        data = pickle.dumps(state, 4)
        frames = [at for opcode, _, at in pickletools.genops(data) if opcode.name == "FRAME"]
        for at in reversed(frames):  # their lengths would change with the name's; they are optional
            data = data[:at] + data[at + 9 :]
        cut = data.index(b"\x8c\x03200\x94")
        self.head, self.tail = data[:cut], bz2.compress(data[cut:])
        self.numbers = np.array(
            [at + 1 for op, _, at in pickletools.genops(data) if op.name == "BINFLOAT" and at < cut]
        )

    def write(self, path: Path, name: str, seed: int) -> None:
        """Write a file with another name and other numbers in the short schedule."""
        head = np.frombuffer(self.head, np.uint8).copy()
        places = self.numbers[:, None] + np.arange(8)
        values = np.ascontiguousarray(head[places]).view(">f8")
        values *= np.random.default_rng(seed).uniform(0.98, 1.0, values.shape)
        head[places] = values.view(np.uint8)
        made = head.tobytes().replace(text(PLACEHOLDER), text(name))
        partial = path.with_suffix(".part")
        partial.write_bytes(bz2.compress(made) + self.tail)
        partial.rename(path)


def text(value: str) -> bytes:
    """A short string in a pickle."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def write_files(originals: Path, folder: Path, count: int) -> None:
    """Write the files that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = (originals / "meta.pickle.pbz2").read_bytes()
    (folder / "meta.pickle.pbz2").write_bytes(meta)
    names = _safe_pickle.loads(bz2.decompress(meta), "meta")["meta_archs"]
    templates = [Template(path) for path in sorted(originals.glob("0*.pickle.pbz2"))]
    for number in range(count):
        path = folder / f"{number:06d}.pickle.pbz2"
        if not path.exists():
            templates[number % len(templates)].write(path, names[number], number)


def killed_half_way(folder: Path, out: Path, after: float) -> float:
    """Kill an import after some seconds; seconds that the next one takes."""
    command = [sys.executable, "-c", IMPORT, str(folder), str(out)]
    with subprocess.Popen(command) as process:
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
    if (out / "nasbench201.arrow").exists():
        raise RuntimeError("the import was done before it was killed")
    return fresh_process(IMPORT, folder, out)["import, s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--originals", type=Path, required=True, help="folder with genuine files")
    parser.add_argument("--count", type=int, default=15_625, help="number of files")
    parser.add_argument("--keep", type=Path, help="folder for the files that are made; they are not deleted")
    parser.add_argument("--no-kill", action="store_true", help="leave the interrupted import out")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary) / "NATS-tss-made-simple"
        begin = time.perf_counter()
        write_files(arguments.originals, folder, arguments.count)
        sizes = [p.stat().st_size for p in folder.glob("0*.pickle.pbz2")]
        figures = {
            "files": [float(len(sizes))],
            "files, MB": [sum(sizes) / 1e6],
            "genuine files, mean KB": [
                sum(p.stat().st_size / 1e3 for p in arguments.originals.glob("0*.pbz2"))
                / len(list(arguments.originals.glob("0*.pbz2")))
            ],
            "files, mean KB": [sum(sizes) / len(sizes) / 1e3],
            "writing the files, s": [time.perf_counter() - begin],
        }
        os.environ["TAUZERO_DATA"] = temporary
        for label, value in fresh_process(IMPORT, folder, temporary).items():
            figures.setdefault(label, []).append(value)
        if not arguments.no_kill:
            other = Path(temporary) / "killed"
            other.mkdir()
            rest = killed_half_way(folder, other, figures["import, s"][0] / 2)
            figures["import after one that was killed half-way, s"] = [rest]
    report(machine("pyarrow"), figures, arguments.out)


if __name__ == "__main__":
    main()
