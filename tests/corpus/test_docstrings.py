"""The demo corpus: found, parsed, never imported; labelled by package, the same every time."""

import gc
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from frozenhead.corpus import CorpusOptions, load_corpus
from frozenhead.corpus.docstrings import PACKAGES, docstring_corpus, package_docstrings, source_docstrings
from frozenhead.errors import UsageError

SOURCE = b'''
"""The module's own docstring is not taken."""

def add(a, b):
    """Add   two numbers,
    however large they are.

    A second paragraph is left out.
    """
    def inner():
        """Functions inside functions are not public."""

def _hidden():
    """A private function's docstring is not taken."""

class Adder:
    """Adds whatever it is given, one by one."""

    async def feed(self):
        r"""Give it one more number: \\d."""

    def _forget(self):
        """A private method's docstring is not taken."""

    def short(self):
        """Too short to use."""

    class Nested:
        """A class inside a class is not taken either."""

class _Hidden:
    def public(self):
        """A public method of a private class is not taken."""

def odd():
    """A bell \\a in the paragraph keeps it out."""

def long():
    """%s"""
''' % (b"x" * 401)


@pytest.fixture(scope="module")
def corpus() -> pd.DataFrame:
    return docstring_corpus()


def test_only_first_paragraphs_of_public_names_are_taken() -> None:
    assert list(source_docstrings(SOURCE)) == [
        "Add two numbers, however large they are.",
        "Adds whatever it is given, one by one.",
        r"Give it one more number: \d.",
    ]


@pytest.mark.parametrize("source", [b"def f(:\n", b"\xff\xfe", b"x = 0\0", b"# coding: utf-9\n"])
def test_a_file_that_does_not_parse_gives_nothing(source: bytes) -> None:
    assert list(source_docstrings(source)) == []


def test_a_files_own_warnings_stay_inside() -> None:
    source = b'x = "\\d" is 1\ndef f():\n    """A docstring with an escape \\d in it."""\n'
    assert list(source_docstrings(source)) == [r"A docstring with an escape \d in it."]


def test_tests_and_code_of_others_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a", "tests", "externals", "_vendor"):
        folder = tmp_path / "tests" / "found_by_spec" / name
        folder.mkdir(parents=True)
        (folder / "code.py").write_text(f'def f():\n    """A docstring found in folder {name}."""\nraise ValueError\n')
    (tmp_path / "tests" / "found_by_spec" / "__init__.py").write_text("raise ValueError\n")
    monkeypatch.syspath_prepend(tmp_path / "tests")
    assert list(package_docstrings("found_by_spec")) == [f"A docstring found in folder {name}." for name in "ab"]


def test_the_draw_has_its_rows_and_enough_of_every_class(corpus: pd.DataFrame) -> None:
    assert list(corpus.columns) == ["text", "package"]
    assert len(corpus) == 3000
    counts = corpus["package"].value_counts()
    assert len(counts) == len(PACKAGES)
    assert "scikit-learn" in counts
    assert counts.min() >= 20
    assert counts.max() > 3 * counts.min()  # imbalanced as found
    assert corpus["text"].str.len().between(20, 400).all()
    assert corpus["text"].duplicated().any()


def test_the_draw_can_be_split(corpus: pd.DataFrame, tmp_path: Path) -> None:
    corpus.to_csv(tmp_path / "demo.csv", index=False)
    loaded = load_corpus(tmp_path / "demo.csv", CorpusOptions(text="text", label="package", group_duplicates=True))
    assert loaded.frame["text"].tolist() == corpus["text"].tolist()


def test_a_seed_gives_one_draw() -> None:
    first, again, other = (docstring_corpus(rows=50, seed=seed, packages=("joblib", "jinja2")) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert first["text"].tolist() != other["text"].tolist()


def test_packages_are_read_without_being_imported() -> None:
    code = (
        "import sys; from frozenhead.corpus.docstrings import docstring_corpus;"
        "docstring_corpus(rows=50, packages=('joblib', 'jinja2'));"
        "sys.exit(int('joblib' in sys.modules or 'jinja2' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_absent_package_and_too_many_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="No package 'absent_package'"):
        docstring_corpus(packages=("absent_package",))
    with pytest.raises(UsageError, match="Cannot draw 100000 docstrings: joblib hold"):
        docstring_corpus(rows=100_000, packages=("joblib",))
    assert gc.isenabled()
