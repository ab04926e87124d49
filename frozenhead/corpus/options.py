"""How labelled texts are read and split. Imports errors, and of this room reading and splitting."""

from dataclasses import dataclass
from typing import Literal, get_args

from frozenhead.corpus.reading import check_delimiter, check_format
from frozenhead.corpus.splitting import parse_split
from frozenhead.corpus.table import Format
from frozenhead.errors import UsageError

SplitBy = Literal["stratified", "text"]


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """How to read and split labelled texts; contradictions raise `UsageError`.

    Attributes
    ----------
    text, label
        Column names; guessed when None.
    labelled
        False: no labels are read, and rows are not split.
    split
        Shares of train, val and test, for what the data does not split itself.
    seed
        Of the split, 0 to 2**32 - 1.
    split_column
        A column that names each row's split.
    val, test
        Paths of further files; the data is then the train split.
    group_duplicates
        Copies of a text stay in one split.
    split_by
        `stratified`: each class in these shares; the rows of a class are drawn by the seed. `text`: each text's split
        follows from it and the seed alone, whatever else is there, so copies share one; the shares are expected ones.
    format, encoding, delimiter
        As in `read_table`, for every file.
    """

    text: str | None = None
    label: str | None = None
    labelled: bool = True
    split: str = "0.7/0.15/0.15"
    seed: int = 2018
    split_column: str | None = None
    val: str | None = None
    test: str | None = None
    group_duplicates: bool = False
    split_by: SplitBy = "stratified"
    format: Format | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None

    def __post_init__(self) -> None:
        parse_split(self.split)
        check_format(self.format)
        check_delimiter(self.delimiter, format=self.format)
        if self.split_by not in get_args(SplitBy):
            raise UsageError(f"Unknown rule {self.split_by!r} to split by. Expected {' or '.join(get_args(SplitBy))}.")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"Found the seed {self.seed}. Expected a whole number from 0 to 4294967295.")
        if self.split_column is not None and (self.val is not None or self.test is not None):
            raise UsageError("Splits come from a column or from files: pass `--split-column`, or `--val` and `--test`.")
        if self.split_column is not None and self.split_column in {self.text, self.label}:
            raise UsageError(f"{self.split_column!r} cannot be the split column and the text or label column at once.")
        if not self.labelled and self.label is not None:
            raise UsageError(f"Unlabelled texts have no label column {self.label!r}: drop `--label` or `--no-label`.")
        if not self.labelled and self.group_duplicates:
            raise UsageError("Unlabelled texts are not split: drop `--group-duplicates` or `--no-label`.")
        if self.val == self.test == "-":
            raise UsageError("Standard input (`-`) can be read once: pass a path for the other files.")
