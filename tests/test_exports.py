"""What the package promises to export."""

import importlib
import subprocess
import sys

import pytest

import frozenhead

EXPORTS = {
    "frozenhead": ["DenseHead", "Embedder", "SoftmaxHead", "VectorCache", "load_pipeline"],
    "frozenhead.cache": [
        "Compaction", "Lookup", "ShardWriter", "Space", "SpaceStore", "SpaceSummary", "VectorCache", "compact",
        "default_folder", "distinct_keys", "key_shares", "text_keys",
    ],
    "frozenhead.embedder": [
        "POOLINGS", "Arithmetic", "Checkpoint", "EmbedSettings", "Embedded", "Embedder", "Listener", "count_windows",
        "decide", "embed_texts", "find_checkpoint", "follow_folder", "settings_of", "shortest_length", "space_of",
        "special_tokens", "token_counts",
    ],
    "frozenhead.fleet": ["JobNote", "RayOptions", "RayWork", "Share", "embed_on_devices", "embed_with_ray"],
    "frozenhead.heads": [
        "HEADS", "CentroidHead", "DenseHead", "FittedHead", "Head", "KnnHead", "LogisticHead", "MajorityHead",
        "RidgeHead", "ShuffledHead", "SoftmaxHead", "StoredRows", "SvmHead", "TfidfHead", "Threshold", "ThresholdRule",
        "Trainer", "TrainingSettings", "estimate_seconds", "fit_many", "head_options", "load_head", "make_head",
        "save_head", "softmax_path",
    ],
    "frozenhead.corpus": [
        "Bucket", "Cells", "Columns", "Corpus", "CorpusOptions", "Format", "LargeCorpus", "Parts", "Table",
        "check_format", "check_rereadable", "column_values", "docstring_corpus", "find_columns", "find_sources",
        "is_large", "load_corpus", "open_parts", "parse_split", "read_table", "regrouped", "split_rows",
        "stream_corpus",
    ],
    "frozenhead.report": [
        "Figures", "HeadEvidence", "balanced_weights", "calibration_display", "confusion_display", "draw",
        "efficiency_display", "gather", "precision_recall_display", "render", "roc_display", "score_block",
        "terminal_table", "to_markdown",
    ],
}  # fmt: skip


@pytest.mark.parametrize("room", EXPORTS)
def test_a_room_exports_what_is_listed_and_it_is_there(room: str) -> None:
    module = importlib.import_module(room)
    assert list(module.__all__) == EXPORTS[room]
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, frozenhead; sys.exit(bool({'torch', 'transformers', 'sklearn', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="DenseHat"):
        frozenhead.DenseHat  # noqa: B018
    assert dir(frozenhead) == EXPORTS["frozenhead"]
