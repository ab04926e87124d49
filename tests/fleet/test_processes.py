"""One process for each device of a host; two on a CPU work as two on GPUs do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import VectorCache
from frozenhead.commands.voice import Advance, Silence
from frozenhead.embedder import EmbedSettings, Listener, find_checkpoint
from frozenhead.errors import DeviceNotFound, FrozenheadError, UsageError
from frozenhead.fleet.child import read_texts
from frozenhead.fleet.cores import take_cores
from frozenhead.fleet.processes import embed_on_devices, write_shares
from frozenhead.fleet.share import Share
from frozenhead.fleet.station import import_path
from tests.fleet.conftest import MakeOptions, assert_same_vectors, cached_vectors, distinct_texts, make_texts, run_rows
from tests.hardship.laws import temporary_files
from tests.hardship.nursery import PATIENCE

RunEmbed = Callable[..., dict[str, Any]]


class Watcher(Silence):
    """Keeps what is said, and how far the bar went."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def bar(self, title: str, *, unit: str) -> Iterator[Advance]:
        yield lambda done, total: self.steps.append((done, total))


def test_two_processes_leave_what_one_leaves(run_embed: RunEmbed, table: Path, tmp_path: Path) -> None:
    watcher, texts = Watcher(), distinct_texts(table)
    both = run_embed(watcher, device="cpu,cpu")
    one = run_embed(out=tmp_path / "single", cache_dir=tmp_path / "other")
    assert (both["computed"], both["cached"]) == (one["computed"], one["cached"]) == (len(texts), 0)
    assert_same_vectors(tmp_path / "cache", tmp_path / "other", texts)
    assert run_rows(tmp_path / "run").equals(run_rows(tmp_path / "single"))
    assert both["features"] == one["features"]
    assert both["arithmetic"] == one["arithmetic"] | {"device": "cpu"}
    assert len(list((tmp_path / "cache").glob("v1/*/shards/*.safetensors"))) == 2
    assert watcher.steps[0] == (0, len(texts))
    assert watcher.steps[-1] == (len(texts), len(texts))
    assert watcher.steps == sorted(watcher.steps)
    assert sum(line.startswith("process ") for line in watcher.lines) == 2
    again = run_embed(device="cpu,cpu")
    assert (again["computed"], again["cached"], again["arithmetic"]) == (0, len(texts), None)


def test_processes_compute_only_what_the_cache_lacks(run_embed: RunEmbed, table: Path, tmp_path: Path) -> None:
    texts = distinct_texts(table)
    share = run_embed(worker="0/2")["computed"]
    rest = run_embed(device="cpu,cpu,cpu")
    assert (rest["cached"], rest["computed"]) == (share, len(texts) - share)
    assert len(cached_vectors(tmp_path / "cache", texts)) == len(texts)


def test_the_cores_are_divided_among_processes_on_the_cpu() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system pins no process to cores")
    before = os.sched_getaffinity(0)
    taken = []
    for index in range(2):
        take_cores(Share(index=index, of=2))
        taken.append(os.sched_getaffinity(0))
        os.sched_setaffinity(0, before)
    if len(before) > 1:
        assert not taken[0] & taken[1]
    assert taken[0] | taken[1] == before


def test_the_file_of_each_process_holds_its_share_of_the_rows(tmp_path: Path) -> None:
    import numpy as np

    from frozenhead.cache import text_keys

    texts = make_texts(40_000)  # more than are written at once
    keys, rows = text_keys(texts), np.arange(0, 40_000, 2)
    files = write_shares(texts, keys, rows, 3, tmp_path)
    for index, file in enumerate(files):
        expected = [texts[row] for row in rows if int.from_bytes(keys[row, :8].tobytes(), "big") % 3 == index]
        assert list(read_texts(file)) == expected


@pytest.mark.parametrize(
    ("device", "error"), [("cpu,cuda:7", DeviceNotFound), ("cpu,auto", UsageError), ("cpu,", UsageError)]
)
def test_a_device_that_is_none_is_refused_before_anything_starts(
    run_embed: RunEmbed, tmp_path: Path, device: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run_embed(device=device)
    assert not list((tmp_path / "cache").glob("v1/*/shards/*"))


def words(table: Path, model: Path, folder: Path) -> list[str]:
    """The command line, as a process of its own; its signals are as in a terminal."""
    program = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from frozenhead import cli; cli.main()"
    flags = ["--no-label", "--model", str(model), "--device", "cpu,cpu", "--precision", "fp32", "--backend", "torch"]
    flags += ["--out", str(folder / "run"), "--cache-dir", str(folder / "cache")]
    return [sys.executable, "-c", program, "embed", str(table), *flags]


def children_of(pid: int) -> list[int]:
    """The processes that embed for a parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat, command = path.read_text(), (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid and "frozenhead.fleet.child" in command:
            found.append(int(path.parent.name))
    return found


def await_children(parent: subprocess.Popen[str]) -> list[int]:
    """Both processes of a parent."""
    deadline = time.monotonic() + PATIENCE
    while len(found := children_of(parent.pid)) < 2:
        assert parent.poll() is None, parent.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def gone(pids: list[int]) -> bool:
    """Whether none of these processes is there, or they are soon gone."""
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def big_table(tmp_path: Path) -> Path:
    """Enough texts that both processes are at work when they are stopped."""
    path = tmp_path / "big.csv"
    path.write_text("text\n" + "".join(f"{text} {i}\n" for i, text in enumerate(make_texts(20_000))))
    return path


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes as Linux lists them")


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_processes_and_what_they_computed_is_kept(
    big_table: Path, tiny_folder: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = words(big_table, tiny_folder, tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        children = await_children(parent)
        time.sleep(4)  # some batches
        parent.send_signal(number)
        _, err = parent.communicate(timeout=PATIENCE)
    assert parent.returncode == code, err
    assert "Traceback" not in err
    assert "stopped. What was finished before is kept" in err
    assert gone(children)
    assert not temporary_files(tmp_path / "cache")
    texts = set(big_table.read_text().splitlines()[1:])
    kept = len(cached_vectors(tmp_path / "cache", texts)) if VectorCache(tmp_path / "cache").spaces() else 0
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    if kept:
        assert f"{len(texts) - kept:,} texts embedded, {kept:,} from the cache" in done.stdout
    assert len(cached_vectors(tmp_path / "cache", texts)) == len(texts)


@needs_proc
@pytest.mark.slow
def test_a_process_that_is_killed_is_told_of_and_the_other_finishes(
    big_table: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    command = words(big_table, tiny_folder, tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        os.kill(min(await_children(parent)), signal.SIGKILL)
        _, err = parent.communicate(timeout=PATIENCE)
    assert parent.returncode == 1, err
    assert "was killed by SIGKILL" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
    texts = set(big_table.read_text().splitlines()[1:])
    found = cached_vectors(tmp_path / "cache", texts)
    assert len(texts) / 3 < len(found) < len(texts)
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    assert len(cached_vectors(tmp_path / "cache", texts)) == len(texts)


@needs_proc
@pytest.mark.slow
def test_processes_end_with_a_parent_that_was_killed(big_table: Path, tiny_folder: Path, tmp_path: Path) -> None:
    command = words(big_table, tiny_folder, tmp_path)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as parent:
        children = await_children(parent)
        parent.kill()
        parent.wait()
        assert gone(children)
    assert not VectorCache(tmp_path / "cache").check_all().bad


def test_what_a_process_raises_is_raised_with_its_exit_code(
    table: Path, make_checkpoint: Callable[..., Path], make_options: MakeOptions, tmp_path: Path
) -> None:
    """The checkpoint changes between the parent's look and the children's: their space is another."""
    folder = make_checkpoint(tmp_path / "bert")
    checkpoint = find_checkpoint(str(folder))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    cache, texts = VectorCache(tmp_path / "cache"), ["the cat", "the dog"]
    from frozenhead.cache import text_keys

    with pytest.raises(FrozenheadError, match=r"Process 1 of 2, on cpu, failed(.|\n)*other checkpoint files") as raised:
        embed_on_devices(
            checkpoint, texts, keys=text_keys(texts), cache=cache, devices=["cpu", "cpu"], listener=Listener(),
            settings=EmbedSettings(precision="fp32", backend="torch"),
        )  # fmt: skip
    assert raised.value.exit_code == 4
    assert not cache.spaces()


def test_a_child_is_of_the_same_code_as_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = "import frozenhead; print(frozenhead.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **import_path()}
    )
    import frozenhead

    assert done.stdout.strip() == frozenhead.__file__
