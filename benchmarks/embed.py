"""How fast are texts embedded on the CPU, by ours and by its peers? Every contestant in turn, on the same texts.

    python benchmarks/embed.py --data FOLDER --json benchmarks/embed.json --table
    python benchmarks/embed.py --read benchmarks/embed.json --table --plot benchmarks/embed.svg
    python benchmarks/embed.py --rows 150 --rounds 1 --corpora sms --only "ours torch,sentence-transformers fp32"

Needs sentence-transformers, onnxruntime and onnxscript for their rows; what is not installed is skipped, and said.
Memory is measured in a process of its own for each contestant.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import corpora
import figures
import numpy as np
import peers
from arithmetic import SHAPES, EncoderShape, gemm_rate
from contestants import Contestant, Runner, Setting, chosen, cpu_peers, ours
from measurement import cosines, facts_of, instrumented
from metering import peak_growth
from numpy.typing import NDArray
from quality import head_predictions
from rounds import circumstances, in_turn, quiet, say

from frozenhead.embedder import find_checkpoint


def main() -> None:
    options = _options()
    if options.alone:
        quiet()
        print(json.dumps({"memory_mib": memory_alone(options)}))
        return
    results = json.loads(options.read.read_text()) if options.read else measure_all(options)
    if options.table or not options.json:
        print(report(results))
    if options.plot:
        corpus = results["corpora"][next(iter(results["corpora"]))]
        figures.draw(corpus, options.plot)
        say(figures.alt_text(corpus))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=corpora.DATA, help="Folder of the data sets, or one table.")
    parser.add_argument("--corpora", default="sms,banking77,long")
    parser.add_argument("--model", default="minilm", help="minilm, or a folder.")
    parser.add_argument("--rows", type=int, default=1500, help="Most texts of each corpus; 0 for all.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="Contestants whose name holds one of these words, with commas.")
    parser.add_argument("--cosine-rows", type=int, default=500, help="Texts compared with the reference; 0 for all.")
    parser.add_argument("--json", type=Path, help="Where to write the results.")
    parser.add_argument("--read", type=Path, help="Results to show again; nothing is measured.")
    parser.add_argument("--table", action="store_true", help="Print the tables in Markdown.")
    parser.add_argument("--plot", type=Path, help="Where to draw the first corpus, .svg or .png.")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Every corpus; the file is written after each, so that a stop loses one at most."""
    quiet()
    folder = find_checkpoint(options.model).folder
    results = circumstances() | {
        "model": options.model, "rounds": options.rounds, "gemm_shapes": SHAPES["cpu"], "corpora": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="embed-") as work:
        for name in options.corpora.split(","):
            corpus = corpora.read_corpus(name, options.data, rows=options.rows)
            setting = Setting(folder=folder, max_length=corpus.max_length, device="cpu", work=Path(work))
            results["corpora"][name] = measure(corpus, setting, options)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    return results


def contestants(setting: Setting, only: str, skip: Callable[[str], None]) -> list[Contestant]:
    found = [*ours("cpu", setting.max_length, skip), *cpu_peers(_onnx(setting.work), skip)]
    return chosen(found, only)


def _onnx(work: Path) -> Path:
    return work / "model.onnx"


def measure(corpus: corpora.Corpus, setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """All that is known of every contestant on one corpus."""
    skipped: list[str] = []
    listed = contestants(setting, options.only, skipped.append)
    for line in skipped:
        say(f"skipped: {line}")
    if any(c.name.startswith("onnxruntime") for c in listed) and not _onnx(setting.work).exists():
        say("exporting to ONNX")
        peers.export_onnx(setting.folder, _onnx(setting.work))
    memory = {c.name: memory_of(c.name, corpus.name, setting.work, options) for c in listed}
    runners: dict[str, Runner] = {c.name: c.load(setting) for c in listed}
    rates = {precision: partial(gemm_rate, precision, "cpu") for precision in {c.precision for c in listed}}
    found: dict[str, dict[str, Any]] = in_turn(
        runners, {c.name: rates[c.precision] for c in listed}, corpus.texts, options.rounds
    )
    lengths = corpora.token_lengths(setting.folder, corpus.texts, corpus.max_length)
    vectors = {c.name: runners[c.name].vectors() for c in listed}
    close = cosines(listed, vectors, corpus.texts, setting, options.cosine_rows)
    right = accuracies(vectors, corpus.labels)
    shape = EncoderShape.of(setting.folder)
    for c in listed:
        found[c.name] |= facts_of(c, lengths, shape) | instrumented(c, runners[c.name], corpus.texts, shape)
        found[c.name] |= {"cosine": close[c.name], "memory_mib": memory[c.name]}
        found[c.name] |= {"accuracy": right[c.name]} if right else {}
    size = {"texts": len(corpus.texts), "tokens": sum(lengths), "max_length": corpus.max_length}
    return size | {"skipped": skipped, "contestants": found}


def accuracies(vectors: dict[str, NDArray[np.float32]], labels: list[str]) -> dict[str, float]:
    """Of each contestant how often a head on its vectors is right; nothing with fewer than five texts a label."""
    if len(labels) < 5 * len(set(labels)):
        return {}
    say("heads on the vectors")
    return {name: float((head_predictions(v, labels) == np.array(labels)).mean()) for name, v in vectors.items()}


def memory_of(name: str, corpus: str, work: Path, options: argparse.Namespace) -> float | None:
    """MiB that one run takes above the loaded model, in a process of its own."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    words = [sys.executable, __file__, "--alone", name, "--corpora", corpus, "--work", str(work)]
    words += ["--data", str(options.data), "--model", options.model, "--rows", str(options.rows)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found = float(json.loads(done.stdout.splitlines()[-1])["memory_mib"])
    say(f"memory  {name}: {found:.0f} MiB")
    return found


def memory_alone(options: argparse.Namespace) -> float:
    corpus = corpora.read_corpus(options.corpora, options.data, rows=options.rows)
    folder = find_checkpoint(options.model).folder
    with tempfile.TemporaryDirectory(prefix="embed-alone-") as work:
        setting = Setting(folder=folder, max_length=corpus.max_length, device="cpu", work=Path(work))
        listed = [*ours("cpu", corpus.max_length, str), *cpu_peers(_onnx(options.work), str)]
        runner = next(c for c in listed if c.name == options.alone).load(setting)
        runner.prepare()
        runner.run(corpus.texts[:2])  # libraries load on first use
        runner.prepare()
        return peak_growth(lambda: runner.run(corpus.texts))


def report(results: dict[str, Any]) -> str:
    """The tables of all corpora."""
    parts = [figures.heading(results)]
    for name, corpus in results["corpora"].items():
        parts += [figures.size(name, corpus), figures.table(corpus), figures.ladder(corpus)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
