"""The curves of a run and the bounds that convexity or an inequality promises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.arrays import dtype_name, to_numpy
from flows.theory.evi import PROXIMAL, cost, has_divergence, spread

__all__ = ["Bound", "approach_bound", "energy_bounds"]

Array = Any


@dataclass(frozen=True, eq=False)
class Bound:
    """A curve of a run and what bounds it, (k,) or (k, b).

    ``tol`` times the bound plus ``rounding`` is what the comparison forgives.

    Attributes
    ----------
    name : str
        "f - f*", "distance" or "divergence".
    formula : str
        The inequality, as it is printed.
    curve, bound, rounding : (k,) or (k, b) array
    tol : float
    """

    name: str
    formula: str
    curve: np.ndarray
    bound: np.ndarray
    rounding: np.ndarray
    tol: float

    @property
    def holds(self) -> bool:
        """Whether the curve stays below the bound."""
        return bool((self.curve <= (1.0 + self.tol) * self.bound + self.rounding).all())

    @property
    def tightness(self) -> float:
        """Largest curve / bound after the start, where the bound is above rounding."""
        seen = (self.bound > 1e3 * self.rounding) & np.isfinite(self.bound)
        seen[0] = False
        ratio = self.curve / np.where(seen, self.bound, 1.0)
        return float(ratio[seen].max()) if seen.any() else math.nan


def factors(sol: Any, mu: float, power: int, per_step: float) -> np.ndarray:
    """e^(-power mu t), or for proximal steps the product of (1 + a mu h)^(-b).

    ``per_step`` is a; b is ``power`` for a = 1.
    """
    t = np.asarray(sol.t, dtype=float)
    if sol.stats.get("scheme") not in PROXIMAL:
        return np.asarray(np.exp(-power * mu * (t - t[0])))
    b = power if per_step == 1.0 else 1
    spans, dt = np.diff(t), sol.stats.get("dt")
    # An unknown number of steps counts as one, whose factor is the largest.
    count = np.ones_like(spans)
    if isinstance(dt, float):
        count = np.maximum(1.0, np.ceil(spans / dt - 1e-9))
    logs = -b * count * np.log1p(per_step * mu * spans / count)
    return np.asarray(np.exp(np.concatenate([[0.0], np.cumsum(logs)])))


def is_proximal(sol: Any) -> bool:
    """Whether the steps of the run are proximal."""
    return sol.stats.get("scheme") in PROXIMAL


def energy_bounds(
    sol: Any,
    z: Array | None,
    minimum: Any,
    convexity: float | None,
    pl: float | None,
    tol: float,
) -> list[Bound]:
    """What bounds f - f*."""
    if minimum is None:
        return []
    energy = np.asarray(to_numpy(sol.energy), dtype=float)
    lowest = np.asarray(minimum, dtype=float)
    excess = energy - lowest
    eps = float(np.finfo(dtype_name(sol.u[0])).eps)
    rounding = 64 * eps * (np.abs(energy) + np.abs(lowest))
    # Below by more than what a discretization does: not the minimum.
    if (excess < -1e-3 * np.ptp(energy, axis=0) - rounding).any():
        raise ValueError(
            f"`minimum` is {minimum!r}, but the energy of the run falls to "
            f"{energy.min():.9g}: give the lowest value of the energy."
        )
    convex = convexity is not None and convexity >= 0.0
    found = []
    if convexity is not None and convex:
        bregman = has_divergence(sol.space)
        convex_bounds = bregman_bounds if bregman else metric_bounds
        found += convex_bounds(sol, z, float(convexity), excess)
    if pl is not None:
        found += pl_bounds(sol, pl, convex, excess)
    return [
        Bound("f - f*", f"f - f* <= {text}", excess, bound, rounding, tol)
        for text, bound in found
    ]


def over_time(sol: Any, start: Any, like: np.ndarray) -> np.ndarray:
    """start/t, infinite at t = 0: there is no bound, also where start = 0."""
    elapsed = spread(np.asarray(sol.t, float) - float(sol.t[0]), like)
    later = np.where(elapsed > 0.0, elapsed, 1.0)
    return np.asarray(np.where(elapsed > 0.0, start / later, np.inf))


def metric_bounds(
    sol: Any, z: Array | None, mu: float, excess: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Bounds for f that is mu-convex along geodesics."""
    found = []
    if z is not None:
        half = 0.5 * cost(sol.space, z, sol.u[0])
        found.append(("R^2/(4 t)", over_time(sol, half, excess)))
    if mu > 0.0:
        text = "prod (1 + mu h)^-2" if is_proximal(sol) else "e^(-2 mu t)"
        decay = spread(factors(sol, mu, 2, 1.0), excess)
        found.append((f"{text} (f_0 - f*)", decay * excess[0]))
    return found


def bregman_bounds(
    sol: Any, z: Array | None, mu: float, excess: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Bounds for f with f - mu phi convex, phi the map of a mirror flow.

    D(x*, x)' <= f* - f - mu D(x*, x), and f falls.
    """
    if z is None:
        return []
    start = cost(sol.space, z, sol.u[0])
    found = [("D_0/t", over_time(sol, start, excess))]
    if mu > 0.0:
        growth = "prod (1 + mu h)" if is_proximal(sol) else "e^(mu t)"
        decay = spread(factors(sol, mu, 1, 1.0), excess)
        with np.errstate(divide="ignore"):
            bound = np.where(decay < 1.0, mu * start * decay / (1.0 - decay), np.inf)
        found.append((f"mu D_0/({growth} - 1)", bound))
    return found


def pl_bounds(
    sol: Any, pl: float, convex: bool, excess: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Bounds by the Polyak-Lojasiewicz inequality; none is known for Bregman steps."""
    proximal = is_proximal(sol)
    if proximal and has_divergence(sol.space):
        return []
    if proximal and not convex:
        decay = spread(factors(sol, pl, 1, 1.0), excess)
    else:
        decay = spread(factors(sol, pl, 2, 2.0 if convex else 1.0), excess)
    text = f"prod 1/(1 + {'2 ' if convex else ''}m h)" if proximal else "e^(-2 m t)"
    return [(f"{text} (f_0 - f*) by PL", decay * excess[0])]


def approach_bound(sol: Any, z: Array, convexity: float, tol: float) -> Bound:
    """d(x, x*) <= e^(-lambda t) R, or D(x*, x) <= e^(-lambda t) D_0."""
    space = sol.space
    bregman = has_divergence(space)
    eps = float(np.finfo(dtype_name(sol.u[0])).eps)
    ends = [z, sol.u[0]]
    if bregman:
        curve = np.array([cost(space, z, u) for u in sol.u])
        sizes = [abs(to_numpy(space.map.value(u))) for u in ends]
        size = np.max(sum(sizes) + curve[0])
    else:
        curve = np.array([to_numpy(space.distance(u, z)) for u in sol.u], dtype=float)
        size = np.max([to_numpy(space.distance(u, 0.0 * u)) for u in ends])
    bound = spread(factors(sol, convexity, 1, 1.0), curve) * curve[0]
    rounding = np.full(curve.shape, 64 * eps * size)
    name, far, near = ("distance", "R", "d(x, x*)")
    if bregman:
        name, far, near = ("divergence", "D_0", "D(x*, x)")
    decay = "prod 1/(1 + mu h) " if is_proximal(sol) else "e^(-mu t) "
    text = f"{near} <= {decay if convexity else ''}{far}"
    return Bound(name, text, curve, bound, rounding, tol)
