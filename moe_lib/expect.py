"""Numbers that a chapter promises: checked where they are computed, printed so that they can be compared."""

import math


class Unexpected(AssertionError):
    """A number of the book came out differently from what the text says."""


def expect(
    what: str,
    value: float,
    *,
    near: float | None = None,
    tol: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Print what is expected of a number, and raise :class:`Unexpected` if the number disagrees.

    The line names the expectation and not the value, so it is the same on every machine on which the
    expectation holds, and a re-run of the notebook can compare it to the letter.

    Args:
        what: What the number is, in words that can stand in a sentence.
        value: The number: a float, or anything that ``float`` takes (a one-element tensor).
        near: The value the text states; needs ``tol``.
        tol: The largest allowed ``|value - near|``.
        above: Smallest value allowed (itself excluded).
        below: Largest value allowed (itself excluded).

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    conditions = []
    if (near is None) != (tol is None):
        raise ValueError(f"expect({what!r}): near and tol go together, got near={near!r}, tol={tol!r}")
    try:
        value = float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"expect({what!r}): needs one number, got {value!r}") from None
    if near is not None:
        if not tol >= 0:
            raise ValueError(f"expect({what!r}): tol is {tol!r}; it should be zero or positive")
        conditions.append((f"{near:g} ± {tol:g}", abs(value - near) <= tol))
    if above is not None:
        conditions.append((f"above {above:g}", value > above))
    if below is not None:
        conditions.append((f"below {below:g}", value < below))
    if not conditions:
        raise ValueError(f"expect({what!r}): say what is expected with near= and tol=, above= or below=")
    expected = " and ".join(text for text, _ in conditions)
    if math.isnan(value) or not all(met for _, met in conditions):
        raise Unexpected(f"{what} is {value:.6g}, expected {expected}")
    print(f"✓ {what}: {expected}")
