"""What many shards cost, whatever is in them: listing, opening and looking up in up to 100,000 small ones.

    python benchmarks/many_shards.py --shards 1000,10000,100000 --repeats 3

A shard of a real cache holds up to 64 MiB; these hold a few rows, so that what is left is the cost of their number.
Every step runs in a process of its own; the files are in the page cache of the machine. Prints a table in Markdown.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from frozenhead.cache import Space, SpaceStore, VectorCache, text_keys
from frozenhead.cache.shard import SUFFIX, encode_shard, shard_name

DIM, ROWS, ASKED = 384, 16, 1000
SPACE = Space(files=(("model.safetensors", "a" * 64),), pooling="pooler", max_length=128, dim=DIM, dtype="float16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", default="1000,10000,100000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="Where the cache is made and removed; default a temporary one.")
    parser.add_argument("--step", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(look(int(options.shards), options.folder)))
        return
    print("| shards | list, s | first lookup of 1,000 keys, s | later, s | microseconds a shard, later | peak MiB |")
    print("| --- " * 6 + "|")
    for shards in map(int, options.shards.split(",")):
        print(line(shards, measure(shards, options.repeats, options.folder)), flush=True)


def measure(shards: int, repeats: int, folder: Path | None) -> list[dict[str, float]]:
    place = Path(tempfile.mkdtemp(prefix="many-shards-", dir=folder))
    try:
        write(shards, place)
        words = [sys.executable, __file__, "--step", "--shards", str(shards), "--folder", str(place)]
        runs = [subprocess.run(words, check=True, capture_output=True, text=True) for _ in range(repeats)]
        return [json.loads(run.stdout) for run in runs]
    finally:
        shutil.rmtree(place)


def store(place: Path) -> SpaceStore:
    return VectorCache(place / "cache").space(SPACE)


def write(shards: int, place: Path) -> None:
    """The files as a writer leaves them, but not synced one by one: that is the disk's cost, not the number's."""
    store(place).writer().flush()
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(SPACE.dtype)
    for shard in range(shards):
        keys = text_keys([f"text {row}" for row in range(shard * ROWS, (shard + 1) * ROWS)])
        parts = encode_shard(SPACE, keys, vectors, np.full(ROWS, 20, np.int32))
        (store(place).folder / "shards" / f"{shard_name(*parts)}{SUFFIX}").write_bytes(b"".join(map(bytes, parts)))


def look(shards: int, place: Path) -> dict[str, float]:
    """List; then look up keys from all over, one of them in none, so that every shard is asked."""
    opened = store(place)
    begun = time.perf_counter()
    assert len(opened.pin()) == shards
    listed = time.perf_counter()
    rows = np.random.default_rng(1).choice(shards * ROWS, ASKED - 1, replace=False)
    keys = text_keys([*(f"text {row}" for row in rows), "none of them"])
    asked = time.perf_counter()
    first = opened.lookup(keys)
    found = time.perf_counter()
    opened.lookup(keys)
    assert first.found.sum() == ASKED - 1
    return {
        "list": listed - begun,
        "first": found - asked,
        "later": time.perf_counter() - found,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def line(shards: int, runs: list[dict[str, Any]]) -> str:
    def spread(values: list[float], form: str) -> str:
        return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    columns = {name: [run[name] for run in runs] for name in runs[0]}
    each = [1e6 * seconds / shards for seconds in columns["later"]]
    cells = [spread(columns[name], ".3g") for name in ("list", "first", "later")]
    return f"| {shards:,} | {' | '.join(cells)} | {statistics.median(each):.0f} | {max(columns['memory']):.0f} |"


if __name__ == "__main__":
    main()
