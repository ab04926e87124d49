"""The sanity floor sees the same rows and labels, but never a row with its own label."""

import numpy as np
import pytest

from frozenhead.heads import DenseHead, ShuffledHead
from tests.heads.conftest import MakeRows


def test_it_learns_nothing_from_what_the_dense_head_learns_well(make_rows: MakeRows) -> None:
    X, y = make_rows(400, dim=20)
    new, new_y = make_rows(400, dim=20, seed=1)
    options = {"hidden": 16, "epochs": 5}
    assert DenseHead(**options).fit(X, y).score(new, new_y) > 0.95  # type: ignore[arg-type]
    scores = [
        ShuffledHead(random_state=seed, **options).fit(X, y, validation=(new, new_y)).score(new, new_y)  # type: ignore[arg-type]
        for seed in range(5)
    ]
    assert 0.2 < np.mean(scores) < 0.8
    assert len(set(scores)) > 1


def test_it_is_the_dense_head_on_permuted_labels(make_rows: MakeRows) -> None:
    X, y = make_rows(50, classes=3)
    new, new_y = make_rows(30, classes=3, seed=1)
    times = np.arange(50) % 3 + 1
    head = ShuffledHead(hidden=4, epochs=2, random_state=7).fit(X, y, times, validation=(new, new_y))
    seed = np.random.default_rng([7, 1])
    # Sample weights stay with the rows; the class weights are those of the labels before.
    weights = dict(enumerate(head.class_weights_))
    dense = DenseHead(hidden=4, epochs=2, random_state=7, class_weight=weights)
    dense.fit(X, seed.permutation(y), times, validation=(new, seed.permutation(new_y)))
    np.testing.assert_allclose(head.predict_proba(X), dense.predict_proba(X), rtol=1e-5)
    ours, theirs = ([epoch["val_loss"] for epoch in fitted.history_] for fitted in (head, dense))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_it_takes_what_the_dense_head_takes() -> None:
    assert ShuffledHead().get_params() == DenseHead().get_params()
    with pytest.raises(ValueError, match="seed"):
        ShuffledHead(random_state=-1).fit([[0.0], [1.0]], [0, 1])
