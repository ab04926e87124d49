"""The cache's laws between machines that share nothing but an object store."""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.cache import SpaceStore, VectorCache, text_keys
from frozenhead.cache.remote import Remote
from frozenhead.cache.shard import shard_name
from frozenhead.errors import CacheDamaged, FleetError, FormatRefused, StorageError
from frozenhead.fleet import JobNote
from tests.cache.examples import (
    assert_absent,
    assert_held,
    flip_bit,
    make_space,
    shard_bytes,
    shard_path,
    tokens_of,
    vectors_of,
    write_rows,
)
from tests.remote.conftest import Machine, files, objects

TEXTS = ["some text", "another", "a third"]


def key_of(store: SpaceStore, url: str, bucket: str, *parts: str) -> str:
    """The name in the bucket of a file of the space."""
    return "/".join((url.removeprefix(f"s3://{bucket}/"), "v1", store.space.id, *parts))


def shard_key(store: SpaceStore, url: str, bucket: str, name: str, folder: str = "shards") -> str:
    return key_of(store, url, bucket, folder, f"{name}.safetensors")


def test_what_one_machine_wrote_another_reads_bit_for_bit(machine: Machine) -> None:
    there = machine("a")
    [name] = write_rows(there, TEXTS)
    here = machine("b")
    assert here.pin() == (name,)
    assert_held(here, TEXTS)
    assert shard_path(here, name).read_bytes() == shard_path(there, name).read_bytes()
    assert_absent(here, ["never seen"])
    keys = text_keys(TEXTS)
    warm, cold = (machine(m).lookup(keys, shards=[name]).vectors for m in "bc")
    assert warm is not None
    assert cold is not None
    np.testing.assert_array_equal(cold.view(np.uint8), warm.view(np.uint8))


def test_the_store_is_a_copy_of_the_cache_folder(machine: Machine, url: str, bucket: str, boto: Any) -> None:
    store = machine("a")
    write_rows(store, TEXTS)
    begin = url.removeprefix(f"s3://{bucket}/")
    there = {name.removeprefix(f"{begin}/"): data for name, data in objects(boto, bucket).items()}
    assert there == files(store.folder.parent.parent)


def test_the_first_machine_describes_the_space_and_others_keep_its_words(machine: Machine, url: str) -> None:
    machine("a").writer(recorded={"name": "first"})
    machine("b").writer(recorded={"name": "second"})
    machine("c")
    assert [summary.recorded for summary in VectorCache(url).spaces()] == [{"name": "first"}]


def test_a_mirror_that_is_lost_is_no_loss(machine: Machine, tmp_path: Path) -> None:
    write_rows(machine("a"), TEXTS)
    for path in sorted((tmp_path / "a").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert_held(machine("a"), TEXTS)


def test_what_only_the_mirror_has_is_uploaded_when_a_writer_opens(
    machine: Machine, url: str, bucket: str, boto: Any
) -> None:
    store = machine("a")
    [name] = write_rows(store, TEXTS)
    boto.delete_object(Bucket=bucket, Key=shard_key(store, url, bucket, name))
    boto.delete_object(Bucket=bucket, Key=key_of(store, url, bucket, "space.json"))
    assert_held(machine("a"), TEXTS)  # both together are the cache
    assert_absent(machine("b"), TEXTS)
    machine("a").writer()
    assert_held(machine("c"), TEXTS)
    assert key_of(store, url, bucket, "space.json") in objects(boto, bucket)


def test_damage_in_the_mirror_is_healed_from_the_store_and_never_uploaded(
    machine: Machine, url: str, bucket: str, boto: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = machine("a")
    [name] = write_rows(store, TEXTS)
    good = shard_path(store, name).read_bytes()
    flip_bit(shard_path(store, name), at=-1)
    assert_held(machine("a"), TEXTS)
    assert shard_path(store, name).read_bytes() == good
    assert not caplog.records  # nothing is missing
    flip_bit(shard_path(store, name), at=-1)
    boto.delete_object(Bucket=bucket, Key=shard_key(store, url, bucket, name))
    machine("a").writer()
    assert shard_key(store, url, bucket, name) not in objects(boto, bucket)


@pytest.mark.parametrize("damage", ["bit", "short", "empty", "other"])
def test_a_damaged_object_is_never_served_told_once_set_aside_and_written_again(
    machine: Machine, url: str, bucket: str, boto: Any, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    [name] = write_rows(machine("a"), TEXTS)
    here = machine("b")
    key, aside = (shard_key(here, url, bucket, name, folder) for folder in ("shards", "quarantine"))
    good = objects(boto, bucket)[key]
    bad = {"bit": good[:-1] + bytes([good[-1] ^ 1]), "short": good[:-7], "empty": b"", "other": b"<html>"}[damage]
    boto.put_object(Bucket=bucket, Key=key, Body=bad)
    with caplog.at_level(logging.WARNING):
        assert_absent(here, TEXTS)
        assert_absent(here, TEXTS)
    assert [name[:12] in record.message and url in record.message for record in caplog.records] == [True]
    there = objects(boto, bucket)
    assert (key in there, there[aside]) == (False, bad)
    assert write_rows(here, TEXTS) == [name]  # the same bytes, the same name
    assert objects(boto, bucket)[key] == good
    assert_held(machine("c"), TEXTS)


def test_a_pinned_shard_that_is_damaged_or_gone_is_an_error(machine: Machine, url: str, bucket: str, boto: Any) -> None:
    [name] = write_rows(machine("a"), TEXTS)
    here = machine("b")
    boto.put_object(Bucket=bucket, Key=shard_key(here, url, bucket, name), Body=b"junk")
    with pytest.raises(CacheDamaged, match="is damaged"):
        here.lookup(text_keys(TEXTS), shards=[name])
    with pytest.raises(CacheDamaged, match="is gone"):
        machine("b").lookup(text_keys(TEXTS), shards=[name])


def test_a_shard_of_another_space_is_set_aside_in_the_store(machine: Machine, url: str, bucket: str, boto: Any) -> None:
    foreign, keys = make_space(pooling="mean"), text_keys(TEXTS)
    data = shard_bytes(foreign, keys, vectors_of(keys), tokens_of(keys))
    here, name = machine("a"), shard_name(data)
    boto.put_object(Bucket=bucket, Key=shard_key(here, url, bucket, name), Body=data)
    assert_absent(here, TEXTS)
    there = objects(boto, bucket)
    assert shard_key(here, url, bucket, name) not in there
    assert there[shard_key(here, url, bucket, name, "quarantine")] == data


def test_a_shard_of_a_newer_format_is_refused_and_left(machine: Machine, url: str, bucket: str, boto: Any) -> None:
    here, keys = machine("a"), text_keys(TEXTS)
    data = shard_bytes(here.space, keys, vectors_of(keys), tokens_of(keys))
    data = data.replace(b"frozenhead-shard-1", b"frozenhead-shard-2")
    key = shard_key(here, url, bucket, shard_name(data))
    boto.put_object(Bucket=bucket, Key=key, Body=data)
    with pytest.raises(FormatRefused):
        here.lookup(text_keys(TEXTS))
    assert objects(boto, bucket)[key] == data


def test_other_names_in_the_store_are_ignored(machine: Machine, url: str, bucket: str, boto: Any) -> None:
    store = machine("a")
    [name] = write_rows(store, TEXTS)
    for other in (
        "notes.txt",
        "shards/.tmp-host-1-a",
        "shards/short.safetensors",
        "shards/",
        "shards/sub/x.safetensors",
    ):
        boto.put_object(Bucket=bucket, Key=key_of(store, url, bucket, other), Body=b"x")
    assert machine("b").pin() == (name,)
    assert_held(machine("b"), TEXTS)


def test_many_machines_write_at_once_and_nothing_is_lost(machine: Machine) -> None:
    parts = [[f"text {i}" for i in range(n, n + 30)] for n in range(0, 60, 10)]  # they overlap
    stores = [machine(f"m{i}") for i in range(len(parts))]
    with ThreadPoolExecutor(len(parts)) as pool:
        list(
            pool.map(
                lambda pair: [write_rows(pair[0], [text]) for text in pair[1][:5]], zip(stores, parts, strict=True)
            )
        )
    everything = sorted({text for part in parts for text in part[:5]})
    for reader in (machine("reader"), stores[0]):
        assert_held(reader, everything)


def test_shards_are_fetched_once_however_many_look(machine: Machine, proxy: Any) -> None:
    there = machine("a")
    names = [write_rows(there, [f"text {i}"])[0] for i in range(10)]
    here = machine("b")
    texts = [f"text {i}" for i in range(10)]
    assert_held(here, texts)
    assert_held(here, texts)
    for name in names:
        assert proxy.count("GET", f"{name}.safetensors") == 1


def test_a_run_that_has_its_shards_here_needs_no_network(machine: Machine, proxy: Any) -> None:
    store = machine("a")
    [name] = write_rows(store, TEXTS)
    before = len(proxy.seen)
    assert_held(machine("a"), TEXTS, shards=[name])
    assert len(proxy.seen) == before


def test_runs_of_equal_paths_on_two_hosts_have_two_pins(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    holder = tmp_path / "small.json"
    for host in ("one", "two"):
        store = machine(host)
        names = write_rows(store, [host])
        holder.write_text(json.dumps({"space": store.space.id}))
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        store.refer(holder, names)
    machine("three")
    [summary] = VectorCache(url).spaces()
    assert summary.pinned
    assert len(os.listdir(VectorCache(url).folder / "v1" / store.space.id / "pins")) == 2
    assert summary.runs == (holder, holder)


def test_a_writer_acknowledges_a_shard_only_once_it_is_in_the_store(
    machine: Machine, proxy: Any, impatient: None, url: str, bucket: str, boto: Any
) -> None:
    store, keys = machine("a"), text_keys(TEXTS)
    writer = store.writer()
    writer.add(keys, vectors_of(keys), tokens_of(keys))
    proxy.fail("500", "PUT")
    with pytest.raises(StorageError, match=r"(?s)InternalError.*kept in .*goes on from there") as raised:
        writer.flush()
    assert raised.value.exit_code == 6
    assert writer.committed == []
    proxy.fail("500", "PUT", times=0)
    writer.flush()
    [name] = writer.committed
    assert shard_key(store, url, bucket, name) in objects(boto, bucket)


def test_workers_on_machines_that_share_only_the_store_compare_their_spaces(
    machine: Machine, url: str, boto: Any, bucket: str
) -> None:
    """Each machine has a mirror of its own and comes with a space of its own: exactly one may stay."""

    def agree(name: str) -> str:
        note = JobNote(VectorCache(url), {"job": 1})
        try:
            note.agree([make_space(max_length=10 + ord(name))])
        except FleetError as error:
            return str(error)
        return "agreed"

    machine("a")
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(agree, "abcd"))
    [refused, *_] = refusals = [outcome for outcome in outcomes if outcome != "agreed"]
    assert len(refusals) == 3
    [name] = [name for name in objects(boto, bucket) if "/jobs/" in name]
    assert f"delete s3://{bucket}/{name}" in refused
    machine("another")  # whose mirror is empty
    winner = make_space(max_length=10 + ord("abcd"[outcomes.index("agreed")]))
    note = JobNote(VectorCache(url), {"job": 1})
    assert note.difference([winner]) is None
    assert "max_length" in str(note.difference([make_space(max_length=3)]))
    boto.put_object(Bucket=bucket, Key=name, Body=b"{")
    note.agree([make_space(max_length=3)])  # what cannot be read is nobody's word
    note.conclude([make_space(max_length=3)])
    assert not [name for name in objects(boto, bucket) if "/jobs/" in name]


@pytest.mark.parametrize("place", ["memory://notes", "file://{}"])
def test_a_note_in_any_store_is_written_once(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setenv("FROZENHEAD_MIRROR_DIR", str(tmp_path / "mirror"))
    note = VectorCache(place.format(tmp_path / "store")).note("jobs", "one.json")
    assert note.read() is None
    assert note.create(b"first")
    assert not note.create(b"second")
    assert note.read() == b"first"
    note.replace(b"third")
    assert note.read() == b"third"
    note.remove()
    note.remove()
    assert note.read() is None


def test_a_note_that_the_store_does_not_give_is_no_missing_note(
    machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("a")
    cache = VectorCache(url)
    first, other = JobNote(cache, {"job": 1}), make_space(max_length=3)
    first.agree([make_space()])

    def refused(*parts: Any) -> bytes:
        raise StorageError("no")

    with monkeypatch.context() as patched:
        patched.setattr(Remote, "read", refused)
        with pytest.raises(StorageError):
            JobNote(cache, {"job": 1}).agree([other])
    with pytest.raises(FleetError):  # and the first note stands
        JobNote(cache, {"job": 1}).agree([other])
