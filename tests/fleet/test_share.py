"""Shares of the keys."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.cache import text_keys
from frozenhead.cache.keys import key_shares
from frozenhead.errors import UsageError
from frozenhead.fleet import Share


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20), n=st.integers(1, 10**6))
def test_a_share_is_the_first_eight_bytes_of_the_hash_modulo_n(texts: list[str], n: int) -> None:
    expected = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % n for text in texts]
    shares = key_shares(text_keys(texts), n)
    assert shares.tolist() == expected
    assert shares.dtype == np.int64


@given(n=st.integers(1, 40))
def test_every_row_belongs_to_exactly_one_share_and_copies_to_the_same(n: int) -> None:
    keys = text_keys([f"text {i % 60}" for i in range(100)])
    rows = [Share(index=i, of=n).rows(keys) for i in range(n)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(100))
    owner = {int(row): i for i in range(n) for row in rows[i]}
    assert all(owner[row] == owner[row + 60] for row in range(40))
    assert all((np.diff(part) > 0).all() for part in rows)


def test_shares_of_many_keys_are_even() -> None:
    counts = np.bincount(key_shares(text_keys(map(str, range(40_000))), 8), minlength=8)
    assert abs(counts - 5000).max() < 5 * np.sqrt(5000)  # five standard deviations of a fair draw


@pytest.mark.parametrize("text", ["0/1", "3/4", " 2/10 ", "007/12"])
def test_a_share_is_read_as_it_is_written(text: str) -> None:
    index, of = map(int, text.split("/"))
    assert Share.parse(text) == Share(index=index, of=of)
    assert str(Share.parse(text)) == f"{index}/{of}"


@pytest.mark.parametrize(
    "text", ["4/4", "0/0", "a/b", "1", "1/", "/4", "-1/4", "1/2/3", "1.0/2", "", "0/1000001", "٣/٤"]
)
def test_what_is_no_share_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"0/\d+"):
        Share.parse(text)
