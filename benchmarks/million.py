"""A million texts in the cache: how long `frozenhead embed` takes, and the memory that it and the first run need.

    python benchmarks/million.py spamdata_v2.csv [--rows 250000,500000,1000000] [--repeats 5] [--no-cold]
    python benchmarks/million.py spamdata_v2.csv --rows 1000000,10000000 --stream --short --by stratified,text

Repeats the texts of the file under numbers, so that each stands once, with a random BERT of 1 layer and 32 dimensions.
A warm run finds random vectors of its texts in the cache; a cold run computes them all. Every command is a process of
its own, start and imports included. "Anonymous" is the peak of its memory that no file backs, and "disk" that of
its run and what it spools beside it, sampled some tens of times a second. Prints Markdown.
"""

# This process stays small, and imports nothing large: a child's peak memory begins with that of its parent.
import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice, product
from pathlib import Path
from subprocess import DEVNULL

BASE = 1000
BATCH = 4096
COMMAND = "import sys; from frozenhead.cli import main; main()"
EMBED = ["embed", "--text", "text", "--label", "label", "--device", "cpu", "--quiet", "--overwrite"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--rows", default="250000,500000,1000000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stream", action="store_true", help="Read in parts, in little memory.")
    parser.add_argument("--by", default="stratified", help="The rules of the splits, with commas.")
    parser.add_argument("--short", action="store_true", help="Two words and a number instead of the whole texts.")
    parser.add_argument("--no-cold", action="store_true", help="Leave out the runs that compute every vector.")
    parser.add_argument("--folder", type=Path, help="Where everything is made and removed; default a temporary one.")
    parser.add_argument("--prepare", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.texts, options.folder, options.prepare, short=options.short)
        return
    sizes = [int(n) for n in options.rows.split(",")]
    with tempfile.TemporaryDirectory(prefix="million-", dir=options.folder) as name:
        folder = Path(name)
        for rows in (BASE, *sizes):
            words = [str(options.texts), "--prepare", str(rows), "--folder", str(folder), *["--short"] * options.short]
            subprocess.run([sys.executable, __file__, *words], check=True)
        heads = ("rows", "run", "seconds", "texts/s", "CPU seconds", "peak memory, MB", "anonymous, MB", "disk, MB")
        print(f"| {' | '.join(heads)} |\n" + "| --- " * len(heads) + "|", flush=True)
        for run, rule in product(("warm",) if options.no_cold else ("warm", "cold"), options.by.split(",")):
            repeats = options.repeats if run == "warm" else 1
            extra = ["--stream" if options.stream else "--no-stream", "--split-by", rule]
            for rows in (BASE, *sizes):
                runs = [measure(folder, rows, run, extra) for _ in range(repeats)]
                print(line(rows, f"{run}, {rule}", runs), flush=True)


def measure(folder: Path, rows: int, run: str, extra: list[str]) -> tuple[float, ...]:
    """Of one command: seconds, CPU seconds, peak MB, peak anonymous MB, and peak MB of the disk beside the cache."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        cache = folder / f"cache-{rows}" if run == "warm" else Path(name) / "cache"
        out = Path(name) / "runs" / "run"
        out.parent.mkdir()
        words = [*EMBED, *extra, "--model", str(folder / "tiny"), "--cache-dir", str(cache), "--out", str(out)]
        begun = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-c", COMMAND, *words, str(folder / f"{rows}.csv")], stdout=DEVNULL)
        peaks, ended = [0.0, 0.0], 0
        while not ended:
            peaks = [max(pair) for pair in zip(peaks, (anonymous(child.pid), size(out.parent)), strict=True)]
            time.sleep(0.02)
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"frozenhead {' '.join(words)} ended with {child.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, *peaks


def anonymous(pid: int) -> float:
    """MB of a process that no file backs; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon:"))


def size(folder: Path) -> float:
    """MB of the files in a folder."""
    found = 0.0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it went meanwhile
            found += path.stat().st_size / 1e6
    return found


def line(rows: int, run: str, runs: list[tuple[float, ...]]) -> str:
    """One line of the table: medians, of the seconds with their range."""
    seconds = [one[0] for one in runs]
    took, processor, *sizes = (statistics.median(values) for values in zip(*runs, strict=True))
    spread = f"{took:.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
    listed = " | ".join(f"{value:.0f}" for value in sizes)
    return f"| {rows:,} | {run} | {spread} | {rows / took:,.0f} | {processor:.2f} | {listed} |"


def prepare(source: Path, folder: Path, rows: int, *, short: bool) -> None:
    """Write `<rows>.csv`, the encoder if it is not there, and random vectors of these rows into their own cache."""
    import csv

    import numpy as np

    from frozenhead.cache import VectorCache, text_keys
    from frozenhead.embedder import EmbedSettings, find_checkpoint, space_of

    with open(source, encoding="utf-8", newline="") as file:
        messages = [(row["label"], row["text"]) for row in csv.DictReader(file)]
    if short:
        messages = [(label, " ".join(text.split()[:2])) for label, text in messages]
    numbered = ((label, f"{text} {i}") for i, (label, text) in zip(range(rows), cycle(messages), strict=False))
    if not (folder / "tiny").exists():
        make_encoder(folder / "tiny")
    space = space_of(find_checkpoint(folder / "tiny"), "pooler", EmbedSettings())
    rng = np.random.default_rng(0)
    with (
        open(folder / f"{rows}.csv", "w", encoding="utf-8", newline="") as file,
        VectorCache(folder / f"cache-{rows}").space(space).writer() as writer,
    ):
        csv.writer(file, lineterminator="\n").writerow(("label", "text"))
        while part := list(islice(numbered, BATCH)):
            csv.writer(file, lineterminator="\n").writerows(part)
            vectors = rng.standard_normal((len(part), space.dim)).astype(np.float32)
            writer.add(text_keys(text for _, text in part), vectors, np.full(len(part), 20, np.int32))


def make_encoder(folder: Path, hidden: int = 32) -> None:
    """Save a random BERT that knows single letters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{x}" for x in letters)]
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=16, **special)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=hidden, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
