"""A frozen encoder, loaded: texts in, token ids, then pooled vectors."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.loading import load_pretrained
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.settings import EmbedSettings, decide
from frozenhead.embedder.tokens import TokenRows, tokenize
from frozenhead.errors import EncoderUnfit

Vectors = dict[Pooling, NDArray[np.float32]]
"""For each pooling the vectors (B, D) of a batch."""

Running = Callable[[], Vectors]
"""A batch under way; calling it waits for its vectors."""

Ids = dict[str, NDArray[np.int64]]
"""The model's inputs (B, T), padded on the right."""


class Backend(Protocol):
    """What computes an encoder."""

    token_budget: int

    def start(self, ids: Ids, *, padded: bool) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """Begin with a batch; what is returned waits for its vectors (B, D), one array for each pooling."""


class Encoder:
    """A checkpoint in memory: eval mode, no gradients.

    Parameters
    ----------
    checkpoint : Checkpoint
    settings : EmbedSettings

    Raises
    ------
    EncoderUnfit
        The weights do not fit the architecture or the poolings, or changed while they were read.
    """

    def __init__(self, checkpoint: Checkpoint, settings: EmbedSettings) -> None:
        self.checkpoint = checkpoint
        self.settings = decide(settings, checkpoint)
        self.arithmetic = settings.arithmetic
        model, self.tokenizer = load_pretrained(checkpoint)
        self.backend = _backend(model, self.settings)

    @property
    def device(self) -> str:
        """`cpu` or `cuda:N`."""
        return self.arithmetic.device

    @property
    def token_budget(self) -> int:
        """Tokens of one batch on this device."""
        return self.backend.token_budget

    def tokenize(self, texts: Sequence[str]) -> TokenRows:
        """Token ids of each text, cut at the space's length or in windows of it, and how many tokens there were."""
        assert self.settings.max_length is not None  # noqa: S101 (decided)
        return tokenize(self.tokenizer, texts, max_length=self.settings.max_length, long=self.settings.long)

    def start(self, rows: Sequence[dict[str, list[int]]]) -> Running:
        """Begin to compute a batch of tokenised texts."""
        lengths = {len(row["input_ids"]) for row in rows}
        running = self.backend.start(self._pad(rows, max(lengths)), padded=len(lengths) > 1)
        return lambda: dict(zip(self.settings.poolings, running(), strict=True))

    def encode(self, rows: Sequence[dict[str, list[int]]]) -> Vectors:
        """Vectors (B, D) float32 of one batch, for each pooling, from one forward pass."""
        return self.start(rows)()

    def _pad(self, rows: Sequence[dict[str, list[int]]], longest: int) -> Ids:
        fill = {"input_ids": self.tokenizer.pad_token_id or 0, "token_type_ids": self.tokenizer.pad_token_type_id}
        padded = {}
        for name in rows[0]:
            table = np.full((len(rows), longest), fill.get(name, 0), np.int64)
            for i, row in enumerate(rows):
                table[i, : len(row[name])] = row[name]
            padded[name] = table
        return padded


def _backend(model: Any, settings: EmbedSettings) -> Backend:
    from frozenhead.embedder.graph import PooledEncoder
    from frozenhead.embedder.torch_backend import TorchBackend

    if "pooler" in settings.poolings and not model.has_trained_pooler:
        raise EncoderUnfit(
            f"{model.name_or_path}: its architecture has no pooler with trained weights.\n"
            "Use --pooling cls (the last state of [CLS]) or --pooling mean."
        )
    return TorchBackend(PooledEncoder(model, settings.poolings), settings.arithmetic)
