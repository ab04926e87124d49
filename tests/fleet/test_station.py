"""A worker under orders: it proves that it shares the cache and the spaces before it computes."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from frozenhead.cache import VectorCache, text_keys
from frozenhead.embedder import Checkpoint, EmbedSettings, decide, find_checkpoint, space_of
from frozenhead.embedder.encoder import Encoder
from frozenhead.errors import FleetError
from frozenhead.fleet.cores import take_slot, usable_cores
from frozenhead.fleet.ray_actor import OWNER, TEXT, EmbedActor, owned_texts
from frozenhead.fleet.station import Orders, Station, probe_file
from frozenhead.texts import Texts
from tests.fleet.conftest import cached_vectors

TEXTS = ["the cat", "the dog", "on the mat"]


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "cache")


@pytest.fixture
def orders(tiny_folder: Path, cache: VectorCache) -> Orders:
    """What a driver sends, after a passage through JSON."""
    checkpoint = find_checkpoint(str(tiny_folder))
    settings = decide(EmbedSettings(poolings=("mean", "pooler"), precision="fp32", backend="torch"), checkpoint)
    plain = dataclasses.asdict(Orders.of(checkpoint, settings, cache))
    return Orders.from_dict(json.loads(json.dumps(plain)))


def test_a_station_embeds_into_the_spaces_of_its_driver(orders: Orders, cache: VectorCache) -> None:
    embedded = Station(orders).embed(TEXTS)
    assert embedded.computed == 3
    assert sorted(summary.id for summary in cache.spaces()) == sorted(
        store.space.id for store in embedded.stores.values()
    )
    assert [store.space.to_dict() for store in embedded.stores.values()] == list(orders.spaces)


def test_a_station_loads_its_encoder_once(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Checkpoint] = []

    def load(checkpoint: Checkpoint, settings: EmbedSettings, *, cache_folder: Path) -> Encoder:
        loaded.append(checkpoint)
        return Encoder(checkpoint, settings, cache_folder=cache_folder)

    monkeypatch.setattr("frozenhead.fleet.station.Encoder", load)
    station = Station(orders)
    assert not loaded
    for text in TEXTS:
        station.embed([text])
    station.embed(TEXTS)
    assert len(loaded) == 1


def test_a_station_with_another_checkpoint_refuses_and_shows_both_ids(
    orders: Orders, make_checkpoint: Callable[..., Path], tmp_path: Path, cache: VectorCache
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    settings = EmbedSettings(**{**orders.settings, "poolings": ("mean",)})
    mine = space_of(find_checkpoint(str(other)), "mean", settings).id
    theirs = space_of(find_checkpoint(orders.model), "mean", settings).id
    with pytest.raises(FleetError) as refused:
        Station(dataclasses.replace(orders, model=str(other)))
    assert f"has space {mine}" in str(refused.value)
    assert f"the driver on {orders.driver} has {theirs}" in str(refused.value)
    assert "other checkpoint files" in str(refused.value)
    assert not cache.folder.exists()


def test_a_station_of_another_version_refuses_fields_that_it_does_not_know(orders: Orders) -> None:
    newer = tuple({**fields, "invented": 1} for fields in orders.spaces)
    with pytest.raises(FleetError, match="as another version of frozenhead has them"):
        Station(dataclasses.replace(orders, spaces=newer))
    raised = tuple({**fields, "numbers_format": 2} for fields in orders.spaces)
    with pytest.raises(FleetError, match="numbers_format 1 instead of 2"):
        Station(dataclasses.replace(orders, spaces=raised))


def test_a_station_that_sees_the_probe_works_and_the_probe_is_gone_afterwards(
    orders: Orders, cache: VectorCache
) -> None:
    with probe_file(cache) as probe:
        assert probe is not None
        assert Station(dataclasses.replace(orders, probe=probe)).embed(TEXTS).computed == 3
        assert (cache.folder / probe[0]).is_file()
    assert not (cache.folder / probe[0]).exists()


def test_a_station_on_another_disk_refuses(orders: Orders, cache: VectorCache, tmp_path: Path) -> None:
    """The path is there, and even a file of that name; but it is not what the driver wrote."""
    with probe_file(cache) as probe:
        assert probe is not None
        for content in (None, b"", b"something else"):
            elsewhere = tmp_path / "elsewhere" / probe[0]
            if content is not None:
                elsewhere.parent.mkdir(parents=True, exist_ok=True)
                elsewhere.write_bytes(content)
            away = dataclasses.replace(orders, cache=str(tmp_path / "elsewhere"), probe=probe)
            with pytest.raises(FleetError, match=r"does not share the cache(.|\n)*object store"):
                Station(away)
    assert not list((tmp_path / "elsewhere").glob("v1/*/shards"))


def test_an_object_store_needs_no_probe(tmp_path: Path) -> None:
    """Its URL leads to it from everywhere; the mirror of one machine is never another's."""
    pytest.importorskip("fsspec")
    store = VectorCache(f"file://{tmp_path / 'store'}")
    with probe_file(store) as probe:
        assert probe is None
    assert store.location.startswith("file://")


def test_a_probe_of_a_dead_driver_is_pruned(cache: VectorCache) -> None:
    with probe_file(cache) as named:
        assert named is not None
        probe = cache.folder / named[0]
        left = probe.with_name(probe.name.replace(f"-{os.getpid()}-", "-999999999-"))
        left.write_bytes(b"left")
        cache.prune()
        assert probe.exists()
        assert not left.exists()


def test_an_actor_gives_back_counts_and_never_raises(orders: Orders, cache: VectorCache) -> None:
    import pyarrow as pa

    fields = dataclasses.asdict(orders)
    block = pa.table({TEXT: pa.array(TEXTS, pa.large_string()), OWNER: [1, 2, 3]})
    actor = EmbedActor(fields, 0)
    counts = [{name: value[0] for name, value in actor(b).items()} for b in (block, block, block.slice(0, 0))]
    assert [one["computed"] for one in counts] == [3, 0, 0]
    assert not any(one["error"] or one["refusal"] for one in counts)
    assert counts[0]["worker"].endswith(f":{os.getpid()}")
    refused = EmbedActor({**fields, "spaces": fields["spaces"][::-1]}, 0)(block)
    assert "the driver on" in refused["refusal"][0]
    assert refused["computed"] == [0]


def test_what_befalls_a_block_is_told_of(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    def fail(self: Station, texts: object) -> None:
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr(Station, "embed", fail)
    counts = EmbedActor(dataclasses.asdict(orders), 0)(pa.table({TEXT: TEXTS}))
    assert counts["error"][0] == "ZeroDivisionError: no such luck"


@pytest.mark.parametrize("prefix", ["", "query: "])
def test_rows_become_distinct_texts_and_equal_keys_have_one_owner(prefix: str) -> None:
    import pyarrow as pa

    texts = [*TEXTS, "the cat", "007"]
    for column in (pa.array(texts), pa.array(texts).dictionary_encode(), pa.array(texts, pa.large_string())):
        owned = owned_texts(pa.table({"words": column, "other": [1] * 5}), column="words", prefix=prefix)
        assert list(Texts(owned.column(TEXT))) == [*TEXTS, "007"]
        keys = text_keys([*TEXTS, "007"], prefix=prefix)
        assert owned.column(OWNER).to_pylist() == [int.from_bytes(key[:8].tobytes(), "big") % 2**62 for key in keys]


def test_numbers_of_a_column_that_was_stored_as_such_are_read_as_our_reader_reads_them() -> None:
    import pyarrow as pa

    owned = owned_texts(pa.table({"text": [7, 7, 2**60]}), column="text", prefix="")
    assert list(Texts(owned.column(TEXT))) == ["7", str(2**60)]


def test_workers_of_a_host_take_cores_that_nobody_else_has(tmp_path: Path) -> None:
    """In processes of their own: a slot is held until its process ends."""
    import subprocess
    import sys

    if not hasattr(os, "sched_setaffinity") or len(usable_cores()) < 2:
        pytest.skip("needs Linux and two cores")
    half = len(usable_cores()) // 2
    code = (
        "import os, sys; from frozenhead.fleet.cores import take_slot\n"
        f"print(take_slot({half}, kind={tmp_path.name!r}) is not None, end=' ')\n"
        "print(sorted(os.sched_getaffinity(0)), flush=True); sys.stdin.read()"
    )

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start() as one, start() as two:
        assert one.stdout is not None
        assert two.stdout is not None
        said = [one.stdout.readline(), two.stdout.readline()]
        assert all(line.startswith("True") for line in said), said
        assert said[0] != said[1]
        with start() as late:
            assert late.communicate("")[0].startswith("False") or len(usable_cores()) % 2
        one.communicate("")
        with start() as heir:
            assert heir.communicate("")[0] == said[0]
        two.communicate("")


def test_one_worker_of_a_host_keeps_all_cores() -> None:
    before = usable_cores()
    assert take_slot(len(before)) is None
    assert usable_cores() == before


def test_what_a_station_computed_is_found_by_the_ordinary_way(orders: Orders, tmp_path: Path) -> None:
    mean = dataclasses.replace(orders, settings={**orders.settings, "poolings": ["mean"]}, spaces=orders.spaces[:1])
    Station(mean).embed(TEXTS)
    assert set(cached_vectors(tmp_path / "cache", set(TEXTS))) == set(TEXTS)
