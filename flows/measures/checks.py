"""Checks of what the user gives to a measure, and short texts for ``repr``."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.arrays import to_numpy

__all__ = [
    "as_points",
    "as_probabilities",
    "as_weights",
    "generator",
    "per_axis",
    "real_array",
    "sample_size",
    "short",
]

Array = Any
WEIGHT_TOLERANCE = 1e-9


def real_array(values: Any, name: str) -> Array:
    """Private read-only float64 copy of finite real numbers.

    Raises
    ------
    TypeError
        For anything that is not an array of real numbers.
    ValueError
        For NaN or infinite entries.
    """
    try:
        raw = np.asarray(to_numpy(values))
    except ValueError as error:
        raise TypeError(
            f"`{name}` is not an array of numbers: {error}. Nested lists must have "
            "equal lengths."
        ) from error
    if raw.dtype.kind not in "iuf":
        raise TypeError(
            f"`{name}` must be real numbers, got {type(values).__name__} of dtype "
            f"{raw.dtype}."
        )
    array = np.array(raw, dtype=np.float64, order="C")
    bad = ~np.isfinite(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f", the first at index {index}" if index else ""
        raise ValueError(
            f"`{name}` has {int(bad.sum())} non-finite value(s){where}; all must be "
            "finite."
        )
    array.setflags(write=False)
    return array


def as_weights(weights: Any, n: int, name: str = "weights") -> Array:
    """Weights (n,), by default 1/n each.

    Raises
    ------
    ValueError
        For a wrong length, a negative or non-finite weight, or a sum that differs from
        1 by more than 1e-9.
    """
    if weights is None:
        return np.full(n, 1.0 / n)
    w = real_array(weights, name)
    if w.shape != (n,):
        raise ValueError(f"`{name}` has shape {w.shape}, expected ({n},).")
    if (w < 0).any():
        i = int(np.argmin(w))
        raise ValueError(
            f"`{name}` must not be negative; the smallest is {w[i]:g} at index {i}."
        )
    total = float(np.sum(w))
    if abs(total - 1.0) > WEIGHT_TOLERANCE:
        raise ValueError(
            f"`{name}` must sum to 1, got a sum of {total:.12g}; divide them by it."
        )
    w = w / total
    w.setflags(write=False)
    return w


def as_points(x: Any, d: int) -> Array:
    """Points as float64: any shape for d = 1, (.., d) for d >= 2."""
    points = np.asarray(to_numpy(x), dtype=np.float64)
    if d > 1 and (points.ndim == 0 or points.shape[-1] != d):
        raise ValueError(
            f"`x` has shape {points.shape}, expected (.., {d}): the last axis holds "
            f"the coordinates of a point of R^{d}."
        )
    return points


def as_probabilities(s: Any, name: str = "s") -> Array:
    """Numbers in [0, 1] as float64."""
    levels = np.asarray(to_numpy(s), dtype=np.float64)
    if not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"`{name}` must lie in [0, 1]; some entry does not.")
    return levels


def generator(rng: Any) -> np.random.Generator:
    """NumPy generator from a seed or a generator."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if rng < 0:
            raise ValueError(f"`rng` as a seed must not be negative, got {rng}.")
        return np.random.default_rng(int(rng))
    raise TypeError(
        f"`rng` must be an int (a seed) or a NumPy Generator, got {rng!r}; sampling "
        "is random, so say rng=0 to have the same points every time."
    )


def sample_size(n: Any) -> int:
    """A positive integer number of points."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"`n` must be an int, got {n!r}.")
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}.")
    return int(n)


def per_axis(box: Array) -> Any:
    """A box (d, 2) as a pair (lo, hi) for d = 1, a tuple of pairs for d >= 2."""
    pairs = tuple((float(lo), float(hi)) for lo, hi in box)
    return pairs[0] if len(pairs) == 1 else pairs


def short(values: Any) -> str:
    """Text of a number or a small array for ``repr``; large ones give their shape."""
    array = np.asarray(values)
    if array.size > 16:
        return f"<array {array.shape}>"
    if array.ndim == 0:
        return f"{float(array):.6g}"
    return "[" + ", ".join(short(part) for part in array) + "]"
