"""Rows on disk: the numbers of the file, each head as it is in memory, and every block read once in an epoch."""

from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from frozenhead.errors import RunDamaged
from frozenhead.heads import HEADS, DenseHead, MajorityHead, RidgeHead, SoftmaxHead, StoredRows, fit_many
from frozenhead.heads import blocks as blocks_module
from frozenhead.heads import stored as stored_module
from frozenhead.heads.randomness import Streams
from tests.heads.conftest import MakeRows, quick_head

EXACT = ["dense", "shuffled", "logreg", "svm", "knn"]
CLOSE = ["softmax", "ridge", "centroid"]
SUMS = 1e-5  # of probabilities whose sums were added in another order


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[..., StoredRows]:
    def store(X: NDArray[Any], **given: Any) -> StoredRows:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, X)
        return StoredRows(path, **given)

    return store


def made(n: int = 101, dim: int = 5, dtype: Any = np.float16) -> NDArray[Any]:
    return np.random.default_rng(0).normal(size=(n, dim)).astype(dtype)


# The rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_are_those_of_the_file_in_float32(on_disk: Callable[..., StoredRows], dtype: Any) -> None:
    X = made(dtype=dtype)
    rows, numbers = on_disk(X), np.array([100, 3, 3, 0, 57, 58])
    twice = np.array([3, 3, 5])  # as many as lie between the first and the last
    assert (rows.shape, len(rows), rows.size, rows.ndim, rows.dtype) == ((101, 5), 101, 505, 2, np.dtype(np.float32))
    for key in (slice(None), slice(7, 40), slice(90, 500), slice(5, 5), numbers, numbers[:0], twice):
        np.testing.assert_array_equal(rows[key], X[key].astype(np.float32))
        assert rows[key].dtype == np.float32


def test_every_float16_is_read_as_the_float32_that_it_is(on_disk: Callable[..., StoredRows]) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    numbers = every[~np.isnan(every)].reshape(-1, 2)
    np.testing.assert_array_equal(on_disk(numbers)[:], numbers.astype(np.float32))


def test_a_selection_is_that_of_an_array_and_so_is_a_selection_of_it(on_disk: Callable[..., StoredRows]) -> None:
    X, mask = made(), np.random.default_rng(1).random(101) < 0.5
    some = on_disk(X).select(mask)
    expected = X[mask].astype(np.float32)
    np.testing.assert_array_equal(some[3:20], expected[3:20])
    numbers = np.array([9, 2, 30])
    np.testing.assert_array_equal(some[numbers], expected[numbers])
    np.testing.assert_array_equal(some.select(numbers)[:], expected[numbers])
    assert some.shape == expected.shape


def test_rows_far_apart_are_read_without_what_lies_between(
    on_disk: Callable[..., StoredRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = stored_module._Matrix.read, []

    def counted(self: Any, start: int, stop: int) -> Any:
        seen.append(stop - start)
        return read(self, start, stop)

    monkeypatch.setattr(stored_module._Matrix, "read", counted)
    on_disk(made(1001))[np.array([0, 1000, 500, 502])]
    assert sorted(seen) == [1, 1, 3]


@pytest.mark.parametrize("key", [slice(0, 9, 2), np.ones(101, bool), np.zeros((2, 2), int), np.array([0.5])])
def test_other_keys_are_refused(on_disk: Callable[..., StoredRows], key: Any) -> None:
    with pytest.raises(IndexError, match="slice"):
        on_disk(made())[key]


@pytest.mark.parametrize("row", [-1, 101])
def test_a_row_that_is_not_there_is_refused(on_disk: Callable[..., StoredRows], row: int) -> None:
    with pytest.raises(IndexError, match="0 to 100"):
        on_disk(made())[np.array([row])]


@pytest.mark.parametrize(
    ("X", "found"),
    [
        (np.ones(3), r"\(3,\)"),
        (np.ones((2, 3), int), "int64"),
        (np.asfortranarray(np.ones((2, 3))), r"\(2, 3\)"),
        (np.ones((0, 3)), r"\(0, 3\)"),
    ],
)
def test_a_file_of_another_kind_is_refused(on_disk: Callable[..., StoredRows], X: NDArray[Any], found: str) -> None:
    with pytest.raises(ValueError, match=f"holds .*{found}"):
        on_disk(X)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_is_refused(tmp_path: Path, change: int) -> None:
    path = tmp_path / "x.npy"
    np.save(path, made())
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x")
    with pytest.raises(ValueError, match=f"has {len(data) + change:,} bytes"):
        StoredRows(path)
    path.write_bytes(b"no matrix at all")
    with pytest.raises(ValueError, match=r"not a \.npy file"):
        StoredRows(path)


def test_a_file_that_becomes_shorter_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, made())
    rows = StoredRows(path)
    with open(path, "r+b") as file:
        file.truncate(500)
    with pytest.raises(RunDamaged, match="became shorter"):
        rows[:]


def test_a_file_that_is_removed_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, made())
    rows = StoredRows(path)
    path.unlink()
    np.testing.assert_array_equal(rows[:], made().astype(np.float32))


def test_rows_that_are_not_finite_are_found(
    on_disk: Callable[..., StoredRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_module, "STRETCH", 50)  # ten rows
    X = made(dtype=np.float64)
    X[13, 2], X[55, 0], X[99, 4] = np.nan, -np.inf, 1e300  # the last is infinite in float32
    rows = on_disk(X)
    assert rows.not_finite().tolist() == [13, 55, 99]
    assert rows.select(np.arange(50, 101)).not_finite().tolist() == [5, 49]
    assert rows.select(np.arange(14, 50)).not_finite().tolist() == []


# The order


@pytest.mark.parametrize(("n", "block", "window"), [(1000, 16, 100), (1000, 7, 64), (999, 1, 10), (65, 64, 64)])
def test_an_order_in_blocks_has_each_row_once_and_few_blocks_in_a_window(n: int, block: int, window: int) -> None:
    order = Streams(3, 0.0).order(n, block=block, window=window).numpy()
    assert np.sort(order).tolist() == list(range(n))
    for start in range(0, n, window):
        assert len(np.unique(order[start : start + window] // block)) <= window / block + 2
    assert not (np.diff(order) == 1).all()


def test_the_order_is_another_in_each_epoch_and_the_same_for_a_seed() -> None:
    first, again = Streams(3, 0.0), Streams(3, 0.0)
    orders = [first.order(500, block=8, window=50).tolist() for _ in range(2)]
    assert orders[0] != orders[1]
    assert orders == [again.order(500, block=8, window=50).tolist() for _ in range(2)]


def test_where_a_window_holds_all_rows_the_order_is_that_in_memory() -> None:
    plain, windowed = Streams(3, 0.0), Streams(3, 0.0)
    assert plain.order(500).tolist() == windowed.order(500, block=8, window=500).tolist()


# Heads


@pytest.mark.parametrize("name", EXACT + CLOSE)
def test_a_head_on_stored_rows_is_the_head_in_memory(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(stored_module, "STRETCH", 64)
    X, y = make_rows(300, dim=6, classes=3)
    X = X.astype(np.float16).astype(np.float32)
    train = np.random.default_rng(0).random(300) < 0.7
    rows, labels = on_disk(X.astype(np.float16)), np.array(["a", "b", "c"], object)[y]
    stored, held = rows.select(train), rows.select(~train)
    plain = quick_head(name).fit(X[train], labels[train], validation=(X[~train], labels[~train]))
    head = quick_head(name).fit(stored, labels[train], validation=(held, labels[~train]))
    plain.calibrate(X[~train], labels[~train])
    head.calibrate(held, labels[~train])
    tolerance = SUMS if name in CLOSE else 1e-12
    np.testing.assert_allclose(head.predict_proba(held), plain.predict_proba(X[~train]), atol=tolerance)
    assert head.predict(held).tolist() == plain.predict(X[~train]).tolist()
    assert head.history_ == plain.history_


@pytest.mark.parametrize("name", [name for name, kind in HEADS.items() if kind.takes == "vectors"])
def test_stored_rows_are_checked_as_an_array_is(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows, name: str
) -> None:
    X, y = make_rows(40, dim=4)
    rows, head = on_disk(X), quick_head(name)
    with pytest.raises(ValueError, match="X has 40 rows and y 39 labels"):
        head.fit(rows, y[:39])
    head.fit(rows, y)
    with pytest.raises(ValueError, match=r"X has 3 columns; this head was fitted on 4\."):
        head.predict(on_disk(X[:, :3]))
    with pytest.raises(ValueError, match="0 rows"):
        head.predict(rows.select(np.zeros(40, bool)))
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="Row 7 holds NaN or infinity in X"):
        quick_head(name).fit(on_disk(X), y)


def test_which_heads_read_by_blocks() -> None:
    assert sorted(name for name, kind in HEADS.items() if not kind.copies) == [
        "centroid", "dense", "ridge", "shuffled", "softmax",
    ]  # fmt: skip
    assert MajorityHead.takes == "texts"


def test_a_dense_head_on_windows_is_that_of_memory_in_the_same_order(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_rows(210, dim=6, classes=3)
    head = DenseHead(hidden=(8,), epochs=3, batch_size=16, random_state=5)
    rows = on_disk(X, block=10, window=45)
    windowed = head.fit(rows, y, validation=(rows, y)).arrays()
    in_memory = DenseHead(**head.get_params()).fit(X, y, validation=(X, y)).arrays()
    assert not np.array_equal(windowed["w1"], in_memory["w1"])  # the order is another
    monkeypatch.setattr(Streams, "order", partialmethod(Streams.order, block=10, window=45))
    twin = DenseHead(**head.get_params()).fit(X, y, validation=(X, y)).arrays()
    assert all(np.array_equal(windowed[name], part) for name, part in twin.items())


def test_a_head_of_some_rows_on_windows_is_that_of_memory_in_the_same_order(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_rows(210, dim=6, classes=3)
    head, some = DenseHead(hidden=(8,), epochs=2, batch_size=16), [np.flatnonzero(np.arange(210) % 4)]
    (windowed,) = fit_many([head], on_disk(X, block=10, window=45), y, rows=some)
    monkeypatch.setattr(Streams, "order", partialmethod(Streams.order, block=10, window=45))
    (twin,) = fit_many([head], X, y, rows=some)
    assert windowed.head is not None
    assert twin.head is not None
    assert windowed.head.history_ == twin.head.history_


def test_each_block_is_read_once_in_an_epoch(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_rows(400, dim=4)
    rows = on_disk(X, block=20, window=100)
    rows.not_finite()
    read, seen = stored_module._Matrix.read, []

    def counted(self: Any, start: int, stop: int) -> Any:
        seen.append((start, stop))
        return read(self, start, stop)

    monkeypatch.setattr(stored_module._Matrix, "read", counted)
    DenseHead(hidden=(4,), epochs=1, batch_size=32).fit(rows, y)
    covered = np.concatenate([np.arange(*pair) for pair in seen])
    assert np.sort(covered).tolist() == list(range(400))
    assert max(stop - start for start, stop in seen) <= 100


def test_heads_stacked_on_stored_rows_are_those_trained_alone(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows
) -> None:
    X, y = make_rows(200, dim=4)
    rows = on_disk(X, block=10, window=60)
    subsets = [np.arange(0, 200, 2), np.arange(150)]
    heads = [DenseHead(hidden=(4,), epochs=2, random_state=s) for s in (1, 2)]
    together = {one.index: one.head for one in fit_many(heads, rows, y, rows=subsets, held=subsets[::-1])}
    for i, head in enumerate(heads):
        (alone,) = fit_many([head], rows, y, rows=[subsets[i]], held=[subsets[1 - i]])
        assert alone.head is not None
        found = together[i]
        assert found is not None
        assert found.history_ == alone.head.history_
        assert all(np.array_equal(a, b) for a, b in zip(found.coefs_, alone.head.coefs_, strict=True))


def test_views_may_be_stored_rows(on_disk: Callable[..., StoredRows], make_rows: MakeRows) -> None:
    X, y = make_rows(80, dim=4)
    views = [X + 0.1, X - 0.1]
    head = DenseHead(hidden=(4,), epochs=2)
    (plain,) = fit_many([head], X, y, views=views)
    (stored,) = fit_many([head], on_disk(X), y, views=[on_disk(view) for view in views])
    assert plain.head is not None
    assert stored.head is not None
    assert plain.head.history_ == stored.head.history_


@pytest.mark.parametrize("classes", [2, 5])
def test_softmax_by_blocks_reaches_the_loss_in_memory(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    X, y = make_rows(9000, dim=32, classes=classes)  # more than is solved in float64
    plain = SoftmaxHead(l2=1e-4).fit(X, y)
    monkeypatch.setattr(blocks_module, "NUMBERS", 2**10)  # 32 rows
    stored = SoftmaxHead(l2=1e-4).fit(on_disk(X), y)
    assert stored.loss_ == pytest.approx(plain.loss_, rel=1e-6)
    np.testing.assert_allclose(stored.predict_proba(X[:500]), plain.predict_proba(X[:500]), atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_ridge_from_stored_rows_is_scikit_learns(
    on_disk: Callable[..., StoredRows], make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    monkeypatch.setattr("frozenhead.heads.ridge.BLOCK", 100)
    X, y = make_rows(1500, dim=12, classes=4)
    X = X.astype(dtype)
    head = RidgeHead(alpha=3.0).fit(on_disk(X), y)
    weights = head.class_weights_[y]
    theirs = Ridge(alpha=3.0).fit(X.astype(np.float64), np.where(y[:, None] == np.arange(4), 1.0, -1.0), weights)
    np.testing.assert_allclose(head.coef_, theirs.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(head.intercept_, theirs.intercept_, rtol=1e-8)
