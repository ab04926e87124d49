"""`fit` on vectors beyond memory: gathered once in row order, made anew when stale or damaged, the same heads."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frozenhead.cache import SpaceStore
from frozenhead.commands import gathering
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.gathering import FeatureRows
from frozenhead.commands.memory import SETTING, machine_memory
from frozenhead.commands.tables import corpus_rows
from frozenhead.commands.voice import Advance, Silence
from frozenhead.errors import CacheDamaged, StorageError, UsageError
from frozenhead.heads import StoredRows, load_head
from frozenhead.runs import Run
from tests.commands.fits import FEATURE, change_corpus, fit_small, folder_of, read, vectors_of

LITTLE = 1e-5
"""GiB, 10 kB: less than four times the vectors of the test's run."""


@pytest.fixture
def beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that the vectors exceed."""
    monkeypatch.setenv(SETTING, str(LITTLE))


class Heard(Silence):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[tuple[str, int, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def bar(self, title: str, *, unit: str) -> Iterator[Advance]:
        yield lambda done, total: self.bars.append((title, done, total))


def feature_rows(run: Path, voice: Any = None, name: str = FEATURE) -> FeatureRows:
    opened = Run.open(run)
    record, n = opened.features()[name], len(corpus_rows(opened))
    return FeatureRows(opened, record, name=name, rows=n, cache_dir=None, voice=voice or Silence())


def gathered(run: Path) -> list[Path]:
    return sorted((run / "features").glob("*.npy"))


def arrays(run: Path, head: str) -> dict[str, NDArray[Any]]:
    return load_head(folder_of(run, head)).arrays()


# The file


def test_vectors_in_memory_make_no_file(run: Path) -> None:
    assert isinstance(feature_rows(run).vectors(), np.ndarray)
    assert gathered(run) == []


@pytest.mark.usefixtures("beyond")
def test_vectors_beyond_memory_are_gathered_once_in_row_order(run: Path) -> None:
    voice = Heard()
    rows = feature_rows(run, voice).vectors()
    assert isinstance(rows, StoredRows)
    np.testing.assert_array_equal(rows[:], vectors_of(run))
    [path] = gathered(run)
    np.testing.assert_array_equal(np.load(path), vectors_of(run))
    assert "gathering them once" in voice.lines[0]
    assert (f"gather {FEATURE}", 120, 120) in voice.bars
    before = path.stat().st_mtime_ns
    again = Heard()
    feature_rows(run, again).vectors()
    assert (again.lines, gathered(run), path.stat().st_mtime_ns) == ([], [path], before)


@pytest.mark.usefixtures("beyond")
def test_a_file_that_is_there_needs_no_cache(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feature_rows(run).vectors()
    monkeypatch.setattr(SpaceStore, "lookup_into", None)
    assert isinstance(feature_rows(run).vectors(), StoredRows)


@pytest.mark.usefixtures("beyond")
@pytest.mark.parametrize("damage", ["short", "long", "header", "shape", "flip", "nan", "undigested", "gone"])
def test_a_file_that_is_not_whole_is_made_anew(run: Path, damage: str) -> None:
    feature_rows(run).vectors()
    [path] = gathered(run)
    good = path.read_bytes()
    changes: dict[str, Callable[[], Any]] = {
        "short": lambda: path.write_bytes(good[:-1]),
        "long": lambda: path.write_bytes(good + b"x"),
        "header": lambda: path.write_bytes(b"junk" + good[4:]),
        "shape": lambda: np.save(path, np.load(path)[:-1]),
        "flip": lambda: path.write_bytes(good[:-1] + bytes([good[-1] ^ 0x80])),
        "nan": lambda: path.write_bytes(good[:-4] + b"\x00\x00\xc0\x7f"),
        "undigested": path.with_suffix(".sha256").unlink,
        "gone": path.unlink,
    }
    changes[damage]()
    feature_rows(run).vectors()
    assert gathered(run) == [path]
    assert path.read_bytes() == good


@pytest.mark.usefixtures("beyond")
def test_what_was_derived_from_other_rows_or_shards_is_never_used_and_goes(run: Path) -> None:
    feature_rows(run).vectors()
    [old] = gathered(run)
    (run / "features" / f".{FEATURE}.{'0' * 16}.npy").write_bytes(b"half")
    other = run / "features" / "tiny-bert.pooler.0123456789abcdef.npy"
    other.write_bytes(b"of another feature set")
    change_corpus(run, lambda corpus: corpus.update(corpus.iloc[::-1].set_axis(corpus.index)[["text", "key"]]))
    rows = feature_rows(run).vectors()
    assert isinstance(rows, StoredRows)
    np.testing.assert_array_equal(rows[:], vectors_of(run))
    new = [path for path in gathered(run) if path != other]
    assert len(new) == 1
    assert old != new[0]
    assert not old.exists()
    assert sorted(p.name for p in (run / "features").iterdir() if p.name.startswith(".")) == []
    path = run / "features" / f"{FEATURE}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "shards": [*record["shards"], "f" * 64]}))
    feature_rows(run).vectors()
    assert new[0] not in gathered(run)
    assert len(gathered(run)) == 2


@pytest.mark.usefixtures("beyond")
def test_a_prefix_goes_before_the_texts_that_are_looked_up(make_run: Callable[..., Any]) -> None:
    run = Path(make_run(pooling="mean", prefix="query: ")["run"])
    rows = feature_rows(run).vectors()
    assert isinstance(rows, StoredRows)
    np.testing.assert_array_equal(rows[:], vectors_of(run))


@pytest.mark.usefixtures("beyond")
def test_a_missing_vector_leaves_no_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_corpus(run, lambda corpus: corpus.__setitem__("key", [os.urandom(32), *corpus["key"][1:]]))
    with pytest.raises(CacheDamaged, match="1 vectors of"):
        feature_rows(run).vectors()
    assert [p.name for p in (run / "features").iterdir() if p.suffix != ".json"] == []


@pytest.mark.usefixtures("beyond")
def test_a_vector_that_is_not_finite_is_named_and_leaves_no_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_into = SpaceStore.lookup_into

    def spoilt(self: SpaceStore, path: Path, keys: Any, **given: Any) -> Any:
        found = look_into(self, path, keys, **given)
        vectors = np.load(path, mmap_mode="r+")
        vectors[17, 3] = np.nan
        vectors.flush()
        return found

    monkeypatch.setattr(SpaceStore, "lookup_into", spoilt)
    with pytest.raises(CacheDamaged, match=rf"row 17 in {FEATURE} holds NaN"):
        fit_small(run)
    assert gathered(run) == []


@pytest.mark.usefixtures("beyond")
def test_a_disk_without_room_is_said_before_anything_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(run)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(SpaceStore, "lookup_into", None)
    with pytest.raises(StorageError, match=r"take .* MiB in .*free"):
        feature_rows(run).vectors()
    assert gathered(run) == []


@pytest.mark.usefixtures("beyond")
def test_a_disk_that_fills_up_leaves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("frozenhead.cache.store._allocate", full)
    with pytest.raises(StorageError, match="full"):
        feature_rows(run).vectors()
    assert [p.name for p in (run / "features").iterdir() if p.suffix != ".json"] == []


# Heads


@pytest.mark.usefixtures("beyond")
@pytest.mark.parametrize("head", ["dense", "softmax", "ridge", "centroid", "shuffled"])
def test_a_head_on_gathered_vectors_is_the_head_in_memory(
    run: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = ("epochs=3", "hidden=8") if head in ("dense", "shuffled") else ()
    far = fit_small(run, heads=(head,), sets=sets)
    learned, table = arrays(run, head), (folder_of(run, head) / "predictions.parquet").read_bytes()
    blocks = read(run, "head.json", head)["blocks"]
    monkeypatch.delenv(SETTING)
    near = fit_small(run, heads=(head,), sets=sets)
    assert not near["known"]  # the order of rows differs where they fill more than a window
    assert far["temperature"] == pytest.approx(near["temperature"], rel=1e-3)
    assert far["val"]["log_loss"] == pytest.approx(near["val"]["log_loss"], rel=1e-3)
    for name, part in arrays(run, head).items():
        np.testing.assert_allclose(learned[name], part, rtol=1e-4, atol=1e-5)
    if head == "dense":
        assert table == (folder_of(run, head) / "predictions.parquet").read_bytes()
    assert blocks == [2048, 2**25 // 16]
    assert read(run, "head.json", head)["blocks"] is None


@pytest.mark.usefixtures("beyond")
def test_folds_curves_grids_and_views_read_gathered_vectors(make_run: Callable[..., Any]) -> None:
    run = Path(make_run(pooling="mean", views=2)["run"])
    judged = fit_small(run, folds=3, curve=True)
    assert judged["folds"]["all"]["rows"] == 120
    assert len(judged["curve"]["points"]) == 21
    assert fit_small(run, grids=("lr=1e-3,1e-2",))["search"]["best"] in (0, 1)
    fit_small(run, views=True)
    names = [path.name.removeprefix(FEATURE).rpartition(".")[0].rpartition(".")[0] for path in gathered(run)]
    assert names == ["", ".view-1", ".view-2"]


@pytest.mark.usefixtures("beyond")
def test_heads_without_room_are_refused_before_anything_is_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureRows, "vectors", None)
    with pytest.raises(UsageError, match=r"logreg needs .* in memory for 84 x 16 vectors, more than half of .*softmax"):
        fit(FitOptions(run=run, heads=("dense", "logreg"), features=(FEATURE,)))
    with pytest.raises(UsageError, match=r"tfidf needs about .*; softmax or dense"):
        fit(FitOptions(run=run, heads=("tfidf",)))


@pytest.mark.usefixtures("beyond")
def test_of_all_heads_those_with_room_are_trained_and_the_others_named(run: Path) -> None:
    result = fit(FitOptions(run=run, heads=("all",), features=(FEATURE,), sets=("epochs=1", "hidden=4")))
    assert {one["head"] for one in result["heads"]} == {
        "dense", "softmax", "ridge", "centroid", "majority", "shuffled",
    }  # fmt: skip
    assert {(one["feature"], one["head"]) for one in result["failed"]} == {
        (FEATURE, "logreg"), (FEATURE, "svm"), (FEATURE, "knn"), ("text", "tfidf"),
    }  # fmt: skip


def test_heads_with_room_for_a_copy_are_trained_on_stored_rows(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fit_small(run, heads=("logreg",))
    learned = arrays(run, "logreg")
    monkeypatch.setattr(gathering, "SHARE", 10**9)
    stored = fit_small(run, heads=("logreg",))
    assert not stored["known"]
    assert stored["val"] == plain["val"]
    assert all(np.array_equal(part, learned[name]) for name, part in arrays(run, "logreg").items())


def test_softmax_of_too_many_classes_is_refused_by_its_scores(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frozenhead.commands.room import without_room

    monkeypatch.setenv(SETTING, str(2e-5))
    choices, feature = FitOptions(run=run, heads=("softmax", "ridge")).choices(), feature_rows(run)
    monkeypatch.setattr(gathering, "SHARE", 10**9)
    assert without_room(choices, feature, train=84, classes=2) == {}
    refused = without_room(choices, feature, train=84, classes=40)
    assert list(refused) == ["softmax"]
    assert "the scores of 84 rows" in refused["softmax"]


# Memory


def test_the_setting_goes_before_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < machine_memory() <= physical
    monkeypatch.setenv(SETTING, "0.5")
    assert machine_memory() == 2**29


@pytest.mark.parametrize("given", ["much", "0", "-1", "inf", "nan"])
def test_a_setting_that_is_no_memory_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(SETTING, given)
    with pytest.raises(UsageError, match="FROZENHEAD_MEMORY"):
        machine_memory()


@pytest.mark.parametrize(
    ("limits", "expected"), [({"a/b": "max", "a": "5000"}, 5000), ({"a/b": "700", "a": "800"}, 700)]
)
def test_the_least_limit_of_the_control_groups_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], expected: int
) -> None:
    (tmp_path / "self").write_text("1:name=systemd:/other\n0::/a/b\n")
    (tmp_path / "limits" / "a" / "b").mkdir(parents=True)
    for group, limit in limits.items():
        (tmp_path / "limits" / group / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr("frozenhead.commands.memory._GROUPS", tmp_path / "self")
    monkeypatch.setattr("frozenhead.commands.memory._LIMITS", tmp_path / "limits")
    assert machine_memory() == expected
