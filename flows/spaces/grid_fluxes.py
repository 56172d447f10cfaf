"""Finite-volume fluxes on rectangular grids: Scharfetter-Gummel and its generalization.

Across a face with the densities a (left) and b (right), temperature T, potential
difference dV and the enthalpy phi = U', the flux times h is

    J h = D (B(q) a - B(-q) b),    q = (dV + phi(b) - phi(a) - S k)/D,    D = T + S,

with B(z) = z/(e^z - 1), k = log(b/a), and any S >= 0: where T log p + U'(p) + V is
constant the numerator is -(T + S) k, so q = -k and the flux vanishes. S is the
diffusivity p U'' averaged over log p, capped at a multiple of its value on the drier
side, so that the flux is upwind transport where one side is dry and has order 2 where
the density is smooth. Without U this is the scheme of Scharfetter and Gummel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.arrays import is_torch, namespace

__all__ = ["Flux", "bernoulli", "enthalpy_flux"]

Array = Any

# The cap of S over its value on the drier side: with 3/2 the flux is monotone in both
# densities for powers m >= 3/2, which makes implicit steps positive.
CAP = 1.5
# Densities below this are dry; logarithms of 0 stay finite.
DRY = 1e-100


def bernoulli(z: Array) -> Array:
    """B(z) = z/(e^z - 1), stable for every z: B(0) = 1, B(-z) = B(z) + z."""
    xp = namespace(z)
    if is_torch(z):
        one = xp.ones_like(z)
        safe = xp.where(z == 0, one, z)
        return xp.where(z == 0, one, safe / xp.expm1(safe))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.where(z == 0, 1.0, z / np.expm1(z)).astype(z.dtype, copy=False)


def bernoulli_slope(q: Array, b: Array, minus: Array) -> Array:
    """B'(q) from b = B(q) and minus = B(-q)."""
    small = np.abs(q) < 1e-3
    safe = np.where(small, 1.0, q)
    return np.where(small, -0.5 + q / 6 - q**3 / 180, b * (1.0 - minus) / safe)


class Density:
    """The sum of the terms U(rho) of an energy, as the fluxes need it."""

    def __init__(self, terms: tuple[Any, ...]) -> None:
        self.terms = terms

    def total(self, name: str, rho: Array) -> Array:
        """Sum of ``value_at``, ``first_at``, ``second_at`` or ``pressure_at``."""
        result = getattr(self.terms[0], name)(rho)
        for term in self.terms[1:]:
            result = result + getattr(term, name)(rho)
        return result


def spread(density: Density, a: Array, b: Array, k: Array) -> Array:
    """S on every face: pressure/density averaged over log p, capped; see the module.

    The average of P/p over log p is the difference quotient of U/p.
    """
    xp = namespace(a)
    pa, pb = density.total("pressure_at", a) / a, density.total("pressure_at", b) / b
    near = xp.abs(k) < 1e-4
    safe = xp.where(near, xp.ones_like(k), k)
    quotient = (density.total("value_at", b) / b - density.total("value_at", a) / a) / safe
    mean = xp.where(near, 0.5 * (pa + pb), quotient)
    return xp.minimum(mean, CAP * xp.where(a < b, pa, pb))


def enthalpy_flux(
    density: Density, T: float, dV: Array, a: Array, b: Array
) -> Array:
    """J h on every face for densities a, b; works on NumPy and torch."""
    xp = namespace(a)
    floor = xp.full_like(a, DRY if str(a.dtype).endswith("64") else 1e-30)
    ah, bh = xp.maximum(a, floor), xp.maximum(b, floor)
    k = xp.log(bh / ah)
    S = spread(density, ah, bh, k)
    phi = density.total("first_at", bh) - density.total("first_at", ah)
    D = xp.maximum(T + S, floor * 1e-8)
    q = (dV + phi - S * k) / D
    return D * (bernoulli(q) * a - bernoulli(-q) * b)


class Flux:
    """Flux on every face with its derivatives in a and b, NumPy only."""

    def __init__(
        self, density: Density, T: float, dV: Array, a: Array, b: Array
    ) -> None:
        with np.errstate(all="ignore"):
            self._fill(density, T, dV, a, b)

    def _fill(self, density: Density, T: float, dV: Array, a: Array, b: Array) -> None:
        ah, bh = np.maximum(a, DRY), np.maximum(b, DRY)
        k = np.log(bh / ah)
        pa, pb = (density.total("pressure_at", p) / p for p in (ah, bh))
        ca, cb = (density.total("second_at", p) for p in (ah, bh))
        ua, ub = (density.total("value_at", p) / p for p in (ah, bh))
        slope_a, slope_b = ca - pa / ah, cb - pb / bh
        near = np.abs(k) < 1e-4
        safe = np.where(near, 1.0, k)
        S = np.where(near, 0.5 * (pa + pb), (ub - ua) / safe)
        Sa = np.where(near, 0.5 * slope_a, (S - pa) / (ah * safe))
        Sb = np.where(near, 0.5 * slope_b, (pb - S) / (bh * safe))
        left = ah < bh
        cap = CAP * np.where(left, pa, pb)
        capped = S > cap
        S = np.where(capped, cap, S)
        Sa = np.where(capped, np.where(left, CAP * slope_a, 0.0), Sa)
        Sb = np.where(capped, np.where(left, 0.0, CAP * slope_b), Sb)
        phi = density.total("first_at", bh) - density.total("first_at", ah)
        D = np.maximum(T + S, 1e-200)
        N = dV + phi - S * k
        Na = -ca + S / ah - Sa * k
        Nb = cb - S / bh - Sb * k
        q = N / D
        B, minus = bernoulli(q), bernoulli(-q)
        dB = bernoulli_slope(q, B, minus)
        by_N = dB * a - (1.0 + dB) * b
        by_D = B * minus * (a - b)
        self.J = D * (B * a - minus * b)
        # A dry side has no derivative through the frozen logarithm.
        self.a = D * B + np.where(a > DRY, by_N * Na + by_D * Sa, 0.0)
        self.b = -D * minus + np.where(b > DRY, by_N * Nb + by_D * Sb, 0.0)
