"""Copies are found by exact equality, checked against plain loops."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.corpus.duplicates import count_conflicts, leaked, most_common_label, renumbered, text_codes

ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "A", "a ", "b", ""]), st.integers(0, 3), st.sampled_from(["train", "val", "test"])),
    min_size=1,
    max_size=30,
)


@given(rows=ROWS)
def test_the_arrays_say_what_plain_loops_say(rows: list[tuple[str, int, str]]) -> None:
    texts, labels, splits = (list(column) for column in zip(*rows, strict=True))
    distinct = list(dict.fromkeys(texts))
    counts = {text: Counter(label for other, label, _ in rows if other == text) for text in distinct}
    common = [max(sorted(counts[text]), key=counts[text].__getitem__) for text in distinct]
    trained = {text for text, _, split in rows if split == "train"}

    codes, classes = text_codes(texts), np.array(labels, dtype=np.int64)
    assert codes.tolist() == [distinct.index(text) for text in texts]
    assert most_common_label(codes, classes).tolist() == common
    assert count_conflicts(codes, classes) == sum(len(each) > 1 for each in counts.values())
    given = np.array(splits)
    marked = leaked(codes, source=given == "train", into=given == "test")
    assert marked.tolist() == [split == "test" and text in trained for text, _, split in rows]


@given(codes=st.lists(st.integers(0, 9), max_size=20))
def test_numbers_are_given_anew_in_order_of_first_appearance(codes: list[int]) -> None:
    distinct = list(dict.fromkeys(codes))
    assert renumbered(np.array(codes, np.int64)).tolist() == [distinct.index(code) for code in codes]
