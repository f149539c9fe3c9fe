"""Import thousands of damaged files with every reader; count what came of them.

    python performance/fuzz_readers.py [--count 1500] [--first 0] [--readers NAME …] [--out FILE.json]

The files are those of ``tests/test_benchmarks_fuzz.py``, with more numbers. Nothing outside of a temporary
folder is written, except --out. The exit code is 1 if anything but a table or a `BenchmarkFormatError` came out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from harness import machine

from tauzero.benchmarks import atomic_path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fuzz_helpers import fixtures, fuzz

GOOD = {"same": "read, unchanged", "table": "read as another valid table", "refused": "BenchmarkFormatError"}
BATCH = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1500, help="random files of each fixture, beside the special ones")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first; the special files come with number 0"
    )
    parser.add_argument("--readers", nargs="*", help="fixtures; all by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    where = machine("pyarrow")
    results: dict[str, dict[str, Any]] = {}
    wrong: list[dict[str, Any]] = []
    for name in options.readers or sorted(fixtures()):
        begun = time.perf_counter()
        found = []
        for first in range(options.first, options.first + options.count, BATCH):
            batch = fuzz(name, first, min(BATCH, options.first + options.count - first), timeout=3600)
            found += [fact for fact in batch if fact["case"] != "intact"]
        outcomes = Counter(GOOD.get(fact["outcome"], "other") for fact in found)
        wrong += [{"reader": name, **fact} for fact in found if fact["outcome"] not in GOOD]
        results[name] = {
            "files": len(found),
            **{text: outcomes[text] for text in (*GOOD.values(), "other")},
            "seconds": round(time.perf_counter() - begun, 1),
            "slowest_s": max(fact["seconds"] for fact in found if "seconds" in fact),
            "most_memory_mb": max(fact["megabytes"] for fact in found if "megabytes" in fact),
        }
        print(name, results[name], flush=True)
    total = sum(result["files"] for result in results.values())
    print(f"{total} files, {len(wrong)} with another outcome")
    for fact in wrong:
        print(fact)
    if options.out:
        facts = {"machine": where, "first": options.first, "files": total, "readers": results, "other": wrong}
        with atomic_path(options.out) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
