"""The draw is scikit-learn's, row for row and in its order."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from frozenhead.corpus.drawing import draw_stratified


@given(data=st.data(), counts=st.lists(st.integers(2, 40), min_size=2, max_size=9), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=200)
def test_the_draw_is_that_of_train_test_split(data: Any, counts: list[int], seed: int) -> None:
    classes = np.repeat(np.arange(len(counts)), counts)
    np.random.RandomState(seed % 97).shuffle(classes)
    size = data.draw(st.integers(len(counts), len(classes) - len(counts)))
    _, expected = train_test_split(np.arange(len(classes)), test_size=size, random_state=seed, stratify=classes)
    assert draw_stratified(classes, size, seed=seed).tolist() == expected.tolist()


def test_many_classes_are_drawn_alike() -> None:
    classes = np.random.RandomState(0).randint(0, 70_000, 400_000)  # more than 16 bits tell apart
    classes = classes[np.bincount(classes)[classes] > 1]
    for share in (0.3, 0.5):
        size = int(share * len(classes))
        _, expected = train_test_split(np.arange(len(classes)), test_size=size, random_state=1, stratify=classes)
        np.testing.assert_array_equal(draw_stratified(classes, size, seed=1), expected)


def test_absent_classes_change_nothing() -> None:
    classes = np.array([3, 9, 3, 9, 9, 3, 3, 9])
    np.testing.assert_array_equal(
        draw_stratified(classes, 4, seed=5), draw_stratified((classes == 9).astype(int), 4, seed=5)
    )
