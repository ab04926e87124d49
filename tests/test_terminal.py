"""What `embed` says about long texts."""

from typing import Any

import pytest

from frozenhead.terminal import feature_lines


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
