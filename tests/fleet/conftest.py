"""A corpus of a few hundred texts and the tiny encoder: what workers share among themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from frozenhead.cache import VectorCache, distinct_keys, text_keys
from frozenhead.commands.embed import embed
from frozenhead.commands.options import EmbedOptions, embed_options
from frozenhead.commands.voice import Voice
from frozenhead.runs import Run
from tests.conftest import WORDS

ROWS = 300
# The cache's promise for fp32, whatever the batch and the process (design: embedding).
TOLERANCE = 1e-5


def make_texts(rows: int = ROWS, *, seed: int = 0) -> list[str]:
    """Texts of one to eight words; short ones stand more than once."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(rows)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The corpus as a CSV file, with a header, a comma and a quoted line break in it."""
    texts = [*make_texts(), 'the cat, the "dog"', "red\nblue", "007", "1e3", "NA", "true"]
    path = tmp_path / "texts.csv"
    pd.DataFrame({"text": texts, "label": ["ab"[len(text) % 2] for text in texts]}).to_csv(path, index=False)
    return path


MakeOptions = Callable[..., EmbedOptions]


@pytest.fixture
def make_options(tmp_path: Path, table: Path, tiny_folder: Path) -> MakeOptions:
    """Options of `embed`, as the command line names them; torch in fp32 on the CPU, in child processes too."""

    def options(**given: Any) -> EmbedOptions:
        plain: dict[str, Any] = {
            "data": str(table), "out": tmp_path / "run", "recipe": None, "model": str(tiny_folder), "pooling": None,
            "max_length": None, "precision": "fp32", "backend": "torch", "device": "cpu",
            "cache_dir": tmp_path / "cache",
        }  # fmt: skip
        corpus = {"split": None, "seed": None, **given.pop("corpus", {})}
        return embed_options(**{**plain, "corpus": corpus, **given})

    return options


@pytest.fixture
def run_embed(make_options: MakeOptions) -> Callable[..., dict[str, Any]]:
    """`embed` with such options, and a voice if one is given."""

    def run(voice: Voice | None = None, **given: Any) -> dict[str, Any]:
        return embed(make_options(**given), voice)

    return run


def distinct_texts(table: Path) -> set[str]:
    """The texts of a table, each once."""
    return set(pd.read_csv(table, dtype=str, keep_default_na=False)["text"])


def cached_vectors(cache: Path | str, texts: set[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The vectors that a cache of one space holds, by text: each exactly once, and nothing else."""
    opened = VectorCache(cache)
    assert not opened.check_all().bad
    [summary] = opened.spaces()
    store, ordered = opened.open_space(summary.id), sorted(texts)
    held = np.concatenate([part for part, _, _ in store.rows()])
    assert len(distinct_keys(held)[0]) == len(held), "a vector stands twice"
    lookup = store.lookup(text_keys(ordered))
    assert lookup.vectors is not None
    assert len(held) == lookup.found.sum(), "there are vectors of other texts"
    return {text: lookup.vectors[i] for i, text in enumerate(ordered) if lookup.found[i]}


def assert_same_vectors(cache: Path | str, other: Path | str, texts: set[str]) -> None:
    """Both caches hold all the texts, and equal vectors within the promise for fp32."""
    mine, theirs = cached_vectors(cache, texts), cached_vectors(other, texts)
    assert set(mine) == set(theirs) == texts
    for text in texts:
        np.testing.assert_allclose(mine[text], theirs[text], rtol=0, atol=TOLERANCE)


def run_rows(run: Path) -> pd.DataFrame:
    """The rows of a run."""
    return Run.open(run).corpus()
