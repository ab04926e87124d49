"""What the workers of a pool do; a spawned one imports them by name."""

from collections.abc import Iterable, Sequence

import numpy as np

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from tests.cache.examples import assert_held, make_space, vectors_of, write_rows


def write_and_read(cache: VectorCache, store: SpaceStore, number: int) -> int:
    """Write a row through the cache that came, read it and the older ones through the store that came."""
    write_rows(cache.space(make_space()), [f"worker {number}"])
    assert_held(store, ["first", f"worker {number}", "second"])
    return number


class Texts:
    """A data set as torch's DataLoader takes it: the worker process asks for single rows."""

    def __init__(self, cache: VectorCache, texts: Sequence[str]) -> None:
        self._store, self._texts = cache.space(make_space()), list(texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, i: int) -> list[float]:
        keys = text_keys([self._texts[i]])
        vectors = self._store.lookup(keys).vectors
        np.testing.assert_array_equal(vectors, vectors_of(keys))
        assert vectors is not None
        return [float(x) for x in vectors[0]]


def read_batch(dataset: Texts, rows: Iterable[int]) -> list[list[float]]:
    """Some rows of a data set."""
    return [dataset[i] for i in rows]
