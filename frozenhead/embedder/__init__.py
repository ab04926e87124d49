"""Texts -> vectors: the only room with a transformer in it. It keeps what it computes in the cache."""

from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.compute import Embedded, Listener, embed_texts
from frozenhead.embedder.estimator import Embedder
from frozenhead.embedder.finding import find_checkpoint
from frozenhead.embedder.hardware import Arithmetic
from frozenhead.embedder.pooling import POOLINGS
from frozenhead.embedder.settings import EmbedSettings, decide, settings_of, space_of

__all__ = [
    "POOLINGS",
    "Arithmetic",
    "Checkpoint",
    "EmbedSettings",
    "Embedded",
    "Embedder",
    "Listener",
    "decide",
    "embed_texts",
    "find_checkpoint",
    "settings_of",
    "space_of",
]
