"""Training on more vectors than memory is to hold, and predicting a long table: peak memory and time.

    python benchmarks/past_memory.py fit --folder DIR [--rows 10000000] [--classes 2,20] [--memory 4]
    python benchmarks/past_memory.py predict --folder DIR [--rows 100000,1000000]

`fit` makes a run of made texts whose random float16 vectors lie in a cache, through the package's own writers, and
trains each head on it in a process of its own that is told, by FROZENHEAD_MEMORY, to reckon with so many GiB. Peak
memory is what the process needs: its private memory (RssAnon, looked at every 20 ms); VmHWM counts pages of files that
are mapped as well, which the system takes back at will. With `--limit` each process may not have more data than that
(RLIMIT_DATA). `predict` writes the predictions of a table whose vectors are in the cache.

Needs disk: 2 x rows x dim x 2 bytes for `fit`. Everything is made in DIR and removed, unless `--keep`.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

COMMAND = "import sys; from frozenhead.cli import main; main()"
BLOCK = 2**17
DIM = 384
FEATURE = "made.mean"
EPOCHS = ("--set", "dense.epochs=2", "--set", "dense.batch_size=256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["fit", "predict", "prepare"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", default="")
    parser.add_argument("--classes", default="2,20")
    parser.add_argument("--heads", default="ridge,centroid,softmax,dense")
    parser.add_argument("--memory", type=float, default=4)
    parser.add_argument("--limit", type=float, help="GiB of data that a process may have")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.what == "prepare":
        make_run(options.folder, int(options.rows), int(options.classes))
    elif options.what == "predict":
        measure_predict(options)
    else:
        measure_fit(options)


def measure_fit(options: argparse.Namespace) -> None:
    rows = options.rows or "10000000"
    print("| rows | classes | head | private peak, GB | VmHWM, GB | wall s | CPU s | test accuracy |")
    print("| --- " * 8 + "|", flush=True)
    for classes in options.classes.split(","):
        words = ["prepare", "--folder", str(options.folder), "--rows", rows, "--classes", classes]
        subprocess.run([sys.executable, __file__, *words], check=True)
        run = options.folder / f"run-{classes}"
        for head in options.heads.split(","):
            words = ["fit", str(run), "--head", head, "--json", *(EPOCHS if head == "dense" else ())]
            facts = measured(words, memory=options.memory, limit=options.limit)
            told = json.loads(facts["output"])["heads"][0]
            metrics = json.loads((run / "heads" / FEATURE / head / "metrics.json").read_text())
            print(
                f"| {int(rows):,} | {classes} | {told['head']} | {facts['private']:.2f} | {facts['high']:.2f} "
                f"| {facts['seconds']:.0f} | {facts['cpu']:.0f} | {metrics['test']['accuracy']:.4f} |",
                flush=True,
            )
        if not options.keep:
            shutil.rmtree(run)
    if not options.keep:
        shutil.rmtree(options.folder / "cache")


def measure_predict(options: argparse.Namespace) -> None:
    sizes = [int(n) for n in (options.rows or "100000,1000000").split(",")]
    run = make_table(options.folder, max(sizes))
    print("| rows | output | private peak, GB | VmHWM, GB | wall s | CPU s | rows/s |")
    print("| --- " * 7 + "|", flush=True)
    for rows in sizes:
        data = options.folder / f"{rows}.csv"
        with open(options.folder / "all.csv", encoding="utf-8") as whole, open(data, "w", encoding="utf-8") as file:
            file.writelines(line for _, line in zip(range(rows + 1), whole, strict=False))
        for kind in ("csv", "parquet"):
            out = options.folder / f"out.{kind}"
            facts = measured(["predict", str(run), str(data), "-o", str(out), "--quiet"], memory=None, limit=None)
            print(
                f"| {rows:,} | {kind} | {facts['private']:.2f} | {facts['high']:.2f} | {facts['seconds']:.1f} "
                f"| {facts['cpu']:.1f} | {rows / facts['seconds']:,.0f} |",
                flush=True,
            )
    if not options.keep:
        shutil.rmtree(options.folder)


def measured(words: list[str], *, memory: float | None, limit: float | None) -> dict:
    """One command in a process of its own: seconds, and the most memory it had."""
    setting = {} if memory is None else {"FROZENHEAD_MEMORY": str(memory)}
    code = COMMAND
    if limit:
        code = f"import resource as r; r.setrlimit(r.RLIMIT_DATA, ({int(limit * 2**30)},) * 2); {COMMAND}"
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, env=os.environ | setting)
    peaks = {"RssAnon": 0, "VmHWM": 0}
    watcher = threading.Thread(target=watch, args=(child.pid, peaks))
    watcher.start()
    output = child.stdout.read() if child.stdout else b""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if child.returncode:
        raise SystemExit(f"frozenhead {' '.join(words)} ended with {child.returncode}")
    return {
        "output": output,
        "private": peaks["RssAnon"] / 1e9,
        "high": peaks["VmHWM"] / 1e9,
        "seconds": time.perf_counter() - begun,
        "cpu": usage.ru_utime + usage.ru_stime,
    }


def watch(pid: int, peaks: dict[str, int]) -> None:
    """Note the largest values that the system tells of a process, until it ends."""
    while True:
        try:
            with open(f"/proc/{pid}/status") as file:
                lines = [line.split() for line in file]
        except OSError:
            return
        told = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[0][:-1] in peaks}
        if not told:  # it has ended
            return
        for name, size in told.items():
            peaks[name] = max(peaks[name], size)
        time.sleep(0.02)


def make_run(folder: Path, rows: int, classes: int) -> None:
    """A run of made texts in `folder / run-<classes>`; its vectors are put into the cache the first time."""
    import numpy as np
    import pyarrow as pa

    from frozenhead.cache import Space, VectorCache, text_keys
    from frozenhead.runs import Run

    files = (("config.json", "0" * 64), ("model.safetensors", "1" * 64))
    space = Space(files=files, pooling="mean", max_length=16, dim=DIM, precision="bf16", dtype="float16")
    store = VectorCache(folder / "cache").space(space)
    full = not store.pin()
    keys, codes = np.empty((rows, 32), np.uint8), np.empty(rows, np.int64)
    centres = np.random.default_rng(1).normal(size=(20, DIM)).astype(np.float32) * 0.15
    with store.writer() as writer:
        for start in range(0, rows, BLOCK):
            block = slice(start, min(start + BLOCK, rows))
            n = block.stop - start
            rng = np.random.default_rng([2, start])
            codes[block] = rng.integers(0, 20, n)
            keys[block] = text_keys(f"text {i}" for i in range(start, block.stop))
            if full:
                vectors = centres[codes[block]] + rng.standard_normal((n, DIM), np.float32)
                writer.add(keys[block], vectors, np.full(n, 4, np.int32))
    codes %= classes
    labels = [f"class {k}" for k in range(classes)]
    share = np.random.default_rng(3).random(rows)
    split = np.digitize(share, [0.7, 0.85])
    corpus = pa.table(
        {
            "row": np.arange(rows),
            "text": pa.chunked_array(
                [pa.array([f"text {i}" for i in range(s, min(s + BLOCK, rows))]) for s in range(0, rows, BLOCK)]
            ),
            "label": pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), labels),
            "split": pa.DictionaryArray.from_arrays(pa.array(split.astype(np.int32)), ["train", "val", "test"]),
            "key": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(keys)]),
        }
    )
    counts = dict(zip(("train", "val", "test"), np.bincount(split, minlength=3).tolist(), strict=True))
    run = Run.create(
        folder / f"run-{classes}",
        info={
            "classes": labels, "columns": {"text": "text", "label": "label"}, "sources": [],
            "split": {"rule": "made", "counts": counts}, "options": {}, "versions": {},
        },
        corpus=[corpus],
    )  # fmt: skip
    facts = {
        "format": 1,
        "space": space.id, "identity": space.to_dict(), "encoder": {"name": "made", "model": "made"}, "pooling": "mean",
        "max_length": 16, "dim": DIM, "cache": str((folder / "cache").resolve()), "shards": list(store.pin()),
        "rows": rows, "distinct": rows, "truncation": {}, "lengths": {},
    }  # fmt: skip
    run.write_feature(FEATURE, facts)


def make_table(folder: Path, rows: int) -> Path:
    """`all.csv` of so many texts with vectors in the cache, and a run of some of them with a softmax head."""
    import numpy as np
    from million import make_encoder

    from frozenhead.cache import VectorCache, text_keys
    from frozenhead.embedder import EmbedSettings, find_checkpoint, space_of

    make_encoder(folder / "tiny", hidden=DIM)
    space = space_of(find_checkpoint(folder / "tiny"), "mean", EmbedSettings(poolings=("mean",)))
    os.environ["FROZENHEAD_CACHE_DIR"] = str(folder / "cache")
    texts = [f"an example of what people write {i}, {'and more of it' * (i % 4)}" for i in range(rows)]
    with open(folder / "all.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "text", "label"])
        writer.writerows((i, text, "ab"[i % 2]) for i, text in enumerate(texts))
    with VectorCache(folder / "cache").space(space).writer() as shards:
        for start in range(0, rows, BLOCK):
            part = texts[start : start + BLOCK]
            vectors = np.random.default_rng(start).standard_normal((len(part), DIM), np.float32)
            shards.add(text_keys(part), vectors, np.full(len(part), 9, np.int32))
    with open(folder / "all.csv", encoding="utf-8") as whole, open(folder / "some.csv", "w", encoding="utf-8") as file:
        file.writelines(line for _, line in zip(range(5001), whole, strict=False))
    run = folder / "run"
    words = ["embed", str(folder / "some.csv"), "--model", str(folder / "tiny"), "--pooling", "mean", "--out", str(run)]
    subprocess.run([sys.executable, "-c", COMMAND, *words, "--device", "cpu", "--quiet"], check=True)
    subprocess.run([sys.executable, "-c", COMMAND, "fit", str(run), "--head", "softmax", "--quiet"], check=True)
    return run


if __name__ == "__main__":
    main()
