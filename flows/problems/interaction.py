"""Attraction and repulsion without noise: exact maps of measures and particles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from flows.energies import Interaction
from flows.measures import Dirac, Empirical, Gaussian, Measure, Uniform
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, time
from flows.problems.base import Problem
from flows.problems.mckean_vlasov import CARRILLO
from flows.problems.modes import decayed
from flows.problems.pushed import Affine, Spread, spread_pieces
from flows.symbolic import QuadraticField

__all__ = [
    "aggregation_quadratic",
    "attraction_repulsion",
]

Array = Any
CHAIN = (
    "G. A. Bonaschi, J. A. Carrillo, M. Di Francesco, M. A. Peletier, ESAIM: COCV 21 "
    "(2015), doi:10.1051/cocv/2014032"
)


@dataclass(frozen=True, eq=False)
class Contraction:
    """x -> m + e^{-kt} (x - m) about the mean, of points (n, d) or of a measure."""

    start: Any
    mean: Array
    strength: float

    def __call__(self, t: float) -> Any:
        change = float(np.expm1(-self.strength * time(t)))
        if not isinstance(self.start, Measure):
            return self.start + change * (self.start - self.mean)
        return scaled(self.start, 1.0 + change, -change * self.mean)


def scaled(measure: Measure, factor: float, shift: Array) -> Measure:
    """Law of factor X + shift for factor > 0, of the same kind where there is one."""
    match measure:
        case Dirac():
            return Dirac(factor * measure.point + shift)
        case Empirical():
            return Empirical(factor * measure.points + shift, measure.weights)
        case Uniform():
            low, high = factor * measure.low + shift, factor * measure.high + shift
            if (low < high).all():
                return Uniform(low, high)
            # A box thinner than the spacing of doubles has no ends to name it by.
            return Dirac(low) if (low == high).all() else Affine(measure, factor, shift)
        case Gaussian() if measure.d == 1:
            return Gaussian(factor * measure.center + shift, [factor * measure.std])
        case Gaussian():
            return Gaussian(
                factor * measure.center + shift, factor**2 * measure.covariance
            )
    return Affine(measure, factor, shift)


def _scaled_energy(start: float, rate: float, rest: float, t: float) -> float:
    return rest + (start - rest) * float(np.exp(-rate * time(t)))


def aggregation_quadratic(
    start: Any = None,
    *,
    strength: float = 1.0,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Attraction W(z) = k abs(z)^2/2 alone: everything contracts to its mean.

    x(t) = m + e^{-kt} (x(0) - m), for measures and for particles, exactly for every
    number of them.

    Parameters
    ----------
    start : Measure, or (n, d) array of particles
        At time 0, with finite covariance; by default ``Uniform(-1, 1)``.
    strength : float
        k; negative ones repel.
    t : tuple of float

    Returns
    -------
    Problem
        The energy is (k/2) tr Cov, and falls as e^{-2kt}: ``rate`` is 2k. Constants:
        ``mean``, ``variance`` (trace of the initial covariance).

    Raises
    ------
    ValueError
        For a measure without a finite covariance, and other shapes.
    """
    k = number(strength, "strength")
    if start is None:
        start = Uniform(-1.0, 1.0)
    if isinstance(start, Measure):
        mean, covariance = start.moments()
        total, d = float(np.trace(covariance)), start.d
        if not np.isfinite(total):
            raise ValueError(f"{start!r} has no finite covariance.")
        spaces = ("Quantiles", "Particles") if d == 1 else ("Particles",)
    else:
        start = particles(start)
        mean, d = start.mean(axis=0), start.shape[1]
        total = float(np.sum((start - mean) ** 2)) / start.shape[0]
        spaces = ("Particles",)
    exact = Contraction(start, np.array(mean), k)
    limit: Any = None
    if k > 0:
        limit = Dirac(mean) if isinstance(start, Measure) else start * 0.0 + mean
    return Problem(
        "aggregation_quadratic",
        Interaction(QuadraticField(k)),
        exact,
        interval(t),
        limit=limit,
        spaces=spaces,
        exact_energy=partial(_scaled_energy, 0.5 * k * total, 2.0 * k, 0.0),
        rate=2.0 * k if k > 0 else None,
        constants={"mean": np.array(mean), "variance": total},
        reference=CARRILLO,
    )


def particles(x: Any) -> Array:
    """Particles (n, d)."""
    points = real_array(x, "start")
    if points.ndim != 2 or points.size == 0:
        raise ValueError(
            f"`start` has shape {points.shape}, expected a Measure or particles "
            "(n, d); a vector x of points on the line is x[:, None]."
        )
    return points


def block(mean: float, half: float) -> Measure:
    """Uniform law of a half-width, or a point where doubles do not tell its ends."""
    low, high = mean - half, mean + half
    return Uniform(low, high) if low < high else Dirac(mean)


@dataclass(frozen=True, eq=False)
class Spreading:
    """Quantile X = m + e^{-qt} (X0 - m) + c (2s - 1) (1 - e^{-qt})/q."""

    start: Any
    mean: float
    attraction: float
    repulsion: float

    def factors(self, t: float) -> tuple[float, float]:
        """Factor of the initial fluctuations, and half-width that a point opens to."""
        s = time(t, 0.0)
        opened = self.repulsion * float(decayed(np.float64(self.attraction), s))
        return float(np.exp(-self.attraction * s)), opened

    def __call__(self, t: float) -> Any:
        factor, opened = self.factors(t)
        shift = (1.0 - factor) * self.mean
        start = self.start
        if not isinstance(start, Measure):
            n = start.shape[0]
            order = np.argsort(start[:, 0], kind="stable")
            levels = np.empty(n)
            levels[order] = (2.0 * np.arange(n) + 1.0 - n) / n
            return factor * start + shift + opened * levels[:, None]
        match start:
            case _ if opened == 0.0:
                return scaled(start, factor, np.array([shift]))
            case Dirac():
                return block(self.mean, opened)
            case Uniform():
                half = 0.5 * factor * float(start.high[0] - start.low[0])
                return block(self.mean, half + opened)
        pieces = start.pieces()
        if pieces is not None:
            return spread_pieces(pieces, factor, shift, opened)
        return Spread(start, factor, shift, opened)


@dataclass(frozen=True)
class SpreadingEnergy:
    """(q/2) Var - (c/2) E abs(X - Y), from the initial moments."""

    path: Spreading
    variance: float
    difference: float
    third: float

    def __call__(self, t: float) -> float:
        factor, opened = self.path.factors(t)
        q, c = self.path.attraction, self.path.repulsion
        variance = factor**2 * self.variance
        variance += factor * opened * self.difference + opened**2 * self.third
        distance = factor * self.difference + 2.0 * opened * self.third
        return 0.5 * (q * variance - c * distance)


def attraction_repulsion(
    start: Any = None,
    *,
    attraction: float = 1.0,
    repulsion: float = 1.0,
    t: tuple[float, float] = (0.0, 2.0),
) -> Problem:
    """W(z) = q z^2/2 - c abs(z) on the line: everything becomes a uniform block.

    In the mass coordinate s in (0, 1) the quantiles are X(s, t) =
    m + e^{-qt} (X(s, 0) - m) + c (2s - 1) (1 - e^{-qt})/q; a point opens at once into
    a block, a uniform block stays one, and all end on [m - c/q, m + c/q].

    Parameters
    ----------
    start : Measure on the line, or (n, 1) array of distinct particles
        At time 0; by default ``Uniform(-0.25, 0.25)``. Particles follow the midpoint
        levels s_i = (i + 1/2)/n exactly, for every n.
    attraction, repulsion : float
        q >= 0 and c >= 0; q = 0 spreads for ever.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        ``rate`` is 2q, with equality at all times. Constants: ``mean``, ``radius`` c/q.

    Raises
    ------
    ValueError
        For a measure that is not on the line, and for particles that coincide.

    References
    ----------
    Bonaschi, Carrillo, Di Francesco, Peletier, doi:10.1051/cocv/2014032.
    """
    q = number(attraction, "attraction", least=0.0)
    c = number(repulsion, "repulsion", least=0.0)
    if start is None:
        start = Uniform(-0.25, 0.25)
    third = 1.0 / 3.0
    if isinstance(start, Measure):
        if start.d != 1:
            raise ValueError(f"`start` must be a measure on the line, got {start!r}.")
        mean, variance = start.mean, start.cov
        difference = start.expect_difference(lambda z: np.abs(z[..., 0]))
    else:
        start = particles(start)
        n = start.shape[0]
        x = np.sort(start[:, 0])
        if start.shape[1] != 1 or not (np.diff(x) > 0).all():
            raise ValueError(
                f"`start` must hold distinct particles (n, 1), got shape {start.shape}"
                f" with {np.unique(x).size} distinct first coordinates: coincident "
                "particles never part, though a measure does."
            )
        mean, variance = float(x.mean()), float(x.var())
        levels = (2.0 * np.arange(n) + 1.0 - n) / n
        difference = 2.0 * float(np.mean(levels * x))
        third = float(np.mean(levels**2))
    exact = Spreading(start, mean, q, c)
    energy = Interaction("q*x**2/2 - c*abs(x)", parameters={"q": q, "c": c})
    rest = None
    if q > 0:
        rest = Spreading(start, mean, q, c)(800.0 / q)
        if isinstance(start, Measure):
            rest = block(mean, c / q)
    return Problem(
        "attraction_repulsion",
        energy,
        exact,
        interval(t, 0.0),
        limit=rest,
        spaces=("Quantiles", "Particles")
        if isinstance(start, Measure)
        else ("Particles",),
        exact_energy=SpreadingEnergy(exact, variance, difference, third),
        rate=2.0 * q if q > 0 else None,
        constants={"mean": mean, **({"radius": c / q} if q > 0 else {})},
        reference=CHAIN,
    )
