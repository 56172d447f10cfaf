"""argmin_x sum (x_i - y_i)^2/2 + sum w_i abs(x_{i+1} - x_i) by dynamic programming.

Eliminating x_1, .., x_k leaves a convex function of x_{k+1} whose derivative is
piecewise linear; one more edge clips it to [-w, w], which cuts knots at both ends and
adds two. Every knot is added and cut once, so that the work is linear in n [1]_.

.. [1] N. A. Johnson, A dynamic programming algorithm for the fused lasso and
   L0-segmentation, J. Comput. Graph. Stat. 22 (2013),
   doi:10.1080/10618600.2012.681238.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["taut_string"]

# Compiling takes longer than this many entries take in Python.
SHORT = 2000


def taut_string(y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The minimizer x (n,) for data y (n,) and weights w (n - 1,), both float64."""
    n = y.shape[0]
    if n == 1 or not w.any():
        return y.copy()
    run = sweep
    if n >= SHORT:
        run = compiled() or sweep
    # Sums along the chain lose less around the mean.
    shift = float(np.mean(y))
    x = np.empty(n)
    bounds, knots = np.empty((2, n - 1)), np.empty((3, 2 * n))
    run(y - shift, np.ascontiguousarray(w), bounds, knots, x)
    return polished(x, y, w, shift)


def polished(x: np.ndarray, y: np.ndarray, w: np.ndarray, shift: float) -> np.ndarray:
    """The plateaus of x with their exact heights: mean of y plus the pull at the ends.

    The sweep has the right plateaus; its heights carry the rounding of long sums.
    """
    jumps = np.sign(np.diff(x))
    pull = np.zeros_like(x)
    pull[:-1] += w * jumps
    pull[1:] -= w * jumps
    starts = np.flatnonzero(np.concatenate([[True], jumps != 0.0]))
    lengths = np.diff(np.append(starts, x.shape[0]))
    heights = np.add.reduceat(y - shift + pull, starts) / lengths
    # Rounding must not turn a jump around.
    known = np.sign(np.diff(heights)) == jumps[starts[1:] - 1]
    if not known.all():
        return x + shift
    return np.repeat(heights + shift, lengths)


@lru_cache(maxsize=1)
def compiled() -> Callable[..., None] | None:
    """The sweep compiled by numba, or None without it."""
    try:
        # numba that is too old for the installed NumPy or Python fails in many ways.
        import numba
    except Exception:
        return None
    if numba.config.DISABLE_JIT:
        return None
    options = {"nogil": True, "error_model": "numpy"}
    try:
        kernel: Callable[..., None] = numba.njit(cache=True, **options)(sweep)
    except RuntimeError:
        # No writable directory, neither beside this file nor in a home directory.
        kernel = numba.njit(**options)(sweep)
    return kernel


def sweep(y: Any, w: Any, bounds: Any, knots: Any, x: Any) -> None:
    """Fill x; ``bounds`` (2, n-1) and ``knots`` (3, 2n) are scratch.

    The derivative of the message is a line on the left, ``first x + start``, to which
    the knots add slopes knots[1] and offsets knots[2] at the places knots[0].
    """
    n = y.shape[0]
    place, slope, offset = knots[0], knots[1], knots[2]
    l, r = n, n - 1
    before = 0.0
    for k in range(n - 1):
        a, b = 1.0, -before - y[k]
        lo = l
        while lo <= r and a * place[lo] + b <= -w[k]:
            a += slope[lo]
            b += offset[lo]
            lo += 1
        low = (-w[k] - b) / a
        c, d = -1.0, y[k] - before
        hi = r
        while hi >= lo and -c * place[hi] - d >= w[k]:
            c += slope[hi]
            d += offset[hi]
            hi -= 1
        high = (w[k] + d) / -c
        if w[k] == 0.0:
            l, r = n, n - 1
            high = low
        else:
            l, r = lo - 1, hi + 1
            place[l], slope[l], offset[l] = low, a, b + w[k]
            place[r], slope[r], offset[r] = high, c, d + w[k]
        bounds[0, k], bounds[1, k] = low, high
        before = w[k]
    a, b = 1.0, -before - y[n - 1]
    lo = l
    while lo <= r and a * place[lo] + b <= 0.0:
        a += slope[lo]
        b += offset[lo]
        lo += 1
    x[n - 1] = -b / a
    for k in range(n - 2, -1, -1):
        x[k] = min(max(x[k + 1], bounds[0, k]), bounds[1, k])
