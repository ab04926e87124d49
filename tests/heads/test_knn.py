"""The neighbours are scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from frozenhead.heads import KnnHead
from tests.heads.conftest import MakeRows

FLOAT32 = 1e-5  # distances of float32 vectors, by two ways for the cosine


def shares(head: KnnHead, X: Any) -> NDArray[np.float64]:
    """Shares of the votes (N, K), from the probabilities."""
    return (head.predict_proba(X) * (head.k + 1) - 1 / len(head.classes_)) / head.k


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 4, 15])
def test_it_is_scikit_learns(make_rows: MakeRows, k: int, metric: Any, weights: Any) -> None:
    X, y = make_rows(200, classes=3, dim=5)
    new, _ = make_rows(300, classes=3, dim=5, seed=1)
    theirs = KNeighborsClassifier(k, metric=metric, weights=weights, algorithm="brute").fit(X, y)
    ours = KnnHead(k=k, metric=metric, weights=weights, class_weight=None).fit(X, y)
    np.testing.assert_allclose(shares(ours, new), theirs.predict_proba(new), rtol=FLOAT32, atol=FLOAT32)


def test_votes_are_weighted_by_row_and_class() -> None:
    X = np.array([[0.0], [1.0], [2.0]])
    head = KnnHead(k=3, metric="euclidean").fit(X, [0, 0, 1])  # balanced: 3/4, 3/4 and 3/2
    np.testing.assert_allclose(shares(head, [[0.0]]), [[0.5, 0.5]], rtol=1e-14)
    given = KnnHead(k=3, metric="euclidean", class_weight=None).fit(X, [0, 0, 1], [1, 2, 5])
    np.testing.assert_allclose(shares(given, [[0.0]]), [[3 / 8, 5 / 8]], rtol=1e-14)


def test_only_rows_at_no_distance_vote_where_there_are_some() -> None:
    X = np.array([[0.0], [0.0], [1.0]])
    head = KnnHead(k=3, metric="euclidean", weights="distance", class_weight=None).fit(X, [0, 1, 1])
    assert head.predict_proba([[0.0]]).tolist() == [[0.5, 0.5]]
    np.testing.assert_allclose(shares(head, [[0.5]]), [[1 / 3, 2 / 3]], rtol=1e-6)


def test_a_class_without_neighbours_is_unlikely_and_not_impossible(make_rows: MakeRows) -> None:
    X, y = make_rows(200, classes=3, dim=5)
    probabilities = KnnHead(k=4).fit(X, y).predict_proba(X)
    assert probabilities.min() == pytest.approx(1 / (3 * 5), rel=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_what_happens_to_the_training_rows_later_does_not_matter(make_rows: MakeRows) -> None:
    X, y = make_rows(40)
    for metric in ("cosine", "euclidean"):
        rows = X.copy()
        head = KnnHead(metric=metric).fit(rows, y)
        before = head.predict_proba(X)
        rows[:] = 7
        assert np.array_equal(head.predict_proba(X), before)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"k": 2.0}, "k must be a whole number"),
        ({"k": 10}, "k is 10, but there are only 9 training rows"),
        ({"metric": "euclid"}, r"did you mean 'euclidean'"),
        ({"weights": "distances"}, r"did you mean 'distance'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(given: dict[str, Any], says: str, make_rows: MakeRows) -> None:
    with pytest.raises(ValueError, match=says):
        KnnHead(**given).fit(*make_rows(9))
