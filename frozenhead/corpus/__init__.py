"""Labelled texts: read, check, split, find duplicates."""

from frozenhead.corpus.columns import Columns, column_values, find_columns
from frozenhead.corpus.corpus import Corpus, CorpusOptions, load_corpus
from frozenhead.corpus.docstrings import docstring_corpus
from frozenhead.corpus.reading import check_format, read_table
from frozenhead.corpus.splitting import parse_split, split_rows
from frozenhead.corpus.table import Format, Table

__all__ = [
    "Columns",
    "Corpus",
    "CorpusOptions",
    "Format",
    "Table",
    "check_format",
    "column_values",
    "docstring_corpus",
    "find_columns",
    "load_corpus",
    "parse_split",
    "read_table",
    "split_rows",
]
