"""Labels are harmless wherever they are shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenhead.report.labels import shown


@given(st.text(alphabet=st.characters(), max_size=90), st.integers(2, 60))
def test_a_label_is_one_line_without_hidden_characters(text: str, width: int) -> None:
    line = shown(text, width=width)
    assert 0 < len(line) <= max(width, 1)
    assert len(line.splitlines()) == 1
    assert {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"} == set()
    assert {c for c in line if unicodedata.category(c) == "Cf"} <= {"\u200c", "\u200d"}
    line.encode("utf-8")


@pytest.mark.parametrize("text", ["ham", "a b", "😀 family 👨\u200d👩\u200d👧", "می\u200cخواهم", "中文", "x" * 60])
def test_a_plain_label_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "(empty)"), ("a\nb", "a\\nb"), ("\x1b[1m", "\\x1b[1m"), ("\u202ex", "\\u202ex"), ("y" * 61, "y" * 59 + "…")],
)
def test_what_is_hidden_or_too_long_is_seen(text: str, line: str) -> None:
    assert shown(text) == line
