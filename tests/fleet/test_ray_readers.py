"""Ray's readers give the very texts that ours give, and the engine refuses what a worker must not do."""

import contextlib
import dataclasses
import gzip
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from frozenhead.cache import VectorCache
from frozenhead.corpus import CorpusOptions
from frozenhead.embedder import EmbedSettings, Listener, decide, find_checkpoint
from frozenhead.errors import FleetError
from frozenhead.fleet import RayOptions, RayWork, embed_with_ray, ray_engine
from frozenhead.fleet.ray_cluster import connected
from frozenhead.fleet.station import Orders
from tests.fleet.conftest import cached_vectors

pytest.importorskip("ray", reason="Ray is not installed: pip install 'frozenhead[ray]'")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

# What a reader that infers types, or nulls, or one line a row, would change.
TRICKY = [
    "007", "1e3", "1.50", "NA", "null", "None", "true", "2024-01-01", " spaces ", 'a "quoted" word', "comma, here",
    "line\nbreak", "ünï çödé", "日本", "😀", "tab\there", "{\"json\": 1}", "the cat", "the cat",
]  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this host, started once for all tests of the module."""
    with connected(RayOptions(workers=2, gpus_per_worker=0)) as ray:
        yield ray


@pytest.fixture
def fill(
    cluster: Any, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[RayWork, VectorCache]]:
    """`embed_with_ray` of some sources in that cluster, into a new cache."""

    def run(
        *sources: Path | str, prefix: str | None = None, missing: int = 1000, **corpus: Any
    ) -> tuple[RayWork, VectorCache]:
        monkeypatch.setattr(ray_engine, "connected", lambda *given: contextlib.nullcontext(cluster))
        cache = VectorCache(tmp_path / "cache")
        checkpoint = find_checkpoint(str(tiny_folder))
        settings = decide(EmbedSettings(precision="fp32", backend="torch", prefix=prefix), checkpoint)
        work = embed_with_ray(
            checkpoint, [str(source) for source in sources], column="text", corpus=CorpusOptions(**corpus),
            settings=settings, cache=cache, missing=missing, options=RayOptions(workers=2, cpus_per_worker=1),
            listener=Listener(),
        )  # fmt: skip
        return work, cache

    return run


Fill = Callable[..., tuple[RayWork, VectorCache]]


def write(path: Path, texts: list[str]) -> Path:
    """A table in the format of its name, with a column before the texts and one after."""
    frame = pd.DataFrame({"id": range(len(texts)), "text": texts, "label": ["x"] * len(texts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz"])
def test_the_texts_are_those_of_a_single_process_to_the_letter(fill: Fill, tmp_path: Path, name: str) -> None:
    work, cache = fill(write(tmp_path / name, TRICKY))
    assert not work.errors
    assert set(cached_vectors(cache.folder, {*TRICKY})) == {*TRICKY}
    assert work.computed == len({*TRICKY})


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_of_files_and_its_url_are_read_whole_and_copies_across_files_once(
    fill: Fill, tmp_path: Path, kind: str
) -> None:
    for i in range(3):
        write(tmp_path / "folder" / f"{i}.{kind}", [*TRICKY, f"only in {i}"])
    texts = {*TRICKY, "only in 0", "only in 1", "only in 2"}
    work, cache = fill(tmp_path / "folder")
    assert not work.errors
    assert set(cached_vectors(cache.folder, texts)) == texts
    assert work.computed == len(texts)
    again, _ = fill((tmp_path / "folder").as_uri(), format=kind)
    assert (again.computed, again.errors) == (0, [])


def test_several_sources_a_prefix_an_encoding_and_a_delimiter(fill: Fill, tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("text;label\nd\u00e9j\u00e0 vu;a\nthe cat;b\n", encoding="latin-1")
    two.write_text("label;text\na;the dog\nb;the cat\n", encoding="latin-1")
    work, cache = fill(one, two, prefix="query: ", encoding="latin-1", delimiter=";")
    texts = {f"query: {text}" for text in ("d\u00e9j\u00e0 vu", "the cat", "the dog")}
    assert work.computed == 3
    assert set(cached_vectors(cache.folder, texts)) == texts


def test_a_byte_order_mark_is_no_part_of_the_first_name(fill: Fill, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufefftext\nthe cat\n", encoding="utf-8")
    assert fill(path)[0].computed == 1


def test_a_file_that_cannot_be_read_is_told_of_and_the_others_are_kept(fill: Fill, tmp_path: Path) -> None:
    write(tmp_path / "folder" / "0.csv", ["the cat"])
    (tmp_path / "folder" / "1.csv").write_text("other\nthe dog\n")
    work, cache = fill(tmp_path / "folder")
    assert work.errors
    assert set(cached_vectors(cache.folder, {"the cat", "the dog"})) == {"the cat"}


def test_a_worker_that_does_not_see_the_probe_is_refused(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a path leads to another disk on another host: what the driver wrote is not there."""
    monkeypatch.setattr(
        ray_engine, "probe_file", lambda cache: contextlib.nullcontext(("v1/.tmp-elsewhere-1-0123456789abcdef", "00"))
    )
    with pytest.raises(FleetError, match="does not share the cache") as refused:
        fill(write(tmp_path / "a.csv", TRICKY))
    assert refused.value.exit_code == 4
    assert not list((tmp_path / "cache").glob("v1/*/shards"))


def test_a_worker_with_another_version_is_refused_and_both_ids_are_shown(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Orders.of

    def newer(*given: Any, **named: Any) -> Orders:
        orders = of(*given, **named)
        return dataclasses.replace(orders, spaces=tuple({**s, "numbers_format": 2} for s in orders.spaces))

    monkeypatch.setattr(Orders, "of", newer)
    with pytest.raises(FleetError, match=r"has space [0-9a-f]{64}, the driver on \S+ has [0-9a-f]{64}"):
        fill(write(tmp_path / "a.csv", TRICKY))
    assert not list((tmp_path / "cache").glob("v1/*/shards"))


@pytest.mark.parametrize("missing", [1, 1000])  # one block for two workers, or several
def test_nothing_of_ray_is_said_on_the_terminal(
    fill: Fill, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, missing: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fill(write(tmp_path / "a.csv", TRICKY), missing=missing)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""


def test_a_compressed_file_is_what_it_was(tmp_path: Path) -> None:
    """The helper above writes what it says."""
    path = write(tmp_path / "a.csv.gz", ["the cat"])
    assert gzip.decompress(path.read_bytes()).startswith(b"id,text,label")
