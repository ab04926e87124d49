"""The searches against a slow float64 twin, on vectors that are awkward in every way we know."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frozenhead.report import neighbours
from frozenhead.report.neighbours import mean_vector, nearest, nearest_above

TOLERANCE = 1e-9  # cosines are rounded to 9 decimals


def spread(rng: np.random.Generator, n: int, D: int) -> NDArray[np.float64]:
    return rng.standard_normal((n, D))


def clustered(rng: np.random.Generator, n: int, D: int) -> NDArray[np.float64]:
    """Five directions and a little noise: nearly every pair of a cluster is above the threshold."""
    return rng.standard_normal((5, D))[rng.integers(0, 5, n)] + 0.1 * rng.standard_normal((n, D))


def flat(rng: np.random.Generator, n: int, D: int) -> NDArray[np.float64]:
    """Far from the origin and with few strong directions, as pooled vectors are."""
    return 5 + rng.standard_normal((n, D)) * np.geomspace(3, 0.01, D)


SHAPES = [spread, clustered, flat]


def cosines(
    queries: NDArray[Any], base: NDArray[Any], centre: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """All cosines (q, n), the slow way; 0 for vectors of no length."""
    left, right = (one.astype(np.float64) - (0 if centre is None else centre) for one in (queries, base))
    lengths = np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    found = np.divide(left @ right.T, lengths, out=np.zeros(lengths.shape), where=lengths > 1e-9)
    return np.asarray(found.round(9), np.float64)


@pytest.fixture(params=[(8, 16, 1), (8, 16, -1), (512, 2048, 1)], ids=["few axes", "all axes", "one block"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("_QUERIES", "_BASE", "_FEW"), request.param, strict=True):
        monkeypatch.setattr(neighbours, name, value)


def planted(make: Callable[..., NDArray[np.float64]], dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """40 queries, of which 20 repeat rows of the base with growing noise, and a base of 150 with copies and zeros."""
    rng = np.random.default_rng(0)
    vectors = make(rng, 190, 200)
    base, queries = vectors[:150], vectors[150:]
    queries[:20] = base[:20] + np.linspace(0, 0.5, 20)[:, None] * rng.standard_normal((20, 200))
    base[100:110], base[110], queries[39] = base[0], 0, 0
    base[120:125], base[125:130] = 2 * base[1], base[2] / 2  # other bits, the same cosines
    queries[30], queries[31] = queries[2], queries[25]
    return queries.astype(dtype), base.astype(dtype)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("make", SHAPES)
def test_the_nearest_are_those_of_all_cosines(make: Callable[..., NDArray[np.float64]], dtype: str) -> None:
    queries, base = planted(make, dtype)
    expected = cosines(queries, base)
    indices, found = nearest(queries, base, k=5)
    order = np.lexsort((np.broadcast_to(np.arange(150), expected.shape), -expected))[:, :5]
    order[39] = np.arange(5)  # zeros: all alike
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(found, np.take_along_axis(expected, order, 1), rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.8, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("make", SHAPES)
def test_no_pair_above_the_threshold_is_missed_and_none_below_it_is_given(
    make: Callable[..., NDArray[np.float64]], threshold: float, centred: bool
) -> None:
    queries, base = planted(make, "float32")
    centre = mean_vector(base, np.arange(150)) if centred else None
    expected = cosines(queries, base, centre)
    above = expected.max(axis=1) >= threshold
    indices, found = nearest_above(queries, base, threshold=threshold, centre=centre)
    np.testing.assert_array_equal(indices, np.where(above, expected.argmax(axis=1), -1))  # argmax: of equals the first
    np.testing.assert_allclose(found, np.where(above, expected.max(axis=1), 0), rtol=0, atol=TOLERANCE)


def test_a_threshold_between_two_close_cosines_parts_them() -> None:
    base = np.zeros((1, 300), np.float64)
    base[0, 0] = 1
    queries = np.zeros((2, 300))
    for row, cosine in enumerate((0.95 + 1e-7, 0.95 - 1e-7)):
        queries[row, :2] = cosine, np.sqrt(1 - cosine**2)
    assert nearest_above(queries, base, threshold=0.95)[0].tolist() == [0, -1]


@pytest.mark.parametrize("make", [spread, flat])
def test_few_axes_rule_out_most_pairs_and_tight_clusters_take_all(make: Callable[..., NDArray[np.float64]]) -> None:
    rng = np.random.default_rng(1)
    for one, fewer in ((make, True), (clustered, False)):
        vectors = one(rng, 1200, 384)
        vectors -= vectors.mean(axis=0)
        asked, sought = (neighbours._Units(vectors, rows, None) for rows in np.split(np.arange(1200), [200]))
        axes = neighbours._axes(asked, sought, 0.95)
        assert (axes.shape[1] < 384 / 4) == fewer
        np.testing.assert_allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-12)


def test_the_order_of_the_rows_changes_only_their_places() -> None:
    queries, base = planted(flat, "float16")
    shuffled = np.random.default_rng(2).permutation(150)
    some, others = base, base[shuffled]
    np.testing.assert_array_equal(nearest(queries, some, k=3)[1], nearest(queries, others, k=3)[1])
    before, after = (nearest_above(queries, one, threshold=0.9)[1] for one in (some, others))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("value", [0.0, 3.7])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_constant_vectors_less_their_mean_have_no_direction(value: float, dtype: str) -> None:
    vectors = np.full((30, 16), value, dtype)
    centre = mean_vector(vectors, np.arange(30))
    indices, found = nearest(vectors, vectors, k=2, centre=centre)
    assert indices.tolist() == [[0, 1]] * 30
    assert not found.any()
    assert (nearest_above(vectors, vectors, threshold=0.5, centre=centre)[0] == -1).all()


def test_a_float16_within_its_own_rounding_of_the_centre_has_no_direction() -> None:
    centre = np.random.default_rng(0).normal(size=64) + 3
    rounded = centre[None].astype(np.float16)
    assert nearest(rounded, rounded, k=1, centre=centre)[1].item() == 0


def test_a_memory_map_does_as_well(tmp_path: Path) -> None:
    queries, base = planted(spread, "float16")
    np.save(tmp_path / "base.npy", base)
    mapped = np.load(tmp_path / "base.npy", mmap_mode="r")
    for of_map, of_array in zip(nearest(queries, mapped, k=2), nearest(queries, base, k=2), strict=True):
        np.testing.assert_array_equal(of_map, of_array)


@pytest.mark.parametrize(("q", "n"), [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_nothing_to_ask_or_to_find_is_no_error(q: int, n: int) -> None:
    queries, base = np.ones((q, 8), np.float32), np.ones((n, 8), np.float32)
    assert nearest(queries, base, k=3)[0].shape == (q, min(3, n))
    assert nearest_above(queries, base, threshold=0.9)[0].tolist() == [0 if n else -1] * q


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_its_number(bad: float) -> None:
    base = np.ones((9, 8), np.float32) * np.arange(1, 10)[:, None]
    base[6, 2] = bad
    with pytest.raises(ValueError, match="vector 6 holds NaN or infinity"):
        nearest(base[:2], base, k=1)
    with pytest.raises(ValueError, match="vector 6 holds NaN or infinity"):
        nearest_above(base[:2], base, threshold=0.9)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_is_no_cosine_above_0_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="the threshold is"):
        nearest_above(np.ones((1, 2)), np.ones((1, 2)), threshold=threshold)
