"""A corpus that every installation has: docstrings of the packages it depends on, labelled by package.

Sources are found and parsed, never imported. Imports errors only.
"""

import ast
import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frozenhead.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("huggingface_hub", "jinja2", "joblib", "matplotlib", "numpy", "pandas", "rich", "scipy", "sklearn")

_DISTRIBUTIONS = {"sklearn": "scikit-learn", "huggingface_hub": "huggingface-hub"}
_SHORTEST, _LONGEST = 20, 400  # characters

# Tests, and code of others that lives inside a package, would teach the wrong label.
_SKIPPED = frozenset({
    "test", "tests", "testing", "_testing", "_test_common",
    "_vendor", "_vendored", "vendor", "vendored", "extern", "externals",
    "array_api_compat", "array_api_extra", "_uarray", "cobyqa", "pyprima",
})  # fmt: skip

_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def docstring_corpus(*, rows: int = 3000, seed: int = 2018, packages: Sequence[str] = PACKAGES) -> "pd.DataFrame":
    """First paragraphs of public docstrings, imbalanced and with copies as they are found.

    Parameters
    ----------
    rows
        How many to draw, without replacement, from everything found.
    seed
        Of the draw; one set of installed versions gives one corpus.
    packages
        Import names of installed packages.

    Returns
    -------
    DataFrame (rows, 2)
        `text`, 20 to 400 characters on one line, and `package`, the name on the package index; object columns.

    Raises
    ------
    UsageError
        A package is not installed, or fewer than `rows` docstrings were found.
    """
    import pandas as pd

    with _collector_paused():
        found = [(text, _DISTRIBUTIONS.get(name, name)) for name in packages for text in package_docstrings(name)]
    if not 0 < rows <= len(found):
        raise UsageError(
            f"Cannot draw {rows} docstrings: {', '.join(packages)} hold {len(found)}. "
            "Ask for fewer, or name more packages."
        )
    drawn = np.random.default_rng(seed).choice(len(found), size=rows, replace=False)
    return pd.DataFrame([found[index] for index in drawn], columns=["text", "package"], dtype=object)


def package_docstrings(package: str) -> Iterator[str]:
    """First paragraphs of an installed package's public docstrings, by path and then by line.

    Raises
    ------
    UsageError
        No such package is installed, or it has no folder of sources.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"No package {package!r} is installed. Install it, or name another.")
    for folder in map(Path, spec.submodule_search_locations):
        for path in sorted(folder.rglob("*.py")):
            if not _SKIPPED.intersection(path.relative_to(folder).parts):
                yield from source_docstrings(path.read_bytes())


def source_docstrings(source: bytes) -> Iterator[str]:
    """First paragraphs of the public docstrings in one Python file; none when it does not parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file's own: invalid escapes, `is` with a literal, ...
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # ValueError: a NUL byte, before Python 3.11.4
            return
    for node in _documented(tree.body):
        paragraph = _first_paragraph(ast.get_docstring(node) or "")
        if _SHORTEST <= len(paragraph) <= _LONGEST and paragraph.isprintable():
            yield paragraph


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Syntax trees hold no cycles: looking for them took a third of the time, 5.7 s against 3.7 s."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _documented(body: Sequence[ast.stmt]) -> Iterator[_Documented]:
    """Public functions and classes, and the public methods of those classes."""
    for node in body:
        if isinstance(node, _Documented) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                methods = [each for each in node.body if not isinstance(each, ast.ClassDef)]
                yield from _documented(methods)


def _first_paragraph(docstring: str) -> str:
    """The first paragraph on one line: 'Add two\\n  numbers.\\n\\nMore.' -> 'Add two numbers.'"""
    lines = docstring.strip().splitlines()
    end = next((index for index, line in enumerate(lines) if not line.strip()), len(lines))
    return " ".join(" ".join(lines[:end]).split())
