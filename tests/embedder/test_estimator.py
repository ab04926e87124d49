"""`Embedder` as a scikit-learn transformer."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline

from frozenhead import DenseHead, Embedder, SoftmaxHead
from frozenhead.cache import VectorCache
from frozenhead.embedder import estimator as estimator_module
from frozenhead.embedder.encoder import Encoder
from frozenhead.errors import DataError, EncoderNotFound
from tests.embedder.architectures import make

TEXTS = ["win a free prize", "the cat sat", "call now", "the dog ran on the mat"]


@pytest.fixture
def embedder(tiny_folder: Path, tmp_path: Path) -> Embedder:
    return Embedder(tiny_folder, pooling="mean", device="cpu", cache_dir=tmp_path / "cache")


def never_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Encoder:
        raise AssertionError("an encoder was about to be loaded")

    monkeypatch.setattr(estimator_module, "Encoder", refuse)


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        lambda t: np.array(t, dtype=object),
        np.array,
        pd.Series,
        lambda t: pd.Series(t, dtype="string"),
        iter,
    ],
)
def test_texts_of_any_kind_give_the_same_vectors(embedder: Embedder, kind: Any) -> None:
    expected = embedder.fit_transform(TEXTS)
    assert expected.shape == (4, 16)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(embedder.transform(kind(TEXTS)), expected)


def test_order_and_subset_change_nothing(embedder: Embedder) -> None:
    vectors = embedder.transform(TEXTS)
    np.testing.assert_array_equal(embedder.transform(TEXTS[::-1]), vectors[::-1])
    np.testing.assert_array_equal(embedder.transform([TEXTS[2], TEXTS[2]]), vectors[[2, 2]])


def test_neither_init_nor_fit_loads_an_encoder(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    never_load(monkeypatch)
    embedder.fit(TEXTS)
    with pytest.raises(AssertionError, match="loaded"):
        embedder.transform(TEXTS)


def test_a_clone_reads_from_the_cache_without_an_encoder(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = embedder.transform(TEXTS)
    never_load(monkeypatch)
    np.testing.assert_array_equal(clone(embedder).transform(TEXTS), expected)


def test_a_pickled_embedder_carries_no_weights(embedder: Embedder) -> None:
    expected = embedder.transform(TEXTS)
    data = pickle.dumps(embedder)  # as joblib does to send it to another process; nothing is ever kept so
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data).transform(TEXTS), expected)


def test_parameters_are_stored_as_given(embedder: Embedder) -> None:
    assert clone(embedder).get_params() == embedder.get_params()
    assert embedder.set_params(pooling="cls").pooling == "cls"


@pytest.mark.parametrize("wrong", [[None], ["a", float("nan")], [b"bytes"], [["nested"]]])
def test_a_row_that_is_no_string_is_named(embedder: Embedder, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"Row {len(wrong) - 1}"):
        embedder.transform(wrong)


def test_a_text_without_a_utf8_form_is_named(embedder: Embedder) -> None:
    for method in (embedder.fit, embedder.transform):
        with pytest.raises(DataError, match=r"Row 1 of X .*half a surrogate pair, '\\ud800', at character 3"):
            method(["fine", "ab\ud800c", "\udfff"])


def test_strange_texts_have_vectors_like_others(embedder: Embedder) -> None:
    strange = ["\u2603 \u2603", "\x07", "the\x1b[31m cat\u200b", "", " ", "\U0001f600"]
    vectors = embedder.transform(strange)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[:1], embedder.transform(strange[:1]), atol=1e-6)


def test_a_bare_string_is_refused(embedder: Embedder) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        embedder.transform("one text")


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.transform([]).shape == (0, 16)


def test_feature_names_count_the_numbers(embedder: Embedder) -> None:
    names = embedder.get_feature_names_out()
    assert (len(names), names[0], names[-1]) == (16, "embedder0", "embedder15")


@pytest.mark.parametrize(
    "given",
    [
        {"layer": -2},
        {"layer": 0},
        {"prefix": "call now: "},
        {"normalize": True},
        {"pooling": "auto"},
        {"pooling": "cls"},
    ],
)
def test_every_parameter_that_changes_vectors_changes_their_space(embedder: Embedder, given: dict[str, Any]) -> None:
    other = clone(embedder).set_params(**given)
    assert np.abs(other.transform(TEXTS) - embedder.transform(TEXTS)).max() > 0.01
    assert len(VectorCache(embedder.cache_dir).spaces()) == 2


def test_feature_names_count_the_numbers_of_four_layers(tmp_path: Path) -> None:
    embedder = Embedder(make(tmp_path / "bert", "bert"), pooling="last4", device="cpu", cache_dir=tmp_path / "cache")
    assert embedder.transform(TEXTS).shape == (4, len(embedder.get_feature_names_out())) == (4, 4 * 32)


def test_a_folder_whose_instructions_change_is_loaded_again(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "sentences"))
    modules = [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling")]
    (folder / "modules.json").write_text(json.dumps(modules))  # mean, as it is in the config.json that pooling reads
    embedder = Embedder(folder, pooling="auto", device="cpu", cache_dir=tmp_path / "cache")
    for length in (5, 4):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))
        expected = Embedder(
            tiny_folder, pooling="mean", max_length=length, device="cpu", cache_dir=tmp_path / "other"
        ).transform(TEXTS)
        np.testing.assert_array_equal(embedder.transform(TEXTS), expected)


def test_set_output_gives_a_frame(embedder: Embedder) -> None:
    frame = embedder.set_output(transform="pandas").fit_transform(TEXTS)
    assert list(frame.columns) == list(embedder.get_feature_names_out())


def test_an_unknown_encoder_is_an_error_when_it_is_needed(tmp_path: Path) -> None:
    embedder = Embedder(tmp_path / "nowhere")
    with pytest.raises(EncoderNotFound):
        embedder.transform(TEXTS)


@pytest.mark.parametrize("head", [DenseHead(hidden=16, epochs=8), SoftmaxHead()])
def test_a_pipeline_works_under_cross_validation(embedder: Embedder, head: Any) -> None:
    texts = [f"win free prize {word}" for word in "abcdefgh"] + [f"the cat sat on {word}" for word in "abcdefgh"]
    labels = ["spam"] * 8 + ["ham"] * 8
    scores = cross_val_score(Pipeline([("embed", embedder), ("head", head)]), texts, labels, cv=2)
    assert scores.mean() > 0.8


def test_a_checkpoint_edited_in_place_is_loaded_again(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(tiny_folder, tmp_path / "edited"))
    embedder = Embedder(folder, pooling="cls", device="cpu", cache_dir=tmp_path / "cache")
    before = embedder.transform(TEXTS)
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"] + np.float32(0.5)
    weights["encoder.layer.0.output.dense.bias"] = weights["encoder.layer.0.output.dense.bias"] + np.arange(
        16, dtype="f4"
    )
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    after = embedder.transform(TEXTS)
    assert np.abs(after - before).max() > 0.01
    fresh = Embedder(folder, pooling="cls", device="cpu", cache_dir=tmp_path / "other")
    np.testing.assert_array_equal(after, fresh.transform(TEXTS))
