"""The laws that hold after every fault.

I1  every acknowledged row is present and equal
I2  no key ever gives anything but f(text)
I3  opening never fails for good and never kills the process
I4  running again ends with the table of an undisturbed run
I5  at most one shard of work is lost
I6  after `prune` no temporary file and no orphan remains
"""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np

from frozenhead.cache import VectorCache
from frozenhead.cache.shard import is_shard_name
from tests.faults import fake
from tests.faults.driver import Outcome


def assert_sound(disk: Path, acknowledged: Collection[bytes] = (), *, torn: bool = False) -> set[bytes]:
    """I1, I2, I3; and unless `torn`, that no file under a shard's name is anything but a whole shard.

    Returns the keys that are found.
    """
    cache = VectorCache(fake.cache_of(disk))
    found = assert_true_rows(cache)
    lost = set(acknowledged) - found
    assert not lost, f"I1: {len(lost)} acknowledged rows are gone"
    cache.spaces()
    bad = cache.check_all().bad
    assert torn or not bad, f"a torn shard under its final name: {bad}"
    assert torn or not quarantined(disk), "a torn shard under its final name was set aside"
    return found


def assert_served(disk: Path) -> None:
    """I1 and I2 for the run, if its file is there: all its vectors, from the shards that it names and no others."""
    if fake.holder_of(disk).exists():
        store = VectorCache(fake.cache_of(disk)).space(fake.SPACE)
        lookup = store.lookup(fake.KEYS, shards=fake.pinned_in(disk))
        assert lookup.found.all(), "I1: rows of a run are not in the shards it names"
        assert np.array_equal(np.asarray(lookup.vectors), fake.VECTORS), "I2: a wrong vector"


def assert_true_rows(cache: VectorCache) -> set[bytes]:
    """I2: what is found is f(text), and what is not found is NaN. Returns the keys that are found."""
    lookup = cache.space(fake.SPACE).lookup(fake.KEYS)
    assert lookup.vectors is not None
    found = lookup.found
    assert np.array_equal(lookup.vectors[found], fake.VECTORS[found]), "I2: a wrong vector"
    assert np.array_equal(lookup.tokens[found], fake.TOKENS[found]), "I2: a wrong count of tokens"
    assert np.isnan(lookup.vectors[~found]).all(), "I2: a vector for a row that was not found"
    return {key.tobytes() for key in fake.KEYS[found]}


def assert_finishes(disk: Path) -> None:
    """I4: the job, run again and undisturbed, computes what is missing and ends with the whole table."""
    missing = fake.ROWS - assert_true_rows(VectorCache(fake.cache_of(disk)))
    computed: list[bytes] = []
    fake.embed(disk, computed=lambda keys: computed.extend(key.tobytes() for key in keys))
    assert sorted(computed) == sorted(missing), "I4: another run computes what is there, or not what is missing"
    table = {}
    for keys, vectors, tokens in VectorCache(fake.cache_of(disk)).space(fake.SPACE).rows():
        table.update({k.tobytes(): (v.tobytes(), int(n)) for k, v, n in zip(keys, vectors, tokens, strict=True)})
    assert table == fake.TABLE, "I4: not the table of an undisturbed run"
    assert [summary.space for summary in VectorCache(fake.cache_of(disk)).spaces()] == [fake.SPACE], "I4: not described"


def assert_little_lost(outcome: Outcome, found: set[bytes]) -> None:
    """I5: of the rows that were computed, at most one shard is missing."""
    lost = set(outcome.computed) - found
    assert len(lost) <= fake.SHARD_ROWS, f"I5: {len(lost)} rows of work are lost"


def assert_tidy(disk: Path) -> None:
    """I6: after `prune` there is nothing but descriptions, whole shards and pins of runs that are there."""
    folder = fake.cache_of(disk)
    cache = VectorCache(folder)
    cache.prune()
    stray = [path for path in folder.rglob("*") if not path.is_dir() and not _belongs(path, folder)]
    assert not stray, f"I6: {stray} left after prune"
    assert not cache.check_all().bad, "I6: a bad shard left after prune"


def _belongs(path: Path, folder: Path) -> bool:
    match path.relative_to(folder).parts:
        case ("v1", fake.SPACE.id, "space.json"):
            return True
        case ("v1", fake.SPACE.id, "shards", name):
            return name.endswith(".safetensors") and is_shard_name(name.removesuffix(".safetensors"))
        case ("v1", fake.SPACE.id, "pins", _):
            return Path(json.loads(path.read_bytes())["holder"]).exists()
    return False


def quarantined(disk: Path) -> list[Path]:
    """Files that failed verification."""
    return list(fake.cache_of(disk).glob("v1/*/quarantine/*"))
