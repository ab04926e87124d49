"""An empty store of a small space."""

import os
from pathlib import Path

import pytest

from frozenhead.cache import SpaceStore, VectorCache
from tests.cache.examples import make_space


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: for tests of many small stores, none of which cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    """A cache whose folder is not there yet."""
    return VectorCache(tmp_path / "cache")


@pytest.fixture
def store(cache: VectorCache) -> SpaceStore:
    """The store of a small space; nothing is on disk yet."""
    return cache.space(make_space())
