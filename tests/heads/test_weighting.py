"""Class weights: scikit-learn's `balanced`, ones, or exactly what was given."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from frozenhead.heads.base import encode_labels
from frozenhead.heads.weighting import class_weights

CLASSES, CODES = np.array(["ham", "spam"]), np.array([0, 0, 0, 1])


@given(st.lists(st.integers(-5, 5), min_size=1))
def test_balanced_is_scikit_learns(labels: list[int]) -> None:
    y = np.array(labels)
    classes, codes = encode_labels(y)
    expected = compute_class_weight("balanced", classes=classes, y=y)
    assert np.array_equal(class_weights("balanced", classes, codes), expected)


def test_the_reference_weights_come_out() -> None:
    codes = np.repeat([0, 1], [3377, 523])  # the notebook's 3,900 training rows
    assert class_weights("balanced", np.array([0, 1]), codes).round(8).tolist() == [0.57743559, 3.72848948]


def test_a_mapping_is_taken_by_label_and_none_is_one() -> None:
    assert class_weights({"spam": 5, "ham": 0.5}, CLASSES, CODES).tolist() == [0.5, 5.0]
    assert class_weights(None, CLASSES, CODES).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("balance", r"'balance' \(did you mean 'balanced'\?\); choose 'balanced'"),
        ({"hm": 1.0, "spam": 1.0}, r"not a class: 'hm' \(did you mean 'ham'\?\)"),
        ({"ham": 1.0}, r"once; without a weight: 'spam'"),
        ({"ham": 1.0, "spam": 1.0, "egg": 1.0}, r"not a class: 'egg'\."),
        ({"ham": 0.0, "spam": 1.0}, "1e-30 to 1e30, got .* for the class 'ham'"),
        ({"ham": -1.0, "spam": 1.0}, "1e-30 to 1e30, got .* for the class 'ham'"),
        ({"ham": np.nan, "spam": 1.0}, "1e-30 to 1e30, got .* for the class 'ham'"),
        ({"ham": 10**400, "spam": 1.0}, "1e-30 to 1e30, got 1000"),
        ({"ham": True, "spam": 1.0}, "1e-30 to 1e30, got True"),
        ({"ham": np.inf, "spam": 1.0}, "1e-30 to 1e30, got .* for the class 'ham'"),
    ],
)
def test_a_wrong_weight_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        class_weights(wrong, CLASSES, CODES)


@given(st.lists(st.one_of(st.integers(-20, 20).map(str), st.sampled_from(["a", "B", ""])), min_size=1))
def test_codes_are_places_in_the_natural_order(labels: list[str]) -> None:
    classes, codes = encode_labels(np.array(labels))
    assert classes[codes].tolist() == labels
    numbers = all(label not in ("a", "B", "") for label in labels)
    assert classes.tolist() == sorted(set(labels), key=int if numbers else None)
