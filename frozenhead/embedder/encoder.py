"""A frozen encoder, loaded: texts in, token ids, then pooled vectors."""

import copy
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache.space import NUMBERS_FORMAT, View
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.converted import ConvertedModel
from frozenhead.embedder.loading import load_pretrained, load_tokenizer
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
    at_once: int  # batches it computes at the same time

    def start(self, ids: Ids) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """Begin with a batch; what is returned waits for its vectors (B, D), one array for each pooling."""

    def cancel(self) -> None:
        """Do not begin with batches that wait."""


class Encoder:
    """A checkpoint in memory: no gradients, and eval mode or, for a view, its dropout on under the view's masks.

    Parameters
    ----------
    checkpoint : Checkpoint
    settings : EmbedSettings
    cache_folder : Path, optional
        Where models converted for another backend than torch are kept.
    note : callable, optional
        Told in a line what takes its time.

    Attributes
    ----------
    arithmetic : Arithmetic
        What computes; torch where `auto` found that openvino cannot.
    conversion_seconds : float
        What converting the model took; 0 where a kept one was read.

    Raises
    ------
    EncoderUnfit
        The weights do not fit the architecture or the poolings, or changed while they were read; or a view is asked
        for, and the model has no dropout, or such as cannot be seeded text by text.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: EmbedSettings,
        *,
        cache_folder: Path | None = None,
        note: Callable[[str], None] = lambda line: None,  # noqa: ARG005
    ) -> None:
        self.checkpoint = checkpoint
        self.settings = decide(settings, checkpoint)
        self.arithmetic = settings.arithmetic
        self.conversion_seconds = 0.0
        self._note = note
        self._lock = threading.Lock()
        self.backend = self._load(cache_folder)

    @property
    def device(self) -> str:
        """`cpu` or `cuda:N`."""
        return self.arithmetic.device

    @property
    def token_budget(self) -> int:
        """Tokens of one batch."""
        return self.backend.token_budget

    @property
    def at_once(self) -> int:
        """Batches computed at the same time."""
        return self.backend.at_once

    def of_view(self, view: View) -> "Encoder":
        """The same model under the masks of another view. Raises `ValueError` on an encoder that computes none."""
        from frozenhead.embedder.torch_backend import TorchBackend

        if self.settings.view is None or not isinstance(self.backend, TorchBackend):
            raise ValueError("This encoder was loaded without its dropout: its settings name no view.")
        other = copy.copy(self)
        other.settings = dataclasses.replace(self.settings, view=view)
        other.backend = self.backend.of_view(view)
        return other

    def tokenize(self, texts: Sequence[str]) -> TokenRows:
        """Token ids of each text, cut at the space's length or in windows of it, and how many tokens there were."""
        assert self.settings.max_length is not None  # noqa: S101 (decided)
        texts = [f"{self.settings.prefix or ''}{text}" for text in texts]
        with self._lock:  # the tokenizer keeps the length it cuts at, and cannot be lent twice
            return tokenize(self.tokenizer, texts, max_length=self.settings.max_length, long=self.settings.long)

    def cancel(self) -> None:
        """Do not begin with batches that wait: nobody will ask for their vectors."""
        self.backend.cancel()

    def start(self, rows: Sequence[dict[str, list[int]]]) -> Running:
        """Begin to compute a batch of tokenised texts.

        Raises
        ------
        MemoryError
            It is too large for a CUDA device. On a CPU the call of what is returned raises it.
        """
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

    def _kept(self, cache_folder: Path | None) -> ConvertedModel | None:
        """The place where this encoder's converted model is kept, if there is one."""
        if cache_folder is None:
            return None
        return ConvertedModel(
            cache_folder,
            {
                "files": dict(self.checkpoint.files),
                "poolings": list(self.settings.poolings),
                "layer": self.settings.layer,
                "normalize": bool(self.settings.normalize),
                "versions": {name: version(name) for name in ("frozenhead", "openvino", "torch", "transformers")},
                "numbers_format": NUMBERS_FORMAT,
            },
        )

    def _load(self, cache_folder: Path | None) -> Backend:
        if self.arithmetic.backend == "openvino":
            kept = self._kept(cache_folder)
            parts = kept.read() if kept else None
            load = partial(self._load_converted, parts) if parts else partial(self._convert, self._load_graph(), kept)
            try:
                return load()
            except EncoderUnfit as error:
                if self.settings.backend != "auto":
                    raise
                reason = f"{self.arithmetic.reason}; {str(error).splitlines()[0]}"
                self.arithmetic = dataclasses.replace(self.arithmetic, backend="torch", reason=reason)
        from frozenhead.embedder.torch_backend import TorchBackend

        graph = self._load_graph()
        view = self.settings.view
        together = view is None or self._try_views(graph)
        try:
            return TorchBackend(graph, self.arithmetic, view=view, together=together)
        except MemoryError as error:
            raise EncoderUnfit(
                f"{self.checkpoint.model} does not fit into the memory of {self.device}.\n"
                "Free some, or use --device cpu, or a smaller encoder."
            ) from error

    def _try_views(self, graph: "PooledEncoder") -> bool:
        from frozenhead.embedder.dropout import try_views

        try:
            return try_views(graph, vocabulary=len(self.tokenizer), max_length=self.checkpoint.max_length)
        except EncoderUnfit as error:
            raise EncoderUnfit(f"{self.checkpoint.model}: {error}") from error

    def _load_converted(self, parts: tuple[bytes, ...]) -> Backend:
        from frozenhead.embedder.openvino_backend import OpenVinoBackend

        self.tokenizer = load_tokenizer(self.checkpoint)
        return OpenVinoBackend(parts, self.arithmetic.precision)

    def _convert(self, graph: "PooledEncoder", kept: ConvertedModel | None) -> Backend:
        from frozenhead.embedder.openvino_backend import INPUTS, OpenVinoBackend, convert

        begun = time.perf_counter()
        self._note(f"converting {self.checkpoint.name} for openvino{', once' if kept else ''}")
        inputs = [name for name in INPUTS if name in self.tokenizer.model_input_names]
        parts = convert(graph, inputs, max_length=self.checkpoint.max_length)
        if kept:
            kept.write(*parts)
        self.conversion_seconds = time.perf_counter() - begun
        return OpenVinoBackend(parts, self.arithmetic.precision)

    def _load_graph(self) -> "PooledEncoder":
        """The encoder as torch computes it, and its tokenizer."""
        from frozenhead.embedder.graph import PooledEncoder

        model, self.tokenizer = load_pretrained(self.checkpoint)
        if "pooler" in self.settings.poolings and not model.has_trained_pooler:
            raise EncoderUnfit(
                f"{self.checkpoint.model}: its architecture has no pooler with trained weights.\n"
                "Use --pooling cls (the last state of [CLS]) or --pooling mean."
            )
        return PooledEncoder(
            model,
            self.settings.poolings,
            layer=self.settings.layer,
            normalize=bool(self.settings.normalize),
            dropout=self.settings.view is not None,
        )
