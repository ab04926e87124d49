"""Which column holds the texts and which the labels; their values as strings, or the place of the bad one.

Imports errors, texts, and of this room parsing and the table.
"""

import difflib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal

from frozenhead.corpus.parsing import Bare, delimiter_hint
from frozenhead.corpus.table import Table, stored_cells
from frozenhead.errors import DataError
from frozenhead.texts import Texts

if TYPE_CHECKING:
    import pyarrow as pa

What = Literal["text", "label", "split"]

# fmt: off
TEXT_NAMES = frozenset({
    "text", "sentence", "message", "content", "body", "utterance", "query", "question", "review", "comment", "tweet",
    "sms", "document", "description",
})
# fmt: on
LABEL_NAMES = frozenset({"label", "category", "class", "target", "intent", "sentiment", "topic", "tag", "y"})

_LISTED = 20  # column names shown in a message

# Arrow's pattern for what `str.isspace` is true of, the empty string, and what holds NUL.
WHITE_SPACE = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_UNUSABLE = f"\\A[{WHITE_SPACE}]*\\z|\\x00"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns picked. `notes` says which were guessed, and is empty when none was."""

    text: str
    label: str | None
    notes: tuple[str, ...] = ()


def find_columns(table: Table, *, text: str | None, label: str | None, labelled: bool) -> Columns:
    """Take the columns named, and guess those that are None by their plain names (case and outer spaces ignored).

    With `labelled` false no label column is looked for, and `label` is not used.

    Raises
    ------
    DataError
        A named column is absent; none or several could be meant; text and label are the same column.
    """
    label = label if labelled else None
    for option, name in (("--text", text), ("--label", label)):
        if name is not None:
            check_column(table, name, option=option)
    if text is not None and text == label:
        raise DataError(f"{table.source}: {text!r} is both text and label column. Pass another `--text` or `--label`.")
    names, guessed = table.names, []
    if text is None:
        text = _guess(table, [n for n in names if n != label], TEXT_NAMES, what="text")
        guessed.append(f"text column: {text!r}")
    if labelled and label is None:
        label = _guess(table, [n for n in names if n != text], LABEL_NAMES, what="label")
        guessed.append(f"label column: {label!r}")
    note = f"{', '.join(guessed)} (guessed from the {'names' if len(guessed) > 1 else 'name'})"
    return Columns(text=text, label=label, notes=(note,) if guessed else ())


def check_column(table: Table, name: str, *, option: str) -> None:
    """Raise a `DataError` that offers the nearest names when `table` has no column `name`."""
    names = table.names
    if name in names and name.strip():
        return
    if not name.strip():
        found = f"{table.source}: `{option}` needs the name of a column, found {name!r}."
    else:
        found = f"{table.source} has no column {name!r}."
    plain = {each.strip().casefold(): each for each in names if each.strip()}
    near = [plain[each] for each in difflib.get_close_matches(name.strip().casefold(), plain)]
    offer = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise DataError(f"{found}{offer}\n{_columns_of(names)}{delimiter_hint(names)}")


def column_values(table: Table, column: str, *, what: What) -> Texts:
    """The cells of `column` as strings: whole numbers in full, floats by `repr`, booleans `true` and `false`.

    Returns
    -------
    Texts, (N,)
        Exactly as written; nothing is stripped.

    Raises
    ------
    DataError
        A cell is missing, blank, no text (a list, bytes, a date, ...), or holds half a surrogate pair. The
        message gives the place of the first such row and their number.
    """
    cells = Cells(column, what=what)
    texts = cells.take(table)
    cells.check()
    return texts or Texts.of(())


class Cells:
    """The cells of a column as strings, however many parts its source is read in, and what is wrong with them.

    Parameters
    ----------
    column
        Its name.
    what
        What the column holds.
    """

    def __init__(self, column: str, *, what: What) -> None:
        self._column, self._what = column, what
        self._first, self._bad = "", 0
        self._labels: dict[tuple[type, str], tuple[str, Any]] = {}  # each written label: where it came first

    def take(self, table: Table) -> Texts | None:
        """The cells (n,) of the next part; None if one of them cannot be used."""
        stored = table.column(self._column)
        strings = None if isinstance(stored, list) else _as_strings(stored)
        if strings is not None and _all_usable(strings):
            return Texts(strings)
        values = stored if isinstance(stored, list) else stored_cells(stored).tolist()
        cells = [_as_text(value) for value in values]
        bad = [row for row, cell in enumerate(cells, start=1) if isinstance(cell, _Refused)]
        if bad:
            if not self._bad:
                reason = cells[bad[0] - 1]
                self._first = f"{table.place(bad[0])}: the {self._what} in column {self._column!r} is {reason}"
            self._bad += len(bad)
            return None
        if self._what == "label" and not self._bad:
            for row, value in enumerate(values, start=1):
                if (type(value), str(value)) not in self._labels:
                    self._labels[type(value), str(value)] = table.place(row), value
        return Texts.of(cell for cell in cells if isinstance(cell, str))

    def check(self) -> None:
        """Raise a `DataError` for what stood in any part."""
        if self._bad:
            more = f" ({self._bad} such rows in all)" if self._bad > 1 else ""
            raise DataError(
                f"{self._first}{more}. Expected a {self._what} in every row: "
                f"fill in or remove {'these rows' if more else 'this row'}."
            )
        self._refuse_twins()

    def _refuse_twins(self) -> None:
        """Raise `DataError` for labels that only their type tells apart: 1 and "1", true and "true", 1 and 1.0."""
        kinds = {kind for kind, _ in self._labels}
        if len(kinds) == 1 and Bare not in kinds:
            return
        first: dict[str | Decimal, tuple[str, Any]] = {}  # by text and by number, where it came first and as what
        for place, value in self._labels.values():
            for shared in _readings(value):
                earlier, other = first.setdefault(shared, (place, value))
                # Two strings that are one number, "1" and "1.0", were told apart on purpose.
                if type(other) is not type(value) or (str(other) != str(value) and not isinstance(shared, str)):
                    raise DataError(
                        f"{place}: the label {_written(value)} and the label {_written(other)} of "
                        f"{earlier} differ only in their type. "
                        f"Write the labels of column {self._column!r} in one way."
                    )


def _readings(value: Any) -> list[str | Decimal]:
    """What a label can be taken for: its text, and the number that it is if it is none of a string."""
    text = str(_as_text(value))
    if isinstance(value, str) and not isinstance(value, Bare):
        return [text]
    try:
        return [text, Decimal(text)]
    except InvalidOperation:  # a truth value
        return [text]


def _written(value: Any) -> str:
    return str(value) if isinstance(value, Bare) else repr(value)


def _as_strings(column: "pa.ChunkedArray") -> "pa.ChunkedArray | None":
    """The column as Arrow's strings; None if it holds something else."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    return column.cast(pa.large_string()) if str(kind) in {"string", "large_string"} else None


def _all_usable(strings: "pa.ChunkedArray") -> bool:
    from pyarrow import compute

    # Half a surrogate pair has no UTF-8, and Arrow's strings have nothing else.
    return strings.null_count == 0 and not any(
        compute.any(compute.match_substring_regex(chunk, _UNUSABLE)).as_py() for chunk in strings.chunks
    )


class _Refused:
    """Why a cell cannot be used."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def _as_text(value: Any) -> str | _Refused:
    if isinstance(value, str):
        return value if not (refusal := _refusal(value)) else _Refused(refusal)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and not math.isnan(value):
        return repr(value)
    if value is None or isinstance(value, float):
        return _Refused("missing")
    return _Refused(f"no text but of type {type(value).__name__}")


def _refusal(text: str) -> str:
    if not text:
        return "empty"
    if text.isspace():
        return "only white space"
    if "\0" in text:
        return f"not text: a NUL character at character {text.index(chr(0)) + 1}"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"not Unicode: half a surrogate pair, {text[error.start]!r}, at character {error.start + 1}"
    return ""


def _guess(table: Table, names: Sequence[str], plain: Collection[str], *, what: Literal["text", "label"]) -> str:
    matches = [name for name in names if name.strip().casefold() in plain]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(map(repr, matches))
        raise DataError(f"{table.source}: {listed} could each be the {what} column. Pass `--{what} COL`.")
    advice = (
        "Pass `--text COL`." if what == "text" else "Pass `--label COL`, or `--no-label` to embed unlabelled texts."
    )
    raise DataError(
        f"{table.source}: no column looks like the {what} column. {advice}\n"
        f"{_columns_of(table.names)}{delimiter_hint(table.names)}"
    )


def _columns_of(names: Sequence[str]) -> str:
    named = [repr(name) for name in names if name.strip()]
    more = f", and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    return f"Its columns: {', '.join(named[:_LISTED])}{more}."
