"""A disk that fills up: a clear end, nothing committed lost, and the same command goes on once there is room."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from frozenhead.cache import VectorCache, text_keys
from tests.faults.fake import SPACE, vectors_of
from tests.hardship.conftest import Mount
from tests.hardship.jobs import command, embed, lookup_into
from tests.hardship.laws import assert_true, assert_whole, temporary_files
from tests.hardship.nursery import Done, Nursery

TEXTS = [f"text {i}" for i in range(200)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    return path


def assert_full(done: Done) -> None:
    """Exit 6, in one to three lines that say what is the matter."""
    assert done.code == 6, done.err
    message = done.err[done.err.index("error: ") :].strip()
    assert 1 <= len(message.splitlines()) <= 3
    assert "The disk or quota is full" in message
    assert "Traceback" not in done.err


def computed(path: Path) -> set[bytes]:
    """The keys that the encoder was given."""
    return {row.tobytes() for row in np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 32)}


# Shards smaller than a block of the file system, and shards that are cut in the middle.
@pytest.mark.parametrize("shard_rows", [8, 100])
def test_a_full_disk_ends_embed_clearly_and_loses_nothing_committed(
    nursery: Nursery, mount: Mount, table: Path, tmp_path: Path, shard_rows: int
) -> None:
    cache = mount("size=32k") / "cache"
    words = ["embed", str(table), "--no-label", "--out", str(tmp_path / "run"), "--cache-dir", str(cache)]
    done = nursery.run(command, words=words, shard_rows=shard_rows, computed=tmp_path / "computed")
    assert_full(done)
    assert not temporary_files(cache)
    found = assert_true(cache, TEXTS)
    assert found
    assert len(computed(tmp_path / "computed") - found) <= shard_rows
    mount("size=16m")
    again = nursery.run(command, words=words, shard_rows=shard_rows)
    assert again.code == 0, again.err
    assert f"resuming: {len(found):,} of {len(TEXTS):,} texts cached" in again.err
    assert_whole(cache, TEXTS)


# No block is left, one for `space.json`, one for a shard as well; and so few files that a folder is refused.
@pytest.mark.parametrize("room", ["0", "4k", "8k", *(f"1m,nr_inodes={n}" for n in (2, 4, 6, 7))])
def test_a_disk_full_from_the_start_ends_embed_clearly(
    nursery: Nursery, mount: Mount, table: Path, tmp_path: Path, room: str
) -> None:
    disk = mount(f"size={room}" if room != "0" else "size=4k")
    if room == "0":
        (disk / "ballast").write_bytes(bytes(4096))
    cache = disk / "cache"
    words = ["embed", str(table), "--no-label", "--out", str(tmp_path / "run"), "--cache-dir", str(cache)]
    assert_full(nursery.run(command, words=words, shard_rows=100))
    assert not temporary_files(disk)
    assert_true(cache, TEXTS)
    mount("size=16m,nr_inodes=1000")
    assert nursery.run(command, words=words, shard_rows=100).code == 0
    assert_whole(cache, TEXTS)


def test_a_run_on_a_full_disk_is_refused_and_made_once_there_is_room(
    nursery: Nursery, mount: Mount, table: Path, tmp_path: Path
) -> None:
    disk = mount("size=8k")
    words = ["embed", str(table), "--no-label", "--out", str(disk / "run"), "--cache-dir", str(tmp_path / "cache")]
    assert_full(nursery.run(command, words=words))
    assert not temporary_files(disk)
    assert_whole(tmp_path / "cache", TEXTS)
    mount("size=16m")
    again = nursery.run(command, words=words)
    assert again.code == 0, again.err
    assert f"all {len(TEXTS):,} texts cached" in again.err


def test_a_limit_on_the_size_of_files_is_told_like_a_full_disk(nursery: Nursery, table: Path, tmp_path: Path) -> None:
    """`ulimit -f`: the kernel sends SIGXFSZ and gives EFBIG."""
    cache = tmp_path / "cache"
    words = ["embed", str(table), "--no-label", "--out", str(tmp_path / "run"), "--cache-dir", str(cache)]
    done = nursery.run(command, words=words, shard_rows=200, file_limit=16 * 1024)
    assert_full(done)
    assert not temporary_files(cache)
    assert assert_true(cache, TEXTS) == set()
    assert nursery.run(command, words=words, shard_rows=200).code == 0
    assert_whole(cache, TEXTS)


def test_vectors_for_a_file_on_a_full_disk_are_refused_and_kill_nobody(
    nursery: Nursery, mount: Mount, tmp_path: Path
) -> None:
    cache, disk = tmp_path / "cache", mount("size=16k")
    assert nursery.run(embed, cache=cache, texts=TEXTS).code == 0
    out = disk / "vectors.npy"
    out.write_bytes(b"what was there before")
    done = nursery.run(lookup_into, cache=cache, texts=TEXTS, out=out)
    assert done.code == 0, done
    assert json.loads(done.out)["exit_code"] == 6
    assert "The disk or quota is full" in json.loads(done.out)["message"]
    assert [path.name for path in disk.iterdir()] == ["vectors.npy"]
    assert out.read_bytes() == b"what was there before"
    mount("size=16m")
    assert nursery.run(lookup_into, cache=cache, texts=TEXTS, out=out).out == ""
    np.testing.assert_array_equal(np.load(out), vectors_of(text_keys(TEXTS)))


def test_a_disk_without_a_single_free_block_is_still_read(nursery: Nursery, mount: Mount) -> None:
    disk = mount("size=512k")
    assert nursery.run(embed, cache=disk / "cache", texts=TEXTS).code == 0
    with pytest.raises(OSError, match="No space"):
        (disk / "ballast").write_bytes(bytes(2**20))
    assert os.statvfs(disk).f_bfree == 0
    assert len(assert_true(disk / "cache", TEXTS)) == len(TEXTS)
    assert VectorCache(disk / "cache").spaces()[0].rows == len(TEXTS)
    assert VectorCache(disk / "cache").space(SPACE).pin()
