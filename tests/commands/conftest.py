"""A small labelled corpus and a run on it, with the tiny encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frozenhead.commands.embed import embed
from frozenhead.commands.options import embed_options

SPAM = ["win a free prize", "call now", "free text", "win win win", "prize call"]
HAM = ["the cat sat", "the dog ran", "on the mat", "red and blue", "a cat and a dog"]


def make_table(rows: int = 120, *, seed: int = 0) -> pd.DataFrame:
    """Texts of two classes that words tell apart, one third of them spam; some texts stand twice."""
    rng = np.random.default_rng(seed)
    labels = np.where(np.arange(rows) % 3 == 0, "spam", "ham")
    texts = [
        f"{rng.choice(SPAM if label == 'spam' else HAM)} {rng.choice(SPAM if label == 'spam' else HAM)}"
        for label in labels
    ]
    return pd.DataFrame({"text": texts, "label": labels})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The corpus as a CSV file."""
    path = tmp_path / "texts.csv"
    make_table().to_csv(path, index=False)
    return path


@pytest.fixture
def make_run(tmp_path: Path, table: Path, tiny_folder: Path) -> Callable[..., dict[str, Any]]:
    """Embed the corpus, or `data`, into `tmp_path / "run"`; options as the command line names them."""

    def run(**given: Any) -> dict[str, Any]:
        options: dict[str, Any] = {
            "data": str(table), "out": tmp_path / "run", "recipe": None, "model": str(tiny_folder), "pooling": None,
            "max_length": None, "precision": None, "backend": "auto", "device": "cpu", "corpus": {},
        }  # fmt: skip
        corpus = {"split": None, "seed": None, **given.pop("corpus", {})}
        voice = given.pop("voice", None)
        return embed(embed_options(**{**options, "corpus": corpus, **given}), voice)

    return run


@pytest.fixture
def run(make_run: Callable[..., dict[str, Any]]) -> Path:
    """A run with two feature sets and no head yet."""
    return Path(make_run(pooling="pooler,mean")["run"])
