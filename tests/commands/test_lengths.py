"""Long texts in a run: the length that auto chooses, what is cut or read in windows, and that all commands agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frozenhead.cache import VectorCache
from frozenhead.commands import lengths as lengths_module
from frozenhead.commands.embed import embed
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.lengths import truncation
from frozenhead.commands.options import embed_options
from frozenhead.commands.predict import PredictOptions
from frozenhead.commands.report import report
from frozenhead.commands.verify import VerifyOptions, verify
from frozenhead.commands.voice import Silence
from frozenhead.embedder import Embedder
from frozenhead.errors import UsageError
from frozenhead.runs import Run
from tests.commands.fits import predicted
from tests.conftest import WORDS

MakeRun = Callable[..., dict[str, Any]]


class Heard(Silence):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def long_table(tmp_path: Path) -> Path:
    """200 rows of 5 tokens, of which one spam row has 20 and another 40: 1 % and 0.5 % are longer than 16 and 32."""
    rows = [("the cat sat", "ham"), ("win a prize", "spam")] * 99
    rows += [(" ".join(WORDS[:9] * 2), "spam"), (" ".join(WORDS[:19] * 2 + ["cat"] * 8), "spam")]
    path = tmp_path / "long.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("texts were about to be tokenised")


def test_auto_is_chosen_from_all_rows_said_and_stored(make_run: MakeRun, long_table: Path, tmp_path: Path) -> None:
    options = embed_options(
        data=str(long_table), out=tmp_path / "run", recipe="notebook", model=None, pooling=None, max_length="auto",
        precision=None, backend="auto", device="cpu", corpus={"split": None, "seed": None},
    )  # fmt: skip
    assert (options.auto_length, options.settings.max_length) == (True, None)  # given by name, it wins over the recipe
    result = make_run(data=str(long_table), max_length="auto")
    assert result["features"]["tiny-bert.pooler"]["max_length"] == 32
    assert result["features"]["tiny-bert.pooler"]["auto_length"] is True
    record = Run.open(tmp_path / "run").features()["tiny-bert.pooler"]
    assert (record["max_length"], record["auto_length"], record["truncation"]["truncated"]) == (32, True, 1)
    assert Run.open(tmp_path / "run").info["options"]["max_length"] == 32


def heard_run(long_table: Path, tmp_path: Path, model: Path, **given: Any) -> list[str]:
    voice = Heard()
    options: dict[str, Any] = {
        "data": str(long_table), "out": tmp_path / "run", "recipe": None, "model": str(model), "pooling": None,
        "max_length": "auto", "precision": None, "backend": "auto", "device": "cpu",
        "corpus": {"split": None, "seed": None},
    }  # fmt: skip
    embed(embed_options(**{**options, **given}), voice)
    return [line for line in voice.lines if line.startswith("max length")]


def test_the_choice_is_said_with_what_it_cuts(long_table: Path, tmp_path: Path, tiny_folder: Path) -> None:
    said = heard_run(long_table, tmp_path, tiny_folder)
    assert said == ["max length 32: cuts 0.5% of texts, 1 of 200 (16 would cut 1.0%)"]
    again = heard_run(long_table, tmp_path, tiny_folder, pooling="mean")
    assert again == ["max length 32: as chosen before for this run"]
    windows = heard_run(long_table, tmp_path, tiny_folder, out=tmp_path / "other", long="windows")
    assert windows == ["max length 32: 0.5% of texts are longer, 1 of 200 (with 16: 1.0%)"]


def test_the_limit_is_the_answer_when_nothing_shorter_will_do(tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "essays.csv"
    essays = [" ".join(WORDS * n) for n in (5, 6, 7, 8)] * 5
    pd.DataFrame({"text": essays, "label": ["a", "b"] * 10}).to_csv(path, index=False)
    said = heard_run(path, tmp_path, tiny_folder, corpus={"split": "0.5/0.25/0.25", "seed": None})
    assert said == ["max length 64, the limit of the encoder: cuts 100.0% of texts, 20 of 20 (32 would cut 100.0%)"]


def test_another_pooling_takes_the_stored_length_without_tokenising(
    make_run: MakeRun, long_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(data=str(long_table), max_length="auto")
    monkeypatch.setattr(lengths_module, "token_counts", never)
    result = make_run(data=str(long_table), max_length="auto", pooling="mean")
    assert result["features"]["tiny-bert.mean"]["max_length"] == 32
    assert make_run(data=str(long_table), max_length="auto", dry_run=True)["max_length"] == 32


def test_a_prefix_is_counted_and_has_a_choice_of_its_own(make_run: MakeRun, long_table: Path) -> None:
    make_run(data=str(long_table), max_length="auto")
    longer = make_run(data=str(long_table), max_length="auto", name="prefixed", prefix="the cat sat on " * 4)
    assert longer["features"]["prefixed.pooler"]["max_length"] == 64  # 16 tokens more in every row, 36 in one


def test_another_encoder_or_another_run_counts_for_itself(
    make_run: MakeRun,
    make_checkpoint: Callable[..., Path],
    long_table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_run(data=str(long_table), max_length="auto")
    other = make_checkpoint(tmp_path / "other-bert", seed=1)
    monkeypatch.setattr(lengths_module, "token_counts", never)
    for given in ({"model": str(other)}, {"out": tmp_path / "elsewhere"}, {"overwrite": True}):
        with pytest.raises(AssertionError, match="tokenised"):
            make_run(data=str(long_table), max_length="auto", **given)


def test_a_length_given_by_hand_is_not_taken_for_autos(
    make_run: MakeRun, long_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(data=str(long_table), max_length=12, name="short")
    result = make_run(data=str(long_table), max_length="auto")
    assert result["features"]["tiny-bert.pooler"]["max_length"] == 32


def test_a_dry_run_chooses_and_writes_nothing(make_run: MakeRun, long_table: Path, tmp_path: Path) -> None:
    result = make_run(data=str(long_table), max_length="auto", dry_run=True)
    assert (result["max_length"], result["to_embed"]) == (32, 4)
    assert not (tmp_path / "run").exists()
    assert VectorCache().spaces() == []


@pytest.mark.parametrize("word", ["automatic", "1e3", "12.5", ""])
def test_a_length_that_is_no_number_is_refused(make_run: MakeRun, word: str) -> None:
    with pytest.raises(UsageError, match=f"--max-length is '{word}'; give a number of tokens, or auto"):
        make_run(max_length=word)


def test_truncation_and_windows_are_counted_by_class() -> None:
    labels = np.array([0, 0, 1, 1, 1], np.int32)
    longer, windows = np.array([True, False, True, True, False]), np.array([3, 1, 2, 4, 1])
    cut = truncation(longer, None, labels, 8, ["a", "b", "c"])
    assert cut == {
        "max_length": 8, "rows": 5, "truncated": 3, "share": 0.6,
        "per_class": {
            "a": {"rows": 2, "truncated": 1, "share": 0.5},
            "b": {"rows": 3, "truncated": 2, "share": 2 / 3},
            "c": {"rows": 0, "truncated": 0, "share": 0.0},
        },
    }  # fmt: skip
    read = truncation(longer, windows, labels, 8, ["a", "b"])
    assert (read["truncated"], read["share"]) == (0, 0.0)
    assert (read["windowed"], read["windowed_share"], read["windows"]) == (3, 0.6, 9)
    assert [(c["windowed"], c["windows"]) for c in read["per_class"].values()] == [(1, 3), (2, 6)]


def test_a_run_in_windows_goes_the_whole_way(make_run: MakeRun, tmp_path: Path, tiny_folder: Path) -> None:
    result = make_run(max_length=8, long="windows", pooling="pooler,mean")
    run = Path(result["run"])
    facts = result["features"]["tiny-bert.mean"]["truncation"]
    assert facts["truncated"] == 0
    assert 0 < facts["windowed"] < facts["rows"]
    assert facts["windows"] >= 2 * facts["windowed"]
    again = make_run(max_length=8, long="windows", pooling="pooler,mean")
    assert (again["computed"], again["features"]) == (0, result["features"])

    fit(FitOptions(run=run, heads=("dense",), sets=("epochs=2",)))
    proof = verify(VerifyOptions(run=run, sample=60, steps=4, device="cpu"))
    assert proof["passed"]

    new = tmp_path / "new.csv"
    texts = ["the cat", " ".join(WORDS), "call now"]
    pd.DataFrame({"text": texts}).to_csv(new, index=False)
    voice = Heard()
    options = PredictOptions(run=run, data=str(new), feature="tiny-bert.mean", device="cpu")
    summary, output = predicted(options, voice)
    assert summary["windowed"] == 1
    assert "1 of 3 texts are longer than 8 tokens and were read in windows" in voice.lines
    embedder = Embedder(tiny_folder, pooling="mean", max_length=8, long="windows", device="cpu")
    assert len(embedder.transform(texts)) == summary["rows"] == len(output.splitlines()) - 1

    group = report(run)["dataset"]["lengths"]["tiny-bert@8 in windows"]
    assert group["truncation"] == facts
    assert f"read in {facts['windows']} windows; nothing was cut" in (run / "report.html").read_text()


def test_verify_sees_vectors_that_were_cut_instead(make_run: MakeRun, tmp_path: Path) -> None:
    run = Path(make_run(max_length=8, long="windows")["run"])
    make_run(max_length=8, name="cut")
    features = Run.open(run).features()
    stores = [VectorCache().open_space(features[f"{name}.pooler"]["space"]) for name in ("tiny-bert", "cut")]
    (rows,) = stores[1].rows()
    with stores[0].writer() as writer:
        writer.add(*rows)
    path = run / "features" / "tiny-bert.pooler.json"
    path.write_text(json.dumps({**features["tiny-bert.pooler"], "shards": writer.committed}))
    proof = verify(VerifyOptions(run=run, features=("tiny-bert.pooler",), sample=60, steps=2, device="cpu"))
    assert not proof["features"][0]["vectors"]["passed"]


def test_predict_says_how_many_new_texts_were_cut(make_run: MakeRun, tmp_path: Path) -> None:
    run = Path(make_run(max_length=12)["run"])
    fit(FitOptions(run=run, heads=("dense", "tfidf"), sets=("epochs=2",)))
    new = tmp_path / "new.csv"
    pd.DataFrame({"text": ["the cat", " ".join(WORDS), "win " * 11, "win " * 10]}).to_csv(new, index=False)
    voice = Heard()
    summary, _ = predicted(PredictOptions(run=run, data=str(new), head="dense", device="cpu"), voice)
    assert summary["truncated"] == 2
    assert "2 of 4 texts are longer than 12 tokens and were cut" in voice.lines
    summary, _ = predicted(PredictOptions(run=run, data=str(new), head="tfidf"))
    assert "truncated" not in summary  # it reads texts, whole


def test_one_name_never_means_cut_texts_and_windows(make_run: MakeRun) -> None:
    make_run(max_length=8)
    with pytest.raises(UsageError, match=r"it has long cut instead of windows[\s\S]*--name"):
        make_run(max_length=8, long="windows")
    make_run(max_length=8, long="windows", name="tiny-bert-8-windows")
