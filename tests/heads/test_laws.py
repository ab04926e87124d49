"""What every head owes, whichever it is: labels, weights, names, memory, and rows it cannot take."""

import ast
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from frozenhead.heads import HEADS, DenseHead, Head, KnnHead, LogisticHead, RidgeHead, SoftmaxHead, SvmHead, TfidfHead
from frozenhead.heads.centroid import CentroidHead
from tests.heads.conftest import MakeRows, inputs_for, quick_head

ON_VECTORS = [name for name, kind in HEADS.items() if kind.takes == "vectors"]

# Heads that a row of weight w and w copies of it are the same for, made as exact as they can be.
EXACT: dict[str, Any] = {
    "logreg": lambda: LogisticHead(precision="float64", tol=1e-10),
    "svm": lambda: SvmHead(tol=1e-12),
    "ridge": RidgeHead,
    "centroid": CentroidHead,
    "euclidean": lambda: CentroidHead(metric="euclidean"),
    "majority": HEADS["majority"],
    "tfidf": lambda: TfidfHead(min_df=2, tol=1e-10),
}
SOLVED = 1e-6  # two runs of a solver to one optimum; for ridge, centroid and majority the last digits


LABELS: dict[str, Any] = {
    "int64": np.array([3, -1]),
    "int8": np.array([3, -1], np.int8),
    "uint8": np.array([3, 200], np.uint8),
    "bool": np.array([True, False]),
    "str": np.array(["ham", "spam"]),
    "objects": np.array(["ham", "spam"], object),
    "list of str": ["ham", "spam"],
    "list of int": [3, -1],
    "list of bool": [True, False],
    "list of numpy": [np.int64(3), 5],
    "series": pd.Series(["ham", "spam"]),
    "string series": pd.Series(["ham", "spam"], dtype="string"),
    "categories": pd.Series(pd.Categorical(["ham", "spam"])),
}


def labelled(labels: Any, y: NDArray[np.int64]) -> Any:
    """`labels[y]`, as the kind of thing that `labels` is."""
    if isinstance(labels, list):
        return [labels[i] for i in y]
    return labels.iloc[y] if isinstance(labels, pd.Series) else labels[y]


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name", HEADS)
def test_labels_come_back_as_they_were_given(name: str, labels: Any, make_rows: MakeRows) -> None:
    X, y = make_rows(30)
    given = labelled(labels, y)
    head = quick_head(name)
    inputs = inputs_for(head, X)
    predicted = head.fit(inputs, given, validation=(inputs, given)).predict(inputs)
    if isinstance(given, np.ndarray):
        assert predicted.dtype == given.dtype
    wanted = {type(label) for label in np.asarray(given).tolist()}
    assert {type(label) for label in predicted.tolist()} <= wanted
    assert set(predicted.tolist()) <= set(np.asarray(given).tolist())
    assert sorted(head.classes_.tolist()) == sorted(set(np.asarray(given).tolist()))


@pytest.mark.parametrize("kind", [str, object, "U4"])
@pytest.mark.parametrize("name", ["majority", "centroid", "softmax"])  # scikit-learn's own heads warn themselves
def test_many_classes_of_few_rows_are_not_taken_for_a_regression_if_they_are_words(name: str, kind: Any) -> None:
    head = quick_head(name)
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    words = np.array([f"c{i % 25}" for i in range(40)], dtype=kind)
    assert len(head.fit(inputs_for(head, X), words).classes_) == 25  # a warning would be an error
    with pytest.warns(UserWarning, match="regression"):
        head.fit(inputs_for(head, X), np.arange(40) % 25)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([1, "1", 1, "1"], r"1 \(number\) in row 0, '1' \(str\) in row 1"),
        (np.array(["a", "a", 2, "a"], object), r"'a' \(str\) in row 0, 2 \(number\) in row 2"),
        ([True, 1, False, 0], r"True \(bool\) in row 0, 1 \(number\) in row 1"),
        (["a", None, "a", "b"], r"'a' \(str\) in row 0, None \(NoneType\) in row 1"),
        (pd.Series(["a", pd.NA, "b", "b"], dtype="string"), r"<NA> \(NAType\) in row 1"),
        (["a", float("nan"), "b", "b"], r"nan \(number\) in row 1"),
    ],
)
@pytest.mark.parametrize("name", HEADS)
def test_labels_that_differ_in_type_are_refused(name: str, y: Any, says: str) -> None:
    head = quick_head(name)
    X = inputs_for(head, np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match=f"y mixes labels of several types: .*{says}"):
        head.fit(X, y)
    with pytest.raises(ValueError, match="y mixes labels"):
        head.fit(X, [0, 1, 0, 1], validation=(X, y))


@pytest.mark.parametrize("name", HEADS)
def test_other_names_of_the_labels_in_the_same_order_change_no_bit(name: str, make_rows: MakeRows) -> None:
    X, y = make_rows(40, classes=3)
    head, other = quick_head(name), quick_head(name)
    inputs = inputs_for(head, X)
    names = np.array(["ant", "bee", "cat"])
    numbers = head.fit(inputs, y).predict(inputs)
    assert other.fit(inputs, names[y]).predict(inputs).tolist() == names[numbers].tolist()
    assert np.array_equal(head.predict_proba(inputs), other.predict_proba(inputs))


@pytest.mark.parametrize("kind", EXACT)
def test_a_weight_is_a_number_of_copies(kind: str, make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=3, dim=4)
    times = np.random.default_rng(0).integers(0, 4, 60)
    weighted, copied = EXACT[kind](), EXACT[kind]()
    inputs = inputs_for(weighted, X)
    copies = [inputs[i] for i in np.arange(60).repeat(times)]
    weighted.fit(inputs, y, times)
    copied.fit(copies, y.repeat(times))
    np.testing.assert_allclose(weighted.predict_proba(inputs), copied.predict_proba(inputs), rtol=SOLVED, atol=1e-9)
    np.testing.assert_allclose(weighted.class_weights_, copied.class_weights_)
    unweighted = EXACT[kind]().fit(inputs, y)
    assert np.abs(unweighted.predict_proba(inputs) - weighted.predict_proba(inputs)).max() > 1e-3


@pytest.mark.parametrize("name", HEADS)
def test_a_row_of_weight_nothing_is_not_there(name: str, make_rows: MakeRows) -> None:
    X, y = make_rows(60, classes=3)
    kept = np.random.default_rng(0).random(60) < 0.7
    weighted, without = quick_head(name), quick_head(name)
    inputs = inputs_for(weighted, X)
    weighted.fit(inputs, y, kept.astype(float))
    without.fit([inputs[i] for i in np.flatnonzero(kept)], y[kept])
    assert np.array_equal(weighted.predict_proba(inputs), without.predict_proba(inputs))


@pytest.mark.parametrize("name", ON_VECTORS)
def test_a_read_only_memory_map_is_the_array_it_holds(name: str, make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(50, classes=3)
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    head, other = quick_head(name).fit(X, y, validation=(X, y)), quick_head(name).fit(mapped, y, validation=(mapped, y))
    assert np.array_equal(head.predict_proba(X), other.predict_proba(mapped))


@pytest.mark.parametrize("name", ON_VECTORS)
def test_a_row_that_is_not_finite_is_named(name: str, make_rows: MakeRows) -> None:
    X, y = make_rows(20)
    head = quick_head(name).fit(X, y)
    for wrong in (np.nan, np.inf, -np.inf):
        bad = X.copy()
        bad[[11, 17], 1] = wrong
        for refused in (
            lambda bad=bad: quick_head(name).fit(bad, y),
            lambda bad=bad: head.predict(bad),
            lambda bad=bad: quick_head(name).fit(X, y, validation=(bad, y)),
        ):
            with pytest.raises(ValueError, match="Row 11 holds NaN or infinity in X"):
                refused()


@pytest.mark.parametrize("name", HEADS)
def test_one_class_is_refused_and_one_row_of_a_class_is_learned(name: str) -> None:
    X = np.array([[0, 1, 0], [0, 2, 0], [1, 1, 0], [0, 1, 1], [0, 1, 2], [4, 0, 0]], np.float32)
    head = quick_head(name)
    inputs = inputs_for(head, X)
    with pytest.raises(ValueError, match=r"one class, 'a'; a classifier needs at least two"):
        head.fit(inputs, ["a"] * 6)
    with pytest.raises(ValueError, match=r"one class, 'a'"):  # the other class has no weight
        head.fit(inputs, ["a"] * 5 + ["b"], [1] * 5 + [0])
    probabilities = head.fit(inputs, ["a"] * 5 + ["b"]).predict_proba(inputs)
    assert probabilities.shape == (6, 2)
    with pytest.raises(ValueError, match="The validation labels 'c' do not occur in y"):
        quick_head(name).fit(inputs, ["a"] * 5 + ["b"], validation=(inputs, ["a"] * 5 + ["c"]))


@pytest.mark.parametrize("name", ON_VECTORS)
def test_vectors_that_are_all_the_same_get_one_answer(name: str) -> None:
    X = np.full((12, 3), 0.5, np.float32)
    probabilities = quick_head(name).fit(X, [0, 1, 1] * 4).predict_proba(X)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities, probabilities[[0] * 12], atol=1e-6)


# (40,000, 192) float32 is 31 MB. svm is left out: liblinear takes float64 rows only, so it copies them, and says so.
LARGE: dict[str, Head] = {
    "dense": DenseHead(hidden=4, epochs=1, batch_size=2000),
    "softmax": SoftmaxHead(l2=1e-2),
    "logreg": LogisticHead(C=1e-4),
    "ridge": RidgeHead(),
    "centroid": CentroidHead(metric="euclidean"),
    "knn": KnnHead(metric="euclidean"),
}


@pytest.fixture(scope="module")
def large(make_rows: MakeRows) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    X, y = make_rows(40_000, dim=192)
    X.flags.writeable = False  # as the cache gives them; knn copies what the caller could change
    return X, y


def peak(function: Any, *arguments: Any) -> int:
    """Bytes of numpy arrays at the highest point of a call, those before it apart."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", LARGE)
def test_float32_rows_are_not_copied_to_predict(name: str, large: Any) -> None:
    X, y = large
    head = LARGE[name].fit(X[:1000], y[:1000])
    assert peak(head.predict_proba, X) < X.nbytes


@pytest.mark.parametrize("name", [name for name in LARGE if name != "softmax"])
def test_float32_rows_are_not_copied_to_learn(name: str, large: Any) -> None:
    assert peak(LARGE[name].fit, *large) < large[0].nbytes


@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("majority", "shuffled")])
def test_every_option_stands_in_the_docstring_with_its_default(name: str) -> None:
    described = re.findall(r"^    ([\w, ]+) : (.+)$", (HEADS[name].__doc__ or "").split("Attributes")[0], re.M)
    defaults: dict[str, Any] = {}
    for names, kind in described:
        values = kind.split("default ")[1]
        several = "," in names  # eps, beta1, beta2 : float, default 1e-6, 0.9, 0.999
        for option, value in zip(names.split(", "), values.split(", ") if several else [values], strict=True):
            defaults[option] = ast.literal_eval(value)
    assert defaults == HEADS[name]().get_params()


@pytest.mark.parametrize(("trained", "validated"), [([0, 1], [False, True]), ([False, True], [0, 1])])
def test_validation_labels_are_of_the_type_that_was_fitted(trained: list[Any], validated: list[Any]) -> None:
    X = np.array([[0.0], [1.0]], np.float32)
    with pytest.raises(ValueError, match="several types"):
        quick_head("dense").fit(X, trained, validation=(X, validated))
