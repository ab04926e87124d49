"""`embed --engine ray`, on a Ray of this host: two actors, killed and refused, and a run like a single process's."""

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import text_keys
from frozenhead.fleet.station import import_path
from tests.fleet.conftest import assert_same_vectors, cached_vectors, distinct_texts, make_texts, run_rows
from tests.fleet.raying import Job, launched, shards, started, words_of
from tests.hardship.laws import temporary_files

pytest.importorskip("ray", reason="Ray is not installed: pip install 'frozenhead[ray]'")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes as Linux lists them"),
]

RunEmbed = Callable[..., dict[str, Any]]
RAY = ["--engine", "ray", "--workers", "2"]


@pytest.fixture
def words(tiny_folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command line that embeds a table, by Ray or not."""

    def command(table: Path, *more: str, model: Path = tiny_folder) -> list[str]:
        flags = ["--no-label", "--model", str(model), "--precision", "fp32", "--backend", "torch", "--json"]
        flags += ["--out", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
        return ["embed", str(table), *flags, *more]

    return command


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files, under a name that is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="fh-t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def big_table(tmp_path: Path) -> Path:
    """Texts for some seconds of two actors, each text twice."""
    path = tmp_path / "big.csv"
    texts = [f"{text} {i}" for i, text in enumerate(make_texts(16_000))]
    path.write_text("text\n" + "".join(f"{text}\n" for text in texts * 2))
    return path


def single(run_embed: RunEmbed, table: Path, tmp_path: Path) -> Path:
    """The cache of a single process; its run stands in `single`."""
    run_embed(data=str(table), corpus={"labelled": False}, out=tmp_path / "single", cache_dir=tmp_path / "other")
    return tmp_path / "other"


def test_two_actors_leave_what_a_single_process_leaves(
    words: Callable[..., list[str]], table: Path, run_embed: RunEmbed, tmp_path: Path, short: Path
) -> None:
    """And nothing else: no process, no temporary folder, no word on stdout, no port that others can reach."""
    texts = distinct_texts(table)
    with started(*words(table, *RAY), TMPDIR=str(short)) as job:
        job.await_(job.actors)
        assert list(short.glob("fh-ray-*"))
        listening = addresses_of(job)
        result = job.result()
        assert listening
        assert all(address.is_loopback for address in listening), listening
        assert job.gone()
    assert not list(short.glob("fh-ray-*"))
    assert (result["computed"], result["cached"]) == (len(texts), 0)
    assert sum(result["ray"]["workers"].values()) == len(texts)
    assert_same_vectors(tmp_path / "cache", single(run_embed, table, tmp_path), texts)
    assert run_rows(tmp_path / "run").equals(run_rows(tmp_path / "single"))
    assert not temporary_files(tmp_path / "cache")


def addresses_of(job: Job) -> list[Any]:
    """Where the processes of a job listen."""
    import ipaddress

    sockets = set()
    for pid in job.processes():
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found = []
    for table, width in (("/proc/net/tcp", 4), ("/proc/net/tcp6", 16)):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                address = b"".join(raw[i : i + 4][::-1] for i in range(0, width, 4))
                one = ipaddress.ip_address(address)
                found.append(getattr(one, "ipv4_mapped", None) or one)
    return found


def test_an_actor_that_is_killed_costs_at_most_its_block_and_the_job_goes_on(
    words: Callable[..., list[str]], big_table: Path, run_embed: RunEmbed, tmp_path: Path
) -> None:
    texts = set(big_table.read_text().splitlines()[1:])
    with started(*words(big_table, *RAY)) as job:
        job.await_(lambda: shards(tmp_path / "cache"))
        killed = job.await_(job.actors)[0]
        os.kill(killed, signal.SIGKILL)
        result = job.result()
    assert result["computed"] == result["distinct"] == len(texts)
    assert len(result["ray"]["workers"]) >= 2
    assert_same_vectors(tmp_path / "cache", single(run_embed, big_table, tmp_path), texts)
    assert run_rows(tmp_path / "run").equals(run_rows(tmp_path / "single"))


def test_a_driver_that_was_killed_goes_on_from_the_cache(
    words: Callable[..., list[str]], big_table: Path, tmp_path: Path, short: Path
) -> None:
    texts = set(big_table.read_text().splitlines()[1:])
    with started(*words(big_table, *RAY), TMPDIR=str(short)) as job:
        job.await_(lambda: shards(tmp_path / "cache"))
        os.kill(job.process.pid, signal.SIGKILL)
        job.process.wait()
        assert job.gone(), [words_of(pid) for pid in job.processes()]
    kept = len(cached_vectors(tmp_path / "cache", texts))
    assert 0 < kept < len(texts)
    assert not (tmp_path / "run").exists()
    with started(*words(big_table, *RAY)) as job:
        result = job.result()
    assert (result["cached"], result["computed"]) == (kept, len(texts) - kept)
    assert len(cached_vectors(tmp_path / "cache", texts)) == len(texts)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_driver_and_all_that_it_started(
    words: Callable[..., list[str]], big_table: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with started(*words(big_table, *RAY)) as job:
        job.await_(job.actors)
        job.process.send_signal(number)
        ended, _, err = job.done()
        assert ended == code, err
        assert "Traceback" not in err
        assert job.gone()
    assert not temporary_files(tmp_path / "cache") or not shards(tmp_path / "cache")


POISON = "poison pill"
HOSTILE = f"""
import os, signal, sys
from frozenhead.fleet import station
embed = station.Station.embed

def hostile(self, texts, *more, **options):
    if any({POISON!r} in text for text in texts):
        if os.environ["POISON"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("poisoned")
    return embed(self, texts, *more, **options)

station.Station.embed = hostile
"""


@pytest.mark.parametrize("kind", ["raise", "kill"])
def test_a_block_that_fails_for_ever_is_listed_and_the_rest_is_kept(
    words: Callable[..., list[str]], tmp_path: Path, kind: str
) -> None:
    table, hooks = tmp_path / "big.csv", tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text("import os\nif os.environ.get('POISON'): import hostile_later\n")
    (hooks / "hostile_later.py").write_text(LATER)
    (hooks / "hostile.py").write_text(HOSTILE)
    texts = [f"{text} {i}" for i, text in enumerate(make_texts(3000))]
    table.write_text("text\n" + "".join(f"{text}\n" for text in [*texts, POISON]))
    path = f"{hooks}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with started(
        *words(table, *RAY), PYTHONPATH=f"{import_path()['PYTHONPATH']}{os.pathsep}{path}", POISON=kind
    ) as job:
        code, out, err = job.done()
    assert code == 4, err
    assert not out
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
    failed = [json.loads(line) for line in (tmp_path / "run.failed.jsonl").read_text().splitlines()]
    found = cached_vectors(tmp_path / "cache", {*texts, POISON})
    assert {one["text"] for one in failed} == {*texts, POISON} - set(found)
    assert 0 < len(failed) < len(texts) / 4
    assert {one["row"]: one["text"] for one in failed}[3000] == POISON
    assert all(bytes.fromhex(one["key"]) == text_keys([one["text"]])[0].tobytes() for one in failed)
    assert f"{len(failed):,} texts could not be embedded, {len(found):,} were and are kept" in err
    assert failed[0]["key"][:12] in err
    if kind == "raise":
        assert "poisoned" in err
    with started(*words(table, *RAY)) as job:
        assert job.result()["computed"] == len(failed)


# Patches the module when it is imported: at the start of Python nothing may be imported yet.
LATER = """
import importlib.abc, importlib.util, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "frozenhead.fleet.ray_actor":
            return None
        sys.meta_path.remove(self)
        import hostile
        return importlib.util.find_spec(name)

sys.meta_path.insert(0, Finder())
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_an_address_without_a_cluster_is_told_of_within_half_a_minute(
    words: Callable[..., list[str]], table: Path
) -> None:
    """Nobody listens; somebody listens and says nothing; and `auto` finds none."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(50)
        silent = f"127.0.0.1:{mute.getsockname()[1]}"
        for address in (f"127.0.0.1:{free_port()}", silent, "auto"):
            begun = time.monotonic()
            with started(*words(table, "--engine", "ray", "--address", address), RAY_TMPDIR="/nowhere") as job:
                code, out, err = job.done()
            assert code == 4, err
            assert not out
            assert f"The Ray cluster at {address} cannot be reached" in err
            assert "ray start --head" in err
            assert "Traceback" not in err
            assert time.monotonic() - begun < 30 or os.getloadavg()[0] > 3


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_cluster_that_asks_for_a_token_is_reached_by_its_address_by_those_who_have_it(
    words: Callable[..., list[str]], table: Path, short: Path, tmp_path: Path
) -> None:
    """`ray start` asks for one wherever its user has one, and Ray makes one for the first cluster of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (short / ".ray").mkdir()
    (short / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    start = ("start", "--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=2", "--block")
    home = {"HOME": str(short), "RAY_TMPDIR": str(short)}
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [*words(table), "--engine", "ray", "--workers", "1", "--address", f"127.0.0.1:{port}"]
    with launched(sys.executable, "-m", "ray.scripts.scripts", *start, **home, **loopback) as head:
        head.await_(lambda: answers(port))
        with started(*command, **loopback, HOME=str(tmp_path)) as job:
            code, _, err = job.done()
        assert (code, "asks for a token" in err) == (4, True), err
        with started(*command, **loopback, **home) as job:
            assert job.result()["computed"] == len(distinct_texts(table))
