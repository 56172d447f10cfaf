"""Stationary states exp(-V/T), and the spectral gap at which they are approached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.energies import Entropy, Potential
from flows.measures import Density
from flows.problems.arguments import nice_box, number
from flows.problems.base import Problem
from flows.problems.fokker_planck import EVERYWHERE, EnergyOf

__all__ = ["gibbs", "metastable", "spectral_gap"]

Array = Any


@dataclass(frozen=True, eq=False)
class GibbsWeight:
    """exp(-(V(x) - shift)/T) at points (.., d)."""

    V: Potential
    T: float
    shift: float

    def __call__(self, x: Array) -> Array:
        return np.exp(-(self.V.value_at(x) - self.shift) / self.T)


@dataclass(frozen=True, eq=False)
class Stationary:
    """The same measure at all times."""

    measure: Any

    def __call__(self, t: float) -> Any:
        return self.measure


def density_of(V: Potential, T: float, d: int) -> Density:
    """The probability density exp(-V/T)/Z."""
    near = np.random.default_rng(0).normal(size=(4000, d)) * 3.0
    shift = float(np.min(V.value_at(near)))
    return Density(GibbsWeight(V, T, shift), d=d)


def gibbs(V: Any, *, T: float = 1.0, d: int = 1) -> Problem:
    """Stationary state exp(-V/T)/Z of entropy and potential, constant in time.

    Parameters
    ----------
    V : anything that ``Potential`` takes, growing at infinity
    T : float
    d : int
        Dimension, 1 to 3.
    """
    T = number(T, "T", above=0.0)
    potential = V if isinstance(V, Potential) else Potential(V)
    measure = density_of(potential, T, d)
    energy = Entropy(T) + potential
    exact = Stationary(measure)
    box = np.asarray(measure.interval(1 - 1e-13)).reshape(-1, 2)
    return Problem(
        "gibbs",
        energy,
        exact,
        (0.0, 1.0),
        limit=measure,
        spaces=EVERYWHERE if d == 1 else ("Grid", "LangevinParticles"),
        box=nice_box(box[:, 0], box[:, 1]),
        exact_energy=EnergyOf(energy, exact),
    )


def spectral_gap(V: Any, T: float = 1.0, *, count: int = 1) -> Any:
    """Smallest positive eigenvalues of -T f'' + V' f', the relaxation rates on the line.

    Computed from the Schrodinger form -T u'' + (V'^2/4T - V''/2) u by sinc collocation
    on an interval that is enlarged and refined until ten digits stand.

    Parameters
    ----------
    V : anything that ``Potential`` takes
        On the line, growing at infinity.
    T : float
        Temperature.
    count : int
        How many; a float is returned for 1, else an array.

    Raises
    ------
    ValueError
        When the eigenvalues do not settle.

    References
    ----------
    F. Stenger, Numerical Methods Based on Sinc and Analytic Functions, Springer 1993,
    doi:10.1007/978-1-4612-2706-9.
    """
    T = number(T, "T", above=0.0)
    potential = V if isinstance(V, Potential) else Potential(V)
    low, high = (float(v) for v in density_of(potential, T, 1).interval(1 - 1e-16))
    center, half = 0.5 * (low + high), 0.55 * (high - low)
    previous = None
    for n in (200, 300, 450, 675, 1000, 1500):
        # The box and the density of points grow together.
        half *= 1.06
        x = center + half * np.linspace(-1.0, 1.0, n)
        h = x[1] - x[0]
        slope = potential.gradient_at(x[:, None])[:, 0]
        curvature = potential.hessian_at(x[:, None])[:, 0, 0]
        k = np.arange(n)
        gap = k[:, None] - k[None, :]
        with np.errstate(divide="ignore"):
            second = np.where(gap == 0, math.pi**2 / 3, 2.0 * (-1.0) ** gap / gap**2.0)
        matrix = T * second / h**2 + np.diag(slope**2 / (4 * T) - 0.5 * curvature)
        from scipy.linalg import eigh

        values = eigh(matrix, eigvals_only=True, subset_by_index=[0, count])
        if previous is not None and np.allclose(
            values[1:], previous[1:], rtol=1e-10, atol=1e-12 * T / h**2
        ):
            return float(values[1]) if count == 1 else values[1:]
        previous = values
    raise ValueError(
        f"The spectrum of {potential!r} at T = {T:g} does not settle; does V grow at "
        "infinity, and is it smooth?"
    )


def metastable(V: Any = "x**4/4 - x**2/2", *, T: float = 0.1) -> Problem:
    """Double well with its Gibbs state and its spectral gap, ``constants["gap"]``.

    A law that starts in one well moves to the other at the rate of the gap.
    """
    problem = gibbs(V, T=T)
    gap = spectral_gap(V, T)
    return Problem(
        "metastable",
        problem.energy,
        problem.exact,
        (0.0, 2.0 / gap),
        limit=problem.limit,
        spaces=problem.spaces,
        box=problem.box,
        exact_energy=problem.exact_energy,
        rate=2.0 * gap,
        constants={"gap": gap},
        reference="H. Risken, The Fokker-Planck Equation, doi:10.1007/978-3-642-61544-3",
    )
