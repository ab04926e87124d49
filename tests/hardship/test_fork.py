"""One cache object in many processes: pools of every kind, and workers that read as a data loader's do.

Threads, and a fork with an open writer, are in tests/cache/test_sharing.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from frozenhead.cache import VectorCache
from tests.cache.examples import assert_held, make_space, write_rows

POOL = """
import multiprocessing, sys
from frozenhead.cache import VectorCache
from tests.cache.examples import assert_held, make_space, write_rows
from tests.hardship.workers import Texts, read_batch, write_and_read

def main():
    cache = VectorCache(sys.argv[1])
    store = cache.space(make_space())
    write_rows(store, ["first"])
    write_rows(store, ["second"])
    assert_held(store, ["first", "second"])
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        assert pool.starmap(write_and_read, [(cache, store, i) for i in range(6)]) == list(range(6))
        assert_held(store, [f"worker {i}" for i in range(6)])
        texts = [*["first", "second"] * 10, *(f"worker {i}" for i in range(6))]
        dataset = Texts(cache, texts)
        rows = pool.starmap(read_batch, [(dataset, range(i, i + 2)) for i in range(0, len(texts), 2)])
        assert [row for batch in rows for row in batch] == [dataset[i] for i in range(len(texts))]
        pool.close()
        pool.join()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_cache_made_before_the_workers_serves_and_keeps_in_all_of_them(tmp_path: Path, method: str) -> None:
    script, cache = tmp_path / "pool.py", tmp_path / "cache"
    script.write_text(POOL)
    command = [sys.executable, "-W", "error", str(script), str(cache), method]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    store = VectorCache(cache).space(make_space())
    assert_held(store, ["first", "second", *(f"worker {i}" for i in range(6))])
    assert len(store.pin()) == 8
    assert not VectorCache(cache).check_all().bad
    assert not [path for path in cache.rglob("*") if path.name.startswith(".tmp-")]


def test_a_cache_survives_pickling(tmp_path: Path) -> None:
    import pickle

    store = VectorCache(tmp_path / "cache").space(make_space())
    write_rows(store, ["a"])
    assert_held(store, ["a"])
    assert_held(pickle.loads(pickle.dumps(store)), ["a"])
