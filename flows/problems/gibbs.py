"""Stationary states exp(-V/T), and the slowest way into them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.energies import Entropy, Potential
from flows.measures import Density, Measure, cubature
from flows.problems.arguments import interval, nice_box, number, time
from flows.problems.base import Problem
from flows.problems.bounded import _bounds
from flows.problems.fokker_planck import density_spaces
from flows.problems.spectral import (
    SlowMode,
    as_potential,
    probes,
    slow_mode,
    values_at,
)

__all__ = ["gibbs", "metastable"]

Array = Any
BOVIER = (
    "A. Bovier, M. Eckhoff, V. Gayrard, M. Klein, J. Eur. Math. Soc. 6 (2004), "
    "doi:10.4171/JEMS/14"
)


@dataclass(frozen=True, eq=False)
class GibbsWeight:
    """exp(-(V - lowest)/T) at points (.., d)."""

    potential: Potential
    temperature: float
    lowest: float

    def __call__(self, x: Array) -> Array:
        height = np.asarray(self.potential.value_at(x)) - self.lowest
        return np.exp(-height / self.temperature)


@dataclass(frozen=True, eq=False)
class Constant:
    """The same value at all times."""

    value: Any

    def __call__(self, t: float) -> Any:
        time(t)
        return self.value


def _lowest(potential: Potential, d: int, bounds: Array | None) -> tuple[Array, float]:
    """A point where V is about as low as anywhere, and V there."""
    if bounds is None:
        scale = np.concatenate(
            [2.0 ** np.arange(-5.0, 7.0), 3 * 2.0 ** np.arange(-5, 6)]
        )
        line = np.unique(np.concatenate([-scale, [0.0], scale]))
        axes = [line] * d if d > 1 else [probes(None)]
    else:
        axes = [np.linspace(lo, hi, 65) for lo, hi in bounds]
    points = cubature.tensor(axes, [np.ones(axis.size) for axis in axes])[0]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        V = np.asarray(potential.value_at(points), dtype=float)
    V = np.where(np.isfinite(V), V, np.inf)
    i = int(np.argmin(V))
    return points[i], float(V[i])


def gibbs(
    V: Any = "x**4/4 - x**2/2",
    T: float = 1.0,
    *,
    d: int | None = None,
    box: Any = None,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Stationary state q = exp(-V/T)/Z of d_t rho = T Lap rho + div(rho grad V).

    Parameters
    ----------
    V : str, sympy expression, callable or Potential
        Such that exp(-V/T) has a finite integral.
    T : float
        Temperature, T > 0.
    d : int, optional
        Dimension, 1 to 3, of a callable or of a formula in r alone; 1 by default.
    box : (lo, hi), or one such pair for each axis, optional
        Walls; by default the whole space.
    t : tuple of float

    Returns
    -------
    Problem
        ``exact`` is the same at all times; the energy is -T log Z, constant
        ``free_energy``.

    Raises
    ------
    ValueError
        For a potential that depends on time, and a box of another dimension.
    """
    T = number(T, "T", above=0.0)
    potential = as_potential(V)
    if potential.time_dependent:
        raise ValueError(f"{potential!r} depends on time, so no state is stationary.")
    bounds = None if box is None else _bounds(box)
    size = d or potential.function.dimension or (1 if bounds is None else len(bounds))
    if bounds is not None and len(bounds) != size:
        raise ValueError(
            f"`box` has {len(bounds)} pair(s) for a potential on R^{size}."
        )
    point, lowest = _lowest(potential, size, bounds)
    weight = GibbsWeight(potential, T, lowest)
    support = None if bounds is None else [tuple(pair) for pair in bounds.tolist()]
    measure = Density(weight, support, d=size)
    # log q = -V/T - log Z holds at every point; here nothing underflows.
    log_q = float(measure.log_pdf(point[0] if size == 1 else point))
    free_energy = lowest + T * log_q
    shown = measure.box(1.0 - 1e-14) if bounds is None else bounds
    return Problem(
        "gibbs",
        Entropy(T) + potential,
        Constant(measure),
        interval(t),
        limit=measure,
        spaces=density_spaces(size, T) if bounds is None else ("Grid",)[: size < 3],
        box=nice_box(*shown.T)
        if bounds is None
        else tuple((float(a), float(b)) for a, b in bounds),
        boundary=None if bounds is None else "no-flux",
        exact_energy=Constant(free_energy),
        constants={"free_energy": free_energy},
    )


@dataclass(frozen=True, eq=False)
class SlowWeight:
    """exp(-(V - lowest)/T) (1 + amplitude f)."""

    gibbs: GibbsWeight
    mode: SlowMode
    amplitude: float

    def __call__(self, x: Array) -> Array:
        # Rounding may take f an ulp beyond 1, where the factor is 0.
        factor = np.maximum(1.0 + self.amplitude * self.mode(x[..., 0]), 0.0)
        return self.gibbs(x) * factor


@dataclass(frozen=True, eq=False)
class SlowPath:
    """q (1 + a e^{-gap t} f) for the slowest eigenfunction f."""

    gibbs: GibbsWeight
    mode: SlowMode
    amplitude: float
    support: tuple[float, float]

    def size(self, t: float) -> float:
        """a e^{-gap t}."""
        return self.amplitude * math.exp(-self.mode.gap * time(t, 0.0))

    def __call__(self, t: float) -> Measure:
        weight = SlowWeight(self.gibbs, self.mode, self.size(t))
        return Density(weight, self.support)

    def energy(self, t: float) -> float:
        """-T log Z + T int q (1 + u) log(1 + u), u = a e^{-gap t} f."""
        from scipy.special import xlogy

        ratio = 1.0 + self.size(t) * self.mode(self.mode.nodes)
        T = self.gibbs.temperature
        free = self.mode.lowest - T * self.mode.log_mass
        ratio = np.maximum(ratio, 0.0)
        return free + T * float(self.mode.weights @ xlogy(ratio, ratio))


def metastable(
    V: Any = "x**4/4 - x**2/2",
    T: float = 0.2,
    *,
    amplitude: float = 0.9,
    box: Any = None,
    t: tuple[float, float] | None = None,
) -> Problem:
    """The slowest way into equilibrium on the line, exact for every V and T.

    rho = q (1 + a e^{-gap t} f), q = exp(-V/T)/Z, where f is the eigenfunction of
    -T f'' + V' f' with the smallest positive eigenvalue ``gap``, scaled to
    max abs(f) = 1: for two wells, a surplus of mass in the right one that leaks over
    the barrier at a rate of about exp(-barrier/T).

    Parameters
    ----------
    V : str, sympy expression, callable or Potential
        Of one coordinate, growing faster than abs(x).
    T : float
        Temperature, T > 0.
    amplitude : float
        a in [-1, 1], not 0.
    box : (lo, hi), optional
        Reflecting walls.
    t : tuple of float, optional
        From t0 >= 0; by default (0, 1/gap).

    Returns
    -------
    Problem
        ``rate`` is 2 gap for V symmetric about some point, else gap (a bound; the
        energy always ends with the rate 2 gap). Constants: ``gap``, ``free_energy``,
        ``chi2`` = int (rho/q - 1)^2 q at time 0, which falls as e^{-2 gap t} exactly.

    Raises
    ------
    ValueError
        For an amplitude outside [-1, 1] or 0, at which there is no such density.

    References
    ----------
    Bovier, Eckhoff, Gayrard, Klein, doi:10.4171/JEMS/14.
    """
    T = number(T, "T", above=0.0)
    a = number(amplitude, "amplitude")
    if not 0.0 < abs(a) <= 1.0:
        raise ValueError(f"`amplitude` must be in [-1, 1] and not 0, got {a:g}.")
    potential = as_potential(V)
    mode = slow_mode(potential, T, box)
    weight = GibbsWeight(potential, T, mode.lowest)
    lo, hi = float(mode.edges[0]), float(mode.edges[-1])
    path = SlowPath(weight, mode, a, (lo, hi))
    if t is None:
        t = (0.0, 1.0 / mode.gap)
    mirrored = values_at(potential, lo + hi - mode.nodes)
    gap_to_mirror = np.abs(mirrored - values_at(potential, mode.nodes))
    even = float(mode.weights @ gap_to_mirror) <= 1e-9 * T
    rest = Density(weight, (lo, hi))
    return Problem(
        "metastable",
        Entropy(T) + potential,
        path,
        interval(t, 0.0),
        limit=rest,
        spaces=density_spaces(1, T) if box is None else ("Grid",),
        box=nice_box(*rest.box(1.0 - 1e-14).T) if box is None else ((lo, hi),),
        boundary=None if box is None else "no-flux",
        exact_energy=path.energy,
        rate=(2.0 if even else 1.0) * mode.gap,
        constants={
            "gap": mode.gap,
            "free_energy": mode.lowest - T * mode.log_mass,
            "chi2": a * a * float(mode.weights @ mode(mode.nodes) ** 2),
        },
        reference=BOVIER,
    )
