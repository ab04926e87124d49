"""How the cache's cost grows with the number of rows: writing, opening, looking up, memory, disk.

    python benchmarks/cache_scale.py --rows 10000,100000,1000000 --repeats 5 --plot benchmarks/cache_scale.svg
    python benchmarks/cache_scale.py --rows 10000000 --repeats 1

Synthetic vectors of 384 float32. Every lookup runs in a process of its own, so that nothing is known and peak memory
is its own; the files are in the page cache of the machine. Prints a table in Markdown.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from frozenhead.cache import Space, SpaceStore, VectorCache, text_keys
from frozenhead.cache.keys import KEY_BYTES

DIM = 384
BLOCK = 4096
SPACE = Space(files=(("model.safetensors", "a" * 64),), pooling="pooler", max_length=128, dim=DIM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="10000,30000,100000,300000,1000000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="Where the cache is made and removed; default a temporary one.")
    parser.add_argument("--plot", type=Path, help="Where to draw rows against seconds, .svg or .png.")
    parser.add_argument("--step", choices=["write", "look", "map"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        steps = {"write": write, "look": look, "map": into_map}
        print(json.dumps(steps[options.step](int(options.rows), options.folder)))
        return
    results = [measure(int(n), options.repeats, options.folder) for n in options.rows.split(",")]
    print(table(results))
    if options.plot:
        draw(results, options.plot)


def measure(rows: int, repeats: int, folder: Path | None) -> dict[str, Any]:
    """All steps at one size, each in its own process, the lookups in turn `repeats` times."""
    place = Path(tempfile.mkdtemp(prefix="cache-scale-", dir=folder))
    try:
        result: dict[str, Any] = {"rows": rows, **run("write", rows, place)}
        looks, maps = [], []
        for _ in range(repeats):
            looks.append(run("look", rows, place))
            maps.append(run("map", rows, place))
        for name in looks[0]:
            result[name] = [one[name] for one in looks]
        for name in maps[0]:
            result[name] = [one[name] for one in maps]
        return result
    finally:
        shutil.rmtree(place)


def run(step: str, rows: int, place: Path) -> dict[str, Any]:
    words = [sys.executable, __file__, "--step", step, "--rows", str(rows), "--folder", str(place)]
    return dict(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))


def texts(start: int, stop: int) -> Iterator[str]:
    return (f"This is the text number {i} of many, as long as a short message is." for i in range(start, stop))


def store(place: Path) -> SpaceStore:
    return VectorCache(place / "cache").space(SPACE)


def keys_of(rows: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    keys = np.empty((rows, KEY_BYTES), np.uint8)
    for start in range(0, rows, BLOCK):
        stop = min(start + BLOCK, rows)
        keys[start:stop] = text_keys(texts(start, stop))
    return keys


def write(rows: int, place: Path) -> dict[str, Any]:
    block = np.random.default_rng(0).standard_normal((BLOCK, DIM)).astype(np.float32)
    begun = time.perf_counter()
    with store(place).writer(flush_seconds=np.inf) as writer:
        for start in range(0, rows, BLOCK):
            stop = min(start + BLOCK, rows)
            block[:, 0] = np.arange(start, start + BLOCK)
            writer.add(text_keys(texts(start, stop)), block[: stop - start], np.full(stop - start, 20, np.int32))
    seconds = time.perf_counter() - begun
    files = [p for p in (place / "cache").rglob("*") if p.is_file()]
    return {
        "write": [seconds],
        "shards": len(writer.committed),
        "disk": sum(p.stat().st_size for p in files) / (rows * (KEY_BYTES + 4 * DIM)),
    }


def look(rows: int, place: Path) -> dict[str, Any]:
    """Open and pin; look up all keys in row order, first with every shard hashed, then again."""
    begun = time.perf_counter()
    opened = store(place)
    opened.pin()
    pinned = time.perf_counter()
    keys = keys_of(rows)
    hashed = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = opened.lookup(keys)
    first = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check(found.vectors)
    matrix = rows * DIM * 4
    del found
    again = time.perf_counter()
    opened.lookup(keys)
    return {
        "open": pinned - begun,
        "hash": hashed - pinned,
        "first": first - hashed,
        "later": time.perf_counter() - again,
        "memory": (peak - before) * 1024 / matrix,
    }


def into_map(rows: int, place: Path) -> dict[str, Any]:
    """Fill a memory map; the process's own memory, without pages of files, is sampled while it works."""
    opened, keys = store(place), keys_of(rows)
    before = own_memory()
    with Sampler() as sampler:
        begun = time.perf_counter()
        found = opened.lookup_into(place / "vectors.npy", keys)
        seconds = time.perf_counter() - begun
    check(found.vectors)
    (place / "vectors.npy").unlink()
    return {"map": seconds, "map_mib": (sampler.peak - before) / 2**20}


def check(vectors: Any) -> None:
    """Each row is the one that was written for it."""
    for start in range(0, len(vectors), BLOCK):
        part = np.asarray(vectors[start : start + BLOCK, 0])
        assert (part == np.arange(start, start + len(part), dtype=np.float32)).all()


def own_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell a process's own memory")


class Sampler:
    """The largest own memory seen while the block runs."""

    def __enter__(self) -> "Sampler":
        self.peak, self._done = own_memory(), threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, own_memory())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def spread(values: list[float], form: str) -> str:
    """Median (range)."""
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({format(min(values), form)} to {format(max(values), form)})"


def table(results: list[dict[str, Any]]) -> str:
    heads = [
        "rows", "shards", "write, s", "open and pin, ms", "first lookup, rows/s", "later lookup, rows/s",
        "peak memory / matrix", "into a map, s", "its own memory, MiB", "bytes / (keys + vectors)",
    ]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for r in results:
        n = r["rows"]
        first = [n / (h + f) for h, f in zip(r["hash"], r["first"], strict=True)]
        later = [n / (h + f) for h, f in zip(r["hash"], r["later"], strict=True)]
        cells = [
            f"{n:,}", f"{r['shards']:,}", spread(r["write"], ".1f"), spread([1e3 * s for s in r["open"]], ".1f"),
            spread(first, ",.0f"), spread(later, ",.0f"), spread(r["memory"], ".3f"), spread(r["map"], ".2f"),
            spread(r["map_mib"], ".0f"), f"{r['disk']:.4f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "frozenhead"
    from matplotlib import pyplot as plt

    rows = [r["rows"] for r in results]
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    names = {
        "write": "write", "first": "first lookup, every byte hashed", "later": "later lookup",
        "map": "into a memory map", "hash": "hash the texts", "open": "open and pin",
    }  # fmt: skip
    for name, label in names.items():
        axes.plot(rows, [statistics.median(r[name]) for r in results], marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="rows of 384 float32", ylabel="seconds (median)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


if __name__ == "__main__":
    main()
