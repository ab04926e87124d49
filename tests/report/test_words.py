"""Numbers as people read them."""

import pytest

from frozenhead.report.words import excess, many, p_is, p_value, signed, signed_span, span


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (p_value(0.25), "0.2500"),
        (p_value(1e-4), "0.0001"),
        (p_value(9.9e-5), "< 0.0001"),
        (p_value(None), "–"),
        (p_is(0.0215), "p = 0.0215"),
        (p_is(1e-9), "p < 0.0001"),
        (signed(-0.5), "−0.5000"),
        (signed(0.5), "+0.5000"),
        (signed_span([-0.012, 0.004]), "−0.012 to +0.004"),
        (signed_span([-0.012, 0.004], digits=4), "−0.0120 to +0.0040"),
        (signed_span(None), ""),
        (span([0.9, 0.95]), "0.900–0.950"),
        (many(1, "row", "rows"), "1 row"),
        (many(1234, "row", "rows"), "1,234 rows"),
        (excess(1.02), "up to 2.0\xa0%"),
        (excess(1.0001), "less than 0.1\xa0%"),
    ],
)
def test_a_number_is_written_in_one_way(found: str, expected: str) -> None:
    assert found == expected
