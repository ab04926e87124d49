"""A saved head is two files; loaded, it predicts the same bits; altered, it is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from frozenhead.errors import FormatRefused, RunDamaged, StorageError
from frozenhead.heads import HEADS, DenseHead, Head, LogisticHead, load_head, save_head
from frozenhead.heads.saving import DESCRIPTION, WEIGHTS, read_description
from tests.heads.conftest import MakeRows, inputs_for, quick_head

NAMES = np.array(["bee", "ant", "çédille \u2603"])
LABELS = {
    "int": np.array([2, -1, 10]),
    "float": np.array([2.0, -1.0, 10.0]),
    "bool": np.array([False, True]),
    "str": np.array(["2", "10", "9"]),
    "words": NAMES,
    "objects": NAMES.astype(object),
}


@pytest.fixture
def saved(make_rows: MakeRows, tmp_path: Path) -> Path:
    X, y = make_rows(30)
    save_head(quick_head("dense").fit(X, NAMES[y]), tmp_path)
    return tmp_path


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_a_loaded_head_predicts_the_same_bits(name: str, classes: int, make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(40, classes=classes)
    head = quick_head(name)
    inputs = inputs_for(head, X)
    head.fit(inputs, NAMES[y], validation=(inputs, NAMES[y]))
    save_head(head, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {DESCRIPTION, WEIGHTS}
    loaded = load_head(tmp_path)
    assert type(loaded) is type(head)
    assert loaded.get_params() == head.get_params()
    assert loaded.best_epoch_ == head.best_epoch_
    assert np.array_equal(loaded.class_weights_, head.class_weights_)
    assert np.array_equal(loaded.predict_proba(inputs), head.predict_proba(inputs))
    assert loaded.predict(inputs).tolist() == head.predict(inputs).tolist()
    assert np.array_equal(loaded.predict_proba(inputs[:1]), head.predict_proba(inputs[:1]))
    refitted = clone(loaded).fit(inputs, NAMES[y], validation=(inputs, NAMES[y]))
    assert np.array_equal(refitted.predict_proba(inputs), head.predict_proba(inputs))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_come_back_as_given(labels: Any, make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(40, classes=len(labels))
    head = LogisticHead().fit(X, labels[y])
    save_head(head, tmp_path)
    for fitted in (head, load_head(tmp_path)):
        predicted = fitted.predict(X).tolist()
        assert {type(label) for label in predicted} == {type(labels.tolist()[0])}
        assert np.mean(np.array(predicted) == labels[y]) > 0.5
    assert load_head(tmp_path).classes_.tolist() == head.classes_.tolist()


def test_a_mapping_of_weights_and_numpys_numbers_come_back(make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(30)
    head = DenseHead(hidden=np.int64(3), epochs=2, class_weight={np.int64(1): 2, 0: 0.25})  # type: ignore[arg-type]
    save_head(head.fit(X, y), tmp_path)
    loaded = load_head(tmp_path)
    assert loaded.get_params() == head.get_params()
    assert np.array_equal(clone(loaded).fit(X, y).predict_proba(X), head.predict_proba(X))


def test_a_loaded_head_checks_its_vectors(saved: Path) -> None:
    with pytest.raises(ValueError, match="4 features"):
        load_head(saved).predict(np.ones((2, 4)))


def test_facts_stand_beside_the_heads_own_values(make_rows: MakeRows, tmp_path: Path) -> None:
    X, y = make_rows(30)
    head = LogisticHead().fit(X, y)
    save_head(head, tmp_path, facts={"space": {"b": 1, "a": [1.5, None]}, "seed": 2018})
    description = read_description(tmp_path)
    assert (description["space"], description["seed"]) == ({"b": 1, "a": [1.5, None]}, 2018)
    assert (description["head"], description["classes"]) == ("logreg", [0, 1])
    load_head(tmp_path)
    for name in ("format", "classes", "weights_sha256"):
        with pytest.raises(ValueError, match=name):
            save_head(head, tmp_path, facts={name: 1})


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
def test_any_altered_byte_is_refused(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    refused = 0
    for i in range(0, len(whole), max(1, len(whole) // 150)):
        (saved / name).write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            load_head(saved)
        except (RunDamaged, FormatRefused):
            refused += 1
        else:  # white space between JSON's words says nothing
            assert name == DESCRIPTION
            assert json.loads((saved / name).read_bytes()) == json.loads(whole)
    assert refused > 100
    (saved / name).write_bytes(whole)
    load_head(saved)


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
@pytest.mark.parametrize("content", [None, b"", b"garbage", b"[]", b"null", b'{"format": 1}', b"\xff\xfe"])
def test_a_missing_or_foreign_file_is_refused(saved: Path, name: str, content: bytes | None) -> None:
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_bytes(content)
    with pytest.raises(RunDamaged, match="Run `frozenhead fit` again"):
        load_head(saved)


def test_weights_of_another_head_are_refused(saved: Path, make_rows: MakeRows, tmp_path_factory: Any) -> None:
    X, y = make_rows(30, seed=1)
    other = tmp_path_factory.mktemp("other")
    save_head(quick_head("dense").fit(X, NAMES[y]), other)
    (saved / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(RunDamaged, match=WEIGHTS):
        load_head(saved)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_refused(saved: Path, number: object) -> None:
    description = json.loads((saved / DESCRIPTION).read_bytes())
    (saved / DESCRIPTION).write_text(json.dumps(description | {"format": number}))
    with pytest.raises(FormatRefused, match=f"format {number}; this frozenhead reads format 1"):
        load_head(saved)


def test_a_folder_that_is_not_there_is_a_storage_error(make_rows: MakeRows, tmp_path: Path) -> None:
    head: Head = LogisticHead().fit(*make_rows(30))
    with pytest.raises(StorageError):
        save_head(head, tmp_path / "absent")
