"""The vectors of new texts, part after part: from the cache, or computed by an encoder that is loaded once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.cache import Space, VectorCache, distinct_keys, text_keys
from frozenhead.commands.vectors import embed_aloud
from frozenhead.commands.voice import Advance, Voice
from frozenhead.embedder import Checkpoint, Listener, embed_texts, settings_of
from frozenhead.embedder.encoder import Encoder
from frozenhead.errors import CacheDamaged
from frozenhead.texts import Chosen


class TextVectors:
    """Vectors of one space for texts that come in parts. What is computed stays in the cache.

    Parameters
    ----------
    checkpoint : Checkpoint
    space : Space
    cache : VectorCache
    device : str
    voice : Voice
    rows : int
        Texts that will come; how they are told of depends on whether they all come at once.

    Attributes
    ----------
    counts : dict
        cached, computed: distinct texts of each part; `truncated` or `windowed`: longer texts.
    """

    def __init__(
        self, checkpoint: Checkpoint, space: Space, cache: VectorCache, *, device: str, voice: Voice, rows: int
    ) -> None:
        self._checkpoint, self._space, self._cache, self._voice = checkpoint, space, cache, voice
        self._settings = settings_of(space, device=device)
        self._store = cache.space(space)  # one for all parts: a shard is hashed once
        self._rows, self._done = rows, 0
        self._encoder: Encoder | None = None
        self._fate = "truncated" if space.long == "cut" else "windowed"
        self.counts = {"cached": 0, "computed": 0, self._fate: 0}

    def of(self, texts: Sequence[str]) -> NDArray[Any]:
        """The vectors (n, D) of the next texts.

        Raises
        ------
        EncoderError, StorageError
        """
        vectors, tokens = self._at_once(texts) if len(texts) == self._rows else self._part(texts)
        self.counts[self._fate] += int((tokens > self._space.max_length).sum())
        self._done += len(texts)
        return vectors

    def conclude(self) -> None:
        """Say how many texts were longer than the encoder reads."""
        if longer := self.counts[self._fate]:
            fate = "cut" if self._fate == "truncated" else "read in windows"
            self._voice.say(
                f"{longer:,} of {self._done:,} texts are longer than {self._space.max_length} tokens and were {fate}"
            )

    def _at_once(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        embedded = embed_aloud(self._checkpoint, texts, settings=self._settings, cache=self._cache, voice=self._voice)
        self.counts["cached"], self.counts["computed"] = embedded.cached, embedded.computed
        return self._found(embedded.keys), embedded.tokens

    def _part(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        keys = text_keys(texts, prefix=self._space.prefix)
        lookup = self._store.lookup(keys)
        missing = np.flatnonzero(~lookup.found)
        self.counts["cached"] += len(distinct_keys(keys[lookup.found])[0])
        vectors, tokens = np.asarray(lookup.vectors), lookup.tokens
        if len(missing):
            title = f"{self._checkpoint.name}, rows {self._done + 1:,} to {self._done + len(texts):,} of {self._rows:,}"
            with self._voice.bar(title, unit="texts") as advance:
                listener = _Progress(self._voice, advance)
                embedded = embed_texts(
                    self._checkpoint, Chosen(texts, missing), keys=keys[missing], settings=self._settings,
                    cache=self._cache, encoder=lambda: self._loaded(listener), listener=listener,
                )  # fmt: skip
            self.counts["computed"] += embedded.computed
            vectors[missing], tokens[missing] = self._found(keys[missing]), embedded.tokens
        return vectors, tokens

    def _loaded(self, listener: Listener) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder(
                self._checkpoint, self._settings, cache_folder=self._cache.folder, note=listener.note
            )
            self._voice.say(str(self._encoder.arithmetic))
        return self._encoder

    def _found(self, keys: NDArray[np.uint8]) -> NDArray[Any]:
        lookup = self._store.lookup(keys)
        if not lookup.found.all():
            raise CacheDamaged(f"Vectors just written to {self._cache.folder} cannot be read back. Check that disk.")
        return np.asarray(lookup.vectors)


class _Progress(Listener):
    """Moves a bar, and passes notes on."""

    def __init__(self, voice: Voice, advance: Advance) -> None:
        self._voice, self._advance = voice, advance

    def progress(self, done: int, total: int) -> None:
        self._advance(done, total)

    def note(self, line: str) -> None:
        self._voice.say(line)
