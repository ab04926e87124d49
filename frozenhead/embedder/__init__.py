"""Texts -> vectors: the only room with a transformer in it. It keeps what it computes in the cache.

`Embedder` is loaded when first used: scikit-learn, whose class it is, takes 1.4 s to import, and `embed` needs none.
"""

from typing import TYPE_CHECKING, Any

from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.compute import Embedded, Listener, embed_texts
from frozenhead.embedder.finding import find_checkpoint
from frozenhead.embedder.hardware import Arithmetic
from frozenhead.embedder.lengths import shortest_length, special_tokens, token_counts
from frozenhead.embedder.pooling import POOLINGS
from frozenhead.embedder.settings import EmbedSettings, decide, follow_folder, settings_of, space_of
from frozenhead.embedder.windows import count_windows

if TYPE_CHECKING:
    from frozenhead.embedder.estimator import Embedder

__all__ = [
    "POOLINGS",
    "Arithmetic",
    "Checkpoint",
    "EmbedSettings",
    "Embedded",
    "Embedder",
    "Listener",
    "count_windows",
    "decide",
    "embed_texts",
    "find_checkpoint",
    "follow_folder",
    "settings_of",
    "shortest_length",
    "space_of",
    "special_tokens",
    "token_counts",
]


def __getattr__(name: str) -> Any:
    if name != "Embedder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from frozenhead.embedder.estimator import Embedder

    return Embedder
