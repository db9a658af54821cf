"""Numeric answers: is the last number of an answer close enough to the expected one?"""

from __future__ import annotations

from decimal import Decimal

from harness_store.verdicts.exact_match import BETWEEN_REFERENCES, last_number, number_of


def numeric(
    response: str,
    reference: str | None,
    *,
    relative_tolerance: float = 0.0,
    absolute_tolerance: float = 0.0,
) -> bool | None:
    """Judge the last number of an answer: right where |said - expected| <= max(absolute, relative x |expected|).

    Args:
        response: what the model said; a boxed number, or one after ####, comes before any other.
        reference: the expected number, or a text whose last number it is; accepted ones are separated by " | ".
        relative_tolerance: as a share of the expected value.
        absolute_tolerance: in the unit of the answer.

    Returns:
        None where the reference holds no number.
    """
    accepted = [_expected(one) for one in (reference or "").split(BETWEEN_REFERENCES)]
    numbers = [number for number in accepted if number is not None]
    if not numbers:
        return None
    said = last_number(response)
    if said is None:
        return False
    # Decimal of a float's text: 0.05 means five hundredths, not the nearest binary fraction.
    relative, absolute = Decimal(str(relative_tolerance)), Decimal(str(absolute_tolerance))
    return any(abs(said - number) <= max(absolute, relative * abs(number)) for number in numbers)


def _expected(reference: str) -> Decimal | None:
    exact = number_of(reference)
    return last_number(reference) if exact is None else exact
