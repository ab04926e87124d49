"""A frozen encoder, loaded: texts in, token ids, then pooled vectors."""

import dataclasses
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.space import NUMBERS_FORMAT
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.converted import ConvertedModel
from frozenhead.embedder.loading import load_pretrained
from frozenhead.embedder.pooling import Pooling
from frozenhead.embedder.settings import EmbedSettings, decide
from frozenhead.embedder.tokens import TokenRows, tokenize
from frozenhead.errors import EncoderUnfit

if TYPE_CHECKING:
    from frozenhead.embedder.graph import PooledEncoder

Vectors = dict[Pooling, NDArray[np.float32]]
"""For each pooling the vectors (B, D) of a batch."""

Running = Callable[[], Vectors]
"""A batch under way; calling it waits for its vectors."""

Ids = dict[str, NDArray[np.int64]]
"""The model's inputs (B, T), padded on the right."""


class Backend(Protocol):
    """What computes an encoder."""

    token_budget: int

    def start(self, ids: Ids) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """Begin with a batch; what is returned waits for its vectors (B, D), one array for each pooling."""


class Encoder:
    """A checkpoint in memory: eval mode, no gradients.

    Parameters
    ----------
    checkpoint : Checkpoint
    settings : EmbedSettings
    cache_folder : Path, optional
        Where models converted for another backend than torch are kept.

    Attributes
    ----------
    arithmetic : Arithmetic
        What computes; torch where `auto` found that openvino cannot.

    Raises
    ------
    EncoderUnfit
        The weights do not fit the architecture or the poolings, or changed while they were read.
    """

    def __init__(self, checkpoint: Checkpoint, settings: EmbedSettings, *, cache_folder: Path | None = None) -> None:
        self.checkpoint = checkpoint
        self.settings = decide(settings, checkpoint)
        self.arithmetic = settings.arithmetic
        self._cache_folder = cache_folder
        model, self.tokenizer = load_pretrained(checkpoint)
        if "pooler" in self.settings.poolings and not model.has_trained_pooler:
            raise EncoderUnfit(
                f"{checkpoint.model}: its architecture has no pooler with trained weights.\n"
                "Use --pooling cls (the last state of [CLS]) or --pooling mean."
            )
        self.backend = self._load_backend(model)

    @property
    def device(self) -> str:
        """`cpu` or `cuda:N`."""
        return self.arithmetic.device

    @property
    def token_budget(self) -> int:
        """Tokens of one batch."""
        return self.backend.token_budget

    def tokenize(self, texts: Sequence[str]) -> TokenRows:
        """Token ids of each text, cut at the space's length, and how many tokens there were before the cut."""
        assert self.settings.max_length is not None  # noqa: S101 (decided)
        return tokenize(self.tokenizer, texts, max_length=self.settings.max_length)

    def start(self, rows: Sequence[dict[str, list[int]]]) -> Running:
        """Begin to compute a batch of tokenised texts. Raises `MemoryError` if it is too large for the device."""
        running = self.backend.start(self._pad(rows))
        return lambda: dict(zip(self.settings.poolings, running(), strict=True))

    def encode(self, rows: Sequence[dict[str, list[int]]]) -> Vectors:
        """Vectors (B, D) float32 of one batch, for each pooling, from one forward pass."""
        return self.start(rows)()

    def _pad(self, rows: Sequence[dict[str, list[int]]]) -> Ids:
        longest = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.tokenizer.pad_token_id or 0, "token_type_ids": self.tokenizer.pad_token_type_id}
        padded = {}
        for name in rows[0]:
            table = np.full((len(rows), longest), fill.get(name, 0), np.int64)
            for i, row in enumerate(rows):
                table[i, : len(row[name])] = row[name]
            padded[name] = table
        return padded

    def _load_backend(self, model: Any) -> Backend:
        from frozenhead.embedder.graph import PooledEncoder
        from frozenhead.embedder.torch_backend import TorchBackend

        graph = PooledEncoder(model, self.settings.poolings)
        if self.arithmetic.backend == "openvino":
            try:
                return self._openvino(graph)
            except EncoderUnfit as error:
                if self.settings.backend != "auto":
                    raise
                reason = f"{self.arithmetic.reason}; {str(error).splitlines()[0]}"
                self.arithmetic = dataclasses.replace(self.arithmetic, backend="torch", reason=reason)
        return TorchBackend(graph, self.arithmetic)

    def _openvino(self, graph: "PooledEncoder") -> Backend:
        from frozenhead.embedder.openvino_backend import INPUTS, OpenVinoBackend, convert

        inputs = [name for name in INPUTS if name in self.tokenizer.model_input_names]
        versions = {name: version(name) for name in ("openvino", "torch", "transformers")}
        made_of = {
            "files": dict(self.checkpoint.files), "poolings": list(self.settings.poolings), "inputs": inputs,
            "versions": versions, "numbers_format": NUMBERS_FORMAT,
        }  # fmt: skip
        place = ConvertedModel(self._cache_folder, made_of) if self._cache_folder else None
        parts = place.read() if place else None
        if parts is None:
            parts = convert(graph, inputs)
            if place:
                place.write(*parts)
        return OpenVinoBackend(parts, self.arithmetic.precision)
