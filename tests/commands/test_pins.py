"""What a run refers to is not taken from it unasked, and when it is merged into other files nothing changes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from frozenhead.cache import VectorCache
from frozenhead.commands.caches import PruneOptions, compact_spaces, list_spaces, prune
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.predict import PredictOptions
from frozenhead.commands.verify import VerifyOptions, verify
from frozenhead.errors import CacheDamaged, UsageError
from frozenhead.runs import Run
from tests.commands.conftest import make_table
from tests.commands.fits import predicted

FEATURE = "tiny-bert.pooler"

Embed = Callable[..., Path]


@pytest.fixture
def embed(make_run: Callable[..., dict[str, Any]], tmp_path: Path) -> Embed:
    """`embed(1)`: another corpus, some of whose texts the others have as well, into the run `run-1`."""

    def embed(seed: int, *, out: str | None = None) -> Path:
        data = tmp_path / f"texts-{seed}.csv"
        make_table(30, seed=seed).to_csv(data, index=False)
        return Path(make_run(data=str(data), out=tmp_path / (out or f"run-{seed}"))["run"])

    return embed


def shards(run: Path) -> list[str]:
    return list(Run.open(run).features()[FEATURE]["shards"])


def space_of(run: Path) -> str:
    return str(Run.open(run).features()[FEATURE]["space"])


def train(run: Path) -> dict[str, bytes]:
    """What `fit` writes, but for times."""
    fit(FitOptions(run=run, heads=("dense", "logreg"), sets=("dense.epochs=3",)))
    names = ("weights.safetensors", "predictions.parquet")
    folder = run / "heads" / FEATURE
    return {str(p.relative_to(folder)): p.read_bytes() for name in names for p in sorted(folder.glob(f"*/{name}"))}


def merge() -> dict[str, Any]:
    [done] = compact_spaces(None, spaces=(), dry_run=False)["spaces"]
    return dict(done)


def test_a_run_is_the_same_bit_for_bit_after_its_shards_were_merged(embed: Embed, tmp_path: Path) -> None:
    runs = [embed(seed) for seed in range(4)]
    before = {run: train(run) for run in runs}
    assert max(len(shards(run)) for run in runs) > 1
    done = merge()
    assert (done["before"], done["after"], done["kept"]) == (4, 1, 0)
    [new] = VectorCache().open_space(space_of(runs[0])).pin()
    for run in runs:
        assert shards(run) == [new]
        assert len(before[run]) == 4
        assert train(run) == before[run]
    pd.DataFrame({"text": ["win a prize", "the cat"]}).to_csv(tmp_path / "new.csv", index=False)
    assert predicted(PredictOptions(run=runs[1], data=str(tmp_path / "new.csv"), device="cpu"))[0]["rows"] == 2
    assert verify(VerifyOptions(run=runs[2], sample=10, steps=3, device="cpu"))["passed"]


def test_a_run_that_is_embedded_again_after_compaction_computes_nothing(
    make_run: Callable[..., dict[str, Any]], embed: Embed, tmp_path: Path
) -> None:
    run = embed(0)
    embed(1)
    merge()
    again = make_run(data=str(tmp_path / "texts-0.csv"), out=run)
    assert again["computed"] == 0
    assert len(shards(run)) == 1


def test_a_run_with_a_damaged_feature_set_beside_is_changed_all_the_same(embed: Embed) -> None:
    run, _ = embed(0), embed(1)
    (run / "features" / "other.json").write_text("{")
    assert merge()["after"] == 1
    (run / "features" / "other.json").unlink()
    train(run)


def test_a_run_that_cannot_be_opened_keeps_its_shards(embed: Embed) -> None:
    run, _ = embed(0), embed(1)
    (run / "run.json").rename(run / "aside.json")
    mine = set((VectorCache().folder / "v1" / Run.open(embed(1)).features()[FEATURE]["space"] / "shards").iterdir())
    assert merge()["kept"] >= 1
    (run / "aside.json").rename(run / "run.json")
    assert mine >= {VectorCache().open_space(space_of(run)).shard(name) for name in shards(run)}
    train(run)


def test_a_space_that_a_run_uses_is_not_pruned_without_being_told_so(embed: Embed) -> None:
    run = embed(0)
    space = space_of(run)
    with pytest.raises(UsageError, match=rf"{space[:12]} is used by {run}.*--pinned"):
        prune(None, PruneOptions(spaces=(space,)), dry_run=False)
    old = prune(None, PruneOptions(unused_days=0.0), dry_run=False)
    assert (old["items"], old["kept"]) == ([], [{"space": space, "used_by": str(run)}])
    train(run)


def test_a_space_that_was_pruned_under_a_run_is_computed_anew_by_embed(embed: Embed) -> None:
    run = embed(0)
    before = train(run)
    prune(None, PruneOptions(spaces=(space_of(run),), pinned=True), dry_run=False)
    assert list_spaces(None)["spaces"] == []
    with pytest.raises(CacheDamaged, match="frozenhead embed"):
        train(run)
    embed(0)
    assert train(run) == before


@pytest.mark.parametrize("away", ["moved", "deleted", "its features deleted", "made into a file"])
def test_a_run_that_is_gone_holds_a_space_no_more(embed: Embed, away: str, tmp_path: Path) -> None:
    run = embed(0)
    space = space_of(run)
    if away == "moved":
        run.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(run / "features" if away == "its features deleted" else run)
    if away == "made into a file":
        run.write_text("a file")
    [item] = prune(None, PruneOptions(), dry_run=False)["items"]
    assert item["reason"] == "pin of a run that is gone"
    assert prune(None, PruneOptions(), dry_run=False)["items"] == []
    prune(None, PruneOptions(spaces=(space,)), dry_run=False)
    assert list_spaces(None)["spaces"] == []


def test_a_run_that_was_moved_is_known_again_when_it_is_used(embed: Embed, tmp_path: Path) -> None:
    moved = embed(0).rename(tmp_path / "elsewhere")
    space = space_of(moved)
    train(moved)
    [reason] = {item["reason"] for item in prune(None, PruneOptions(), dry_run=False)["items"]}
    assert reason == "pin of a run that is gone"
    with pytest.raises(UsageError, match=f"used by {moved}"):
        prune(None, PruneOptions(spaces=(space,)), dry_run=False)
    embed(1)
    merge()
    train(moved)


def test_a_copy_of_a_run_that_was_never_used_does_not_survive_unnoticed(embed: Embed, tmp_path: Path) -> None:
    """Nobody told the cache of the copy: after a compaction it says what to do, and is right again afterwards."""
    run, _ = embed(0), embed(1)
    copy = shutil.copytree(run, tmp_path / "copy")
    before = train(run)
    merge()
    with pytest.raises(CacheDamaged, match="frozenhead embed"):
        train(copy)
    embed(0, out="copy")
    assert train(copy) == before


def test_a_damaged_pin_holds_the_space_and_the_next_use_of_the_run_mends_it(embed: Embed) -> None:
    run = embed(0)
    space = space_of(run)
    [pin] = (VectorCache().folder / "v1" / space / "pins").iterdir()
    pin.write_bytes(b"{")
    with pytest.raises(UsageError, match="a run whose pin is damaged"):
        prune(None, PruneOptions(spaces=(space,)), dry_run=False)
    train(run)
    assert json.loads(pin.read_bytes())["shards"] == shards(run)


def test_a_run_is_named_once_and_of_many_three(embed: Embed) -> None:
    runs = [embed(seed) for seed in range(5)]
    with pytest.raises(UsageError) as error:
        prune(None, PruneOptions(spaces=(space_of(runs[0]),)), dry_run=False)
    assert f"{runs[0]}, {runs[1]}, {runs[2]} and 2 more." in str(error.value)
    assert list_spaces(None)["spaces"][0]["runs"] == [str(run) for run in runs]


def test_a_run_made_while_its_shards_are_merged_goes_by_the_new_ones(
    embed: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the lookup that finds the vectors and the writing of the run."""
    shutil.rmtree(embed(0))
    shutil.rmtree(embed(1))
    sound = Run.write_feature
    merged: list[dict[str, Any]] = []

    def merging(self: Run, name: str, record: dict[str, Any]) -> None:
        if not merged:
            merged.append(merge())
        sound(self, name, record)

    monkeypatch.setattr(Run, "write_feature", merging)
    run = embed(0)
    assert (merged[0]["before"], merged[0]["after"]) == (2, 1)
    assert shards(run) == list(VectorCache().open_space(space_of(run)).pin())
    assert len(train(run)) == 4
    assert [str(run)] == [r for s in list_spaces(None)["spaces"] for r in s["runs"]]


def test_a_fit_goes_on_when_the_shards_of_its_run_are_merged_meanwhile(
    embed: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = embed(0)
    embed(1)
    sound = Run.features

    def merging(self: Run, **options: Any) -> dict[str, dict[str, Any]]:
        records = sound(self, **options)
        monkeypatch.setattr(Run, "features", sound)
        assert merge()["after"] == 1
        return records

    monkeypatch.setattr(Run, "features", merging)
    assert len(train(run)) == 4


def test_compacting_a_copy_of_a_cache_leaves_the_runs_of_the_original_alone(embed: Embed, tmp_path: Path) -> None:
    runs = [embed(0), embed(1)]
    before = [shards(run) for run in runs]
    shutil.copytree(VectorCache().folder, tmp_path / "copy")
    [done] = compact_spaces(tmp_path / "copy", spaces=(), dry_run=False)["spaces"]
    assert [shards(run) for run in runs] == before
    assert done["after"] == done["before"]
    assert len(train(runs[0])) == 4


def test_compacting_a_cache_that_was_moved_takes_its_runs_along(embed: Embed, tmp_path: Path) -> None:
    run, _ = embed(0), embed(1)
    VectorCache().folder.rename(tmp_path / "moved")
    [done] = compact_spaces(tmp_path / "moved", spaces=(), dry_run=False)["spaces"]
    assert done["after"] == 1
    assert shards(run) == list(VectorCache(tmp_path / "moved").open_space(space_of(run)).pin())
