"""Run a frozen BERT once, keep its vectors, and train classification heads on them in seconds.

The names below are loaded when first used, so that `import frozenhead`, and with it the command line,
waits for neither torch nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frozenhead.cache import VectorCache
    from frozenhead.embedder import Embedder
    from frozenhead.heads import DenseHead, SoftmaxHead
    from frozenhead.pipeline import load_pipeline

__all__ = ["DenseHead", "Embedder", "SoftmaxHead", "VectorCache", "load_pipeline"]

_ROOMS = {
    "DenseHead": "heads",
    "Embedder": "embedder",
    "SoftmaxHead": "heads",
    "VectorCache": "cache",
    "load_pipeline": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'frozenhead' has no attribute {name!r}")
    return getattr(import_module(f"frozenhead.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
