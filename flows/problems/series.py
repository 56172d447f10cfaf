"""The heat equation between walls and on a circle, by its eigenfunctions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.energies import Entropy
from flows.measures import Density, Uniform
from flows.problems.arguments import number, vector
from flows.problems.base import Problem
from flows.problems.fokker_planck import EnergyOf

__all__ = ["periodic_heat", "reflected_heat"]

Array = Any
# Modes whose amplitude has fallen below this do not change a double.
NEGLIGIBLE = 1e-18


@dataclass(frozen=True, eq=False)
class CosineProduct:
    """prod_i (1/L_i) (1 + sum_k a_k cos(k pi (x_i - lo_i)/L_i)), the density itself."""

    low: Array
    length: Array
    amplitudes: tuple[Array, ...]

    def __call__(self, x: Array) -> Array:
        value: Any = 1.0
        for i, a in enumerate(self.amplitudes):
            k = np.arange(1, len(a) + 1)
            s = (x[..., i] - self.low[i]) / self.length[i]
            wave = np.cos(math.pi * s[..., None] * k) @ a if len(a) else 0.0 * s
            value = value * (1.0 + wave) / self.length[i]
        return np.maximum(value, 0.0)


@dataclass(frozen=True, eq=False)
class ReflectedHeat:
    """Cosine modes that decay as e^{-D (k pi/L)^2 t}."""

    low: Array
    length: Array
    amplitudes: tuple[Array, ...]
    D: float

    def __call__(self, t: float) -> Density:
        decayed = []
        for a, L in zip(self.amplitudes, self.length, strict=True):
            k = np.arange(1, len(a) + 1)
            now = a * np.exp(-self.D * (math.pi * k / L) ** 2 * t)
            keep = np.flatnonzero(np.abs(now) > NEGLIGIBLE)
            decayed.append(now[: keep[-1] + 1] if len(keep) else now[:0])
        function = CosineProduct(self.low, self.length, tuple(decayed))
        box = [(lo, lo + L) for lo, L in zip(self.low, self.length, strict=True)]
        if len(box) == 1:
            return Density(function, support=box[0])
        return Density(function, support=box, d=len(box))


def reflected_heat(
    low: Any = 0.0, high: Any = 1.0, *, amplitudes: Any = (0.5, 0.3), temperature: float = 1.0
) -> Problem:
    """d_t rho = T Lap rho between reflecting walls: modes a_k cos(k pi x/L) e^{-T(k pi/L)^2 t}.

    Parameters
    ----------
    low, high : float or (d,) array
        The interval, or the box in 2 or 3 dimensions.
    amplitudes : sequence
        a_1, a_2, ... of the start, the same in every direction; the sum of their sizes
        must be at most 1, so that the density is not negative.
    temperature : float
    """
    d = max(np.size(low), np.size(high))
    lo, hi = vector(low, d, "low"), vector(high, d, "high")
    if not (lo < hi).all():
        raise ValueError(f"`low` = {low!r} must be less than `high` = {high!r}.")
    a = np.asarray(amplitudes, dtype=float)
    if a.ndim != 1 or np.abs(a).sum() > 1.0:
        raise ValueError(
            "`amplitudes` must be a sequence whose sizes sum to at most 1, got "
            f"{amplitudes!r}."
        )
    T = number(temperature, "temperature", above=0.0)
    exact = ReflectedHeat(lo, hi - lo, (a,) * d, T)
    slowest = T * (math.pi / float((hi - lo).max())) ** 2
    energy = Entropy(T)
    uniform = Uniform(float(lo[0]), float(hi[0])) if d == 1 else Uniform(lo, hi)
    return Problem(
        "reflected heat",
        energy,
        exact,
        (0.0, 1.0 / slowest),
        limit=uniform,
        spaces=("Grid",),
        box=tuple(zip(lo.tolist(), hi.tolist(), strict=True)),
        boundary="no-flux",
        exact_energy=EnergyOf(energy, exact),
        rate=2.0 * slowest,
        constants={"eigenvalue": slowest},
    )


@dataclass(frozen=True, eq=False)
class WrappedGaussian:
    """Sum over k of N(m + k L, s^2), as a density on one period."""

    mean: float
    variance: float
    low: float
    length: float

    def __call__(self, x: Array) -> Array:
        y = x[..., 0] - self.mean
        s = math.sqrt(self.variance)
        if s < 0.4 * self.length:
            k = np.arange(-5, 6) * self.length
            z = (y - self.length * np.round(y / self.length))[..., None] + k
            return np.exp(-0.5 * (z / s) ** 2).sum(-1) / (s * math.sqrt(2 * math.pi))
        # The dual series converges where the images overlap.
        k = np.arange(1, 12)
        decay = np.exp(-0.5 * self.variance * (2 * math.pi * k / self.length) ** 2)
        waves = np.cos(2 * math.pi * y[..., None] * k / self.length) @ decay
        return (1.0 + 2.0 * waves) / self.length


@dataclass(frozen=True, eq=False)
class PeriodicHeat:
    """Wrapped Gaussian of variance s^2 + 2 T t."""

    mean: float
    std: float
    low: float
    length: float
    T: float

    def __call__(self, t: float) -> Density:
        variance = self.std**2 + 2.0 * self.T * t
        function = WrappedGaussian(self.mean, variance, self.low, self.length)
        return Density(function, support=(self.low, self.low + self.length))


def periodic_heat(
    mean: float = 0.0,
    std: float = 0.1,
    *,
    low: float = -0.5,
    length: float = 1.0,
    temperature: float = 1.0,
) -> Problem:
    """d_t rho = T rho_xx on a circle: a wrapped Gaussian of variance s^2 + 2 T t.

    Parameters
    ----------
    mean, std : float
        Start; std is positive.
    low, length : float
        The period [low, low + length].
    temperature : float
    """
    T = number(temperature, "temperature", above=0.0)
    L, s = number(length, "length", above=0.0), number(std, "std", above=0.0)
    a, m = number(low, "low"), number(mean, "mean")
    exact: Callable[[float], Any] = PeriodicHeat(m, s, a, L, T)
    slowest = T * (2 * math.pi / L) ** 2
    energy = Entropy(T)
    return Problem(
        "periodic heat",
        energy,
        exact,
        (0.0, 1.0 / slowest),
        limit=Uniform(a, a + L),
        spaces=("Grid",),
        box=((a, a + L),),
        boundary="periodic",
        exact_energy=EnergyOf(energy, exact),
        rate=2.0 * slowest,
        constants={"eigenvalue": slowest},
    )
