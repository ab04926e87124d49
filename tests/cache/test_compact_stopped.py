"""A compaction that is stopped, or that is not alone, loses nothing."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.cache import Compaction, SpaceStore, VectorCache, compact, text_keys
from frozenhead.errors import FrozenheadError
from tests.cache.examples import (
    assert_held,
    make_space,
    raiser,
    reopened,
)
from tests.cache.merging import (
    CALLS,
    TEXTS,
    WRITING,
    check_run,
    check_troubled,
    list_of,
    make_troubled,
    refer,
    repin,
    vectors,
    write_each,
    write_other,
)

pytestmark = pytest.mark.usefixtures("quick_disk")

STOPS: dict[str, Callable[[], BaseException]] = {
    "full disk": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "no permission": lambda: PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    "Ctrl-C": KeyboardInterrupt,
}


def compact_and_stop(store: SpaceStore, calls: Iterable[str], at: int, stop: Callable[[], BaseException]) -> bool:
    """Compact, the call number `at` failing; returns whether there were so many."""
    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise stop()
            return call(*args, **options)

        return counting

    with pytest.MonkeyPatch.context() as patch, suppress(FrozenheadError, OSError, KeyboardInterrupt):
        for name in calls:
            patch.setattr(os, name, counted(getattr(os, name)))
        compact(reopened(store), repin=repin)
    return count >= at


@pytest.mark.parametrize(
    ("how", "calls"),
    [("full disk", WRITING), *(pytest.param(how, CALLS, marks=pytest.mark.slow) for how in STOPS)],
    ids=["writing", *STOPS],
)
def test_whichever_call_fails_nothing_is_lost_and_the_next_compaction_ends_the_work(
    tmp_path: Path, how: str, calls: tuple[str, ...]
) -> None:
    for at in range(1, 1000):
        store, runs = make_troubled(tmp_path / str(at) / "cache")
        stopped = compact_and_stop(store, calls, at, STOPS[how])
        check_troubled(store, runs)
        for holder in runs:  # as the next `fit` does
            store.refer(holder, list_of(holder))
        compact(reopened(store), repin=repin)
        check_troubled(store, runs)
        if not stopped:
            assert at > 15
            assert len(store.pin()) == 3  # the disputed one, what disputes it, and the rest
            return
        assert len(store.pin()) <= 4, at  # and what a stop may have left
    raise AssertionError("compaction never came to its end")


KILLED = """
import os, sys
from pathlib import Path
from tests.cache.merging import CALLS, check_troubled, list_of, make_troubled, repin
from tests.cache.examples import reopened
from frozenhead.cache import compact
os.fsync = lambda _: None

def killer(call, at, counter=[0]):
    def counting(*args, **options):
        counter[0] += 1
        if counter[0] == at:
            os._exit(9)
        return call(*args, **options)
    return counting

def after(call, at, counter=[0]):
    def counting(*args, **options):
        result = call(*args, **options)
        counter[0] += 1
        if counter[0] == at:
            os._exit(9)
        return result
    return counting

for wrap in (killer, after):
    for at in range(1, 1000):
        store, runs = make_troubled(Path(sys.argv[1]) / wrap.__name__ / str(at) / "cache")
        child = os.fork()
        if not child:
            for name in CALLS:
                setattr(os, name, wrap(getattr(os, name), at))
            compact(reopened(store), repin=repin)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        check_troubled(store, runs)
        for holder in runs:
            store.refer(holder, list_of(holder))
        compact(reopened(store), repin=repin)
        check_troubled(store, runs)
        assert len(store.pin()) <= 4, at
        if code == 0:
            assert at > 30
            break
        assert code == 9, code
print("done")
"""


def run_script(code: str, *words: object, timeout: float = 120) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_a_kill_at_any_call_loses_nothing(tmp_path: Path) -> None:
    assert run_script(KILLED, tmp_path) == "done\n"


def test_two_compactions_of_one_space_wait_for_each_other(store: SpaceStore) -> None:
    names = write_each(store, ["a", "b"])
    with open(store.folder / "space.json", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        results: list[Compaction] = []
        second = threading.Thread(target=lambda: results.append(compact(reopened(store), repin=repin)))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert set(store.pin()) == set(names)
    second.join(30)
    assert [result.after for result in results] == [1]


def test_a_file_system_that_knows_no_locks_is_no_obstacle(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write_each(store, ["a", "b"])
    monkeypatch.setattr(fcntl, "flock", raiser(OSError(errno.ENOLCK, "No locks available")))
    assert compact(store, repin=repin).after == 1


AT_ONCE = """
import os, sys, time
from pathlib import Path
from tests.cache.merging import repin
from tests.cache.examples import make_space
from frozenhead.cache import VectorCache, compact
store = VectorCache(Path(sys.argv[1])).space(make_space())
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
compact(store, repin=repin)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_compactions_at_the_same_moment_lose_nothing(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    store = VectorCache(tmp_path / "cache").space(make_space())
    for _ in range(60):
        write_other(store, random.choice(TEXTS, size=4, replace=False), off=float(random.integers(0, 3)))
    texts = [text for text in TEXTS if store.lookup(text_keys([text])).found.all()]
    some = [str(name) for name in random.choice(store.pin(), size=10, replace=False)]
    theirs = [text for text in TEXTS if store.lookup(text_keys([text]), shards=some).found.all()]
    holder = refer(store, "run", some)
    expected = vectors(store, theirs, some)
    start = str(time.time() + 1.5)
    words = [sys.executable, "-W", "error", "-c", AT_ONCE, str(tmp_path / "cache"), start]
    processes = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    vectors(store, texts)
    np.testing.assert_array_equal(vectors(store, theirs, list_of(holder)), expected)


BUSY = """
import sys, time
from pathlib import Path
from tests.cache.merging import repin
from tests.cache.examples import assert_held, make_space, reopened, write_rows
from frozenhead.cache import VectorCache, compact, text_keys
store = VectorCache(Path(sys.argv[1])).space(make_space())
end = time.time() + float(sys.argv[3])
turns = 0
while time.time() < end:
    turns += 1
    if sys.argv[2] == "write":
        write_rows(store, [f"new {turns}", f"new {turns + 1}", f"old {turns % 40}"])
        time.sleep(0.005)
    elif sys.argv[2] == "read":
        assert_held(store if turns % 2 else reopened(store), [f"old {i}" for i in range(40)])
    else:
        compact(reopened(store), repin=repin)
print(turns)
"""


@pytest.mark.slow
def test_readers_and_writers_notice_nothing_of_a_compaction(tmp_path: Path) -> None:
    store = VectorCache(tmp_path / "cache").space(make_space())
    old = [f"old {i}" for i in range(40)]
    holder = refer(store, "run", write_each(store, old))
    roles = ["write", "read", "read", "compact"]
    processes = {}
    for i, role in enumerate(roles):
        words = [sys.executable, "-W", "error", "-c", BUSY, str(tmp_path / "cache"), role, "5"]
        processes[i, role] = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    turns = {}
    for (_, role), process in processes.items():
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), role
        turns[role] = int(out)
    assert min(turns.values()) > 5, turns
    check_run(store, holder, old)
    assert_held(reopened(store), [*old, *(f"new {i}" for i in range(1, turns["write"] + 2))])
    assert not (store.folder / "quarantine").exists()
