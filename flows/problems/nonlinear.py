"""Porous-medium equations: self-similar solutions, free and confined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.energies import porous_medium
from flows.energies import quadratic as quadratic_energy
from flows.measures import Barenblatt
from flows.problems.arguments import nice_box, number, vector
from flows.problems.base import Problem

__all__ = ["barenblatt", "confined_barenblatt"]

Array = Any
REFERENCE = "F. Otto, Comm. PDE 26 (2001), doi:10.1081/PDE-100002243"


def profile(m: float, d: int, t: float, center: Array) -> Barenblatt:
    """Barenblatt profile of mass 1."""
    return Barenblatt(m, d, t, center=float(center[0]) if d == 1 else center)


def internal_energy(m: float, d: int, t: float) -> float:
    """int U^m/(m-1) of a profile of mass 1: b m2 / (d (m-1) t), m2 its second moment."""
    b = 1.0 / (d * (m - 1.0) + 2.0)
    _, S = profile(m, d, t, np.zeros(d)).moments()
    return float(b * np.trace(S) / (d * (m - 1.0) * t))


@dataclass(frozen=True, eq=False)
class FreeProfile:
    """Barenblatt solution at time t > 0."""

    m: float
    d: int
    center: Array

    def __call__(self, t: float) -> Barenblatt:
        return profile(self.m, self.d, t, self.center)


@dataclass(frozen=True, eq=False)
class FreeEnergy:
    """F of the free solution."""

    m: float
    d: int

    def __call__(self, t: float) -> float:
        return internal_energy(self.m, self.d, t)


def dimension(d: Any) -> int:
    """A dimension d >= 1."""
    if isinstance(d, bool) or not isinstance(d, (int, np.integer)) or d < 1:
        raise ValueError(f"`d` must be an integer >= 1, got {d!r}.")
    return int(d)


def barenblatt(m: float = 2.0, d: int = 1, *, center: Any = 0.0) -> Problem:
    """d_t u = Lap u^m from a point source of mass 1, any m > 1 and dimension.

    The front stands at ``exact(t).radius`` and moves as t^b, b = 1/(d(m-1) + 2).

    Parameters
    ----------
    m : float
    d : int
    center : float or (d,) array
    """
    m, d = number(m, "m", above=1.0), dimension(d)
    c = vector(center, d, "center")
    exact = FreeProfile(m, d, c)
    b = 1.0 / (d * (m - 1.0) + 2.0)
    radius = exact(1.1).radius
    return Problem(
        "barenblatt",
        porous_medium(m),
        exact,
        (0.1, 1.1),
        spaces=("Grid", "Quantiles") if d == 1 else ("Grid",),
        box=nice_box(c - 1.2 * radius, c + 1.2 * radius),
        exact_energy=FreeEnergy(m, d),
        constants={"b": b, "radius": exact(1.0).radius},
        reference=REFERENCE,
    )


@dataclass(frozen=True, eq=False)
class ConfinedProfile:
    """u = s^{-d} G(x/s): s^{1/b} = b/lam + (s0^{1/b} - b/lam) e^{-lam t/b}."""

    m: float
    d: int
    lam: float
    start: float
    center: Array
    rest: Array

    def clock(self, t: float) -> float:
        """s^{1/b}, the time of the free solution with the same profile."""
        b = 1.0 / (self.d * (self.m - 1.0) + 2.0)
        end = b / self.lam
        return end + (self.start - end) * math.exp(-self.lam * t / b)

    def place(self, t: float) -> Array:
        """The center at time t."""
        return self.rest + math.exp(-self.lam * t) * (self.center - self.rest)

    def __call__(self, t: float) -> Barenblatt:
        return profile(self.m, self.d, self.clock(t), self.place(t))


@dataclass(frozen=True, eq=False)
class ConfinedEnergy:
    """int U^m/(m-1) + int lam |x - rest|^2/2 U in closed form."""

    law: ConfinedProfile

    def __call__(self, t: float) -> float:
        law = self.law
        mean, S = law(t).moments()
        z = mean - law.rest
        inner = internal_energy(law.m, law.d, law.clock(t))
        return inner + 0.5 * law.lam * float(np.trace(S) + z @ z)


def confined_barenblatt(
    m: float = 2.0,
    d: int = 1,
    *,
    lam: float = 1.0,
    start: float = 0.05,
    center: Any = 0.5,
    rest: Any = 0.0,
) -> Problem:
    """d_t u = Lap u^m + lam div((x - rest) u): a moving, breathing Barenblatt profile.

    Parameters
    ----------
    m, d : float, int
        Exponent m > 1 and dimension.
    lam : float
        Curvature of the potential lam |x - rest|^2/2, positive.
    start : float
        Time of the free solution whose profile is the start.
    center, rest : float or (d,) array
        Center of the start and of the potential.
    """
    m, d = number(m, "m", above=1.0), dimension(d)
    lam, s = number(lam, "lam", above=0.0), number(start, "start", above=0.0)
    c, r = vector(center, d, "center"), vector(rest, d, "rest")
    exact = ConfinedProfile(m, d, lam, s, c, r)
    b = 1.0 / (d * (m - 1.0) + 2.0)
    limit = profile(m, d, b / lam, r)
    radius = max(limit.radius, exact(0.0).radius)
    lo = np.minimum(c, r) - 1.2 * radius
    hi = np.maximum(c, r) + 1.2 * radius
    energy = porous_medium(m) + quadratic_energy(lam, center=r if d > 1 else float(r[0]))
    return Problem(
        "confined barenblatt",
        energy,
        exact,
        (0.0, 2.0 / lam),
        limit=limit,
        spaces=("Grid", "Quantiles") if d == 1 else ("Grid",),
        box=nice_box(lo, hi),
        exact_energy=ConfinedEnergy(exact),
        rate=2.0 * lam,
        constants={"b": b, "radius": limit.radius},
        reference=REFERENCE,
    )
