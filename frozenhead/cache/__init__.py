"""Vectors on disk: the only room that knows the store's files. Imports no other room."""

from frozenhead.cache.cache import VectorCache, default_folder
from frozenhead.cache.compaction import Compaction, compact
from frozenhead.cache.keys import distinct_keys, key_shares, text_keys
from frozenhead.cache.space import Space
from frozenhead.cache.store import Lookup, SpaceStore
from frozenhead.cache.upkeep import SpaceSummary
from frozenhead.cache.writer import ShardWriter

__all__ = [
    "Compaction",
    "Lookup",
    "ShardWriter",
    "Space",
    "SpaceStore",
    "SpaceSummary",
    "VectorCache",
    "compact",
    "default_folder",
    "distinct_keys",
    "key_shares",
    "text_keys",
]
