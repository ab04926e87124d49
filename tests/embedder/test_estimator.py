"""`Embedder` as a scikit-learn transformer."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

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


KINDS: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "object array": lambda t: np.array(t, dtype=object),
    "string array": np.array,
    "array of one column": lambda t: np.array(t, dtype=object)[:, None],
    "object series": lambda t: pd.Series(t, dtype=object),
    "string series": lambda t: pd.Series(t, dtype="string"),
    "series of pyarrow": lambda t: pd.Series(t, dtype="string[pyarrow]"),
    "series of an arrow type": lambda t: pd.Series(t, dtype=pd.ArrowDtype(pa.string())),
    "series with its own index": lambda t: pd.Series(t, index=[7, 3, 3, 0]),
    "categories": pd.Categorical,
    "index": pd.Index,
    "frame of one column": lambda t: pd.DataFrame({"text": t}),
    "pyarrow array": pa.array,
    "pyarrow chunks": lambda t: pa.chunked_array([t[:1], t[1:]]),
    "pyarrow large strings": lambda t: pa.array(t, pa.large_string()),
    "pyarrow views": lambda t: pa.array(t, pa.string_view()),
    "pyarrow dictionary": lambda t: pa.array(t).dictionary_encode(),
    "pyarrow table of one column": lambda t: pa.table({"text": t}),
    "iterator": iter,
    "generator": lambda t: (text for text in t),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_texts_of_any_kind_give_the_same_vectors(embedder: Embedder, kind: Any) -> None:
    expected = embedder.fit(kind(TEXTS)).transform(TEXTS)
    assert expected.shape == (4, 16)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(embedder.transform(kind(TEXTS)), expected)
    np.testing.assert_array_equal(embedder.fit_transform(kind(TEXTS)), expected)


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


MISSING: dict[str, Any] = {
    "None": ["a", None],
    "NaN": ["a", float("nan")],
    "pd.NA": ["a", pd.NA],
    "bytes": ["a", b"bytes"],
    "number": ["a", 3],
    "list": ["a", ["nested"]],
    "object array": np.array(["a", None], object),
    "object array of NaN": np.array(["a", np.nan], object),
    "object series": pd.Series(["a", None], index=[9, 8], dtype=object),
    "string series": pd.Series(["a", None], index=[9, 8], dtype="string"),
    "series of pyarrow": pd.Series(["a", None], dtype="string[pyarrow]"),
    "series of an arrow type": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
    "frame": pd.DataFrame({"text": ["a", None]}),
    "categories": pd.Categorical(["a", None]),
    "pyarrow array": pa.array(["a", None]),
    "pyarrow chunks": pa.chunked_array([["a"], [None]]),
}


@pytest.mark.parametrize("wrong", MISSING.values(), ids=MISSING)
def test_a_row_that_is_no_string_is_named(embedder: Embedder, wrong: Any) -> None:
    for method in (embedder.fit, embedder.transform, embedder.fit_transform):
        with pytest.raises(TypeError, match=r"Row 1 of X is .*; every row must be a string"):
            method(wrong)


NO_COLUMN: dict[str, Any] = {
    "str": ("one text", "one string; pass a list"),
    "bytes": (b"one text", "one string; pass a list"),
    "numpy's str": (np.str_("one text"), "one string; pass a list"),
    "None": (None, "X is a NoneType"),
    "number": (3, "X is a int"),
    "dict": ({"a": "b"}, "X is a dict"),
    "set": ({"a", "b"}, "X is a set"),
    "one text in an array": (np.array("one text"), r"shape \(\)"),
    "table": (np.array([["a", "b"], ["c", "d"]], object), r"shape \(2, 2\); pass one column"),
    "frame": (pd.DataFrame({"text": ["a"], "more": ["b"]}), r"shape \(1, 2\); pass one column"),
    "frame of no columns": (pd.DataFrame(index=[0, 1]), r"shape \(2, 0\); pass one column"),
    "pyarrow table": (pa.table({"text": ["a"], "more": ["b"]}), r"shape \(1, 2\); pass one column"),
    "three dimensions": (np.zeros((1, 1, 1)), r"shape \(1, 1, 1\)"),
}


@pytest.mark.parametrize(("wrong", "says"), NO_COLUMN.values(), ids=NO_COLUMN)
def test_what_is_not_one_column_of_texts_is_refused(embedder: Embedder, wrong: Any, says: str) -> None:
    for method in (embedder.fit, embedder.transform, embedder.fit_transform):
        with pytest.raises(TypeError, match=says):
            method(wrong)


def test_a_text_without_a_utf8_form_is_named(embedder: Embedder) -> None:
    for method in (embedder.fit, embedder.transform):
        with pytest.raises(DataError, match=r"Row 1 of X .*half a surrogate pair, '\\ud800', at character 3"):
            method(["fine", "ab\ud800c", "\udfff"])


def test_strange_texts_have_vectors_like_others(embedder: Embedder) -> None:
    strange = ["\u2603 \u2603", "\x07", "the\x1b[31m cat\u200b", "", " ", "\U0001f600"]
    vectors = embedder.transform(strange)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[:1], embedder.transform(strange[:1]), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_no_texts_give_no_vectors(embedder: Embedder, kind: Any) -> None:
    if kind is KINDS["pyarrow chunks"]:
        nothing: Any = pa.chunked_array([], pa.string())
    else:
        nothing = pd.Series([], dtype=object) if kind is KINDS["series with its own index"] else kind([])
    vectors = embedder.transform(nothing)
    assert vectors.shape == (0, 16)
    assert vectors.dtype == np.float32


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
    expected = embedder.transform(TEXTS)
    embedder.set_output(transform="pandas")
    for method in (embedder.transform, embedder.fit_transform):
        frame: Any = method(pd.Series(TEXTS, index=[7, 3, 3, 0]))
        assert list(frame.columns) == list(embedder.get_feature_names_out())
        assert frame.index.tolist() == [7, 3, 3, 0]
        np.testing.assert_array_equal(frame.to_numpy(), expected)
    np.testing.assert_array_equal(embedder.set_output(transform="default").transform(TEXTS), expected)


def test_the_same_texts_have_the_same_bits_each_time_and_in_any_estimator(embedder: Embedder) -> None:
    first = embedder.transform(TEXTS)
    np.testing.assert_array_equal(embedder.transform(TEXTS), first)
    np.testing.assert_array_equal(embedder.fit(["other texts"]).transform(TEXTS), first)
    other = clone(embedder).set_params(cache_dir=Path(embedder.cache_dir or "") / "other")
    np.testing.assert_array_equal(other.transform(TEXTS), first)


def test_what_is_returned_can_be_changed_without_changing_what_is_kept(embedder: Embedder) -> None:
    first = embedder.transform(TEXTS)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(embedder.transform(TEXTS), kept)


def test_nothing_is_learned_so_nothing_has_to_be_fitted(embedder: Embedder) -> None:
    check_is_fitted(embedder)
    stored = vars(embedder).copy()
    assert embedder.fit(TEXTS, [1, 0, 1, 0]) is embedder
    assert vars(embedder) == stored
    for learned in ("n_features_in_", "feature_names_in_"):  # rows are texts, not numbers in named columns
        assert not hasattr(embedder, learned)
    tags = get_tags(embedder)
    assert (tags.input_tags.string, tags.input_tags.two_d_array, tags.requires_fit) == (True, False, False)


def test_init_stores_what_it_is_given_and_takes_nothing_by_place(tiny_folder: Path) -> None:
    given = {"model": tiny_folder, "pooling": "nonsense", "layer": "x", "precision": 3}
    embedder = Embedder(**given)  # type: ignore[arg-type]
    assert {name: value for name, value in embedder.get_params().items() if name in given} == given
    assert vars(embedder) == embedder.get_params()
    with pytest.raises(TypeError, match="positional"):
        Embedder(tiny_folder, "mean")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="Invalid parameter 'poling'"):
        embedder.set_params(poling="cls")
    with pytest.raises(ValueError, match="Pooling 'nonsense'"):
        embedder.transform(TEXTS)


def test_what_scikit_learn_checks_of_a_transformer_of_texts_passes(embedder: Embedder) -> None:
    with pytest.warns(SkipTestWarning, match="Embedder which requires input"):
        results = check_estimator(embedder, on_fail="raise")
    assert [result["status"] for result in results] == ["passed"]


WORDS = [f"win free prize {word}" for word in "abcdefgh"] + [f"the cat sat on {word}" for word in "abcdefgh"]
LABELS = ["spam"] * 8 + ["ham"] * 8


def test_a_grid_search_over_poolings_embeds_each_text_once_per_pooling(embedder: Embedder) -> None:
    pipeline = Pipeline([("embed", embedder), ("head", SoftmaxHead(l2=1e-2))])
    search = GridSearchCV(pipeline, {"embed__pooling": ["mean", "cls", "pooler"]}, cv=2).fit(WORDS, LABELS)
    assert search.best_params_["embed__pooling"] in ("mean", "cls", "pooler")
    assert search.score(WORDS, LABELS) > 0.9
    spaces = VectorCache(embedder.cache_dir).spaces()
    assert sorted(space.rows for space in spaces) == [16, 16, 16]


def test_a_column_of_a_frame_is_embedded_beside_numbers(embedder: Embedder) -> None:
    frame = pd.DataFrame({"length": [1.0, 2.0, 3.0, 4.0], "text": TEXTS})
    vectors = embedder.transform(TEXTS)
    for column in ("text", ["text"]):
        both = ColumnTransformer([("text", embedder, column), ("rest", "passthrough", ["length"])])
        joined = both.fit_transform(frame)
        np.testing.assert_array_equal(joined[:, :16], vectors)
        np.testing.assert_array_equal(joined[:, 16], frame["length"])
        names = both.get_feature_names_out()
        assert (len(names), names[0], names[-1]) == (17, "text__embedder0", "rest__length")
        named = both.set_output(transform="pandas").fit_transform(frame)
        assert list(named.columns) == list(names)


def test_two_poolings_stand_side_by_side_in_a_union(embedder: Embedder) -> None:
    other = clone(embedder).set_params(pooling="cls")
    joined = FeatureUnion([("mean", embedder), ("cls", other)]).fit_transform(TEXTS)
    np.testing.assert_array_equal(joined, np.hstack([embedder.transform(TEXTS), other.transform(TEXTS)]))


def test_an_unknown_encoder_is_an_error_when_it_is_needed(tmp_path: Path) -> None:
    embedder = Embedder(tmp_path / "nowhere")
    with pytest.raises(EncoderNotFound):
        embedder.transform(TEXTS)


@pytest.mark.parametrize("head", [DenseHead(hidden=16, epochs=8), SoftmaxHead()])
def test_a_pipeline_works_under_cross_validation(embedder: Embedder, head: Any) -> None:
    scores = cross_val_score(Pipeline([("embed", embedder), ("head", head)]), WORDS, LABELS, cv=2)
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
