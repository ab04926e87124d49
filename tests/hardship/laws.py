"""What holds of a cache after any hardship: the laws I1 to I6 of tests/faults/invariants.py."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from frozenhead.cache import VectorCache, text_keys
from frozenhead.files import TEMPORARY_PREFIX
from tests.faults.fake import SPACE, tokens_of, vectors_of


def assert_true(cache: Path, texts: Iterable[str]) -> set[bytes]:
    """I2 and I3: what is found is f(text), and no shard is torn or was. Returns the keys found."""
    opened = VectorCache(cache)
    keys = text_keys(texts)
    lookup = opened.space(SPACE).lookup(keys)
    assert lookup.vectors is not None
    found = lookup.found
    np.testing.assert_array_equal(lookup.vectors[found], vectors_of(keys)[found])
    np.testing.assert_array_equal(lookup.tokens[found], tokens_of(keys)[found])
    assert np.isnan(lookup.vectors[~found]).all()
    assert not opened.check_all().bad
    assert not list(cache.glob("v1/*/quarantine/*"))
    return {key.tobytes() for key in keys[found]}


def assert_whole(cache: Path, texts: Sequence[str]) -> None:
    """I4: every text has its vector, and there is nothing else; then I6."""
    keys = {key.tobytes() for key in text_keys(texts)}
    assert assert_true(cache, texts) == keys
    rows = VectorCache(cache).space(SPACE).rows()
    assert {key.tobytes() for part, _, _ in rows for key in part} == keys
    VectorCache(cache).prune()
    assert not temporary_files(cache)


def temporary_files(folder: Path) -> list[Path]:
    """Files that a writer began and did not finish."""
    return [path for path in folder.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)]
