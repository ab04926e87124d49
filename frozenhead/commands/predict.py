"""`predict`: label new texts with a trained head."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.cache import VectorCache
from frozenhead.commands.choosing import choose_head
from frozenhead.commands.new_vectors import TextVectors
from frozenhead.commands.outputs import SPREADSHEETS, TableWriter, count_formulas, output_format
from frozenhead.commands.voice import Silence, Voice
from frozenhead.corpus import (
    Cells,
    Format,
    Parts,
    Table,
    check_format,
    column_values,
    find_columns,
    open_parts,
    regrouped,
)
from frozenhead.errors import DataError
from frozenhead.files import new_file
from frozenhead.heads import Head, load_head
from frozenhead.heads.saving import DESCRIPTION, read_description
from frozenhead.labels import shown
from frozenhead.pipeline import describe_head, find_encoder
from frozenhead.runs import Run, StoredHead

PREDICTED = "predicted"


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What `predict` is asked to do.

    Parameters
    ----------
    run : Path
        A run, or the folder of one head.
    data : str
        Path of a table of new texts, or `-`.
    out : str
        Path, or `-` for standard output.
    head, feature : str, optional
        Which head of the run; default the best by validation macro F1.
    model : str, optional
        Where the encoder is now: its folder, a hub id, or `minilm`; default what the head says.
    text : str, optional
        The text column; default the one of the run, else guessed.
    device : str
    cache_dir : path or URL, optional
    raw : bool
        Leave cells that look like formulas as they are.
    format, encoding, delimiter
        Of the table, as `embed` takes them.
    """

    run: Path
    data: str
    out: str = "-"
    head: str | None = None
    feature: str | None = None
    model: str | None = None
    text: str | None = None
    device: str = "auto"
    cache_dir: str | Path | None = None
    raw: bool = False
    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None

    def __post_init__(self) -> None:
        check_format(self.format)
        output_format(self.out)


def predict(options: PredictOptions, voice: Voice | None = None, *, stdout: BinaryIO | None = None) -> dict[str, Any]:
    """Label new texts: read them part by part, and write each part as it is labelled.

    What is wrong with the table is found before: it is read twice.

    Parameters
    ----------
    options : PredictOptions
    voice : Voice, optional
    stdout : BinaryIO, optional
        Where the table goes if `out` is `-`: the input's columns, `predicted`, and one probability column per class.

    Returns
    -------
    dict
        run, head, feature, rows, counts of predicted labels, texts cached, computed, and cut or read in windows
        (distinct texts, of each part).

    Raises
    ------
    HeadNotFound, SpaceMismatch, EncoderError, DataError
        A file `out` is then as it was before.
    """
    voice = voice or Silence()
    stored, run = _choose(options)
    info = read_description(stored.folder)
    head = load_head(stored.folder)
    with _opened_table(options) as table:
        text = _text_column(table, options, run, voice)
        _check_free(table.header, head)
        rows = _checked_rows(table, text)
        voice.say(f"head {shown(stored.head)} on {shown(stored.feature)}")
        vectors: TextVectors | None = None
        if info["takes"] == "vectors":
            cache = VectorCache(options.cache_dir or _cache_of(run, stored.feature))
            checkpoint, space = find_encoder(info, model=options.model)
            vectors = TextVectors(checkpoint, space, cache, device=options.device, voice=voice, rows=rows)
        done = _Done()
        kind = output_format(options.out)
        with _opened(options.out, stdout) as file, closing(TableWriter(file, kind, raw=options.raw)) as writer:
            anew = table.again()
            for part in _parts(anew, text):
                inputs: Any = vectors.of(part.texts) if vectors else np.array(list(part.texts), object)
                frame = _output_frame(part.frame, head, head.predict_proba(inputs))
                writer.write(frame, types=part.types)
                done.add(frame, formulas=not options.raw and kind in SPREADSHEETS)
            if anew.sha256 != table.sha256:
                raise DataError(f"{options.data} changed while it was read. Run the command again when it is complete.")
    if vectors:
        vectors.conclude()
    if done.escaped:
        voice.say(f"{done.escaped:,} cells look like formulas and got a leading apostrophe (--raw leaves them)")
    return {
        "head": stored.head,
        "feature": stored.feature,
        "rows": done.rows,
        "out": options.out,
        "escaped_cells": done.escaped,
        "predicted": {label: done.predicted[label] for label in sorted(done.predicted)},
        **(vectors.counts if vectors else {}),
    }


PART_ROWS = 2**17
"""Rows that are labelled at a time: 200 MB of 384 float32. Each part looks through all shards of the cache."""
PART_BYTES = 128 * 2**20
"""Of the cells of the input, as they are read."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some rows of the input: its columns, their texts, and the types of columns as the source has them."""

    frame: pd.DataFrame
    texts: Sequence[str]
    types: dict[str, Any]


def _parts(table: Parts, text: str) -> Iterator[_Part]:
    """The rows of a table, as many at a time as are labelled together."""
    import pyarrow as pa

    for part in regrouped(table.read(), most_rows=PART_ROWS, most_bytes=PART_BYTES):
        columns = dict(zip(part.names, part.columns, strict=True))
        types = {n: pa.large_string() if isinstance(column, list) else column.type for n, column in columns.items()}
        yield _Part(frame=part.frame, texts=column_values(part, text, what="text"), types=types)


def _checked_rows(table: Parts, text: str) -> int:
    """How many rows there are. Reads them all, so that what is wrong with one is told before any is labelled."""
    cells = Cells(text, what="text")
    for part in table.read():
        cells.take(part)
    cells.check()
    return table.rows


class _Done:
    """What was labelled so far."""

    def __init__(self) -> None:
        self.rows, self.escaped = 0, 0
        self.predicted: Counter[str] = Counter()

    def add(self, frame: pd.DataFrame, *, formulas: bool) -> None:
        """Count a part; its formulas if it goes to a spreadsheet."""
        self.escaped += count_formulas(frame, header=self.rows == 0) if formulas else 0
        self.rows += len(frame)
        self.predicted.update(str(label) for label in frame[PREDICTED])


@contextmanager
def _opened(out: str, stdout: BinaryIO | None) -> Iterator[BinaryIO]:
    """Where the output goes: a new file, which takes its name when it is whole, or standard output."""
    if out != "-":
        with new_file(Path(out)) as file:
            yield file
    elif stdout is None:
        raise ValueError("The table goes to standard output, and none was given.")
    else:
        yield stdout


def _choose(options: PredictOptions) -> tuple[StoredHead, Run | None]:
    """The head to use, and the run it stands in; a head that was shipped alone stands in none."""
    if (options.run / DESCRIPTION).exists():  # a head on its own
        info = describe_head(options.run)
        return StoredHead(feature=info["feature"], head=info["head"], folder=options.run), None
    run = Run.open(options.run)
    return choose_head(run, head=options.head, feature=options.feature), run


def _cache_of(run: Run | None, feature: str) -> str | None:
    """The cache that a run's feature set was computed into; None is the default one."""
    record = run.features().get(feature) if run else None
    return record["cache"] if record else None


def _opened_table(options: PredictOptions) -> AbstractContextManager[Parts]:
    kind = cast("Format | None", options.format)
    return open_parts(options.data, format=kind, encoding=options.encoding, delimiter=options.delimiter)


def _text_column(table: Parts, options: PredictOptions, run: Run | None, voice: Voice) -> str:
    text = options.text
    if text is None and run is not None and run.info["columns"]["text"] in table.names:
        text = run.info["columns"]["text"]
    columns = find_columns(table.header, text=text, label=None, labelled=False)
    for note in columns.notes:
        voice.say(note)
    return columns.text


def _check_free(table: Table, head: Head) -> None:
    """Raise `DataError` if the table has a column that would be added."""
    taken = [name for name in (PREDICTED, *_probability_names(head)) if name in table.names]
    if taken:
        raise DataError(
            f"{table.source} has a column {taken[0]!r} already, which predict would add. Rename or drop it first."
        )


def _output_frame(frame: pd.DataFrame, head: Head, probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """The input's columns, then what was predicted."""
    added = {PREDICTED: head.decide(probabilities)}
    added |= {name: probabilities[:, k] for k, name in enumerate(_probability_names(head))}
    return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)


def _probability_names(head: Head) -> list[str]:
    return [f"prob_{label}" for label in head.classes_.tolist()]
