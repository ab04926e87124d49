"""What goes wrong between a machine and an object store: what may pass is tried again, the rest told, nothing lost."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.cache import remote as remote_module
from frozenhead.errors import CacheDamaged, StorageError, UsageError
from tests.cache.examples import assert_absent, assert_held, make_space, tokens_of, vectors_of, write_rows
from tests.remote.conftest import CREDENTIALS, Machine, files, objects
from tests.remote.server import Harm, Proxy
from tests.remote.test_machines import TEXTS, shard_key

AT_MOST_SECONDS = 30.0


def rows_of(text: str) -> tuple[Any, Any, Any]:
    """What a writer takes."""
    keys = text_keys([text])
    return keys, vectors_of(keys), tokens_of(keys)


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("harm", ["500", "503", "reset", "cut short"])
def test_what_passes_is_tried_again_and_nobody_hears_of_it(
    machine: Machine, proxy: Proxy, harm: Harm, method: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(remote_module, "_FIRST_WAIT", 0.02)
    proxy.fail(harm, method, times=2)
    [name] = write_rows(machine("a"), TEXTS)
    proxy.fail(harm, method, f"{name}.safetensors", times=2)
    assert_held(machine("b"), TEXTS)
    assert not [record for record in caplog.records if record.name.startswith("frozenhead")]


def test_a_transfer_that_flips_a_bit_condemns_no_object(
    machine: Machine, proxy: Proxy, url: str, bucket: str, boto: Any, caplog: pytest.LogCaptureFixture
) -> None:
    [name] = write_rows(machine("a"), TEXTS)
    before = objects(boto, bucket)
    here = machine("b")
    proxy.fail("wrong bit", "GET", f"{name}.safetensors", times=1)
    assert_held(here, TEXTS)
    here = machine("c")
    proxy.fail("wrong bit", "GET", f"{name}.safetensors", times=2)  # twice: taken for damage, and looked at once more
    assert_absent(here, TEXTS)
    assert objects(boto, bucket) == before
    assert_held(machine("d"), TEXTS)


def test_reading_works_where_writing_is_not_allowed(
    machine: Machine, proxy: Proxy, url: str, bucket: str, boto: Any, caplog: pytest.LogCaptureFixture
) -> None:
    [name] = write_rows(machine("a"), TEXTS)
    here = machine("b")
    proxy.rule = lambda method, path: None if method in {"GET", "HEAD"} else "403"
    assert_held(here, TEXTS)
    here.describe({"name": "another"})  # what an `embed` does whose texts are all there
    here.settle()
    for writing in (here.check_writable, lambda: write_rows(here, ["new"])):
        with pytest.raises(StorageError, match="do not permit it: use others"):
            writing()
    boto.put_object(Bucket=bucket, Key=shard_key(here, url, bucket, name), Body=b"junk")
    reader = machine("c")
    with caplog.at_level(logging.WARNING):
        assert_absent(reader, TEXTS)
        assert_absent(reader, TEXTS)
    assert ["passed over" in record.message for record in caplog.records] == [True]
    assert proxy.count("GET", f"{name}.safetensors") == 3  # by b, and twice by c, for good
    with pytest.raises(CacheDamaged):  # who goes by it looks again, and is told all the same
        reader.lookup(text_keys(TEXTS), shards=[name])
    assert len(caplog.records) == 1


def test_a_bucket_that_is_not_there_is_told_at_once(machine: Machine, url: str, bucket: str, boto: Any) -> None:
    boto.delete_bucket(Bucket=bucket)
    store, begun = machine("a"), time.monotonic()
    for use in (store.pin, store.check_writable, lambda: store.lookup(text_keys(TEXTS)), VectorCache(url).spaces):
        with pytest.raises(StorageError, match=r"does not exist\. The bucket or folder is not there"):
            use()
    assert time.monotonic() - begun < AT_MOST_SECONDS / 2
    assert not [name for name in boto.list_buckets()["Buckets"] if name["Name"] == bucket]


def test_a_bucket_that_vanishes_costs_nothing_that_was_computed(
    machine: Machine, url: str, bucket: str, boto: Any
) -> None:
    store = machine("a")
    writer = store.writer(flush_bytes=1)
    writer.add(*rows_of("before"))
    for name in objects(boto, bucket):
        boto.delete_object(Bucket=bucket, Key=name)
    boto.delete_bucket(Bucket=bucket)
    with pytest.raises(StorageError, match=r"(?s)is not there.*What was computed is kept in .*goes on") as raised:
        writer.add(*rows_of("after"))
    assert raised.value.exit_code == 6
    boto.create_bucket(Bucket=bucket)
    assert_held(machine("a"), ["before", "after"])
    machine("a").writer()
    assert_held(machine("b"), ["before", "after"])


def test_missing_credentials_are_told_with_the_way(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = machine("a")
    for name in (*CREDENTIALS, "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    remote_module.connect.cache_clear()
    with pytest.raises(StorageError, match=r"credentials.*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as raised:
        store.pin()
    assert raised.value.exit_code == 6


@pytest.mark.slow
def test_a_dead_network_is_told_within_half_a_minute(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")  # nothing listens
    remote_module.connect.cache_clear()
    begun = time.monotonic()
    with pytest.raises(StorageError, match=r"Tried for \d+ s. Check the network"):
        machine("a").pin()
    assert 0.5 * remote_module.PATIENCE_SECONDS < time.monotonic() - begun < AT_MOST_SECONDS


def test_a_full_disk_here_is_told_at_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(machine("a"), TEXTS)
    here = machine("b")
    import s3fs

    def full(_: Any, there: str, here: str, **__: Any) -> None:
        Path(here).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(s3fs.S3FileSystem, "get_file", full)
    remote_module.connect.cache_clear()
    with pytest.raises(StorageError, match=r"No space left on device\. The disk or quota is full"):
        here.lookup(text_keys(TEXTS))
    assert not [name for name in files(here.folder) if ".tmp-" in name]


_KILLED = """
import os, signal, sys
from frozenhead.cache import VectorCache
from tests.cache.examples import make_space, write_rows
import s3fs
sound = s3fs.S3FileSystem.put_file
def killed(self, lpath, rpath, **options):
    if "/shards/" in rpath:
        os.kill(os.getpid(), signal.SIGKILL)
    return sound(self, lpath, rpath, **options)
s3fs.S3FileSystem.put_file = killed
write_rows(VectorCache(sys.argv[1]).space(make_space()), ["some text", "another", "a third"])
"""


def test_killed_before_the_upload_the_same_command_uploads_what_was_computed(
    machine: Machine, url: str, bucket: str, boto: Any
) -> None:
    store = machine("a")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _KILLED, url], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert_absent(machine("b"), TEXTS)
    [name] = store.pin()
    assert write_rows(machine("a"), ["new"]) != [name]
    assert_held(machine("c"), [*TEXTS, "new"])


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("s3://AKIA:se/cr/et@bucket/x", "password or a query"),
        ("s3://AKIA:secret@bucket", "password or a query"),
        ("abfs://box@account.dfs.core.windows.net/x?sig=secret", "password or a query"),
        ("nonsense://bucket/secret", "protocol nonsense:// is not known"),
        ("simplecache::s3://bucket/x", "no place"),
        ("s3://", "no place"),
        ("AKIA:secret@s3://bucket", "password or a query"),
    ],
)
def test_urls_that_cannot_be_used_are_refused_and_secrets_not_repeated(named: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        VectorCache(named)
    assert "password" not in said or "secret" not in str(raised.value)
    assert "se/cr/et" not in str(raised.value)


@pytest.mark.parametrize("named", [Path("s3://bucket/x"), "s3:/bucket/x"])
def test_a_url_with_one_slash_is_refused(named: Path | str) -> None:
    with pytest.raises(UsageError, match="one slash"):
        VectorCache(named)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"pip install 'frozenhead\[remote\]'"):
        VectorCache("s3://bucket/x")


def test_no_secret_is_written_or_told(
    machine: Machine, proxy: Proxy, impatient: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "frozenhead"):
        write_rows(machine("a"), TEXTS)
        proxy.fail("403", "PUT")
        with pytest.raises(StorageError) as refused:
            write_rows(machine("a"), ["new"])
        proxy.fail("reset", "PUT")
        with pytest.raises(StorageError) as broken:
            write_rows(machine("a"), ["new"])
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    told = f"{refused.value}{broken.value}{caplog.text}"
    assert secret not in told
    assert not [path for path, data in files(tmp_path).items() if secret.encode() in data]


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_any_url_of_fsspec_is_a_cache(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"file://{tmp_path}/place" if kind == "file" else f"memory://{tmp_path.name}/place"

    def open_on(name: str) -> SpaceStore:
        monkeypatch.setenv("FROZENHEAD_MIRROR_DIR", str(tmp_path / name))
        return VectorCache(place).space(make_space())

    store = open_on("a")
    store.check_writable()
    [name] = write_rows(store, TEXTS)
    assert_held(open_on("b"), TEXTS)
    monkeypatch.setenv("FROZENHEAD_MIRROR_DIR", str(tmp_path / "c"))
    [summary] = VectorCache(place).spaces()
    assert (summary.rows, summary.shards, summary.bytes) == (3, 1, store.shard(name).stat().st_size)
    if kind == "file":
        assert sorted(files(tmp_path / "place")) == sorted(files(store.folder.parent.parent))
