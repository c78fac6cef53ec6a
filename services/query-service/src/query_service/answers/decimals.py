"""Exact arithmetic as SQL: quotients by long division on 128-bit integers, rounded half to even.

The engine's own `/` and `avg` give doubles. Everything here is exact or raises ValueOutOfRange.
"""

from __future__ import annotations

DIGITS = 12
"""Digits after the point of every figure."""


def units(decimal: str) -> str:
    """The decimal as an integer that counts its last digit."""
    return f"CAST(replace(CAST({decimal} AS VARCHAR), '.', '') AS HUGEINT)"


def of_units(integer: str) -> str:
    """An integer of 1e-12 as a decimal."""
    return (
        f"CAST(CAST({integer} AS DECIMAL(38, 0)) * CAST('1e-{DIGITS}' AS DECIMAL(13, 12)) AS DECIMAL(28, 12))"
    )


def rounded(quotient: str, rest: str, divisor: str) -> str:
    """The integer next to `quotient + rest / divisor`, the even one of two; the divisor is positive."""
    return f"""(({quotient}) + CASE
        WHEN 2 * abs({rest}) > ({divisor}) OR (2 * abs({rest}) = ({divisor}) AND ({quotient}) % 2 <> 0)
        THEN sign({rest})::INTEGER ELSE 0 END)"""


def scaled(decimal: str, above: str, below: str) -> str:
    """The 12-digit decimal next to `decimal * above / below`; both are integers, `below` is positive."""
    product = f"({units(decimal)} * ({above})::HUGEINT)"
    return of_units(rounded(f"{product} // {below}", f"({product} % {below})", below))


def mean_over_time(total: str, time: str) -> str:
    """The 12-digit decimal next to `total / time`: a decimal of 12 digits by an integer; null by 0."""
    divisor = f"nullif({time}, 0)"
    amount = units(total)
    return of_units(rounded(f"{amount} // {divisor}", f"({amount} % {divisor})", divisor))


def notional_sums(price: str, size: str, *, wide: bool) -> str:
    """Columns of an aggregate for `mean_by_size`: the sum of `price * size`.

    The plain sum ends at 10^14. The wide one adds the products of whole parts and fractions apart, which
    costs more and ends only where 38 digits do.
    """
    if not wide:
        return f"sum({price} * {size}) AS notional_fine"
    # From 19 digits on the engine multiplies in 128 bits.
    whole = [f"CAST(trunc({name}) AS DECIMAL(19, 0))" for name in (price, size)]
    part = [f"CAST({name} - trunc({name}) AS DECIMAL(19, 12))" for name in (price, size)]
    return f"""sum({part[0]} * {part[1]}) AS notional_fine,
        sum({whole[0]} * {part[1]} + {part[0]} * {whole[1]}) AS notional_middle,
        sum({whole[0]} * {whole[1]}) AS notional_whole"""


def mean_by_size(size: str, *, wide: bool) -> str:
    """The 12-digit decimal next to the notional of `notional_sums` by `size`; null by 0.

    Columns of a SELECT, of which the last is `vwap`; the others are steps of the long division, which gives
    12, then 6, then 6 digits.
    """
    more = f" + notional_whole::HUGEINT * {10**DIGITS} + {units('notional_middle')}" if wide else ""
    return f"""{units("notional_fine")} AS fine_units,
        nullif({units(size)}, 0) AS size_units,
        fine_units // {10**DIGITS}{more} AS upper,
        fine_units % {10**DIGITS} AS lower,
        (upper % size_units) * 1000000 + lower // 1000000 AS middle,
        (middle % size_units) * 1000000 + lower % 1000000 AS last_step,
        (upper // size_units) * {10**DIGITS} + (middle // size_units) * 1000000
            + last_step // size_units AS quotient,
        {of_units(rounded("quotient", "(last_step % size_units)", "size_units"))} AS vwap"""
