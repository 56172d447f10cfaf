"""Heat between walls and on circles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.energies import Entropy
from flows.measures import Dirac, Measure, Uniform
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, time, vector
from flows.problems.base import Problem
from flows.problems.intervals import Images, Product, Waves

__all__ = ["periodic_heat", "reflected_heat"]

Array = Any
LOG_SOBOLEV = (
    "F. B. Weissler, J. Funct. Anal. 37 (1980), doi:10.1016/0022-1236(80)90042-7"
)
FAINTEST = 9.0
"""Terms exp(-z^2/2) with z beyond this are below 1e-17."""


@dataclass(frozen=True, eq=False)
class AxisHeat:
    """Heat on one axis, from a Gaussian at ``mean`` or from Fourier amplitudes."""

    lo: float
    hi: float
    periodic: bool
    mean: float
    std: float
    amplitudes: Array | None

    @property
    def frequency(self) -> float:
        """Lowest frequency, 2 pi over the period of the images."""
        return (2.0 if self.periodic else 1.0) * math.pi / (self.hi - self.lo)

    def at(self, spread: float) -> Measure:
        """Law after diffusion by the variance ``spread`` = 2 T t."""
        if self.amplitudes is not None:
            w: Array = self.frequency * np.arange(1, self.amplitudes.size + 1)
            return self._waves(self.amplitudes * np.exp(-0.5 * spread * w * w))
        s = math.hypot(self.std, math.sqrt(spread))
        if s == 0.0:
            return Dirac(self.mean)
        period = 2.0 * math.pi / self.frequency
        if 4.0 * s > period:
            w = self.frequency * np.arange(
                1, math.ceil(FAINTEST / (self.frequency * s)) + 1
            )
            return self._waves(2.0 * np.exp(-0.5 * (s * w) ** 2))
        # An image farther away than 38 s is below the smallest double.
        n = np.arange(-1, 2) if 38.0 * s < period else np.arange(-11, 12)
        centers = self.mean + period * n
        if not self.periodic:
            centers = np.concatenate([centers, 2.0 * self.lo - centers])
        near = (centers > self.lo - 39.0 * s) & (centers < self.hi + 39.0 * s)
        return Images(self.lo, self.hi, np.sort(centers[near]), s)

    def _waves(self, size: Array) -> Measure:
        k = np.arange(1, size.size + 1)
        angle = self.frequency * k * (self.mean - self.lo)
        cosines, sines = size * np.cos(angle), size * np.sin(angle)
        if not self.periodic:
            cosines = size if self.amplitudes is not None else cosines
            sines = np.zeros_like(size)
        return Waves(self.lo, self.hi, self.frequency, cosines, sines)


@dataclass(frozen=True, eq=False)
class HeatPath:
    """Independent heat flow on every axis."""

    axes: tuple[AxisHeat, ...]
    temperature: float

    def laws(self, t: float) -> tuple[Measure, ...]:
        """Laws of the coordinates at time t."""
        spread = 2.0 * self.temperature * time(t, 0.0)
        return tuple(axis.at(spread) for axis in self.axes)

    def __call__(self, t: float) -> Measure:
        laws = self.laws(t)
        if len(laws) == 1:
            return laws[0]
        if all(isinstance(law, Dirac) for law in laws):
            return Dirac([axis.mean for axis in self.axes])
        return Product(laws)

    def energy(self, t: float) -> float:
        """T times the sum of the entropies of the coordinates."""
        laws = self.laws(t)
        if not all(law.has_density for law in laws):
            return math.inf
        return self.temperature * math.fsum(law.entropy() for law in laws)


def _bounds(box: Any) -> Array:
    bounds = real_array(box, "box")
    bounds = bounds[None] if bounds.ndim == 1 else bounds
    if bounds.ndim != 2 or bounds.shape[1] != 2 or bounds.size == 0:
        raise ValueError(
            f"`box` must be (lo, hi) or such a pair for each axis, got {box!r}."
        )
    if not (bounds[:, 0] < bounds[:, 1]).all():
        raise ValueError(f"`box` must have lo < hi on each axis, got {box!r}.")
    return bounds


def _amplitudes(values: Any, d: int) -> list[Array]:
    rows = [values] if d == 1 and np.ndim(values[0]) == 0 else list(values)
    if len(rows) != d:
        raise ValueError(
            f"`amplitudes` has {len(rows)} entries for {d} axes; give a tuple of "
            "numbers, or one such tuple for each axis."
        )
    checked = [real_array(row, "amplitudes") for row in rows]
    for row in checked:
        if row.ndim != 1:
            raise ValueError(
                f"`amplitudes` has shape {row.shape} on an axis, expected (k,)."
            )
        angle = np.linspace(0.0, 2.0 * np.pi, 256 * (row.size + 1) + 1)
        k = np.arange(1, row.size + 1)
        lowest = 1.0 + float(np.min(np.cos(angle[:, None] * k) @ row))
        if lowest < -1e-12:
            raise ValueError(
                f"`amplitudes` {row.tolist()} make the density negative (minimum "
                f"{lowest:.3g} of the mean density); make them smaller."
            )
    return checked


def _heat(
    name: str,
    start: tuple[Any, Any, Any],
    box: Any,
    temperature: float,
    t: tuple[float, float] | None,
    periodic: bool,
) -> Problem:
    mean, std, amplitudes = start
    bounds = _bounds(box)
    lo, hi = bounds.T
    d, length = bounds.shape[0], hi - lo
    T = number(temperature, "temperature", above=0.0)
    if amplitudes is not None and (
        std is not None or (mean is not None and not periodic)
    ):
        raise ValueError(
            "Give either `amplitudes` or the Gaussian start `mean`, `std`, not both."
        )
    default = lo + (0.0 if amplitudes is not None else 0.3) * length
    m = vector(default if mean is None else mean, d, "mean")
    s = vector(0.1 * length if std is None else std, d, "std")
    if (s < 0).any():
        raise ValueError(f"`std` must not be negative, got {s.min():g}.")
    if not ((m >= lo) & (m <= hi)).all():
        raise ValueError(f"`mean` {m.tolist()} must lie in the box {bounds.tolist()}.")
    rows = [None] * d if amplitudes is None else _amplitudes(amplitudes, d)
    axes = tuple(
        AxisHeat(
            float(lo[k]), float(hi[k]), periodic, float(m[k]), float(s[k]), rows[k]
        )
        for k in range(d)
    )
    path = HeatPath(axes, T)
    gap = T * min(axis.frequency for axis in axes) ** 2
    if t is None:
        t = (0.0, 0.1 * float(np.max(length)) ** 2 / T)
    return Problem(
        name=name,
        energy=Entropy(T),
        exact=path,
        t=interval(t, 0.0),
        limit=Uniform(lo, hi),
        spaces=("Grid",) if d <= 2 else (),
        box=tuple((float(a), float(b)) for a, b in bounds),
        boundary="periodic" if periodic else "no-flux",
        exact_energy=path.energy,
        rate=2.0 * gap,
        constants={"gap": gap, "minimum": -T * float(np.sum(np.log(length)))},
        reference=LOG_SOBOLEV,
    )


def reflected_heat(
    mean: Any = None,
    std: Any = None,
    *,
    amplitudes: Any = None,
    box: Any = (0.0, 1.0),
    temperature: float = 1.0,
    t: tuple[float, float] | None = None,
) -> Problem:
    """Heat equation d_t rho = T Lap rho between walls without flux, on R^d.

    From a Gaussian N(m, s^2) folded at the walls the solution is N(m, s^2 + 2Tt)
    folded, the product over the axes; from amplitudes a_k it is
    (1 + sum_k a_k e^{-T (k pi/L)^2 t} cos(k pi (x - lo)/L)) / L.

    Parameters
    ----------
    mean, std : float or (d,) array, optional
        The Gaussian start; by default 3/10 along each axis and L/10. std 0 is a
        Dirac mass.
    amplitudes : (k,) array, or one for each axis, optional
        Cosine amplitudes instead; the density must not be negative.
    box : (lo, hi), or one such pair for each axis
    temperature : float
        T > 0.
    t : tuple of float, optional
        From t0 >= 0; by default until L^2/(10 T) for the longest axis.

    Returns
    -------
    Problem
        ``rate`` is 2T (pi/L)^2 for the longest axis, as the interval has the
        logarithmic Sobolev constant of the circle of length 2L; ``gap`` is half of it.

    References
    ----------
    Weissler, doi:10.1016/0022-1236(80)90042-7.
    """
    start = (mean, std, amplitudes)
    return _heat("reflected_heat", start, box, temperature, t, periodic=False)


def periodic_heat(
    mean: Any = None,
    std: Any = None,
    *,
    amplitudes: Any = None,
    box: Any = (0.0, 1.0),
    temperature: float = 1.0,
    t: tuple[float, float] | None = None,
) -> Problem:
    """Heat equation d_t rho = T Lap rho on circles of lengths L = hi - lo.

    From a Gaussian wrapped around the circle the solution is N(m, s^2 + 2Tt) wrapped,
    the product over the axes; from amplitudes a_k it is
    (1 + sum_k a_k e^{-T (2 k pi/L)^2 t} cos(2 k pi (x - m)/L)) / L.

    Parameters
    ----------
    mean, std : float or (d,) array, optional
        The Gaussian start; by default 3/10 along each axis and L/10. std 0 is a
        Dirac mass. With ``amplitudes``, mean is the phase m, by default lo.
    amplitudes : (k,) array, or one for each axis, optional
    box : (lo, hi), or one such pair for each axis
    temperature : float
        T > 0.
    t : tuple of float, optional
        From t0 >= 0; by default until L^2/(10 T) for the longest axis.

    Returns
    -------
    Problem
        ``rate`` is 2T (2 pi/L)^2 for the longest axis, ``gap`` half of it.

    References
    ----------
    Weissler, doi:10.1016/0022-1236(80)90042-7.
    """
    start = (mean, std, amplitudes)
    return _heat("periodic_heat", start, box, temperature, t, periodic=True)
