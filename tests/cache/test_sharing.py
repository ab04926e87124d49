"""One cache, many users of it in one process: threads, and a process that forks."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from tests.cache.examples import assert_held, make_space, tokens_of, vectors_of, write_rows

ROUNDS = 12


@pytest.mark.parametrize("verify", ["lazy", "always", "never"])
def test_threads_that_share_a_store_read_the_truth_while_another_writes(tmp_path: Path, verify: str) -> None:
    store = VectorCache(tmp_path / "cache", verify=verify).space(make_space())  # type: ignore[arg-type]
    write_rows(store, [f"text {i}" for i in range(20)])

    def write() -> None:
        for turn in range(ROUNDS):
            write_rows(store, [f"text {i}" for i in range(10 * turn, 10 * turn + 25)])

    def read(seed: int) -> int:
        random, seen, most = np.random.default_rng(seed), np.zeros(200, bool), 0
        while most < 10 * ROUNDS + 15:
            asked = random.integers(0, 200, size=300)
            keys = text_keys(f"text {i}" for i in asked)
            lookup = store.lookup(keys)
            assert lookup.vectors is not None
            assert (lookup.found | ~seen[asked]).all()  # what was there once is there
            np.testing.assert_array_equal(lookup.vectors[lookup.found], vectors_of(keys[lookup.found]))
            np.testing.assert_array_equal(lookup.tokens[lookup.found], tokens_of(keys[lookup.found]))
            assert np.isnan(lookup.vectors[~lookup.found]).all()
            seen[asked[lookup.found]] = True
            most = int(seen.sum())
        return most

    with ThreadPoolExecutor(9) as pool:
        writer, readers = pool.submit(write), [pool.submit(read, seed) for seed in range(8)]
        writer.result(timeout=60)
        assert [reader.result(timeout=60) for reader in readers] == [10 * ROUNDS + 15] * 8
    assert not (store.folder / "quarantine").exists()


def test_threads_that_set_one_bad_shard_aside_all_serve_the_others(
    store: SpaceStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(store, ["a"])
    write_rows(store, ["b"])
    (store.folder / "shards" / f"{'0' * 64}.safetensors").write_bytes(b"bad")
    together, sound = Barrier(8, timeout=30), os.replace

    def replace(source: Path, target: Path) -> None:
        together.wait()  # until all have seen that it is bad
        sound(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: assert_held(store, ["a", "b"]), range(8)))
    assert len(list((store.folder / "quarantine").iterdir())) == 1
    assert 1 <= len(caplog.records) <= 8  # one each at most


FORK = """
import os, sys, threading
from pathlib import Path
from frozenhead.cache import VectorCache, text_keys
from tests.cache.examples import assert_held, make_space, tokens_of, vectors_of, write_rows
store = VectorCache(Path(sys.argv[1])).space(make_space())

def give(writer, *texts):
    keys = text_keys(texts)
    writer.add(keys, vectors_of(keys), tokens_of(keys))

write_rows(store, ["first"])
write_rows(store, ["second"])
assert_held(store, ["first", "second"])
with store.writer() as writer:
    give(writer, "shared 1", "shared 2")
    child = os.fork()
    name = "parent" if child else "child"
    for i in range(20):
        give(writer, f"{name} {i}")
        if i % 5 == 4:
            writer.flush()
        assert_held(store, ["first", "second"])
assert_held(store, ["first", "second", "shared 1", "shared 2", *(f"{name} {i}" for i in range(20))])
if not child:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_process_that_forks_with_an_open_writer_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FORK, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    store = VectorCache(tmp_path / "cache").space(make_space())
    names: Callable[[str], list[str]] = lambda who: [f"{who} {i}" for i in range(20)]  # noqa: E731
    assert_held(store, ["first", "second", "shared 1", "shared 2", *names("parent"), *names("child")])
    assert len(store.keys()) == 44
    assert not (store.folder / "quarantine").exists()
    assert not [path for path in store.folder.rglob("*") if path.name.startswith(".tmp-")]
