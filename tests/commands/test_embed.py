"""`embed`: the run it leaves, and what it refuses to touch."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frozenhead.cache import VectorCache, text_keys
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.options import default_run
from frozenhead.commands.vectors import run_vectors
from frozenhead.commands.voice import Silence
from frozenhead.embedder import Embedder
from frozenhead.errors import FormatRefused, RunDamaged, UsageError
from frozenhead.runs import Run, parquet_bytes
from tests.commands.conftest import make_table

MakeRun = Callable[..., dict[str, Any]]


def test_the_run_holds_the_corpus_with_its_keys(make_run: MakeRun, table: Path) -> None:
    run = Run.open(Path(make_run()["run"]))
    corpus, source = run.corpus(), pd.read_csv(table, dtype=str)
    assert list(corpus.columns) == ["row", "text", "label", "split", "key"]
    assert corpus["text"].tolist() == source["text"].tolist()
    assert corpus["key"].tolist() == [key.tobytes() for key in text_keys(source["text"])]
    assert run.info["split"]["counts"] == corpus["split"].value_counts().to_dict()


def test_the_vectors_of_a_run_are_those_of_the_embedder(make_run: MakeRun, tiny_folder: Path) -> None:
    run = Run.open(Path(make_run(pooling="pooler,mean,max")["run"]))
    corpus, features = run.corpus(), run.features()
    assert list(features) == ["tiny-bert.max", "tiny-bert.mean", "tiny-bert.pooler"]
    for name, record in features.items():
        direct = Embedder(tiny_folder, pooling=record["pooling"], device="cpu").transform(corpus["text"])
        np.testing.assert_array_equal(run_vectors(run, record, corpus, name=name, cache_dir=None), direct)


def test_a_second_embed_computes_nothing_and_one_added_row_one(make_run: MakeRun, table: Path, tmp_path: Path) -> None:
    first = make_run()
    second = make_run()
    assert first["computed"] == first["distinct"]
    assert (second["cached"], second["computed"], second["arithmetic"]) == (first["distinct"], 0, None)
    more = pd.concat([make_table(), pd.DataFrame({"text": ["blue mat call"], "label": ["ham"]})])
    more.to_csv(table, index=False)
    assert make_run(out=tmp_path / "other")["computed"] == 1


def test_a_run_that_an_older_version_wrote_is_the_same_run(make_run: MakeRun, tmp_path: Path) -> None:
    for corpus in ({}, {"labelled": False}):
        make_run(corpus=corpus, overwrite=True)
        path, info = tmp_path / "run" / "corpus.parquet", tmp_path / "run" / "run.json"
        ours = pd.read_parquet(path).astype({"text": object, "label": object, "split": object})
        path.write_bytes(parquet_bytes(ours))  # as 0.1.0 did
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        info.write_text(json.dumps({**json.loads(info.read_text()), "corpus_sha256": digest}))
        assert make_run(corpus=corpus)["computed"] == 0
        pd.testing.assert_frame_equal(Run.open(tmp_path / "run").corpus(), ours)


def test_an_older_version_reads_what_this_one_writes(make_run: MakeRun, table: Path, tmp_path: Path) -> None:
    make_run()
    stored, source = pd.read_parquet(tmp_path / "run" / "corpus.parquet"), pd.read_csv(table, dtype=str)
    assert stored["row"].tolist() == list(range(120))
    assert stored["label"].tolist() == source["label"].tolist()
    assert set(stored["split"]) == {"train", "val", "test"}
    assert {type(value) for name in ("text", "label", "split") for value in stored[name].astype(object)} == {str}
    assert {(type(key), len(key)) for key in stored["key"]} == {(bytes, 32)}


def test_an_embed_that_fails_leaves_no_run_folder(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp16"):
        make_run(precision="fp16")
    assert not (tmp_path / "run").exists()


THREADS = """
import os, sys
from pathlib import Path
import pandas, pyarrow.parquet
from frozenhead.corpus import read_table
from frozenhead.runs import Run
tasks = Path("/proc/self/task")
before = len(list(tasks.iterdir()))
run = Run.open(Path(sys.argv[1]))
assert len(run.corpus_table(["key", "text"])) == len(run.corpus()) == 120
read_table(run.folder / "corpus.parquet")
assert [len(head.predictions()) for head in run.heads()] == [36]
print(len(list(tasks.iterdir())) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_reading_a_run_starts_no_thread_that_could_outlive_python(make_run: MakeRun, tmp_path: Path) -> None:
    run = Path(make_run()["run"])
    fit(FitOptions(run=run, heads=("majority",)))
    done = subprocess.run([sys.executable, "-c", THREADS, run], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_second_embed_loads_no_library_that_it_does_not_need(
    make_run: MakeRun, table: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    make_run()
    words = ["embed", str(table), "--model", str(tiny_folder), "--out", str(tmp_path / "again"), "--quiet"]
    words += ["--precision", "fp32"]
    code = (
        "import sys; from frozenhead import cli\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'pandas', 'matplotlib'}\n"
        f"try: sys.argv[1:] = {words!r}; cli.main()\n"
        "finally: print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_dry_run_writes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    result = make_run(dry_run=True)
    assert (result["cached"], result["to_embed"]) == (0, result["distinct"])
    assert not (tmp_path / "run").exists()
    assert VectorCache().spaces() == []


def test_another_pooling_adds_a_feature_set(make_run: MakeRun) -> None:
    make_run(pooling="pooler")
    run = Run.open(Path(make_run(pooling="cls")["run"]))
    assert list(run.features()) == ["tiny-bert.cls", "tiny-bert.pooler"]


def test_other_data_is_refused_unless_overwritten(make_run: MakeRun, table: Path, tmp_path: Path) -> None:
    make_run()
    make_table(90, seed=1).to_csv(table, index=False)
    with pytest.raises(UsageError, match="120 rows, not 90"):
        make_run()
    assert len(Run.open(tmp_path / "run").corpus()) == 120
    fit(FitOptions(run=tmp_path / "run", heads=("majority",)))
    make_run(overwrite=True)
    assert len(Run.open(tmp_path / "run").corpus()) == 90
    assert Run.open(tmp_path / "run").heads() == []


def test_overwrite_takes_nothing_away_before_the_vectors_are_there(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run()
    fit(FitOptions(run=tmp_path / "run", heads=("majority",)))

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("frozenhead.commands.embed.embed_corpus", stopped)
    with pytest.raises(KeyboardInterrupt):
        make_run(overwrite=True, max_length=9)
    run = Run.open(tmp_path / "run")
    assert [h.head for h in run.heads()] == ["majority"]
    assert run.features()["tiny-bert.pooler"]["max_length"] == 64


def test_a_damaged_feature_file_is_written_anew(make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    path = tmp_path / "run" / "features" / "tiny-bert.pooler.json"
    path.write_text("{")
    with pytest.raises(RunDamaged, match="frozenhead embed"):
        Run.open(tmp_path / "run").features()
    make_run()
    assert list(Run.open(tmp_path / "run").features()) == ["tiny-bert.pooler"]


def test_the_same_rows_under_another_split_are_other_data(make_run: MakeRun) -> None:
    make_run()
    with pytest.raises(UsageError, match="another split"):
        make_run(corpus={"seed": 3})


def test_one_name_never_means_two_spaces(make_run: MakeRun) -> None:
    make_run(max_length=8)
    with pytest.raises(UsageError, match=r"max_length 8 instead of 12\.[\s\S]*--name tiny-bert-2"):
        make_run(max_length=12)
    with pytest.raises(UsageError, match=r"max_length 8 instead of 64, prefix '' instead of 'win ', normalize False "):
        make_run(prefix="win ", normalize=True)
    run = Run.open(Path(make_run(max_length=12, name="tiny-bert-12")["run"]))
    assert list(run.features()) == ["tiny-bert-12.pooler", "tiny-bert.pooler"]


def test_a_record_that_contradicts_itself_is_written_anew(make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    path = tmp_path / "run" / "features" / "tiny-bert.pooler.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "space": "0" * 64}))
    make_run(max_length=9)
    assert Run.open(tmp_path / "run").features()["tiny-bert.pooler"]["max_length"] == 9


def test_another_layer_has_a_name_of_its_own(make_run: MakeRun, tiny_folder: Path) -> None:
    make_run(pooling="cls,mean")
    make_run(pooling="cls", layer=1)
    result = make_run(pooling="cls", layer=-2)  # the same by another number: nothing is computed
    assert (result["computed"], list(result["features"])) == (0, ["tiny-bert.cls.layer-2"])
    run = Run.open(Path(result["run"]))
    assert list(run.features()) == ["tiny-bert.cls", "tiny-bert.cls.layer-2", "tiny-bert.mean"]
    record = run.features()["tiny-bert.cls.layer-2"]
    vectors = run_vectors(run, record, run.corpus(), name="tiny-bert.cls.layer-2", cache_dir=None)
    direct = Embedder(tiny_folder, pooling="cls", layer=-2, device="cpu").transform(run.corpus()["text"])
    np.testing.assert_array_equal(vectors, direct)


def test_a_prefix_stands_before_every_text(make_run: MakeRun, tiny_folder: Path) -> None:
    result = make_run(pooling="mean", prefix="call now: ")
    run = Run.open(Path(result["run"]))
    (name, record), texts = next(iter(run.features().items())), run.corpus()["text"]
    assert record["identity"]["prefix"] == "call now: "
    vectors = run_vectors(run, record, run.corpus(), name=name, cache_dir=None)
    longer = Embedder(tiny_folder, pooling="mean", device="cpu").transform([f"call now: {text}" for text in texts])
    np.testing.assert_allclose(vectors, longer, atol=1e-5, rtol=0)
    assert make_run(pooling="mean", prefix="call now: ")["computed"] == 0
    assert make_run(pooling="mean", prefix="call now: ", dry_run=True)["to_embed"] == 0
    assert make_run(pooling="mean", dry_run=True, overwrite=True)["to_embed"] == result["distinct"]


class Notes(Silence):
    """A voice that keeps what it is given to say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def test_auto_is_told_and_recorded_as_what_it_stands_for(make_run: MakeRun, tiny_folder: Path, tmp_path: Path) -> None:
    voice = Notes()
    result = make_run(pooling="auto", voice=voice)
    assert list(result["features"]) == ["tiny-bert.pooler"]
    assert "pooling auto: pooler (a trained pooler)" in voice.said
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "sentences"))
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 10}')
    prompts = {"prompts": {"q": "red "}, "default_prompt_name": "q"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (record,) = make_run(model=str(folder), pooling="auto", voice=voice, dry_run=False)["features"].items()
    assert record[0] == "sentences.mean"
    assert "pooling auto: mean, normalized, max_length 10, prefix 'red ' (modules.json)" in voice.said
    identity = Run.open(tmp_path / "run").features()["sentences.mean"]["identity"]
    assert [identity[k] for k in ("pooling", "normalize", "max_length", "prefix")] == ["mean", True, 10, "red "]


@pytest.mark.parametrize(
    ("name", "prefix", "told"),
    [("e5-small-v2", None, True), ("multilingual-E5-base", None, True), ("e5-small-v2", "query: ", False),
     ("e5-small-v2", "", True), ("bert-e500", None, False), ("base5", None, False)],
)  # fmt: skip
def test_an_e5_encoder_without_a_prefix_brings_advice(
    make_run: MakeRun, tiny_folder: Path, tmp_path: Path, name: str, prefix: str | None, told: bool
) -> None:
    folder, voice = Path(shutil.copytree(tiny_folder, tmp_path / name)), Notes()
    make_run(model=str(folder), prefix=prefix, voice=voice, dry_run=True)
    assert any("--prefix" in line for line in voice.said) == told


def test_truncation_is_counted_by_class(make_run: MakeRun, tmp_path: Path) -> None:
    frame = make_table()
    result = make_run(max_length=5)
    counted = result["features"]["tiny-bert.pooler"]["truncation"]
    # The tiny tokenizer spells no word of this corpus but "and" and "a" in more than one piece... count with it.
    from transformers import AutoTokenizer

    encoder = Run.open(Path(result["run"])).features()["tiny-bert.pooler"]["encoder"]["model"]
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    long = frame["text"].map(lambda text: len(tokenizer(text)["input_ids"]) > 5)
    assert counted["truncated"] == long.sum()
    for label, rows in frame.groupby("label"):
        assert counted["per_class"][label]["truncated"] == long[rows.index].sum()
        assert counted["per_class"][label]["rows"] == len(rows)


def test_unlabelled_texts_can_be_embedded(make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    make_table()[["text"]].to_csv(path, index=False)
    result = make_run(data=str(path), corpus={"labelled": False})
    assert result["classes"] == []
    assert result["features"]["tiny-bert.pooler"]["truncation"]["rows"] == 120


def test_a_folder_with_other_files_is_left_alone(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="other files"):
            make_run(overwrite=overwrite)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_whose_making_was_killed_can_be_made_again(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    if overwrite:
        make_run()
    with monkeypatch.context() as patch:
        patch.setattr("frozenhead.runs.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            make_run(overwrite=overwrite)
    assert (tmp_path / "run" / "corpus.parquet").exists()
    make_run()
    assert len(Run.open(tmp_path / "run").features()) == 1


def test_a_run_of_another_format_is_refused_not_misread(make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(FormatRefused, match="format 2"):
        Run.open(tmp_path / "run")
    with pytest.raises(FormatRefused, match="format 2"):
        make_run()


@pytest.mark.parametrize("key", ["shards", "cache", "identity", "lengths"])
def test_a_feature_file_that_lacks_a_field_is_damage(run: Path, key: str) -> None:
    path = run / "features" / "tiny-bert.mean.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(RunDamaged, match=key):
        Run.open(run).features()
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(FormatRefused, match="format 2"):
        Run.open(run).features()


@pytest.mark.parametrize("name", ["run.json", "corpus.parquet"])
def test_a_damaged_run_is_noticed(run: Path, name: str) -> None:
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 0x80
    (run / name).write_bytes(content)
    with pytest.raises(RunDamaged, match=name):
        Run.open(run).corpus()


def test_the_recipe_is_the_notebooks_and_names_win_over_it(make_run: MakeRun) -> None:
    run = Run.open(Path(make_run(recipe="notebook", corpus={"seed": 5})["run"]))
    feature = run.features()["tiny-bert.pooler"]
    assert (feature["max_length"], feature["pooling"], feature["identity"]["precision"]) == (25, "pooler", "fp32")
    assert run.info["split"]["rule"] == "stratified 0.7/0.15/0.15, seed 5"
    assert run.info["recipe"] == "notebook"


@pytest.mark.parametrize(("data", "expected"), [("a/spam.csv.gz", "spam"), ("-", "stdin"), ("x.parquet", "x")])
def test_a_run_without_a_name_is_called_after_its_data(data: str, expected: str) -> None:
    assert default_run(data) == Path("runs") / expected
