"""Ray with one worker beside a single process, in turn: A B A B.

    python benchmarks/fleet.py [--texts 4000] [--rounds 5] [--file FILE.csv]

Both have all cores, an encoder that is loaded and has computed once, and an empty cache. Of each: texts a second on
the clock from the first text to the last, the gaps between Ray's blocks included, and processor seconds of the process
that computes. What Ray takes besides, once a job, is said apart: its start, reading and shuffling, the actor's start.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from frozenhead.cache import VectorCache
from frozenhead.corpus import CorpusOptions
from frozenhead.embedder import EmbedSettings, Listener, decide, find_checkpoint
from frozenhead.fleet import RayOptions, embed_with_ray, ray_engine
from frozenhead.fleet.ray_actor import EmbedActor
from frozenhead.fleet.station import Orders, Station, import_path

WARM = [f"warm {i} up" for i in range(64)]


class Metered(EmbedActor):
    """Notes when each block began and ended, on the clock and in processor seconds, in the file that METER names."""

    def __init__(self, orders: dict[str, Any], cores: int) -> None:
        super().__init__(orders, cores)
        self._station.embed(WARM)
        self._note()

    def __call__(self, block: Any) -> dict[str, Any]:
        if not len(block):
            return super().__call__(block)
        self._note()
        counts = super().__call__(block)
        self._note()
        return counts

    def _note(self) -> None:
        with open(os.environ["METER"], "a") as file:
            file.write(json.dumps([time.time(), time.process_time()]) + "\n")


def orders_for(cache: VectorCache) -> tuple[Any, EmbedSettings, Orders]:
    checkpoint = find_checkpoint("minilm")
    settings = decide(EmbedSettings(precision="fp32", device="cpu"), checkpoint)
    return checkpoint, settings, Orders.of(checkpoint, settings, cache)


def alone(table: str, cache: str) -> None:
    """In a process of its own: seconds and processor seconds, printed."""
    texts = pd.read_csv(table, dtype=str, keep_default_na=False)["text"].tolist()
    station = Station(orders_for(VectorCache(cache))[2])
    station.embed(WARM)
    begun, cpu = time.time(), time.process_time()
    station.embed(texts)
    print(json.dumps([time.time() - begun, time.process_time() - cpu]))


def by_ray(table: str, cache: str, texts: int, meter: Path) -> dict[str, float]:
    """Seconds and processor seconds from the first block to the last, and what went before."""
    checkpoint, settings, _ = orders_for(VectorCache(cache))
    ray_engine.EmbedActor = Metered
    begun = time.time()
    work = embed_with_ray(
        checkpoint, [table], column="text", corpus=CorpusOptions(), settings=settings, cache=VectorCache(cache),
        missing=texts, options=RayOptions(workers=1, gpus_per_worker=0), listener=Listener(),
    )  # fmt: skip
    assert work.computed == texts, (work, texts)
    marks = [json.loads(line) for line in meter.read_text().splitlines()]
    return {
        "seconds": marks[-1][0] - marks[1][0],
        "cpu": marks[-1][1] - marks[1][1],
        "startup": work.startup_seconds,
        "before": marks[1][0] - begun - work.startup_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--file", type=Path, required=True, help="a CSV file with a column `text`")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        alone(*given.alone)
        return
    texts = pd.read_csv(given.file, dtype=str, keep_default_na=False)["text"].drop_duplicates()[: given.texts]
    rates, cpus = [], []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "texts.csv"
        texts.to_frame("text").to_csv(table, index=False)
        for number in range(given.rounds):
            words = [sys.executable, __file__, "--file", str(given.file), "--alone", str(table), f"{folder}/a{number}"]
            said = subprocess.run(
                words, check=True, capture_output=True, text=True, env={**os.environ, **import_path()}
            ).stdout
            seconds, cpu = json.loads(said.splitlines()[-1])
            meter = Path(folder) / f"meter{number}"
            os.environ["METER"] = str(meter)
            ours = by_ray(str(table), f"{folder}/b{number}", len(texts), meter)
            rates.append(seconds / ours["seconds"])
            cpus.append(cpu / ours["cpu"])
            print(
                f"round {number + 1}: alone {len(texts) / seconds:,.0f} texts/s, {cpu:.1f} CPU s; ray "
                f"{len(texts) / ours['seconds']:,.0f} texts/s, {ours['cpu']:.1f} CPU s; ratio {rates[-1]:.2f} on the "
                f"clock, {cpus[-1]:.2f} by CPU; Ray's start {ours['startup']:.1f} s, read, shuffle, actor and encoder "
                f"{ours['before']:.1f} s",
                flush=True,
            )
    for name, ratios in (("clock", rates), ("CPU", cpus)):
        print(f"{name}: median {statistics.median(ratios):.2f} of {len(texts):,} texts alone, {min(ratios):.2f} to "
              f"{max(ratios):.2f}, {given.rounds} rounds")  # fmt: skip


if __name__ == "__main__":
    main()
