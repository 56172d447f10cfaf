"""Inversion of increasing functions, all levels at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["invert"]

Array = Any


def invert(
    cdf: Callable[[Array, Array], Array],
    pdf: Callable[[Array, Array], Array],
    s: Array,
    lo: Array,
    hi: Array,
    x: Array | None = None,
) -> Array:
    """Solve cdf(x) = s in brackets [lo, hi] by safeguarded Newton on log cdf.

    The logarithm makes tails as accurate as the middle; a Newton step that leaves the
    bracket or does not halve is replaced by bisection, which also lands on jumps.

    Parameters
    ----------
    cdf, pdf : callable
        Functions of (x, i) with i the indices of the entries of ``s`` concerned.
    s, lo, hi : (k,) arrays
        Levels in (0, 1) and brackets with cdf(lo) <= s <= cdf(hi).
    x : (k,) array, optional
        First guess, by default the middle of the bracket.
    """
    out = 0.5 * (lo + hi) if x is None else np.clip(x, lo, hi)
    lo, hi = lo.copy(), hi.copy()
    active = np.arange(s.size)
    step = hi - lo
    for _ in range(200):
        xa, sa = out[active], s[active]
        reached = cdf(xa, active)
        low = reached < sa
        lo[active] = np.where(low, xa, lo[active])
        hi[active] = np.where(low, hi[active], xa)
        a, b = lo[active], hi[active]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            new = xa - np.log(reached / sa) * reached / pdf(xa, active)
        newton = (new >= a) & (new <= b) & (np.abs(new - xa) <= 0.5 * step[active])
        newton |= reached == sa
        new = np.where(newton, new, 0.5 * (a + b))
        new = np.where(reached == sa, xa, new)
        spacing = np.spacing(np.abs(xa))
        step[active] = np.where(newton, np.abs(new - xa), 0.5 * (b - a))
        out[active] = new
        done = (np.abs(new - xa) <= 2 * spacing) & newton | (b - a <= 2 * spacing)
        active = active[~done]
        if active.size == 0:
            break
    return out
