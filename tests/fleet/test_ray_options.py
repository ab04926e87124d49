"""What can be said wrongly of Ray, and how many workers a cluster has room for. Nothing here needs Ray."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozenhead.corpus import CorpusOptions
from frozenhead.errors import DataError, FleetError, UsageError
from frozenhead.fleet import RayOptions
from frozenhead.fleet.ray_cluster import Crew, crew_of
from frozenhead.fleet.ray_engine import FEWEST_TEXTS, MOST_TEXTS, _blocks, format_of
from frozenhead.fleet.sources import local_copy
from tests.fleet.conftest import MakeOptions

RunEmbed = Callable[..., dict[str, Any]]


def test_without_ray_the_way_to_install_it_is_said(run_embed: RunEmbed, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    with pytest.raises(UsageError, match=r"pip install 'frozenhead\[ray\]'"):
        run_embed(engine="ray", device="auto")


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.example:1", "[::1]:6379"])
def test_an_address_is_auto_or_a_host_and_its_port(address: str) -> None:
    assert RayOptions(address=address).address == address


@pytest.mark.parametrize(
    "address", ["", "head", "head:", "head:port", "http://head:6379", "head:0", "head:65536", ":6379"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="auto, or HOST:PORT"):
        RayOptions(address=address)


def test_the_address_of_a_client_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="ray job submit"):
        RayOptions(address="ray://10.0.0.1:10001")


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"gpus_per_worker": -1.0}, {"cpus_per_worker": 0}, {"gpus_per_worker": float("nan")}]
)
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="it takes a number from"):
        RayOptions(**wrong)


def test_options_of_ray_need_the_engine_and_the_engine_chooses_devices(make_options: MakeOptions) -> None:
    with pytest.raises(UsageError, match="of --engine ray"):
        make_options(ray=RayOptions(workers=2))
    with pytest.raises(UsageError, match="choose local or ray"):
        make_options(engine="dask")
    for wrong in ({"worker": "0/2"}, {"device": "cpu,cpu"}, {"device": "cpu"}):
        with pytest.raises(UsageError, match="Engine ray chooses"):
            make_options(**{"device": "auto", **wrong}, engine="ray")
    assert make_options(engine="ray", device="auto").ray == RayOptions()
    assert make_options(ray=RayOptions()).ray is None


class Hosts:
    """A cluster, as Ray tells of it."""

    def __init__(self, *hosts: tuple[float, float], dead: tuple[float, float] = (64, 8)) -> None:
        self._nodes = [{"Alive": True, "Resources": self._resources(*host)} for host in hosts]
        self._nodes.append({"Alive": False, "Resources": self._resources(*dead)})

    @staticmethod
    def _resources(cpus: float, gpus: float) -> dict[str, float]:
        return {"CPU": cpus, **({"GPU": gpus} if gpus else {}), "memory": 1e9}

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes


@pytest.mark.parametrize(
    ("hosts", "options", "crew"),
    [
        ([(8, 0)], {}, (1, 1, 0, 8)),
        ([(8, 0)], {"workers": 2}, (2, 2, 0, 4)),
        ([(8, 0), (6, 0)], {}, (2, 2, 0, 6)),
        ([(8, 0), (6, 0)], {"workers": 4}, (4, 4, 0, 3)),
        ([(8, 4), (8, 2)], {}, (6, 6, 1, 1)),
        ([(8, 4)], {"gpus_per_worker": 0}, (1, 1, 0, 8)),
        ([(8, 4)], {"gpus_per_worker": 0.5}, (8, 8, 0.5, 1)),
        ([(8, 4)], {"gpus_per_worker": 2, "cpus_per_worker": 2}, (2, 2, 2, 2)),
        ([(2, 0)], {"workers": 5, "cpus_per_worker": 1}, (2, 5, 0, 1)),
        ([(2, 0), (8, 1)], {"workers": 3}, (1, 3, 1, 1)),
    ],
)
def test_workers_are_those_that_the_hosts_have_room_for(
    hosts: list[tuple[float, float]], options: dict[str, Any], crew: tuple[int, int, float, int]
) -> None:
    now, asked, gpus, cpus = crew
    assert crew_of(Hosts(*hosts), RayOptions(**options)) == Crew(now=now, asked=asked, gpus=gpus, cpus=cpus)


def test_a_cluster_without_room_for_one_worker_is_refused() -> None:
    with pytest.raises(FleetError, match="the largest has 8 and 0"):
        crew_of(Hosts((8, 0)), RayOptions(gpus_per_worker=1))
    with pytest.raises(FleetError, match="no host with CPUs"):
        crew_of(Hosts(), RayOptions())


@pytest.mark.parametrize("missing", [1, 100, 5000, 10**6, 10**8])
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_blocks_are_neither_too_large_nor_too_small(missing: int, workers: int) -> None:
    blocks = _blocks(missing, Crew(now=workers, asked=workers, gpus=0, cpus=1))
    assert blocks >= 1
    assert missing / blocks <= max(MOST_TEXTS, missing / workers)
    assert missing / blocks <= MOST_TEXTS
    assert blocks == 1 or missing / (blocks - 1) >= FEWEST_TEXTS


def test_the_format_of_a_source_is_told_by_its_names(tmp_path: Path) -> None:
    plain = CorpusOptions()
    for name, kind in [("a.csv", "csv"), ("a.tsv.gz", "tsv"), ("a.ndjson", "jsonl"), ("s3://b/c/d.parquet", "parquet")]:
        assert format_of(name, plain) == kind
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("1.jsonl", "2.jsonl.gz", "_SUCCESS", ".hidden.csv"):
        (folder / name).touch()
    assert format_of(str(folder), plain) == "jsonl"
    assert format_of(str(tmp_path / "texts"), CorpusOptions(format="tsv")) == "tsv"
    (folder / "3.csv").touch()
    for source in (str(folder), "texts", "s3://bucket/folder"):
        with pytest.raises(UsageError, match="--format"):
            format_of(source, plain)


def test_a_path_is_its_own_copy_and_a_url_is_copied_with_all_that_is_below_it(tmp_path: Path) -> None:
    inner = tmp_path / "data" / "part"
    inner.mkdir(parents=True)
    (inner / "a.csv").write_text("text\nthe cat\n")
    with local_copy(str(tmp_path)) as same:
        assert same == str(tmp_path)
    with local_copy((tmp_path / "data").as_uri()) as copy:
        assert (Path(copy) / "part" / "a.csv").read_text() == "text\nthe cat\n"
        assert Path(copy).name == "data"
    assert not Path(copy).exists()
    with local_copy((inner / "a.csv").as_uri()) as copy:
        assert Path(copy).name == "a.csv"
        assert Path(copy).read_text() == "text\nthe cat\n"


@pytest.mark.parametrize("url", ["file:///nowhere/texts.csv", "nonsense://bucket/texts.csv"])
def test_a_url_that_leads_nowhere_is_bad_data(url: str, run_embed: RunEmbed) -> None:
    with pytest.raises(DataError, match=url):
        run_embed(data=url)


def test_the_run_of_a_url_names_the_url(run_embed: RunEmbed, table: Path, tmp_path: Path) -> None:
    by_url = run_embed(data=table.as_uri())
    by_path = run_embed(out=tmp_path / "other")
    assert [source["path"] for source in by_url["sources"]] == [table.as_uri()]
    assert by_url["sources"][0]["sha256"] == by_path["sources"][0]["sha256"]
    assert by_path["computed"] == 0


@pytest.mark.parametrize("given", [{"data": "-"}, {"corpus": {"val": "-"}}])
def test_standard_input_is_refused_before_it_is_read(make_options: Callable[..., Any], given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not standard input"):
        make_options(engine="ray", device="auto", **given)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "ray://head:10001", "somewhere"])
def test_what_the_environment_names_is_checked_as_the_option_is(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UsageError, match="RAY_ADDRESS"):
        _ = RayOptions().cluster
    assert RayOptions(address="auto").cluster == "auto"
