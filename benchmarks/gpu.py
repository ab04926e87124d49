"""How fast does one GPU embed, from raw text to vectors on disk, with a random encoder of bert-base's size?

    python benchmarks/gpu.py --json benchmarks/gpu.json --table
    python benchmarks/gpu.py --peak 989 --lengths 50 --rounds 5
    python benchmarks/gpu.py --device cpu --size tiny --tokens 5000 --rounds 1 --lengths 25,50

No weights are needed: speed does not depend on them. MFU is the arithmetic of the real tokens (without padding, and
without what [CLS] alone does not need) as a share of the bf16 products measured beside the runs, and of --peak.
"""

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import corpora
import figures
from arithmetic import SHAPES, EncoderShape, gemm_rate
from contestants import Contestant, Runner, Setting, chosen, gpu_peers, ours
from measurement import cosines, facts_of, instrumented
from rounds import circumstances, clocked, in_turn, quiet, say

DEFAULT = "sentence-transformers bf16 batch 32"
MAX_LENGTH = 512
WARM_UP = 2048  # texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", choices=["base", "tiny"], default="base")
    parser.add_argument("--lengths", default="25,50,128,512", help="Tokens of a text, about.")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="Tokens of all texts of one length, about.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="Contestants whose name holds one of these words, with commas.")
    parser.add_argument("--peak", type=float, help="The GPU's bf16 TFLOP/s as published, dense.")
    parser.add_argument("--cosine-rows", type=int, default=300, help="Texts compared with the reference; 0 for all.")
    parser.add_argument("--json", type=Path, help="Where to write the results.")
    parser.add_argument("--read", type=Path, help="Results to show again; nothing is measured.")
    parser.add_argument("--table", action="store_true", help="Print the tables in Markdown.")
    options = parser.parse_args()
    results = json.loads(options.read.read_text()) if options.read else measure_all(options)
    if options.table or not options.json:
        print(report(results))


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Every length; the file is written after each."""
    quiet()
    results = circumstances(options.device) | {
        "model": f"random BERT, {options.size}",
        "rounds": options.rounds,
        "gemm_shapes": SHAPES[options.device.partition(":")[0]],
        "corpora": {},
    }
    with tempfile.TemporaryDirectory(prefix="gpu-") as work:
        folder = corpora.make_encoder(Path(work) / "encoder", size=options.size)
        setting = Setting(
            folder=folder, max_length=MAX_LENGTH, device=options.device, work=Path(work), to_disk=True
        )  # fmt: skip
        for length in map(int, options.lengths.split(",")):
            texts = corpora.made_texts(length=length, count=max(1, options.tokens // length))
            results["corpora"][f"about {length} tokens"] = measure(texts, setting, options)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    return results


def measure(texts: list[str], setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """All that is known of every contestant at one length."""
    skipped: list[str] = []
    listed = [*ours(setting.device, setting.max_length, skipped.append), *gpu_peers(skipped.append)]
    listed = [c for c in chosen(listed, options.only) if "openvino" not in c.name]
    for line in skipped:
        say(f"skipped: {line}")
    runners: dict[str, Runner] = {c.name: c.load(setting) for c in listed}
    rates = {precision: partial(gemm_rate, precision, setting.device) for precision in {c.precision for c in listed}}
    probes = {c.name: rates[c.precision] for c in listed}
    found: dict[str, dict[str, Any]] = in_turn(runners, probes, texts, options.rounds, warm_up=WARM_UP)
    lengths = corpora.token_lengths(setting.folder, texts, setting.max_length)
    close = cosines(listed, {c.name: runners[c.name].vectors() for c in listed}, texts, setting, options.cosine_rows)
    shape = EncoderShape.of(setting.folder)
    for c in listed:
        found[c.name] |= facts_of(c, lengths, shape) | instrumented(c, runners[c.name], texts, shape)
        found[c.name] |= {"cosine": close[c.name], "memory_mib": peak_memory(c, runners[c.name], texts, setting.device)}
    return {
        "texts": len(texts),
        "tokens": sum(lengths),
        "max_length": setting.max_length,
        "default": DEFAULT,
        "skipped": skipped,
        "mfu_of": {"bf16 GEMM": rates["bf16"]() if "bf16" in rates else gemm_rate("bf16", setting.device)}
        | ({"peak": options.peak * 1e12} if options.peak else {}),
        "contestants": found,
    }


def peak_memory(contestant: Contestant, runner: Runner, texts: list[str], device: str) -> float | None:
    """MiB of the GPU's memory that tensors take in one run, above those of all the loaded models."""
    if not device.startswith("cuda"):
        return None
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    seconds = clocked(runner, texts)
    say(f"memory  {contestant.name}: {len(texts) / seconds:,.0f} texts/s")
    return float(torch.cuda.max_memory_allocated(device) - before) / 2**20


def report(results: dict[str, Any]) -> str:
    """The tables of all lengths."""
    parts = [figures.heading(results)]
    for name, corpus in results["corpora"].items():
        parts += [figures.size(name, corpus), figures.table(corpus)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
