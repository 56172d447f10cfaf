"""Checks of what the user gives to a problem."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flows.measures.checks import real_array

__all__ = [
    "interval",
    "nice_box",
    "number",
    "square",
    "start",
    "time",
    "vector",
]

Array = Any


def number(
    value: Any,
    name: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
) -> float:
    """One finite number > ``above`` and >= ``least``."""
    array = real_array(value, name)
    if array.ndim:
        raise ValueError(f"`{name}` must be one number, got shape {array.shape}.")
    x = float(array)
    if not x > above:
        raise ValueError(f"`{name}` must be greater than {above:g}, got {x:g}.")
    if not x >= least:
        raise ValueError(f"`{name}` must be at least {least:g}, got {x:g}.")
    return x


def time(t: Any, earliest: float = -math.inf) -> float:
    """A time at which the exact solution exists."""
    s = number(t, "t")
    if s < earliest:
        raise ValueError(
            f"The exact solution is known for t >= {earliest:g}, got t = {s:g}."
        )
    return s


def interval(t: Any, earliest: float = -math.inf) -> tuple[float, float]:
    """A time interval (t0, t1) with earliest <= t0 < t1."""
    pair = real_array(t, "t")
    if pair.shape != (2,):
        raise ValueError(f"`t` must be a pair (t0, t1), got {t!r}.")
    t0, t1 = float(pair[0]), float(pair[1])
    if not t0 < t1:
        raise ValueError(f"`t` = ({t0:g}, {t1:g}) must increase: t0 < t1.")
    return time(t0, earliest), t1


def start(x0: Any, name: str = "x0") -> Array:
    """A point (n,) or points (b, n); a number is a point of the line."""
    x = np.atleast_1d(real_array(x0, name))
    if x.ndim > 2 or x.size == 0:
        raise ValueError(
            f"`{name}` has shape {x.shape}, expected a number, (n,) for one point of "
            "R^n, or (b, n) for b points."
        )
    return x


def vector(value: Any, d: int, name: str) -> Array:
    """A vector (d,); a number is the same in every coordinate."""
    v = real_array(value, name)
    if v.shape not in ((), (d,)):
        raise ValueError(
            f"`{name}` has shape {v.shape}, expected a number or ({d},) as the space "
            f"has {d} dimension(s)."
        )
    return np.array(np.broadcast_to(v, (d,)))


def square(value: Any, d: int, name: str) -> Array:
    """A symmetric matrix (d, d); a number is a multiple of 1, a vector diagonal."""
    A = real_array(value, name)
    if A.shape in ((), (d,)):
        return np.diag(np.broadcast_to(A, (d,)))
    if A.shape != (d, d):
        raise ValueError(
            f"`{name}` has shape {A.shape}, expected a number, ({d},) or ({d}, {d})."
        )
    gap = np.abs(A - A.T)
    if gap.max() > 1e-10 * np.abs(A).max():
        i, j = (int(k) for k in np.unravel_index(np.argmax(gap), gap.shape))
        raise ValueError(
            f"`{name}` must be symmetric; entries ({i}, {j}) and ({j}, {i}) are "
            f"{A[i, j]:g} and {A[j, i]:g}."
        )
    return 0.5 * (A + A.T)


def nice_box(lo: Array, hi: Array) -> tuple[tuple[float, float], ...]:
    """Bounds of every axis, rounded outwards to about one part in twenty."""
    box = []
    for a, b in zip(np.ravel(lo), np.ravel(hi), strict=True):
        unit = 10.0 ** math.floor(math.log10(max(b - a, 1e-300) / 2.0))
        unit *= 0.5
        box.append((math.floor(a / unit) * unit, math.ceil(b / unit) * unit))
    return tuple(box)
