"""The one division of a summary is exact to its last digit, and decimals have one text."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_service.summary.summary import divided, text


@given(st.integers(1, 10**30), st.integers(1, 10**25))
def test_the_quotient_is_the_nearest_with_twelve_digits(total: int, by: int) -> None:
    found = divided(Decimal(f"{total}E-12"), Decimal(f"{by}E-6"))
    assert found is not None
    exact = Fraction(total, 10**12) / Fraction(by, 10**6)
    assert abs(Fraction(found) - exact) <= Fraction(1, 2 * 10**12)


def test_nothing_by_nothing_is_nothing() -> None:
    assert divided(None, Decimal(1)) is None
    assert divided(Decimal(1), Decimal(0)) is None
    assert divided(Decimal(1), None) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", "0"),
        ("100", "100"),
        ("1.500", "1.5"),
        ("10.000", "10"),
        ("1E+3", "1000"),
        ("0.00000010", "0.0000001"),
    ],
)
def test_a_decimal_has_no_needless_zeros(value: str, expected: str) -> None:
    assert text(Decimal(value)) == expected
