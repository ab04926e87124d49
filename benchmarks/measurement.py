"""What is said of a contestant beside its seconds: arithmetic, cosine, and of ours what its cache and padding cost."""

from typing import Any

import numpy as np
import peers
from arithmetic import EncoderShape, unpadded
from contestants import Contestant, Ours, Runner, Setting
from metering import CacheClock
from numpy.typing import NDArray
from quality import least_cosine
from rounds import clocked, say


def facts_of(contestant: Contestant, lengths: list[int], shape: EncoderShape) -> dict[str, Any]:
    """What it is, and the arithmetic of the texts' real tokens that its pooling needs (ours) or does (peers)."""
    pooler = contestant.pooling == "pooler"
    return {
        "ours": contestant.ours,
        "pooling": contestant.pooling,
        "precision": contestant.precision,
        "operations": shape.operations(unpadded(lengths), cls_only=contestant.ours and pooler, pooler=pooler),
    }


def instrumented(contestant: Contestant, runner: Runner, texts: list[str], shape: EncoderShape) -> dict[str, Any]:
    """One more run of ours: the time that its cache takes, its padding, and the arithmetic it did."""
    if not isinstance(runner, Ours):
        return {}
    clock = CacheClock()
    with clock.running():
        seconds = clocked(runner, texts)
    pooler = contestant.pooling == "pooler"
    return {
        "cache_share": clock.seconds / seconds,
        "padding": runner.meter.padding,
        "batches": len(runner.meter.batches),
        "operations_done": shape.operations(runner.meter.load, cls_only=pooler, pooler=pooler),
    }


def cosines(
    listed: list[Contestant], vectors: dict[str, NDArray[np.float32]], texts: list[str], setting: Setting, rows: int
) -> dict[str, float]:
    """For each contestant the least cosine to fp32 vectors of each text alone: of `rows` texts, of all for 0."""
    n = len(texts)
    sample = np.unique(np.linspace(0, n - 1, min(rows or n, n)).astype(int))
    say(f"the reference: {len(sample)} texts, each alone")
    truth = peers.reference(
        setting.folder, [texts[i] for i in sample], max_length=setting.max_length, device=setting.device
    )
    return {c.name: least_cosine(vectors[c.name][sample], truth[c.pooling]) for c in listed}
