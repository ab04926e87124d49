"""`embed --views`: each view a space of its own, of the training rows, pinned by the run, and covered by `verify`."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from frozenhead.cache import Space, VectorCache
from frozenhead.cache.space import View
from frozenhead.commands.caches import PruneOptions, compact_spaces, list_spaces, prune
from frozenhead.commands.gathering import FeatureRows
from frozenhead.commands.options import EmbedOptions
from frozenhead.commands.tables import corpus_rows
from frozenhead.commands.vectors import run_vectors, view_records, view_vectors
from frozenhead.commands.verify import VerifyOptions, verify
from frozenhead.commands.voice import Advance, Silence
from frozenhead.embedder import EmbedSettings, find_checkpoint
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.errors import CacheDamaged, EncoderUnfit, RunDamaged, UsageError
from frozenhead.runs import Run
from frozenhead.terminal import feature_lines, verdict_lines, view_lines
from tests.commands.conftest import make_table
from tests.test_cli import commands

TOLERANCE = 1e-5  # of fp32, whatever the batch

FEATURE = "tiny-bert.pooler"
QUICK: dict[str, Any] = {"sample": 20, "steps": 3, "device": "cpu"}

MakeRun = Callable[..., dict[str, Any]]


def record_of(run: Path, name: str = FEATURE) -> dict[str, Any]:
    return Run.open(run).features()[name]


def views_of(run: Path, name: str = FEATURE) -> list[NDArray[Any]]:
    opened = Run.open(run)
    corpus, record = corpus_rows(opened), opened.features()[name]
    rows = FeatureRows(opened, record, name=name, rows=len(corpus), cache_dir=None, voice=Silence())
    return [np.asarray(view) for view in rows.views((corpus["split"] == "train").to_numpy())]


def train_texts(run: Path) -> list[str]:
    corpus = Run.open(run).corpus()
    return list(corpus["text"][corpus["split"] == "train"])


@pytest.fixture
def frozenhead(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`frozenhead WORDS` in this process."""
    with commands(capfd, monkeypatch) as run:
        yield run


@pytest.fixture
def viewed(make_run: MakeRun, tmp_path: Path) -> Path:
    """A run with three views."""
    make_run(views=3)
    return tmp_path / "run"


@pytest.mark.parametrize(
    "given",
    [
        {"pooling": "pooler,cls,mean,max"},
        {"pooling": "mean", "prefix": "call now: ", "normalize": True},
        {"pooling": "cls,max", "layer": -2},
        {"pooling": "mean", "max_length": 8, "long": "windows"},
    ],
)
def test_views_are_plain_passes_of_the_training_rows_in_the_order_of_the_corpus(
    make_run: MakeRun, tiny_folder: Path, given: dict[str, Any]
) -> None:
    run = Path(make_run(views=2, view_seed=5, **given)["run"])
    plain = PlainEncoder(find_checkpoint(tiny_folder), device="cpu")
    texts = [given.get("prefix", "") + text for text in train_texts(run)]
    for name, record in Run.open(run).features().items():
        vectors = views_of(run, name)
        assert [v.shape for v in vectors] == [(len(texts), 16)] * 2
        for index, of_view in enumerate(vectors, start=1):
            with torch.no_grad():
                expected = plain.vectors(
                    texts, pooling=record["pooling"], max_length=record["max_length"], layer=given.get("layer", -1),
                    normalize=given.get("normalize", False), long=given.get("long", "cut"),
                    view=View(seed=5, index=index),
                )  # fmt: skip
            np.testing.assert_allclose(of_view, expected.numpy(), atol=TOLERANCE, rtol=0)


def test_eval_vectors_and_their_space_are_those_of_a_run_without_views(make_run: MakeRun, tmp_path: Path) -> None:
    plain, viewed = Path(make_run(out=tmp_path / "plain")["run"]), Path(make_run(views=2)["run"])
    records = [record_of(run) for run in (plain, viewed)]
    assert records[0]["space"] == records[1]["space"]
    assert "views" not in records[0]
    vectors = [
        run_vectors(Run.open(r), record_of(r), Run.open(r).corpus(), name=FEATURE, cache_dir=None)
        for r in (plain, viewed)
    ]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    ids = {entry["space"] for entry in records[1]["views"]} | {records[1]["space"]}
    assert len(ids) == 3
    assert ids == {space["id"] for space in list_spaces(None)["spaces"]}


def test_only_the_distinct_texts_of_the_training_rows_are_computed(make_run: MakeRun) -> None:
    result = make_run(views=3)
    texts = train_texts(Path(result["run"]))
    assert len(set(texts)) < len(texts) < result["rows"]
    facts = {k: result["views"][k] for k in ("views", "seed", "rows", "passes", "cached", "computed")}
    passes = 3 * len(set(texts))
    assert facts == {
        "views": 3, "seed": 2018, "rows": len(texts), "passes": passes, "cached": 0, "computed": passes
    }  # fmt: skip
    assert [space["rows"] for space in list_spaces(None)["spaces"] if space["view"]] == [len(set(texts))] * 3
    assert result["features"][FEATURE]["views"] == 3


def test_embed_again_computes_nothing_and_a_larger_number_only_adds(make_run: MakeRun, viewed: Path) -> None:
    before = views_of(viewed)
    assert make_run(views=3)["views"]["computed"] == 0
    more = make_run(views=5)["views"]
    assert (more["cached"], more["computed"]) == (more["passes"] * 3 // 5, more["passes"] * 2 // 5)
    after = views_of(viewed)
    assert len(after) == 5
    for a, b in zip(before, after, strict=False):
        np.testing.assert_array_equal(a, b)
    assert all(np.abs(after[i] - after[j]).max() > 0.1 for i in range(5) for j in range(i))


@pytest.mark.parametrize("views", [0, 1])
def test_embed_again_with_fewer_views_or_none_keeps_what_is_there(make_run: MakeRun, viewed: Path, views: int) -> None:
    before = record_of(viewed)["views"]
    result = make_run(views=views, pooling="pooler,mean")
    assert record_of(viewed)["views"] == before
    assert result["features"][FEATURE]["views"] == 3
    assert result["features"]["tiny-bert.mean"]["views"] == views
    assert (result["views"] is None) == (views == 0)


def test_the_seed_is_that_of_the_split_unless_given_and_one_run_has_one(make_run: MakeRun, tmp_path: Path) -> None:
    def seeds(run: Path) -> set[int]:
        return {view.seed for view, _ in view_records(record_of(run), FEATURE)}

    assert seeds(Path(make_run(views=1, corpus={"seed": 3}, out=tmp_path / "other")["run"])) == {3}
    run = Path(make_run(views=1, view_seed=9)["run"])
    assert make_run(views=2)["views"]["seed"] == 9  # those that are there go on
    assert seeds(run) == {9}
    with pytest.raises(UsageError, match=r"views of seed 9, not 4[\s\S]*--view-seed 9"):
        make_run(views=2, view_seed=4)
    with pytest.raises(UsageError, match="seed 9, not 4"):
        make_run(views=2, view_seed=4, dry_run=True)
    assert make_run(views=2, view_seed=4, name="again")["features"]["again.pooler"]["views"] == 2
    make_run(views=1, view_seed=4, overwrite=True)
    assert seeds(run) == {4}


class Stopping(Silence):
    """A voice whose bar of one title ends the command when it moves."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.bars: list[str] = []

    @contextmanager
    def bar(self, title: str, *, unit: str) -> Iterator[Advance]:
        assert unit == "texts"
        self.bars.append(title)

        def advance(done: int, total: int) -> None:
            assert 0 <= done <= total
            if title == self.title and done:
                raise KeyboardInterrupt

        yield advance


def test_what_was_finished_before_an_interruption_is_kept(make_run: MakeRun, tmp_path: Path) -> None:
    voice = Stopping("view 2 of 3")
    with pytest.raises(KeyboardInterrupt):
        make_run(views=3, voice=voice)
    assert voice.bars == ["tiny-bert", "view 1 of 3", "view 2 of 3"]
    (first,) = views_of(tmp_path / "run")
    again = make_run(views=3)["views"]
    assert again["cached"] >= again["passes"] // 3
    undisturbed = make_run(views=3, out=tmp_path / "other", cache_dir=tmp_path / "cache")
    for a, b in zip(views_of(tmp_path / "run"), views_of(Path(undisturbed["run"])), strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(views_of(tmp_path / "run")[0], first)


def test_dry_run_counts_the_passes_and_writes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    nothing = make_run(views=2, dry_run=True)
    assert nothing["views"]["cached"] == 0 < nothing["views"]["passes"]
    assert not (tmp_path / "run").exists()
    assert VectorCache().spaces() == []
    passes = make_run(views=2)["views"]["passes"]
    some = make_run(views=3, dry_run=True)["views"]
    assert (some["cached"], some["passes"]) == (passes, passes * 3 // 2)
    assert view_lines(some)[0].endswith(f"{passes // 2} passes to compute, {passes} from the cache")


def test_texts_without_labels_are_all_training_rows(make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    make_table(20)[["text"]].to_csv(path, index=False)
    result = make_run(data=str(path), views=2, corpus={"labelled": False})
    assert result["views"]["rows"] == 20
    assert [v.shape for v in views_of(Path(result["run"]))] == [(20, 16)] * 2


def test_without_training_rows_there_are_no_views(make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    make_table(20)[["text"]].assign(part="test").to_csv(path, index=False)
    with pytest.raises(UsageError, match="no row is one"):
        make_run(data=str(path), views=2, corpus={"labelled": False, "split_column": "part"})


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"views": -1}, "--views is -1"),
        ({"views": 10_001}, "10,000"),
        ({"views": 0, "view_seed": 3}, "give --views too"),
        ({"views": 1, "view_seed": -1}, "--view-seed is -1"),
        ({"views": 1, "view_seed": 2**32}, "4294967295"),
        ({"views": 1, "settings": EmbedSettings(backend="openvino")}, "--backend torch"),
    ],
)
def test_views_that_make_no_sense_are_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        EmbedOptions(data="x.csv", out=Path("run"), **given)


def test_an_encoder_without_dropout_keeps_its_eval_vectors(
    make_run: MakeRun, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "dry"))
    config = json.loads((folder / "config.json").read_text())
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps({**config, **none}))
    with pytest.raises(EncoderUnfit, match="probabilities are 0"):
        make_run(views=2, model=str(folder))
    run = tmp_path / "run"
    assert "views" not in record_of(run, "dry.pooler")
    with pytest.raises(UsageError, match=r"dry\.pooler .* has no dropout views.*--views"):
        views_of(run, "dry.pooler")


# The cache


def spaces_of(run: Path) -> list[str]:
    return [entry["space"] for entry in record_of(run)["views"]]


def test_views_that_a_run_uses_are_not_pruned_unasked(viewed: Path) -> None:
    for space in spaces_of(viewed):
        with pytest.raises(UsageError, match=rf"{space[:12]} is used by {viewed}.*--pinned"):
            prune(None, PruneOptions(spaces=(space,)), dry_run=False)
    assert prune(None, PruneOptions(unused_days=0.0), dry_run=False)["items"] == []
    views_of(viewed)


def test_views_that_were_pruned_all_the_same_are_computed_anew(make_run: MakeRun, viewed: Path) -> None:
    before = views_of(viewed)
    prune(None, PruneOptions(spaces=(spaces_of(viewed)[1],), pinned=True), dry_run=False)
    with pytest.raises(CacheDamaged, match="frozenhead embed"):
        views_of(viewed)
    again = make_run(views=3)["views"]
    assert again["computed"] == again["passes"] // 3
    for a, b in zip(before, views_of(viewed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_views_are_the_same_bit_for_bit_after_their_shards_were_merged(make_run: MakeRun, tmp_path: Path) -> None:
    runs = []
    for seed in range(3):
        data = tmp_path / f"texts-{seed}.csv"
        make_table(30, seed=seed).to_csv(data, index=False)
        runs.append(Path(make_run(data=str(data), out=tmp_path / f"run-{seed}", views=2)["run"]))
    before = [views_of(run) for run in runs]
    done = compact_spaces(None, spaces=(), dry_run=False)["spaces"]
    assert [(one["before"], one["after"]) for one in done] == [(3, 1)] * 3
    for run, vectors in zip(runs, before, strict=True):
        record = record_of(run)
        for entry in (record, *record["views"]):
            assert entry["shards"] == list(VectorCache().open_space(entry["space"]).pin())
        for a, b in zip(vectors, views_of(run), strict=True):
            np.testing.assert_array_equal(a, b)
    assert verify(VerifyOptions(run=runs[0], **QUICK))["passed"]


def test_shards_merged_while_a_later_view_is_computed_are_not_forgotten(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        data = tmp_path / f"texts-{seed}.csv"
        make_table(30, seed=seed).to_csv(data, index=False)
        make_run(data=str(data), out=tmp_path / f"run-{seed}", views=1)

    class Merging(Silence):
        @contextmanager
        def bar(self, title: str, *, unit: str) -> Iterator[Advance]:
            if title == "view 2 of 2":
                compact_spaces(None, spaces=(), dry_run=False)
            yield lambda done, total: None

    make_run(data=str(tmp_path / "texts-1.csv"), out=tmp_path / "run-1", views=2, voice=Merging())
    run = Run.open(tmp_path / "run-1")
    assert len(views_of(run.folder)) == 2
    run_vectors(run, record_of(run.folder), run.corpus(), name=FEATURE, cache_dir=None)


def test_ls_names_the_view(viewed: Path) -> None:
    shown = [space["view"] for space in list_spaces(None)["spaces"]]
    assert sorted(map(str, shown)) == ["None", *(str({"seed": 2018, "index": i}) for i in (1, 2, 3))]
    assert all(space["runs"] == [str(viewed)] for space in list_spaces(None)["spaces"])


# The record


@pytest.mark.parametrize(
    "spoil",
    [
        lambda views: [{**views[0], "space": "0" * 64}, *views[1:]],
        lambda views: [{k: v for k, v in views[0].items() if k != "shards"}],
        lambda views: [{k: v for k, v in views[0].items() if k != "space"}],
        lambda views: [{**views[0], "identity": {**views[0]["identity"], "view": {"seed": 1, "index": 0}}}],
        lambda views: ["a view"],
        lambda views: {"1": views[0]},
    ],
    ids=["another id", "no shards", "no space", "no such view", "words", "no list"],
)
def test_damaged_views_are_refused_and_written_anew(
    make_run: MakeRun, viewed: Path, spoil: Callable[[Any], Any]
) -> None:
    sound = record_of(viewed)
    path = viewed / "features" / f"{FEATURE}.json"
    path.write_text(json.dumps({**sound, "views": spoil(sound["views"])}))
    with pytest.raises(RunDamaged, match="frozenhead embed"):
        views_of(viewed)
    assert make_run(views=3)["views"]["computed"] == 0
    assert record_of(viewed) == sound


def test_a_view_that_is_the_eval_space_is_refused(viewed: Path) -> None:
    sound = record_of(viewed)
    wrong = {k: sound[k] for k in ("space", "identity", "shards")}
    (viewed / "features" / f"{FEATURE}.json").write_text(json.dumps({**sound, "views": [wrong]}))
    with pytest.raises(RunDamaged, match="cannot be read"):
        views_of(viewed)


# verify


@pytest.mark.parametrize(
    "given",
    [
        {"pooling": "pooler,mean", "prefix": "win ", "normalize": True, "layer": -1},
        {"pooling": "max", "layer": 0},
        {"pooling": "mean", "max_length": 8, "long": "windows"},
        {"pooling": "mean", "precision": "bf16"},
    ],
)
def test_verify_passes_on_views_and_tells_how_near_they_are(make_run: MakeRun, given: dict[str, Any]) -> None:
    run = Path(make_run(views=2, **given)["run"])
    result = verify(VerifyOptions(run=run, **QUICK))
    assert result["passed"]
    for proof in result["features"]:
        views = proof["views"]
        assert (views["rows"], views["views"]) == (20, 2)
        assert 0 <= views["largest_difference"] <= views["tolerance"]
    assert sum("20 rows of 2 dropout views one by one" in line for line in verdict_lines(result)) == len(
        result["features"]
    )


def test_verify_of_a_run_without_views_says_nothing_of_them(run: Path) -> None:
    result = verify(VerifyOptions(run=run, features=("tiny-bert.mean",), **QUICK))
    assert result["features"][0]["views"] is None
    assert not any("views" in line for line in verdict_lines(result))


def nudged(vectors: NDArray[Any]) -> NDArray[Any]:
    return vectors + np.float32(1e-4)


def rolled(vectors: NDArray[Any]) -> NDArray[Any]:
    return np.roll(vectors, 1, axis=0)


@pytest.mark.parametrize("change", [nudged, rolled])
def test_verify_fails_when_one_view_holds_other_vectors(
    viewed: Path, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    record = record_of(viewed)
    entry = record["views"][1]
    store = VectorCache().space(Space.from_dict(entry["identity"]))
    ((keys, vectors, tokens),) = store.rows()
    with store.writer() as writer:
        writer.add(keys, change(vectors.copy()), tokens)
    entry["shards"] = writer.committed
    (viewed / "features" / f"{FEATURE}.json").write_text(json.dumps(record))
    result = verify(VerifyOptions(run=viewed, **QUICK))
    (proof,) = result["features"]
    assert (result["passed"], proof["vectors"]["passed"], proof["training"]["passed"]) == (False, True, True)
    assert not proof["views"]["passed"]
    assert proof["views"]["view"] == 2
    assert any("views" in line and line.endswith("FAILED") for line in verdict_lines(result))


def test_a_view_that_is_not_finite_is_never_forgotten(viewed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(*args: Any, **given: Any) -> Any:
        vectors = view_vectors(*args, **given).copy()
        vectors[1::3] = np.nan
        return vectors

    monkeypatch.setattr("frozenhead.commands.verify.view_vectors", spoilt)
    (proof,) = verify(VerifyOptions(run=viewed, **QUICK))["features"]
    assert not proof["passed"]
    assert proof["views"]["largest_difference"] is None
    json.dumps(proof, allow_nan=False)


def test_verify_fails_when_a_view_holds_eval_vectors(viewed: Path) -> None:
    record = record_of(viewed)
    eval_store = VectorCache().space(Space.from_dict(record["identity"]))
    entry = record["views"][0]
    store = VectorCache().space(Space.from_dict(entry["identity"]))
    ((keys, vectors, tokens),) = eval_store.rows()
    with store.writer() as writer:
        writer.add(keys, vectors, tokens)
    entry["shards"] = writer.committed
    (viewed / "features" / f"{FEATURE}.json").write_text(json.dumps(record))
    assert not verify(VerifyOptions(run=viewed, **QUICK))["features"][0]["views"]["passed"]


# The terminal


def test_the_terminal_tells_of_views_that_were_asked_for_and_those_that_are_there() -> None:
    facts: dict[str, Any] = {"views": 10, "seed": 2018, "rows": 3900, "passes": 36000, "cached": 6000}
    assert view_lines(None) == []
    assert view_lines(facts) == [
        "10 dropout views of 3,900 training rows, seed 2018: 30,000 passes to compute, 6,000 from the cache"
    ]
    assert view_lines({**facts, "computed": 30000, "seconds": 61.0}) == [
        "10 dropout views of 3,900 training rows, seed 2018: 30,000 passes computed, 6,000 from the cache, 61.0 s"
    ]
    cut = {"max_length": 64, "rows": 3, "truncated": 0, "share": 0.0, "per_class": {}}
    (line,) = feature_lines(FEATURE, {"dim": 16, "truncation": cut, "views": 3})
    assert line == "tiny-bert.pooler: 16 numbers per text, and 3 dropout views; no text is longer than 64 tokens"


def test_the_command_line_takes_views(frozenhead: Any, table: Path, tiny_folder: Path, tmp_path: Path) -> None:
    words = ["embed", table, "--model", tiny_folder, "--device", "cpu", "--out", tmp_path / "run"]
    done = frozenhead(*words, "--views", 2, "--view-seed", 4)
    assert done.returncode == 0, done.stderr
    assert "2 dropout views of 84 training rows, seed 4" in done.stdout
    assert "validation and test rows keep eval-mode vectors alone" in done.stderr
    again = json.loads(frozenhead(*words, "--views", 2, "--json").stdout)
    assert (again["views"]["seed"], again["views"]["computed"]) == (4, 0)
    assert frozenhead("verify", tmp_path / "run", "--steps", 2, "--device", "cpu").returncode == 0
    listed = frozenhead("cache", "ls").stdout
    assert "pooler, view 2 of seed 4" in listed
    for wrong in (("--views", -1), ("--views", 10001), ("--views", "two"), ("--view-seed", 1)):
        assert frozenhead(*words, *wrong).returncode == 2


def test_a_frame_of_some_rows_gives_those_rows(viewed: Path) -> None:
    run, record = Run.open(viewed), record_of(viewed)
    corpus = run.corpus()
    train = np.flatnonzero((corpus["split"] == "train").to_numpy())
    some: pd.DataFrame = corpus.iloc[train[[5, 2, 5]]]
    vectors = view_vectors(run, record, some, view=View(seed=2018, index=2), name=FEATURE, cache_dir=None)
    np.testing.assert_array_equal(vectors, views_of(viewed)[1][[5, 2, 5]])
    with pytest.raises(CacheDamaged, match="no view 9"):
        view_vectors(run, record, some, view=View(seed=2018, index=9), name=FEATURE, cache_dir=None)
    test = corpus[corpus["split"] == "test"]
    unseen = test[~test["text"].isin(corpus["text"].iloc[train])]
    if len(unseen):
        with pytest.raises(CacheDamaged, match="view 2 of seed 2018"):
            view_vectors(run, record, unseen, view=View(seed=2018, index=2), name=FEATURE, cache_dir=None)
