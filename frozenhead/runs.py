"""The run folder: what embed, fit and report hand to each other.

    RUN/
      run.json                   format, sources, columns, split, options, versions, command line
      corpus.parquet             row, text, label, split, key
      features/<name>.json       space, encoder, the shards pinned, truncation counts
      heads/<feature>/<head>/    head.json, weights.safetensors, history.jsonl, predictions.parquet, metrics.json
      report.html  report.json

Every file is written beside and renamed. Imports files, tables and errors only.
"""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from frozenhead.errors import FormatRefused, RunDamaged, RunNotFound, UsageError
from frozenhead.files import TEMPORARY_PREFIX, make_folder, new_file, new_folder, write_json
from frozenhead.tables import ROWS_AT_ONCE, read_parquet, write_parquet

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

logger = logging.getLogger(__name__)

RUN_FORMAT = 1
FEATURE_FORMAT = 1
TEXT_FEATURE = "text"  # the feature set of heads that read texts; no encoder's set is named so, theirs hold a dot
SPLITS = ("train", "val", "test")

_OLD = ".old-"
_EMBED_AGAIN = "the same frozenhead embed command"
_RUN_KEYS: dict[str, type] = {"classes": list, "columns": dict, "corpus_sha256": str, "sources": list, "split": dict}
_FEATURE_KEYS: dict[str, type] = {
    "cache": str, "encoder": dict, "identity": dict, "lengths": dict, "max_length": int, "pooling": str,
    "shards": list, "space": str, "truncation": dict,
}  # fmt: skip
_PARTS = {"run.json", "corpus.parquet", "features", "heads", "report.html", "report.json"}


@dataclass(frozen=True, kw_only=True)
class StoredHead:
    """A trained head in a run: which one, and its folder."""

    feature: str
    head: str
    folder: Path

    def metrics(self) -> dict[str, Any]:
        """`metrics.json`: score blocks `val` and `test`, None where the split has no rows."""
        with reading(self.folder / "metrics.json", "frozenhead fit") as path:
            content = json.loads(path.read_bytes())
            for split in ("val", "test"):
                block = content[split]
                if block is not None and not all(isinstance(block[k], int | float) for k in ("macro_f1", "log_loss")):
                    raise TypeError(f"the scores of {split} are no numbers")
        return dict(content)

    def history(self, again: str = "frozenhead fit") -> list[dict[str, Any]]:
        """`history.jsonl`: one entry per epoch; `again` is the command that writes it anew."""
        with reading(self.folder / "history.jsonl", again) as path:
            return [json.loads(line) for line in path.read_text().splitlines()]

    def predictions(self, again: str = "frozenhead fit") -> "pd.DataFrame":
        """`predictions.parquet`: row, split, label, predicted, and `prob_<label>` for each class."""
        return read_table_file(self.folder / "predictions.parquet", again)


class Run:
    """One run folder.

    Attributes
    ----------
    folder : Path
    info : dict
        `run.json`.
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info

    @classmethod
    def create(cls, folder: Path, *, info: dict[str, Any], corpus: "Iterable[pa.Table]") -> "Run":
        """Begin a run, `run.json` last.

        Parameters
        ----------
        folder : Path
            New, empty, or a run to be replaced: its feature sets, heads and reports are removed.
        info : dict
            What `run.json` says beside the format number.
        corpus : iterable of pyarrow.Table
            Its rows, in any number of parts: row, text, label, split, key; the strings may be dictionaries.
        """
        make_folder(folder)
        for name in ("run.json", "report.html", "report.json"):
            (folder / name).unlink(missing_ok=True)
        for name in ("features", "heads"):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        with new_file(folder / "corpus.parquet") as file:
            write_parquet(file, corpus)
            digest = _digest(file)
        info = {"format": RUN_FORMAT, **info, "corpus_sha256": digest}
        write_json(folder / "run.json", info)
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run in `folder`.

        Raises
        ------
        RunNotFound
            It holds no run.
        FormatRefused
            Written by another version of the format.
        RunDamaged
            `run.json` cannot be read.
        """
        if not (folder / "run.json").exists():
            raise RunNotFound(f"{folder} is not a run. Make one first: frozenhead embed DATA --out {folder}")
        info = read_json(folder / "run.json", "frozenhead embed --overwrite")
        _check_content(info, RUN_FORMAT, _RUN_KEYS, folder / "run.json", "frozenhead embed --overwrite")
        return cls(folder, info)

    @classmethod
    def is_run(cls, folder: Path) -> bool:
        """Whether the folder holds a `run.json`."""
        return (folder / "run.json").exists()

    def corpus(self) -> "pd.DataFrame":
        """The corpus as it was embedded. Raises `RunDamaged` if its bytes are not those that were written."""
        frame: pd.DataFrame = self.corpus_table().to_pandas(use_threads=False)
        return frame.astype({"text": object, "label": object, "split": object})

    def corpus_table(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """The corpus, or some of its columns, in Arrow's memory; raises as `corpus`."""
        with self._open_corpus() as file:
            return read_parquet(file, columns)

    def corpus_rows(self) -> int:
        """How many rows the corpus says that it has; raises `RunDamaged` if it cannot be read."""
        import pyarrow.parquet as pq

        path = self.folder / "corpus.parquet"
        with reading(path, "frozenhead embed --overwrite"), open(path, "rb") as file:
            return int(pq.ParquetFile(file, pre_buffer=False).metadata.num_rows)

    def corpus_parts(self, columns: Sequence[str]) -> "Iterator[pa.Table]":
        """Some columns of the corpus, some thousand rows at a time; raises as `corpus`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._open_corpus() as file:
            stored = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
            for batch in stored.iter_batches(ROWS_AT_ONCE, columns=[*columns], use_threads=False):
                yield pa.Table.from_batches([batch])

    @contextmanager
    def _open_corpus(self) -> "Iterator[BinaryIO]":
        """`corpus.parquet`, its bytes being those that were written."""
        path = self.folder / "corpus.parquet"
        with reading(path, "frozenhead embed --overwrite"), open(path, "rb") as file:
            if _digest(file) != self.info.get("corpus_sha256"):
                raise ValueError("its bytes changed")
            yield file

    def features(self, *, damaged: Literal["raise", "skip"] = "raise") -> dict[str, dict[str, Any]]:
        """Feature sets by name. Raises `FormatRefused` and, unless `damaged` says to skip, `RunDamaged`."""
        records = {}
        for path in _entries(self.folder / "features"):
            if path.suffix != ".json" or path.name.startswith("."):
                continue
            try:
                record = read_json(path, _EMBED_AGAIN)
                _check_content(record, FEATURE_FORMAT, _FEATURE_KEYS, path, _EMBED_AGAIN)
            except RunDamaged:
                if damaged == "raise":
                    raise
                continue
            records[path.stem] = record
        return records

    def feature_path(self, name: str) -> Path:
        """The file of a feature set."""
        return self.folder / "features" / f"{name}.json"

    def write_feature(self, name: str, record: dict[str, Any]) -> None:
        """Add or renew a feature set."""
        make_folder(self.folder / "features")
        write_json(self.feature_path(name), record)

    def heads(self) -> list[StoredHead]:
        """Trained heads, by feature set and name."""
        stored = []
        for feature in _entries(self.folder / "heads"):
            names = {p.name.removeprefix(_OLD) for p in _entries(feature) if p.is_dir()}
            for head in sorted(name for name in names if not name.startswith(".")):
                # A kill between the two renames of `new_head` leaves the old folder under its other name.
                folder = feature / head if (feature / head).exists() else feature / f"{_OLD}{head}"
                if not (folder / "head.json").exists():
                    logger.warning("%s holds no head.json: it is passed over", folder)
                    continue
                stored.append(StoredHead(feature=feature.name, head=head, folder=folder))
        return stored

    @contextmanager
    def new_head(self, feature: str, head: str) -> Iterator[Path]:
        """A folder to fill; when the block ends it takes the place of the head that stood there, whole."""
        place = self.folder / "heads" / feature / head
        make_folder(place.parent)
        with new_folder(place, old=place.with_name(f"{_OLD}{head}")) as fresh:
            yield fresh


def check_place(folder: Path) -> None:
    """Raise `UsageError` unless `folder` is new, empty, or a run: nothing else is ever written into."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; --out takes a folder.")
    if not folder.is_dir() or Run.is_run(folder):
        return
    # A kill in the middle of `create` leaves parts of a run without its run.json: that place is still ours.
    strange = [p.name for p in folder.iterdir() if p.name not in _PARTS and not p.name.startswith(TEMPORARY_PREFIX)]
    if strange:
        raise UsageError(f"{folder} holds other files and no run. Choose a new folder with --out.")


def parquet_bytes(frame: "pd.DataFrame") -> bytes:
    """A frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _digest(file: Any) -> str:
    """The sha256 of a whole file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reading(path: Path, again: str) -> Iterator[Path]:
    """Turn a file that is gone or unreadable into `RunDamaged`; `again` is the command that writes it anew."""
    try:
        yield path
    except FileNotFoundError as error:
        raise RunDamaged(f"{path} is missing. Run `{again}` again.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDamaged(f"{path} is damaged ({error}). Run `{again}` again.") from error


def read_json(path: Path, again: str) -> dict[str, Any]:
    """A JSON object of a file. Raises `RunDamaged` if there is none; `again` is the command that writes it anew."""
    with reading(path, again):
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise TypeError("it is not a JSON object")
        return content


def read_table_file(path: Path, again: str) -> "pd.DataFrame":
    """The frame of a Parquet file. Raises `RunDamaged` if there is none; `again` is the command that writes it anew."""
    with reading(path, again), open(path, "rb") as file:
        frame: pd.DataFrame = read_parquet(file).to_pandas(use_threads=False)
    return frame


def _check_content(content: dict[str, Any], expected: int, keys: dict[str, type], path: Path, again: str) -> None:
    """Refuse another format, and a file of this format that lacks what the format promises."""
    if content.get("format") != expected:
        raise FormatRefused(
            f"{path} is of format {content.get('format')}; this frozenhead reads format {expected}.\n"
            "Run `frozenhead embed` into another folder, or use the frozenhead that wrote it."
        )
    if lacking := [key for key, kind in keys.items() if not isinstance(content.get(key), kind)]:
        raise RunDamaged(f"{path} lacks {', '.join(lacking)}, or has another kind of value there. Run `{again}`.")


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
