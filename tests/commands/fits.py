"""What the tests of `fit` share: what a run holds, and which heads were trained."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from numpy.typing import NDArray

from frozenhead.commands import curve, fitting, folds, search
from frozenhead.commands.fit import FitOptions, fit
from frozenhead.commands.predict import PredictOptions, predict
from frozenhead.commands.vectors import run_vectors
from frozenhead.commands.voice import Voice
from frozenhead.heads import FittedHead, Head
from frozenhead.heads.fitting import fit_many
from frozenhead.heads.saving import read_description, write_description
from frozenhead.runs import Run

FEATURE = "tiny-bert.mean"
SMALL = ("hidden=8", "epochs=3")


def fit_small(run: Path, **given: Any) -> dict[str, Any]:
    """Fit a small dense head on one feature set, or what `given` says; the result of the first head."""
    options: dict[str, Any] = {"features": (FEATURE,)} | given
    if options.get("heads", ("dense",)) == ("dense",):
        grids = [grid.partition("=")[0] for grid in options.get("grids", ())]
        own = [assignment.partition("=")[0] for assignment in options.get("sets", ())]
        small = [one for one in SMALL if one.partition("=")[0] not in (*grids, *own)]
        options["sets"] = (*options.get("sets", ()), *small)
    result: dict[str, Any] = fit(FitOptions(run=run, **options))["heads"][0]
    return result


def predicted(options: PredictOptions, voice: Voice | None = None) -> tuple[dict[str, Any], bytes]:
    """What `predict` tells, and the table that it writes to standard output."""
    output = io.BytesIO()
    return predict(options, voice, stdout=output), output.getvalue()


def folder_of(run: Path, head: str = "dense", feature: str = FEATURE) -> Path:
    return run / "heads" / feature / head


def read(run: Path, file: str, head: str = "dense", feature: str = FEATURE) -> Any:
    return json.loads((folder_of(run, head, feature) / file).read_text())


def vectors_of(run: Path, feature: str = FEATURE) -> NDArray[Any]:
    opened = Run.open(run)
    return run_vectors(opened, opened.features()[feature], opened.corpus(), name=feature, cache_dir=None)


def rows_of(run: Path, split: str, feature: str = FEATURE) -> tuple[NDArray[Any], NDArray[Any]]:
    corpus = Run.open(run).corpus()
    chosen = (corpus["split"] == split).to_numpy()
    return vectors_of(run, feature)[chosen], corpus["label"].to_numpy(object)[chosen]


def seal(folder: Path) -> None:
    """Have `head.json` vouch for the files beside it as they are now, as if `fit` had written them."""
    description = read_description(folder)
    digests = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in description["files"]}
    write_description(folder, description | {"files": digests})


def change_corpus(run: Path, change: Callable[[pd.DataFrame], None]) -> None:
    """Rewrite the run's corpus as if it had been embedded so."""
    corpus = Run.open(run).corpus()
    change(corpus)
    corpus.to_parquet(run / "corpus.parquet", index=False)
    info = json.loads((run / "run.json").read_text())
    info["corpus_sha256"] = hashlib.sha256((run / "corpus.parquet").read_bytes()).hexdigest()
    (run / "run.json").write_text(json.dumps(info))


def timeless(search: dict[str, Any]) -> dict[str, Any]:
    """The content of `search.json` without what differs from run to run, and the stamps, which name the corpus."""
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "stamp")} for row in search["heads"]]
    return {**search, "heads": rows}


class Trained:
    """The heads handed over for training, a list for each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[Head]] = []
        for module in (search, fitting, folds, curve):
            monkeypatch.setattr(module, "fit_many", self._fit_many)

    def _fit_many(self, heads: list[Head], *args: Any, **given: Any) -> Iterator[FittedHead]:
        self.calls.append(list(heads))
        return fit_many(heads, *args, **given)

    def take(self) -> list[list[Head]]:
        """The calls since the last `take`."""
        calls, self.calls = self.calls, []
        return calls
