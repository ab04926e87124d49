"""The commands of docs/cluster.md do what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from frozenhead.fleet.station import import_path
from frozenhead.runs import Run
from tests.conftest import REPOSITORY
from tests.fleet.conftest import assert_same_vectors, distinct_texts

PAGE = (REPOSITORY / "docs" / "cluster.md").read_text()
COMMANDS = re.findall(r"^frozenhead (embed texts\.csv .*)$", PAGE, re.MULTILINE)
HERE = [line for line in COMMANDS if "ray" not in line and "cuda" not in line]


def frozenhead(line: str, model: Path, folder: Path) -> None:
    """Run a line of the page in a folder, with a small encoder and torch."""
    import os

    words = [*shlex.split(line), "--model", str(model), "--backend", "torch", "--quiet"]
    words += [] if "--precision" in words else ["--precision", "fp32"]
    words += [] if "--cache-dir" in words else ["--cache-dir", "devices"]
    code = "from frozenhead.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], check=False, capture_output=True, text=True, cwd=folder,
        env={**os.environ, **import_path()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_commands_for_one_host_and_for_a_queue_run_as_they_stand(
    table: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    assert len(HERE) == 4, HERE
    for line in HERE:
        frozenhead(line, tiny_folder, tmp_path)
    assert Run.is_run(tmp_path / "run")
    assert_same_vectors(tmp_path / "cache", tmp_path / "devices", distinct_texts(table))


def test_every_option_that_the_page_names_is_one_of_embed(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    from frozenhead.cli import app

    command = typer.main.get_command(app).commands["embed"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    for line in re.findall(r"frozenhead embed [^\n]*(?:\\\n[^\n]*)*", PAGE):
        for option in re.findall(r"--[a-z-]+", line):
            assert option in known, line
