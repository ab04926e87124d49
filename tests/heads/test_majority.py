"""The floor says the commonest label of everything, and the labels' shares."""

from typing import Any

import numpy as np
import pytest

from frozenhead.heads import MajorityHead


def test_everything_gets_the_commonest_label_and_the_shares() -> None:
    head = MajorityHead().fit(["a", "b", "c", "d"], ["ham", "spam", "ham", "ham"])
    assert head.predict(["x", "y"]).tolist() == ["ham", "ham"]
    assert head.predict_proba(["x", "y"]).tolist() == [[0.75, 0.25], [0.75, 0.25]]
    assert head.class_weights_.tolist() == [1.0, 1.0]


def test_the_inputs_are_not_looked_at() -> None:
    y = [3, 1, 3]
    assert MajorityHead().fit([None, object(), "x"], y).predict([None]).tolist() == [3]
    assert np.array_equal(MajorityHead().fit(np.zeros((3, 2)), y).shares_, [1 / 3, 2 / 3])


def test_a_tie_goes_to_the_first_label_in_natural_order() -> None:
    assert MajorityHead().fit(["a", "b"], ["10", "9"]).predict(["x"]).tolist() == ["9"]


@pytest.mark.parametrize("y", [["a"], [0.5, 1.5], ["a", "a"]])
def test_wrong_labels_are_refused(y: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"2 rows and y 1 labels|Unknown label type|one class, 'a'"):
        MajorityHead().fit(["x", "y"], y)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MajorityHead().fit([], [])
