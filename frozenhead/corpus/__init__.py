"""Labelled texts: read, check, split, find duplicates."""

from frozenhead.corpus.columns import Cells, Columns, column_values, find_columns
from frozenhead.corpus.corpus import Bucket, Corpus, load_corpus
from frozenhead.corpus.docstrings import docstring_corpus
from frozenhead.corpus.large import LargeCorpus, stream_corpus
from frozenhead.corpus.options import CorpusOptions
from frozenhead.corpus.reading import check_format, read_table
from frozenhead.corpus.sources import check_rereadable, find_sources, is_large
from frozenhead.corpus.splitting import parse_split, split_rows
from frozenhead.corpus.streaming import Parts, open_parts, regrouped
from frozenhead.corpus.table import Format, Table

__all__ = [
    "Bucket",
    "Cells",
    "Columns",
    "Corpus",
    "CorpusOptions",
    "Format",
    "LargeCorpus",
    "Parts",
    "Table",
    "check_format",
    "check_rereadable",
    "column_values",
    "docstring_corpus",
    "find_columns",
    "find_sources",
    "is_large",
    "load_corpus",
    "open_parts",
    "parse_split",
    "read_table",
    "regrouped",
    "split_rows",
    "stream_corpus",
]
