"""`cache`: list, verify, prune, compact, export."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from frozenhead.cache import SpaceStore, VectorCache
from frozenhead.commands.caches import (
    PruneOptions,
    compact_spaces,
    export,
    list_spaces,
    one_space,
    prune,
    verify_shards,
)
from frozenhead.embedder.converted import ConvertedModel
from frozenhead.errors import CacheDamaged, StorageError, UsageError
from frozenhead.files import TEMPORARY_PREFIX, host_name
from frozenhead.runs import Run
from tests.cache.examples import DIM, flip_bit, make_space, raiser, shard_path, vectors_of, write_rows

EXPORTS = {"parquet": "out.parquet", "npy": "out.npy"}
LS_FACTS: dict[str, Any] = {"encoder": "small", "pooling": "pooler", "max_length": 16, "precision": "fp32", "dim": DIM}
LS_FACTS |= {"layer": -1, "prefix": "", "normalize": False, "long": "cut"}


@pytest.fixture
def store() -> SpaceStore:
    """Two shards that share a text."""
    store = VectorCache().space(make_space())
    store.writer(recorded={"name": "small"})
    write_rows(store, ["a", "b", "c"])
    write_rows(store, ["c", "d"])
    return store


def files_under(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and time."""
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_list_names_every_space_and_its_rows(run: Path) -> None:
    spaces = {s["pooling"]: s for s in list_spaces(None)["spaces"]}
    features = Run.open(run).features()
    assert {s["id"] for s in spaces.values()} == {f["space"] for f in features.values()}
    assert {s["rows"] for s in spaces.values()} == {features["tiny-bert.mean"]["distinct"]}
    assert spaces["mean"]["encoder"] == "tiny-bert"
    assert [s["runs"] for s in spaces.values()] == [[str(run)]] * 2


def test_the_list_tells_what_a_space_is_and_what_it_takes(store: SpaceStore) -> None:
    [space] = list_spaces(None)["spaces"]
    size = sum(path.stat().st_size for path in (store.folder / "shards").iterdir())
    assert {name: space[name] for name in LS_FACTS} == LS_FACTS
    assert (space["rows"], space["shards"], space["bytes"], space["quarantined"]) == (5, 2, size, 0)
    assert (space["pinned"], space["runs"]) == (False, [])
    assert time.time() - time.mktime(time.strptime(space["last_used"], "%Y-%m-%dT%H:%M:%S+00:00")) < 2 * 24 * 3600


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        assert list_spaces(folder)["spaces"] == []
        assert verify_shards(folder)["bad"] == []
        assert prune(folder, PruneOptions(), dry_run=False)["items"] == []
        assert compact_spaces(folder, spaces=(), dry_run=False)["spaces"] == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"space": {}}', b"\xff"])
def test_a_space_whose_description_is_lost_is_listed_and_never_guessed_at(
    store: SpaceStore, tmp_path: Path, content: bytes
) -> None:
    (store.folder / "space.json").write_bytes(content)
    [space] = list_spaces(None)["spaces"]
    assert (space["id"], space["encoder"], space["pooling"], space["rows"]) == (store.space.id, None, None, 5)
    assert verify_shards(None)["shards"] == 2
    result = compact_spaces(None, spaces=(), dry_run=False)
    assert (result["spaces"], result["skipped"]) == ([], [store.space.id])
    with pytest.raises(CacheDamaged, match="embed"):
        compact_spaces(None, spaces=(store.space.id,), dry_run=False)
    with pytest.raises(CacheDamaged, match="embed"):
        export(None, space=store.space.id, out=tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_a_damaged_shard_is_found_set_aside_and_pruned(run: Path) -> None:
    assert verify_shards(None)["bad"] == []
    shard = next((VectorCache().folder / "v1").glob("*/shards/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (bad,) = verify_shards(None)["bad"]
    assert bad["shard"] == shard.stem
    (item,) = prune(None, PruneOptions(), dry_run=True)["items"]
    assert Path(item["path"]).exists()
    prune(None, PruneOptions(), dry_run=False)
    assert not Path(item["path"]).exists()


def test_verify_hashes_every_byte_of_every_space_anew(store: SpaceStore) -> None:
    other = VectorCache().space(make_space(pooling="mean"))
    write_rows(other, ["x"])
    assert VectorCache().space(store.space).keys().shape == (4, 32)
    shards = [*(store.folder / "shards").iterdir(), *(other.folder / "shards").iterdir()]
    result = verify_shards(None)
    assert (result["shards"], result["bytes"]) == (3, sum(path.stat().st_size for path in shards))
    for path in shards:
        flip_bit(path, at=-1)
    assert {bad["shard"] for bad in verify_shards(None)["bad"]} == {path.stem for path in shards}
    assert verify_shards(None)["shards"] == 0


def test_a_space_is_pruned_only_by_name(store: SpaceStore) -> None:
    other = VectorCache().space(make_space(pooling="mean"))
    write_rows(other, ["x"])
    assert prune(None, PruneOptions(), dry_run=False)["items"] == []
    prune(None, PruneOptions(spaces=(store.space.id[:12],)), dry_run=False)
    assert [s["id"] for s in list_spaces(None)["spaces"]] == [other.space.id]
    with pytest.raises(UsageError, match="0 spaces"):
        prune(None, PruneOptions(spaces=(store.space.id,)), dry_run=False)


def test_where_one_name_is_wrong_no_space_is_pruned(store: SpaceStore) -> None:
    before = files_under(VectorCache().folder)
    with pytest.raises(UsageError, match="0 spaces"):
        prune(None, PruneOptions(spaces=(store.space.id, "zz")), dry_run=False)
    assert files_under(VectorCache().folder) == before


def test_a_space_is_pruned_by_age_when_it_is_that_old(store: SpaceStore) -> None:
    then = time.time() - 10 * 24 * 3600
    for path in (store.folder / "space.json", store.folder / "shards"):
        os.utime(path, (then, then))
    assert prune(None, PruneOptions(unused_days=10.01), dry_run=False)["items"] == []
    [item] = prune(None, PruneOptions(unused_days=9.99), dry_run=False)["items"]
    assert "not used since" in item["reason"]
    assert not store.folder.exists()


@pytest.mark.parametrize("days", [-1.0, float("nan"), float("-inf")])
def test_an_age_that_is_none_is_refused(days: float) -> None:
    with pytest.raises(UsageError, match="--unused"):
        PruneOptions(unused_days=days)


def test_what_is_named_goes_and_nothing_else_with_it(store: SpaceStore) -> None:
    quarantined = store.folder / "quarantine" / "x"
    quarantined.parent.mkdir()
    quarantined.write_bytes(b"bad")
    temporary = store.folder / "shards" / ".tmp-host-1-a"
    temporary.write_bytes(b"half")
    os.utime(temporary, (0, 0))

    def gone(**options: Any) -> set[str]:
        return {Path(i["path"]).name for i in prune(None, PruneOptions(**options), dry_run=True)["items"]}

    assert gone(temporary=True) == {temporary.name}
    assert gone(quarantine=True) == {"x"}
    assert gone() == {temporary.name, "x"}
    assert gone(unused_days=1.0) == set()
    assert gone(spaces=(store.space.id,)) == {store.space.id}


@pytest.fixture
def converted() -> ConvertedModel:
    """A converted encoder of 100 bytes and more, an unfinished one, and a link that nobody may follow."""
    cache = VectorCache().folder
    model = ConvertedModel(cache, {"what": "it was made of"})
    model.write(b"g" * 40, b"w" * 60)
    (cache / "models" / f"{TEMPORARY_PREFIX}{host_name()}-{ended_process()}-1").mkdir()
    elsewhere = cache.parent / "elsewhere"
    elsewhere.mkdir()
    (cache / "models" / ("f" * 64)).symlink_to(elsewhere)
    return model


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_converted_encoders_are_listed_and_go_only_when_named(store: SpaceStore, converted: ConvertedModel) -> None:
    models = list_spaces(None)["models"]
    assert models["count"] == 1
    assert models["bytes"] > 100
    assert [i["reason"] for i in prune(None, PruneOptions(), dry_run=False)["items"]] == [
        "unfinished folder of a stopped process"
    ]
    assert converted.read() is not None
    [item] = prune(None, PruneOptions(models=True), dry_run=False)["items"]
    assert (item["reason"], item["bytes"]) == ("converted encoder", models["bytes"])
    assert converted.read() is None
    assert (VectorCache().folder.parent / "elsewhere").is_dir()
    assert list_spaces(None)["spaces"][0]["rows"] == 5


def test_a_folder_of_models_that_is_a_link_is_left_alone(store: SpaceStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    (VectorCache().folder / "models").symlink_to(tmp_path / "elsewhere")
    assert list_spaces(None)["models"]["count"] == 0
    assert prune(None, PruneOptions(models=True), dry_run=False)["items"] == []


def test_a_dry_run_changes_nothing_at_all(store: SpaceStore) -> None:
    (store.folder / "quarantine").mkdir()
    (store.folder / "quarantine" / "x").write_bytes(b"bad")
    before = files_under(VectorCache().folder)
    everything = PruneOptions(spaces=(store.space.id,), unused_days=0.0, temporary=True, quarantine=True, pinned=True)
    for options in (PruneOptions(), everything):
        told = prune(None, options, dry_run=True)
        assert (bool(told["items"]), told["dry_run"]) == (True, True)
    [told] = compact_spaces(None, spaces=(), dry_run=True)["spaces"]
    assert (told["before"], told["after"], told["removed"]) == (2, 1, 2)
    assert files_under(VectorCache().folder) == before
    [done] = compact_spaces(None, spaces=(), dry_run=False)["spaces"]
    assert (done["before"], done["after"], done["removed"], done["written"]) == (2, 1, 2, 1)


def test_only_the_spaces_that_are_named_are_compacted(store: SpaceStore) -> None:
    other = VectorCache().space(make_space(pooling="mean"))
    write_rows(other, ["x"])
    write_rows(other, ["y"])
    [done] = compact_spaces(None, spaces=(other.space.id[:8],), dry_run=False)["spaces"]
    assert (done["space"], len(store.pin()), len(other.pin())) == (other.space.id, 2, 1)
    json.dumps(done)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_both_exports_hold_every_vector_once(tmp_path: Path, dtype: str) -> None:
    store = VectorCache().space(make_space(dtype=dtype))
    write_rows(store, ["a", "b", "c"])
    write_rows(store, ["c", "d"])
    out = {to: tmp_path / name for to, name in EXPORTS.items()}
    for path in out.values():
        result = export(None, space=store.space.id[:10], out=path)
        assert (result["rows"], result["dim"], result["out"]) == (4, DIM, str(path))
    keys, vectors = np.load(tmp_path / "out.keys.npy"), np.load(out["npy"])
    assert (vectors.shape, vectors.dtype, keys.dtype) == ((4, DIM), np.dtype(dtype), np.uint8)
    np.testing.assert_array_equal(vectors, vectors_of(keys, dtype))
    table = pq.read_table(out["parquet"])
    rows = {bytes.fromhex(row["key"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == 4
    for key, vector in zip(keys, vectors, strict=True):
        row = rows[key.tobytes()]
        np.testing.assert_array_equal(np.array(row["vector"], dtype), vector)
        assert row["tokens"] == key[31] + 1
    assert {p.name for p in tmp_path.iterdir()} >= {"out.parquet", "out.npy", "out.keys.npy"}
    assert not list(tmp_path.glob(".tmp-*"))


def test_an_export_of_a_run_is_what_the_run_looks_up(run: Path, tmp_path: Path) -> None:
    record = Run.open(run).features()["tiny-bert.mean"]
    result = export(None, space=record["space"], out=tmp_path / "vectors.npy")
    keys = np.load(tmp_path / "vectors.keys.npy")
    lookup = VectorCache().open_space(record["space"]).lookup(keys, shards=record["shards"])
    assert result["rows"] == record["distinct"]
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), lookup.vectors)


def test_a_space_without_a_vector_is_exported_as_such(tmp_path: Path) -> None:
    store = VectorCache().space(make_space())
    store.writer()
    for name in EXPORTS.values():
        assert export(None, space=store.space.id, out=tmp_path / name)["rows"] == 0
    assert np.load(tmp_path / "out.npy").shape == (0, DIM)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def lose_a_shard(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes a shard away when the export has just read which keys there are."""
    sound = SpaceStore.shard_keys

    def losing(self: SpaceStore, name: str, **options: Any) -> Any:
        keys = sound(self, name, **options)
        shard_path(store, name).unlink()
        return keys

    monkeypatch.setattr(SpaceStore, "shard_keys", losing)


def damage_a_shard(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_bit(shard_path(store, store.pin()[0]), at=-1)


def fill_the_disk(store: SpaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", raiser(OSError(28, "No space left on device")))


@pytest.mark.parametrize("trouble", [lose_a_shard, damage_a_shard, fill_the_disk])
@pytest.mark.parametrize("name", EXPORTS.values())
def test_an_export_that_is_not_whole_replaces_nothing(
    store: SpaceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trouble: Callable[..., None]
) -> None:
    old = {tmp_path / name: b"old", tmp_path / "out.keys.npy": b"old keys"}
    for path, content in old.items():
        path.write_bytes(content)
    trouble(store, monkeypatch)
    with pytest.raises(
        (CacheDamaged, StorageError), match=r"whose rows are needed|went while they were read|quota is full"
    ):
        export(None, space=store.space.id, out=tmp_path / name)
    assert {path: path.read_bytes() for path in old} == old
    assert len(list(tmp_path.iterdir())) == len(old)


def test_a_whole_export_replaces_the_file(store: SpaceStore, tmp_path: Path) -> None:
    for name in EXPORTS.values():
        (tmp_path / name).write_bytes(b"old")
        export(None, space=store.space.id, out=tmp_path / name)
        assert (tmp_path / name).read_bytes() != b"old"


@pytest.mark.parametrize(
    ("name", "to"), [("x.csv", None), ("x", None), ("x.npy", "parquet"), ("x.parquet", "npy"), ("x.NPY", "npy")]
)
def test_a_file_name_that_does_not_say_what_it_is_to_be_is_refused(
    store: SpaceStore, tmp_path: Path, name: str, to: Any
) -> None:
    with pytest.raises(UsageError, match=r"\.parquet or \.npy"):
        export(None, space=store.space.id, out=tmp_path / name, to=to)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("prefix", "told"), [("", "2 spaces"), ("a", "2 spaces"), ("abd", "0 spaces")])
def test_a_prefix_that_is_not_of_one_space_is_refused_with_what_there_is(prefix: str, told: str) -> None:
    with pytest.raises(UsageError, match=rf"{told}.*There are: abb, abc"):
        one_space(("abb", "abc"), prefix)


def test_a_prefix_of_one_space_names_it() -> None:
    assert one_space(("abb", "abc"), "abc") == "abc"
    with pytest.raises(UsageError, match="none"):
        one_space((), "a")
