"""How much arithmetic a BERT-shaped encoder does, and how fast this machine multiplies matrices.

Counted are the products: 2 operations for each multiplication and addition. Norms, activations and sums are not.
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# (m, k, n) of the products timed; the fastest of them is the machine's rate.
SHAPES = {
    "cpu": ((2048, 2048, 2048), (8192, 1024, 1024)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (32768, 3072, 3072)),
}
SECONDS = 0.3  # for each shape


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an encoder computed: rows, tokens, and pairs of tokens that attention compares (T x T of each row)."""

    texts: int
    tokens: int
    pairs: int


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """Layers, D, and F, the width of the feed-forward net."""

    layers: int
    dim: int
    inner: int

    @classmethod
    def of(cls, folder: Path) -> "EncoderShape":
        config = json.loads((folder / "config.json").read_text())
        return cls(layers=config["num_hidden_layers"], dim=config["hidden_size"], inner=config["intermediate_size"])

    def operations(self, load: Load, *, cls_only: bool, pooler: bool) -> int:
        """Operations of all layers; with `cls_only` all of the last one but keys and values is for [CLS] alone."""
        D, F = self.dim, self.inner
        layer = load.tokens * 2 * (4 * D * D + 2 * D * F) + load.pairs * 4 * D
        last = layer
        if cls_only:
            last = load.tokens * 2 * 2 * D * D + load.texts * 2 * (2 * D * D + 2 * D * F) + load.tokens * 4 * D
        return (self.layers - 1) * layer + last + pooler * load.texts * 2 * D * D


def unpadded(lengths: list[int]) -> Load:
    """The load of texts of these lengths without any padding."""
    return Load(texts=len(lengths), tokens=sum(lengths), pairs=sum(n * n for n in lengths))


def gemm_rate(precision: str, device: str) -> float:
    """Operations per second of torch's product of large matrices, all threads: the best of several shapes."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return max(_rate(m, k, n, dtype, device) for m, k, n in SHAPES[device.partition(":")[0]])


def _rate(m: int, k: int, n: int, dtype: Any, device: str) -> float:
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    a, b = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
    out = torch.mm(a, b)
    at_once = 10 if device.startswith("cuda") else 1
    seconds: list[float] = []
    while sum(seconds) < SECONDS or len(seconds) < 3:
        wait()
        begun = time.perf_counter()
        for _ in range(at_once):
            torch.mm(a, b, out=out)
        wait()
        seconds.append(time.perf_counter() - begun)
    return at_once * 2 * m * k * n / statistics.median(seconds)
