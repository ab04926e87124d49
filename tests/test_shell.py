"""Commands that we advise come back from a shell as they were, and hold nothing that a terminal obeys."""

import os
import shlex
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenhead.labels import visible
from frozenhead.shell import joined, quoted

BASH = shutil.which("bash")
HARD = [
    "a b",
    "it's",
    "\x1b[31m",
    "\u202egnp.exe\u202c",
    "a\n'b\\\t\r",
    "\x011",
    "\udcff.csv",
    "שלום",
    "$x `y` \x9b",
    "",
]


def read_by_bash(line: str) -> list[str]:
    """The words that bash makes of a line, in a locale that knows ASCII alone."""
    done = subprocess.run(
        [str(BASH), "--norc", "-c", b"printf '%s\\0' " + os.fsencode(line)],
        capture_output=True, check=True, env={"LC_ALL": "C"},
    )  # fmt: skip
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


@pytest.mark.skipif(BASH is None, reason="no bash")
@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_bash_reads_the_words_back(words: list[str]) -> None:
    assert read_by_bash(joined([*words, *HARD])) == [*words, *HARD]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_word_holds_nothing_that_a_terminal_obeys(word: str) -> None:
    for text in (quoted(word), visible(word).replace("\n", "")):
        assert {unicodedata.category(c) for c in text} & {"Cc", "Cs", "Zl", "Zp"} == set()
        assert not {c for c in text if unicodedata.category(c) == "Cf"} - {"\u200c", "\u200d"}


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_a_plain_word_is_quoted_as_python_does_and_shown_as_it_is(word: str) -> None:
    assert quoted(word) == shlex.quote(word)
    assert visible(f"{word}\n{word}") == f"{word}\n{word}"
