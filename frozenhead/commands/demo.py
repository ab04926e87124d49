"""`demo`: the whole path on data and an encoder that every install has; no network, no data file."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frozenhead.commands.voice import Silence, Voice
from frozenhead.corpus import docstring_corpus
from frozenhead.embedder import find_checkpoint
from frozenhead.files import make_folder, write_file
from frozenhead.runs import check_place

CORPUS = "docstrings.csv"
RUN = "run"


def demo(folder: Path, run_command: Callable[[list[str]], Any], voice: Voice | None = None) -> dict[str, Any]:
    """Write a corpus of docstrings, then embed, fit and report it by the very commands a user would type.

    Parameters
    ----------
    folder : Path
        Where the corpus and the run go.
    run_command : callable
        Runs one command line, given as its words after `frozenhead`; what it raises ends the demo.

    Returns
    -------
    dict
        corpus, rows, commands, page, seconds.
    """
    voice = voice or Silence()
    begun = time.perf_counter()
    find_checkpoint("minilm")  # fail before any work if the extra is not installed
    run = folder / RUN
    check_place(run)
    make_folder(folder)
    voice.say("reading docstrings in the source files of installed packages")
    corpus = docstring_corpus()
    write_file(folder / CORPUS, corpus.to_csv(index=False).encode())
    voice.say(f"wrote {folder / CORPUS}: {len(corpus):,} texts of {corpus['package'].nunique()} packages")
    source = ["--text", "text", "--label", "package", "--model", "minilm", "--pooling", "pooler,cls,mean"]
    commands = [
        ["embed", str(folder / CORPUS), *source, "--out", str(run), "--overwrite"],
        ["fit", str(run), "--head", "dense,logreg,tfidf,majority"],
        ["report", str(run)],
    ]
    for command in commands:
        voice.say(f"\n$ frozenhead {shlex.join(command)}")
        run_command(command)
    return {
        "corpus": str(folder / CORPUS),
        "rows": len(corpus),
        "commands": [f"frozenhead {shlex.join(c)}" for c in commands],
        "page": str(run / "report.html"),
        "seconds": round(time.perf_counter() - begun, 1),
    }
