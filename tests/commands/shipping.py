"""A trained run to export from, made once per module, and what the tests of exports say often."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frozenhead.commands.embed import embed
from frozenhead.commands.export import ExportOptions, export
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.options import embed_options
from frozenhead.files import canonical_json
from frozenhead.runs import Run
from tests.commands.conftest import make_table

EXECUTABLE = [sys.executable, "-c", "from frozenhead.cli import main; main()"]


def make_trained_run(folder: Path, encoder: Path, *, heads: tuple[str, ...], **given: Any) -> Path:
    """A run in `folder` with its own cache, fp32 whatever the machine; options of `embed` as its command names them."""
    table = folder / "texts.csv"
    if not table.exists():
        make_table().to_csv(table, index=False)
    options: dict[str, Any] = {
        "data": str(table), "out": folder / "run", "recipe": None, "model": str(encoder), "pooling": "mean",
        "max_length": None, "precision": "fp32", "backend": "torch", "device": "cpu", "cache_dir": folder / "cache",
    }  # fmt: skip
    corpus = {"split": None, "seed": None, **given.pop("corpus", {})}
    embed(embed_options(**{**options, "corpus": corpus, **given}))
    fit(FitOptions(run=folder / "run", heads=heads, sets=("epochs=3",) if "dense" in heads else ()))
    return folder / "run"


def ship(run: Path, to: Path, head: str, **given: Any) -> dict[str, Any]:
    """Export one head of a run."""
    return export(ExportOptions(source=run, to=to, head=head, **given))


def edit_head(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change `head.json` as another version might have written it, its digest included."""
    content = json.loads((folder / "head.json").read_text())
    del content["digest"]
    change(content)
    content["digest"] = hashlib.sha256(canonical_json(content)).hexdigest()
    (folder / "head.json").write_text(json.dumps(content))


def fresh_process(words: list[str], *, cwd: Path, cache: Path) -> str:
    """What a new process prints, with a cache of its own."""
    environment = {**os.environ, "FROZENHEAD_CACHE_DIR": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_splits(run: Path, to: Path, names: dict[str, str], *, head: str) -> Path:
    """A copy of a run whose splits are named otherwise, with one head trained on it: `embed` always cuts three."""
    old = Run.open(run)
    table = old.corpus_table()
    splits = [names.get(name, name) for name in table["split"].to_pylist()]
    place = table.schema.get_field_index("split")
    info = {k: v for k, v in old.info.items() if k not in ("format", "corpus_sha256")}
    new = Run.create(to, info=info, corpus=[table.set_column(place, "split", [splits])])
    for name, record in old.features().items():
        new.write_feature(name, record)
    fit(FitOptions(run=to, heads=(head,)))
    return to


def copied(run: Path, to: Path) -> Path:
    """A copy of a run that a test may spoil."""
    return Path(shutil.copytree(run, to))
