"""Steepest descent in other norms from x0 to the minimum of |x|^2/2, in closed form.

At unit speed, lengths fall linearly and the flow is extinct at a finite time; with the
dual norm as speed the same path is run through with the clock tau' = |x|_*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from flows import energies
from flows.problems.arguments import interval, start, time, vector
from flows.problems.base import Problem
from flows.problems.matrix_flows import matrix_start

__all__ = ["greedy_flow", "normalized_flow", "sign_flow", "spectral_flow"]

Array = Any
NORMS = (
    "S. Boyd, L. Vandenberghe, Convex Optimization, section 9.4, Cambridge University "
    "Press 2004, doi:10.1017/CBO9780511804441"
)


@dataclass(frozen=True, eq=False)
class Clock:
    """tau(t) with tau' = speed(tau), linear between ``knots`` and 0 at the last one.

    Parameters
    ----------
    knots, speeds : (k,) arrays
        ``speeds`` are the values at the knots, which increase.
    """

    knots: Array
    speeds: Array

    def __call__(self, t: float) -> float:
        left = t
        pieces = zip(pairwise(self.knots), pairwise(self.speeds), strict=True)
        for (a, b), (v, w) in pieces:
            slope = (w - v) / (b - a)
            # The last knot, where the speed is 0, is only reached as t grows.
            needed = math.inf if w <= 0 else (b - a) / v
            if slope != 0 and w > 0:
                needed = math.log(w / v) / slope
            if left < needed:
                if slope == 0:
                    return float(a + v * left)
                return float(a + v * math.expm1(slope * left) / slope)
            left -= needed
        return float(self.knots[-1])


def shrinking_clock(lengths: Array) -> Clock:
    """Clock of speed sum_i (lengths_i - tau)_+."""
    knots = np.unique(np.append(0.0, lengths[lengths > 0]))
    speeds = [float(np.maximum(lengths - k, 0.0).sum()) for k in knots]
    return Clock(knots, np.array(speeds))


def filling_clock(lengths: Array) -> Clock:
    """Clock of the water level m(tau) with sum_i (lengths_i - m)_+ = tau."""
    levels = np.unique(np.append(0.0, lengths))[::-1]
    knots = [float(np.maximum(lengths - m, 0.0).sum()) for m in levels]
    return Clock(np.array(knots), levels)


def level(lengths: Array, tau: float) -> float:
    """m >= 0 with sum_i (lengths_i - m)_+ = tau; 0 when that is all of them."""
    ordered = np.sort(lengths)[::-1]
    counts = np.arange(1, ordered.size + 1)
    levels = (np.cumsum(ordered) - tau) / counts
    below = np.append(ordered[1:], 0.0)
    return max(0.0, float(levels[np.argmax(levels >= below)]))


@dataclass(frozen=True, eq=False)
class Radial:
    """(|y0| - tau)_+ along y0/|y0|."""

    y0: Array

    def clock(self) -> Clock:
        return shrinking_clock(np.array([np.linalg.norm(self.y0)]))

    def at(self, tau: float) -> Array:
        size = float(np.linalg.norm(self.y0))
        return self.y0 * (max(0.0, size - tau) / size) if size > 0 else self.y0


@dataclass(frozen=True, eq=False)
class Signs:
    """(|y0_i| - tau)_+ sign(y0_i)."""

    y0: Array

    def clock(self) -> Clock:
        return shrinking_clock(np.abs(self.y0))

    def at(self, tau: float) -> Array:
        return np.sign(self.y0) * np.maximum(np.abs(self.y0) - tau, 0.0)


@dataclass(frozen=True, eq=False)
class Greedy:
    """min(|y0_i|, m) sign(y0_i), the largest entries cut at the level m."""

    y0: Array

    def clock(self) -> Clock:
        return filling_clock(np.abs(self.y0))

    def at(self, tau: float) -> Array:
        m = level(np.abs(self.y0), tau)
        return np.sign(self.y0) * np.minimum(np.abs(self.y0), m)


@dataclass(frozen=True, eq=False)
class Singular:
    """U (sigma - tau)_+ V^T."""

    y0: Array

    def clock(self) -> Clock:
        return shrinking_clock(np.linalg.svd(self.y0, compute_uv=False))

    def at(self, tau: float) -> Array:
        U, s, Vh = np.linalg.svd(self.y0, full_matrices=False)
        return (U * np.maximum(s - tau, 0.0)) @ Vh


@dataclass(frozen=True, eq=False)
class Descent:
    """Center plus a path at the time of its clock."""

    path: Any
    center: Array
    unit_speed: bool

    def __call__(self, t: float) -> Array:
        s = time(t, 0.0)
        return self.center + self.path.at(
            s if self.unit_speed else self.path.clock()(s)
        )

    def energy(self, t: float) -> float:
        """|x - center|^2/2 along the path."""
        return 0.5 * float(np.sum((self(t) - self.center) ** 2))


def descent(
    name: str, path: Any, center: Array, unit_speed: bool, t: Any, extinction: float
) -> Problem:
    """The problem of |x - center|^2/2 with the motion ``path`` of x - center."""
    exact = Descent(path, center, bool(unit_speed))
    return Problem(
        name,
        energies.quadratic(1.0, center=np.ravel(center)),
        exact,
        interval(t, 0.0),
        limit=center,
        spaces=("SteepestDescent",),
        exact_energy=exact.energy,
        constants={"extinction": extinction if unit_speed else math.inf},
        reference=NORMS,
    )


def placed(x0: Any, center: Any) -> tuple[Array, Array]:
    """x0 - center and the center, for one point (n,)."""
    x = start(x0)
    if x.ndim > 1:
        raise ValueError(f"`x0` has shape {x.shape}, expected one point (n,).")
    c = vector(0.0 if center is None else center, x.size, "center")
    return x - c, c


def normalized_flow(
    x0: Any = (3.0, -4.0),
    center: Any = None,
    *,
    unit_speed: bool = True,
    t: tuple[float, float] = (0.0, 4.0),
) -> Problem:
    """V = |x - c|^2/2 in the norm l2: |x - c| = (|x0 - c| - t)_+ at unit speed.

    Without ``unit_speed`` it is the gradient flow, e^{-t}.

    Parameters
    ----------
    x0, center : (n,) array
    unit_speed : bool
    t : tuple of float

    Returns
    -------
    Problem
        Constant ``extinction``: the time of arrival, infinite without ``unit_speed``.
    """
    y, c = placed(x0, center)
    end = float(np.linalg.norm(y))
    return descent("normalized_flow", Radial(y), c, unit_speed, t, end)


def sign_flow(
    x0: Any = (2.0, -1.0, 0.5),
    center: Any = None,
    *,
    unit_speed: bool = True,
    t: tuple[float, float] = (0.0, 1.5),
) -> Problem:
    """V = |x - c|^2/2 in the norm linf: every |x_i - c_i| falls as (|y0_i| - t)_+.

    At unit speed the same holds for every separable V with its minimum at c: signs do
    not see curvature.

    Parameters
    ----------
    x0, center : (n,) array
    unit_speed : bool
        False: the speed is |x - c|_1.
    t : tuple of float
    """
    y, c = placed(x0, center)
    end = float(np.abs(y).max())
    return descent("sign_flow", Signs(y), c, unit_speed, t, end)


def greedy_flow(
    x0: Any = (2.0, -1.5, 0.5),
    center: Any = None,
    *,
    unit_speed: bool = True,
    t: tuple[float, float] = (0.0, 3.0),
) -> Problem:
    """V = |x - c|^2/2 in the norm l1: the largest entry moves, ties move together.

    The entries are cut at the level m with sum_i (|y0_i| - m)_+ = t at unit speed.
    Otherwise the level falls as m' = -m/k while k entries are at it.

    Parameters
    ----------
    x0, center : (n,) array
    unit_speed : bool
        False: the speed is max_i |x_i - c_i|.
    t : tuple of float
    """
    y, c = placed(x0, center)
    end = float(np.abs(y).sum())
    return descent("greedy_flow", Greedy(y), c, unit_speed, t, end)


def spectral_flow(
    W0: Any = ((2.0, 0.3), (0.1, 0.8), (-0.4, 0.2)),
    center: Any = None,
    *,
    unit_speed: bool = True,
    t: tuple[float, float] = (0.0, 1.5),
) -> Problem:
    """V = |W - C|_F^2/2 in the spectral norm: singular values of W - C fall at speed 1.

    W' = -U V^T with W - C = U S V^T; S(t) = (S0 - t)_+ and the vectors stay.

    Parameters
    ----------
    W0, center : (n, k) array
    unit_speed : bool
        False: the speed is the sum of the singular values.
    t : tuple of float
    """
    W = matrix_start(W0)
    C = np.zeros_like(W) if center is None else matrix_start(center, "center")
    if C.shape != W.shape:
        raise ValueError(f"`center` has shape {C.shape}, expected {W.shape}.")
    end = float(np.linalg.norm(W - C, 2))
    return descent("spectral_flow", Singular(W - C), C, unit_speed, t, end)
