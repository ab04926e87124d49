"""`predict`: label new texts with a trained head."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frozenhead.cache import VectorCache
from frozenhead.commands.choosing import choose_head
from frozenhead.commands.vectors import embed_aloud
from frozenhead.commands.voice import Silence, Voice
from frozenhead.corpus import Format, Table, check_format, column_values, find_columns, read_table
from frozenhead.embedder import settings_of
from frozenhead.errors import CacheDamaged, DataError, UsageError
from frozenhead.files import write_file
from frozenhead.heads import Head, load_head
from frozenhead.heads.saving import DESCRIPTION, read_description
from frozenhead.labels import shown
from frozenhead.pipeline import describe_head, find_encoder
from frozenhead.runs import Run, StoredHead, parquet_bytes

PREDICTED = "predicted"
SPREADSHEETS = ("csv", "tsv")

# What a spreadsheet would run: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


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


def predict(options: PredictOptions, voice: Voice | None = None) -> tuple[dict[str, Any], bytes]:
    """Label new texts, and write them unless `out` is `-`.

    Returns
    -------
    summary : dict
        run, head, feature, rows, counts of predicted labels, texts cached, computed, and cut or read in windows.
    output : bytes
        The table: the input's columns, `predicted`, and one probability column per class.

    Raises
    ------
    HeadNotFound, SpaceMismatch, EncoderError, DataError
    """
    voice = voice or Silence()
    stored, run = _choose(options)
    info = read_description(stored.folder)
    head = load_head(stored.folder)
    table = read_table(
        options.data,
        format=cast("Format | None", options.format),
        encoding=options.encoding,
        delimiter=options.delimiter,
    )
    texts = _texts(table, options, run, voice)
    voice.say(f"head {shown(stored.head)} on {shown(stored.feature)}")
    cache = VectorCache(options.cache_dir or _cache_of(run, stored.feature))
    inputs, counts = _inputs(texts, info, cache, options, voice)
    probabilities = head.predict_proba(inputs)  # (N, K)
    frame = _output_frame(table, head, probabilities)
    escaped = 0 if options.raw or output_format(options.out) not in SPREADSHEETS else count_formulas(frame)
    if escaped:
        voice.say(f"{escaped:,} cells look like formulas and got a leading apostrophe (--raw leaves them)")
    output = encode_table(frame, output_format(options.out), raw=options.raw)
    if options.out != "-":
        write_file(Path(options.out), output)
    labels, n = np.unique(frame[PREDICTED].to_numpy(str), return_counts=True)
    summary = {
        "head": stored.head,
        "feature": stored.feature,
        "rows": len(texts),
        "out": options.out,
        "escaped_cells": escaped,
        "predicted": {str(label): int(count) for label, count in zip(labels, n, strict=True)},
        **counts,
    }
    return summary, output


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


def _texts(table: Table, options: PredictOptions, run: Run | None, voice: Voice) -> Sequence[str]:
    text = options.text
    if text is None and run is not None and run.info["columns"]["text"] in table.frame.columns:
        text = run.info["columns"]["text"]
    columns = find_columns(table, text=text, label=None, labelled=False)
    for note in columns.notes:
        voice.say(note)
    return column_values(table, columns.text, what="text")


def _inputs(
    texts: Sequence[str], info: dict[str, Any], cache: VectorCache, options: PredictOptions, voice: Voice
) -> tuple[Any, dict[str, Any]]:
    """What the head takes: the texts, or their vectors of the space it was trained on."""
    if info["takes"] == "texts":
        return np.array(list(texts), object), {}
    checkpoint, space = find_encoder(info, model=options.model)
    settings = settings_of(space, device=options.device)
    embedded = embed_aloud(checkpoint, texts, settings=settings, cache=cache, voice=voice)
    longer = int((embedded.tokens > space.max_length).sum())
    if longer:
        fate = "cut" if space.long == "cut" else "read in windows"
        voice.say(f"{longer:,} of {len(texts):,} texts are longer than {space.max_length} tokens and were {fate}")
    lookup = cache.space(space).lookup(embedded.keys)
    if not lookup.found.all():
        raise CacheDamaged(f"Vectors just written to {cache.folder} cannot be read back. Check that disk.")
    counts = {"cached": embedded.cached, "computed": embedded.computed}
    return lookup.vectors, {**counts, "truncated" if space.long == "cut" else "windowed": longer}


def _output_frame(table: Table, head: Head, probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """The input's columns, then what was predicted."""
    classes = head.classes_.tolist()
    added = {PREDICTED: head.decide(probabilities)}
    added |= {f"prob_{label}": probabilities[:, k] for k, label in enumerate(classes)}
    taken = [name for name in added if name in table.frame.columns]
    if taken:
        raise DataError(
            f"{table.source} has a column {taken[0]!r} already, which predict would add. Rename or drop it first."
        )
    new = pd.DataFrame(added, index=table.frame.index)
    return pd.concat([table.frame, new], axis=1)


def output_format(out: str) -> Format:
    """The format of an output by its name; standard output is CSV. Raises `UsageError` for another ending."""
    suffixes: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
    if out == "-":
        return "csv"
    suffix = Path(out).suffix.lower()
    if suffix not in suffixes:
        raise UsageError(f"Output {out}: the name must end in {', '.join(suffixes)}, or be - for standard output.")
    return suffixes[suffix]


def encode_table(frame: pd.DataFrame, kind: Format, *, raw: bool) -> bytes:
    """A table as bytes. In CSV and TSV, cells that a spreadsheet would run get a leading apostrophe unless `raw`."""
    try:
        if kind == "parquet":
            return parquet_bytes(frame)
        if kind == "jsonl":
            if not frame.columns.is_unique:
                raise ValueError("two columns have one name")
            records = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
            return "".join(json.dumps(r, ensure_ascii=False, default=str) + "\n" for r in records).encode()
        return _delimited(frame, "\t" if kind == "tsv" else ",", raw=raw).encode()
    except (UnicodeError, ValueError, TypeError) as error:
        raise DataError(
            f"The input's columns cannot be written as {kind} ({error}).\n"
            "Drop or rename such columns, or use another format."
        ) from error


def _delimited(frame: pd.DataFrame, separator: str, *, raw: bool) -> str:
    if not raw:
        frame = frame.set_axis([_as_data(name) for name in frame.columns], axis=1).map(_as_data)
    # A lone carriage return ends a row for most readers, but the writer does not quote it by itself.
    returns = frame.map(lambda cell: isinstance(cell, str) and "\r" in cell).to_numpy().any()
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    return str(frame.to_csv(index=False, sep=separator, quoting=quoting))


def count_formulas(frame: pd.DataFrame) -> int:
    """How many cells and column names a spreadsheet would run."""
    return int(frame.map(_is_formula).to_numpy().sum()) + sum(_is_formula(name) for name in frame.columns)


def _is_formula(cell: Any) -> bool:
    return isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(cell)


def _as_data(cell: Any) -> Any:
    """`=1+1` becomes `'=1+1`; plain numbers such as -5 are data already."""
    return f"'{cell}" if _is_formula(cell) else cell
