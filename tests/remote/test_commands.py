"""The commands on a cache in an object store: two machines that share it, and what `frozenhead cache` does there."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from frozenhead.cache import VectorCache
from frozenhead.commands.caches import PruneOptions, export, list_spaces, prune, verify_shards
from frozenhead.errors import UsageError
from frozenhead.files import host_name
from tests.cache.examples import assert_absent, assert_held, vectors_of, write_rows
from tests.commands.conftest import make_table
from tests.remote.conftest import Machine, objects
from tests.remote.server import Proxy
from tests.remote.test_machines import TEXTS, key_of, shard_key
from tests.test_cli import Command, commands


@pytest.fixture
def frozenhead(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`frozenhead WORDS` in this process."""
    with commands(capfd, monkeypatch) as run:
        yield run


Go = Callable[[str], None]


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Go:
    """`go("a")`: from now on this is machine a."""

    def going(name: str) -> None:
        monkeypatch.setenv("FROZENHEAD_MIRROR_DIR", str(tmp_path / name))

    return going


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    make_table().to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_what_one_machine_embeds_another_fits_reports_verifies_and_predicts(
    frozenhead: Command, go: Go, table: Path, tiny_folder: Path, tmp_path: Path, url: str, proxy: Proxy
) -> None:
    run = tmp_path / "run"
    embed = ("embed", table, "--model", tiny_folder, "--device", "cpu", "--out", run, "--pooling", "pooler,mean")
    go("a")
    embedded = frozenhead(*embed, "--cache-dir", url)
    assert embedded.returncode == 0, embedded.stderr
    features = {path.stem: json.loads(path.read_text()) for path in (run / "features").iterdir()}
    assert {record["cache"] for record in features.values()} == {url}
    go("b")
    for words in (
        ("fit", run, "--head", "dense,logreg", "--set", "epochs=2"),
        ("report", run),
        ("verify", run, "--steps", 3, "--sample", 5, "--device", "cpu"),
        ("predict", run, table, "-o", tmp_path / "out.csv"),
        ("cache", "verify", "--cache-dir", url),
    ):
        done = frozenhead(*words)
        assert done.returncode == 0, done.stderr
    proxy.rule = lambda method, path: "reset"
    before = proxy.count("PUT", "/pins/")
    offline = frozenhead("fit", run, "--head", "centroid")
    assert offline.returncode == 0, offline.stderr  # its shards are all here
    # Nobody waits for a pin: one try each, which aiohttp makes twice where it kept a connection.
    assert proxy.count("PUT", "/pins/") - before <= 2 * len(features)
    proxy.rule = lambda method, path: None
    puts = [path for method, path in proxy.seen if method == "PUT" and "/shards/" in path]
    assert len(puts) == len(set(puts))  # nothing was computed twice
    go("c")
    again = frozenhead(*embed, "--cache-dir", url)
    assert "no forward pass" in again.stderr
    heads = {m: _head_bytes(frozenhead, go, m, run) for m in "ad"}
    assert heads["a"] == heads["d"]  # warm or cold, the same bits


def _head_bytes(frozenhead: Command, go: Go, machine: str, run: Path) -> bytes:
    go(machine)
    done = frozenhead("fit", run, "--head", "dense", "--set", "epochs=2", "--refit", "--features", "tiny-bert.mean")
    assert done.returncode == 0, done.stderr
    return (run / "heads" / "tiny-bert.mean" / "dense" / "weights.safetensors").read_bytes()


def test_an_embed_whose_bucket_vanishes_ends_with_6_and_goes_on_later(
    frozenhead: Command, go: Go, table: Path, tiny_folder: Path, tmp_path: Path, url: str, bucket: str, boto: Any,
    proxy: Proxy,
) -> None:  # fmt: skip
    words = ("embed", table, "--model", tiny_folder, "--device", "cpu", "--out", tmp_path / "run", "--cache-dir", url)

    def vanish(method: str, path: str) -> None:
        if method == "PUT" and "/shards/" in path:
            for name in objects(boto, bucket):
                boto.delete_object(Bucket=bucket, Key=name)
            boto.delete_bucket(Bucket=bucket)
            proxy.rule = lambda method, path: None

    go("a")
    proxy.rule = vanish
    done = frozenhead(*words)
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    assert "The bucket or folder is not there" in done.stderr
    assert "goes on from there" in done.stderr
    assert frozenhead(*words).returncode == 6
    boto.create_bucket(Bucket=bucket)
    again = frozenhead(*words)
    assert again.returncode == 0, again.stderr
    assert "no forward pass" in again.stderr
    go("b")
    assert frozenhead("fit", tmp_path / "run", "--head", "logreg").returncode == 0


def test_the_environment_names_a_url_as_the_option_does(
    frozenhead: Command, go: Go, url: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(machine("a"), TEXTS)
    monkeypatch.setenv("FROZENHEAD_CACHE_DIR", url)
    go("b")
    assert json.loads(frozenhead("cache", "ls", "--json").stdout)["folder"] == url
    shown = frozenhead("cache", "path")
    assert Path(shown.stdout.strip()) == VectorCache().folder
    assert url in shown.stderr


def test_the_list_counts_both_places_once(machine: Machine, url: str) -> None:
    write_rows(machine("a"), TEXTS)
    machine("a").describe({"name": "small"})
    write_rows(machine("b"), ["b"])
    size = sum(path.stat().st_size for m in "ab" for path in (machine(m).folder / "shards").iterdir())
    for name in ("a", "b", "c"):
        machine(name)
        [space] = list_spaces(None if name == "none" else url)["spaces"]
        assert (space["rows"], space["shards"], space["bytes"], space["quarantined"]) == (4, 2, size, 0)
        assert space["pooling"] == "pooler"
        assert space["last_used"] is not None


def test_verify_reads_the_store_and_heals_it_from_the_mirror(
    machine: Machine, url: str, bucket: str, boto: Any
) -> None:
    store = machine("a")
    [one], [two] = write_rows(store, ["one"]), write_rows(store, ["two"])
    assert (verify_shards(url)["shards"], verify_shards(url)["bad"]) == (2, [])
    for name in (one, two):
        boto.put_object(Bucket=bucket, Key=shard_key(store, url, bucket, name), Body=b"junk")
    store.shard(two).unlink()
    machine("a")
    result = verify_shards(url)
    assert sorted(bad["shard"] for bad in result["bad"]) == sorted([one, two])
    assert result["quarantined"] == 2
    assert_held(machine("b"), ["one"])
    assert_absent(machine("b"), ["two"])
    machine("c")
    assert verify_shards(url)["bad"] == []
    assert_held(machine("c"), ["one"])


def test_export_fetches_what_it_needs(machine: Machine, url: str, tmp_path: Path) -> None:
    store = machine("a")
    write_rows(store, TEXTS)
    machine("b")
    assert export(url, space=store.space.id[:8], out=tmp_path / "out.parquet")["rows"] == 3
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    keys = np.array([list(bytes.fromhex(row["key"])) for row in rows], np.uint8)
    np.testing.assert_array_equal(np.array([row["vector"] for row in rows], np.float32), vectors_of(keys))


def test_prune_shows_what_goes_and_takes_it_from_the_store_and_the_mirror(
    machine: Machine, url: str, bucket: str, boto: Any
) -> None:
    doomed, kept = machine("a"), machine("a", pooling="mean")
    write_rows(doomed, TEXTS)
    [name] = write_rows(kept, TEXTS)
    boto.put_object(Bucket=bucket, Key=shard_key(kept, url, bucket, "f" * 64, "quarantine"), Body=b"junk")
    old = objects(boto, bucket)
    machine("b")
    options = PruneOptions(spaces=(doomed.space.id,), quarantine=True)
    shown = prune(url, options, dry_run=True)
    assert objects(boto, bucket) == old
    begin = key_of(doomed, url, bucket, "")
    assert sum(item["bytes"] for item in shown["items"] if item["path"].startswith(url)) == 4 + sum(
        len(data) for key, data in old.items() if key.startswith(begin)
    )
    prune(url, options, dry_run=False)
    there = objects(boto, bucket)
    assert not [key for key in there if key.startswith(begin) or "quarantine" in key]
    assert shard_key(kept, url, bucket, name) in there
    assert not (VectorCache(url).folder / "v1" / doomed.space.id).exists()
    assert_held(machine("c", pooling="mean"), TEXTS)


def test_a_space_that_another_machines_run_refers_to_is_kept(
    machine: Machine, url: str, bucket: str, boto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine("a")
    names = write_rows(store, TEXTS)
    holder = tmp_path / "gone" / "run.json"
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "elsewhere")
        store.refer(holder, names)
    machine("b")
    with pytest.raises(UsageError, match="is used by"):
        prune(url, PruneOptions(spaces=(store.space.id,)), dry_run=False)
    assert prune(url, PruneOptions(unused_days=0), dry_run=False)["kept"]
    prune(url, PruneOptions(), dry_run=False)  # that machine's disk is not seen from here: its pin stays
    assert_held(machine("c"), TEXTS)
    prune(url, PruneOptions(spaces=(store.space.id,), pinned=True), dry_run=False)
    assert objects(boto, bucket) == {}


def test_a_pin_of_this_machine_whose_run_is_gone_goes_from_the_store(
    machine: Machine, url: str, bucket: str, boto: Any, tmp_path: Path
) -> None:
    store = machine("a")
    store.refer(tmp_path / "gone.json", write_rows(store, TEXTS))
    assert len([key for key in objects(boto, bucket) if "/pins/" in key]) == 1
    prune(url, PruneOptions(temporary=True), dry_run=False)
    assert not [key for key in objects(boto, bucket) if "/pins/" in key]
    assert host_name()
    assert_held(machine("b"), TEXTS)


def test_leavings_go_from_the_store_after_a_day(
    machine: Machine, url: str, bucket: str, boto: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine("a")
    write_rows(store, TEXTS)
    before = objects(boto, bucket)
    for place in (("shards", ".tmp-host-1-a"), (".tmp-host-1-b",), ("..", ".tmp-host-1-c")):
        key = key_of(store, url, bucket, *place).replace(f"{store.space.id}/../", "")
        boto.put_object(Bucket=bucket, Key=key, Body=b"-")
    assert prune(url, PruneOptions(), dry_run=False)["items"] == []  # somebody may be at work
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 25 * 3600)
    items = prune(url, PruneOptions(), dry_run=False)["items"]
    assert [item["bytes"] for item in items] == [1, 1, 1]
    assert objects(boto, bucket) == before


def test_unused_counts_what_other_machines_did(machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine("a")
    write_rows(store, TEXTS)
    os.utime(store.folder / "space.json", (0, 0))
    assert prune(url, PruneOptions(unused_days=1), dry_run=True)["items"] == []
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 3 * 24 * 3600)
    assert len(prune(url, PruneOptions(unused_days=1), dry_run=True)["items"]) == 2


def test_a_refused_removal_leaves_the_mirror(
    machine: Machine, url: str, bucket: str, boto: Any, proxy: Proxy, frozenhead: Command
) -> None:
    store = machine("a")
    [name] = write_rows(store, TEXTS)
    proxy.rule = lambda method, path: "403" if method in {"DELETE", "POST"} else None
    done = frozenhead("cache", "prune", "--space", store.space.id[:8], "--yes", "--cache-dir", url)
    assert done.returncode == 6
    assert store.shard(name).exists()
    assert shard_key(store, url, bucket, name) in objects(boto, bucket)


def test_compaction_of_a_store_is_refused_with_the_way_out(frozenhead: Command, url: str, machine: Machine) -> None:
    write_rows(machine("a"), TEXTS)
    for extra in ((), ("--dry-run",)):
        done = frozenhead("cache", "compact", "--cache-dir", url, *extra)
        assert (done.returncode, done.stdout) == (2, "")
        assert "copy the place to a folder" in done.stderr


def test_a_folder_needs_no_fsspec(frozenhead: Command) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom frozenhead.cache import VectorCache\nVectorCache(sys.argv[1]).spaces()\n"
        "sys.exit('fsspec' in sys.modules or 's3fs' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, "folder"], check=False, timeout=60).returncode == 0
