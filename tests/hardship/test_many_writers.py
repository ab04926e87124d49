"""Writers of many processes share one cache without a lock."""

from pathlib import Path

import pytest

from tests.hardship.jobs import embed, read_on
from tests.hardship.laws import assert_whole, temporary_files
from tests.hardship.nursery import Nursery

SHARDS, SHARD_ROWS = 6, 8
EACH = SHARDS * SHARD_ROWS

# How far the texts of a writer begin after those of the one before.
STEPS = {"the same": 0, "overlapping": EACH // 2, "disjoint": EACH}


@pytest.mark.parametrize("writers", [2, 4, 8])
@pytest.mark.parametrize("keys", STEPS)
def test_writers_at_once_lose_nothing_and_no_reader_sees_an_error(
    nursery: Nursery, scratch: Path, keys: str, writers: int
) -> None:
    cache, gate, stop = scratch / "cache", scratch / "gate", scratch / "stop"
    parts = [[f"text {i}" for i in range(n * STEPS[keys], n * STEPS[keys] + EACH)] for n in range(writers)]
    texts = list(dict.fromkeys(text for part in parts for text in part))
    reader = nursery.start(read_on, cache=cache, texts=texts, stop=stop)
    children = [nursery.start(embed, cache=cache, texts=part, shard_rows=SHARD_ROWS, gate=gate) for part in parts]
    gate.touch()
    for child in children:
        done = child.done()
        assert (done.code, done.err) == (0, "")
    stop.touch()
    read = reader.done()
    assert (read.code, read.err) == (0, "")
    assert int(read.out) >= 1
    assert not temporary_files(cache)
    assert_whole(cache, texts)
