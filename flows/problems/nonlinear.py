"""Porous-medium diffusion, free and confined, with its moving front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows import energies
from flows.measures import Barenblatt, Dirac, Measure
from flows.problems.arguments import interval, nice_box, number, time, vector
from flows.problems.base import Problem

__all__ = ["barenblatt", "confined_barenblatt"]

Array = Any
VAZQUEZ = (
    "J. L. Vazquez, The Porous Medium Equation, Oxford 2007, "
    "doi:10.1093/acprof:oso/9780198569039.001.0001"
)
OTTO = "F. Otto, Comm. PDE 26 (2001), doi:10.1081/PDE-100002243"


def _front_spaces(d: int) -> tuple[str, ...]:
    return {1: ("Grid", "Quantiles"), 2: ("Grid",)}.get(d, ())


def _dimension(d: Any) -> int:
    if isinstance(d, bool) or not isinstance(d, (int, np.integer)) or d < 1:
        raise ValueError(f"`d` must be an integer >= 1, got {d!r}.")
    return int(d)


@dataclass(frozen=True, eq=False)
class FreePath:
    """Barenblatt profiles about a fixed center."""

    m: float
    d: int
    center: Array

    def __call__(self, t: float) -> Measure:
        s = time(t, 0.0)
        if s == 0.0:
            return Dirac(self.center)
        return Barenblatt(self.m, self.d, s, center=self.center)

    def energy(self, t: float) -> float:
        """int u^m/(m-1) dx = beta E abs(x - c)^2 / (d (m-1) t)."""
        law = self(t)
        return law.energy if isinstance(law, Barenblatt) else math.inf


def barenblatt(
    m: float = 2.0,
    d: int = 1,
    *,
    center: Any = 0.0,
    t: tuple[float, float] = (0.1, 1.1),
) -> Problem:
    """Source solution of the porous-medium equation d_t u = Lap u^m, mass 1.

    The energy is int u^m/(m-1) dx; see ``Barenblatt`` for the profile, whose radius
    grows like t^beta with beta = 1/(d(m-1) + 2).

    Parameters
    ----------
    m : float
        m > 1.
    d : int
        Dimension.
    center : float or (d,) array
    t : tuple of float
        From t0 >= 0; at 0 the solution is a Dirac mass, which no grid resolves.

    Returns
    -------
    Problem
        The decay is algebraic, energy ~ t^(2 beta - 1). Constants: ``beta``, ``C``,
        ``k`` of the profile and ``radius``, that of the support at time 1.

    References
    ----------
    Vazquez, doi:10.1093/acprof:oso/9780198569039.001.0001.
    """
    d = _dimension(d)
    m = number(m, "m", above=1.0)
    span = interval(t, 0.0)
    path = FreePath(m, d, vector(center, d, "center"))
    unit, last = Barenblatt(m, d), Barenblatt(m, d, span[1])
    reach = 1.2 * last.radius
    return Problem(
        "barenblatt",
        energies.porous_medium(m),
        path,
        span,
        spaces=_front_spaces(d),
        box=nice_box(path.center - reach, path.center + reach),
        exact_energy=path.energy,
        constants={"beta": unit.beta, "C": unit.C, "k": unit.k, "radius": unit.radius},
        reference=VAZQUEZ,
    )


@dataclass(frozen=True, eq=False)
class ConfinedPath:
    """Barenblatt profiles whose internal time tends to beta/lam."""

    m: float
    d: int
    lam: float
    center: Array
    offset: Array
    first: float

    def clock(self, t: float) -> float:
        """Time of the free solution with the same profile."""
        beta = 1.0 / (self.d * (self.m - 1.0) + 2.0)
        decay = time(t, 0.0) * self.lam / beta
        rest = -math.expm1(-decay) * beta / self.lam
        return rest + self.first * math.exp(-decay)

    def __call__(self, t: float) -> Measure:
        s = self.clock(t)
        center = self.center + math.exp(-self.lam * time(t)) * self.offset
        return Barenblatt(self.m, self.d, s, center=center) if s > 0 else Dirac(center)

    def energy(self, t: float) -> float:
        """int u^m/(m-1) dx + (lam/2) E abs(x - center)^2."""
        law = self(t)
        if not isinstance(law, Barenblatt):
            return math.inf
        distance = law.second_moment + float(np.sum((law.center - self.center) ** 2))
        return law.energy + 0.5 * self.lam * distance


def confined_barenblatt(
    m: float = 2.0,
    d: int = 1,
    lam: float = 1.0,
    *,
    radius: float = 0.5,
    mean: Any = 0.5,
    center: Any = 0.0,
    t: tuple[float, float] = (0.0, 2.0),
) -> Problem:
    """Porous medium in a well, d_t u = Lap u^m + lam div((x - c) u), mass 1.

    u is the free Barenblatt profile at the internal time
    s = beta/lam + (s0 - beta/lam) e^{-lam t/beta}, about c + e^{-lam t} (mean - c).

    Parameters
    ----------
    m : float
        m > 1.
    d : int
        Dimension.
    lam : float
        lam > 0; the potential is lam abs(x - c)^2 / 2.
    radius : float
        Radius of the support at time 0, >= 0; it sets s0.
    mean : float or (d,) array
        Center of mass at time 0.
    center : float or (d,) array
        c.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        ``rate`` is 2 lam, reached by the center of mass. Constants: ``beta`` and
        ``radius``, that of the stationary state.

    References
    ----------
    Otto, doi:10.1081/PDE-100002243.
    """
    d = _dimension(d)
    m, lam = number(m, "m", above=1.0), number(lam, "lam", above=0.0)
    radius = number(radius, "radius", least=0.0)
    c, start = vector(center, d, "center"), vector(mean, d, "mean")
    span = interval(t, 0.0)
    unit = Barenblatt(m, d)
    first = (radius / unit.radius) ** (1.0 / unit.beta)
    path = ConfinedPath(m, d, lam, c, start - c, first)
    rest = Barenblatt(m, d, unit.beta / lam, center=c)
    reach = 1.2 * max(radius, rest.radius)
    lo, hi = np.minimum(c, start) - reach, np.maximum(c, start) + reach
    well = energies.quadratic(lam, center=c if c.any() else None)
    return Problem(
        "confined_barenblatt",
        energies.porous_medium(m, well),
        path,
        span,
        limit=rest,
        spaces=_front_spaces(d),
        box=nice_box(lo, hi),
        exact_energy=path.energy,
        rate=2.0 * lam,
        constants={"beta": unit.beta, "radius": rest.radius},
        reference=OTTO,
    )
