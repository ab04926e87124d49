"""The report: whole commands on the reference's spam file, and on a run of 100,000 test rows that is made for it.

    python benchmarks/report.py spamdata_v2.csv [--rounds 5] [--made 100000] [--train 70000] [--folder DIR]

The spam run has ten heads on all-MiniLM-L6-v2. The made one has 20 classes, 5 heads and vectors of 384 numbers
whose variance falls off as 1/i, as an encoder's does; one test row in fifty lies next to a training row. Every command
is a process of its own, start, imports, page and near-copy search included; the runs take turns. Memory is the peak
of that process. Prints Markdown.
"""

# This process stays small, and imports nothing large: a child's peak memory begins with that of its parent.
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL

CLASSES, DIM, VAL = 20, 384, 5000
COPIED = 50  # of so many test rows one is nearly a training row
SPAM_HEADS = "dense,softmax,logreg,svm,ridge,centroid,knn,shuffled,tfidf,majority"
MADE_HEADS = "softmax,logreg,ridge,centroid,tfidf"
COMMAND = "import sys; from frozenhead.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spam", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--made", type=int, default=100_000, help="Test rows of the made run; 0 leaves it out.")
    parser.add_argument("--train", type=int, default=70_000, help="Training rows of the made run.")
    parser.add_argument("--folder", type=Path, help="Where the runs are kept and found again; default a temporary one.")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.folder, options.train, options.made)
        return
    with tempfile.TemporaryDirectory(prefix="report-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        runs = {"spam, 10 heads": spam_run(options.spam, folder)}
        if options.made:
            runs[f"{options.made:,} test rows, {CLASSES} classes, 5 heads"] = made_run(options, folder)
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
        for number in range(options.rounds):
            for name, run in runs.items():
                found[name].append(measure(["report", str(run), "--quiet"]))
                print(f"round {number + 1}  {name}: {found[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
        print(
            "| run | seconds | CPU seconds | peak memory, MB | report.html, MB | report.json, MB |\n"
            + "| --- " * 6
            + "|"
        )
        for name, run in runs.items():
            print(line(name, run, found[name]))


def measure(words: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MB of one command."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", COMMAND, *words], stdout=DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"frozenhead {' '.join(words)} ended with {child.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def line(name: str, run: Path, rounds: list[tuple[float, float, float]]) -> str:
    """One line of the table: medians, of the seconds with their range."""
    seconds = [one[0] for one in rounds]
    took, processor, peak = (statistics.median(values) for values in zip(*rounds, strict=True))
    page, content = ((run / file).stat().st_size / 1e6 for file in ("report.html", "report.json"))
    spread = f"{took:.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
    return f"| {name} | {spread} | {processor:.1f} | {peak:,.0f} | {page:.2f} | {content:.2f} |"


def spam_run(source: Path, folder: Path) -> Path:
    """The spam file embedded by MiniLM as the notebook splits it, with ten heads."""
    run = folder / "spam"
    if not (run / "heads" / "text" / "majority").exists():
        cache = ["--cache-dir", str(folder / "cache-spam")]
        words = ["--recipe", "notebook", "--model", "minilm", "--precision", "fp32", *cache]
        measure(["embed", str(source), *words, "--out", str(run), "--quiet"])
        measure(["fit", str(run), "--head", SPAM_HEADS, "--quiet"])
    return run


def made_run(options: argparse.Namespace, folder: Path) -> Path:
    """A run over made texts and vectors, with five heads."""
    place = folder / f"made-{options.train}-{options.made}"
    run = place / "run"
    if not (run / "heads" / "text" / "tfidf").exists():
        place.mkdir(exist_ok=True)
        words = [str(options.spam), "--prepare", "--folder", str(place)]
        sizes = ["--train", str(options.train), "--made", str(options.made)]
        subprocess.run([sys.executable, __file__, *words, *sizes], check=True)
        files = [str(place / "train.csv"), "--val", str(place / "val.csv"), "--test", str(place / "test.csv")]
        cache = ["--model", str(place / "tiny"), "--cache-dir", str(place / "cache"), "--precision", "fp32"]
        measure(["embed", *files, "--text", "text", "--label", "label", *cache, "--out", str(run), "--quiet"])
        measure(["fit", str(run), "--head", MADE_HEADS, "--quiet"])
    return run


def prepare(folder: Path, train: int, test: int) -> None:
    """Write train.csv, val.csv and test.csv, an encoder, and made vectors of these texts into a cache."""
    import csv

    import numpy as np
    from million import BATCH, make_encoder

    from frozenhead.cache import VectorCache, text_keys
    from frozenhead.embedder import EmbedSettings, find_checkpoint, space_of

    rng = np.random.default_rng(0)
    sizes = {"train": train, "val": VAL, "test": test}
    rows = sum(sizes.values())
    labels = rng.integers(CLASSES, size=rows)
    scale = 1 / np.sqrt(1 + np.arange(DIM))
    centres = 1.2 * scale * rng.standard_normal((CLASSES, DIM))
    vectors = (centres[labels] + scale * rng.standard_normal((rows, DIM))).astype(np.float32)
    copies = np.arange(train + VAL, rows, COPIED)
    of = rng.integers(train, size=len(copies))
    labels[copies], vectors[copies] = labels[of], vectors[of] + 0.02 * vectors[copies]
    words = [[f"w{c}x{i}" for i in range(40)] for c in range(CLASSES)]
    drawn = rng.integers(40, size=(rows, 12))
    # a third of the words are of any class, so that no head is always right
    topics = np.where(rng.random((rows, 12)) < 0.67, labels[:, None], rng.integers(CLASSES, size=(rows, 12)))
    texts = [" ".join([*(words[c][i] for c, i in zip(topics[n], drawn[n], strict=True)), str(n)]) for n in range(rows)]
    start = 0
    for name, size in sizes.items():
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            own = range(start, start + size)
            csv.writer(file, lineterminator="\n").writerows(
                [("label", "text"), *((f"class {labels[n]:02d}", texts[n]) for n in own)]
            )
        start += size
    make_encoder(folder / "tiny", DIM)
    space = space_of(find_checkpoint(folder / "tiny"), "pooler", EmbedSettings(precision="fp32"))
    keys, tokens = text_keys(texts), np.full(rows, 16, np.int32)
    with VectorCache(folder / "cache").space(space).writer() as writer:
        for begin in range(0, rows, BATCH):
            part = slice(begin, begin + BATCH)
            writer.add(keys[part], vectors[part], tokens[part])


if __name__ == "__main__":
    main()
