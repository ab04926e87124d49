"""What commands say in lines."""

from typing import Any

import pytest

from frozenhead.terminal import corpus_lines, counts_line, feature_lines, verdict_lines


def facts(classes: int, *, windows: bool = False) -> dict[str, Any]:
    """Class i has 100 rows, of which i are longer than 64 tokens, and each of these 3 windows."""

    def block(rows: int, longer: int) -> dict[str, Any]:
        cut = {"rows": rows, "truncated": longer, "share": longer / rows}
        read = {"windowed": longer, "windowed_share": longer / rows, "windows": 3 * longer}
        return {**cut, "truncated": 0, "share": 0.0, **read} if windows else cut

    per_class = {f"c{i}": block(100, i) for i in range(classes)}
    total = block(100 * max(classes, 1), sum(range(classes)) or 7)
    return {"dim": 384, "truncation": {"max_length": 64, **total, "per_class": per_class}}


def test_of_few_classes_each_share_is_shown() -> None:
    (line,) = feature_lines("minilm.mean", facts(3))
    assert line == (
        "minilm.mean: 384 numbers per text; 3 of 300 texts (1.0%) are longer than 64 tokens and were cut: "
        "c0 0.0%, c1 1.0%, c2 2.0%"
    )


def test_of_many_classes_the_worst_are_shown() -> None:
    (line,) = feature_lines("minilm.mean", facts(40))
    assert "780 of 4,000 texts (19.5%)" in line
    assert line.endswith("were cut, most of c39 39.0%, c38 38.0%, c37 37.0%, c36 36.0%, c35 35.0%")


def test_texts_in_windows_are_not_called_cut() -> None:
    (line,) = feature_lines("minilm.mean", facts(3, windows=True))
    assert line.endswith("3 of 300 texts (1.0%) are longer than 64 tokens and were read in 9 windows: "
                         "c0 0.0%, c1 1.0%, c2 2.0%")  # fmt: skip
    assert "cut" not in line


@pytest.mark.parametrize("windows", [False, True])
def test_without_classes_or_long_texts_the_line_is_short(windows: bool) -> None:
    (line,) = feature_lines("minilm.mean", facts(0, windows=windows))
    assert line.endswith("were read in 21 windows" if windows else "were cut")
    (line,) = feature_lines("minilm.mean", facts(1, windows=windows) | {"truncation": facts(1)["truncation"] | {
        "truncated": 0, "per_class": {}}})  # fmt: skip
    assert line.endswith("no text is longer than 64 tokens")


def test_of_many_classes_the_most_frequent_are_counted() -> None:
    counts = {f"c{i}": i for i in range(77)}
    assert counts_line(counts) == "c76 76, c75 75, c74 74, c73 73, c72 72, and 72 more classes"
    assert counts_line({"b": 1, "a": 2000}) == "b 1, a 2,000"


def test_one_is_not_many_and_no_class_is_not_counted() -> None:
    facts = {"splits": {"train": 1}, "split_rule": "x", "class_weights": {"a": 1.0}, "rows": 1, "distinct": 1}
    assert corpus_lines({**facts, "classes": ["a"]})[0] == "1 row, 1 distinct text, 1 class"
    assert corpus_lines({**facts, "classes": []})[0] == "1 row, 1 distinct text"
    assert corpus_lines({**facts, "rows": 2000, "classes": ["a", "b"]})[0] == "2,000 rows, 1 distinct text, 2 classes"


@pytest.mark.parametrize(
    ("precision", "tolerance", "said"),
    [("fp32", 1e-4, "(tolerance 1e-04) ok"), ("bf16", None, "(not judged in bf16)")],
)
def test_weights_without_a_tolerance_are_said_not_to_be_judged(
    precision: str, tolerance: float | None, said: str
) -> None:
    vectors = {"rows": 3, "measure": "largest 1 - cosine", "largest_difference": 0.0, "tolerance": 1e-3, "passed": True}
    training: dict[str, Any] = {
        "steps": 2,
        "largest_loss_difference": 0.0,
        "largest_weight_difference": 0.0,
        "tolerance": 1e-4,
    }
    training |= {"weight_tolerance": tolerance, "passed": True}
    proof = {"feature": "x", "precision": precision, "vectors": vectors, "views": None, "training": training}
    lines = verdict_lines({"features": [{**proof, "encoder_unchanged": True}], "passed": True})
    (line,) = [line for line in lines if line.startswith("  weights")]
    assert line.endswith(said)
