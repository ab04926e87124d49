"""What the documents show runs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from frozenhead.cache import VectorCache, text_keys
from tests.cache.examples import make_space, vectors_of, write_rows
from tests.conftest import REPOSITORY


def test_the_reader_in_the_page_on_the_cache_finds_a_vector(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "cache.md").read_text()
    program, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    store = VectorCache(tmp_path / "cache").space(make_space())
    write_rows(store, ["a", "b"])
    write_rows(store, ["ä"])

    for text in ("b", "ä"):
        words = [sys.executable, "-c", program, str(store.folder), text]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found = np.array(printed.strip("[]\n").split(), np.float32)
        np.testing.assert_array_equal(found, vectors_of(text_keys([text]))[0])


def test_the_page_on_the_cache_shows_a_lookup_that_runs(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "cache.md").read_text()
    _, program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    store = VectorCache().space(make_space())
    write_rows(store, ["some text"])
    names: dict[str, Any] = {}
    exec(program.replace("3f8b", store.space.id[:4]), names)
    assert names["lookup"].found.tolist() == [True]
