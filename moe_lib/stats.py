"""From repeated runs to a verdict: intervals, and thresholds that were written down before the run."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import bootstrap, permutation_test

CONFIDENCE = 0.95
EXACT = 16  # pairs up to which every choice of signs is tried


def mean_interval(values: Sequence[float], *, resamples: int = 9999, seed: int = 0) -> dict[str, float]:
    """Mean of repeated runs with its BCa bootstrap interval :cite:`efron1987bca`.

    Args:
        values: One number per seed, at least three; ``(S,)``.
        resamples: How often the seeds are drawn anew.
        seed: Of the drawing, so that the interval is the same every time.

    Returns:
        ``{"estimate", "low", "high"}`` at 95 % confidence.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 3 or not np.isfinite(values).all():
        raise ValueError(f"needs at least three finite numbers, one per seed; got {values!r}")
    mean = float(values.mean())
    # Equal up to rounding: nothing to resample, and BCa divides by the spread.
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return {"estimate": mean, "low": mean, "high": mean}
    interval = bootstrap(
        (values,), np.mean, confidence_level=CONFIDENCE, n_resamples=resamples, method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return {"estimate": mean, "low": float(interval.low), "high": float(interval.high)}


def compare(method: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """What a method gains on a baseline, seed by seed.

    Args:
        method, baseline: One score per seed, larger is better, and the same seed at the same place; ``(S,)``.

    Returns:
        ``{"estimate", "low", "high"}`` of the mean difference, by :func:`mean_interval`; ``"p"``, by
        :func:`sign_flip_p`; ``"improvement"``, the :func:`probability_of_improvement`.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    if len(method) != len(baseline):
        raise ValueError(f"pairs need as many seeds on both sides, got {len(method)} and {len(baseline)}")
    differences = np.subtract(method, baseline)
    return {
        **mean_interval(differences),
        "p": sign_flip_p(differences),
        "improvement": probability_of_improvement(method, baseline),
    }


def sign_flip_p(differences: Sequence[float]) -> float:
    """How often chance alone gives a mean as far from 0: were there no effect, every sign could be the other.

    Exact for up to 16 differences ``(S,)``. Of S differences it cannot be smaller than 2 / 2 ** S: five seeds
    cannot reach .05, however large the effect.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    differences = np.asarray(differences, dtype=float)
    if differences.ndim != 1 or len(differences) < 2 or not np.isfinite(differences).all():
        raise ValueError(f"needs at least two finite differences, one per seed; got {differences!r}")
    return float(
        permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=2**EXACT,
            rng=np.random.default_rng(0),
        ).pvalue
    )  # fmt: skip


def probability_of_improvement(method: Sequence[float], baseline: Sequence[float]) -> float:
    """How likely a run of the method beats one of the baseline, with any seeds :cite:`agarwal2021precipice`.

    Of all pairs of their runs; a tie counts half.

    Introduced in :doc:`/chapters/02_small_changes`.
    """
    a, b = np.asarray(method, dtype=float)[:, None], np.asarray(baseline, dtype=float)
    if not a.size or not b.size or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"needs finite scores on both sides, got {method!r} and {baseline!r}")
    return float(((a > b) + 0.5 * (a == b)).mean())


def verdict(
    low: float, high: float, *, supported: Mapping[str, float], contradicted: Mapping[str, float]
) -> str:
    """Judge an interval by thresholds given before: *supported*, *contradicted* or *inconclusive*.

    A side is met when the *whole* interval lies beyond its threshold.

    Args:
        low, high: The interval of the quantity.
        supported: ``{"above": x}`` or ``{"below": x}``.
        contradicted: The same; it must leave no value that both sides would claim.

    Introduced in :doc:`/chapters/00_larger_scale`.
    """
    if not low <= high:
        raise ValueError(f"an interval runs from low to high, got low={low!r}, high={high!r}")
    sides = {"supported": _side(supported), "contradicted": _side(contradicted)}
    (way, threshold), (other_way, other_threshold) = sides.values()
    apart = {way, other_way} == {"above", "below"} and (
        threshold >= other_threshold if way == "above" else threshold <= other_threshold
    )
    if not apart:
        raise ValueError(
            f"thresholds overlap: supported {dict(supported)}, contradicted {dict(contradicted)}"
        )
    for word, (way, threshold) in sides.items():
        if low > threshold if way == "above" else high < threshold:
            return word
    return "inconclusive"


def _side(threshold: Mapping[str, float]) -> tuple[str, float]:
    if not isinstance(threshold, Mapping) or list(threshold) not in (["above"], ["below"]):
        raise ValueError(f'a threshold is {{"above": x}} or {{"below": x}}, got {threshold!r}')
    way, value = next(iter(threshold.items()))
    return way, float(value)
