"""`cache`: list, verify, prune, export."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from frozenhead.cache import VectorCache
from frozenhead.commands.caches import export, list_spaces, prune, verify_shards
from frozenhead.errors import UsageError
from frozenhead.runs import Run


def test_the_list_names_every_space_and_its_rows(run: Path) -> None:
    spaces = {s["pooling"]: s for s in list_spaces(None)["spaces"]}
    features = Run.open(run).features()
    assert {s["id"] for s in spaces.values()} == {f["space"] for f in features.values()}
    assert {s["rows"] for s in spaces.values()} == {features["tiny-bert.mean"]["distinct"]}
    assert spaces["mean"]["encoder"] == "tiny-bert"


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    assert list_spaces(tmp_path / "none")["spaces"] == []
    assert verify_shards(tmp_path / "none")["bad"] == []
    assert prune(tmp_path / "none", spaces=(), dry_run=False)["items"] == []


def test_a_damaged_shard_is_found_set_aside_and_pruned(run: Path) -> None:
    assert verify_shards(None)["bad"] == []
    shard = next((VectorCache().folder / "v1").glob("*/shards/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (bad,) = verify_shards(None)["bad"]
    assert bad["shard"] == shard.stem
    (item,) = prune(None, spaces=(), dry_run=True)["items"]
    assert Path(item["path"]).exists()
    prune(None, spaces=(), dry_run=False)
    assert not Path(item["path"]).exists()


def test_a_space_is_pruned_only_by_name(run: Path) -> None:
    ids = [s["id"] for s in list_spaces(None)["spaces"]]
    assert prune(None, spaces=(), dry_run=False)["items"] == []
    prune(None, spaces=(ids[0][:12],), dry_run=False)
    assert [s["id"] for s in list_spaces(None)["spaces"]] == ids[1:]
    with pytest.raises(UsageError, match="0 spaces"):
        prune(None, spaces=(ids[0],), dry_run=False)


def test_an_export_holds_every_vector_once(run: Path, tmp_path: Path) -> None:
    record = Run.open(run).features()["tiny-bert.mean"]
    out = tmp_path / "vectors.parquet"
    result = export(None, space=record["space"][:10], out=out)
    table = pq.read_table(out)
    assert result["rows"] == table.num_rows == record["distinct"]
    keys = np.array([list(bytes.fromhex(key)) for key in table["key"].to_pylist()], np.uint8)
    lookup = VectorCache().open_space(record["space"]).lookup(keys)
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), lookup.vectors)
    np.testing.assert_array_equal(table["tokens"].to_numpy(), lookup.tokens)


def test_wrong_names_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet"):
        export(None, space="0", out=tmp_path / "x.csv")
    with pytest.raises(UsageError, match="spaces start with"):
        export(None, space="zz", out=tmp_path / "x.parquet")
