"""Texts -> vectors: the only room with a transformer in it. It keeps what it computes in the cache.

`Embedder` is loaded when first used: scikit-learn, whose class it is, takes 1.4 s to import, and `embed` needs none.
"""

from typing import TYPE_CHECKING, Any

from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.compute import Embedded, EmbedSettings, embed_texts, space_of
from frozenhead.embedder.finding import find_checkpoint
from frozenhead.embedder.pooling import POOLINGS

if TYPE_CHECKING:
    from frozenhead.embedder.estimator import Embedder

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


def __getattr__(name: str) -> Any:
    if name != "Embedder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from frozenhead.embedder.estimator import Embedder

    return Embedder
