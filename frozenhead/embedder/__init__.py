"""Texts -> vectors: the only room with a transformer in it. It keeps what it computes in the cache."""

from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.compute import Embedded, EmbedSettings, embed_texts, space_of
from frozenhead.embedder.estimator import Embedder
from frozenhead.embedder.finding import find_checkpoint
from frozenhead.embedder.pooling import POOLINGS

__all__ = [
    "POOLINGS",
    "Checkpoint",
    "EmbedSettings",
    "Embedded",
    "Embedder",
    "embed_texts",
    "find_checkpoint",
    "space_of",
]
